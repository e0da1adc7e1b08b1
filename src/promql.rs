//! Evaluation of a parsed PromQL query over a [`SeriesReader`].
//!
//! The grammar is promql-parser's; what an expression means is ours, and it means what Prometheus 3 means by it. A query
//! is compiled once ([`Query::compile`]) and evaluated often. What the evaluator does not know is refused, by name, when
//! the query is compiled.

mod aggregate;
mod compile;
mod eval;

pub use compile::{QueryError, parse_selector};

use std::time::Duration;

use crate::model::labels::Labels;
use crate::model::matcher::Matcher;
use crate::model::sample::Sample;
use crate::model::time::Timestamp;

use compile::Node;

/// Where an evaluation reads its series.
pub trait SeriesReader {
    /// Calls `visit` with each series that meets all `matchers`: its labels, and its samples in two runs that follow one
    /// another, oldest first.
    fn select(&self, matchers: &[Matcher], visit: &mut dyn FnMut(&Labels, [&[Sample]; 2]));
}

/// A query, ready to be evaluated.
#[derive(Debug)]
pub struct Query {
    root: Node,
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

impl Query {
    /// Parses and checks a query.
    ///
    /// # Errors
    /// Where it is not PromQL, or uses what the evaluator does not know.
    pub fn compile(text: &str) -> Result<Self, QueryError> {
        compile::compile(text).map(|root| Self { root })
    }

    /// The instant vector at `at`. A series counts with its last sample of the `lookback` before that, unless it ended
    /// since; the lookback's start is not part of it (Prometheus 3, `promql/engine.go`, left-open ranges).
    pub fn instant(
        &self,
        reader: &dyn SeriesReader,
        at: Timestamp,
        lookback: Duration,
    ) -> Vec<Point> {
        eval::instant(&self.root, reader, at, lookback)
    }

    /// The matchers of every selector in the query: which series it reads.
    pub fn selectors(&self) -> Vec<&[Matcher]> {
        let mut node = &self.root;
        loop {
            match node {
                Node::Selector(matchers) => return vec![matchers],
                Node::Aggregate { inner, .. } => node = inner,
            }
        }
    }
}

#[cfg(test)]
mod tests;
