//! The lists that metrics are answered with.

use std::fmt::Display;

use serde::{Serialize, Serializer};

use super::path::Version;

/// A list of values, as Kubernetes writes lists.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct List<T> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    items: Vec<T>,
}

#[derive(Serialize)]
struct Empty {}

impl<T> List<T> {
    pub(super) fn new(kind: &'static str, version: Version, items: Vec<T>) -> Self {
        Self {
            kind,
            api_version: version.group_version(),
            metadata: Empty {},
            items,
        }
    }
}

/// Quantities and times stand as texts.
pub(super) fn as_text<T: Display, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
