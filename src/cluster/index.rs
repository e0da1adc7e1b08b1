//! Objects by namespace and name, with their labels and owners: what a label selector is answered from.
//!
//! One [`IndexWriter`], owned by the task that watches; readers see whole snapshots and never wait. A list in one
//! namespace looks at that namespace only. What objects have in common is shared: the pods of one ReplicaSet hold the same
//! labels and owner.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use kube::core::ObjectMeta;
use tokio::sync::watch;

use crate::model::objects::{LabelledObject, ObjectLabels, ObjectRef, Owner};

/// The objects of one kind, as last known.
#[derive(Debug)]
pub struct Index {
    /// `None` until the first full list.
    current: ArcSwapOption<Snapshot>,
    synced: watch::Sender<bool>,
}

/// By namespace (empty for cluster-scoped kinds); an empty namespace is not kept.
type Snapshot = BTreeMap<Arc<str>, Arc<Vec<Entry>>>;

/// Sorted by name within a namespace.
#[derive(Clone, Debug)]
struct Entry {
    name: Arc<str>,
    traits: Arc<Traits>,
}

/// What objects are found by besides their names.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Traits {
    /// Their labels.
    pub labels: Arc<ObjectLabels>,
    /// Who controls them.
    pub owner: Option<Owner>,
}

impl Traits {
    /// Whether one of these controls the object.
    pub fn is_owned_by(&self, owners: &HashSet<Owner>) -> bool {
        self.owner.as_ref().is_some_and(|it| owners.contains(it))
    }
}

/// An empty index that is not synced, and its writer.
pub fn index() -> (IndexWriter, Arc<Index>) {
    let index = Arc::new(Index {
        current: ArcSwapOption::empty(),
        synced: watch::Sender::new(false),
    });
    let writer = IndexWriter {
        index: Arc::clone(&index),
        staged: HashMap::new(),
        shared: Shared::default(),
    };
    (writer, index)
}

impl Index {
    /// The objects in `namespace` (`None`: everywhere) that `matches` accepts, by namespace, then name. `None` before the
    /// first full list.
    ///
    /// `matches` is asked once for neighbours that share labels and owner.
    pub fn list(
        &self,
        namespace: Option<&str>,
        matches: impl FnMut(&Traits) -> bool,
    ) -> Option<Vec<ObjectRef>> {
        self.each(namespace, matches, |object, _| object)
    }

    /// As [`Index::list`], with the labels.
    pub fn list_labelled(
        &self,
        namespace: Option<&str>,
        matches: impl FnMut(&Traits) -> bool,
    ) -> Option<Vec<LabelledObject>> {
        self.each(namespace, matches, |object, labels| LabelledObject {
            object,
            labels: Arc::clone(labels),
        })
    }

    fn each<T>(
        &self,
        namespace: Option<&str>,
        mut matches: impl FnMut(&Traits) -> bool,
        make: impl Fn(ObjectRef, &Arc<ObjectLabels>) -> T,
    ) -> Option<Vec<T>> {
        let snapshot = self.current.load();
        let snapshot = snapshot.as_deref()?;
        let mut found = Vec::new();
        let mut select = |namespace: &Arc<str>, entries: &[Entry]| {
            let namespace = (!namespace.is_empty()).then_some(namespace);
            let mut last: Option<(&Arc<Traits>, bool)> = None;
            for entry in entries {
                let selected = match last {
                    Some((traits, selected)) if Arc::ptr_eq(traits, &entry.traits) => selected,
                    _ => matches(&entry.traits),
                };
                last = Some((&entry.traits, selected));
                if selected {
                    let object = ObjectRef {
                        namespace: namespace.cloned(),
                        name: Arc::clone(&entry.name),
                    };
                    found.push(make(object, &entry.traits.labels));
                }
            }
        };
        match namespace {
            Some(name) => {
                if let Some((name, entries)) = snapshot.get_key_value(name) {
                    select(name, entries);
                }
            }
            None => snapshot
                .iter()
                .for_each(|(name, entries)| select(name, entries)),
        }
        Some(found)
    }

    /// Whether a full list has ever come.
    pub fn synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Returns when a full list has come.
    pub async fn wait_until_synced(&self) {
        let mut synced = self.synced.subscribe();
        // An error would mean that the sender is gone; `self` holds it.
        let _ = synced.wait_for(|synced| *synced).await;
    }
}

/// Changes an [`Index`]; there is one for each.
#[derive(Debug)]
pub struct IndexWriter {
    index: Arc<Index>,
    staged: HashMap<Arc<str>, Vec<Entry>>,
    shared: Shared,
}

impl IndexWriter {
    /// Begins a full list; readers keep what they have.
    pub fn begin(&mut self) {
        self.staged.clear();
    }

    /// One object of the list. An object without a name is left out.
    pub fn stage(&mut self, meta: ObjectMeta) {
        let Some((namespace, entry)) = self.entry(meta) else {
            return;
        };
        match self.staged.get_mut(namespace.as_str()) {
            Some(entries) => entries.push(entry),
            None => {
                self.staged.insert(namespace.into(), vec![entry]);
            }
        }
    }

    /// Ends a full list: readers see it, and nothing of what was before.
    pub fn finish(&mut self) {
        let snapshot: Snapshot = self
            .staged
            .drain()
            .map(|(namespace, mut entries)| {
                // A page that was listed while objects changed may repeat one; the later counts.
                entries.reverse();
                entries.sort_by(|a, b| a.name.cmp(&b.name));
                entries.dedup_by(|later, first| later.name == first.name);
                entries.shrink_to_fit();
                (namespace, Arc::new(entries))
            })
            .collect();
        self.publish(snapshot);
        self.shared.sweep();
        self.index.synced.send_if_modified(|synced| {
            let first = !*synced;
            *synced = true;
            first
        });
    }

    /// An object is new or has changed. Readers see it at once; a change that is not one of labels or owner is none.
    pub fn apply(&mut self, meta: ObjectMeta) {
        let Some((namespace, entry)) = self.entry(meta) else {
            return;
        };
        let current = self.index.current.load_full();
        let known = current
            .as_deref()
            .and_then(|snapshot| snapshot.get(namespace.as_str()))
            .and_then(|entries| Some(&entries[position(entries, &entry.name).ok()?]));
        if known.is_some_and(|known| known.traits == entry.traits) {
            // Most events are changes of status: nothing is copied for them.
            return;
        }
        let mut snapshot = self.snapshot();
        let entries = Arc::make_mut(snapshot.entry(namespace.into()).or_default());
        match position(entries, &entry.name) {
            Ok(at) => entries[at] = entry,
            Err(at) => entries.insert(at, entry),
        }
        self.publish(snapshot);
    }

    /// An object is gone.
    pub fn delete(&mut self, meta: &ObjectMeta) {
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let name = meta.name.as_deref().unwrap_or_default();
        let mut snapshot = self.snapshot();
        let Some(entries) = snapshot.get_mut(namespace) else {
            return;
        };
        let Ok(at) = position(entries, name) else {
            return;
        };
        if entries.len() == 1 {
            snapshot.remove(namespace);
        } else {
            Arc::make_mut(entries).remove(at);
        }
        self.publish(snapshot);
    }

    fn entry(&mut self, meta: ObjectMeta) -> Option<(String, Entry)> {
        let references = meta.owner_references.unwrap_or_default().into_iter();
        let mut controllers = references.filter(|it| it.controller == Some(true));
        let owner = controllers.next().map(|it| Owner {
            group: it
                .api_version
                .split_once('/')
                .map_or("", |(group, _)| group)
                .to_owned(),
            kind: it.kind,
            name: it.name,
        });
        let labels = Arc::new(meta.labels.unwrap_or_default());
        let entry = Entry {
            name: meta.name?.into(),
            traits: self.shared.share(Traits { labels, owner }),
        };
        Some((meta.namespace.unwrap_or_default(), entry))
    }

    /// A copy to change: the namespaces are shared until one is written to.
    fn snapshot(&self) -> Snapshot {
        self.index
            .current
            .load()
            .as_deref()
            .cloned()
            .unwrap_or_default()
    }

    fn publish(&self, snapshot: Snapshot) {
        self.index.current.store(Some(Arc::new(snapshot)));
    }
}

/// Where `name` is, or where it belongs.
fn position(entries: &[Entry], name: &str) -> Result<usize, usize> {
    entries.binary_search_by(|known| known.name.as_ref().cmp(name))
}

/// All that is different once.
#[derive(Debug, Default)]
struct Shared {
    all: HashSet<Arc<Traits>>,
    /// How many there were after the last sweep.
    live: usize,
}

impl Shared {
    fn share(&mut self, traits: Traits) -> Arc<Traits> {
        if let Some(known) = self.all.get(&traits) {
            return Arc::clone(known);
        }
        if self.all.len() > 2 * self.live + 64 {
            self.sweep();
        }
        let traits = Arc::new(traits);
        self.all.insert(Arc::clone(&traits));
        traits
    }

    /// Drops what no object has any more.
    fn sweep(&mut self) {
        self.all.retain(|traits| Arc::strong_count(traits) > 1);
        self.live = self.all.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(namespace: &str, name: &str, app: &str) -> ObjectMeta {
        ObjectMeta {
            namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([("app".to_owned(), app.to_owned())])),
            ..ObjectMeta::default()
        }
    }

    fn names(index: &Index, namespace: Option<&str>, app: &str) -> Vec<String> {
        let found = index.list(namespace, |traits| {
            traits.labels.get("app").is_some_and(|v| v == app)
        });
        let found = found.expect("a synced index").into_iter();
        found
            .map(|o| format!("{}/{}", o.namespace.as_deref().unwrap_or("-"), o.name))
            .collect()
    }

    fn filled(objects: &[(&str, &str, &str)]) -> (IndexWriter, Arc<Index>) {
        let (mut writer, index) = index();
        writer.begin();
        for (namespace, name, app) in objects {
            writer.stage(meta(namespace, name, app));
        }
        writer.finish();
        (writer, index)
    }

    #[test]
    fn nothing_is_known_before_the_first_full_list() {
        let (mut writer, index) = index();
        writer.begin();
        writer.stage(meta("a", "x", "one"));
        assert!(index.list(None, |_| true).is_none());
        assert!(!index.synced());
        writer.finish();
        assert_eq!(names(&index, None, "one"), ["a/x"]);
        assert!(index.synced());
    }

    #[test]
    fn a_list_is_sorted_and_of_its_namespace_only() {
        let objects = [
            ("b", "x", "one"),
            ("a", "z", "one"),
            ("a", "y", "two"),
            ("a", "b", "one"),
        ];
        let (_writer, index) = filled(&objects);
        assert_eq!(names(&index, Some("a"), "one"), ["a/b", "a/z"]);
        assert_eq!(names(&index, None, "one"), ["a/b", "a/z", "b/x"]);
        assert!(names(&index, Some("c"), "one").is_empty());
        let mut asked = 0;
        index.list(Some("b"), |_| {
            asked += 1;
            true
        });
        assert_eq!(asked, 1, "other namespaces were looked at");
    }

    #[test]
    fn changes_are_seen_and_a_new_list_replaces_all() {
        let (mut writer, index) = filled(&[("a", "x", "one"), ("a", "y", "one")]);
        writer.apply(meta("a", "w", "one"));
        writer.apply(meta("a", "x", "two"));
        writer.delete(&meta("a", "y", ""));
        writer.delete(&meta("a", "never-seen", ""));
        assert_eq!(names(&index, Some("a"), "one"), ["a/w"]);
        assert_eq!(names(&index, Some("a"), "two"), ["a/x"]);
        writer.begin();
        writer.stage(meta("b", "n", "two"));
        assert_eq!(names(&index, None, "two"), ["a/x"], "seen half a list");
        writer.finish();
        assert_eq!(names(&index, None, "two"), ["b/n"]);
        writer.delete(&meta("b", "n", ""));
        assert_eq!(index.list(None, |_| true), Some(Vec::new()));
    }

    #[test]
    fn a_change_of_neither_label_nor_owner_publishes_nothing() {
        let (mut writer, index) = filled(&[("a", "x", "one")]);
        let before = index.current.load_full();
        writer.apply(meta("a", "x", "one"));
        let after = index.current.load_full();
        assert!(Arc::ptr_eq(
            &before.expect("synced"),
            &after.expect("synced")
        ));
    }

    #[test]
    fn cluster_scoped_objects_have_no_namespace() {
        let (_writer, index) = filled(&[("", "prod", "one")]);
        assert_eq!(names(&index, None, "one"), ["-/prod"]);
    }

    #[test]
    fn a_repeated_object_counts_once_and_as_last_told() {
        let (_writer, index) = filled(&[("a", "x", "one"), ("a", "x", "two")]);
        assert!(names(&index, None, "one").is_empty());
        assert_eq!(names(&index, None, "two"), ["a/x"]);
    }

    #[test]
    fn labels_and_owners_are_shared_and_dropped_with_their_last_object() {
        let (mut writer, index) = filled(&[("a", "x", "one"), ("b", "y", "one")]);
        assert_eq!(writer.shared.all.len(), 1);
        let mut asked = 0;
        writer.apply(meta("a", "z", "one"));
        index.list(Some("a"), |_| {
            asked += 1;
            true
        });
        assert_eq!(asked, 1, "neighbours with the same labels were asked twice");
        for round in 0..1000 {
            writer.apply(meta("a", "x", &format!("app-{round}")));
        }
        assert!(writer.shared.all.len() < 200, "they pile up");
    }
}
