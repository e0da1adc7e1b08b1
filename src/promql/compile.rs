//! From promql-parser's syntax tree to a plan: every type checked, every name known.

mod call;
mod text;

use promql_parser::label::{MatchOp as ParsedOp, Matchers};
use promql_parser::parser::{
    AggregateExpr, AtModifier, BinaryExpr, Expr, LabelModifier, Offset, SubqueryExpr,
    VectorMatchCardinality, VectorSelector, token,
};
use std::time::{Duration, SystemTime};

use crate::model::labels::METRIC_NAME;
use crate::model::matcher::Matcher;
use crate::model::time::Timestamp;

use super::QueryError;
use super::aggregate::{Operator as AggregateOperator, Rank};
use super::binary::{Many, Matching, Operator, SetOperator};
use super::grouping::Grouping;
use super::plan::{At, Plan, RangeSource, Ranged, Scalar, Selector, Shift, Vector};

/// The deepest nesting that is evaluated; what is deeper is no query that a person or a program means.
const MAX_DEPTH: usize = 100;

/// The step of a subquery that names none: Prometheus's default `evaluation_interval`.
const SUBQUERY_STEP: i64 = 60_000;

/// Why an expression is refused. The query's text is added by [`compile`].
#[derive(Debug)]
enum Refusal {
    Syntax(String),
    Type(String),
    Unsupported(String),
}

pub(super) fn compile(query: &str) -> Result<Plan, QueryError> {
    let explain = |refusal| match refusal {
        Refusal::Syntax(reason) => QueryError::Syntax {
            query: query.to_owned(),
            reason,
        },
        Refusal::Type(reason) => QueryError::Type {
            query: query.to_owned(),
            reason,
        },
        Refusal::Unsupported(what) => QueryError::Unsupported {
            query: query.to_owned(),
            what,
        },
    };
    text::parse(query)
        .and_then(|expr| plan(&expr, 0))
        .map_err(explain)
}

/// The matchers of a query that is one plain series selector, such as a rule's `seriesQuery`.
///
/// # Errors
/// Where it is anything else.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, QueryError> {
    match compile(text)? {
        Plan::Vector(Vector::Select(Selector {
            matchers,
            shift: Shift {
                offset: 0,
                at: None,
            },
        })) => Ok(matchers),
        _ => Err(QueryError::Syntax {
            query: text.to_owned(),
            reason: "a series selector is needed here, such as `metric{label=\"value\"}`"
                .to_owned(),
        }),
    }
}

fn plan(expr: &Expr, depth: usize) -> Result<Plan, Refusal> {
    if depth > MAX_DEPTH {
        return Err(Refusal::Unsupported(format!(
            "more than {MAX_DEPTH} expressions within one another"
        )));
    }
    let depth = depth + 1;
    Ok(match expr {
        Expr::Paren(paren) => plan(&paren.expr, depth)?,
        Expr::NumberLiteral(number) => Plan::Scalar(Scalar::Number(number.val)),
        Expr::StringLiteral(text) => Plan::String(text.val.clone()),
        Expr::VectorSelector(selector) => Plan::Vector(Vector::Select(vector_selector(selector)?)),
        Expr::MatrixSelector(matrix) => {
            let selector = vector_selector(&matrix.vs)?;
            Plan::Matrix(Ranged {
                source: RangeSource::Samples(selector.matchers),
                range: positive(matrix.range)?,
                shift: selector.shift,
            })
        }
        Expr::Subquery(of) => Plan::Matrix(subquery(of, depth)?),
        Expr::Unary(unary) => match plan(&unary.expr, depth)? {
            Plan::Scalar(of) => Plan::Scalar(Scalar::Negate(Box::new(of))),
            Plan::Vector(of) => Plan::Vector(call::negated(of)),
            other => {
                return Err(Refusal::Type(format!(
                    "unary expression only allowed on expressions of type scalar or instant vector, got {:?}",
                    type_name(&other)
                )));
            }
        },
        Expr::Aggregate(of) => Plan::Vector(aggregate(of, depth)?),
        Expr::Binary(of) => binary(of, depth)?,
        Expr::Call(of) => call::call(of, depth)?,
        Expr::Extension(_) => {
            return Err(Refusal::Unsupported(
                "an extension of the grammar".to_owned(),
            ));
        }
    })
}

/// A type's name, as Prometheus writes it.
fn type_name(plan: &Plan) -> &'static str {
    match plan {
        Plan::Scalar(_) => "scalar",
        Plan::String(_) => "string",
        Plan::Vector(_) => "instant vector",
        Plan::Matrix(_) => "range vector",
    }
}

fn mismatch(expected: &str, found: &Plan, place: &str) -> Refusal {
    Refusal::Type(format!(
        "expected type {expected} in {place}, got {}",
        type_name(found)
    ))
}

fn scalar(expr: &Expr, depth: usize, place: &str) -> Result<Scalar, Refusal> {
    match plan(expr, depth)? {
        Plan::Scalar(scalar) => Ok(scalar),
        other => Err(mismatch("scalar", &other, place)),
    }
}

fn vector(expr: &Expr, depth: usize, place: &str) -> Result<Box<Vector>, Refusal> {
    match plan(expr, depth)? {
        Plan::Vector(vector) => Ok(Box::new(vector)),
        other => Err(mismatch("instant vector", &other, place)),
    }
}

fn ranged(expr: &Expr, depth: usize, place: &str) -> Result<Ranged, Refusal> {
    match plan(expr, depth)? {
        Plan::Matrix(ranged) => Ok(ranged),
        other => Err(mismatch("range vector", &other, place)),
    }
}

fn string(expr: &Expr, depth: usize, place: &str) -> Result<String, Refusal> {
    match plan(expr, depth)? {
        Plan::String(text) => Ok(text),
        other => Err(mismatch("string", &other, place)),
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn positive(duration: Duration) -> Result<i64, Refusal> {
    match millis(duration) {
        0 => Err(Refusal::Syntax(
            "duration must be greater than 0".to_owned(),
        )),
        millis => Ok(millis),
    }
}

fn subquery(of: &SubqueryExpr, depth: usize) -> Result<Ranged, Refusal> {
    let inner = match plan(&of.expr, depth)? {
        Plan::Vector(vector) => Box::new(vector),
        other => {
            return Err(Refusal::Type(format!(
                "subquery is only allowed on instant vector, got {} instead",
                type_name(&other)
            )));
        }
    };
    Ok(Ranged {
        source: RangeSource::Subquery {
            of: inner,
            step: of.step.map(positive).transpose()?.unwrap_or(SUBQUERY_STEP),
        },
        range: positive(of.range)?,
        shift: shift(of.offset.as_ref(), of.at.as_ref()),
    })
}

fn vector_selector(selector: &VectorSelector) -> Result<Selector, Refusal> {
    let matchers = matchers(selector.name.as_deref(), &selector.matchers)?;
    if matchers.iter().all(|matcher| matcher.matches("")) {
        return Err(Refusal::Syntax(
            "vector selector must contain at least one non-empty matcher".to_owned(),
        ));
    }
    Ok(Selector {
        matchers,
        shift: shift(selector.offset.as_ref(), selector.at.as_ref()),
    })
}

fn shift(offset: Option<&Offset>, at: Option<&AtModifier>) -> Shift {
    let offset = match offset {
        None => 0,
        Some(Offset::Pos(duration)) => millis(*duration),
        Some(Offset::Neg(duration)) => -millis(*duration),
    };
    let time = |time: &SystemTime| match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => millis(after),
        Err(before) => -millis(before.duration()),
    };
    let at = at.map(|at| match at {
        AtModifier::Start => At::Start,
        AtModifier::End => At::End,
        AtModifier::At(at) => At::Time(Timestamp::from_millis(time(at))),
    });
    Shift { offset, at }
}

fn matchers(name: Option<&str>, parsed: &Matchers) -> Result<Vec<Matcher>, Refusal> {
    if !parsed.or_matchers.is_empty() {
        return Err(Refusal::Unsupported("`or` between matchers".to_owned()));
    }
    let invalid = |error: regex::Error| Refusal::Syntax(format!("invalid expression: {error}"));
    let mut matchers: Vec<Matcher> = name
        .map(|name| Matcher::equal(METRIC_NAME, name))
        .into_iter()
        .collect();
    for matcher in &parsed.matchers {
        matchers.push(match &matcher.op {
            ParsedOp::Equal => Matcher::equal(&matcher.name, &matcher.value),
            ParsedOp::NotEqual => Matcher::not_equal(&matcher.name, &matcher.value),
            ParsedOp::Re(_) => Matcher::regex(&matcher.name, &matcher.value).map_err(invalid)?,
            ParsedOp::NotRe(_) => {
                Matcher::not_regex(&matcher.name, &matcher.value).map_err(invalid)?
            }
        });
    }
    Ok(matchers)
}

fn aggregate(of: &AggregateExpr, depth: usize) -> Result<Vector, Refusal> {
    const PLACE: &str = "aggregation expression";
    let grouping = match &of.modifier {
        None => Grouping::By(Vec::new()),
        Some(LabelModifier::Include(labels)) => Grouping::By(labels.labels.clone()),
        Some(LabelModifier::Exclude(labels)) => Grouping::Without(labels.labels.clone()),
    };
    let parameter = || {
        of.param.as_deref().ok_or_else(|| {
            Refusal::Syntax(format!("wrong number of arguments for aggregate expression provided, expected 2, got 1 in `{}`", of.op))
        })
    };
    let inner = vector(&of.expr, depth, PLACE)?;
    let operator = match of.op.id() {
        token::T_AVG => AggregateOperator::Avg,
        token::T_SUM => AggregateOperator::Sum,
        token::T_MIN => AggregateOperator::Min,
        token::T_MAX => AggregateOperator::Max,
        token::T_COUNT => AggregateOperator::Count,
        token::T_GROUP => AggregateOperator::Group,
        token::T_STDDEV => AggregateOperator::StdDev,
        token::T_STDVAR => AggregateOperator::StdVar,
        token::T_QUANTILE => AggregateOperator::Quantile,
        token::T_TOPK | token::T_BOTTOMK | token::T_LIMITK => {
            return Ok(Vector::Ranked {
                rank: match of.op.id() {
                    token::T_TOPK => Rank::Top,
                    token::T_BOTTOMK => Rank::Bottom,
                    _ => Rank::Any,
                },
                grouping,
                count: scalar(parameter()?, depth, PLACE)?,
                of: inner,
            });
        }
        token::T_COUNT_VALUES => {
            let label = string(parameter()?, depth, PLACE)?;
            if label.is_empty() {
                return Ok(Vector::Fault(format!("invalid label name {label:?}")));
            }
            let grouping = match grouping {
                Grouping::By(mut names) => {
                    names.push(label.clone());
                    Grouping::By(names)
                }
                without => without,
            };
            return Ok(Vector::CountValues {
                label,
                grouping,
                of: inner,
            });
        }
        _ => {
            return Err(Refusal::Unsupported(format!("the aggregation `{}`", of.op)));
        }
    };
    let parameter = (operator == AggregateOperator::Quantile)
        .then(|| scalar(parameter()?, depth, PLACE))
        .transpose()?;
    Ok(Vector::Aggregate {
        operator,
        grouping,
        parameter,
        of: inner,
    })
}

fn operator(id: token::TokenId) -> Option<Operator> {
    Some(match id {
        token::T_ADD => Operator::Add,
        token::T_SUB => Operator::Sub,
        token::T_MUL => Operator::Mul,
        token::T_DIV => Operator::Div,
        token::T_MOD => Operator::Mod,
        token::T_POW => Operator::Pow,
        token::T_ATAN2 => Operator::Atan2,
        token::T_EQLC => Operator::Equal,
        token::T_NEQ => Operator::NotEqual,
        token::T_GTR => Operator::Greater,
        token::T_LSS => Operator::Less,
        token::T_GTE => Operator::GreaterOrEqual,
        token::T_LTE => Operator::LessOrEqual,
        _ => return None,
    })
}

fn binary(of: &BinaryExpr, depth: usize) -> Result<Plan, Refusal> {
    let modifier = of.modifier.as_ref();
    let returns_bool = modifier.is_some_and(|modifier| modifier.return_bool);
    if modifier.is_some_and(|modifier| {
        modifier.fill_values.lhs.is_some() || modifier.fill_values.rhs.is_some()
    }) {
        return Err(Refusal::Unsupported("the modifier `fill`".to_owned()));
    }
    let by = match modifier.and_then(|modifier| modifier.matching.as_ref()) {
        None => Grouping::Without(Vec::new()),
        Some(LabelModifier::Include(labels)) => Grouping::By(labels.labels.clone()),
        Some(LabelModifier::Exclude(labels)) => Grouping::Without(labels.labels.clone()),
    };
    let (left, right) = (plan(&of.lhs, depth)?, plan(&of.rhs, depth)?);
    let set = match of.op.id() {
        token::T_LAND => Some(SetOperator::And),
        token::T_LOR => Some(SetOperator::Or),
        token::T_LUNLESS => Some(SetOperator::Unless),
        _ => None,
    };
    if let Some(operator) = set {
        return match (left, right) {
            (Plan::Vector(left), Plan::Vector(right)) => Ok(Plan::Vector(Vector::Set {
                operator,
                left: Box::new(left),
                right: Box::new(right),
                grouping: by,
            })),
            _ => Err(Refusal::Type(format!(
                "set operator \"{}\" not allowed in binary scalar expression",
                of.op
            ))),
        };
    }
    let Some(operator) = operator(of.op.id()) else {
        return Err(Refusal::Unsupported(format!("the operator `{}`", of.op)));
    };
    let with_scalar = |vector, scalar, swapped| {
        Plan::Vector(Vector::WithScalar {
            operator,
            vector: Box::new(vector),
            scalar,
            swapped,
            returns_bool,
        })
    };
    Ok(match (left, right) {
        (Plan::Scalar(left), Plan::Scalar(right)) => {
            if operator.is_comparison() && !returns_bool {
                return Err(Refusal::Type(
                    "comparisons between scalars must use BOOL modifier".to_owned(),
                ));
            }
            Plan::Scalar(Scalar::Binary(operator, Box::new(left), Box::new(right)))
        }
        (Plan::Vector(vector), Plan::Scalar(scalar)) => with_scalar(vector, scalar, false),
        (Plan::Scalar(scalar), Plan::Vector(vector)) => with_scalar(vector, scalar, true),
        (Plan::Vector(left), Plan::Vector(right)) => {
            let (many, include) = match modifier.map(|modifier| &modifier.card) {
                Some(VectorMatchCardinality::ManyToOne(labels)) => {
                    (Many::Left, labels.labels.clone())
                }
                Some(VectorMatchCardinality::OneToMany(labels)) => {
                    (Many::Right, labels.labels.clone())
                }
                _ => (Many::Neither, Vec::new()),
            };
            Plan::Vector(Vector::Matched {
                operator,
                left: Box::new(left),
                right: Box::new(right),
                matching: Matching { by, many, include },
                returns_bool,
            })
        }
        _ => {
            return Err(Refusal::Type(
                "binary expression must contain only scalar and instant vector types".to_owned(),
            ));
        }
    })
}
