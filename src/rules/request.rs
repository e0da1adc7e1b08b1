//! From a request to the text of a query: matchers and grouping (prometheus-adapter `pkg/naming/metrics_query.go`).

use crate::model::selector::{Operator, Requirement, Selector};

use super::quoted::quoted;
use super::template::TemplateError;

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
    /// The rule's template has no query for this request.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

/// The matchers of a query, and the values in them by label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Matchers {
    texts: Vec<String>,
    values: Vec<(String, String)>,
}

impl Matchers {
    /// Those of a metric selector, in the order of their labels, and then the namespace's, as its label and name.
    pub(super) fn within(
        selector: &Selector,
        namespace: Option<(&str, &str)>,
    ) -> Result<Self, RequestError> {
        let mut matchers = Self::default();
        for requirement in selector.requirements() {
            let text = matcher(requirement)?;
            matchers.push(requirement.key(), text, requirement.values().join("|"));
        }
        if let Some((label, namespace)) = namespace {
            matchers.equal(label, namespace);
        }
        Ok(matchers)
    }

    /// Adds `label="value"`.
    pub(super) fn equal(&mut self, label: &str, value: &str) {
        self.push(label, equal(label, value), value.to_owned());
    }

    /// Adds `label!=""`.
    pub(super) fn present(&mut self, label: &str) {
        self.push(label, format!("{label}!=\"\""), String::new());
    }

    /// Adds the matcher for these object names; none where there are none. Their dots are escaped: `p.1` means no other pod
    /// than `p.1`.
    pub(super) fn names(&mut self, label: &str, names: &[&str]) {
        match names {
            [] => {}
            [name] => self.equal(label, name),
            names => {
                let escaped: Vec<String> =
                    names.iter().map(|name| name.replace('.', "\\.")).collect();
                let escaped = escaped.join("|");
                self.push(label, format!("{label}=~{}", quoted(&escaped)), escaped);
            }
        }
    }

    /// All of them, joined by commas.
    pub(super) fn text(&self) -> String {
        self.texts.join(",")
    }

    /// Each label with its values, joined by `|`.
    pub(super) fn values(&self) -> &[(String, String)] {
        &self.values
    }

    fn push(&mut self, label: &str, text: String, values: String) {
        self.texts.push(text);
        self.values.push((label.to_owned(), values));
    }
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
fn equal(label: &str, value: &str) -> String {
    format!("{label}={}", quoted(value))
}
