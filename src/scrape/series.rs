//! What a target's series became when they were first seen, so that later scrapes need not do the work again.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::Arc;

use crate::exposition::FamilyKind;
use crate::model::labels::Labels;

/// What becomes of a series.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// Its samples are kept under these labels.
    Keep(Labels),
    /// A rule drops it.
    Relabelled,
    /// No rule needs it.
    NotNeeded,
    /// It has too many labels, or too long ones.
    LabelLimit,
}

/// The series of one target, by how they are written on its page.
///
/// The page's text itself is not kept: at 300 bytes a series it would be most of this program's memory. 128 bits of two
/// keyed hashes stand for it; that two texts of a target share them is less likely than a memory error.
#[derive(Debug, Default)]
pub(super) struct KnownSeries {
    keys: [RandomState; 2],
    by_text: HashMap<u128, usize, BuildHasherDefault<AlreadyHashed>>,
    entries: Vec<Entry>,
    strings: HashSet<Arc<str>>,
    round: u64,
    seen: usize,
}

#[derive(Debug)]
struct Entry {
    verdict: Verdict,
    round: u64,
}

impl KnownSeries {
    /// Begins a page.
    pub(super) fn begin(&mut self) {
        self.round += 1;
        self.seen = 0;
    }

    /// The number of the series written like this.
    pub(super) fn find(&self, text: &[u8], kind: FamilyKind) -> Option<usize> {
        self.by_text.get(&self.key(text, kind)).copied()
    }

    /// What becomes of the series of this number; it is on the page then.
    pub(super) fn verdict(&mut self, number: usize) -> &Verdict {
        let entry = &mut self.entries[number];
        if entry.round != self.round {
            entry.round = self.round;
            self.seen += 1;
        }
        &entry.verdict
    }

    /// Remembers a series of the page.
    pub(super) fn insert(&mut self, text: &[u8], kind: FamilyKind, verdict: Verdict) {
        let round = self.round;
        self.by_text
            .insert(self.key(text, kind), self.entries.len());
        self.entries.push(Entry { verdict, round });
        self.seen += 1;
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Forgets the series that were not on the page.
    pub(super) fn end(&mut self) {
        if self.seen < self.entries.len() {
            let mut old: Vec<Option<Entry>> = self.entries.drain(..).map(Some).collect();
            let (entries, round) = (&mut self.entries, self.round);
            self.by_text.retain(|_, number| {
                let entry = old[*number].take().filter(|it| it.round == round);
                *number = entries.len();
                entries.extend(entry);
                entries.len() > *number
            });
        }
        self.sweep();
    }

    /// Forgets the strings that no series has any more. A page that was refused leaves strings behind too: a target that
    /// makes up new labels for each of its pages must not fill the memory with them.
    pub(super) fn sweep(&mut self) {
        self.strings.retain(|it| Arc::strong_count(it) > 1);
    }

    /// These labels, in strings that the target's other series share.
    pub(super) fn labels<'a>(
        &mut self,
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Labels {
        let pairs = pairs.into_iter();
        Labels::new(pairs.map(|(name, value)| (self.shared(name), self.shared(value))))
    }

    fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.strings.get(text) {
            return known.clone();
        }
        let new: Arc<str> = text.into();
        self.strings.insert(new.clone());
        new
    }

    fn key(&self, text: &[u8], kind: FamilyKind) -> u128 {
        let [high, low] = &self.keys;
        let hash = |keys: &RandomState| u128::from(keys.hash_one((text, kind)));
        hash(high) << 64 | hash(low)
    }
}

/// Takes a key that is a hash already for its own hash.
#[derive(Debug, Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let word = chunk
                .iter()
                .fold(0, |word, byte| word << 8 | u64::from(*byte));
            self.0 ^= word;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_that_left_the_page_is_forgotten_with_its_strings() {
        let mut known = KnownSeries::default();
        let plain = FamilyKind::Plain;
        known.begin();
        for pod in ["a", "b", "c"] {
            let labels = known.labels([("pod", pod)]);
            known.insert(pod.as_bytes(), plain, Verdict::Keep(labels));
        }
        known.end();
        assert_eq!((known.len(), known.strings.len()), (3, 4));

        known.begin();
        for pod in ["c", "a", "c"] {
            let number = known.find(pod.as_bytes(), plain).expect(pod);
            let Verdict::Keep(labels) = known.verdict(number) else {
                panic!("{pod}")
            };
            assert_eq!(labels.get("pod"), Some(pod));
        }
        known.end();
        assert_eq!((known.len(), known.strings.len()), (2, 3));
        assert_eq!(known.find(b"b", plain), None);
        let number = known.find(b"c", plain).expect("c");
        let Verdict::Keep(labels) = known.verdict(number) else {
            panic!("c")
        };
        assert_eq!(labels.get("pod"), Some("c"));
        assert_eq!(known.find(b"c", FamilyKind::Summary), None);
    }
}
