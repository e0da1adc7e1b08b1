//! From the points of a query to values: which point is whose, and what number it is.

use std::collections::HashMap;

use crate::engine::Point;
use crate::model::objects::ObjectRef;
use crate::model::quantity::Quantity;
use crate::model::time::Timestamp;

use super::MetricValue;

/// How points become values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ValueStyle {
    /// The nearest quantity; what is not finite or not one is missing; the time is that of the oldest sample.
    #[default]
    Honest,
    /// As prometheus-adapter computes them (`pkg/custom-provider/provider.go`, `pkg/external-provider/metric_converter.go`).
    PrometheusAdapter,
}

/// Points that belong to an object that was asked about and still give it no value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct UnusablePoints {
    /// Their value is NaN or infinite.
    pub(super) not_finite: usize,
    /// There is more than one for the object, and no rule says which counts.
    pub(super) ambiguous: usize,
}

impl ValueStyle {
    /// The quantity of an object's metric, and its time where the request is of `now`.
    pub(super) fn of_object(self, point: &Point, now: Timestamp) -> Option<(Quantity, Timestamp)> {
        match self {
            Self::Honest => Some((Quantity::from_f64(point.value)?, point.oldest)),
            Self::PrometheusAdapter if point.value.is_nan() => {
                Some((Quantity::from_millis(0), now))
            }
            Self::PrometheusAdapter => Some((as_in_go(point.value), now)),
        }
    }

    /// The quantity of an external metric.
    pub(super) fn external(self, value: f64) -> Option<Quantity> {
        match self {
            Self::Honest => Quantity::from_f64(value),
            Self::PrometheusAdapter => Some(as_in_go(value)),
        }
    }
}

/// `resource.NewMilliQuantity(int64(value * 1000))` on amd64, where what is no such integer becomes the least one; here the
/// least that the HPA can reckon with, which is one thousandth more.
fn as_in_go(value: f64) -> Quantity {
    let millis = (value * 1000.0).trunc();
    // 2^63, the first that is too large.
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&millis);
    #[expect(clippy::cast_possible_truncation, reason = "it was looked at just now")]
    Quantity::from_millis(if fits { millis as i64 } else { i64::MIN })
}

/// The objects' values. An object without exactly one finite value is left out: the HPA treats it as missing.
pub(super) fn pick(
    objects: Vec<ObjectRef>,
    points: &[Point],
    label: &str,
    style: ValueStyle,
    now: Timestamp,
) -> (Vec<MetricValue>, UnusablePoints) {
    let mut by_name: HashMap<&str, Option<&Point>> = HashMap::with_capacity(points.len());
    for point in points {
        by_name
            .entry(point.labels.value(label))
            .and_modify(|only| {
                *only = match style {
                    ValueStyle::Honest => None,
                    ValueStyle::PrometheusAdapter => Some(point),
                };
            })
            .or_insert(Some(point));
    }
    let mut unusable = UnusablePoints::default();
    let mut values = Vec::with_capacity(objects.len());
    for object in objects {
        match by_name.get(object.name.as_ref()) {
            None => {}
            Some(None) => unusable.ambiguous += 1,
            Some(Some(point)) => match style.of_object(point, now) {
                Some((value, timestamp)) => values.push(MetricValue {
                    object,
                    value,
                    timestamp,
                }),
                None => unusable.not_finite += 1,
            },
        }
    }
    (values, unusable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::labels::Labels;

    /// What a build of prometheus-adapter 0.12 answered on amd64.
    #[test]
    fn numbers_can_be_those_of_prometheus_adapter() {
        for (value, expected) in [
            (0.0004, "0"),
            (0.001, "1m"),
            (1.9999, "1999m"),
            (20.515_926, "20515m"),
            (0.5, "500m"),
            (850.5, "850500m"),
            (1500.0, "1500"),
            (1e6, "1M"),
            (1e15, "1P"),
            (9.2e15, "9200T"),
            (-0.0005, "0"),
            (-1.5, "-1500m"),
            (1e20, "-9223372036854775807m"),
            (f64::INFINITY, "-9223372036854775807m"),
            (f64::NAN, "-9223372036854775807m"),
        ] {
            let style = ValueStyle::PrometheusAdapter;
            let quantity = style.external(value).expect("always one");
            assert_eq!(quantity.to_string(), expected, "{value}");
        }
    }

    #[test]
    fn of_several_points_the_last_counts_there_and_none_here() {
        let point = |value, oldest| Point {
            labels: Labels::new([("pod", "a")]),
            value,
            oldest: Timestamp::from_millis(oldest),
        };
        let object = || {
            vec![ObjectRef {
                namespace: None,
                name: "a".into(),
            }]
        };
        let now = Timestamp::from_millis(9);
        let several = [point(1.0, 3), point(f64::NAN, 4)];
        let (values, unusable) = pick(object(), &several, "pod", ValueStyle::Honest, now);
        assert_eq!((values.len(), unusable.ambiguous), (0, 1));
        let style = ValueStyle::PrometheusAdapter;
        let (values, _) = pick(object(), &several, "pod", style, now);
        assert_eq!(values[0].value.to_string(), "0");
        assert_eq!(values[0].timestamp, now);
    }
}
