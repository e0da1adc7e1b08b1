//! Sorted sets of small numbers.

/// A set of places in the index, sorted. Most label values belong to one set of labels only, and cost no allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ids {
    /// One.
    One(u32),
    /// Any number, none included.
    Many(Vec<u32>),
}

impl Default for Ids {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Ids {
    /// All of them, in order.
    pub(super) fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(id) => std::slice::from_ref(id),
            Self::Many(ids) => ids,
        }
    }

    /// Adds one.
    pub(super) fn insert(&mut self, id: u32) {
        match self {
            Self::Many(ids) if ids.is_empty() => *self = Self::One(id),
            Self::Many(ids) => match ids.last() {
                // The numbers are mostly given out in order.
                Some(last) if *last < id => ids.push(id),
                _ => {
                    if let Err(place) = ids.binary_search(&id) {
                        ids.insert(place, id);
                    }
                }
            },
            Self::One(other) if *other == id => {}
            Self::One(other) => *self = Self::Many(vec![id.min(*other), id.max(*other)]),
        }
    }

    /// Removes those that are in `gone`, which is sorted; whether none is left.
    pub(super) fn remove(&mut self, gone: &[u32]) -> bool {
        let is_gone = |id: &u32| gone.binary_search(id).is_ok();
        match self {
            Self::One(id) => {
                if is_gone(id) {
                    *self = Self::default();
                }
            }
            Self::Many(ids) if gone.len() == 1 => {
                if let Ok(place) = ids.binary_search(&gone[0]) {
                    ids.remove(place);
                }
            }
            Self::Many(ids) => ids.retain(|id| !is_gone(id)),
        }
        self.as_slice().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_sorted_set(steps in prop::collection::vec((0..30_u32, 0..4_usize), 0..80)) {
            let (mut ids, mut set) = (Ids::default(), BTreeSet::new());
            for (id, removed) in steps {
                if removed == 0 {
                    ids.insert(id);
                    set.insert(id);
                } else {
                    let gone: Vec<u32> = (0..).map(|it| id + it).take(removed).collect();
                    set.retain(|it| !gone.contains(it));
                    prop_assert_eq!(ids.remove(&gone), set.is_empty());
                }
                prop_assert_eq!(ids.as_slice(), set.iter().copied().collect::<Vec<u32>>());
            }
        }
    }
}
