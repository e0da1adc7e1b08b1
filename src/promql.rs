//! Evaluation of PromQL queries over a [`SeriesReader`].
//!
//! The grammar is promql-parser's; what an expression means is ours, and it means what Prometheus 3 means by it. A query
//! is compiled once ([`Query::compile`]) and evaluated often. What the evaluator does not know is refused, by name, when
//! the query is compiled. Every value carries the time of the oldest sample behind it.

mod aggregate;
mod binary;
mod compile;
mod date;
mod evaluate;
mod grouping;
mod histogram;
mod math;
mod natural;
mod plan;
mod range;
mod sum;

pub use compile::parse_selector;

use std::time::{Duration, Instant};

use crate::model::labels::Labels;
use crate::model::matcher::Matcher;
use crate::model::sample::Sample;
use crate::model::time::Timestamp;

use plan::Plan;

/// Where an evaluation reads its series.
pub trait SeriesReader {
    /// Calls `visit` with each series that meets all `matchers`: its labels, and its samples, oldest first: at least those
    /// that are wanted. No two series have the same labels.
    fn select(
        &self,
        matchers: &[Matcher],
        wanted: Wanted,
        visit: &mut dyn FnMut(&Labels, &[Sample]),
    );
}

/// Which of a series' samples an evaluation looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Of those up to this time, the newest one.
    Latest(Timestamp),
    /// Those later than `after`, up to `until`.
    Between {
        /// The time before the first one.
        after: Timestamp,
        /// The time of the last one, at most.
        until: Timestamp,
    },
}

impl Wanted {
    /// Those of `samples`, which are a series' in the order of time, that are wanted.
    pub fn of(self, samples: &[Sample]) -> &[Sample] {
        let up_to = |time| samples.partition_point(|sample| sample.timestamp <= time);
        match self {
            Self::Latest(at) => &samples[up_to(at).saturating_sub(1)..up_to(at)],
            Self::Between { after, until } => {
                &samples[up_to(after)..up_to(until).max(up_to(after))]
            }
        }
    }
}

/// Why a query cannot be evaluated at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// It is not PromQL. The text is the parser's.
    #[error("`{query}` is not PromQL: {reason}")]
    Syntax {
        /// The query.
        query: String,
        /// What the parser says, after the place where it can be told (`1:5: parse error: …`).
        reason: String,
    },
    /// It is PromQL by its grammar, and something in it has the wrong type.
    #[error("`{query}` makes no sense: {reason}")]
    Type {
        /// The query.
        query: String,
        /// What was expected, in Prometheus's words.
        reason: String,
    },
    /// It is PromQL that the embedded engine does not evaluate.
    #[error("`{query}` needs {what}, which the embedded engine does not evaluate")]
    Unsupported {
        /// The query.
        query: String,
        /// The construct, such as ``the function `info` ``.
        what: String,
    },
}

/// Why one evaluation has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// It would hold more samples in memory than [`Options::max_samples`].
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples,
    /// [`Options::deadline`] passed.
    #[error("query timed out in expression evaluation")]
    Timeout,
    /// What the samples are makes the query impossible, such as two elements that match one. The text is Prometheus's.
    #[error("{0}")]
    Execution(String),
}

/// The bounds of an evaluation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How old the last sample of a series may be for the series to count.
    pub lookback: Duration,
    /// Most samples held in memory at a time.
    pub max_samples: usize,
    /// When to give up.
    pub deadline: Option<Instant>,
}

impl Default for Options {
    /// Prometheus's: 5 minutes, 50,000,000 samples; and no deadline.
    fn default() -> Self {
        Self {
            lookback: Duration::from_secs(300),
            max_samples: 50_000_000,
            deadline: None,
        }
    }
}

/// The times of a range query: from `start` up to `end`, `step` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first time.
    pub start: Timestamp,
    /// The last time, if a whole number of steps leads there.
    pub end: Timestamp,
    /// At least a millisecond.
    pub step: Duration,
}

/// What kind of value a query has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultType {
    /// A number.
    Scalar,
    /// A text.
    String,
    /// Labelled values at one time.
    Vector,
    /// Series of samples.
    Matrix,
}

/// The result of an instant query.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Scalar(f64),
    /// A text.
    String(String),
    /// Labelled values at one time. Ordered only where the query orders them.
    Vector(Vec<Point>),
    /// Series of samples, in the order of their labels.
    Matrix(Vec<Series>),
}

/// One element of an instant vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// What it is the value of.
    pub labels: Labels,
    /// The value; may be NaN or infinite.
    pub value: f64,
    /// The time of the oldest sample that went into the value: Prometheus forgets it, and an autoscaler needs it.
    pub oldest: Timestamp,
}

/// Samples under one set of labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What they are samples of.
    pub labels: Labels,
    /// Oldest first; at least one.
    pub samples: Vec<Sample>,
}

/// A query, ready to be evaluated.
#[derive(Debug)]
pub struct Query {
    plan: Plan,
}

impl Query {
    /// Parses and checks a query.
    ///
    /// # Errors
    /// Where it is not PromQL, or uses what the evaluator does not know.
    pub fn compile(text: &str) -> Result<Self, QueryError> {
        compile::compile(text).map(|plan| Self { plan })
    }

    /// What kind of value it has.
    pub fn result_type(&self) -> ResultType {
        match &self.plan {
            Plan::Scalar(_) => ResultType::Scalar,
            Plan::String(_) => ResultType::String,
            Plan::Vector(_) => ResultType::Vector,
            Plan::Matrix(_) => ResultType::Matrix,
        }
    }

    /// The value at one time.
    ///
    /// # Errors
    /// Where the evaluation passes a bound, or the samples make it impossible.
    pub fn evaluate(
        &self,
        reader: &dyn SeriesReader,
        at: Timestamp,
        options: &Options,
    ) -> Result<Value, EvalError> {
        evaluate::instant(&self.plan, reader, at, options)
    }

    /// The values at each time of a range, in the order of their labels.
    ///
    /// # Errors
    /// Where the evaluation passes a bound, the samples make it impossible, or the query is neither a number nor an
    /// instant vector.
    pub fn evaluate_range(
        &self,
        reader: &dyn SeriesReader,
        range: Range,
        options: &Options,
    ) -> Result<Vec<Series>, EvalError> {
        evaluate::range(&self.plan, reader, range, options)
    }

    /// The instant vector at `at`, as rules need it. A series counts with its last sample of the `lookback` before that,
    /// unless it ended since; the lookback's start is not part of it (Prometheus 3, `promql/engine.go`, left-open ranges).
    ///
    /// # Errors
    /// As [`Query::evaluate`], and where the query is no instant vector.
    pub fn instant(
        &self,
        reader: &dyn SeriesReader,
        at: Timestamp,
        lookback: Duration,
    ) -> Result<Vec<Point>, EvalError> {
        let options = Options {
            lookback,
            ..Options::default()
        };
        match self.evaluate(reader, at, &options)? {
            Value::Vector(points) => Ok(points),
            Value::Scalar(_) | Value::String(_) | Value::Matrix(_) => Err(EvalError::Execution(
                "an instant vector is needed here, with labels that name objects".to_owned(),
            )),
        }
    }

    /// The matchers of every selector in the query: which series it reads.
    pub fn selectors(&self) -> Vec<&[Matcher]> {
        self.plan.selectors()
    }

    /// How far before its time the query reads, ranges, offsets and subqueries included; the look-back comes on top.
    pub fn longest_range(&self) -> Duration {
        self.plan.longest_range()
    }
}

#[cfg(test)]
mod tests;
