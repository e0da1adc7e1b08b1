//! Samples that were recorded elsewhere, to be queried as if they had been scraped here.

use std::collections::BTreeMap;

use crate::model::labels::Labels;
use crate::model::matcher::{Matcher, all_match};
use crate::model::sample::Sample;
use crate::model::time::Timestamp;
use crate::promql::{SeriesReader, Wanted};

/// Series with all their samples, each in the order of time. Nothing is forgotten, nothing is stale.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    series: BTreeMap<Labels, Vec<Sample>>,
}

impl Recorded {
    /// The series of these samples, which may come in any order. Of two samples of one series at one time the first counts.
    pub fn new(samples: impl IntoIterator<Item = (Labels, Sample)>) -> Self {
        let mut series: BTreeMap<Labels, Vec<Sample>> = BTreeMap::new();
        for (labels, sample) in samples {
            series.entry(labels).or_default().push(sample);
        }
        for samples in series.values_mut() {
            samples.sort_by_key(|sample| sample.timestamp);
            samples.dedup_by_key(|sample| sample.timestamp);
        }
        Self { series }
    }

    /// The time of the newest sample.
    pub fn newest(&self) -> Option<Timestamp> {
        let newest = |samples: &Vec<Sample>| samples.last().map(|sample| sample.timestamp);
        self.series.values().filter_map(newest).max()
    }
}

impl SeriesReader for Recorded {
    fn select(
        &self,
        matchers: &[Matcher],
        wanted: Wanted,
        visit: &mut dyn FnMut(&Labels, &[Sample]),
    ) {
        for (labels, samples) in &self.series {
            if all_match(matchers, labels) {
                visit(labels, wanted.of(samples));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_put_in_the_order_of_time_and_the_first_of_a_time_counts() {
        let labels = Labels::new([("__name__", "x")]);
        let sample = |time, value| {
            let sample = Sample::new(Timestamp::from_millis(time), value);
            (labels.clone(), sample)
        };
        let recorded = Recorded::new([sample(2, 20.0), sample(1, 10.0), sample(2, 30.0)]);
        let mut found = Vec::new();
        recorded.select(
            &[Matcher::equal("__name__", "x")],
            Wanted::Between {
                after: Timestamp::from_millis(0),
                until: Timestamp::MAX,
            },
            &mut |_, samples| found.extend(samples.iter().map(|sample| sample.value)),
        );
        assert_eq!(found, [10.0, 20.0]);
        assert_eq!(recorded.newest(), Some(Timestamp::from_millis(2)));
    }
}
