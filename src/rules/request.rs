//! From a request to the text of a query: matchers and grouping (prometheus-adapter `pkg/naming/metrics_query.go`).

use crate::model::selector::{Operator, Requirement, Selector};

use super::template::quoted;

/// Why a request cannot be put as a query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A comparison of numbers, which PromQL's matchers do not have.
    #[error("the metric selector `{0}` compares numbers, which label matchers cannot")]
    Comparison(String),
    /// A key that no series can have as a label.
    #[error(
        "the metric selector's key `{0}` is not the name of a label: letters, digits and `_` only"
    )]
    Key(String),
}

/// The matchers of a metric selector, each as PromQL, in the order of their labels.
pub(super) fn selector_matchers(selector: &Selector) -> Result<Vec<String>, RequestError> {
    selector.requirements().iter().map(matcher).collect()
}

fn matcher(requirement: &Requirement) -> Result<String, RequestError> {
    let key = requirement.key();
    if !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        || key.starts_with(|c: char| c.is_ascii_digit())
    {
        return Err(RequestError::Key(key.to_owned()));
    }
    let values = requirement.values();
    let text = match requirement.operator() {
        Operator::Equals | Operator::DoubleEquals => equal(key, &values[0]),
        Operator::NotEquals => format!("{key}!={}", quoted(&values[0])),
        // Values are expressions here, not escaped: prometheus-adapter does so on purpose, and rules rely on it.
        Operator::In => format!("{key}=~{}", quoted(&values.join("|"))),
        Operator::NotIn => format!("{key}!~{}", quoted(&values.join("|"))),
        Operator::Exists => format!("{key}!=\"\""),
        Operator::DoesNotExist => format!("{key}=\"\""),
        Operator::GreaterThan | Operator::LessThan => {
            return Err(RequestError::Comparison(requirement.to_string()));
        }
    };
    Ok(text)
}

/// `label="value"`.
pub(super) fn equal(label: &str, value: &str) -> String {
    format!("{label}={}", quoted(value))
}

/// The matcher for these object names. Their dots are escaped: `p.1` means no other pod than `p.1`.
pub(super) fn names(label: &str, names: &[&str]) -> String {
    match names {
        [name] => equal(label, name),
        names => {
            let names: Vec<String> = names.iter().map(|name| name.replace('.', "\\.")).collect();
            format!("{label}=~{}", quoted(&names.join("|")))
        }
    }
}
