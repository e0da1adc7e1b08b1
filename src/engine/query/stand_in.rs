//! Instant vectors only, until the evaluator has the rest.

use std::time::{Duration, Instant};

use crate::model::labels::Labels;
use crate::model::sample::Sample;
use crate::model::time::Timestamp;
use crate::promql::{self, Point, QueryError, SeriesReader};

/// The value of a query.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Scalar(f64),
    /// A text.
    String(String),
    /// One value of each series.
    Vector(Vec<Point>),
    /// Values of each series.
    Matrix(Vec<Series>),
}

/// A series of a result.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What it is.
    pub labels: Labels,
    /// Its samples.
    pub samples: Vec<Sample>,
}

/// A range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// First.
    pub start: Timestamp,
    /// Last.
    pub end: Timestamp,
    /// Between.
    pub step: Duration,
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// Samples.
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples,
    /// Time.
    #[error("query timed out in expression evaluation")]
    Timeout,
    /// Other.
    #[error("{0}")]
    Execution(String),
}

pub(super) struct Options {
    pub(super) lookback: Duration,
    pub(super) max_samples: usize,
    pub(super) deadline: Option<Instant>,
}

pub(super) struct Query(promql::Query);

impl Query {
    pub(super) fn compile(text: &str) -> Result<Self, QueryError> {
        promql::Query::compile(text).map(Self)
    }

    pub(super) fn evaluate(
        &self,
        reader: &dyn SeriesReader,
        at: Timestamp,
        options: &Options,
    ) -> Result<Value, EvalError> {
        let points = self.0.instant(reader, at, options.lookback);
        if points.len() > options.max_samples {
            return Err(EvalError::TooManySamples);
        }
        if options
            .deadline
            .is_some_and(|deadline| Instant::now() > deadline)
        {
            return Err(EvalError::Timeout);
        }
        Ok(Value::Vector(points))
    }

    pub(super) fn evaluate_range(
        &self,
        reader: &dyn SeriesReader,
        range: Range,
        options: &Options,
    ) -> Result<Vec<Series>, EvalError> {
        let mut all: std::collections::BTreeMap<Labels, Vec<Sample>> = Default::default();
        let mut at = range.start;
        while at <= range.end {
            if let Value::Vector(points) = self.evaluate(reader, at, options)? {
                for point in points {
                    all.entry(point.labels)
                        .or_default()
                        .push(Sample::new(at, point.value));
                }
            }
            at = at.plus(range.step);
        }
        Ok(all
            .into_iter()
            .map(|(labels, samples)| Series { labels, samples })
            .collect())
    }
}
