//! Counts of what was refused: each bound of this room has one.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Why a connection or a request was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Refusal {
    /// As many connections are open as may be.
    Connections,
    /// The TLS handshake failed or took too long.
    Handshake,
    /// As many requests are in flight as may be.
    InFlight,
    /// The request's URI is too long.
    UriLength,
    /// The request announced too large a body.
    BodySize,
    /// The request was not answered before its deadline.
    Deadline,
    /// The handler panicked.
    Panic,
    /// No proof of identity held.
    Unauthenticated,
    /// The user may not do this.
    Forbidden,
    /// The kube-apiserver could not say whether the user may do this.
    Review,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    reason: Refusal,
}

/// The counters of this room; clones count together.
#[derive(Clone, Debug, Default)]
pub struct ServerMetrics {
    refusals: Family<Labels, Counter>,
}

impl ServerMetrics {
    /// Registers the counters; the registry's prefix names the server.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "refusals",
            "Connections and requests that were not served",
            self.refusals.clone(),
        );
    }

    /// How often this was the reason.
    pub fn refused(&self, reason: Refusal) -> u64 {
        self.refusals.get_or_create(&Labels { reason }).get()
    }

    pub(super) fn count(&self, reason: Refusal) {
        self.refusals.get_or_create(&Labels { reason }).inc();
    }
}
