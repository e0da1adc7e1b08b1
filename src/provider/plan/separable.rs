//! Which queries keep objects apart: an object's elements of the answer are the same, whichever other objects the templated
//! selectors let through.
//!
//! Each expression is looked at from below. A templated selector keeps objects apart by itself, since each of its series
//! carries the object's label. An operation keeps them apart where it works on single elements, or on groups that share the
//! object's label. It must not fail either because of what others have: where Prometheus refuses two elements with the same
//! labels, it must be plain that there are none. What is not known to be so is asked literally.

use std::collections::BTreeSet;

use promql_parser::parser::value::ValueType;
use promql_parser::parser::{
    AggregateExpr, BinaryExpr, Call, Expr, LabelModifier, VectorMatchCardinality, VectorSelector,
    token,
};

use crate::model::labels::METRIC_NAME;

/// The label of a matcher that stands for the request's.
pub(super) const TEMPLATED: &str = "__templated_matchers__";

/// Stands for a label's value from the request.
pub(super) const VALUE: &str = "__templated_value__";

/// Functions of single elements, which drop the name; other arguments are numbers.
const OF_ELEMENTS: [&str; 41] = [
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "ceil",
    "clamp",
    "clamp_max",
    "clamp_min",
    "cos",
    "cosh",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "deg",
    "exp",
    "floor",
    "hour",
    "ln",
    "log10",
    "log2",
    "minute",
    "month",
    "rad",
    "round",
    "sgn",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "timestamp",
    "year",
    // Of ranges of single series.
    "changes",
    "delta",
    "deriv",
    "idelta",
    "increase",
];

/// More functions of ranges of single series.
const OF_RANGES: [&str; 16] = [
    "avg_over_time",
    "count_over_time",
    "irate",
    "last_over_time",
    "mad_over_time",
    "max_over_time",
    "min_over_time",
    "predict_linear",
    "present_over_time",
    "quantile_over_time",
    "rate",
    "resets",
    "stddev_over_time",
    "stdvar_over_time",
    "sum_over_time",
    "first_over_time",
];

/// What is known of an expression that keeps objects apart.
#[derive(Clone, Debug)]
struct Shape {
    /// It does not depend on the request at all.
    constant: bool,
    /// It is a number.
    scalar: bool,
    /// The elements have no other labels than these, and no two the same.
    labels: Option<BTreeSet<String>>,
    /// No two elements have the same labels apart from the name.
    distinct: bool,
}

/// Whether the query keeps the objects of this label apart.
pub(super) fn is_separable(expr: &Expr, object_label: &str) -> bool {
    Look { object_label }.shape(expr).is_some()
}

/// Whether `word` stands in the text only within quotes.
pub(super) fn only_quoted(text: &str, word: &str) -> bool {
    let mut quote = None;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        match quote {
            None if rest.starts_with(word) => return false,
            None if matches!(c, '"' | '\'' | '`') => quote = Some(c),
            Some('"' | '\'') if c == '\\' => {
                let skipped = rest.chars().take(2).map(char::len_utf8).sum();
                rest = &rest[skipped..];
                continue;
            }
            Some(open) if open == c => quote = None,
            _ => {}
        }
        rest = &rest[c.len_utf8()..];
    }
    true
}

struct Look<'a> {
    object_label: &'a str,
}

impl Look<'_> {
    /// `None` where objects might not be kept apart.
    fn shape(&self, expr: &Expr) -> Option<Shape> {
        let known = self.known(expr);
        if expr.to_string().contains(TEMPLATED) {
            return known;
        }
        let known = known.unwrap_or(Shape {
            constant: true,
            scalar: expr.value_type() == ValueType::Scalar,
            labels: None,
            distinct: false,
        });
        Some(Shape {
            constant: true,
            ..known
        })
    }

    fn known(&self, expr: &Expr) -> Option<Shape> {
        match expr {
            Expr::Paren(paren) => self.shape(&paren.expr),
            Expr::Unary(unary) => nameless(self.shape(&unary.expr)?),
            Expr::NumberLiteral(_) => Some(Shape {
                constant: true,
                scalar: true,
                labels: None,
                distinct: true,
            }),
            Expr::VectorSelector(selector) => Some(selected(selector)),
            Expr::MatrixSelector(matrix) => Some(selected(&matrix.vs)),
            Expr::Subquery(subquery) => self.shape(&subquery.expr),
            Expr::Aggregate(aggregate) => self.aggregate(aggregate),
            Expr::Call(call) => self.call(call),
            Expr::Binary(binary) => self.binary(binary),
            Expr::StringLiteral(_) | Expr::Extension(_) => None,
        }
    }

    fn number(&self, expr: &Expr) -> Option<()> {
        let shape = self.shape(expr)?;
        (shape.constant && shape.scalar).then_some(())
    }

    fn aggregate(&self, aggregate: &AggregateExpr) -> Option<Shape> {
        let inner = self.shape(&aggregate.expr)?;
        if let Some(param) = &aggregate.param {
            self.number(param)?;
        }
        let (groups_by_object, labels) = match &aggregate.modifier {
            Some(LabelModifier::Include(by)) => {
                let by: BTreeSet<String> = by.labels.iter().cloned().collect();
                (by.contains(self.object_label), Some(by))
            }
            Some(LabelModifier::Exclude(without)) => {
                let drops = without
                    .labels
                    .iter()
                    .any(|label| label == self.object_label);
                (!drops, None)
            }
            None => (false, Some(BTreeSet::new())),
        };
        if !groups_by_object && !inner.constant {
            return None;
        }
        match aggregate.op.id() {
            token::T_AVG
            | token::T_SUM
            | token::T_MIN
            | token::T_MAX
            | token::T_COUNT
            | token::T_GROUP
            | token::T_STDDEV
            | token::T_STDVAR
            | token::T_QUANTILE => {
                let named = labels
                    .as_ref()
                    .is_some_and(|labels| labels.contains(METRIC_NAME));
                Some(Shape {
                    constant: inner.constant,
                    scalar: false,
                    labels: labels.filter(|_| !named),
                    distinct: !named,
                })
            }
            // These choose among a group's elements.
            token::T_TOPK | token::T_BOTTOMK => Some(inner),
            _ => None,
        }
    }

    fn call(&self, call: &Call) -> Option<Shape> {
        let name = call.func.name;
        let mut arguments = call.args.args.iter();
        if name == "histogram_quantile" {
            self.number(arguments.next()?)?;
            let buckets = self.shape(arguments.next()?)?;
            // A histogram's buckets share all labels but this one.
            return (self.object_label != "le").then_some(Shape {
                labels: buckets.labels.map(|mut labels| {
                    labels.remove("le");
                    labels
                }),
                distinct: true,
                ..buckets
            });
        }
        if !OF_ELEMENTS.contains(&name) && !OF_RANGES.contains(&name) {
            return None;
        }
        let mut elements = None;
        for argument in arguments {
            match argument.value_type() {
                ValueType::Scalar => self.number(argument)?,
                _ if elements.is_none() => elements = Some(self.shape(argument)?),
                _ => return None,
            }
        }
        nameless(elements?)
    }

    fn binary(&self, binary: &BinaryExpr) -> Option<Shape> {
        let (left, right) = (self.shape(&binary.lhs)?, self.shape(&binary.rhs)?);
        let op = binary.op.id();
        let modifier = binary.modifier.as_ref();
        let filters = matches!(
            op,
            token::T_EQLC
                | token::T_NEQ
                | token::T_GTR
                | token::T_LSS
                | token::T_GTE
                | token::T_LTE
        ) && !modifier.is_some_and(|modifier| modifier.return_bool);
        match (left.scalar, right.scalar) {
            // A number that depends on the request depends on all objects together; there is none that got here.
            (true, true) => return Some(left),
            (true, false) if filters => return Some(right),
            (true, false) => return nameless(right),
            (false, true) if filters => return Some(left),
            (false, true) => return nameless(left),
            (false, false) => {}
        }
        if modifier.is_some_and(|it| it.fill_values.lhs.is_some() || it.fill_values.rhs.is_some()) {
            return None;
        }
        let matching = modifier.and_then(|modifier| modifier.matching.as_ref());
        let compares = |label: &str| match matching {
            Some(LabelModifier::Include(on)) => on.labels.iter().any(|on| on == label),
            Some(LabelModifier::Exclude(ignoring)) => !ignoring.labels.iter().any(|it| it == label),
            None => true,
        };
        let by_object = compares(self.object_label);
        let constant = left.constant && right.constant;
        let is_set = matches!(op, token::T_LAND | token::T_LUNLESS | token::T_LOR);
        if is_set {
            let apart = match op {
                token::T_LOR => left.constant,
                _ => right.constant,
            };
            if !by_object && !apart {
                return None;
            }
            let either = op == token::T_LOR;
            let same = left.labels == right.labels
                && left.labels.iter().flatten().all(|label| compares(label));
            return Some(Shape {
                constant,
                scalar: false,
                labels: left.labels.filter(|_| !either || same),
                distinct: left.distinct && (!either || right.distinct),
            });
        }
        // No two elements of a side are matched with one of the other: what has no other labels than those that are
        // compared is alone.
        let alone = |side: &Shape| {
            let labels = side.labels.as_ref();
            labels.is_some_and(|labels| labels.iter().all(|label| compares(label)))
        };
        let (many, one) = match modifier.map(|modifier| &modifier.card) {
            None | Some(VectorMatchCardinality::OneToOne) => {
                let known = by_object && alone(&left) && alone(&right);
                return (known || constant).then_some(Shape {
                    constant,
                    labels: left.labels.filter(|_| known),
                    distinct: known,
                    scalar: false,
                });
            }
            Some(VectorMatchCardinality::ManyToOne(labels)) if labels.labels.is_empty() => {
                (left, right)
            }
            Some(VectorMatchCardinality::OneToMany(labels)) if labels.labels.is_empty() => {
                (right, left)
            }
            Some(_) => return None,
        };
        // Each of the many is matched by itself; the one side must not depend on other objects than it.
        let apart = alone(&one) && (by_object || one.constant);
        (apart && many.distinct).then_some(Shape { constant, ..many })
    }
}

fn selected(selector: &VectorSelector) -> Shape {
    let mut matchers = selector.matchers.matchers.iter();
    let named = matchers.any(|matcher| {
        matcher.name == METRIC_NAME && matcher.op == promql_parser::label::MatchOp::Equal
    });
    Shape {
        constant: false,
        scalar: false,
        labels: None,
        distinct: selector.name.is_some() || named,
    }
}

/// The shape without the name, where no two elements are the same then.
fn nameless(shape: Shape) -> Option<Shape> {
    (shape.distinct || shape.constant || shape.scalar).then_some(shape)
}
