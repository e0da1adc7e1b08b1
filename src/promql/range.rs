//! Functions of one series' samples in a range: the counters' (`rate` and its kin), and what each function has in common.
//!
//! A range is open at its start and closed at its end. What a function means is fixed by `promql/functions.go`.

mod over_time;
mod trend;

use crate::model::sample::Sample;

use super::EvalError;

/// A function of the samples in a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
    Changes,
    Resets,
    Deriv,
    PredictLinear,
    DoubleExponentialSmoothing,
    Avg,
    Sum,
    Min,
    Max,
    Count,
    Quantile,
    StdDev,
    StdVar,
    Mad,
    First,
    Last,
    Present,
    TimeOfFirst,
    TimeOfLast,
    TimeOfMin,
    TimeOfMax,
}

/// The samples of one series in one range, at least one, without stale markers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window<'a> {
    pub(super) samples: &'a [Sample],
    /// Milliseconds since the epoch; not part of the range.
    pub(super) start: i64,
    /// Milliseconds since the epoch; part of the range.
    pub(super) end: i64,
    /// The evaluation's time, which `offset` and `@` tell from the range's end.
    pub(super) at: i64,
    pub(super) arguments: &'a [f64],
}

impl Function {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "rate" => Self::Rate,
            "increase" => Self::Increase,
            "delta" => Self::Delta,
            "irate" => Self::Irate,
            "idelta" => Self::Idelta,
            "changes" => Self::Changes,
            "resets" => Self::Resets,
            "deriv" => Self::Deriv,
            "predict_linear" => Self::PredictLinear,
            "double_exponential_smoothing" => Self::DoubleExponentialSmoothing,
            "avg_over_time" => Self::Avg,
            "sum_over_time" => Self::Sum,
            "min_over_time" => Self::Min,
            "max_over_time" => Self::Max,
            "count_over_time" => Self::Count,
            "quantile_over_time" => Self::Quantile,
            "stddev_over_time" => Self::StdDev,
            "stdvar_over_time" => Self::StdVar,
            "mad_over_time" => Self::Mad,
            "first_over_time" => Self::First,
            "last_over_time" => Self::Last,
            "present_over_time" => Self::Present,
            "ts_of_first_over_time" => Self::TimeOfFirst,
            "ts_of_last_over_time" => Self::TimeOfLast,
            "ts_of_min_over_time" => Self::TimeOfMin,
            "ts_of_max_over_time" => Self::TimeOfMax,
            _ => return None,
        })
    }

    /// Whether the result is still the same metric.
    pub(super) fn keeps_name(self) -> bool {
        matches!(self, Self::First | Self::Last)
    }

    /// Which of a window's samples go into the value.
    pub(super) fn uses(self, samples: usize) -> std::ops::Range<usize> {
        match self {
            Self::Irate | Self::Idelta => samples.saturating_sub(2)..samples,
            Self::Last | Self::TimeOfLast => samples.saturating_sub(1)..samples,
            Self::First | Self::TimeOfFirst => 0..samples.min(1),
            _ => 0..samples,
        }
    }

    /// The value; `None` where there are too few samples for one.
    ///
    /// # Errors
    /// Where an argument is outside of what the function accepts.
    pub(super) fn apply(self, window: &Window<'_>) -> Result<Option<f64>, EvalError> {
        let samples = window.samples;
        Ok(match self {
            Self::Rate => extrapolated(window, true, true),
            Self::Increase => extrapolated(window, true, false),
            Self::Delta => extrapolated(window, false, false),
            Self::Irate => last_step(samples, true),
            Self::Idelta => last_step(samples, false),
            Self::Changes => Some(count_pairs(samples, |a, b| {
                a != b && !(a.is_nan() && b.is_nan())
            })),
            Self::Resets => Some(count_pairs(samples, |a, b| b < a)),
            Self::Deriv => trend::deriv(samples),
            Self::PredictLinear => trend::predict(window),
            Self::DoubleExponentialSmoothing => trend::smooth(window)?,
            _ => over_time::aggregate(self, window),
        })
    }
}

/// `rate`, `increase` and `delta`: the change between the first and the last sample, extrapolated to the whole range
/// where the samples come close enough to its ends (`extrapolatedRate`).
fn extrapolated(window: &Window<'_>, is_counter: bool, per_second: bool) -> Option<f64> {
    let [first, .., last] = window.samples else {
        return None;
    };
    let mut change = last.value - first.value;
    if is_counter {
        let resets = window
            .samples
            .windows(2)
            .filter(|pair| pair[1].value < pair[0].value);
        for pair in resets {
            change += pair[0].value;
        }
    }
    let (first_at, last_at) = (first.timestamp.as_millis(), last.timestamp.as_millis());
    let sampled = seconds(last_at - first_at);
    let between = sampled / count(window.samples.len() - 1);
    let threshold = between * 1.1;
    let mut to_start = seconds(first_at - window.start);
    let mut to_end = seconds(window.end - last_at);
    if to_start >= threshold {
        to_start = between / 2.0;
    }
    if is_counter && change > 0.0 && first.value >= 0.0 {
        // A counter does not start below zero.
        let to_zero = sampled * (first.value / change);
        if to_zero < to_start {
            to_start = to_zero;
        }
    }
    if to_end >= threshold {
        to_end = between / 2.0;
    }
    let mut factor = 1.0;
    if sampled != 0.0 {
        factor = (sampled + to_start + to_end) / sampled;
    }
    if per_second {
        factor /= seconds(window.end - window.start);
    }
    Some(change * factor)
}

/// `irate` and `idelta`: the change between the last two samples.
fn last_step(samples: &[Sample], is_rate: bool) -> Option<f64> {
    let [.., before, last] = samples else {
        return None;
    };
    let was_reset = is_rate && last.value < before.value;
    let change = if was_reset {
        last.value
    } else {
        last.value - before.value
    };
    let apart = last.timestamp.as_millis() - before.timestamp.as_millis();
    match (apart, is_rate) {
        (0, _) => None,
        (_, true) => Some(change / seconds(apart)),
        (_, false) => Some(change),
    }
}

fn count_pairs(samples: &[Sample], counts: impl Fn(f64, f64) -> bool) -> f64 {
    let pairs = samples.windows(2);
    count(
        pairs
            .filter(|pair| counts(pair[0].value, pair[1].value))
            .count(),
    )
}

#[expect(
    clippy::cast_precision_loss,
    reason = "times and ranges are far below 2^53 ms"
)]
pub(super) fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "no query holds 2^53 samples")]
pub(super) fn count(samples: usize) -> f64 {
    samples as f64
}
