//! The embedded engine's answers: the only file here that knows its interface.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use gpu_metrics_adapter::model::labels::Labels;
use gpu_metrics_adapter::model::matcher::{Matcher, all_match};
use gpu_metrics_adapter::model::sample::Sample;
use gpu_metrics_adapter::model::time::Timestamp;
use gpu_metrics_adapter::promql::{Query, SeriesReader};

use crate::answer::{Answer, Outcome, Refusal};
use crate::data::Series;
use crate::prometheus::Range;

/// Prometheus's own default.
const LOOKBACK: Duration = Duration::from_secs(300);

/// The series, as the engine reads them.
pub(crate) struct Reader(pub(crate) Vec<Series>);

impl SeriesReader for Reader {
    fn select(&self, matchers: &[Matcher], visit: &mut dyn FnMut(&Labels, [&[Sample]; 2])) {
        for (index, series) in self.0.iter().enumerate() {
            if all_match(matchers, &series.labels) {
                // Split at another place in each series, sometimes at an end, as a ring buffer is.
                let middle = series.samples.len() * (index % 4) / 3;
                let (older, newer) = series.samples.split_at(middle);
                visit(&series.labels, [older, newer]);
            }
        }
    }
}

impl Reader {
    pub(crate) fn instant(&self, query: &str, at: Timestamp) -> Outcome {
        guarded(|| {
            let query = compile(query)?;
            let points = query.instant(self, at, LOOKBACK);
            let points = points.into_iter().map(|point| (point.labels, point.value));
            Ok(Answer::Vector(points.collect()))
        })
    }

    pub(crate) fn range(&self, query: &str, _: Range) -> Outcome {
        guarded(|| {
            compile(query)?;
            Err(Refusal::Failure(
                "range queries are not there yet".to_owned(),
            ))
        })
    }
}

fn compile(query: &str) -> Result<Query, Refusal> {
    Query::compile(query).map_err(|error| Refusal::Query(error.to_string()))
}

fn guarded(evaluate: impl FnOnce() -> Outcome) -> Outcome {
    catch_unwind(AssertUnwindSafe(evaluate)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Refusal::Failure(format!(
            "panicked: {}",
            text.unwrap_or("no text")
        )))
    })
}
