//! Series written as text, and answers as text, so that a test is a table.

use crate::model::labels::Labels;
use crate::model::matcher::{Matcher, all_match};
use crate::model::sample::Sample;
use crate::model::time::Timestamp;
use crate::promql::{Options, Query, SeriesReader, Value, Wanted, parse_selector};

/// Series with a sample every ten seconds from time 0 on.
pub(super) struct Given(pub(super) Vec<(Labels, Vec<Sample>)>);

impl SeriesReader for Given {
    fn select(
        &self,
        matchers: &[Matcher],
        wanted: Wanted,
        visit: &mut dyn FnMut(&Labels, &[Sample]),
    ) {
        for (labels, samples) in &self.0 {
            if all_match(matchers, labels) {
                // No more than it must be given.
                visit(labels, wanted.of(samples));
            }
        }
    }
}

/// Each line is a selector and its values; `_` is a gap and `stale` an end.
pub(super) fn given(lines: &str) -> Given {
    let series = |line: &str| {
        let (selector, values) = line.split_once(' ').expect("a selector and values");
        let matchers = parse_selector(selector).expect("a selector");
        let labels = matchers
            .into_iter()
            .map(|matcher| (matcher.name, matcher.value))
            .collect();
        let mut samples = Vec::new();
        for (index, value) in (0..).zip(values.split_whitespace()) {
            let at = Timestamp::from_millis(index * 10_000);
            match value {
                "_" => {}
                "stale" => samples.push(Sample::stale_marker(at)),
                value => samples.push(Sample::new(at, value.parse().expect("a number"))),
            }
        }
        (labels, samples)
    };
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    Given(lines.map(series).collect())
}

/// The answer at some second, one element or series per `;`.
pub(super) fn ask(given: &Given, query: &str, second: i64) -> String {
    let query = match Query::compile(query) {
        Ok(query) => query,
        Err(error) => return error.to_string(),
    };
    let at = Timestamp::from_millis(second * 1000);
    let options = Options::default();
    match query.evaluate(given, at, &options) {
        Ok(Value::Scalar(value)) => number(value),
        Ok(Value::String(text)) => text,
        Ok(Value::Vector(points)) => {
            let text =
                |point: crate::promql::Point| format!("{} {}", point.labels, number(point.value));
            points
                .into_iter()
                .map(text)
                .collect::<Vec<String>>()
                .join("; ")
        }
        Ok(Value::Matrix(series)) => {
            let sample = |sample: &Sample| {
                format!(
                    " {}@{}",
                    number(sample.value),
                    sample.timestamp.as_millis() / 1000
                )
            };
            let text = |series: crate::promql::Series| {
                let samples: String = series.samples.iter().map(sample).collect();
                format!("{}{samples}", series.labels)
            };
            series
                .into_iter()
                .map(text)
                .collect::<Vec<String>>()
                .join("; ")
        }
        Err(error) => error.to_string(),
    }
}

/// Nine digits are enough to tell right from wrong.
fn number(value: f64) -> String {
    let rounded = (value * 1e9).round() / 1e9;
    if rounded.is_finite() {
        rounded.to_string()
    } else {
        value.to_string()
    }
}

/// Asks everything in a table of queries and answers, all at one time.
pub(super) fn check(given: &Given, second: i64, table: &[(&str, &str)]) {
    for (query, expected) in table {
        assert_eq!(ask(given, query, second), *expected, "{query} at {second}");
    }
}
