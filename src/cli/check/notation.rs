//! Series and their samples as promtool's unit tests write them (`promql/promqltest`, "expanding notation").

use anyhow::{Context as _, ensure};

use crate::engine::embedded::parse_selector;
use crate::model::labels::Labels;
use crate::model::matcher::MatchOp;

/// Most samples of one series.
const MOST: usize = 100_000;

/// What a scrape finds of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Found {
    /// This value.
    Value(f64),
    /// Nothing: there was no scrape.
    Missing,
    /// That the series has ended.
    Stale,
}

/// A series by its name and labels, such as `up{job="x"}`.
pub(super) fn series(text: &str) -> anyhow::Result<Labels> {
    let matchers = parse_selector(text).with_context(|| format!("`{text}` is no series"))?;
    let mut labels = Vec::new();
    for matcher in &matchers {
        ensure!(
            matches!(matcher.op, MatchOp::Equal),
            "`{text}` is no series: its labels are written {}=\"…\"",
            matcher.name
        );
        labels.push((matcher.name.as_str(), matcher.value.as_str()));
    }
    let labels = Labels::new(labels);
    ensure!(labels.metric().is_some(), "`{text}` has no name");
    Ok(labels)
}

/// Values one interval apart: `1 2 _ stale`, `5x3` (four times 5), `0+10x3` (0, 10, 20, 30), `9-3x2` (9, 6, 3), `_x3`.
pub(super) fn values(text: &str) -> anyhow::Result<Vec<Found>> {
    let mut values = Vec::new();
    for item in text.split_whitespace() {
        let context =
            || format!("`{item}` is no value, nor several: see `1 2 _ stale 5x3 0+10x3 9-3x2 _x3`");
        match item {
            "_" => values.push(Found::Missing),
            "stale" => values.push(Found::Stale),
            _ => expand(item, &mut values).with_context(context)?,
        }
        ensure!(values.len() <= MOST, "more than {MOST} values");
    }
    Ok(values)
}

fn expand(item: &str, values: &mut Vec<Found>) -> Option<()> {
    let Some((pattern, times)) = item.rsplit_once('x') else {
        values.push(Found::Value(number(item)?));
        return Some(());
    };
    let times: usize = times.parse().ok().filter(|it| *it <= MOST)?;
    if pattern == "_" {
        values.extend(std::iter::repeat_n(Found::Missing, times));
        return Some(());
    }
    // The sign between start and step: neither the first character nor that of an exponent.
    let signs = pattern.char_indices().skip(1);
    let mut signs =
        signs.filter(|(at, c)| matches!(c, '+' | '-') && !pattern[..*at].ends_with(['e', 'E']));
    let (start, step) = match signs.next() {
        None => (number(pattern)?, 0.0),
        Some((at, '-')) => (number(&pattern[..at])?, -number(&pattern[at + 1..])?),
        Some((at, _)) => (number(&pattern[..at])?, number(&pattern[at + 1..])?),
    };
    #[expect(clippy::cast_precision_loss, reason = "at most 100,000")]
    let value = |index: usize| Found::Value(start + step * index as f64);
    values.extend((0..=times).map(value));
    Some(())
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_expanded_as_promtool_does() {
        let numbers = |text: &str| -> Vec<String> {
            let found = values(text).expect(text);
            let text = |found: &Found| match found {
                Found::Value(value) => value.to_string(),
                Found::Missing => "_".to_owned(),
                Found::Stale => "stale".to_owned(),
            };
            found.iter().map(text).collect()
        };
        for (text, expected) in [
            ("1 2.5 -3", &["1", "2.5", "-3"][..]),
            ("5x3", &["5", "5", "5", "5"]),
            ("0+10x3", &["0", "10", "20", "30"]),
            ("9-3x2", &["9", "6", "3"]),
            ("-2+1x2", &["-2", "-1", "0"]),
            ("1e-3x1", &["0.001", "0.001"]),
            ("1e2+1e1x1", &["100", "110"]),
            ("1 _x2 stale _", &["1", "_", "_", "stale", "_"]),
            ("NaN Inf", &["NaN", "inf"]),
            ("", &[]),
        ] {
            assert_eq!(numbers(text), expected, "{text}");
        }
        for text in ["one", "1+x3", "1x", "1+2", "0+1x100001", "x3"] {
            assert!(values(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_series_has_a_name_and_plain_labels() {
        let labels = series(r#"util{pod="a", gpu="0"}"#).expect("a series");
        assert_eq!(labels.to_string(), r#"util{gpu="0", pod="a"}"#);
        for text in [
            r#"{pod="a"}"#,
            r#"util{pod=~"a"}"#,
            "util + x",
            "rate(x[5m])",
            "",
        ] {
            assert!(series(text).is_err(), "{text}");
        }
    }
}
