//! Aggregation operators: how a group of values becomes one.

use crate::model::time::Timestamp;

/// An aggregation operator without parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Avg,
    Sum,
    Min,
    Max,
    Count,
    Group,
}

/// A group while its values come in, as `promql/engine.go` keeps it.
#[derive(Debug)]
pub(super) struct Group {
    op: Operator,
    count: u32,
    /// Sum, minimum or maximum so far; the mean once the sum has overflowed.
    value: f64,
    /// What the sum lost to rounding (Kahan-Neumaier).
    compensation: f64,
    incremental: bool,
    oldest: Timestamp,
}

impl Group {
    pub(super) fn new(op: Operator, value: f64, oldest: Timestamp) -> Self {
        Self {
            op,
            count: 1,
            value,
            compensation: 0.0,
            incremental: false,
            oldest,
        }
    }

    pub(super) fn add(&mut self, value: f64, oldest: Timestamp) {
        self.count += 1;
        self.oldest = self.oldest.min(oldest);
        match self.op {
            Operator::Sum => {
                (self.value, self.compensation) = kahan(value, self.value, self.compensation)
            }
            Operator::Avg => self.average(value),
            // A NaN gives way to any other value.
            Operator::Min => {
                if self.value > value || self.value.is_nan() {
                    self.value = value;
                }
            }
            Operator::Max => {
                if self.value < value || self.value.is_nan() {
                    self.value = value;
                }
            }
            Operator::Count | Operator::Group => {}
        }
    }

    /// Sums as long as the sum is finite, then goes on with a running mean, as Prometheus does.
    fn average(&mut self, value: f64) {
        let count = f64::from(self.count);
        if !self.incremental {
            let (sum, compensation) = kahan(value, self.value, self.compensation);
            if !sum.is_infinite() || self.value.is_infinite() || value.is_infinite() {
                (self.value, self.compensation) = (sum, compensation);
                return;
            }
            self.incremental = true;
            self.value /= count - 1.0;
            self.compensation /= count - 1.0;
        }
        let step = (count - 1.0) / count;
        let (mean, compensation) =
            kahan(value / count, step * self.value, step * self.compensation);
        (self.value, self.compensation) = (mean, compensation);
    }

    pub(super) fn finish(self) -> (f64, Timestamp) {
        let value = match self.op {
            Operator::Avg if !self.incremental => {
                let count = f64::from(self.count);
                self.value / count + self.compensation / count
            }
            Operator::Avg | Operator::Sum => self.value + self.compensation,
            Operator::Min | Operator::Max => self.value,
            Operator::Count => f64::from(self.count),
            Operator::Group => 1.0,
        };
        (value, self.oldest)
    }
}

/// One step of a Kahan-Neumaier sum: the new sum, and what it lost so far.
fn kahan(value: f64, sum: f64, compensation: f64) -> (f64, f64) {
    let total = sum + value;
    if total.is_infinite() {
        return (total, 0.0);
    }
    let lost = if sum.abs() >= value.abs() {
        (sum - total) + value
    } else {
        (value - total) + sum
    };
    (total, compensation + lost)
}
