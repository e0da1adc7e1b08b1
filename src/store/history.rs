//! The recent samples of one target's series.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::sample::Sample;
use crate::model::time::Timestamp;

use super::column::{Column, ColumnWriter};
use super::encoding::{self, Value};
use super::{Limits, Slot};

/// How much older than the last a sample must be for the clock to have been set back.
const SET_BACK: Duration = Duration::from_secs(60);

/// The recent samples of one target's series: of each the newest, and for each scrape what it brought.
///
/// The samples of a series have strictly increasing times, each of another scrape. The newest is there at once; those before
/// it are read backwards from it.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The newest of each series, by slot.
    newest: Vec<Newest>,
    /// The scrapes, good ones and failed ones, oldest first.
    rounds: VecDeque<Round>,
    /// The number of the oldest of them; they are numbered in their order.
    first: u32,
}

/// A series' newest sample, which may be a stale marker.
#[derive(Clone, Copy, Debug, Default)]
struct Newest {
    number: i64,
    time: Timestamp,
    /// The scrape that brought it.
    round: u32,
    scale: u8,
    /// Whether there is a sample at all.
    filled: bool,
}

/// One scrape.
#[derive(Debug)]
struct Round {
    /// When it began.
    at: Timestamp,
    column: Column,
}

impl Newest {
    fn value(&self) -> Value {
        Value {
            number: self.number,
            scale: self.scale,
        }
    }

    fn sample(&self) -> Sample {
        Sample::new(self.time, self.value().get())
    }

    /// Takes in a sample that the scrape `round`, begun at `at`, brought; it is written to `column`.
    #[inline]
    fn push<'a>(
        &mut self,
        round: u32,
        at: Timestamp,
        sample: Sample,
        column: impl FnOnce() -> &'a mut Vec<u8>,
    ) {
        let age = at.as_millis().checked_sub(sample.timestamp.as_millis());
        let Some(age) = age.and_then(|age| i32::try_from(age).ok()) else {
            return;
        };
        let mut before = self.filled.then(|| self.value());
        if self.filled && self.time >= sample.timestamp {
            if self.time.since(sample.timestamp) < SET_BACK {
                return;
            }
            before = None;
        }
        let Value { number, scale } = encoding::append(column(), before, sample.value, age);
        *self = Self {
            number,
            time: sample.timestamp,
            round,
            scale,
            filled: true,
        };
    }
}

impl History {
    /// Makes room for series in the slots below `slots`.
    pub(super) fn reserve(&mut self, slots: usize) {
        let slots = slots.max(self.newest.len());
        self.newest.reserve_exact(slots - self.newest.len());
        self.newest.resize(slots, Newest::default());
    }

    /// Forgets the series in `slot`.
    pub(super) fn clear(&mut self, slot: Slot) {
        if let Some(newest) = self.newest.get_mut(slot as usize) {
            *newest = Newest::default();
        }
    }

    /// Whether the series in `slot` has a sample.
    #[inline]
    pub(super) fn has(&self, slot: Slot) -> bool {
        self.newest
            .get(slot as usize)
            .is_some_and(|newest| newest.filled)
    }

    /// The newest sample of the series in `slot`, which may be a stale marker.
    #[inline]
    pub(super) fn newest(&self, slot: Slot) -> Option<Sample> {
        let newest = self.newest.get(slot as usize)?;
        newest.filled.then(|| newest.sample())
    }

    /// The mark that ends the series in `slot` at `at`, or just after its newest sample where that is later; `None` where there
    /// is nothing to be ended.
    pub(super) fn end(&self, slot: Slot, at: Timestamp) -> Option<Sample> {
        let newest = self.newest(slot).filter(|it| !it.is_stale_marker())?;
        let after = Timestamp::from_millis(newest.timestamp.as_millis().saturating_add(1));
        Some(Sample::stale_marker(at.max(after)))
    }

    /// Takes in what the scrape that began at `at` brought, at most one sample for each slot, and forgets what has left the
    /// retention.
    ///
    /// A sample that is not newer than the last is ignored: a kubelet shows the same point in two scrapes. One that is much
    /// older says that the clock was set back. One whose time is weeks from its scrape's is ignored, too.
    pub(super) fn append(
        &mut self,
        at: Timestamp,
        limits: &Limits,
        samples: &mut [(Slot, Sample)],
    ) {
        self.forget(at, limits);
        // Mostly they are so: a page has its series in the order in which they were first seen.
        samples.sort_by_key(|(slot, _)| *slot);
        let count = u32::try_from(self.rounds.len()).unwrap_or(u32::MAX);
        let round = self.first.wrapping_add(count);
        let last = samples.last().map_or(0, |(slot, _)| *slot);
        let before = self.rounds.back();
        let mut column = ColumnWriter::new(last, before.map_or(0, |it| it.column.size()));
        for (slot, sample) in samples {
            if let Some(newest) = self.newest.get_mut(*slot as usize) {
                newest.push(round, at, *sample, || column.at(*slot));
            }
        }
        let column = column.finish();
        if self.rounds.len() == self.rounds.capacity() {
            self.rounds.reserve_exact(8);
        }
        self.rounds.push_back(Round { at, column });
    }

    /// Forgets the scrapes that have left the retention when one begins at `at`. A time well before the newest says that the
    /// clock was set back: what is known then is the future, and would hide every sample until the clock is there again.
    fn forget(&mut self, at: Timestamp, limits: &Limits) {
        let horizon = at.minus(limits.retention);
        let newest = self.rounds.back().map(|newest| newest.at);
        let is_set_back = newest.is_some_and(|newest| newest.since(at) >= SET_BACK);
        while let Some(oldest) = self.rounds.front()
            && (is_set_back
                || oldest.at <= horizon
                || self.rounds.len() >= limits.samples_per_series.max(1))
        {
            self.rounds.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }

    /// The samples of the series in `slot`, newest first.
    #[inline]
    pub(super) fn backwards(&self, slot: Slot) -> Backwards<'_> {
        let newest = self.newest.get(slot as usize).filter(|it| it.filled);
        let place = newest.and_then(|it| usize::try_from(it.round.checked_sub(self.first)?).ok());
        let entry = newest.zip(place).and_then(|(newest, place)| {
            let round = self.rounds.get(place)?;
            round.column.entry(slot, newest.value())
        });
        Backwards {
            rounds: &self.rounds,
            slot,
            next: newest.map(|it| (it.time, it.value())),
            before: entry.and_then(|entry| entry.before),
            place: place.unwrap_or(0),
        }
    }
}

/// The samples of one series, newest first.
#[derive(Debug)]
pub(super) struct Backwards<'a> {
    rounds: &'a VecDeque<Round>,
    slot: Slot,
    next: Option<(Timestamp, Value)>,
    /// The value of the sample before `next`, which is that of a scrape before `place`, if that is still known.
    before: Option<Value>,
    place: usize,
}

impl Iterator for Backwards<'_> {
    type Item = Sample;

    #[inline]
    fn next(&mut self) -> Option<Sample> {
        let (time, value) = self.next.take()?;
        if let Some(before) = self.before.take() {
            while let Some(place) = self.place.checked_sub(1) {
                self.place = place;
                let round = &self.rounds[place];
                if let Some(entry) = round.column.entry(self.slot, before) {
                    let time = round.at.as_millis() - i64::from(entry.age);
                    self.next = Some((Timestamp::from_millis(time), before));
                    self.before = entry.before;
                    break;
                }
            }
        }
        Some(Sample::new(time, value.get()))
    }
}

#[cfg(test)]
mod tests;
