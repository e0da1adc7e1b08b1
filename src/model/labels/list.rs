//! Shared lists of labels behind one thin pointer: most of what is known of a series is such a list, and there are many.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::LazyLock;

use triomphe::ThinArc;

use super::Label;

/// A list of labels that is shared by whoever clones it. It takes 8 bytes where it is kept, since its length is with the
/// labels, and it counts no weak references, as an [`Arc`](std::sync::Arc) does.
#[derive(Clone)]
pub struct LabelList(ThinArc<(), Label>);

/// What all empty lists share that nobody made of labels.
static EMPTY: LazyLock<LabelList> = LazyLock::new(|| LabelList::new(std::iter::empty()));

impl LabelList {
    /// The list of these labels.
    pub fn new(labels: impl ExactSizeIterator<Item = Label>) -> Self {
        Self(ThinArc::from_header_and_iter((), labels))
    }

    /// Whether both are the same list in memory, and not only equal.
    pub fn ptr_eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0.ptr(), other.0.ptr())
    }
}

impl Default for LabelList {
    fn default() -> Self {
        EMPTY.clone()
    }
}

impl Deref for LabelList {
    type Target = [Label];

    #[inline]
    fn deref(&self) -> &[Label] {
        &self.0.slice
    }
}

impl FromIterator<Label> for LabelList {
    fn from_iter<I: IntoIterator<Item = Label>>(labels: I) -> Self {
        let labels: Vec<Label> = labels.into_iter().collect();
        Self::new(labels.into_iter())
    }
}

impl PartialEq for LabelList {
    fn eq(&self, other: &Self) -> bool {
        self.ptr_eq(other) || self[..] == other[..]
    }
}

impl Eq for LabelList {}

/// As the slice's.
impl Hash for LabelList {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self[..].hash(state);
    }
}

impl fmt::Debug for LabelList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self[..], f)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use super::*;

    fn list(pairs: &[(&str, &str)]) -> LabelList {
        let label = |(name, value): &(&str, &str)| ((*name).into(), (*value).into());
        pairs.iter().map(label).collect()
    }

    #[test]
    fn it_is_equal_and_hashed_as_its_slice() {
        let keys = RandomState::new();
        let lists = [
            list(&[]),
            list(&[("a", "1")]),
            list(&[("a", "1"), ("b", "2")]),
        ];
        for one in &lists {
            let copy: LabelList = one.iter().cloned().collect();
            assert_eq!(copy, *one);
            assert_eq!(keys.hash_one(one), keys.hash_one(&one[..]));
            assert!(one.ptr_eq(&one.clone()));
            assert!(!copy.ptr_eq(one));
        }
        assert_eq!(lists.iter().filter(|it| **it == lists[1]).count(), 1);
        assert_eq!(lists[0], LabelList::default());
    }
}
