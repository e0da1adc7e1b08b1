//! Aggregation operators: how the values of a group become one, as `promql/engine.go` does it.

use crate::model::time::Timestamp;

use super::sum::{Mean, Sum, quantile};

/// An aggregation operator that makes one value of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Avg,
    Sum,
    Min,
    Max,
    Count,
    Group,
    StdDev,
    StdVar,
    Quantile,
}

/// An aggregation operator that keeps some of a group's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    Top,
    Bottom,
    /// Any; here the first in the order of the labels.
    Any,
}

/// A group while its values come in.
#[derive(Debug)]
pub(super) struct Group {
    state: State,
    count: f64,
    oldest: Timestamp,
}

#[derive(Debug)]
enum State {
    Mean(Mean),
    Sum(Sum),
    Min(f64),
    Max(f64),
    Count,
    Group,
    /// Welford's running mean and sum of squares.
    Spread {
        mean: f64,
        squares: f64,
        is_root: bool,
    },
    Values(Vec<f64>),
}

impl Group {
    pub(super) fn new(operator: Operator, value: f64, oldest: Timestamp) -> Self {
        let spread = |is_root| State::Spread {
            mean: value,
            squares: if value.is_finite() { 0.0 } else { f64::NAN },
            is_root,
        };
        let state = match operator {
            Operator::Avg => State::Mean(Mean::of(value)),
            Operator::Sum => State::Sum(Sum {
                total: value,
                lost: 0.0,
            }),
            Operator::Min => State::Min(value),
            Operator::Max => State::Max(value),
            Operator::Count => State::Count,
            Operator::Group => State::Group,
            Operator::StdDev => spread(true),
            Operator::StdVar => spread(false),
            Operator::Quantile => State::Values(vec![value]),
        };
        Self {
            state,
            count: 1.0,
            oldest,
        }
    }

    pub(super) fn add(&mut self, value: f64, oldest: Timestamp) {
        self.count += 1.0;
        self.oldest = self.oldest.min(oldest);
        match &mut self.state {
            State::Mean(mean) => mean.add(value),
            State::Sum(sum) => *sum = sum.plus(value),
            // A NaN gives way to any other value.
            State::Min(least) => {
                if *least > value || least.is_nan() {
                    *least = value;
                }
            }
            State::Max(most) => {
                if *most < value || most.is_nan() {
                    *most = value;
                }
            }
            State::Count | State::Group => {}
            State::Spread { mean, squares, .. } => {
                let delta = value - *mean;
                *mean += delta / self.count;
                *squares += delta * (value - *mean);
            }
            State::Values(values) => values.push(value),
        }
    }

    /// The group's value; `parameter` is the `q` of `quantile`.
    pub(super) fn finish(self, parameter: f64) -> (f64, Timestamp) {
        let value = match self.state {
            State::Mean(mean) => mean.value(),
            State::Sum(sum) => sum.total + sum.lost,
            State::Min(value) | State::Max(value) => value,
            State::Count => self.count,
            State::Group => 1.0,
            State::Spread {
                squares, is_root, ..
            } => {
                let variance = squares / self.count;
                if is_root { variance.sqrt() } else { variance }
            }
            State::Values(mut values) => quantile(parameter, &mut values),
        };
        (value, self.oldest)
    }
}
