//! `*_over_time`: one series' samples in a range, made one value.

use crate::model::sample::Sample;
use crate::promql::sum::{Mean, Sum, quantile};

use super::{Function, Window, count, seconds};

/// The value of an aggregation over time; `None` for functions that are none.
pub(super) fn aggregate(function: Function, window: &Window<'_>) -> Option<f64> {
    let (first, last) = (window.samples.first()?, window.samples.last()?);
    let values = || window.samples.iter().map(|sample| sample.value);
    let at = |sample: &Sample| seconds(sample.timestamp.as_millis());
    Some(match function {
        Function::Avg => {
            let mut mean = Mean::of(first.value);
            values().skip(1).for_each(|value| mean.add(value));
            mean.value()
        }
        Function::Sum => values().fold(Sum::default(), Sum::plus).value(),
        Function::Min => extreme(window.samples, |new, old| new < old).value,
        Function::Max => extreme(window.samples, |new, old| new > old).value,
        Function::TimeOfMin => at(extreme(window.samples, |new, old| new <= old)),
        Function::TimeOfMax => at(extreme(window.samples, |new, old| new >= old)),
        Function::Count => count(window.samples.len()),
        Function::Quantile => {
            let q = window.arguments.first().copied().unwrap_or(f64::NAN);
            quantile(q, &mut values().collect::<Vec<f64>>())
        }
        Function::StdVar => variance(values()),
        Function::StdDev => variance(values()).sqrt(),
        Function::Mad => deviation(values().collect()),
        Function::First => first.value,
        Function::Last => last.value,
        Function::Present => 1.0,
        Function::TimeOfFirst => at(first),
        Function::TimeOfLast => at(last),
        _ => return None,
    })
}

/// The sample that no other beats. NaN is beaten by any value.
fn extreme(samples: &[Sample], beats: impl Fn(f64, f64) -> bool) -> &Sample {
    let mut best = &samples[0];
    for sample in samples {
        if beats(sample.value, best.value) || best.value.is_nan() {
            best = sample;
        }
    }
    best
}

/// The population variance (Welford's method, with compensated sums).
fn variance(values: impl Iterator<Item = f64>) -> f64 {
    let (mut n, mut mean, mut squares) = (0.0, Sum::default(), Sum::default());
    for value in values {
        n += 1.0;
        let delta = value - (mean.total + mean.lost);
        mean = mean.plus(delta / n);
        squares = squares.plus(delta * (value - (mean.total + mean.lost)));
    }
    (squares.total + squares.lost) / n
}

/// The median of the distances from the median.
fn deviation(mut values: Vec<f64>) -> f64 {
    if values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    let median = quantile(0.5, &mut values);
    for value in &mut values {
        *value = (*value - median).abs();
    }
    quantile(0.5, &mut values)
}
