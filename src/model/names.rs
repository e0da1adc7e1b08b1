//! Which metrics something needs, by their names.

use std::collections::HashSet;

use regex::Regex;

use super::labels::METRIC_NAME;
use super::matcher::{MatchOp, Matcher};

/// A condition on a metric's name: what stands between `prefix` and `suffix` passes all tests.
#[derive(Clone, Debug, Default)]
pub struct NameCondition {
    prefix: String,
    suffix: String,
    tests: Vec<Matcher>,
}

impl NameCondition {
    /// What these matchers say of the name. Those of other labels say nothing: any metric may have any label.
    pub fn of(matchers: &[Matcher]) -> Self {
        let of_name = matchers.iter().filter(|it| it.name == METRIC_NAME);
        Self {
            tests: of_name.cloned().collect(),
            ..Self::default()
        }
    }

    /// The same, where the name must contain a match of `expression` besides, or (`is` being false) must not.
    #[must_use]
    pub fn and(mut self, expression: &Regex, is: bool) -> Self {
        self.tests.push(Matcher {
            name: METRIC_NAME.to_owned(),
            value: expression.to_string(),
            op: if is {
                MatchOp::Regex(expression.clone())
            } else {
                MatchOp::NotRegex(expression.clone())
            },
        });
        self
    }

    /// The same of what stands between these two, which the name begins and ends with.
    #[must_use]
    pub fn between(self, prefix: &str, suffix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            suffix: suffix.to_owned(),
            ..self
        }
    }

    /// Whether a metric of this name meets it.
    pub fn meets(&self, name: &str) -> bool {
        let rest = name.strip_prefix(self.prefix.as_str());
        let middle = rest.and_then(|rest| rest.strip_suffix(self.suffix.as_str()));
        middle.is_some_and(|middle| self.tests.iter().all(|test| test.matches(middle)))
    }

    /// The only name that can meet it, where one of the tests names it.
    fn only_name(&self) -> Option<String> {
        let equal = |test: &&Matcher| matches!(test.op, MatchOp::Equal);
        let middle = &self.tests.iter().find(equal)?.value;
        Some(format!("{}{middle}{}", self.prefix, self.suffix))
    }
}

/// The metrics that are needed: those that meet one of several conditions.
#[derive(Clone, Debug, Default)]
pub struct NeededNames {
    exact: HashSet<String>,
    conditions: Vec<NameCondition>,
}

impl NeededNames {
    /// The metrics that meet any of these.
    pub fn new(conditions: impl IntoIterator<Item = NameCondition>) -> Self {
        let mut needed = Self::default();
        for condition in conditions {
            match condition.only_name() {
                Some(name) => needed.exact.extend(condition.meets(&name).then_some(name)),
                None => needed.conditions.push(condition),
            }
        }
        needed
    }

    /// Whether a metric of this name is needed. Takes as long as the expressions do: remember the answer.
    pub fn contains(&self, name: &str) -> bool {
        self.exact.contains(name) || self.conditions.iter().any(|it| it.meets(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expression(pattern: &str) -> Regex {
        Regex::new(pattern).expect("a valid expression")
    }

    #[test]
    fn a_name_is_needed_where_one_condition_holds_in_whole() {
        let matching = Matcher::regex(METRIC_NAME, "DCGM_.*").expect("valid");
        let util = NameCondition::of(&[matching, Matcher::not_equal("pod", "")])
            .and(&expression("UTIL$"), true)
            .and(&expression("^DCGM_OLD"), false);
        let sum = NameCondition::of(&[Matcher::equal(METRIC_NAME, "wait")]).between("", "_sum");
        let never = NameCondition::of(&[
            Matcher::equal(METRIC_NAME, "a"),
            Matcher::equal(METRIC_NAME, "b"),
        ]);
        let needed = NeededNames::new([util, sum, never]);
        for (name, expected) in [
            ("DCGM_GPU_UTIL", true),
            ("xDCGM_GPU_UTIL", false),
            ("DCGM_FB_USED", false),
            ("DCGM_OLD_UTIL", false),
            ("wait_sum", true),
            ("wait", false),
            ("a", false),
            ("b", false),
        ] {
            assert_eq!(needed.contains(name), expected, "{name}");
        }
        assert!(!NeededNames::default().contains("a"));
    }

    #[test]
    fn a_condition_without_a_name_needs_everything() {
        let any = NameCondition::of(&[Matcher::not_equal("pod", "")]);
        assert!(NeededNames::new([any]).contains("whatever"));
    }
}
