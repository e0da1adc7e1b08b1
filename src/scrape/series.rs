//! What a target's series became when they were first seen, so that later scrapes need not do the work again.

use std::collections::HashMap;
use std::hash::BuildHasher;

use foldhash::quality::RandomState;

use crate::exposition::FamilyKind;
use crate::store::Slot;

/// What becomes of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its samples are kept, in this slot of the store.
    Keep(Slot),
    /// A rule drops it.
    Relabelled,
    /// No rule needs it.
    NotNeeded,
    /// It has too many labels, or too long ones.
    LabelLimit,
}

/// How often in a page the next series may be another than in the page before until a table is made to find them by.
/// dcgm-exporter shows its few groups in random order; most others never change.
const JUMPS: u32 = 32;

/// The series of one target, by how they are written on its page, in the page's order.
///
/// The page's text itself is not kept: at 300 bytes a series it would be most of this program's memory. A keyed hash of 64
/// bits stands for it. That another text of the same target has it is less likely than a memory error; and since its key is
/// made anew for each target, no exporter can find one, not even for its own page.
#[derive(Debug, Default)]
pub(super) struct KnownSeries {
    keys: RandomState,
    entries: Vec<Entry>,
    /// Where the next series is, if the page is in the order of the one before.
    cursor: usize,
    /// How many were known when the page began.
    before: usize,
    jumps: u32,
    /// By hash; made for a page that is in another order, and dropped after it.
    places: Option<HashMap<u64, u32, foldhash::fast::FixedState>>,
    /// The mark of those that are on the page. It is another than on the page before.
    mark: bool,
    /// How many of those there are.
    seen: usize,
}

/// 12 bytes for each series of each target: packed, so that no gap follows them.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(4))]
struct Entry {
    hash: u64,
    /// From the highest bit: the mark of the page that it was last on; 10 of how many bytes the text has, 0 for more than they
    /// tell; 21 of the slot, or one of the other verdicts.
    rest: u32,
}

const MARK: u32 = 1 << 31;
const LENGTH: u32 = 21;
const LONGEST: usize = (1 << (MARK.ilog2() - LENGTH)) - 1;
const VERDICT: u32 = (1 << LENGTH) - 1;
const RELABELLED: u32 = VERDICT;
const LABEL_LIMIT: u32 = VERDICT - 1;
const NOT_NEEDED: u32 = VERDICT - 2;

impl Entry {
    /// `None` where the slot is a higher one than there is room for.
    fn new(hash: u64, length: usize, verdict: Verdict) -> Option<Self> {
        let verdict = match verdict {
            Verdict::Keep(slot) => Some(slot).filter(|slot| *slot < NOT_NEEDED)?,
            Verdict::Relabelled => RELABELLED,
            Verdict::LabelLimit => LABEL_LIMIT,
            Verdict::NotNeeded => NOT_NEEDED,
        };
        let length = if length > LONGEST { 0 } else { length };
        let length = u32::try_from(length).unwrap_or(0);
        let rest = length << LENGTH | verdict;
        Some(Self { hash, rest })
    }

    fn length(self) -> usize {
        self.rest as usize >> LENGTH & LONGEST
    }

    fn verdict(self) -> Verdict {
        match self.rest & VERDICT {
            RELABELLED => Verdict::Relabelled,
            LABEL_LIMIT => Verdict::LabelLimit,
            NOT_NEEDED => Verdict::NotNeeded,
            slot => Verdict::Keep(slot),
        }
    }

    fn mark(self) -> bool {
        self.rest & MARK > 0
    }

    fn set_mark(&mut self, mark: bool) {
        self.rest = (self.rest & !MARK) | if mark { MARK } else { 0 };
    }
}

impl KnownSeries {
    /// Begins a page.
    pub(super) fn begin(&mut self) {
        self.mark = !self.mark;
        (self.cursor, self.jumps, self.seen) = (0, 0, 0);
        self.before = self.entries.len();
    }

    /// How many bytes the text of the next series has, if the page is in the order of the one before; else 0.
    #[inline]
    pub(super) fn expects(&self) -> usize {
        let next = self.entries.get(self.cursor);
        next.map_or(0, |entry| entry.length())
    }

    /// The number of the series written like this.
    #[inline]
    pub(super) fn find(&mut self, text: &[u8], kind: FamilyKind) -> Option<usize> {
        let hash = self.hash(text, kind);
        match self.entries.get(self.cursor) {
            Some(entry) if entry.hash == hash => self.cursor += 1,
            _ => self.cursor = 1 + self.search(hash)?,
        }
        Some(self.cursor - 1)
    }

    #[cold]
    fn search(&mut self, hash: u64) -> Option<usize> {
        if let Some(places) = &self.places {
            return places
                .get(&hash)
                .and_then(|place| usize::try_from(*place).ok());
        }
        self.jumps += 1;
        if self.jumps > JUMPS {
            let places = (0..).zip(&self.entries);
            self.places = Some(places.map(|(place, entry)| (entry.hash, place)).collect());
            return self.search(hash);
        }
        let is_it = |entry: &Entry| entry.hash == hash;
        let (before, after) = self.entries.split_at(self.cursor.min(self.entries.len()));
        let later = after.iter().position(is_it).map(|it| before.len() + it);
        later.or_else(|| before.iter().position(is_it))
    }

    /// What becomes of the series of this number; it is on the page then.
    #[inline]
    pub(super) fn verdict(&mut self, number: usize) -> Verdict {
        let entry = &mut self.entries[number];
        if entry.mark() != self.mark {
            entry.set_mark(self.mark);
            self.seen += 1;
        }
        entry.verdict()
    }

    /// Remembers a series of the page; not one of so high a slot that each page has to find it in the store anew.
    pub(super) fn insert(&mut self, text: &[u8], kind: FamilyKind, verdict: Verdict) {
        let hash = self.hash(text, kind);
        let Some(mut entry) = Entry::new(hash, text.len(), verdict) else {
            return;
        };
        entry.set_mark(self.mark);
        if let (Some(places), Ok(place)) = (&mut self.places, u32::try_from(self.entries.len())) {
            places.insert(hash, place);
        }
        self.entries.push(entry);
        self.seen += 1;
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Ends a page that is kept: forgets the series that were not on it.
    pub(super) fn end(&mut self) {
        if self.seen < self.entries.len() {
            self.entries.retain(|entry| entry.mark() == self.mark);
        }
        self.settle();
    }

    /// Ends a page that is not kept: forgets the series that were new on it, for which the store has no place now.
    pub(super) fn give_up(&mut self) {
        self.entries.truncate(self.before);
        for entry in &mut self.entries {
            entry.set_mark(self.mark);
        }
        self.settle();
    }

    fn settle(&mut self) {
        self.places = None;
        if self.entries.capacity() > self.entries.len() + self.entries.len() / 8 {
            self.entries.shrink_to_fit();
        }
    }

    #[inline]
    fn hash(&self, text: &[u8], kind: FamilyKind) -> u64 {
        self.keys.hash_one((text, kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: FamilyKind = FamilyKind::Plain;

    fn page(known: &mut KnownSeries, texts: &[String]) -> Vec<Option<Verdict>> {
        known.begin();
        let find = |text: &String| {
            let number = known.find(text.as_bytes(), PLAIN)?;
            Some(known.verdict(number))
        };
        texts.iter().map(find).collect()
    }

    fn known(texts: &[String]) -> KnownSeries {
        let mut known = KnownSeries::default();
        known.begin();
        for (slot, text) in (0..).zip(texts) {
            assert_eq!(known.find(text.as_bytes(), PLAIN), None);
            known.insert(text.as_bytes(), PLAIN, Verdict::Keep(slot));
        }
        known.end();
        known
    }

    fn texts(count: usize) -> Vec<String> {
        (0..count).map(|it| format!("m{{pod=\"{it}\"}}")).collect()
    }

    #[test]
    fn series_are_found_in_any_order() {
        let mut texts = texts(200);
        let mut known = known(&texts);
        for order in 0..3 {
            match order {
                1 => texts.rotate_left(77),
                2 => texts.sort_by_key(|text| (text.len() % 2, text.as_bytes()[text.len() - 3])),
                _ => {}
            }
            let found = page(&mut known, &texts);
            for (text, verdict) in texts.iter().zip(found) {
                let slot = text["m{pod=\"".len()..text.len() - 2].parse();
                assert_eq!(
                    verdict,
                    slot.ok().map(Verdict::Keep),
                    "{text} of order {order}"
                );
            }
            known.end();
        }
        assert_eq!(known.find(texts[0].as_bytes(), FamilyKind::Summary), None);
    }

    #[test]
    fn a_series_that_left_the_page_is_forgotten() {
        let texts = texts(3);
        let mut known = known(&texts);
        page(
            &mut known,
            &[texts[2].clone(), texts[0].clone(), texts[2].clone()],
        );
        known.end();
        assert_eq!(known.len(), 2);
        let found = page(&mut known, &texts);
        assert_eq!(
            found,
            [Some(Verdict::Keep(0)), None, Some(Verdict::Keep(2))]
        );
    }

    #[test]
    fn long_texts_are_not_expected_and_the_highest_slots_are_not_remembered() {
        assert_eq!(size_of::<Entry>(), 12);
        let texts = [LONGEST, LONGEST + 1, 1 << 20, 3, 2].map(|length| "x".repeat(length));
        let slots = [NOT_NEEDED - 1, 1, 2, NOT_NEEDED, NOT_NEEDED + 2].map(Verdict::Keep);
        let mut known = KnownSeries::default();
        known.begin();
        for (text, verdict) in texts.iter().zip(slots) {
            known.insert(text.as_bytes(), PLAIN, verdict);
        }
        known.end();
        known.begin();
        let mut expected = Vec::new();
        let found = texts.each_ref().map(|text| {
            expected.push(known.expects());
            let number = known.find(text.as_bytes(), PLAIN)?;
            Some(known.verdict(number))
        });
        let [one, two, three, ..] = slots.map(Some);
        assert_eq!(found, [one, two, three, None, None]);
        assert_eq!(expected, [LONGEST, 0, 0, 0, 0]);
    }

    #[test]
    fn what_was_new_on_a_page_that_is_not_kept_is_forgotten() {
        let texts = texts(60);
        let mut known = known(&texts[..2]);
        page(&mut known, &texts[..1]);
        for text in &texts[2..] {
            assert_eq!(known.find(text.as_bytes(), PLAIN), None);
            known.insert(text.as_bytes(), PLAIN, Verdict::Relabelled);
        }
        let last = known.find(texts[59].as_bytes(), PLAIN);
        assert_eq!(last.map(|it| known.verdict(it)), Some(Verdict::Relabelled));
        known.give_up();
        let found = page(&mut known, &texts[..3]);
        assert_eq!(
            found,
            [Some(Verdict::Keep(0)), Some(Verdict::Keep(1)), None]
        );
        known.give_up();
        // That a series was on the page before is not taken for its being on this one.
        page(&mut known, &texts[..1]);
        known.give_up();
        page(&mut known, &texts[..1]);
        known.end();
        assert_eq!(known.len(), 1);
    }
}
