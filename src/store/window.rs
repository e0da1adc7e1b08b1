//! The recent samples of one series.

use std::time::Duration;

use crate::model::sample::Sample;
use crate::model::time::Timestamp;

use super::encoding::{self, Encoded, Step, Value};
use super::rounds::Rounds;

/// How much older than the last a sample must be for the clock to have been set back.
pub(super) const SET_BACK: Duration = Duration::from_secs(60);

/// The recent samples of one series, with strictly increasing times, each of another scrape. Its newest sample is there at
/// once; those before it are [encoded](encoding), and read from the oldest on.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// The samples after the first.
    bytes: Encoded,
    first_value: f64,
    last_value: f64,
    last_time: Timestamp,
    first_round: u32,
    last_round: u32,
    /// By how many milliseconds the first is older than its scrape.
    first_age: i32,
    first_scale: u8,
    last_scale: u8,
    /// Whether `bytes` end with a run.
    run: bool,
    /// Whether there is a sample at all.
    filled: bool,
}

impl Window {
    /// Whether there is no sample.
    pub(super) const fn is_empty(&self) -> bool {
        !self.filled
    }

    /// The newest sample, which may be a stale marker.
    #[inline]
    pub(super) fn last(&self) -> Option<Sample> {
        self.filled
            .then(|| Sample::new(self.last_time, self.last_value))
    }

    /// Calls `visit` with each sample later than `after`, oldest first. A stale marker among them ends what is before it.
    #[inline]
    pub(super) fn each(&self, rounds: &Rounds, after: Timestamp, mut visit: impl FnMut(Sample)) {
        if !self.filled {
            return;
        }
        // What has left the retention is passed over, and the last is there in any case: its age is for the reader to judge.
        let mut each = |round: u32, age: i32, value: Value| {
            let time = if round == self.last_round {
                self.last_time
            } else if let Some(time) = rounds.time(round) {
                aged(time, age)
            } else {
                return;
            };
            if time > after {
                visit(Sample::new(time, value.get()));
            }
        };
        let mut value = Value::restore((self.first_value, self.first_scale));
        let mut round = self.first_round;
        let mut bytes = self.bytes.as_slice();
        each(round, self.first_age, value);
        while let Some((next, step, count)) = encoding::take(&mut bytes, value) {
            value = next;
            round += step.skipped;
            for _ in 0..count {
                round += 1;
                each(round, step.age, value);
            }
        }
    }

    /// Appends a sample that the scrape `round` brought, and forgets what has left the retention. A sample that is not newer
    /// than the last is ignored: a kubelet shows the same point in two scrapes. One that is much older says that the clock
    /// was set back. One whose time is weeks from its scrape's is ignored, too.
    pub(super) fn push(&mut self, rounds: &Rounds, round: u32, sample: Sample) {
        let scraped = rounds.time(round).unwrap_or(sample.timestamp);
        let age = scraped
            .as_millis()
            .checked_sub(sample.timestamp.as_millis());
        let Some(age) = age.and_then(|age| i32::try_from(age).ok()) else {
            return;
        };
        if self.filled && self.last_time >= sample.timestamp {
            if self.last_time.since(sample.timestamp) < SET_BACK {
                return;
            }
            self.clear();
        }
        while self.filled && self.first_round < rounds.first() {
            self.forget_first();
        }
        if !self.filled {
            self.clear();
            let (value, scale) = Value::new(sample.value).parts();
            (self.first_value, self.first_scale) = (value, scale);
            (self.last_value, self.last_scale) = (value, scale);
            (self.first_round, self.first_age) = (round, age);
            self.filled = true;
        } else if let Some(skipped) = round.checked_sub(self.last_round + 1) {
            let last = Value::restore((self.last_value, self.last_scale));
            let step = Step { skipped, age };
            let next = encoding::append(&mut self.bytes, &mut self.run, last, sample.value, step);
            (self.last_value, self.last_scale) = next.parts();
        } else {
            // A second sample of one scrape.
            return;
        }
        (self.last_time, self.last_round) = (sample.timestamp, round);
    }

    /// Marks the end of the series at `at`, the time of scrape `round`, or just after its last sample where that is later.
    pub(super) fn end(&mut self, rounds: &Rounds, round: u32, at: Timestamp) {
        let Some(last) = self.last() else {
            return;
        };
        if !last.is_stale_marker() {
            let at = at.max(Timestamp::from_millis(last.timestamp.as_millis() + 1));
            self.push(rounds, round, Sample::stale_marker(at));
        }
    }

    /// Forgets everything, and the memory with it.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn forget_first(&mut self) {
        if encoding::shorten_run(&mut self.bytes) {
            (self.first_round, self.first_age) = (self.first_round + 1, 0);
            return;
        }
        let first = Value::restore((self.first_value, self.first_scale));
        let mut rest = self.bytes.as_slice();
        let Some((next, step, _)) = encoding::take(&mut rest, first) else {
            self.filled = false;
            return;
        };
        (self.first_value, self.first_scale) = next.parts();
        self.first_round += 1 + step.skipped;
        self.first_age = step.age;
        let taken = self.bytes.len() - rest.len();
        self.bytes.drain(..taken);
        self.run &= !self.bytes.is_empty();
    }
}

fn aged(time: Timestamp, age: i32) -> Timestamp {
    Timestamp::from_millis(time.as_millis() - i64::from(age))
}

#[cfg(test)]
mod tests;
