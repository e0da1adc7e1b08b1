//! The table of queries, `queries.txt`: groups by feature, and lines that stand for several queries each.
//!
//! - `[feature]` opens a group; words after the feature's name say what is special about its queries (see [`Group`]).
//! - `let name = a | b` makes `$name` stand for `a` and for `b`; a line with several such names stands for all combinations.
//! - `{600}` in a query is the time 600 seconds after the start of the data.
//! - Everything after a `#` at the start of a line is a comment.

use std::collections::BTreeMap;
use std::fmt;

use crate::answer::Order;

const TEXT: &str = include_str!("queries.txt");

/// What holds for all queries under one heading.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Group {
    pub(crate) feature: &'static str,
    /// `ordered`: the order of an instant query's elements is compared too.
    pub(crate) order: Order,
    /// `refused`: Prometheus refuses each of them, at least at some times. Elsewhere it must answer.
    pub(crate) refused: bool,
    /// `empty`: they never give anything. Elsewhere at least one query of each line gives something at some time.
    pub(crate) empty: bool,
    /// `instant`: not asked as range queries, which cannot have their type.
    pub(crate) instant: bool,
}

/// One query, still with its relative times.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) group: Group,
    pub(crate) line: usize,
    pub(crate) query: String,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, line, query } = self;
        write!(f, "queries.txt:{line} [{}] {query}", group.feature)
    }
}

/// All queries of the table.
///
/// # Panics
/// Where the table is not well formed.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut group = Group::default();
    for (line, text) in (1..).zip(TEXT.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        if let Some(heading) = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            group = heading_group(line, heading);
        } else if let Some(definition) = text.strip_prefix("let ") {
            let (name, values) = definition.split_once(" = ").expect("`let name = a | b`");
            names.insert(name, values.split(" | ").map(str::trim).collect());
        } else {
            let expanded = expand(text, &names);
            cases.extend(
                expanded
                    .into_iter()
                    .map(|query| Case { group, line, query }),
            );
        }
    }
    cases
}

fn heading_group(line: usize, heading: &'static str) -> Group {
    let (feature, words) = heading.split_once(':').unwrap_or((heading, ""));
    let mut group = Group {
        feature,
        ..Group::default()
    };
    for word in words.split_whitespace() {
        match word {
            "ordered" => group.order = Order::Kept,
            "refused" => group.refused = true,
            "empty" => group.empty = true,
            "instant" => group.instant = true,
            _ => panic!("queries.txt:{line}: what is {word:?}?"),
        }
    }
    group
}

/// The longest name that fits counts: `$range` before `$ra`.
fn expand(text: &str, names: &BTreeMap<&str, Vec<&str>>) -> Vec<String> {
    let Some((before, after)) = text.split_once('$') else {
        return vec![text.to_owned()];
    };
    // `$1` belongs to label_replace.
    let name = names.keys().rev().find(|name| after.starts_with(**name));
    let Some(name) = name else {
        let rest = expand(after, names);
        return rest.iter().map(|rest| format!("{before}${rest}")).collect();
    };
    let rest = expand(&after[name.len()..], names);
    let with = |value: &&str| {
        rest.iter()
            .map(move |rest| format!("{before}{value}{rest}"))
            .collect::<Vec<_>>()
    };
    names[name].iter().flat_map(with).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What the embedded engine claims to know, but for operators, which have lines of their own below.
    const WORDS: &str = "
        rate irate increase delta idelta deriv predict_linear changes resets
        avg_over_time min_over_time max_over_time sum_over_time count_over_time quantile_over_time stddev_over_time
        stdvar_over_time last_over_time present_over_time absent_over_time mad_over_time first_over_time
        double_exponential_smoothing absent histogram_quantile label_replace label_join clamp clamp_min clamp_max abs ceil
        floor round sqrt exp ln log2 log10 sgn acos acosh asin asinh atan atanh cos cosh sin sinh tan tanh deg rad pi time
        timestamp day_of_month day_of_week day_of_year days_in_month hour minute month year vector scalar sort sort_desc
        sort_by_label sort_by_label_desc ts_of_min_over_time
        ts_of_max_over_time ts_of_first_over_time ts_of_last_over_time max_of min_of sum avg min max count group stddev stdvar topk bottomk quantile count_values limitk
        by without on ignoring group_left group_right bool and or unless atan2 offset start end inf nan";
    const SIGNS: &str = "+ - * / % ^ == != > < >= <= = =~ !~ @";

    #[test]
    fn every_function_operator_and_modifier_has_a_query() {
        let cases: Vec<Case> = cases()
            .into_iter()
            .filter(|case| !case.group.refused)
            .collect();
        let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
        let known = |word: &str| {
            cases.iter().any(|case| {
                case.query
                    .to_lowercase()
                    .split(|letter| !is_word(letter))
                    .any(|part| part == word)
            })
        };
        let missing: Vec<&str> = WORDS
            .split_whitespace()
            .filter(|word| !known(word))
            .collect();
        assert!(missing.is_empty(), "no query uses {missing:?}");
        let missing: Vec<&str> = SIGNS
            .split_whitespace()
            .filter(|sign| !cases.iter().any(|case| case.query.contains(sign)))
            .collect();
        assert!(missing.is_empty(), "no query uses {missing:?}");
    }

    #[test]
    fn a_line_stands_for_all_combinations() {
        let names = BTreeMap::from([("a", vec!["1", "2"]), ("ab", vec!["x", "y"])]);
        assert_eq!(
            expand("$a + $ab", &names),
            ["1 + x", "1 + y", "2 + x", "2 + y"]
        );
        assert_eq!(expand("$1 $a", &names), ["$1 1", "$1 2"]);
    }

    #[test]
    fn no_query_is_asked_twice() {
        let mut seen = BTreeSet::new();
        let cases = cases();
        let again: Vec<&Case> = cases
            .iter()
            .filter(|case| !seen.insert(&case.query))
            .collect();
        assert!(again.is_empty(), "{again:#?}");
    }
}
