//! What is asked, with its parameters read, and how it is answered.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;

use crate::engine::query::{Bounds, QueryService, Range, Span, Target};
use crate::model::labels::Labels;
use crate::model::matcher::Matcher;
use crate::model::time::Timestamp;

use super::answer::{Answer, Refused};
use super::endpoint::Endpoint;
use super::parameters::Parameters;
use super::values;

/// How far back a sample counts, unless the request says otherwise (`--query.lookback-delta`).
const LOOKBACK: Duration = Duration::from_secs(5 * 60);

/// Most steps between the ends of a range: what one can draw.
const STEPS: i64 = 11_000;

/// A question that can be answered.
#[derive(Debug)]
pub(super) struct Question {
    asked: Asked,
    /// Most items of the answer; 0 for all.
    limit: usize,
    timeout: Option<Duration>,
    lookback: Duration,
}

#[derive(Debug)]
enum Asked {
    Instant { query: String, at: Timestamp },
    Range { query: String, range: Range },
    Series(Vec<Vec<Matcher>>, Span),
    LabelNames(Vec<Vec<Matcher>>, Span),
    LabelValues(String, Vec<Vec<Matcher>>, Span),
    Metadata { metric: String, most: Option<usize> },
    Targets { state: String, pool: String },
    Known(serde_json::Value),
}

impl Question {
    /// Reads what the endpoint needs.
    pub(super) fn new(
        endpoint: Endpoint,
        parameters: &Parameters,
        now: Timestamp,
    ) -> Result<Self, Refused> {
        let text = |name| parameters.text(name).to_owned();
        let asked = match endpoint {
            Endpoint::Query => Asked::Instant {
                query: text("query"),
                at: parameters.time_or("time", now)?,
            },
            Endpoint::QueryRange => Asked::Range {
                query: text("query"),
                range: range(parameters)?,
            },
            Endpoint::Series => {
                let selectors = parameters.selectors()?;
                if selectors.is_empty() {
                    return Err(Refused::bad_data("no match[] parameter provided"));
                }
                Asked::Series(selectors, parameters.span()?)
            }
            Endpoint::Labels => Asked::LabelNames(parameters.selectors()?, parameters.span()?),
            Endpoint::LabelValues(name) if name.is_empty() => {
                return Err(Refused::bad_data("invalid label name: \"\""));
            }
            Endpoint::LabelValues(name) => {
                Asked::LabelValues(name, parameters.selectors()?, parameters.span()?)
            }
            Endpoint::Metadata => {
                parameters.number("limit_per_metric")?;
                let most = parameters.number("limit")?;
                return Ok(Self::plain(Asked::Metadata {
                    metric: text("metric"),
                    most: most.and_then(|most| usize::try_from(most).ok()),
                }));
            }
            Endpoint::Targets => Asked::Targets {
                state: parameters.text("state").to_lowercase(),
                pool: text("scrapePool"),
            },
            Endpoint::Rules => Asked::Known(json!({"groups": []})),
            Endpoint::Alerts => Asked::Known(json!({"alerts": []})),
            Endpoint::BuildInfo => Asked::Known(build_info()),
            Endpoint::Unknown => return Err(Refused::not_found()),
        };
        let lookback = parameters.duration("lookback_delta")?;
        Ok(Self {
            limit: parameters.limit()?,
            timeout: parameters.duration("timeout")?,
            lookback: lookback.filter(|it| !it.is_zero()).unwrap_or(LOOKBACK),
            ..Self::plain(asked)
        })
    }

    fn plain(asked: Asked) -> Self {
        Self {
            asked,
            limit: 0,
            timeout: None,
            lookback: LOOKBACK,
        }
    }

    /// How long the answer may take at most.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(Duration::MAX)
    }

    /// The answer; takes its time.
    pub(super) fn answer(
        &self,
        service: &QueryService,
        samples: usize,
        deadline: Instant,
    ) -> Result<Answer, Refused> {
        if Instant::now() >= deadline {
            return Err(Refused::timed_out("query queue"));
        }
        let bounds = Bounds {
            lookback: self.lookback,
            samples,
            deadline,
        };
        Ok(match &self.asked {
            Asked::Instant { query, at } => {
                let value = service.instant(query, *at, &bounds)?;
                values::instant(&value, *at, self.limit)
            }
            Asked::Range { query, range } => {
                values::matrix(&service.range(query, *range, &bounds)?, self.limit)
            }
            Asked::Series(sets, span) => {
                let series = service.series(sets, *span);
                self.listed(series.iter().map(map))
            }
            Asked::LabelNames(sets, span) => {
                self.listed(service.label_names(sets, *span).into_iter())
            }
            Asked::LabelValues(name, sets, span) => {
                self.listed(service.label_values(name, sets, *span).into_iter())
            }
            Asked::Metadata { metric, most } => metadata(service, metric, *most),
            Asked::Targets { state, pool } => targets(service, state, pool),
            Asked::Known(data) => Answer::whole(data),
        })
    }

    fn listed<T: Serialize>(&self, items: impl ExactSizeIterator<Item = T>) -> Answer {
        let most = if self.limit == 0 {
            usize::MAX
        } else {
            self.limit
        };
        let truncated = items.len() > most;
        let shown: Vec<T> = items.take(most).collect();
        Answer::limited(&shown, truncated)
    }
}

fn range(parameters: &Parameters) -> Result<Range, Refused> {
    let (start, end) = (parameters.time("start")?, parameters.time("end")?);
    if end < start {
        let message = "end timestamp must not be before start time";
        return Err(Refused::parameter("end", message));
    }
    let step = match parameters.milliseconds("step")? {
        None => {
            let message = "cannot parse \"\" to a valid duration";
            return Err(Refused::parameter("step", message));
        }
        Some(step) => u64::try_from(step).unwrap_or(0),
    };
    if step == 0 {
        let message = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(Refused::parameter("step", message));
    }
    let step = Duration::from_millis(step);
    if end.since(start).as_millis() / step.as_millis() > STEPS.unsigned_abs().into() {
        let message = "exceeded maximum resolution of 11,000 points per timeseries. \
                       Try decreasing the query resolution (?step=XX)";
        return Err(Refused::bad_data(message));
    }
    Ok(Range { start, end, step })
}

/// As a JSON object.
fn map(labels: &Labels) -> BTreeMap<&str, &str> {
    labels.iter().collect()
}

#[derive(Serialize)]
struct MetadataAnswer {
    #[serde(rename = "type")]
    kind: &'static str,
    help: String,
    unit: String,
}

/// Of each family one entry: where targets say different things, only the last is kept.
fn metadata(service: &QueryService, metric: &str, most: Option<usize>) -> Answer {
    let known = service.metadata(Some(metric).filter(|metric| !metric.is_empty()));
    let known: BTreeMap<_, _> = known
        .into_iter()
        .take(most.unwrap_or(usize::MAX))
        .map(|(family, it)| {
            let (kind, help, unit) = (it.kind, it.help, it.unit);
            (family, [MetadataAnswer { kind, help, unit }])
        })
        .collect();
    Answer::whole(&known)
}

/// The fields and their order are Prometheus's, here and below (`web/api/v1/api.go`, `TargetDiscovery`, `Target`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TargetDiscovery<'a> {
    active_targets: Vec<ActiveTarget<'a>>,
    /// What relabelling drops is not kept.
    dropped_targets: [(); 0],
    dropped_target_counts: BTreeMap<&'a str, usize>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ActiveTarget<'a> {
    /// Labels before relabelling, where no more than [`TRACED`] targets are asked for.
    discovered_labels: BTreeMap<&'a str, &'a str>,
    labels: BTreeMap<&'a str, &'a str>,
    scrape_pool: &'a str,
    scrape_url: &'a str,
    global_url: &'a str,
    last_error: &'a str,
    last_scrape: String,
    last_scrape_duration: f64,
    health: &'static str,
    scrape_interval: String,
    /// Not kept.
    scrape_timeout: &'static str,
}

/// Most targets whose labels before relabelling are told: they are kilobytes each.
const TRACED: usize = 1_000;

fn targets(service: &QueryService, state: &str, pool: &str) -> Answer {
    let mut all = service.targets();
    all.retain(|_| matches!(state, "" | "any" | "active"));
    all.retain(|target| pool.is_empty() || target.job == pool);
    if all.len() <= TRACED {
        service.trace(&mut all);
    }
    let active: Vec<ActiveTarget<'_>> = all.iter().map(active).collect();
    Answer::whole(&TargetDiscovery {
        active_targets: active,
        dropped_targets: [],
        dropped_target_counts: BTreeMap::new(),
    })
}

fn active(target: &Target) -> ActiveTarget<'_> {
    let scrape = target.last_scrape.as_ref();
    let error = scrape.and_then(|scrape| scrape.error.as_deref());
    let time = scrape.and_then(|scrape| {
        jiff::Timestamp::from_millisecond(scrape.at.as_millis())
            .ok()
            .map(|time| time.to_string())
    });
    ActiveTarget {
        discovered_labels: target
            .discovered
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect(),
        labels: map(&target.labels),
        scrape_pool: &target.job,
        scrape_url: &target.url,
        global_url: &target.url,
        last_error: error.unwrap_or_default(),
        // Go's zero time, as for a target that was not scraped yet.
        last_scrape: time.unwrap_or_else(|| "0001-01-01T00:00:00Z".to_owned()),
        last_scrape_duration: scrape.map_or(0.0, |scrape| scrape.seconds),
        health: match (scrape, error) {
            (None, _) => "unknown",
            (Some(_), None) => "up",
            (Some(_), Some(_)) => "down",
        },
        scrape_interval: interval(target.interval),
        scrape_timeout: "",
    }
}

/// In Prometheus's form: `15s`, `1m30s`, `500ms`.
fn interval(duration: Duration) -> String {
    let mut rest = duration.as_millis();
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, millis) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if rest >= millis {
            text.push_str(&format!("{}{unit}", rest / millis));
            rest %= millis;
        }
    }
    text
}

fn build_info() -> serde_json::Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "revision": "",
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
        "application": env!("CARGO_PKG_NAME"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_written_as_prometheus_writes_them() {
        for (millis, text) in [
            (15_000, "15s"),
            (90_000, "1m30s"),
            (60_000, "1m"),
            (500, "500ms"),
            (0, "0s"),
        ] {
            assert_eq!(interval(Duration::from_millis(millis)), text);
        }
    }
}
