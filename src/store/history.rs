//! The recent samples of one target's series.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::sample::Sample;
use crate::model::time::Timestamp;

use super::column::{Column, ColumnWriter};
use super::encoding::{self, NO_SCALE, Value};
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
    /// The number of the oldest of them; they are numbered in their order, and round again.
    first: u16,
}

/// Most scrapes that are kept: no two of them have the same number.
const MOST_ROUNDS: usize = u16::MAX as usize;

/// A series' newest sample, which may be a stale marker. 16 bytes, since there are as many as series.
#[derive(Clone, Copy, Debug, Default)]
struct Newest {
    number: i64,
    /// From the highest bit: 43 of the time, which are enough until 2109; 16 of the number of the scrape that brought it; 5 of the
    /// value's scale and 1 more, which are 0 where there is no sample.
    rest: u64,
}

const TIME: u32 = ROUND + u16::BITS;
const ROUND: u32 = 5;
const SCALE: u64 = (1 << ROUND) - 1;
const _: () = assert!((NO_SCALE as u64) < SCALE);

/// One scrape.
#[derive(Debug)]
struct Round {
    /// When it began.
    at: Timestamp,
    column: Column,
}

impl Newest {
    fn new(value: Value, time: Timestamp, round: u16) -> Self {
        let time = time.as_millis().cast_unsigned() << TIME;
        Self {
            number: value.number,
            rest: time | u64::from(round) << ROUND | (u64::from(value.scale) + 1),
        }
    }

    /// Whether there is a sample at all.
    fn is_filled(&self) -> bool {
        self.rest & SCALE > 0
    }

    fn value(&self) -> Value {
        let scale = (self.rest & SCALE).saturating_sub(1);
        Value {
            number: self.number,
            scale: u8::try_from(scale).unwrap_or(NO_SCALE),
        }
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_millis(self.rest.cast_signed() >> TIME)
    }

    /// The number of the scrape that brought it.
    fn round(&self) -> u16 {
        let round = (self.rest >> ROUND) & u64::from(u16::MAX);
        u16::try_from(round).unwrap_or(0)
    }

    fn sample(&self) -> Sample {
        Sample::new(self.time(), self.value().get())
    }

    /// Takes in a sample that the scrape `round`, begun at `at`, brought; it is written to `column`.
    #[inline]
    fn push<'a>(
        &mut self,
        round: u16,
        at: Timestamp,
        sample: Sample,
        column: impl FnOnce() -> &'a mut Vec<u8>,
    ) {
        let time = sample.timestamp;
        let age = at.as_millis().checked_sub(time.as_millis());
        let Some(age) = age.and_then(|age| i32::try_from(age).ok()) else {
            return;
        };
        if Self::new(Value::default(), time, round).time() != time {
            return;
        }
        let mut before = self.is_filled().then(|| self.value());
        if before.is_some() && self.time() >= time {
            if self.time().since(time) < SET_BACK {
                return;
            }
            before = None;
        }
        let value = encoding::append(column(), before, sample.value, age);
        *self = Self::new(value, time, round);
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
            .is_some_and(Newest::is_filled)
    }

    /// The newest sample of the series in `slot`, which may be a stale marker.
    #[inline]
    pub(super) fn newest(&self, slot: Slot) -> Option<Sample> {
        let newest = self.newest.get(slot as usize)?;
        newest.is_filled().then(|| newest.sample())
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
        let count = u16::try_from(self.rounds.len()).unwrap_or(u16::MAX);
        let round = self.first.wrapping_add(count);
        let last = samples.last().map_or(0, |(slot, _)| *slot);
        let mut column = ColumnWriter::new(last);
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
        let most = limits.samples_per_series.clamp(1, MOST_ROUNDS);
        let newest = self.rounds.back().map(|newest| newest.at);
        let is_set_back = newest.is_some_and(|newest| newest.since(at) >= SET_BACK);
        while let Some(oldest) = self.rounds.front()
            && (is_set_back || oldest.at <= horizon || self.rounds.len() >= most)
        {
            self.rounds.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }

    /// The samples of the series in `slot`, newest first.
    #[inline]
    pub(super) fn backwards(&self, slot: Slot) -> Backwards<'_> {
        let newest = self.newest.get(slot as usize).filter(|it| it.is_filled());
        // Where the scrape is one that was forgotten, no other with its number has a sample of the series.
        let place = newest.map_or(0, |it| usize::from(it.round().wrapping_sub(self.first)));
        let entry = newest.and_then(|newest| {
            let round = self.rounds.get(place)?;
            round.column.entry(slot, newest.value())
        });
        Backwards {
            rounds: &self.rounds,
            slot,
            next: newest.map(|it| (it.time(), it.value())),
            before: entry.and_then(|entry| entry.before),
            place,
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
