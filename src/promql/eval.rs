//! The evaluation itself.

use std::collections::HashMap;
use std::time::Duration;

use crate::model::labels::{Labels, METRIC_NAME};
use crate::model::sample::Sample;
use crate::model::time::Timestamp;

use super::aggregate::Group;
use super::compile::{Grouping, Node};
use super::{Point, SeriesReader};

pub(super) fn instant(
    node: &Node,
    reader: &dyn SeriesReader,
    at: Timestamp,
    lookback: Duration,
) -> Vec<Point> {
    match node {
        Node::Selector(matchers) => {
            let mut points = Vec::new();
            reader.select(matchers, &mut |labels, runs| {
                if let Some(sample) = latest(runs, at, lookback) {
                    points.push(Point {
                        labels: labels.clone(),
                        value: sample.value,
                        oldest: sample.timestamp,
                    });
                }
            });
            points
        }
        Node::Aggregate {
            op,
            grouping,
            inner,
        } => {
            let mut groups: HashMap<Labels, Group> = HashMap::new();
            let mut add = |labels: &Labels, value: f64, oldest: Timestamp| {
                groups
                    .entry(group_labels(grouping, labels))
                    .and_modify(|group| group.add(value, oldest))
                    .or_insert_with(|| Group::new(*op, value, oldest));
            };
            if let Node::Selector(matchers) = inner.as_ref() {
                // Straight from the series, without making the vector that is only to be grouped.
                reader.select(matchers, &mut |labels, runs| {
                    if let Some(sample) = latest(runs, at, lookback) {
                        add(labels, sample.value, sample.timestamp);
                    }
                });
            } else {
                for point in instant(inner, reader, at, lookback) {
                    add(&point.labels, point.value, point.oldest);
                }
            }
            let finish = |(labels, group): (Labels, Group)| {
                let (value, oldest) = group.finish();
                Point {
                    labels,
                    value,
                    oldest,
                }
            };
            groups.into_iter().map(finish).collect()
        }
    }
}

/// The last sample in `(at - lookback, at]`, unless the series has ended with it.
fn latest(runs: [&[Sample]; 2], at: Timestamp, lookback: Duration) -> Option<Sample> {
    let last_in = |run: &[Sample]| {
        let later = run.partition_point(|sample| sample.timestamp <= at);
        later.checked_sub(1).map(|index| run[index])
    };
    let sample = last_in(runs[1]).or_else(|| last_in(runs[0]))?;
    (sample.timestamp > at.minus(lookback) && !sample.is_stale_marker()).then_some(sample)
}

fn group_labels(grouping: &Grouping, labels: &Labels) -> Labels {
    match grouping {
        Grouping::By(names) => labels.filtered(|name| names.iter().any(|kept| kept == name)),
        Grouping::Without(names) => labels
            .filtered(|name| name != METRIC_NAME && !names.iter().any(|dropped| dropped == name)),
    }
}
