//! Kubernetes: client, watches, resource names, the trust ConfigMap, our Secret and APIServices.
//!
//! Everything that talks to kube-apiserver on the program's own behalf lives here. What the watches learn is kept in
//! memory by one writer each and read as snapshots; a failed watch or request never empties what is already known.
//! The long-running parts are values with `async fn run(self, CancellationToken)`, which the caller spawns.

pub mod access;
pub mod connect;
pub mod custom;
pub mod discovery;
pub mod events;
mod follow;
pub mod hpas;
pub mod identity;
pub mod index;
pub mod lease;
pub mod mapper;
pub mod objects;
pub mod registration;
pub mod request;
pub mod reviews;
pub mod scale;
pub mod trust;

#[cfg(test)]
pub(crate) mod fake_api;

pub use access::{AccessError, access};
pub use connect::{ConnectError, connect};
pub use follow::{Follow, Health};
pub use mapper::{StaticMapper, discover, discover_once};
pub use objects::{Metered, Objects, watch_metered, watch_objects};
pub use trust::{Trust, watch_trust};

/// Log directives that silence the Kubernetes crates: they report every failed attempt, while this room reports a
/// failure when it begins and when it ends; and they log bodies that do not parse, Secrets and tokens included.
pub const LOG_DIRECTIVES: &str = "kube_client=off,kube_runtime=off";
