//! Which series exist, found by the values of their labels.

mod slab;

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::num::NonZeroU32;
use std::sync::Arc;

use arcstr::ArcStr;
use foldhash::quality::RandomState;
use hashbrown::hash_map::EntryRef;
use hashbrown::{HashTable, hash_table};
use smallvec::SmallVec;

use crate::model::labels::{LabelList, LabelNames, Labels, METRIC_NAME};
use crate::model::matcher::{MatchOp, Matcher};

use super::ids::Ids;
use super::{Block, BlockState, Slot};
use slab::Slab;

/// A series' place in the index.
pub(super) type SeriesId = u32;

/// The place of a metric's name.
type NameId = u32;

/// The place of a set of labels.
type SetId = u32;

/// The place of a label's value.
type ValueId = u32;

/// A target's number among those that are there; never 0, so that a place without a series costs nothing.
pub(super) type BlockId = NonZeroU32;

/// One series: what it is called, and where its samples are. 16 bytes, since there are as many as series.
#[derive(Clone, Copy, Debug)]
struct Entry {
    name: NameId,
    set: SetId,
    block: BlockId,
    slot: Slot,
}

/// A series that was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    pub(super) id: SeriesId,
    pub(super) slot: Slot,
    block: &'a Arc<Block>,
    name: &'a ArcStr,
    others: &'a LabelList,
}

impl Found<'_> {
    /// What tells it from others. The strings and the list are the index's own.
    pub(super) fn labels(&self) -> Labels {
        let name = Some(self.name).filter(|name| !name.is_empty());
        Labels::of_metric(name.cloned(), self.others.clone())
    }

    /// Whether it is the series with these labels.
    pub(super) fn has(&self, labels: &Labels) -> bool {
        labels.metric_name().unwrap_or_default() == self.name && labels.others() == self.others
    }
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

/// A label's value and the sets of labels that have it.
#[derive(Debug)]
struct Value {
    text: ArcStr,
    sets: Ids,
}

/// Every series, by its metric's name and by each of its other labels' values.
///
/// A label's value leads to sets of labels, and a set to its series: on an exporter's page one set has dozens of them. A
/// query starts from the shortest list that one of its matchers names, so that its cost grows with what matches and not
/// with what is stored.
#[derive(Debug, Default)]
pub(super) struct Index {
    series: Slab<Entry>,
    /// The targets, by their numbers less 1.
    blocks: Slab<Arc<Block>>,
    names: Slab<Name>,
    sets: Slab<Set>,
    name_ids: ByText<NameId>,
    /// By their labels, which are only in `sets`.
    set_ids: HashTable<SetId>,
    /// The names of the sets' labels, and how many sets have the same.
    schemas: hashbrown::HashMap<LabelNames, u32, RandomState>,
    values: Slab<Value>,
    /// By a label's name and its value, which is only in `values`.
    by_label: ByText<HashTable<ValueId>>,
    /// What sets and values are hashed with: whoever writes a page must not choose where they go.
    keys: RandomState,
}

/// Hashed with a key of its own.
type ByText<V> = hashbrown::HashMap<ArcStr, V, RandomState>;

impl Index {
    /// How many series there are.
    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    /// How many lists of labels' names there are.
    #[cfg(test)]
    pub(super) fn schemas(&self) -> usize {
        self.schemas.len()
    }

    /// Takes in a target, and gives its number.
    pub(super) fn add_block(&mut self, block: Arc<Block>) -> BlockId {
        BlockId::MIN.saturating_add(self.blocks.insert(block))
    }

    /// Forgets a target that has no series.
    pub(super) fn remove_block(&mut self, block: BlockId) {
        self.blocks.remove(block.get() - 1);
    }

    /// Adds a series of a target and gives its place. Its labels' strings become those that other series already share.
    pub(super) fn insert(&mut self, labels: &Labels, block: BlockId, slot: Slot) -> SeriesId {
        let name = self.name(labels.metric());
        let set = self.set(labels.others());
        let id = self.series.insert(Entry {
            name,
            set,
            block,
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
        let names = self.schema(labels.names());
        let shared = names.iter().zip(labels.values());
        let shared = shared.map(|(name, value)| self.value(name, value, id));
        let labels = LabelList::new(names.clone(), shared);
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

    /// These names for one more set, in the strings that the index has for them.
    fn schema(&mut self, names: &LabelNames) -> LabelNames {
        if let Some((known, sets)) = self.schemas.get_key_value_mut(names) {
            *sets += 1;
            return known.clone();
        }
        let shared = names
            .iter()
            .map(|name| match self.by_label.entry_ref(name) {
                EntryRef::Occupied(known) => known.key().clone(),
                EntryRef::Vacant(new) => {
                    new.insert(HashTable::default());
                    name.clone()
                }
            });
        let shared = LabelNames::new(shared);
        self.schemas.insert(shared.clone(), 1);
        shared
    }

    /// This value of a label of `set`, in the string that the index has for it.
    fn value(&mut self, name: &ArcStr, value: &ArcStr, set: SetId) -> ArcStr {
        let (keys, values) = (&self.keys, &mut self.values);
        let of_name = self.by_label.entry_ref(name).or_default();
        let text = |id: &ValueId| values.get(*id).map(|value| &value.text);
        let id = of_name.entry(
            keys.hash_one(value),
            |id| text(id) == Some(value),
            |id| text(id).map_or(0, |text| keys.hash_one(text)),
        );
        let id = match id {
            hash_table::Entry::Occupied(known) => *known.get(),
            hash_table::Entry::Vacant(new) => {
                let id = values.insert(Value {
                    text: value.clone(),
                    sets: Ids::default(),
                });
                new.insert(id);
                id
            }
        };
        match values.get_mut(id) {
            Some(value) => {
                value.sets.insert(set);
                value.text.clone()
            }
            None => value.clone(),
        }
    }

    /// The sets whose label `name` has this value.
    fn sets_with(&self, name: &str, value: &str) -> Option<&[SetId]> {
        let of_name = self.by_label.get(name)?;
        let is_it = |id: &ValueId| self.values.get(*id).is_some_and(|it| it.text == value);
        let id = of_name.find(self.keys.hash_one(value), is_it)?;
        Some(self.values.get(*id)?.sets.as_slice())
    }

    /// Removes series.
    pub(super) fn remove(&mut self, ids: impl IntoIterator<Item = SeriesId>) {
        let mut of_name: HashMap<NameId, Vec<SeriesId>> = HashMap::new();
        let mut emptied: Vec<SetId> = Vec::new();
        for id in ids {
            let Some(Entry { name, set, .. }) = self.series.remove(id) else {
                continue;
            };
            of_name.entry(name).or_default().push(id);
            if let Some(Set { members, .. }) = self.sets.get_mut(set) {
                if let Ok(place) = members.binary_search(&(name, id)) {
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
        let mut of_label: HashMap<(ArcStr, ArcStr), Vec<SetId>> = HashMap::new();
        for id in emptied {
            let Some(Set { labels, .. }) = self.sets.remove(id) else {
                continue;
            };
            for (name, value) in labels.iter() {
                let label = (name.clone(), value.clone());
                of_label.entry(label).or_default().push(id);
            }
            let hash = self.keys.hash_one(&labels);
            if let Ok(known) = self.set_ids.find_entry(hash, |it| *it == id) {
                known.remove();
            }
            if let Some(sets) = self.schemas.get_mut(labels.names()) {
                *sets -= 1;
                if *sets == 0 {
                    self.schemas.remove(labels.names());
                }
            }
        }
        for ((name, value), mut gone) in of_label {
            gone.sort_unstable();
            let Some(of_name) = self.by_label.get_mut(&name) else {
                continue;
            };
            let is_it = |id: &ValueId| self.values.get(*id).is_some_and(|it| it.text == value);
            if let Ok(known) = of_name.find_entry(self.keys.hash_one(&value), is_it) {
                let id = *known.get();
                let is_empty = self
                    .values
                    .get_mut(id)
                    .is_some_and(|it| it.sets.remove(&gone));
                if is_empty {
                    known.remove();
                    self.values.remove(id);
                }
            }
            if of_name.is_empty() {
                self.by_label.remove(&name);
            }
        }
    }

    /// The series at this place, if there is one.
    pub(super) fn get(&self, id: SeriesId) -> Option<Found<'_>> {
        let entry = self.series.get(id)?;
        self.found(id, entry, self.sets.get(entry.set)?)
    }

    /// The series of this entry, which is in `set`.
    fn found<'a>(&'a self, id: SeriesId, entry: &Entry, set: &'a Set) -> Option<Found<'a>> {
        Some(Found {
            id,
            slot: entry.slot,
            block: self.blocks.get(entry.block.get() - 1)?,
            name: &self.names.get(entry.name)?.name,
            others: &set.labels,
        })
    }

    /// The slot of `block`'s series with these labels.
    pub(super) fn lookup(&self, labels: &Labels, block: BlockId) -> Option<Slot> {
        let name = *self
            .name_ids
            .get(labels.metric_name().unwrap_or_default())?;
        let hash = self.keys.hash_one(labels.others());
        let set = self.sets.get(self.find_set(hash, labels.others())?)?;
        let of_name = |(_, id): &(NameId, SeriesId)| self.series.get(*id);
        members_of(set, name)
            .iter()
            .filter_map(of_name)
            .find(|entry| entry.block == block)
            .map(|entry| entry.slot)
    }

    /// The series that meet all `matchers`.
    pub(super) fn find(&self, matchers: &[Matcher]) -> Vec<Found<'_>> {
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
                let is_it = |it: &Found<'_>| all_match || all_meet(&of_labels, it.others);
                found.extend(self.get(*id).filter(is_it));
            }
            return found;
        }
        if let [name] = names.as_slice() {
            return self.in_sets(&sets, &unmet, |set| members_of(set, *name));
        }
        let mut found = self.in_sets(&sets, &unmet, |set| &set.members);
        found.retain(|series| {
            let id = self.name_ids.get(series.name);
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
    ) -> Vec<Found<'a>> {
        let mut found = Vec::new();
        let take = |set: &'a Set| {
            if all_meet(matchers, &set.labels) {
                let members = of_set(set).iter();
                let series =
                    members.filter_map(|(_, id)| self.found(*id, self.series.get(*id)?, set));
                found.extend(series);
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
        let exact = matchers
            .iter()
            .enumerate()
            .filter(|(_, it)| matches!(it.op, MatchOp::Equal) && !it.value.is_empty())
            .map(|(place, it)| {
                (
                    place,
                    self.sets_with(&it.name, &it.value).unwrap_or_default(),
                )
            })
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
        let of_name = self.by_label.get(expression.name.as_str());
        let values = of_name.into_iter().flatten();
        let matching = values
            .filter_map(|id| self.values.get(*id))
            .filter(|value| expression.matches(&value.text));
        let sets = matching.flat_map(|value| value.sets.as_slice().iter().copied());
        (Sets::Union(sets.collect()), Some(place))
    }

    /// Calls `visit` once for each target that what was found belongs to, with the target's samples locked; with those of the
    /// series that have a sample.
    pub(super) fn visit_by_block(
        mut found: Vec<Found<'_>>,
        mut visit: impl FnMut(&Block, &BlockState, &[Found<'_>]),
    ) {
        // A search mostly finds them so already.
        found.sort_unstable_by_key(|series| series.block.id);
        for group in found.chunk_by(|a, b| Arc::ptr_eq(a.block, b.block)) {
            let block = group[0].block;
            let state = &*block.state.read();
            let is_there = |series: &Found<'_>| state.history.has(series.slot);
            if state.gone {
                continue;
            }
            if group.iter().all(is_there) {
                visit(block, state, group);
                continue;
            }
            let there: Vec<Found<'_>> = group.iter().copied().filter(is_there).collect();
            if !there.is_empty() {
                visit(block, state, &there);
            }
        }
    }
}

/// Whether these labels meet all `matchers`, none of which is about the metric's name. A label that is absent is empty.
fn all_meet(matchers: &[&Matcher], labels: &LabelList) -> bool {
    matchers.iter().all(|matcher| {
        let value = labels.get(&matcher.name);
        matcher.matches(value.map_or("", |value| value))
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_for_each_series_and_each_set_is_small() {
        assert_eq!(size_of::<Option<Entry>>(), 16);
        assert_eq!(size_of::<Option<Set>>(), 32);
        assert_eq!(size_of::<Option<Value>>(), 24);
    }
}
