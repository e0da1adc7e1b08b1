//! What an engine answers, and when two answers are the same.

use std::collections::BTreeMap;
use std::fmt;

use gpu_metrics_adapter::model::labels::Labels;

/// The value of a query.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Scalar(f64),
    String(String),
    Vector(Vec<(Labels, f64)>),
    /// Samples by time in milliseconds.
    Matrix(Vec<(Labels, Vec<(i64, f64)>)>),
}

impl Answer {
    /// Whether there is no element in it.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Vector(points) => points.is_empty(),
            Self::Matrix(series) => series.is_empty(),
            Self::Scalar(_) | Self::String(_) => false,
        }
    }
}

/// Why there is no value.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    /// The query is wrong: Prometheus's `bad_data`.
    Query(String),
    /// The query fails on this data: Prometheus's `execution`.
    Execution(String),
    /// No engine should answer like this, for example by a panic.
    Failure(String),
}

pub(crate) type Outcome = Result<Answer, Refusal>;

/// Whether the order of a vector's elements is part of the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    #[default]
    Any,
    Kept,
}

/// Two numbers are the same within this share of the larger.
const TOLERANCE: f64 = 1e-9;

fn same_number(a: f64, b: f64) -> bool {
    let close = || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs());
    a == b || (a.is_nan() && b.is_nan()) || (a.is_finite() && b.is_finite() && close())
}

/// What differs between the expected answer and ours, or `None`.
pub(crate) fn difference(expected: &Outcome, ours: &Outcome, order: Order) -> Option<String> {
    match (expected, ours) {
        (Err(Refusal::Query(_)), Err(Refusal::Query(_)))
        | (Err(Refusal::Execution(_)), Err(Refusal::Execution(_))) => None,
        (Ok(Answer::Scalar(a)), Ok(Answer::Scalar(b))) if same_number(*a, *b) => None,
        (Ok(Answer::String(a)), Ok(Answer::String(b))) if a == b => None,
        (Ok(Answer::Vector(a)), Ok(Answer::Vector(b))) => {
            if order == Order::Kept && a.len() == b.len() {
                let moved = a.iter().zip(b).position(|(a, b)| a.0 != b.0);
                if let Some(index) = moved {
                    return Some(format!(
                        "element {index}: {} instead of {}",
                        b[index].0, a[index].0
                    ));
                }
            }
            let one = |point: &(Labels, f64)| (point.0.clone(), vec![(0, point.1)]);
            series_difference(a.iter().map(one), b.iter().map(one))
        }
        (Ok(Answer::Matrix(a)), Ok(Answer::Matrix(b))) => {
            series_difference(a.iter().cloned(), b.iter().cloned())
        }
        _ => Some(format!("{} instead of {}", Shown(ours), Shown(expected))),
    }
}

type Series = (Labels, Vec<(i64, f64)>);

fn series_difference(
    expected: impl Iterator<Item = Series>,
    ours: impl Iterator<Item = Series>,
) -> Option<String> {
    let expected: BTreeMap<Labels, Vec<(i64, f64)>> = expected.collect();
    let mut rest = BTreeMap::new();
    for (labels, samples) in ours {
        if rest.insert(labels.clone(), samples).is_some() {
            return Some(format!("{labels} is there twice"));
        }
    }
    for (labels, expected) in &expected {
        let Some(ours) = rest.remove(labels) else {
            let mut text = format!("{labels} {} is missing", some(expected));
            if let Some((other, _)) = rest.first_key_value() {
                text.push_str(&format!("; there is {other}"));
            }
            return Some(text);
        };
        let same = |(a, b): (&(i64, f64), &(i64, f64))| a.0 == b.0 && same_number(a.1, b.1);
        if let Some(index) = expected.iter().zip(&ours).position(|pair| !same(pair)) {
            let (a, b) = (expected[index], ours[index]);
            return Some(format!(
                "{labels}, sample {index}: {:?} at {} instead of {:?} at {}",
                b.1, b.0, a.1, a.0
            ));
        }
        if expected.len() != ours.len() {
            let (a, b) = (expected.len(), ours.len());
            let next = if a > b { expected[b] } else { ours[a] };
            return Some(format!(
                "{labels}: {b} samples instead of {a}, the first of the others at {}",
                next.0
            ));
        }
    }
    let (labels, samples) = rest.first_key_value()?;
    Some(format!("{labels} {} should not be there", some(samples)))
}

fn some(samples: &[(i64, f64)]) -> String {
    match samples {
        [] => "without samples".to_owned(),
        [(_, value)] => format!("= {value:?}"),
        [(time, value), ..] => format!("= {value:?} at {time} and {} more", samples.len() - 1),
    }
}

/// An outcome in one short line.
pub(crate) struct Shown<'a>(pub(crate) &'a Outcome);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(Answer::Scalar(value)) => write!(f, "scalar {value:?}"),
            Ok(Answer::String(value)) => write!(f, "string {value:?}"),
            Ok(Answer::Vector(points)) => match points.first() {
                Some((labels, value)) => {
                    write!(f, "vector of {}, first {labels} = {value:?}", points.len())
                }
                None => f.write_str("empty vector"),
            },
            Ok(Answer::Matrix(series)) => match series.first() {
                Some((labels, samples)) => {
                    write!(
                        f,
                        "matrix of {}, first {labels} {}",
                        series.len(),
                        some(samples)
                    )
                }
                None => f.write_str("empty matrix"),
            },
            Err(Refusal::Query(text)) => write!(f, "refused as a query: {text}"),
            Err(Refusal::Execution(text)) => write!(f, "refused in execution: {text}"),
            Err(Refusal::Failure(text)) => write!(f, "failure: {text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(points: &[(&str, f64)]) -> Outcome {
        let point = |(pod, value): &(&str, f64)| (Labels::new([("pod", *pod)]), *value);
        Ok(Answer::Vector(points.iter().map(point).collect()))
    }

    #[test]
    fn order_counts_only_where_it_is_asked_for() {
        let (a, b) = (
            vector(&[("x", 1.0), ("y", f64::NAN)]),
            vector(&[("y", f64::NAN), ("x", 1.0)]),
        );
        assert_eq!(difference(&a, &b, Order::Any), None);
        assert!(difference(&a, &b, Order::Kept).is_some());
    }

    #[test]
    fn every_other_difference_is_seen() {
        let expected = vector(&[("x", 1.0), ("y", 2.0)]);
        for other in [
            vector(&[("x", 1.0)]),
            vector(&[("x", 1.0), ("y", 2.0), ("z", 3.0)]),
            vector(&[("x", 1.0), ("y", 2.0), ("y", 2.0)]),
            vector(&[("x", 1.0), ("y", 2.000_000_01)]),
            vector(&[("x", 1.0), ("y", f64::NAN)]),
            vector(&[("x", 1.0), ("y", f64::INFINITY)]),
            Ok(Answer::Scalar(1.0)),
            Err(Refusal::Query(String::new())),
        ] {
            assert!(
                difference(&expected, &other, Order::Any).is_some(),
                "{other:?}"
            );
        }
        let close = vector(&[("x", 1.0), ("y", 2.000_000_000_1)]);
        assert_eq!(difference(&expected, &close, Order::Any), None);
        let refused = Err(Refusal::Query(String::new()));
        let failed = Err(Refusal::Execution(String::new()));
        assert!(difference(&refused, &failed, Order::Any).is_some());
    }
}
