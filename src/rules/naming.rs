//! Which series a rule takes, and what the metric is called (prometheus-adapter `pkg/naming/metric_namer.go`).

use regex::Regex;

use crate::config::Fault;
use crate::config::rules::{NameMapping, RegexFilter};
use crate::model::names::NameCondition;

/// A rule's name filters and its naming.
#[derive(Clone, Debug)]
pub(super) struct Naming {
    filters: Vec<Filter>,
    matches: Regex,
    expansion: String,
}

#[derive(Clone, Debug)]
enum Filter {
    Is(Regex),
    IsNot(Regex),
}

impl Naming {
    pub(super) fn compile(
        path: &str,
        filters: &[RegexFilter],
        name: &NameMapping,
        faults: &mut Vec<Fault>,
    ) -> Option<Self> {
        let before = faults.len();
        let mut compiled = Vec::new();
        for (index, filter) in filters.iter().enumerate() {
            let path = format!("{path}.seriesFilters[{index}]");
            match (filter.is.as_str(), filter.is_not.as_str()) {
                ("", "") => faults.push(Fault::new(path, "needs `is` or `isNot`")),
                (is, "") => compiled.extend(expression(&path, is, faults).map(Filter::Is)),
                ("", is_not) => {
                    compiled.extend(expression(&path, is_not, faults).map(Filter::IsNot))
                }
                _ => faults.push(Fault::new(
                    path,
                    "has both `is` and `isNot`; only one may be set",
                )),
            }
        }
        let pattern = if name.matches.is_empty() {
            ".*"
        } else {
            &name.matches
        };
        let matches = expression(&format!("{path}.name.matches"), pattern, faults)?;
        let groups = matches.captures_len() - 1;
        let expansion = match (name.as_.as_str(), groups) {
            ("", 0) => "$0".to_owned(),
            ("", 1) => "$1".to_owned(),
            ("", _) => {
                let message = format!("is needed, since `matches` has {groups} groups");
                faults.push(Fault::new(format!("{path}.name.as"), message));
                return None;
            }
            (given, _) => given.to_owned(),
        };
        (faults.len() == before).then_some(Self {
            filters: compiled,
            matches,
            expansion,
        })
    }

    /// Whether both take the same series and call them the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let text = |naming: &Self| format!("{naming:?}");
        text(self) == text(other)
    }

    /// What these filters leave of a condition on the series' name.
    pub(super) fn restrict(&self, condition: NameCondition) -> NameCondition {
        let filtered = self
            .filters
            .iter()
            .fold(condition, |condition, filter| match filter {
                Filter::Is(regex) => condition.and(regex, true),
                Filter::IsNot(regex) => condition.and(regex, false),
            });
        filtered.and(&self.matches, true)
    }

    /// The metric's name for this series; `None` where the rule leaves the series out.
    pub(super) fn metric_name(&self, series: &str) -> Option<String> {
        let passes = self.filters.iter().all(|filter| match filter {
            Filter::Is(regex) => regex.is_match(series),
            Filter::IsNot(regex) => !regex.is_match(series),
        });
        let captures = self.matches.captures(series).filter(|_| passes)?;
        let mut name = String::new();
        captures.expand(&self.expansion, &mut name);
        (!name.is_empty()).then_some(name)
    }
}

fn expression(path: &str, pattern: &str, faults: &mut Vec<Fault>) -> Option<Regex> {
    super::expression::compile(pattern)
        .map_err(|error| {
            faults.push(Fault::new(
                path,
                format!("is no regular expression: {error}"),
            ))
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naming(matches: &str, as_: &str, filters: &[RegexFilter]) -> Result<Naming, Vec<Fault>> {
        let mut faults = Vec::new();
        let name = NameMapping {
            matches: matches.to_owned(),
            as_: as_.to_owned(),
        };
        Naming::compile("rules[0]", filters, &name, &mut faults).ok_or(faults)
    }

    #[test]
    fn names_follow_their_expression() {
        let cases = [
            ("", "", "http_requests_total", Some("http_requests_total")),
            (
                "^(.*)_total$",
                "",
                "http_requests_total",
                Some("http_requests"),
            ),
            (
                "^(.*)_total$",
                "${1}_per_second",
                "http_requests_total",
                Some("http_requests_per_second"),
            ),
            ("^(.*)_total$", "", "http_requests", None),
            // Not anchored, as in prometheus-adapter.
            (
                "http_(.*)_total",
                "",
                "my_http_requests_total_foo",
                Some("requests"),
            ),
            // Go and Rust both read `$1_x` as a group called `1_x`; an empty name is no name.
            ("^(.*)_total$", "$1_per_second", "http_requests_total", None),
        ];
        for (matches, as_, series, expected) in cases {
            let naming = naming(matches, as_, &[]).expect("valid");
            assert_eq!(
                naming.metric_name(series).as_deref(),
                expected,
                "{matches} {as_}"
            );
        }
    }

    #[test]
    fn filters_must_all_hold() {
        let is = RegexFilter {
            is: "^DCGM_".into(),
            ..RegexFilter::default()
        };
        let is_not = RegexFilter {
            is_not: "_TEMP$".into(),
            ..RegexFilter::default()
        };
        let naming = naming("", "", &[is, is_not]).expect("valid");
        assert!(naming.metric_name("DCGM_FI_DEV_GPU_UTIL").is_some());
        assert!(naming.metric_name("DCGM_FI_DEV_GPU_TEMP").is_none());
        assert!(naming.metric_name("node_load1").is_none());
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let both = RegexFilter {
            is: "a".into(),
            is_not: "b".into(),
        };
        let faults = naming("(a)(b)", "", &[both, RegexFilter::default()]).expect_err("faulty");
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "rules[0].seriesFilters[0]",
                "rules[0].seriesFilters[1]",
                "rules[0].name.as"
            ]
        );
        assert!(naming("(", "", &[]).is_err());
    }
}
