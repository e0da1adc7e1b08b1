//! An answer of Prometheus's API, for eyes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;

use crate::model::labels::Labels;

/// The envelope.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    data: Option<Value>,
    /// What is wrong.
    pub(super) error: Option<String>,
    /// What else is to be known.
    #[serde(default)]
    pub(super) warnings: Vec<String>,
    #[serde(rename = "status")]
    _status: Status,
}

/// What tells it from the JSON of others.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Success,
    Error,
}

/// A time in seconds, and a value.
type Sample = (f64, String);

#[derive(Debug, Deserialize)]
struct Element {
    metric: BTreeMap<String, String>,
    value: Sample,
}

#[derive(Debug, Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<Sample>,
}

impl Answer {
    pub(super) fn parse(body: &str) -> serde_json::Result<Self> {
        serde_json::from_str(body)
    }

    /// One line for each value; no line without any.
    pub(super) fn table(mut self) -> anyhow::Result<String> {
        let mut data = self.data.take().context("the answer has no data")?;
        let result = data["result"].take();
        Ok(match data["resultType"].as_str() {
            Some("vector") => vector(&serde_json::from_value::<Vec<Element>>(result)?),
            Some("matrix") => matrix(&serde_json::from_value::<Vec<Series>>(result)?),
            Some("scalar" | "string") => {
                let (_, value): Sample = serde_json::from_value(result)?;
                format!("{value}\n")
            }
            other => anyhow::bail!("the answer has the unknown type {other:?}"),
        })
    }
}

/// Values first, since a series may be long.
fn vector(elements: &[Element]) -> String {
    if elements.is_empty() {
        return String::new();
    }
    let widths = elements.iter().map(|element| element.value.1.len());
    let width = widths.max().unwrap_or(0).max("VALUE".len());
    let mut table = format!("{:<width$}  SERIES\n", "VALUE");
    for Element { metric, value } in elements {
        let _ = writeln!(table, "{:<width$}  {}", value.1, name(metric));
    }
    table
}

fn matrix(series: &[Series]) -> String {
    let mut table = String::new();
    for Series { metric, values } in series {
        let _ = writeln!(table, "{}", name(metric));
        let values: Vec<_> = values
            .iter()
            .map(|(at, value)| (time(*at), value))
            .collect();
        let width = values.iter().map(|(time, _)| time.len()).max().unwrap_or(0);
        for (time, value) in values {
            let _ = writeln!(table, "  {time:<width$}  {value}");
        }
    }
    table
}

fn name(metric: &BTreeMap<String, String>) -> String {
    Labels::new(metric.iter().map(|(name, value)| (&**name, &**value))).to_string()
}

fn time(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "saturates")]
    let millis = (seconds * 1000.0).round() as i64;
    jiff::Timestamp::from_millisecond(millis)
        .map_or_else(|_| seconds.to_string(), |time| time.to_string())
}
