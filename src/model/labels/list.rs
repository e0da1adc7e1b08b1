//! Shared lists of labels behind one thin pointer: most of what is known of a series is such a list, and there are many.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::LazyLock;

use arcstr::ArcStr;
use triomphe::ThinArc;

use super::Label;

/// A list of labels, in the order of their names, that is shared by whoever clones it. It takes 8 bytes where it is kept, since
/// its length is with the labels, and it counts no weak references, as an [`Arc`](std::sync::Arc) does.
///
/// The names are a list of their own: thousands of pods have the same.
#[derive(Clone)]
pub struct LabelList(ThinArc<LabelNames, ArcStr>);

/// The names of a list of labels, shared like it.
#[derive(Clone)]
pub struct LabelNames(ThinArc<(), ArcStr>);

/// What all empty lists share that nobody made of labels.
static EMPTY: LazyLock<LabelList> = LazyLock::new(|| LabelList::from(Vec::new()));

impl LabelNames {
    /// The list of these names.
    pub fn new(names: impl ExactSizeIterator<Item = ArcStr>) -> Self {
        Self(ThinArc::from_header_and_iter((), names))
    }
}

impl LabelList {
    /// The list of labels with these names and, each in its name's place, these values.
    pub fn new(names: LabelNames, values: impl ExactSizeIterator<Item = ArcStr>) -> Self {
        debug_assert_eq!(names.len(), values.len());
        Self(ThinArc::from_header_and_iter(names, values))
    }

    /// The names.
    pub fn names(&self) -> &LabelNames {
        &self.0.header.header
    }

    /// The values, each in its name's place.
    pub fn values(&self) -> &[ArcStr] {
        &self.0.slice
    }

    /// The labels, each with its name and its value.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&ArcStr, &ArcStr)> + Clone {
        self.names().iter().zip(self.values())
    }

    /// The value of the label `name`.
    pub fn get(&self, name: &str) -> Option<&ArcStr> {
        self.values().get(self.place(name)?)
    }

    /// The list of the label `name` alone.
    #[must_use]
    pub fn only(&self, name: &str) -> Self {
        let Some(place) = self.place(name) else {
            return Self::default();
        };
        let names = LabelNames::new(std::iter::once(self.names()[place].clone()));
        Self::new(names, std::iter::once(self.values()[place].clone()))
    }

    fn place(&self, name: &str) -> Option<usize> {
        let of_name = |it: &ArcStr| it.as_str().cmp(name);
        self.names().binary_search_by(of_name).ok()
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.values().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values().is_empty()
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

impl From<Vec<Label>> for LabelList {
    fn from(labels: Vec<Label>) -> Self {
        let names = LabelNames::new(labels.iter().map(|(name, _)| name.clone()));
        Self::new(names, labels.into_iter().map(|(_, value)| value))
    }
}

impl PartialEq for LabelList {
    fn eq(&self, other: &Self) -> bool {
        self.ptr_eq(other) || self.names() == other.names() && self.values() == other.values()
    }
}

impl Eq for LabelList {}

impl Hash for LabelList {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.names(), self.values()).hash(state);
    }
}

impl fmt::Debug for LabelList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Deref for LabelNames {
    type Target = [ArcStr];

    #[inline]
    fn deref(&self) -> &[ArcStr] {
        &self.0.slice
    }
}

impl PartialEq for LabelNames {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0.ptr(), other.0.ptr()) || self[..] == other[..]
    }
}

impl Eq for LabelNames {}

/// As the slice's, which it is found by.
impl Hash for LabelNames {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self[..].hash(state);
    }
}

impl Borrow<[ArcStr]> for LabelNames {
    fn borrow(&self) -> &[ArcStr] {
        self
    }
}

impl fmt::Debug for LabelNames {
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
        pairs.iter().map(label).collect::<Vec<Label>>().into()
    }

    #[test]
    fn lists_are_equal_and_hashed_as_their_labels() {
        let keys = RandomState::new();
        let lists = [
            list(&[]),
            list(&[("a", "1")]),
            list(&[("a", "2")]),
            list(&[("b", "1")]),
            list(&[("a", "1"), ("b", "2")]),
        ];
        for one in &lists {
            let labels = one
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()));
            let copy: LabelList = labels.collect::<Vec<Label>>().into();
            assert_eq!(copy, *one);
            assert_eq!(keys.hash_one(one), keys.hash_one(&copy));
            assert_eq!(keys.hash_one(one.names()), keys.hash_one(&one.names()[..]));
            assert!(one.ptr_eq(&one.clone()));
            assert!(!copy.ptr_eq(one));
            assert_eq!(lists.iter().filter(|it| *it == one).count(), 1);
        }
        assert_eq!(lists[0], LabelList::default());
    }

    #[test]
    fn a_value_is_found_by_its_name() {
        let list = list(&[("a", "1"), ("b", "2"), ("d", "4")]);
        let values = ["a", "b", "c", "d", "e"].map(|name| list.get(name).map(ArcStr::as_str));
        assert_eq!(values, [Some("1"), Some("2"), None, Some("4"), None]);
    }
}
