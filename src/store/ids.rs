//! Sorted sets of small numbers.

/// How many take no memory of their own: as many as there is room for beside a pointer.
const FEW: usize = 3;

/// A set of places in the index, sorted. Most label values belong to no more sets of labels than a pod has containers, and
/// cost no allocation.
#[derive(Clone, Debug)]
pub(super) enum Ids {
    /// The first `count` of `ids`.
    Few {
        /// How many there are.
        count: u8,
        /// Them, and then anything.
        ids: [u32; FEW],
    },
    /// Any number.
    #[expect(
        clippy::box_collection,
        reason = "each value of a label has 16 bytes of these, and few values have many"
    )]
    Many(Box<Vec<u32>>),
}

impl Default for Ids {
    fn default() -> Self {
        Self::Few {
            count: 0,
            ids: [0; FEW],
        }
    }
}

impl Ids {
    /// All of them, in order.
    pub(super) fn as_slice(&self) -> &[u32] {
        match self {
            Self::Few { count, ids } => &ids[..usize::from(*count)],
            Self::Many(ids) => ids,
        }
    }

    /// Adds one.
    pub(super) fn insert(&mut self, id: u32) {
        let all = self.as_slice();
        let place = match all.last() {
            // The numbers are mostly given out in order.
            Some(last) if *last < id => all.len(),
            _ => match all.binary_search(&id) {
                Ok(_) => return,
                Err(place) => place,
            },
        };
        match self {
            Self::Few { count, ids } if usize::from(*count) < FEW => {
                ids.copy_within(place..usize::from(*count), place + 1);
                ids[place] = id;
                *count += 1;
            }
            Self::Few { ids, .. } => {
                let mut many = Vec::with_capacity(2 * FEW);
                many.extend(*ids);
                many.insert(place, id);
                *self = Self::Many(Box::new(many));
            }
            Self::Many(ids) => {
                if ids.len() == ids.capacity() {
                    // Not twice as many: thousands of lists have some dozens.
                    ids.reserve_exact(FEW + ids.len() / 4);
                }
                ids.insert(place, id);
            }
        }
    }

    /// Removes those that are in `gone`, which is sorted; whether none is left.
    pub(super) fn remove(&mut self, gone: &[u32]) -> bool {
        let is_gone = |id: &u32| gone.binary_search(id).is_ok();
        match self {
            Self::Few { count, ids } => {
                let all = std::mem::take(count);
                for place in 0..usize::from(all) {
                    if !is_gone(&ids[place]) {
                        ids[usize::from(*count)] = ids[place];
                        *count += 1;
                    }
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

    #[test]
    fn they_take_two_words() {
        assert_eq!(size_of::<Ids>(), 16);
    }

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
