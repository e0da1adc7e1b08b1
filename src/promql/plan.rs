//! A compiled query: what is evaluated, with every type settled.
//!
//! Made only by [`super::compile`]; nothing changes it afterwards.

use std::time::Duration;

use crate::model::labels::Labels;
use crate::model::matcher::Matcher;
use crate::model::time::Timestamp;

use super::aggregate::{Operator as AggregateOperator, Rank};
use super::binary::{Matching, Operator, SetOperator};
use super::date::DatePart;
use super::grouping::Grouping;
use super::range::Function as RangeFunction;

/// A whole query, by the type of its result.
#[derive(Debug)]
pub(super) enum Plan {
    Scalar(Scalar),
    String(String),
    Vector(Vector),
    Matrix(Ranged),
}

/// What has one number at each time.
#[derive(Debug)]
pub(super) enum Scalar {
    Number(f64),
    Time,
    Negate(Box<Scalar>),
    Binary(Operator, Box<Scalar>, Box<Scalar>),
    /// The value of a vector of one element, else NaN.
    Of(Box<Vector>),
    /// The larger (or smaller) of two.
    Largest(Box<Scalar>, Box<Scalar>),
    Smallest(Box<Scalar>, Box<Scalar>),
}

/// What has any number of labelled values at each time.
#[derive(Debug)]
pub(super) enum Vector {
    /// A call that Prometheus, too, refuses only when it comes to it.
    Fault(String),
    Select(Selector),
    /// The times of a selector's samples (`timestamp(x)`).
    SampleTimes(Selector),
    /// The evaluation times of any other vector's elements (`timestamp(x + 1)`).
    Times(Box<Vector>),
    /// A function of each series' samples in a range.
    Range {
        function: RangeFunction,
        over: Ranged,
        arguments: Vec<Scalar>,
    },
    /// One element where a range has no sample at all.
    AbsentOverTime {
        over: Ranged,
        labels: Labels,
    },
    /// One element where a vector has none.
    Absent {
        of: Box<Vector>,
        labels: Labels,
    },
    Aggregate {
        operator: AggregateOperator,
        grouping: Grouping,
        /// The `q` of `quantile`.
        parameter: Option<Scalar>,
        of: Box<Vector>,
    },
    /// Aggregations that keep elements as they are (`topk`, `bottomk`, `limitk`).
    Ranked {
        rank: Rank,
        grouping: Grouping,
        count: Scalar,
        of: Box<Vector>,
    },
    CountValues {
        label: String,
        grouping: Grouping,
        of: Box<Vector>,
    },
    /// A function of each element's value.
    Map {
        function: MapFunction,
        of: Box<Vector>,
        arguments: Vec<Scalar>,
    },
    /// `vector(s)`.
    Constant(Box<Scalar>),
    /// A part of the evaluation time (`hour()`).
    Today(DatePart),
    /// `histogram_quantile` over classic buckets.
    HistogramQuantile {
        quantile: Scalar,
        of: Box<Vector>,
    },
    LabelReplace {
        of: Box<Vector>,
        target: String,
        replacement: String,
        source: String,
        pattern: regex::Regex,
    },
    LabelJoin {
        of: Box<Vector>,
        target: String,
        separator: String,
        sources: Vec<String>,
    },
    Sort {
        of: Box<Vector>,
        by: SortKey,
        descending: bool,
    },
    /// An operator between each element and a number.
    WithScalar {
        operator: Operator,
        vector: Box<Vector>,
        scalar: Scalar,
        /// Whether the number stands on the left.
        swapped: bool,
        /// Comparisons give 0 or 1 and filter nothing.
        returns_bool: bool,
    },
    /// An operator between elements that match.
    Matched {
        operator: Operator,
        left: Box<Vector>,
        right: Box<Vector>,
        matching: Matching,
        returns_bool: bool,
    },
    /// `and`, `or`, `unless`.
    Set {
        operator: SetOperator,
        left: Box<Vector>,
        right: Box<Vector>,
        grouping: Grouping,
    },
}

/// A function from an element's value to its new value; the metric's name goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum MapFunction {
    Math(fn(f64) -> f64),
    Date(DatePart),
    Clamp,
    ClampMin,
    ClampMax,
    Round,
}

/// What a vector is sorted by.
#[derive(Debug)]
pub(super) enum SortKey {
    Value,
    Labels(Vec<String>),
}

/// `metric{…} offset … @ …`
#[derive(Debug)]
pub(super) struct Selector {
    pub(super) matchers: Vec<Matcher>,
    pub(super) shift: Shift,
}

/// The modifiers `offset` and `@`: which time is looked at instead of the evaluation's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shift {
    /// Milliseconds into the past; negative is the future.
    pub(super) offset: i64,
    pub(super) at: Option<At>,
}

/// The argument of `@`.
#[derive(Clone, Copy, Debug)]
pub(super) enum At {
    Time(Timestamp),
    /// The start of the query's range, or its only time.
    Start,
    /// The end of the query's range, or its only time.
    End,
}

/// Samples of a range: `x[5m]`, or the results of an inner query `expr[1h:5m]`.
#[derive(Debug)]
pub(super) struct Ranged {
    pub(super) source: RangeSource,
    /// Milliseconds; at least one.
    pub(super) range: i64,
    pub(super) shift: Shift,
}

/// Where a range's samples come from.
#[derive(Debug)]
pub(super) enum RangeSource {
    Samples(Vec<Matcher>),
    Subquery {
        of: Box<Vector>,
        /// Milliseconds between its evaluations; at least one.
        step: i64,
    },
}

impl Selector {
    /// Whether all its series have one name, so that dropping the name cannot make two of them alike.
    pub(super) fn pins_name(matchers: &[Matcher]) -> bool {
        use crate::model::labels::METRIC_NAME;
        use crate::model::matcher::MatchOp;
        let pins =
            |matcher: &Matcher| matcher.name == METRIC_NAME && matches!(matcher.op, MatchOp::Equal);
        matchers.iter().any(pins)
    }
}

/// Anything an expression consists of.
#[derive(Clone, Copy)]
enum Part<'a> {
    Scalar(&'a Scalar),
    Vector(&'a Vector),
    Selector(&'a Selector),
    Ranged(&'a Ranged),
}

impl Plan {
    /// The matchers of every selector, in the order in which they are written.
    pub(super) fn selectors(&self) -> Vec<&[Matcher]> {
        let mut found = Vec::new();
        self.walk(0, &mut |part, _| match part {
            Part::Selector(selector) => found.push(selector.matchers.as_slice()),
            Part::Ranged(ranged) => {
                if let RangeSource::Samples(matchers) = &ranged.source {
                    found.push(matchers.as_slice());
                }
            }
            Part::Scalar(_) | Part::Vector(_) => {}
        });
        found
    }

    /// How far before its time the query looks back for samples, without the look-back itself.
    pub(super) fn longest_range(&self) -> Duration {
        let mut longest = 0;
        self.walk(0, &mut |part, before| {
            let here = match part {
                Part::Selector(selector) => selector.shift.offset,
                Part::Ranged(ranged) => ranged.shift.offset.saturating_add(ranged.range),
                Part::Scalar(_) | Part::Vector(_) => 0,
            };
            longest = longest.max(before.saturating_add(here));
        });
        Duration::from_millis(u64::try_from(longest).unwrap_or(0))
    }

    /// Calls `visit` with every part and with how many milliseconds earlier enclosing subqueries evaluate it.
    fn walk<'a>(&'a self, before: i64, visit: &mut dyn FnMut(Part<'a>, i64)) {
        match self {
            Self::Scalar(scalar) => Part::Scalar(scalar).walk(before, visit),
            Self::Vector(vector) => Part::Vector(vector).walk(before, visit),
            Self::Matrix(ranged) => Part::Ranged(ranged).walk(before, visit),
            Self::String(_) => {}
        }
    }
}

impl<'a> Part<'a> {
    fn walk(self, before: i64, visit: &mut dyn FnMut(Part<'a>, i64)) {
        visit(self, before);
        let inner = match self {
            Part::Ranged(ranged) => {
                before.saturating_add(ranged.range.saturating_add(ranged.shift.offset))
            }
            _ => before,
        };
        for child in self.children() {
            child.walk(inner, visit);
        }
    }

    fn children(self) -> Vec<Part<'a>> {
        use Part::{Ranged as R, Scalar as S, Selector as L, Vector as V};
        match self {
            S(scalar) => match scalar {
                Scalar::Number(_) | Scalar::Time => vec![],
                Scalar::Negate(of) => vec![S(of)],
                Scalar::Binary(_, left, right)
                | Scalar::Largest(left, right)
                | Scalar::Smallest(left, right) => vec![S(left), S(right)],
                Scalar::Of(of) => vec![V(of)],
            },
            V(vector) => match vector {
                Vector::Select(selector) | Vector::SampleTimes(selector) => vec![L(selector)],
                Vector::Range {
                    over, arguments, ..
                } => {
                    let arguments = arguments.iter().map(S);
                    std::iter::once(R(over)).chain(arguments).collect()
                }
                Vector::AbsentOverTime { over, .. } => vec![R(over)],
                Vector::Aggregate { parameter, of, .. } => {
                    parameter.iter().map(S).chain([V(of)]).collect()
                }
                Vector::Ranked { count, of, .. } => vec![S(count), V(of)],
                Vector::Map { of, arguments, .. } => std::iter::once(V(of))
                    .chain(arguments.iter().map(S))
                    .collect(),
                Vector::Constant(of) => vec![S(of)],
                Vector::Today(_) | Vector::Fault(_) => vec![],
                Vector::HistogramQuantile { quantile, of } => vec![S(quantile), V(of)],
                Vector::WithScalar { vector, scalar, .. } => vec![V(vector), S(scalar)],
                Vector::Matched { left, right, .. } | Vector::Set { left, right, .. } => {
                    vec![V(left), V(right)]
                }
                Vector::Times(of)
                | Vector::Absent { of, .. }
                | Vector::CountValues { of, .. }
                | Vector::LabelReplace { of, .. }
                | Vector::LabelJoin { of, .. }
                | Vector::Sort { of, .. } => vec![V(of)],
            },
            L(_) => vec![],
            R(ranged) => match &ranged.source {
                RangeSource::Samples(_) => vec![],
                RangeSource::Subquery { of, .. } => vec![V(of)],
            },
        }
    }

    /// Whether it has the same value whenever it is evaluated, so that once is enough. Prometheus decides by the same
    /// rules (`promql/engine.go`, `preprocessExprHelper`), and its results depend on them: the parameter of an
    /// aggregation counts only at the start where what is aggregated does not change.
    fn is_invariant(self) -> bool {
        match self {
            Part::Selector(selector) => selector.shift.at.is_some(),
            Part::Ranged(ranged) => ranged.shift.at.is_some(),
            Part::Scalar(Scalar::Time)
            | Part::Vector(
                Vector::Today(_)
                | Vector::Times(_)
                | Vector::Map {
                    function: MapFunction::Date(_),
                    ..
                }
                | Vector::Range {
                    function: RangeFunction::PredictLinear,
                    ..
                },
            ) => false,
            Part::Vector(Vector::Aggregate { of, .. } | Vector::Ranked { of, .. }) => {
                Part::Vector(of).is_invariant()
            }
            _ => self.children().into_iter().all(Part::is_invariant),
        }
    }
}

impl Vector {
    /// Whether it has the same value whenever it is evaluated.
    pub(super) fn is_invariant(&self) -> bool {
        Part::Vector(self).is_invariant()
    }
}
