//! The recent samples of one series.

use std::collections::VecDeque;

use crate::model::sample::Sample;
use crate::model::time::Timestamp;

use super::Limits;

/// The recent samples of one series, oldest first, with strictly increasing times.
#[derive(Clone, Debug, Default)]
pub struct Window {
    samples: VecDeque<Sample>,
}

impl Window {
    /// The samples, oldest first, in two parts that follow one another. A stale marker among them ends what is before it.
    pub fn as_slices(&self) -> (&[Sample], &[Sample]) {
        self.samples.as_slices()
    }

    /// The time of the newest sample that is a value.
    pub fn newest(&self) -> Option<Timestamp> {
        self.samples
            .iter()
            .rev()
            .find(|sample| !sample.is_stale_marker())
            .map(|sample| sample.timestamp)
    }

    /// Appends a sample and forgets what has left the limits. A sample that is not newer than the last is ignored: a
    /// kubelet shows the same point in two scrapes.
    pub(super) fn push(&mut self, sample: Sample, limits: &Limits) {
        if self
            .samples
            .back()
            .is_some_and(|last| last.timestamp >= sample.timestamp)
        {
            return;
        }
        let horizon = sample.timestamp.minus(limits.retention);
        while self
            .samples
            .front()
            .is_some_and(|first| first.timestamp <= horizon)
            || self.samples.len() >= limits.samples_per_series
        {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// Marks the end of the series at `at`, or just after its last sample where that is later.
    pub(super) fn end(&mut self, at: Timestamp, limits: &Limits) {
        let Some(last) = self.samples.back().copied() else {
            return;
        };
        if !last.is_stale_marker() {
            let at = at.max(Timestamp::from_millis(last.timestamp.as_millis() + 1));
            self.push(Sample::stale_marker(at), limits);
        }
    }

    /// Forgets everything, and the memory with it.
    pub(super) fn clear(&mut self) {
        self.samples = VecDeque::new();
    }
}
