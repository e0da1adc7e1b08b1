//! Which series exist, found by the values of their labels.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
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
    postings: HashMap<Arc<str>, HashMap<Arc<str>, HashSet<SeriesId>>>,
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
        let meets = |entry: &&Entry| all_match(matchers, &entry.labels);
        let entry = |id: &SeriesId| self.entries[*id as usize].as_ref();
        match self.candidates(matchers) {
            Some(ids) => ids.iter().filter_map(entry).filter(meets).collect(),
            None => self.entries.iter().flatten().filter(meets).collect(),
        }
    }

    /// The shortest list of series that must contain every answer; `None` where no matcher narrows them.
    fn candidates(&self, matchers: &[Matcher]) -> Option<Cow<'_, HashSet<SeriesId>>> {
        let exact = matchers
            .iter()
            .filter(|matcher| matches!(matcher.op, MatchOp::Equal) && !matcher.value.is_empty())
            .map(|matcher| {
                self.postings
                    .get(matcher.name.as_str())
                    .and_then(|values| values.get(matcher.value.as_str()))
            })
            .map(|list| list.map_or_else(|| Cow::Owned(HashSet::new()), Cow::Borrowed))
            .min_by_key(|list| list.len());
        if exact.is_some() {
            return exact;
        }
        // No exact value is named: the union of what an expression lets through, unless that includes absence.
        let expression = matchers
            .iter()
            .find(|matcher| matches!(matcher.op, MatchOp::Regex(_)) && !matcher.matches(""))?;
        let values = self.postings.get(expression.name.as_str());
        let matching = values
            .into_iter()
            .flatten()
            .filter(|(value, _)| expression.matches(value));
        Some(Cow::Owned(
            matching
                .flat_map(|(_, list)| list.iter().copied())
                .collect(),
        ))
    }

    /// Calls `visit` once for each target that `entries` belong to, with the target's samples locked.
    pub(super) fn visit_by_block(
        entries: &[&Entry],
        mut visit: impl FnMut(&Block, &BlockState, &[&Entry]),
    ) {
        let mut groups: HashMap<*const Block, Vec<&Entry>> = HashMap::new();
        for entry in entries {
            groups
                .entry(Arc::as_ptr(&entry.block))
                .or_default()
                .push(entry);
        }
        for group in groups.into_values() {
            let block = &group[0].block;
            visit(block, &block.state.read(), &group);
        }
    }
}
