//! Label sets: what tells one series from another.

mod list;

pub use list::{LabelList, LabelNames};

use std::cmp::Ordering;
use std::fmt;

use arcstr::ArcStr;

/// The label that holds a metric's name, as in Prometheus.
pub const METRIC_NAME: &str = "__name__";

/// A label: its name and its value, as strings that are shared and 8 bytes wide.
pub type Label = (ArcStr, ArcStr);

/// A set of labels, sorted by name, without duplicates and without empty values (an empty value means "no such label",
/// as in Prometheus). Cheap to clone; the strings are shared with whoever made it.
///
/// The metric's name is kept apart from the other labels: on an exporter's page dozens of metrics have the same other
/// labels, and one list of them serves all. 16 bytes, since every series has them.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Labels {
    metric: Option<ArcStr>,
    /// All but `__name__`, sorted.
    others: LabelList,
}

impl Labels {
    /// The set of these labels. Pairs with an empty value are left out; of a repeated name the first one counts.
    pub fn new<N: Into<ArcStr>, V: Into<ArcStr>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut metric = None;
        let mut others: Vec<Label> = Vec::new();
        for (name, value) in pairs {
            let (name, value) = (name.into(), value.into());
            if value.is_empty() {
                continue;
            }
            if &*name == METRIC_NAME {
                metric.get_or_insert(value);
            } else {
                others.push((name, value));
            }
        }
        others.sort_by(|a, b| a.0.cmp(&b.0));
        others.dedup_by(|later, first| later.0 == first.0);
        Self {
            metric,
            others: others.into(),
        }
    }

    /// The set of a metric's name and of `others`, which are sorted, without duplicates, empty values and `__name__`: those
    /// of another set.
    pub fn of_metric(metric: Option<ArcStr>, others: LabelList) -> Self {
        debug_assert!(others.names().is_sorted_by(|a, b| a < b));
        Self { metric, others }
    }

    /// The value of the label `name`, or `None` where there is no such label.
    pub fn get(&self, name: &str) -> Option<&str> {
        if name == METRIC_NAME {
            return self.metric_name();
        }
        self.others.get(name).map(|value| &**value)
    }

    /// The value of the label `name`, and `""` where there is no such label: what a matcher compares.
    pub fn value(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// The metric's name: the value of `__name__`.
    pub fn metric_name(&self) -> Option<&str> {
        self.metric.as_deref()
    }

    /// The metric's name as a shared string.
    pub fn metric(&self) -> Option<&ArcStr> {
        self.metric.as_ref()
    }

    /// All labels but the metric's name, as shared strings, in the order of their names.
    pub fn others(&self) -> &LabelList {
        &self.others
    }

    /// All labels, in the order of their names: the metric's name among them, as Prometheus sorts it.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let name = self.metric_name().map(|name| (METRIC_NAME, name));
        let names = self.others.names();
        let place = names.partition_point(|key| key.as_str() < METRIC_NAME);
        let others = self.others.iter();
        let others = others.map(|(name, value)| (name.as_str(), value.as_str()));
        let (before, after) = (others.clone().take(place), others.skip(place));
        before.chain(name).chain(after)
    }

    /// Only those labels for whose names `keep` says yes.
    #[must_use]
    pub fn filtered(&self, keep: impl Fn(&str) -> bool) -> Self {
        let metric = self.metric.as_ref().filter(|_| keep(METRIC_NAME)).cloned();
        let others = if self.others.names().iter().all(|name| keep(name)) {
            self.others.clone()
        } else {
            let kept = self.others.iter().filter(|(name, _)| keep(name));
            let kept = kept.map(|(name, value)| (name.clone(), value.clone()));
            kept.collect::<Vec<Label>>().into()
        };
        Self { metric, others }
    }

    /// Only the label `name`: what `by (pod)` leaves, once for each pod.
    #[must_use]
    pub fn only(&self, name: &str) -> Self {
        if name == METRIC_NAME {
            return Self {
                metric: self.metric.clone(),
                others: LabelList::default(),
            };
        }
        Self {
            metric: None,
            others: self.others.only(name),
        }
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.others.len() + usize::from(self.metric.is_some())
    }

    /// Whether there is no label at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The order in which Prometheus sorts series (`model/labels`, `Compare`).
impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<N: Into<ArcStr>, V: Into<ArcStr>> FromIterator<(N, V)> for Labels {
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
            if kept.len() < 2 {
                let filtered = labels.filtered(|name| name == kept);
                assert_eq!(labels.only(kept), filtered, "{kept}");
            }
        }
    }

    #[test]
    fn the_name_is_sorted_among_the_others() {
        let labels = Labels::new([("pod", "p"), (METRIC_NAME, "m"), ("UUID", "u"), ("_", "v")]);
        let names: Vec<&str> = labels.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["UUID", "_", METRIC_NAME, "pod"]);
        assert_eq!(labels.len(), 4);
        let before = Labels::new([("UUID", "t"), (METRIC_NAME, "z")]);
        let nameless = Labels::new([("UUID", "u"), ("pod", "p")]);
        assert!(before < labels && labels < nameless, "by UUID, then `_`");
    }

    #[test]
    fn what_keeps_all_others_shares_them() {
        let labels = Labels::new([("pod", "p"), (METRIC_NAME, "m"), ("gpu", "0")]);
        let nameless = labels.filtered(|name| name != METRIC_NAME);
        assert!(labels.others().ptr_eq(nameless.others()));
        assert_eq!(nameless.to_string(), r#"{gpu="0", pod="p"}"#);
    }

    #[test]
    fn they_are_two_thin_pointers() {
        assert_eq!(size_of::<Labels>(), 16);
        assert_eq!(size_of::<Option<LabelList>>(), 8);
        assert_eq!(size_of::<Label>(), 16);
    }

    #[test]
    fn the_first_of_a_repeated_name_counts() {
        assert_eq!(Labels::new([("a", "1"), ("a", "2")]).get("a"), Some("1"));
    }
}
