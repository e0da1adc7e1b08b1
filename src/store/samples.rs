//! The samples of one series, as a reader sees them.

use crate::model::sample::Sample;
use crate::model::time::Timestamp;

use super::rounds::Rounds;
use super::window::Window;

/// The samples of one series while its target is locked. A stale marker among them ends what is before it.
#[derive(Clone, Copy, Debug)]
pub struct Samples<'a> {
    pub(super) window: &'a Window,
    pub(super) rounds: &'a Rounds,
}

impl Samples<'_> {
    /// The newest that is not later than `at`; a stale marker, if that is it. It takes no time where nothing is later than
    /// `at`, as for a question about now.
    #[inline]
    pub fn latest(&self, at: Timestamp) -> Option<Sample> {
        let last = self.window.last()?;
        if last.timestamp <= at {
            return Some(last);
        }
        let mut latest = None;
        self.window.each(self.rounds, Timestamp::MIN, |sample| {
            if sample.timestamp <= at {
                latest = Some(sample);
            }
        });
        latest
    }

    /// The time of the newest that is a value.
    pub fn newest(&self) -> Option<Timestamp> {
        let last = self.window.last()?;
        if !last.is_stale_marker() {
            return Some(last.timestamp);
        }
        let mut newest = None;
        self.window.each(self.rounds, Timestamp::MIN, |sample| {
            if !sample.is_stale_marker() {
                newest = Some(sample.timestamp);
            }
        });
        newest
    }

    /// Appends to `into` those later than `after` and not later than `until`, oldest first.
    pub fn between(&self, after: Timestamp, until: Timestamp, into: &mut Vec<Sample>) {
        self.window.each(self.rounds, after, |sample| {
            if sample.timestamp <= until {
                into.push(sample);
            }
        });
    }

    /// All of them, oldest first.
    pub fn to_vec(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        self.window
            .each(self.rounds, Timestamp::MIN, |sample| samples.push(sample));
        samples
    }
}
