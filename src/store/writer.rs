//! The write half: what a scrape task holds.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::labels::Labels;
use crate::model::sample::Sample;
use crate::model::time::Timestamp;

use super::index::SeriesId;
use super::{Block, Down, LimitError, Store, Window};

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

/// Writes the series of one target. Dropping it removes all of them.
#[derive(Debug)]
pub struct TargetWriter {
    store: Arc<Store>,
    target: u64,
    block: Arc<Block>,
    known: HashMap<Labels, Known>,
    free_slots: Vec<usize>,
    /// Counts scrapes; a series whose `seen` is older was absent from the latest one.
    round: u64,
}

/// A series of this target.
#[derive(Debug)]
struct Known {
    id: SeriesId,
    slot: usize,
    /// The scrape that last contained it.
    seen: u64,
    /// When it ended, if it did.
    ended: Option<Timestamp>,
    /// Written by [`TargetWriter::report`]: about the target, not from its page.
    reported: bool,
}

impl TargetWriter {
    pub(super) fn new(store: Arc<Store>, target: u64, block: Arc<Block>) -> Self {
        Self {
            store,
            target,
            block,
            known: HashMap::new(),
            free_slots: Vec::new(),
            round: 0,
        }
    }

    /// The number of the target's registration, as in [`super::TargetStatus::id`].
    pub fn id(&self) -> u64 {
        self.target
    }

    /// Begins a scrape that started at `at`. Nothing is visible to readers before [`Scrape::commit`].
    pub fn begin(&mut self, at: Timestamp) -> Scrape<'_> {
        self.round += 1;
        Scrape {
            writer: self,
            at,
            known: Vec::new(),
            new: HashMap::new(),
            committed: false,
        }
    }

    /// Notes that the scrape begun at `at` failed, and why; the text is for users and has no credentials.
    /// The target's series keep their last samples: the age limit of whoever reads them decides how long they count.
    pub fn failed(&mut self, at: Timestamp, reason: &str) {
        let health = &mut self.block.state.write().health;
        let since = health.down.as_ref().map_or(at, |down| down.since);
        health.down = Some(Down {
            since,
            reason: reason.to_owned(),
        });
    }

    /// Writes series *about* the target, such as `up`, which a failed scrape has too. They do not end with a scrape that
    /// does not contain them, and they do not count as its content.
    ///
    /// # Errors
    /// Where a series is new and would pass a limit; those before it are written.
    pub fn report(&mut self, at: Timestamp, series: &[(Labels, f64)]) -> Result<(), LimitError> {
        for (labels, value) in series {
            let slot = match self.known.get(labels) {
                Some(known) => known.slot,
                None => {
                    self.reserve(0)?;
                    self.insert(labels, true)
                }
            };
            self.block.state.write().windows[slot]
                .push(Sample::new(at, *value), &self.store.limits);
        }
        Ok(())
    }

    fn reserve(&self, pending: usize) -> Result<(), LimitError> {
        let limit = self.store.limits.series_per_target;
        if self.known.len() + pending >= limit {
            return Err(LimitError::TargetSeries(limit));
        }
        self.store.reserve()
    }

    /// Makes a reserved series known and gives its slot.
    fn insert(&mut self, labels: &Labels, reported: bool) -> usize {
        let store = Arc::clone(&self.store);
        let mut index = store.index.write();
        let slot = self.take_slot();
        let id = index.insert(labels, &self.block, slot);
        drop(index);
        self.known.insert(
            labels.clone(),
            Known {
                id,
                slot,
                seen: self.round,
                ended: None,
                reported,
            },
        );
        self.store.changed();
        slot
    }

    fn take_slot(&mut self) -> usize {
        self.free_slots.pop().unwrap_or_else(|| {
            let windows = &mut self.block.state.write().windows;
            windows.push(Window::default());
            windows.len() - 1
        })
    }

    /// Removes series that ended longer ago than samples are kept.
    fn forget_ended(&mut self, at: Timestamp) {
        let horizon = at.minus(self.store.limits.retention);
        let gone: Vec<Known> = self
            .known
            .extract_if(|_, known| known.ended.is_some_and(|ended| ended <= horizon))
            .map(|(_, known)| known)
            .collect();
        self.remove(&gone);
    }

    fn remove(&mut self, gone: &[Known]) {
        if gone.is_empty() {
            return;
        }
        let mut index = self.store.index.write();
        let mut state = self.block.state.write();
        for known in gone {
            index.remove(known.id);
            state.windows[known.slot].clear();
            self.free_slots.push(known.slot);
        }
        self.store.release(gone.len());
        self.store.changed();
    }
}

impl Drop for TargetWriter {
    fn drop(&mut self) {
        let all: Vec<Known> = self.known.drain().map(|(_, known)| known).collect();
        self.remove(&all);
        self.store.targets.write().remove(&self.target);
    }
}

/// One scrape being written. Dropped without [`Scrape::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct Scrape<'a> {
    writer: &'a mut TargetWriter,
    at: Timestamp,
    known: Vec<(usize, Sample)>,
    new: HashMap<Labels, Sample>,
    committed: bool,
}

impl Scrape<'_> {
    /// Adds a sample of the series with these labels (`__name__` included). Without a timestamp of its own it gets the
    /// scrape's. Of two samples of one series in one scrape the first counts (`Ok(false)` for the second).
    ///
    /// # Errors
    /// Where a new series would pass a limit. Other samples can still be added.
    pub fn add(
        &mut self,
        labels: &Labels,
        value: f64,
        timestamp: Option<Timestamp>,
    ) -> Result<bool, LimitError> {
        let sample = Sample::new(timestamp.unwrap_or(self.at), value);
        let round = self.writer.round;
        if let Some(known) = self.writer.known.get_mut(labels) {
            if known.seen == round || known.reported {
                return Ok(false);
            }
            known.seen = round;
            self.known.push((known.slot, sample));
            return Ok(true);
        }
        if self.new.contains_key(labels) {
            return Ok(false);
        }
        self.writer.reserve(self.new.len())?;
        self.new.insert(labels.clone(), sample);
        Ok(true)
    }

    /// Makes the scrape visible, whole, and ends the target's series that it did not contain.
    ///
    /// An empty scrape (no sample at all) is noted as a failure and ends nothing: dcgm-exporter answers 200 with an empty
    /// body while it reloads.
    pub fn commit(mut self) {
        self.committed = true;
        if self.known.is_empty() && self.new.is_empty() {
            self.writer.failed(self.at, "answered without any sample");
            return;
        }
        let new = std::mem::take(&mut self.new);
        let writer = &mut *self.writer;
        let store = Arc::clone(&writer.store);
        // While series appear, no reader may see the index with the old samples or the other way round.
        let mut index = (!new.is_empty()).then(|| store.index.write());
        let grown = index.is_some();
        let mut added = Vec::with_capacity(new.len());
        if let Some(index) = &mut index {
            for (labels, sample) in new {
                let slot = writer.take_slot();
                let id = index.insert(&labels, &writer.block, slot);
                let known = Known {
                    id,
                    slot,
                    seen: writer.round,
                    ended: None,
                    reported: false,
                };
                writer.known.insert(labels, known);
                added.push((slot, sample));
            }
        }
        {
            let mut state = writer.block.state.write();
            for (slot, sample) in self.known.drain(..).chain(added) {
                state.windows[slot].push(sample, &store.limits);
            }
            for known in writer.known.values_mut().filter(|known| !known.reported) {
                if known.seen == writer.round {
                    known.ended = None;
                } else if known.ended.is_none() {
                    known.ended = Some(self.at);
                    state.windows[known.slot].end(self.at, &store.limits);
                }
            }
            state.health = super::Health {
                last_success: Some(self.at),
                down: None,
            };
        }
        drop(index);
        if grown {
            store.changed();
        }
        writer.forget_ended(self.at);
    }
}

impl Drop for Scrape<'_> {
    fn drop(&mut self) {
        if !self.committed {
            self.writer.store.release(self.new.len());
            // The samples of this round are not there, so that the next scrape must not take them for seen.
            self.writer.round += 1;
        }
    }
}
