//! When a target was scraped: the times that most of its samples share.

use crate::model::time::Timestamp;

use super::Limits;
use super::window::SET_BACK;

/// The times of a target's scrapes, good ones and failed ones, numbered in their order. Those that have left the retention
/// are forgotten, and with them every sample that came with them.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// The number of the oldest that is known.
    first: u32,
    times: Vec<Timestamp>,
}

impl Rounds {
    /// The number of the scrape that began at `at`: the newest, or a new one. A time well before the newest says that the
    /// clock was set back: what is known then is the future, and would hide every sample until the clock is there again.
    pub(super) fn at(&mut self, at: Timestamp, limits: &Limits) -> u32 {
        if let Some(newest) = self.times.last().copied() {
            if newest == at {
                return self.newest();
            }
            if newest.since(at) >= SET_BACK {
                self.first += self.count();
                self.times.clear();
            }
        }
        let round = self.first + self.count();
        let horizon = at.minus(limits.retention);
        let old = self
            .times
            .iter()
            .take_while(|time| **time <= horizon)
            .count();
        let many = (self.times.len() + 1).saturating_sub(limits.samples_per_series);
        self.times.drain(..old.max(many).min(self.times.len()));
        if self.times.len() == self.times.capacity() {
            self.times.reserve_exact(8);
        }
        self.times.push(at);
        self.first = round + 1 - self.count();
        round
    }

    /// The oldest scrape whose samples still count.
    pub(super) const fn first(&self) -> u32 {
        self.first
    }

    /// When the scrape of this number began; `None` where that is no longer known.
    #[inline]
    pub(super) fn time(&self, round: u32) -> Option<Timestamp> {
        let place = round.checked_sub(self.first)?;
        self.times.get(usize::try_from(place).ok()?).copied()
    }

    fn newest(&self) -> u32 {
        (self.first + self.count()).saturating_sub(1)
    }

    fn count(&self) -> u32 {
        u32::try_from(self.times.len()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_000 * seconds)
    }

    #[test]
    fn a_time_is_known_until_it_leaves_the_retention_or_the_clock_is_set_back() {
        let limits = Limits {
            retention: Duration::from_secs(30),
            ..Limits::default()
        };
        let mut rounds = Rounds::default();
        assert_eq!(rounds.at(at(1_000), &limits), 0);
        assert_eq!(rounds.at(at(1_000), &limits), 0);
        assert_eq!(rounds.at(at(1_015), &limits), 1);
        assert_eq!(rounds.at(at(1_030), &limits), 2);
        assert_eq!((rounds.first(), rounds.time(1)), (1, Some(at(1_015))));
        assert_eq!(rounds.time(0), None);
        assert_eq!(rounds.at(at(10), &limits), 3);
        assert_eq!((rounds.first(), rounds.time(3)), (3, Some(at(10))));
    }

    #[test]
    fn the_newest_is_known_whatever_the_limits() {
        let limits = Limits {
            retention: Duration::ZERO,
            samples_per_series: 0,
            ..Limits::default()
        };
        let mut rounds = Rounds::default();
        assert_eq!(rounds.at(at(1), &limits), 0);
        assert_eq!(rounds.at(at(2), &limits), 1);
        assert_eq!((rounds.time(0), rounds.time(1)), (None, Some(at(2))));
    }
}
