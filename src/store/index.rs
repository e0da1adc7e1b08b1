//! Which series exist, found by the values of their labels.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use crate::model::labels::Labels;
use crate::model::matcher::{MatchOp, Matcher, all_match};

use super::{Block, BlockState};

/// A series' place in the index.
pub(super) type SeriesId = u32;

/// One series: its labels, and where its samples are.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: SeriesId,
    pub(super) labels: Labels,
    pub(super) block: Arc<Block>,
    pub(super) slot: usize,
}

/// Every series by every one of its labels' values.
///
/// A query starts from the shortest list that one of its matchers names, so that its cost grows with what matches and
/// not with what is stored.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: Vec<Option<Entry>>,
    free: Vec<SeriesId>,
    postings: HashMap<Arc<str>, HashMap<Arc<str>, Ids>>,
}

impl Index {
    /// How many series there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Adds a series and gives its place. Its labels' strings become those that other series already share.
    pub(super) fn insert(&mut self, labels: &Labels, block: &Arc<Block>, slot: usize) -> SeriesId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            SeriesId::try_from(self.entries.len() - 1)
                .expect("the limit on series is far below 2^32")
        });
        let mut shared = Vec::with_capacity(labels.len());
        for (name, value) in labels.shared() {
            if !self.postings.contains_key(name) {
                self.postings.insert(Arc::clone(name), HashMap::new());
            }
            let (name, _) = self
                .postings
                .get_key_value(name)
                .expect("it was just put there");
            let name = Arc::clone(name);
            let values = self.postings.get_mut(&name).expect("it was just found");
            let value = values
                .get_key_value(value)
                .map_or(value, |(known, _)| known)
                .clone();
            values.entry(Arc::clone(&value)).or_default().insert(id);
            shared.push((name, value));
        }
        self.entries[id as usize] = Some(Entry {
            id,
            labels: shared.into_iter().collect(),
            block: Arc::clone(block),
            slot,
        });
        id
    }

    /// Removes a series.
    pub(super) fn remove(&mut self, id: SeriesId) {
        let Some(entry) = self.entries.get_mut(id as usize).and_then(Option::take) else {
            return;
        };
        self.free.push(id);
        for (name, value) in entry.labels.iter() {
            let Some(values) = self.postings.get_mut(name) else {
                continue;
            };
            if let Some(list) = values.get_mut(value) {
                list.remove(&id);
                if list.is_empty() {
                    values.remove(value);
                }
            }
            if values.is_empty() {
                self.postings.remove(name);
            }
        }
    }

    /// The series at this place, if there is one.
    pub(super) fn get(&self, id: SeriesId) -> Option<&Entry> {
        self.entries.get(id as usize)?.as_ref()
    }

    /// The series that meet all `matchers`.
    pub(super) fn find(&self, matchers: &[Matcher]) -> Vec<&Entry> {
        let entry = |id: &SeriesId| self.entries[*id as usize].as_ref();
        match self.candidates(matchers) {
            // What chose the candidates holds for all of them.
            Candidates::Exact { ids, chosen } => {
                let (before, after) = (&matchers[..chosen], &matchers[chosen + 1..]);
                let meets = |entry: &&Entry| {
                    all_match(before, &entry.labels) && all_match(after, &entry.labels)
                };
                ids.into_iter()
                    .flatten()
                    .filter_map(entry)
                    .filter(meets)
                    .collect()
            }
            Candidates::Union(ids) => {
                let meets = |entry: &&Entry| all_match(matchers, &entry.labels);
                ids.iter().filter_map(entry).filter(meets).collect()
            }
            Candidates::All => {
                let meets = |entry: &&Entry| all_match(matchers, &entry.labels);
                self.entries.iter().flatten().filter(meets).collect()
            }
        }
    }

    /// The shortest list of series that must contain every answer.
    fn candidates(&self, matchers: &[Matcher]) -> Candidates<'_> {
        let list = |matcher: &Matcher| {
            self.postings
                .get(matcher.name.as_str())?
                .get(matcher.value.as_str())
        };
        let exact = matchers
            .iter()
            .enumerate()
            .filter(|(_, matcher)| {
                matches!(matcher.op, MatchOp::Equal) && !matcher.value.is_empty()
            })
            .map(|(chosen, matcher)| (chosen, list(matcher)))
            .min_by_key(|(_, ids)| ids.map_or(0, HashSet::len));
        if let Some((chosen, ids)) = exact {
            return Candidates::Exact { ids, chosen };
        }
        // No exact value is named: the union of what an expression lets through, unless that includes absence.
        let narrows =
            |matcher: &&Matcher| matches!(matcher.op, MatchOp::Regex(_)) && !matcher.matches("");
        let Some(expression) = matchers.iter().find(narrows) else {
            return Candidates::All;
        };
        let values = self.postings.get(expression.name.as_str());
        let matching = values
            .into_iter()
            .flatten()
            .filter(|(value, _)| expression.matches(value));
        Candidates::Union(matching.flat_map(|(_, ids)| ids.iter().copied()).collect())
    }

    /// Calls `visit` once for each target that `entries` belong to, with the target's samples locked.
    pub(super) fn visit_by_block(
        entries: &[&Entry],
        mut visit: impl FnMut(&Block, &BlockState, &[&Entry]),
    ) {
        let mut entries = entries.to_vec();
        entries.sort_unstable_by_key(|entry| Arc::as_ptr(&entry.block));
        for group in entries.chunk_by(|a, b| Arc::ptr_eq(&a.block, &b.block)) {
            let block = &group[0].block;
            visit(block, &block.state.read(), group);
        }
    }
}

/// Where a search begins.
enum Candidates<'a> {
    /// The series with one exact value, which the matcher `chosen` asks for; none has it where there is no list.
    Exact { ids: Option<&'a Ids>, chosen: usize },
    /// The series whose label one expression lets through. A series is there once: it has one value of a label.
    Union(Vec<SeriesId>),
    /// All of them.
    All,
}

/// A set of series.
type Ids = HashSet<SeriesId, BuildHasherDefault<IdHasher>>;

/// Spreads the numbers that the index itself gave out; nobody outside chooses them.
#[derive(Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        // Fibonacci hashing: consecutive numbers end up far apart, in the high bits that the table looks at too.
        self.0 = (self.0 ^ u64::from(number))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(32);
    }
}
