//! The recent samples of one series.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::sample::Sample;
use crate::model::time::Timestamp;

use super::Limits;

/// How much older than the last a sample must be for the clock to have been set back.
const SET_BACK: Duration = Duration::from_secs(60);

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
    /// kubelet shows the same point in two scrapes. One that is much older says that the clock was set back: what came
    /// before it is then the future, and would hide every sample until the clock is there again.
    pub(super) fn push(&mut self, sample: Sample, limits: &Limits) {
        if let Some(last) = self.samples.back()
            && last.timestamp >= sample.timestamp
        {
            if last.timestamp.since(sample.timestamp) < SET_BACK {
                return;
            }
            self.samples.clear();
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
