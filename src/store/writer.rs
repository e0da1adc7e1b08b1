//! The write half: what a scrape task holds.

use std::sync::Arc;
use std::time::Duration;

use crate::model::labels::Labels;
use crate::model::sample::Sample;
use crate::model::time::Timestamp;

use super::index::{BlockId, SeriesId};
use super::scrape::Scrape;
use super::{Block, Down, Health, LimitError, Store};

/// Most series that appear or go while the index is locked once: readers wait for no more than these.
pub(super) const BATCH: usize = 512;

/// What is known of a target when it is registered; it is what a user reads when its data is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetInfo {
    /// The scrape job's name, such as `dcgm-exporter`.
    pub job: String,
    /// Where it is scraped, such as `http://10.0.0.7:9400/metrics`. Contains no credentials.
    pub url: String,
    /// The Kubernetes object behind it where there is one, such as `pod monitoring/dcgm-exporter-x2x4f`.
    pub object: Option<String>,
    /// How often it is scraped.
    pub interval: Duration,
}

/// The number of one of a target's series, as long as the series is there.
pub type Slot = u32;

/// Writes the series of one target. Dropping it removes all of them.
#[derive(Debug)]
pub struct TargetWriter {
    pub(super) store: Arc<Store>,
    block: Arc<Block>,
    /// What the index calls it.
    number: BlockId,
    /// By slot.
    pub(super) series: Vec<Held>,
    free: Vec<Slot>,
    /// The slots of series that have ended and are still kept.
    ended: Vec<Slot>,
    /// The series about the target, a few: each scrape has them, and finding them in the index would be a tenth of its work.
    about: Vec<(Labels, Slot)>,
}

/// What the writer knows of a slot. 4 bytes, since there are as many as series: from the highest bit, 29 of the place in the
/// index, 1 of whether the current scrape has the series, 2 of what it holds, a [`Life`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Held(u32);

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Life {
    /// Nothing.
    Free,
    /// A series of the page.
    Live,
    /// One that left the page.
    Ended,
    /// One about the target, not from its page.
    About,
}

const ID: u32 = 3;
const SEEN: u32 = 1 << 2;

/// The most series that there can be: as many as a [`Held`] can tell apart.
pub(super) const MOST_SERIES: usize = 1 << (u32::BITS - ID);

impl Held {
    /// A slot without a series.
    const FREE: Self = Self(0);

    fn new(id: SeriesId, seen: bool, life: Life) -> Self {
        let mut held = Self((id << ID) | life as u32);
        held.set_seen(seen);
        held
    }

    /// The series' place in the index.
    fn id(self) -> SeriesId {
        self.0 >> ID
    }

    /// What it holds.
    pub(super) fn life(self) -> Life {
        match self.0 & 3 {
            0 => Life::Free,
            1 => Life::Live,
            2 => Life::Ended,
            _ => Life::About,
        }
    }

    fn set_life(&mut self, life: Life) {
        *self = Self::new(self.id(), self.seen(), life);
    }

    /// Whether the current scrape has it.
    pub(super) fn seen(self) -> bool {
        self.0 & SEEN > 0
    }

    pub(super) fn set_seen(&mut self, seen: bool) {
        self.0 = (self.0 & !SEEN) | if seen { SEEN } else { 0 };
    }
}

impl TargetWriter {
    pub(super) fn new(store: Arc<Store>, block: Arc<Block>, number: BlockId) -> Self {
        Self {
            store,
            block,
            number,
            series: Vec::new(),
            free: Vec::new(),
            ended: Vec::new(),
            about: Vec::new(),
        }
    }

    /// The number of the target's registration, as in [`super::TargetStatus::id`].
    pub fn id(&self) -> u64 {
        self.block.id
    }

    /// Begins a scrape that started at `at`. Nothing is visible to readers before [`Scrape::commit`].
    pub fn begin(&mut self, at: Timestamp) -> Scrape<'_> {
        Scrape::new(self, at)
    }

    /// Forgets what the current scrape has: nothing of it is kept.
    pub(super) fn forget(&mut self) {
        for held in &mut self.series {
            held.set_seen(false);
        }
    }

    /// Notes that the scrape begun at `at` failed, and why; the text is for users and has no credentials.
    /// The target's series keep their last samples: the age limit of whoever reads them decides how long they count.
    ///
    /// `about` are the values of series *about* the target, such as `up`, which a failed scrape has as well as a good one. They
    /// do not end with a scrape that does not contain them, and they do not count as its content. Those that are new and would
    /// pass a limit are left out.
    pub fn failed(&mut self, at: Timestamp, reason: &str, about: &[(&Labels, f64)]) {
        let mut samples = Vec::with_capacity(about.len());
        self.add_about(at, about, &mut samples);
        let state = &mut *self.block.state.write();
        let since = state.health.down.as_ref().map_or(at, |down| down.since);
        state.health.down = Some(Down {
            since,
            reason: reason.to_owned(),
        });
        let limits = self.store.limits.load();
        state.history.append(at, &limits, &mut samples);
    }

    /// Adds the values of series about the target to `samples`.
    pub(super) fn add_about(
        &mut self,
        at: Timestamp,
        about: &[(&Labels, f64)],
        samples: &mut Vec<(Slot, Sample)>,
    ) {
        for (place, (labels, value)) in about.iter().enumerate() {
            // Each scrape has the same, in the same order.
            let is_it = |(known, _): &&(Labels, Slot)| known == *labels;
            let at_place = self.about.get(place).filter(is_it);
            let known = at_place.or_else(|| self.about.iter().find(is_it));
            let slot = match known {
                Some((_, slot)) => Some(*slot),
                None => self.know_about(labels, samples),
            };
            let sample = Sample::new(at, *value);
            samples.extend(slot.map(|slot| (slot, sample)));
        }
    }

    /// The slot of a series about the target, from now on; `None` where there is no room for it, or `samples` have one of it.
    fn know_about(&mut self, labels: &Labels, samples: &[(Slot, Sample)]) -> Option<Slot> {
        // The page may have it too.
        let of_page = self.lookup(labels);
        let slot = match of_page {
            Some(slot) => {
                self.series[slot as usize].set_life(Life::About);
                slot
            }
            None => {
                self.reserve().ok()?;
                let slot = self.take_slot();
                self.insert(&[(slot, labels)], Life::About);
                slot
            }
        };
        self.about.push((labels.clone(), slot));
        let is_new = samples.iter().all(|(other, _)| *other != slot);
        is_new.then_some(slot)
    }

    /// The slot of the series with these labels.
    pub(super) fn lookup(&self, labels: &Labels) -> Option<Slot> {
        let index = self.store.index.read();
        index.lookup(labels, self.number)
    }

    /// Promises room for one more series.
    pub(super) fn reserve(&self) -> Result<(), LimitError> {
        let limit = self.store.limits.load().series_per_target;
        if self.series.len() - self.free.len() >= limit {
            return Err(LimitError::TargetSeries(limit));
        }
        self.store.reserve()
    }

    /// A slot for a series that is reserved.
    pub(super) fn take_slot(&mut self) -> Slot {
        self.free.pop().unwrap_or_else(|| {
            if self.series.len() == self.series.capacity() {
                self.series.reserve_exact(8 + self.series.len() / 8);
            }
            self.series.push(Held::FREE);
            Slot::try_from(self.series.len() - 1).expect("the limit on series is far below 2^32")
        })
    }

    /// Gives back a slot that never came to hold a series.
    pub(super) fn return_slot(&mut self, slot: Slot) {
        self.free.push(slot);
        self.store.release(1);
    }

    /// Makes series known that have a slot each. Without a sample no reader sees them.
    pub(super) fn insert(&mut self, new: &[(Slot, &Labels)], life: Life) {
        let slots = self.series.len();
        {
            let state = &mut self.block.state.write();
            state.history.reserve(slots);
        }
        for batch in new.chunks(BATCH) {
            let mut index = self.store.index.write();
            for (slot, labels) in batch {
                let id = index.insert(labels, self.number, *slot);
                let held = &mut self.series[*slot as usize];
                *held = Held::new(id, held.seen(), life);
            }
        }
        self.store.changed();
    }

    /// Makes the samples of the current scrape, begun at `at`, visible at once; ends the series that it did not contain, and
    /// removes those that ended longer ago than samples are kept.
    pub(super) fn finish(&mut self, at: Timestamp, samples: &mut Vec<(Slot, Sample)>) {
        let limits = self.store.limits.load();
        let horizon = at.minus(limits.retention);
        let mut gone = Vec::new();
        for (slot, _) in samples.iter() {
            let held = &mut self.series[*slot as usize];
            if held.life() == Life::Ended {
                held.set_life(Life::Live);
            }
        }
        {
            let state = &mut *self.block.state.write();
            for (slot, held) in (0..).zip(&mut self.series) {
                if held.life() == Life::Live && !held.seen() {
                    held.set_life(Life::Ended);
                    self.ended.push(slot);
                    let end = state.history.end(slot, at);
                    samples.extend(end.map(|end| (slot, end)));
                }
                held.set_seen(false);
            }
            state.history.append(at, &limits, samples);
            self.ended.retain(|slot| {
                let newest = state.history.newest(*slot);
                let is_old = newest.is_none_or(|end| end.timestamp <= horizon);
                let is_ended = self.series[*slot as usize].life() == Life::Ended;
                if is_ended && is_old {
                    gone.push(*slot);
                }
                is_ended && !is_old
            });
            state.health = Health {
                last_success: Some(at),
                down: None,
            };
        }
        self.remove(&gone);
    }

    fn remove(&mut self, gone: &[Slot]) {
        if gone.is_empty() {
            return;
        }
        for batch in gone.chunks(BATCH) {
            let ids = batch.iter().map(|slot| self.series[*slot as usize].id());
            let mut index = self.store.index.write();
            index.remove(ids);
            let mut state = self.block.state.write();
            for slot in batch {
                state.history.clear(*slot);
                self.series[*slot as usize].set_life(Life::Free);
            }
        }
        self.free.extend(gone);
        self.store.release(gone.len());
        self.store.changed();
    }
}

impl Drop for TargetWriter {
    fn drop(&mut self) {
        // Whole, for readers: its series go from the index batch by batch.
        self.block.state.write().gone = true;
        let all: Vec<Slot> = (0..)
            .zip(&self.series)
            .filter(|(_, held)| held.life() != Life::Free)
            .map(|(slot, _)| slot)
            .collect();
        self.remove(&all);
        self.store.index.write().remove_block(self.number);
        self.store.targets.write().remove(&self.block.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_slot_is_small_and_each_part_of_it_stays_when_another_changes() {
        assert_eq!(size_of::<Held>(), 4);
        let most = SeriesId::try_from(MOST_SERIES - 1).expect("a place");
        for id in [0, 1, most] {
            let mut held = Held::new(id, true, Life::Live);
            for life in [Life::Ended, Life::About, Life::Free, Life::Live] {
                held.set_life(life);
                assert_eq!((held.id(), held.seen(), held.life()), (id, true, life));
                held.set_seen(false);
                assert_eq!((held.id(), held.seen(), held.life()), (id, false, life));
                held.set_seen(true);
            }
        }
    }
}
