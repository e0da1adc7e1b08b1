//! Kubernetes label selectors: the string form of a request, and how it applies to an object's labels.
//!
//! Parsing, matching and printing follow apimachinery `pkg/labels/selector.go`, so that a selector means here what it means
//! to kube-apiserver.

mod parse;

use std::collections::BTreeMap;
use std::fmt;

/// A parsed label selector: every requirement must be met. The default selects everything.
///
/// Requirements are kept in the order of their keys and values in alphabetical order, so equal selectors are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

/// How a requirement compares. `=` and `==` mean the same and are kept apart only to be printed as they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// `k in (a,b)`: the label is there with one of the values.
    In,
    /// `k notin (a,b)`: the label has none of the values, or is absent.
    NotIn,
    /// `k=v`: the label is there with this value.
    Equals,
    /// `k==v`: the same as [`Operator::Equals`].
    DoubleEquals,
    /// `k!=v`: the label has another value, or is absent.
    NotEquals,
    /// `k`: the label is there.
    Exists,
    /// `!k`: the label is absent.
    DoesNotExist,
    /// `k>5`: the label is there with a greater integer.
    GreaterThan,
    /// `k<5`: the label is there with a smaller integer.
    LessThan,
}

/// Why a text is no selector. Positions count characters from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// The text does not follow the grammar.
    #[error("found {found} at position {position}, expected {expected}")]
    Syntax {
        /// Where the unexpected token begins.
        position: usize,
        /// The token, in quotes, or `the end`.
        found: String,
        /// What could have stood there.
        expected: &'static str,
    },
    /// The grammar is met, but a key or a value is not one that a label can have.
    #[error("{fault} (at position {position})")]
    Requirement {
        /// Where the key or value begins.
        position: usize,
        /// What is wrong with it.
        fault: RequirementError,
    },
}

/// Why key, operator and values make no requirement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequirementError {
    /// The key is no label key.
    #[error("invalid label key {key:?}: {reason}")]
    Key {
        /// The key as it was given.
        key: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// A value is no label value.
    #[error("invalid label value {value:?}: {reason}")]
    Value {
        /// The value as it was given.
        value: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// `>` and `<` compare integers of 64 bits.
    #[error("invalid value {value:?}: for '>' and '<' it must be an integer")]
    NotAnInteger {
        /// The value as it was given.
        value: String,
    },
    /// The operator takes another number of values.
    #[error("operator {operator} of label key {key:?} takes {expected}, not {count}")]
    ValueCount {
        /// The requirement's key.
        key: String,
        /// Its operator.
        operator: Operator,
        /// What the operator takes.
        expected: &'static str,
        /// How many values were given.
        count: usize,
    },
    /// A `LabelSelector` object knows only `In`, `NotIn`, `Exists`, `DoesNotExist`, and equality as `matchLabels`.
    #[error("{operator:?} is not a valid label selector operator")]
    NoLabelSelectorOperator {
        /// The operator as it was given.
        operator: String,
    },
}

/// A selector in the shape of `metav1.LabelSelector`, as the custom metrics API returns it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// `matchLabels`: these labels with exactly these values.
    pub match_labels: BTreeMap<String, String>,
    /// `matchExpressions`, in the order of their keys.
    pub match_expressions: Vec<LabelExpression>,
}

/// A `metav1.LabelSelectorRequirement`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelExpression {
    /// The label's key.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: &'static str,
    /// The values in alphabetical order; empty for `Exists` and `DoesNotExist`.
    pub values: Vec<String>,
}

impl Selector {
    /// Reads the string form: `k=v`, `k==v`, `k!=v`, `k in (a,b)`, `k notin (a,b)`, `k`, `!k`, `k>5`, `k<5`, with commas
    /// between them and whitespace anywhere. An empty text selects everything.
    ///
    /// # Errors
    /// Where apimachinery refuses the text, and for NUL characters, at which apimachinery stops reading.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        parse::requirements(text).map(Self::new)
    }

    /// A selector of these requirements.
    pub fn new(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { requirements }
    }

    /// Reads the fields of a `metav1.LabelSelector`: its `matchLabels`, and its `matchExpressions` as key, operator, values
    /// (`LabelSelectorAsSelector` in apimachinery `pkg/apis/meta/v1/helpers.go`).
    ///
    /// # Errors
    /// Where an operator is unknown, or a key or a value is not one that a label can have.
    pub fn from_label_selector<'a>(
        match_labels: &BTreeMap<String, String>,
        match_expressions: impl IntoIterator<Item = (&'a str, &'a str, &'a [String])>,
    ) -> Result<Self, RequirementError> {
        let labels = match_labels.iter().map(|(key, value)| {
            Requirement::new(key.clone(), Operator::Equals, vec![value.clone()])
        });
        let expressions = match_expressions
            .into_iter()
            .map(|(key, operator, values)| {
                let operator = match operator {
                    "In" => Operator::In,
                    "NotIn" => Operator::NotIn,
                    "Exists" => Operator::Exists,
                    "DoesNotExist" => Operator::DoesNotExist,
                    other => {
                        return Err(RequirementError::NoLabelSelectorOperator {
                            operator: other.to_owned(),
                        });
                    }
                };
                Requirement::new(key.to_owned(), operator, values.to_vec())
            });
        Ok(Self::new(
            labels.chain(expressions).collect::<Result<_, _>>()?,
        ))
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|requirement| {
            requirement.matches(labels.get(&requirement.key).map(String::as_str))
        })
    }

    /// Whether there is no requirement, so that every object is selected.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The requirements, in the order of their keys.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// The shape in which the custom metrics API returns a selector (`ParseToLabelSelector` in apimachinery
    /// `pkg/apis/meta/v1/helpers.go`). Of repeated equalities of one key, the last one stays.
    ///
    /// # Errors
    /// For `!=`, `>` and `<`, which that shape cannot express.
    pub fn to_label_selector(&self) -> Result<LabelSelector, RequirementError> {
        let mut result = LabelSelector::default();
        for requirement in &self.requirements {
            let operator = match requirement.operator {
                Operator::Equals | Operator::DoubleEquals => {
                    let value = requirement.values.first().cloned().unwrap_or_default();
                    result.match_labels.insert(requirement.key.clone(), value);
                    continue;
                }
                Operator::In => "In",
                Operator::NotIn => "NotIn",
                Operator::Exists => "Exists",
                Operator::DoesNotExist => "DoesNotExist",
                other @ (Operator::NotEquals | Operator::GreaterThan | Operator::LessThan) => {
                    return Err(RequirementError::NoLabelSelectorOperator {
                        operator: other.to_string(),
                    });
                }
            };
            result.match_expressions.push(LabelExpression {
                key: requirement.key.clone(),
                operator,
                values: requirement.values.clone(),
            });
        }
        Ok(result)
    }
}

impl Requirement {
    /// A requirement on the label `key`. Values are sorted and repeated ones dropped.
    ///
    /// # Errors
    /// Where the key or a value is not one that a label can have, or the operator takes another number of values.
    pub fn new(
        key: String,
        operator: Operator,
        mut values: Vec<String>,
    ) -> Result<Self, RequirementError> {
        parse::check_key(&key)?;
        let (allowed, expected) = match operator {
            Operator::In | Operator::NotIn => (!values.is_empty(), "at least one value"),
            Operator::Exists | Operator::DoesNotExist => (values.is_empty(), "no values"),
            _ => (values.len() == 1, "exactly one value"),
        };
        if !allowed {
            let count = values.len();
            return Err(RequirementError::ValueCount {
                key,
                operator,
                expected,
                count,
            });
        }
        for value in &values {
            parse::check_value(operator, value)?;
        }
        values.sort();
        values.dedup();
        Ok(Self {
            key,
            operator,
            values,
        })
    }

    /// The label's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// How it compares.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// The values it compares with, in alphabetical order.
    pub fn values(&self) -> &[String] {
        &self.values
    }

    /// Whether a label of this value, or its absence, meets the requirement.
    pub fn matches(&self, label: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|listed| listed == value);
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => label.is_some_and(listed),
            Operator::NotIn | Operator::NotEquals => !label.is_some_and(listed),
            Operator::Exists => label.is_some(),
            Operator::DoesNotExist => label.is_none(),
            Operator::GreaterThan => self.bound_and(label).is_some_and(|(bound, n)| n > bound),
            Operator::LessThan => self.bound_and(label).is_some_and(|(bound, n)| n < bound),
        }
    }

    /// The integers to compare; `None` where either is none.
    fn bound_and(&self, label: Option<&str>) -> Option<(i64, i64)> {
        let bound = self.values.first()?.parse().ok()?;
        Some((bound, label?.parse().ok()?))
    }
}

/// As it is written between key and values.
impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::In => "in",
            Self::NotIn => "notin",
            Self::Equals => "=",
            Self::DoubleEquals => "==",
            Self::NotEquals => "!=",
            Self::Exists => "exists",
            Self::DoesNotExist => "!",
            Self::GreaterThan => ">",
            Self::LessThan => "<",
        })
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::In | Operator::NotIn => write!(f, "{key} {} ({values})", self.operator),
            operator => write!(f, "{key}{operator}{values}"),
        }
    }
}

/// The canonical string form, as the HPA controller sends it: `e,k in (y,z),n notin (q),!ne`.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}
