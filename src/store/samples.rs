//! The samples of one series, as a reader sees them.

use crate::model::sample::Sample;
use crate::model::time::Timestamp;

use super::Slot;
use super::history::History;

/// The samples of one series while its target is locked. A stale marker among them ends what is before it.
#[derive(Clone, Copy, Debug)]
pub struct Samples<'a> {
    pub(super) history: &'a History,
    pub(super) slot: Slot,
}

impl Samples<'_> {
    /// The newest that is not later than `at`; a stale marker, if that is it. It takes no time where nothing is later than
    /// `at`, as for a question about now.
    #[inline]
    pub fn latest(&self, at: Timestamp) -> Option<Sample> {
        let newest = self.history.newest(self.slot)?;
        if newest.timestamp <= at {
            return Some(newest);
        }
        self.backwards().find(|sample| sample.timestamp <= at)
    }

    /// The time of the newest that is a value.
    pub fn newest(&self) -> Option<Timestamp> {
        let value = self.backwards().find(|sample| !sample.is_stale_marker());
        value.map(|sample| sample.timestamp)
    }

    /// Appends to `into` those later than `after` and not later than `until`, oldest first.
    pub fn between(&self, after: Timestamp, until: Timestamp, into: &mut Vec<Sample>) {
        let start = into.len();
        let newer = self
            .backwards()
            .take_while(|sample| sample.timestamp > after);
        into.extend(newer.filter(|sample| sample.timestamp <= until));
        into[start..].reverse();
    }

    /// All of them, oldest first.
    pub fn to_vec(&self) -> Vec<Sample> {
        let mut samples: Vec<Sample> = self.backwards().collect();
        samples.reverse();
        samples
    }

    fn backwards(&self) -> impl Iterator<Item = Sample> {
        self.history.backwards(self.slot)
    }
}
