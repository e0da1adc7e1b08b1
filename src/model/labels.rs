//! Label sets: what tells one series from another.

use std::fmt;
use std::sync::Arc;

/// The label that holds a metric's name, as in Prometheus.
pub const METRIC_NAME: &str = "__name__";

/// A set of labels, sorted by name, without duplicates and without empty values (an empty value means "no such label",
/// as in Prometheus). Cheap to clone; the strings are shared with whoever made it.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

impl Labels {
    /// The set of these labels. Pairs with an empty value are left out; of a repeated name the first one counts.
    pub fn new<N: Into<Arc<str>>, V: Into<Arc<str>>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let mut pairs: Vec<(Arc<str>, Arc<str>)> = pairs
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.dedup_by(|later, first| later.0 == first.0);
        Self(pairs.into())
    }

    /// The value of the label `name`, or `None` where there is no such label.
    pub fn get(&self, name: &str) -> Option<&str> {
        let index = self
            .0
            .binary_search_by(|(key, _)| key.as_ref().cmp(name))
            .ok()?;
        Some(&self.0[index].1)
    }

    /// The value of the label `name`, and `""` where there is no such label: what a matcher compares.
    pub fn value(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// The metric's name: the value of `__name__`.
    pub fn metric_name(&self) -> Option<&str> {
        self.get(METRIC_NAME)
    }

    /// All labels, in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// All labels as shared strings, in the order of their names.
    pub fn shared(&self) -> &[(Arc<str>, Arc<str>)] {
        &self.0
    }

    /// Only those labels for whose names `keep` says yes.
    #[must_use]
    pub fn filtered(&self, keep: impl Fn(&str) -> bool) -> Self {
        let mut kept = self.0.iter().filter(|(name, _)| keep(name)).cloned();
        match (kept.next(), kept.next()) {
            (None, _) => Self::default(),
            // What `by (pod)` leaves, once for each pod: made without a list in between.
            (Some(only), None) => Self(Arc::new([only])),
            (Some(first), Some(second)) => Self([first, second].into_iter().chain(kept).collect()),
        }
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no label at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<Arc<str>>, V: Into<Arc<str>>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self::new(pairs)
    }
}

/// As Prometheus writes a series: `name{label="value", …}`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric_name().unwrap_or_default())?;
        f.write_str("{")?;
        for (index, (name, value)) in self
            .iter()
            .filter(|(name, _)| *name != METRIC_NAME)
            .enumerate()
        {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_empty_values_make_no_difference() {
        let one = Labels::new([("pod", "a"), ("gpu", ""), (METRIC_NAME, "x")]);
        let other = Labels::new([(METRIC_NAME, "x"), ("pod", "a")]);
        assert_eq!(one, other);
        assert_eq!(one.get("gpu"), None);
        assert_eq!(one.value("gpu"), "");
        assert_eq!(one.to_string(), r#"x{pod="a"}"#);
    }

    #[test]
    fn filtering_keeps_what_it_is_told() {
        let labels = Labels::new([("a", "1"), ("b", "2"), ("c", "3")]);
        for kept in ["", "b", "ac", "abc"] {
            let expected = labels.iter().filter(|(name, _)| kept.contains(name));
            assert_eq!(
                labels.filtered(|name| kept.contains(name)),
                expected.collect(),
                "{kept}"
            );
        }
    }

    #[test]
    fn the_first_of_a_repeated_name_counts() {
        assert_eq!(Labels::new([("a", "1"), ("a", "2")]).get("a"), Some("1"));
    }
}
