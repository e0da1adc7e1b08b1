//! Tests of rules: samples in, answers of the API out. The form is after promtool's unit tests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::app::trial::{Trial, TrialObject};
use crate::config::Config;
use crate::config::scrape::units;
use crate::model::labels::Labels;
use crate::model::objects::GroupResource;
use crate::model::quantity::Quantity;
use crate::model::time::Timestamp;

use super::notation::{self, Found};

/// When every test begins. Any time will do, as long as it is always the same.
const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// A file of tests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Suite {
    tests: Vec<Test>,
}

/// Series, and what the API answers over them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    /// What it shows.
    #[serde(default)]
    name: String,
    /// The time between two values of a series.
    #[serde(default = "interval", deserialize_with = "units::duration")]
    interval: Duration,
    #[serde(default)]
    input_series: Vec<InputSeries>,
    #[serde(default)]
    objects: Vec<InputObject>,
    api_test: Vec<ApiTest>,
}

fn interval() -> Duration {
    Duration::from_secs(15)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct InputSeries {
    /// Such as `up{job="x"}`.
    series: String,
    /// Its values, one each interval from the time 0 on, in promtool's notation.
    values: String,
}

/// An object that the cluster has.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct InputObject {
    /// As in a path: `pods`, `deployments.apps`.
    #[serde(default = "pods")]
    resource: String,
    namespace: Option<String>,
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

fn pods() -> String {
    "pods".to_owned()
}

/// A question and its answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApiTest {
    /// When it is asked, since the first sample.
    #[serde(deserialize_with = "units::duration")]
    eval_time: Duration,
    /// The path, as `kubectl get --raw` takes it.
    path: String,
    /// The values, in any order. Either these or an error.
    exp_values: Option<Vec<ExpectedValue>>,
    /// A part of the reason why there is none.
    exp_error: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedValue {
    /// The object's name; for custom metrics.
    name: Option<String>,
    /// The labels; for external metrics.
    labels: Option<BTreeMap<String, String>>,
    value: Amount,
}

/// A number, or a quantity as the API writes it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Amount {
    Number(f64),
    Quantity(String),
}

/// Runs the tests of a file; prints how each went. Whether all passed.
///
/// # Errors
/// Where the file cannot be read or understood.
pub(super) async fn run(config: &Config, path: &Path) -> anyhow::Result<bool> {
    let suite = read(path)?;
    let mut failed = 0;
    for (index, test) in suite.tests.iter().enumerate() {
        let name = match test.name.as_str() {
            "" => format!("tests[{index}]"),
            name => name.to_owned(),
        };
        let wrong = test.run(config).await.with_context(|| name.clone())?;
        if wrong.is_empty() {
            anstream::println!("{name}: ok");
        } else {
            failed += 1;
            anstream::println!("{name}: FAILED\n{}", wrong.join("\n"));
        }
    }
    Ok(failed == 0)
}

fn read(path: &Path) -> anyhow::Result<Suite> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("{} has no tests", path.display()))
}

impl Test {
    /// What differs from what is expected.
    async fn run(&self, config: &Config) -> anyhow::Result<Vec<String>> {
        ensure!(!self.interval.is_zero(), "interval must be more than 0");
        let objects = self.objects.iter().map(InputObject::object).collect();
        let mut trial = Trial::new(config, objects, self.interval)?;
        let series: Vec<(Labels, Vec<Found>)> = self
            .input_series
            .iter()
            .map(|input| {
                let values = notation::values(&input.values);
                let values = values.with_context(|| input.series.clone())?;
                Ok((notation::series(&input.series)?, values))
            })
            .collect::<anyhow::Result<_>>()?;
        let mut questions: Vec<&ApiTest> = self.api_test.iter().collect();
        questions.sort_by_key(|question| question.eval_time);
        let (mut step, mut wrong) = (0_u32, Vec::new());
        for question in questions {
            // Samples come as time goes by: a question knows nothing of later ones.
            while self.interval * step <= question.eval_time {
                let at = START.plus(self.interval * step);
                for (labels, values) in &series {
                    let place = usize::try_from(step).unwrap_or(usize::MAX);
                    match values.get(place) {
                        Some(Found::Value(value)) => trial.write(at, labels, Some(*value)),
                        Some(Found::Stale) => trial.write(at, labels, None),
                        Some(Found::Missing) | None => {}
                    }
                }
                step += 1;
            }
            let at = START.plus(question.eval_time);
            let (_, body) = trial.ask(&question.path, at).await?;
            wrong.extend(question.compare(&body)?);
        }
        Ok(wrong)
    }
}

impl InputObject {
    fn object(&self) -> TrialObject {
        TrialObject {
            resource: GroupResource::parse(&self.resource),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            labels: self.labels.clone(),
        }
    }
}

impl ApiTest {
    fn compare(&self, body: &str) -> anyhow::Result<Option<String>> {
        let answer: Value = serde_json::from_str(body)
            .with_context(|| format!("{}: the answer is no JSON: {body:.200}", self.path))?;
        let message = answer["message"].as_str();
        let actual = match message {
            Some(message) => format!("      error: {message}\n"),
            None => lines(answer["items"].as_array().into_iter().flatten().map(item)),
        };
        let (matches, expected) = match (&self.exp_values, &self.exp_error) {
            (Some(values), None) => {
                let expected = values.iter().map(ExpectedValue::item);
                let expected = lines(expected.collect::<anyhow::Result<Vec<_>>>()?);
                (message.is_none() && expected == actual, expected)
            }
            (None, Some(text)) => {
                let matches = message.is_some_and(|message| message.contains(text));
                (matches, format!("      error: … {text} …\n"))
            }
            _ => anyhow::bail!("{}: needs one of `exp_values` and `exp_error`", self.path),
        };
        let mut report = format!("  {} at {:?}\n", self.path, self.eval_time);
        let _ = write!(report, "    expected:\n{expected}    got:\n{actual}");
        Ok((!matches).then(|| report.trim_end().to_owned()))
    }
}

/// The object or labels and the value, as text.
fn item(item: &Value) -> String {
    let value = item["value"].as_str().unwrap_or_default();
    match item["describedObject"]["name"].as_str() {
        Some(name) => format!("{name} {value}"),
        None => format!("{} {value}", item["metricLabels"]),
    }
}

impl ExpectedValue {
    fn item(&self) -> anyhow::Result<String> {
        let value = match &self.value {
            Amount::Number(value) => Quantity::from_f64(*value)
                .context("a value is finite")?
                .to_string(),
            Amount::Quantity(text) => text.clone(),
        };
        match (&self.name, &self.labels) {
            (Some(name), None) => Ok(format!("{name} {value}")),
            (None, labels) => {
                let labels = labels.clone().unwrap_or_default();
                let labels = serde_json::to_string(&labels).expect("texts by texts are JSON");
                Ok(format!("{labels} {value}"))
            }
            (Some(_), Some(_)) => anyhow::bail!("a value has either `name` or `labels`"),
        }
    }
}

fn lines(items: impl IntoIterator<Item = String>) -> String {
    let mut items: Vec<String> = items.into_iter().collect();
    items.sort();
    if items.is_empty() {
        return "      nothing\n".to_owned();
    }
    items.iter().map(|item| format!("      {item}\n")).collect()
}
