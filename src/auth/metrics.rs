//! What became of those who asked, and how often kube-apiserver had to be asked about them.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::authenticator::Authenticator;
use super::authorizer::Authorizer;

/// Requests by what became of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcomes(Family<Outcome, Counter>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

impl Outcomes {
    pub(super) fn count(&self, outcome: &'static str) {
        self.0.get_or_create(&Outcome { outcome }).inc();
    }
}

/// Registers the counters of both; the registry's prefix names the room.
pub fn register(
    registry: &mut Registry,
    authenticator: &Arc<Authenticator>,
    authorizer: &Arc<Authorizer>,
) {
    registry.register(
        "authentications",
        "Requests by the proof of identity that held; refused where none did",
        authenticator.outcomes().0.clone(),
    );
    registry.register(
        "authorizations",
        "Requests by whether the caller may make them",
        authorizer.outcomes().0.clone(),
    );
    registry.register_collector(Box::new(Caches {
        authenticator: Arc::clone(authenticator),
        authorizer: Arc::clone(authorizer),
    }));
}

/// What is remembered for a short while.
struct Caches {
    authenticator: Arc<Authenticator>,
    authorizer: Arc<Authorizer>,
}

impl fmt::Debug for Caches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Caches")
    }
}

impl Collector for Caches {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let caches = self.authenticator.caches().into_iter();
        let caches: Vec<_> = caches.chain([self.authorizer.cache()]).collect();
        let help = "Verdicts that were remembered, or had to be found";
        let kind = ConstCounter::new(0_u64).metric_type();
        let mut family = encoder.encode_descriptor("cache_lookups", help, None, kind)?;
        for cache in &caches {
            for (outcome, count) in cache.outcomes() {
                let labels = [("cache", cache.name), ("outcome", outcome)];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Verdicts that are remembered, about";
        let kind = ConstGauge::new(0_i64).metric_type();
        let mut family = encoder.encode_descriptor("cache_entries", help, None, kind)?;
        for cache in &caches {
            let entries = ConstGauge::new(i64::try_from(cache.entries).unwrap_or(i64::MAX));
            entries.encode(family.encode_family(&[("cache", cache.name)])?)?;
        }
        Ok(())
    }
}
