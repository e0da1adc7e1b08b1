//! The lists that metrics are answered with.

use serde::Serialize;

use super::path::Version;
use super::protobuf::{self, Message};

/// A list of values, as Kubernetes writes lists.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct List<I> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    items: I,
}

/// The metadata of a list, which says nothing.
#[derive(Serialize)]
pub(super) struct Empty {}

impl<I> List<I> {
    pub(super) fn new(kind: &'static str, version: Version, items: I) -> Self {
        Self {
            kind,
            api_version: version.group_version(),
            metadata: Empty {},
            items,
        }
    }
}

impl<T> List<Vec<T>> {
    /// The list in protobuf, where `write` writes an item.
    pub(super) fn protobuf(&self, write: impl Fn(&T, &mut Message)) -> Vec<u8> {
        protobuf::object(self.api_version, self.kind, |list| {
            list.list_meta(1);
            for item in &self.items {
                list.message(2, |message| write(item, message));
            }
        })
    }
}
