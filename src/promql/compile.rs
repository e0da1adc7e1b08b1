//! From promql-parser's syntax tree to what is evaluated.

use promql_parser::label::{MatchOp as ParsedOp, Matchers};
use promql_parser::parser::{self, Expr, LabelModifier, token};

use crate::model::labels::METRIC_NAME;
use crate::model::matcher::Matcher;

use super::aggregate::Operator;

/// Why a query cannot be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// It is not PromQL. The text is the parser's.
    #[error("`{query}` is not PromQL: {reason}")]
    Syntax {
        /// The query.
        query: String,
        /// What the parser says.
        reason: String,
    },
    /// It is PromQL that the embedded engine does not evaluate.
    #[error("`{query}` needs {what}, which the embedded engine does not evaluate")]
    Unsupported {
        /// The query.
        query: String,
        /// The construct, such as ``the function `rate` ``.
        what: String,
    },
}

/// One step of the evaluation.
#[derive(Debug)]
pub(super) enum Node {
    /// The series that meet these matchers.
    Selector(Vec<Matcher>),
    /// Groups of the inner vector, each made one value.
    Aggregate {
        /// How a group becomes a value.
        op: Operator,
        /// What makes a group.
        grouping: Grouping,
        /// What is grouped.
        inner: Box<Node>,
    },
}

/// Which labels tell groups apart.
#[derive(Debug)]
pub(super) enum Grouping {
    /// Only these.
    By(Vec<String>),
    /// All but these and the metric's name.
    Without(Vec<String>),
}

pub(super) fn compile(text: &str) -> Result<Node, QueryError> {
    let expr = parse(text)?;
    node(&expr).map_err(|what| QueryError::Unsupported {
        query: text.to_owned(),
        what,
    })
}

/// The matchers of a query that is one plain series selector, such as a rule's `seriesQuery`.
///
/// # Errors
/// Where it is anything else.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, QueryError> {
    match parse(text)? {
        Expr::VectorSelector(selector) if selector.offset.is_none() && selector.at.is_none() => {
            matchers(selector.name.as_deref(), &selector.matchers).map_err(|what| {
                QueryError::Unsupported {
                    query: text.to_owned(),
                    what,
                }
            })
        }
        _ => Err(QueryError::Syntax {
            query: text.to_owned(),
            reason: "a series selector is needed here, such as `metric{label=\"value\"}`"
                .to_owned(),
        }),
    }
}

fn parse(text: &str) -> Result<Expr, QueryError> {
    parser::parse(text).map_err(|reason| QueryError::Syntax {
        query: text.to_owned(),
        reason,
    })
}

/// Translates, or names what cannot be.
fn node(expr: &Expr) -> Result<Node, String> {
    match expr {
        Expr::Paren(paren) => node(&paren.expr),
        Expr::VectorSelector(selector) => {
            if selector.offset.is_some() {
                return Err("the modifier `offset`".to_owned());
            }
            if selector.at.is_some() {
                return Err("the modifier `@`".to_owned());
            }
            Ok(Node::Selector(matchers(
                selector.name.as_deref(),
                &selector.matchers,
            )?))
        }
        Expr::Aggregate(aggregate) => {
            let op = operator(aggregate.op.id())
                .ok_or_else(|| format!("the aggregation `{}`", aggregate.op))?;
            let grouping = match &aggregate.modifier {
                None => Grouping::By(Vec::new()),
                Some(LabelModifier::Include(labels)) => Grouping::By(labels.labels.clone()),
                Some(LabelModifier::Exclude(labels)) => Grouping::Without(labels.labels.clone()),
            };
            Ok(Node::Aggregate {
                op,
                grouping,
                inner: Box::new(node(&aggregate.expr)?),
            })
        }
        Expr::Call(call) => Err(format!("the function `{}`", call.func.name)),
        Expr::Binary(binary) => Err(format!("the operator `{}`", binary.op)),
        Expr::Unary(_) => Err("a sign before an expression".to_owned()),
        Expr::Subquery(_) => Err("a subquery".to_owned()),
        Expr::MatrixSelector(_) => Err("a range of samples as its result".to_owned()),
        Expr::NumberLiteral(_) => Err("a number as a vector".to_owned()),
        Expr::StringLiteral(_) => Err("a string as its result".to_owned()),
        Expr::Extension(_) => Err("an extension of the grammar".to_owned()),
    }
}

fn operator(id: token::TokenId) -> Option<Operator> {
    match id {
        token::T_AVG => Some(Operator::Avg),
        token::T_SUM => Some(Operator::Sum),
        token::T_MIN => Some(Operator::Min),
        token::T_MAX => Some(Operator::Max),
        token::T_COUNT => Some(Operator::Count),
        token::T_GROUP => Some(Operator::Group),
        _ => None,
    }
}

fn matchers(name: Option<&str>, parsed: &Matchers) -> Result<Vec<Matcher>, String> {
    if !parsed.or_matchers.is_empty() {
        return Err("`or` between matchers".to_owned());
    }
    let invalid = |error: regex::Error| format!("an expression that is none ({error})");
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
