//! Label matchers: the `{pod="a",namespace=~"x|y"}` of a PromQL selector, ready to be applied.

use std::fmt;

use regex::Regex;

use super::labels::Labels;

/// How a matcher compares.
#[derive(Clone, Debug)]
pub enum MatchOp {
    /// `=`: the value is this one.
    Equal,
    /// `!=`: the value is another one.
    NotEqual,
    /// `=~`: the whole value matches the expression.
    Regex(Regex),
    /// `!~`: the whole value does not match the expression.
    NotRegex(Regex),
}

/// One condition on one label. A label that is absent counts as one with an empty value, as in Prometheus.
#[derive(Clone, Debug)]
pub struct Matcher {
    /// The label's name; `__name__` for the metric's name.
    pub name: String,
    /// The value, or the regular expression as it was written.
    pub value: String,
    /// How they are compared.
    pub op: MatchOp,
}

impl Matcher {
    /// `name="value"`.
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
            op: MatchOp::Equal,
        }
    }

    /// `name!="value"`.
    pub fn not_equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
            op: MatchOp::NotEqual,
        }
    }

    /// `name=~"pattern"`; anchored at both ends, as in Prometheus.
    ///
    /// # Errors
    /// Where `pattern` is no regular expression.
    pub fn regex(name: impl Into<String>, pattern: &str) -> Result<Self, regex::Error> {
        Ok(Self {
            name: name.into(),
            value: pattern.to_owned(),
            op: MatchOp::Regex(anchored(pattern)?),
        })
    }

    /// `name!~"pattern"`; anchored at both ends, as in Prometheus.
    ///
    /// # Errors
    /// Where `pattern` is no regular expression.
    pub fn not_regex(name: impl Into<String>, pattern: &str) -> Result<Self, regex::Error> {
        Ok(Self {
            name: name.into(),
            value: pattern.to_owned(),
            op: MatchOp::NotRegex(anchored(pattern)?),
        })
    }

    /// Whether a label of this value (empty where it is absent) meets the condition.
    pub fn matches(&self, value: &str) -> bool {
        match &self.op {
            MatchOp::Equal => value == self.value,
            MatchOp::NotEqual => value != self.value,
            MatchOp::Regex(regex) => regex.is_match(value),
            MatchOp::NotRegex(regex) => !regex.is_match(value),
        }
    }
}

/// Whether `labels` meet all of these conditions.
pub fn all_match(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers
        .iter()
        .all(|matcher| matcher.matches(labels.value(&matcher.name)))
}

/// Prometheus compiles matchers as `^(?s:PATTERN)$` (`model/labels/regexp.go`).
fn anchored(pattern: &str) -> Result<Regex, regex::Error> {
    Regex::new(&format!("^(?s:{pattern})$"))
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = match self.op {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex(_) => "=~",
            MatchOp::NotRegex(_) => "!~",
        };
        write!(f, "{}{op}{:?}", self.name, self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_anchored_and_absent_is_empty() {
        let matcher = Matcher::regex("pod", "a|b").expect("a valid expression");
        assert!(matcher.matches("a"));
        assert!(!matcher.matches("ab"));
        let labels = Labels::new([("pod", "a")]);
        assert!(all_match(
            &[
                matcher,
                Matcher::equal("gpu", ""),
                Matcher::not_equal("pod", "")
            ],
            &labels
        ));
        assert!(!all_match(&[Matcher::not_equal("gpu", "")], &labels));
    }
}
