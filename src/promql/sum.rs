//! Arithmetic whose last digits and special cases must be Prometheus's.

/// A Kahan-Neumaier sum (`util/kahansum` in Prometheus).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    pub(super) total: f64,
    /// What `total` lost to rounding.
    pub(super) lost: f64,
}

impl Sum {
    /// The sum with one more value.
    #[must_use]
    pub(super) fn plus(self, value: f64) -> Self {
        let total = self.total + value;
        let lost = if total.is_infinite() {
            0.0
        } else if self.total.abs() >= value.abs() {
            self.lost + ((self.total - total) + value)
        } else {
            self.lost + ((value - total) + self.total)
        };
        Self { total, lost }
    }

    /// The sum, made `factor` times as large.
    #[must_use]
    fn times(self, factor: f64) -> Self {
        Self {
            total: self.total * factor,
            lost: self.lost * factor,
        }
    }

    pub(super) fn value(self) -> f64 {
        if self.total.is_infinite() {
            self.total
        } else {
            self.total + self.lost
        }
    }
}

/// A mean that sums as long as the sum is finite, then goes on as a running mean, as Prometheus's `avg` does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mean {
    sum: Sum,
    count: f64,
    is_running: bool,
}

impl Mean {
    pub(super) fn of(first: f64) -> Self {
        Self {
            sum: Sum {
                total: first,
                lost: 0.0,
            },
            count: 1.0,
            is_running: false,
        }
    }

    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.is_running {
            let sum = self.sum.plus(value);
            if !sum.total.is_infinite() {
                self.sum = sum;
                return;
            }
            self.is_running = true;
            self.sum.total /= self.count - 1.0;
            self.sum.lost /= self.count - 1.0;
        }
        let share = (self.count - 1.0) / self.count;
        self.sum = self.sum.times(share).plus(value / self.count);
    }

    pub(super) fn value(self) -> f64 {
        if self.is_running {
            self.sum.total + self.sum.lost
        } else {
            self.sum.total / self.count + self.sum.lost / self.count
        }
    }
}

/// The `q`-quantile of `values`, which get sorted; NaN sorts first (`promql/quantile.go`, `quantile`).
pub(super) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_by(|a, b| match (a.is_nan(), b.is_nan()) {
        (false, false) => a.total_cmp(b),
        (a, b) => b.cmp(&a),
    });
    let last = values.len() - 1;
    #[expect(clippy::cast_precision_loss, reason = "no query holds 2^53 values")]
    let rank = q * last as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank lies between 0 and the last index"
    )]
    let lower = (rank.floor() as usize).min(last);
    let upper = (lower + 1).min(last);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}

/// Go's `math.Max`: NaN wins over all but +Inf.
pub(super) fn max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

/// Go's `math.Min`: NaN wins over all but -Inf.
pub(super) fn min(a: f64, b: f64) -> f64 {
    -max(-a, -b)
}
