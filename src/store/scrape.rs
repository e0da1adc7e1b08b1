//! One scrape being written.

use std::cell::Cell;
use std::collections::HashMap;

use crate::model::labels::Labels;
use crate::model::sample::Sample;
use crate::model::time::Timestamp;

use super::LimitError;
use super::writer::{Life, Slot, TargetWriter};

/// The most samples that room is kept for on a thread, 24 bytes each.
const KEPT: usize = 4_096;

thread_local! {
    /// Room for the samples of a scrape: only one is written at a time.
    static SAMPLES: Cell<Vec<(Slot, Sample)>> = const { Cell::new(Vec::new()) };
}

/// One scrape being written. Dropped without [`Scrape::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct Scrape<'a> {
    writer: &'a mut TargetWriter,
    at: Timestamp,
    samples: Vec<(Slot, Sample)>,
    new: HashMap<Labels, Slot>,
    committed: bool,
}

impl<'a> Scrape<'a> {
    pub(super) fn new(writer: &'a mut TargetWriter, at: Timestamp) -> Self {
        let mut samples = SAMPLES.take();
        samples.reserve(writer.series.len());
        Self {
            writer,
            at,
            samples,
            new: HashMap::new(),
            committed: false,
        }
    }

    /// The slot of the series with these labels (`__name__` included). It stays the same as long as each scrape that is
    /// committed has the series; a new one's is lost if this scrape is not committed.
    ///
    /// # Errors
    /// Where the series is new and would pass a limit. Others can still be added.
    pub fn slot(&mut self, labels: &Labels) -> Result<Slot, LimitError> {
        if let Some(slot) = self.new.get(labels) {
            return Ok(*slot);
        }
        if let Some(slot) = self.writer.lookup(labels) {
            return Ok(slot);
        }
        self.writer.reserve()?;
        let slot = self.writer.take_slot();
        self.new.insert(labels.clone(), slot);
        Ok(slot)
    }

    /// Adds a sample of the series with these labels (`__name__` included), as [`Scrape::push`].
    ///
    /// # Errors
    /// As [`Scrape::slot`].
    pub fn add(
        &mut self,
        labels: &Labels,
        value: f64,
        timestamp: Option<Timestamp>,
    ) -> Result<bool, LimitError> {
        let slot = self.slot(labels)?;
        Ok(self.push(slot, value, timestamp))
    }

    /// Adds a sample of a series. Without a timestamp of its own it gets the scrape's. Of two samples of one series in one
    /// scrape the first counts: `false` for the second.
    #[inline]
    pub fn push(&mut self, slot: Slot, value: f64, timestamp: Option<Timestamp>) -> bool {
        let is_first = self.has(slot);
        if is_first {
            let sample = Sample::new(timestamp.unwrap_or(self.at), value);
            self.samples.push((slot, sample));
        }
        is_first
    }

    /// Notes that the page has a series without a sample that can be kept, so that the series does not end: whether this is
    /// the first time in this scrape.
    #[inline]
    pub fn has(&mut self, slot: Slot) -> bool {
        let Some(held) = self.writer.series.get_mut(slot as usize) else {
            return false;
        };
        let is_first = !held.seen() && held.life() != Life::About;
        held.set_seen(true);
        is_first
    }

    /// Makes the scrape visible, whole, and ends the target's series that it did not contain.
    pub fn commit(self) {
        self.commit_with(&[]);
    }

    /// As [`Scrape::commit`], with the values of series *about* the target: [`TargetWriter::failed`].
    pub fn commit_with(mut self, about: &[(&Labels, f64)]) {
        self.committed = true;
        let writer = &mut *self.writer;
        if !self.new.is_empty() {
            let new: Vec<(Slot, &Labels)> = self.new.iter().map(|(it, slot)| (*slot, it)).collect();
            writer.insert(&new, Life::Live);
        }
        writer.add_about(self.at, about, &mut self.samples);
        writer.finish(self.at, &mut self.samples);
    }
}

impl Drop for Scrape<'_> {
    fn drop(&mut self) {
        self.samples.clear();
        self.samples.shrink_to(KEPT);
        SAMPLES.set(std::mem::take(&mut self.samples));
        if self.committed {
            return;
        }
        for slot in self.new.values() {
            self.writer.return_slot(*slot);
        }
        self.writer.forget();
    }
}
