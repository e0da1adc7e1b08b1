//! What one scrape brought: a sample of each of its target's series, side by side.
//!
//! A target's series mostly come together, so that they are written together: in the order of their slots, one after the
//! other, in memory of its own that is given back whole when the scrape leaves the retention.

use std::cell::Cell;

use super::Slot;
use super::encoding::{self, Entry, Value};

/// How many slots are found together: those before the one that is asked for are passed over.
const GROUP: usize = 16;

/// The bytes of a group's place.
const PLACE: usize = size_of::<u32>();

/// The most room for a column that is kept on a thread, in bytes.
const KEPT: usize = 64 << 10;

thread_local! {
    /// Room for a column that is being written: how much it takes is known at its end.
    static BYTES: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The samples of one scrape.
///
/// First the place of each group of [`GROUP`] slots among the bytes, then the groups. What a group does not reach has no
/// sample.
#[derive(Debug, Default)]
pub(super) struct Column {
    bytes: Box<[u8]>,
}

impl Column {
    /// The sample of the series in `slot`, whose value is `value`; `None` where the scrape brought none.
    #[inline]
    pub(super) fn entry(&self, slot: Slot, value: Value) -> Option<Entry> {
        let slot = slot as usize;
        let mut bytes = self.group(slot / GROUP)?;
        for _ in 0..slot % GROUP {
            encoding::skip(&mut bytes);
        }
        encoding::take(&mut bytes, value)
    }

    /// How many bytes it takes.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    fn group(&self, group: usize) -> Option<&[u8]> {
        // What lies behind the last place is the first group.
        let groups = self.place(0)? / PLACE;
        if group >= groups {
            return None;
        }
        let end = if group + 1 < groups {
            self.place(group + 1)?
        } else {
            self.bytes.len()
        };
        self.bytes.get(self.place(group)?..end)
    }

    fn place(&self, group: usize) -> Option<usize> {
        let (place, _) = self.bytes.get(group * PLACE..)?.split_first_chunk()?;
        usize::try_from(u32::from_le_bytes(*place)).ok()
    }
}

/// A column being written, in the order of the slots.
#[derive(Debug)]
pub(super) struct ColumnWriter {
    bytes: Vec<u8>,
    groups: usize,
    /// How many of the groups have begun.
    begun: usize,
    /// The slot after the last that was written.
    next: usize,
}

impl ColumnWriter {
    /// A column whose last sample is of slot `last`.
    pub(super) fn new(last: Slot) -> Self {
        let groups = last as usize / GROUP + 1;
        let mut bytes = BYTES.take();
        bytes.resize(PLACE * groups, 0);
        Self {
            bytes,
            groups,
            begun: 0,
            next: 0,
        }
    }

    /// Where the sample of `slot` is to be appended. It must be a later one than the last, and not later than that of
    /// [`ColumnWriter::new`].
    #[inline]
    pub(super) fn at(&mut self, slot: Slot) -> &mut Vec<u8> {
        let slot = slot as usize;
        let group = slot / GROUP;
        if group >= self.begun {
            self.begin(group);
        }
        encoding::absent(&mut self.bytes, slot - self.next);
        self.next = slot + 1;
        &mut self.bytes
    }

    /// Begins the groups up to this one. Those in between are empty.
    fn begin(&mut self, group: usize) {
        let place = u32::try_from(self.bytes.len()).expect("a target's series are bounded");
        let places = &mut self.bytes[PLACE * self.begun..PLACE * (group + 1)];
        for bytes in places.chunks_exact_mut(PLACE) {
            bytes.copy_from_slice(&place.to_le_bytes());
        }
        self.begun = group + 1;
        self.next = group * GROUP;
    }

    /// The column.
    pub(super) fn finish(mut self) -> Column {
        if self.begun == 0 {
            return Column::default();
        }
        // Those of the last slots may not have been worth writing.
        let groups = self.groups;
        if self.begun < groups {
            self.begin(groups - 1);
        }
        let column = Column {
            bytes: self.bytes.as_slice().into(),
        };
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        BYTES.set(self.bytes);
        column
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_found_in_its_slot_and_nowhere_else() {
        let value = |slot: Slot| Value::new(f64::from(slot));
        for slots in [
            vec![0],
            vec![15, 16],
            vec![3, 40, 41, 100],
            (0..64).collect(),
        ] {
            // The last has a place, and nothing is written there.
            let mut writer = ColumnWriter::new(200);
            for slot in &slots {
                encoding::append(writer.at(*slot), Some(Value::new(0.0)), f64::from(*slot), 0);
            }
            let column = writer.finish();
            for slot in 0..300 {
                let entry = column.entry(slot, value(slot));
                let before = entry.map(|entry| entry.before.map(Value::get));
                let is_there = slots.contains(&slot);
                assert_eq!(before, is_there.then_some(Some(0.0)), "{slots:?} {slot}");
            }
        }
        let empty = ColumnWriter::new(200).finish();
        assert_eq!((empty.size(), empty.entry(0, value(0))), (0, None));
    }
}
