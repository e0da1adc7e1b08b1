//! Which labels tell elements apart: `by` and `without` of aggregations, `on` and `ignoring` of operators.

use std::hash::Hash;

use crate::model::labels::{Labels, METRIC_NAME};

/// Which labels tell groups apart.
#[derive(Clone, Debug)]
pub(super) enum Grouping {
    /// Only these (`by`, `on`).
    By(Vec<String>),
    /// All but these and the metric's name (`without`, `ignoring`).
    Without(Vec<String>),
}

impl Grouping {
    /// Whether the label `name` tells groups apart.
    pub(super) fn keeps(&self, name: &str) -> bool {
        match self {
            Self::By(names) => names.iter().any(|kept| kept == name),
            Self::Without(names) => {
                name != METRIC_NAME && !names.iter().any(|dropped| dropped == name)
            }
        }
    }

    /// The labels of the group that `labels` belong to.
    pub(super) fn labels(&self, labels: &Labels) -> Labels {
        match self {
            Self::By(names) if names.is_empty() => Labels::default(),
            Self::By(names) if names.len() == 1 => labels.only(&names[0]),
            _ => labels.filtered(|name| self.keeps(name)),
        }
    }

    /// A hash of the group that `labels` belong to, made without building its labels.
    pub(super) fn hash(&self, labels: &Labels, mut state: impl std::hash::Hasher) -> u64 {
        match self {
            Self::By(names) => {
                for name in names {
                    labels.get(name).hash(&mut state);
                }
            }
            Self::Without(_) => {
                for (name, value) in labels.iter().filter(|(name, _)| self.keeps(name)) {
                    name.hash(&mut state);
                    value.hash(&mut state);
                }
            }
        }
        state.finish()
    }

    /// Whether `labels` belong to the group that has the labels `group`.
    pub(super) fn is_group(&self, group: &Labels, labels: &Labels) -> bool {
        match self {
            Self::By(names) => names.iter().all(|name| group.get(name) == labels.get(name)),
            Self::Without(_) => labels
                .iter()
                .filter(|(name, _)| self.keeps(name))
                .eq(group.iter()),
        }
    }
}

/// Whether Prometheus takes this label away together with the metric's name (`model/labels`, `DropReserved`).
pub(super) fn is_metadata(name: &str) -> bool {
    matches!(name, METRIC_NAME | "__type__" | "__unit__")
}

/// `labels` without the metric's name, as after anything that makes another metric of it.
pub(super) fn without_name(labels: &Labels) -> Labels {
    labels.filtered(|name| !is_metadata(name))
}

/// `labels` with the label `name` set to `value`, or without it where `value` is empty.
pub(super) fn with_label(labels: &Labels, name: &str, value: &str) -> Labels {
    let others = labels.iter().filter(|(other, _)| *other != name);
    others.chain([(name, value)]).collect()
}

/// As Prometheus writes labels in its errors: the name is one among them.
pub(super) fn written(labels: &Labels) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    format!("{{{}}}", pairs.join(", "))
}
