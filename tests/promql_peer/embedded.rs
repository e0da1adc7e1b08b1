//! The embedded engine's answers: the only file here that knows its interface.

use std::panic::{AssertUnwindSafe, catch_unwind};

use gpu_metrics_adapter::model::labels::Labels;
use gpu_metrics_adapter::model::matcher::{Matcher, all_match};
use gpu_metrics_adapter::model::sample::Sample;
use gpu_metrics_adapter::model::time::Timestamp;
use gpu_metrics_adapter::promql::{
    self, EvalError, Options, Query, Range, ResultType, SeriesReader, Value, Wanted,
};

use crate::answer::{Answer, Outcome, Refusal};
use crate::data::Series;

/// The series, as the engine reads them.
pub(crate) struct Reader(pub(crate) Vec<Series>);

impl SeriesReader for Reader {
    fn select(
        &self,
        matchers: &[Matcher],
        wanted: Wanted,
        visit: &mut dyn FnMut(&Labels, &[Sample]),
    ) {
        for (index, series) in self.0.iter().enumerate() {
            if all_match(matchers, &series.labels) {
                // A reader must give what is wanted, and may give more.
                match index % 2 {
                    0 => visit(&series.labels, wanted.of(&series.samples)),
                    _ => visit(&series.labels, &series.samples),
                }
            }
        }
    }
}

impl Reader {
    pub(crate) fn instant(&self, query: &str, at: Timestamp) -> Outcome {
        guarded(|| {
            let value = compile(query)?.evaluate(self, at, &Options::default());
            Ok(match value.map_err(failed)? {
                Value::Scalar(value) => Answer::Scalar(value),
                Value::String(text) => Answer::String(text),
                Value::Vector(points) => {
                    let points = points.into_iter().map(|point| (point.labels, point.value));
                    Answer::Vector(points.collect())
                }
                Value::Matrix(series) => Answer::Matrix(series.into_iter().map(matrix).collect()),
            })
        })
    }

    pub(crate) fn range(&self, query: &str, range: Range) -> Outcome {
        guarded(|| {
            let query = compile(query)?;
            if matches!(query.result_type(), ResultType::String | ResultType::Matrix) {
                return Err(Refusal::Query("no type for a range".to_owned()));
            }
            let series = query.evaluate_range(self, range, &Options::default());
            let series = series.map_err(failed)?.into_iter().map(matrix);
            Ok(Answer::Matrix(series.collect()))
        })
    }
}

fn matrix(series: promql::Series) -> (Labels, Vec<(i64, f64)>) {
    let sample = |sample: Sample| (sample.timestamp.as_millis(), sample.value);
    (
        series.labels,
        series.samples.into_iter().map(sample).collect(),
    )
}

fn failed(error: EvalError) -> Refusal {
    Refusal::Execution(error.to_string())
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
