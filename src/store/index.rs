//! Which series exist, found by the values of their labels.

mod slab;

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use arcstr::ArcStr;
use foldhash::quality::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_map::EntryRef;
use smallvec::SmallVec;

use crate::model::labels::{self, Label, LabelList, Labels, METRIC_NAME};
use crate::model::matcher::{MatchOp, Matcher};

use super::ids::Ids;
use super::{Block, BlockState};
use slab::Slab;

/// A series' place in the index.
pub(super) type SeriesId = u32;

/// The place of a metric's name.
type NameId = u32;

/// The place of a set of labels.
type SetId = u32;

/// One series: its labels, and where its samples are.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) labels: Labels,
    pub(super) block: Arc<Block>,
    pub(super) id: SeriesId,
    pub(super) slot: u32,
}

/// A metric's name and the series that have it.
#[derive(Debug)]
struct Name {
    name: ArcStr,
    series: Ids,
}

/// What dozens of series of a target share: all labels but the metric's name.
#[derive(Debug)]
struct Set {
    labels: LabelList,
    /// Its series, sorted. A container's set has two, which need no memory of their own.
    members: SmallVec<[(NameId, SeriesId); 2]>,
}

/// Every series, by its metric's name and by each of its other labels' values.
///
/// A label's value leads to sets of labels, and a set to its series: on an exporter's page one set has dozens of them. A
/// query starts from the shortest list that one of its matchers names, so that its cost grows with what matches and not
/// with what is stored.
#[derive(Debug, Default)]
pub(super) struct Index {
    series: Slab<Entry>,
    names: Slab<Name>,
    sets: Slab<Set>,
    name_ids: ByText<NameId>,
    /// By their labels, which are only in `sets`.
    set_ids: HashTable<SetId>,
    by_label: ByText<ByText<Ids>>,
    /// What the labels of sets are hashed with: whoever writes a page must not choose where they go.
    keys: RandomState,
}

/// Hashed with a key of its own.
type ByText<V> = hashbrown::HashMap<ArcStr, V, RandomState>;

impl Index {
    /// How many series there are.
    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    /// Adds a series and gives its place. Its labels' strings become those that other series already share.
    pub(super) fn insert(&mut self, labels: &Labels, block: &Arc<Block>, slot: u32) -> SeriesId {
        let name = self.name(labels.metric());
        let set = self.set(labels.others());
        let shared = Labels::of_metric(
            labels
                .metric()
                .and(self.names.get(name))
                .map(|name| name.name.clone()),
            self.sets
                .get(set)
                .map(|set| set.labels.clone())
                .unwrap_or_default(),
        );
        let id = self.series.next();
        self.series.insert(Entry {
            labels: shared,
            block: Arc::clone(block),
            id,
            slot,
        });
        if let Some(name) = self.names.get_mut(name) {
            name.series.insert(id);
        }
        if let Some(Set { members, .. }) = self.sets.get_mut(set) {
            let place = members.partition_point(|member| *member < (name, id));
            if members.len() == members.capacity() {
                members.reserve_exact(1 + members.len() / 4);
            }
            members.insert(place, (name, id));
        }
        id
    }

    fn name(&mut self, name: Option<&ArcStr>) -> NameId {
        let text = name.map_or("", |name| &**name);
        if let Some(id) = self.name_ids.get(text) {
            return *id;
        }
        let name = name.cloned().unwrap_or_default();
        let id = self.names.insert(Name {
            name: name.clone(),
            series: Ids::default(),
        });
        self.name_ids.insert(name, id);
        id
    }

    fn set(&mut self, labels: &LabelList) -> SetId {
        let hash = self.keys.hash_one(labels);
        if let Some(id) = self.find_set(hash, labels) {
            return id;
        }
        let id = self.sets.next();
        let shared = labels.iter().map(|label| self.shared(label, id));
        let labels = LabelList::new(shared);
        self.sets.insert(Set {
            labels,
            members: SmallVec::new(),
        });
        let (keys, sets) = (&self.keys, &self.sets);
        self.set_ids.insert_unique(hash, id, |id| {
            sets.get(*id).map_or(0, |set| keys.hash_one(&set.labels))
        });
        id
    }

    /// The set of these labels, whose hash this is.
    fn find_set(&self, hash: u64, labels: &LabelList) -> Option<SetId> {
        let is_it = |id: &SetId| self.sets.get(*id).is_some_and(|set| set.labels == *labels);
        self.set_ids.find(hash, is_it).copied()
    }

    /// This label of `set`, in the strings that the index has for it.
    fn shared(&mut self, (name, value): &Label, set: SetId) -> Label {
        let (name, values) = match self.by_label.entry_ref(name) {
            EntryRef::Occupied(known) => (known.key().clone(), known.into_mut()),
            EntryRef::Vacant(new) => (name.clone(), new.insert(ByText::default())),
        };
        let (value, sets) = match values.entry_ref(value) {
            EntryRef::Occupied(known) => (known.key().clone(), known.into_mut()),
            EntryRef::Vacant(new) => (value.clone(), new.insert(Ids::default())),
        };
        sets.insert(set);
        (name, value)
    }

    /// Removes series.
    pub(super) fn remove(&mut self, ids: impl IntoIterator<Item = SeriesId>) {
        let mut of_name: HashMap<NameId, Vec<SeriesId>> = HashMap::new();
        let mut emptied: Vec<SetId> = Vec::new();
        for id in ids {
            let Some(entry) = self.series.remove(id) else {
                continue;
            };
            let name = entry.labels.metric_name().unwrap_or_default();
            let Some(name) = self.name_ids.get(name) else {
                continue;
            };
            of_name.entry(*name).or_default().push(id);
            let labels = entry.labels.others();
            let Some(set) = self.find_set(self.keys.hash_one(labels), labels) else {
                continue;
            };
            if let Some(Set { members, .. }) = self.sets.get_mut(set) {
                if let Ok(place) = members.binary_search(&(*name, id)) {
                    members.remove(place);
                }
                if members.is_empty() {
                    emptied.push(set);
                }
            }
        }
        for (name, mut gone) in of_name {
            gone.sort_unstable();
            let is_empty = self
                .names
                .get_mut(name)
                .is_some_and(|it| it.series.remove(&gone));
            if is_empty && let Some(name) = self.names.remove(name) {
                self.name_ids.remove(&name.name);
            }
        }
        self.remove_sets(emptied);
    }

    fn remove_sets(&mut self, emptied: Vec<SetId>) {
        let mut of_label: HashMap<Label, Vec<SetId>> = HashMap::new();
        for id in emptied {
            let Some(set) = self.sets.remove(id) else {
                continue;
            };
            for label in set.labels.iter() {
                of_label.entry(label.clone()).or_default().push(id);
            }
            let hash = self.keys.hash_one(&set.labels);
            if let Ok(known) = self.set_ids.find_entry(hash, |it| *it == id) {
                known.remove();
            }
        }
        for ((name, value), mut gone) in of_label {
            gone.sort_unstable();
            let Some(values) = self.by_label.get_mut(&name) else {
                continue;
            };
            if values.get_mut(&value).is_some_and(|ids| ids.remove(&gone)) {
                values.remove(&value);
            }
            if values.is_empty() {
                self.by_label.remove(&name);
            }
        }
    }

    /// The series at this place, if there is one.
    pub(super) fn get(&self, id: SeriesId) -> Option<&Entry> {
        self.series.get(id)
    }

    /// The place of `block`'s series with these labels.
    pub(super) fn lookup(&self, labels: &Labels, block: &Arc<Block>) -> Option<&Entry> {
        let name = *self
            .name_ids
            .get(labels.metric_name().unwrap_or_default())?;
        let hash = self.keys.hash_one(labels.others());
        let set = self.sets.get(self.find_set(hash, labels.others())?)?;
        let of_name = |(_, id): &(NameId, SeriesId)| self.series.get(*id);
        members_of(set, name)
            .iter()
            .filter_map(of_name)
            .find(|entry| Arc::ptr_eq(&entry.block, block))
    }

    /// The series that meet all `matchers`.
    pub(super) fn find(&self, matchers: &[Matcher]) -> Vec<&Entry> {
        let (of_name, of_labels): (Vec<&Matcher>, Vec<&Matcher>) = matchers
            .iter()
            .partition(|matcher| matcher.name == METRIC_NAME);
        let (sets, met) = self.candidates(&of_labels);
        // What led to the sets need not be compared with each of them.
        let matchers = of_labels.iter().enumerate();
        let unmet = matchers.filter(|(place, _)| Some(*place) != met);
        let unmet: Vec<&Matcher> = unmet.map(|(_, matcher)| *matcher).collect();
        let Some(names) = self.matching_names(&of_name) else {
            return self.in_sets(&sets, &unmet, |set| &set.members);
        };
        let named = || names.iter().filter_map(|id| self.names.get(*id));
        let by_name: usize = named().map(|name| name.series.as_slice().len()).sum();
        if sets.len().is_none_or(|sets| sets > by_name) {
            let all_match = of_labels.is_empty();
            let mut found = Vec::with_capacity(if all_match { by_name } else { 0 });
            for id in named().flat_map(|name| name.series.as_slice()) {
                found.extend(self.series.get(*id).filter(|entry| {
                    let value =
                        |matcher: &&Matcher| matcher.matches(entry.labels.value(&matcher.name));
                    all_match || of_labels.iter().all(value)
                }));
            }
            return found;
        }
        if let [name] = names.as_slice() {
            return self.in_sets(&sets, &unmet, |set| members_of(set, *name));
        }
        let mut found = self.in_sets(&sets, &unmet, |set| &set.members);
        found.retain(|entry| {
            let name = entry.labels.metric_name().unwrap_or_default();
            let id = self.name_ids.get(name);
            id.is_some_and(|id| names.binary_search(id).is_ok())
        });
        found
    }

    /// The names that meet these conditions, sorted; `None` if there is no condition.
    fn matching_names(&self, matchers: &[&Matcher]) -> Option<Vec<NameId>> {
        if matchers.is_empty() {
            return None;
        }
        let meets = |name: &str| matchers.iter().all(|matcher| matcher.matches(name));
        let exact = matchers
            .iter()
            .find(|matcher| matches!(matcher.op, MatchOp::Equal));
        let mut ids: Vec<NameId> = match exact {
            Some(exact) => {
                let id = self.name_ids.get(exact.value.as_str()).copied();
                id.filter(|_| meets(&exact.value)).into_iter().collect()
            }
            None => {
                let all = self.name_ids.iter();
                all.filter(|(name, _)| meets(name))
                    .map(|(_, id)| *id)
                    .collect()
            }
        };
        ids.sort_unstable();
        Some(ids)
    }

    /// The series that `of_set` picks in those of `sets` that meet all `matchers`.
    fn in_sets<'a>(
        &'a self,
        sets: &Sets<'_>,
        matchers: &[&Matcher],
        of_set: impl Fn(&'a Set) -> &'a [(NameId, SeriesId)],
    ) -> Vec<&'a Entry> {
        let mut found = Vec::new();
        let take = |set: &'a Set| {
            let meets = |matcher: &&Matcher| {
                // A label that is absent is empty.
                let label = labels::find(&set.labels, &matcher.name);
                matcher.matches(label.map_or("", |(_, value)| value))
            };
            if matchers.iter().all(meets) {
                let members = of_set(set).iter();
                found.extend(members.filter_map(|(_, id)| self.series.get(*id)));
            }
        };
        let known = |ids: &[SetId]| ids.iter().filter_map(|id| self.sets.get(*id)).collect();
        let sets: Vec<&Set> = match sets {
            Sets::Some(ids) => known(ids),
            Sets::Union(ids) => known(ids),
            Sets::All => self.sets.iter().collect(),
        };
        sets.into_iter().for_each(take);
        found
    }

    /// The shortest list of sets that must contain every answer, and the place of the matcher that all of them meet.
    fn candidates(&self, matchers: &[&Matcher]) -> (Sets<'_>, Option<usize>) {
        let list = |matcher: &Matcher| {
            let values = self.by_label.get(matcher.name.as_str())?;
            Some(values.get(matcher.value.as_str())?.as_slice())
        };
        let exact = matchers
            .iter()
            .enumerate()
            .filter(|(_, it)| matches!(it.op, MatchOp::Equal) && !it.value.is_empty())
            .map(|(place, matcher)| (place, list(matcher).unwrap_or_default()))
            .min_by_key(|(_, ids)| ids.len());
        if let Some((place, ids)) = exact {
            return (Sets::Some(ids), Some(place));
        }
        // No exact value is named: the union of what an expression lets through, unless that includes absence.
        let narrows =
            |matcher: &&Matcher| matches!(matcher.op, MatchOp::Regex(_)) && !matcher.matches("");
        let Some(place) = matchers.iter().position(narrows) else {
            return (Sets::All, None);
        };
        let expression = matchers[place];
        let values = self.by_label.get(expression.name.as_str());
        let matching = values
            .into_iter()
            .flatten()
            .filter(|(value, _)| expression.matches(value));
        let sets = matching.flat_map(|(_, ids)| ids.as_slice().iter().copied());
        (Sets::Union(sets.collect()), Some(place))
    }

    /// Calls `visit` once for each target that `entries` belong to, with the target's samples locked; with those of the
    /// series that have a sample.
    pub(super) fn visit_by_block(
        entries: &[&Entry],
        mut visit: impl FnMut(&Block, &BlockState, &[&Entry]),
    ) {
        let mut entries = entries.to_vec();
        // A search mostly finds them so already.
        entries.sort_unstable_by_key(|entry| entry.block.id);
        for group in entries.chunk_by(|a, b| Arc::ptr_eq(&a.block, &b.block)) {
            let block = &group[0].block;
            let state = &*block.state.read();
            let is_there = |entry: &&Entry| state.history.has(entry.slot);
            if state.gone {
                continue;
            }
            if group.iter().all(is_there) {
                visit(block, state, group);
                continue;
            }
            let there: Vec<&Entry> = group.iter().copied().filter(is_there).collect();
            if !there.is_empty() {
                visit(block, state, &there);
            }
        }
    }
}

/// Where a search begins.
enum Sets<'a> {
    /// The sets with one exact value.
    Some(&'a [SetId]),
    /// The sets whose label one expression lets through. A set is there once: it has one value of a label.
    Union(Vec<SetId>),
    /// All of them.
    All,
}

impl Sets<'_> {
    /// How many there are; `None` for all.
    fn len(&self) -> Option<usize> {
        match self {
            Self::Some(ids) => Some(ids.len()),
            Self::Union(ids) => Some(ids.len()),
            Self::All => None,
        }
    }
}

fn members_of(set: &Set, name: NameId) -> &[(NameId, SeriesId)] {
    let start = set.members.partition_point(|(it, _)| *it < name);
    let length = set.members[start..]
        .iter()
        .take_while(|(it, _)| *it == name)
        .count();
    &set.members[start..start + length]
}
