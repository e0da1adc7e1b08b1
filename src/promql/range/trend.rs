//! Where a series is heading: linear regression and exponential smoothing.

use crate::model::sample::Sample;
use crate::promql::EvalError;
use crate::promql::sum::Sum;

use super::{Window, count, seconds};

/// The slope per second, by least squares.
pub(super) fn deriv(samples: &[Sample]) -> Option<f64> {
    let [first, _, ..] = samples else {
        return None;
    };
    Some(regression(samples, first.timestamp.as_millis()).0)
}

/// The value that the samples' line has some seconds after the evaluation's time.
pub(super) fn predict(window: &Window<'_>) -> Option<f64> {
    let [_, _, ..] = window.samples else {
        return None;
    };
    let ahead = window.arguments.first()?;
    let (slope, intercept) = regression(window.samples, window.at);
    Some(slope * ahead + intercept)
}

/// Slope, and the line's value at `origin` (`linearRegression`).
fn regression(samples: &[Sample], origin: i64) -> (f64, f64) {
    let first = samples[0].value;
    if samples.iter().all(|sample| sample.value == first) {
        return if first.is_infinite() {
            (f64::NAN, f64::NAN)
        } else {
            (0.0, first)
        };
    }
    let n = count(samples.len());
    let (mut x, mut y) = (Sum::default(), Sum::default());
    let (mut xy, mut xx) = (Sum::default(), Sum::default());
    for sample in samples {
        let at = seconds(sample.timestamp.as_millis() - origin);
        x = x.plus(at);
        y = y.plus(sample.value);
        xy = xy.plus(at * sample.value);
        xx = xx.plus(at * at);
    }
    let whole = |sum: Sum| sum.total + sum.lost;
    let (x, y, xy, xx) = (whole(x), whole(y), whole(xy), whole(xx));
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
}

/// Holt's double exponential smoothing: the last level.
pub(super) fn smooth(window: &Window<'_>) -> Result<Option<f64>, EvalError> {
    let factor = |index: usize, name: &str| match window.arguments.get(index) {
        Some(factor) if *factor > 0.0 && *factor < 1.0 => Ok(*factor),
        factor => Err(EvalError::Execution(format!(
            "invalid {name} factor. Expected: 0 < {}f < 1, got: {:.6}",
            &name[..1],
            factor.copied().unwrap_or(f64::NAN)
        ))),
    };
    let (smoothing, trending) = (factor(0, "smoothing")?, factor(1, "trend")?);
    let [first, second, ..] = window.samples else {
        return Ok(None);
    };
    let (mut before, mut level) = (0.0, first.value);
    let mut trend = second.value - first.value;
    for (index, sample) in window.samples.iter().enumerate().skip(1) {
        if index > 1 {
            trend = trending * (level - before) + (1.0 - trending) * trend;
        }
        let next = smoothing * sample.value + (1.0 - smoothing) * (level + trend);
        (before, level) = (level, next);
    }
    Ok(Some(level))
}
