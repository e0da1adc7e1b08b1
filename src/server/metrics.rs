//! Counts of what was asked and answered, and of what was refused: each bound of this room has one.

use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::certificate::ServingCertificate;
use crate::auth::RequestAttributes;

/// Why a connection or a request was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Refusal {
    /// As many connections are open as may be.
    Connections,
    /// As many connections are open from this address as may be.
    ConnectionsOfAddress,
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
    /// The client went away before it had its answer.
    Abandoned,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    reason: Refusal,
}

impl Refusal {
    const ALL: [Self; 12] = [
        Self::Connections,
        Self::ConnectionsOfAddress,
        Self::Handshake,
        Self::InFlight,
        Self::UriLength,
        Self::BodySize,
        Self::Deadline,
        Self::Panic,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::Review,
        Self::Abandoned,
    ];
}

const GROUPS: [&str; 3] = [
    "custom.metrics.k8s.io",
    "external.metrics.k8s.io",
    "metrics.k8s.io",
];

/// A kind of request. Both are of a small set, whatever clients send.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    group: &'static str,
    verb: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    #[prometheus(flatten)]
    kind: Kind,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Group {
    group: &'static str,
}

/// From a tenth of a millisecond, which an answer from memory takes, to a request's deadline.
const DURATIONS: [f64; 12] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0,
];
/// From what `freshWithin` gives to `maxAge` and beyond.
const AGES: [f64; 8] = [0.5, 1.0, 2.5, 5.0, 15.0, 30.0, 45.0, 120.0];

/// The counters of this room; clones count together.
#[derive(Clone, Debug)]
pub struct ServerMetrics {
    refusals: Family<Labels, Counter>,
    requests: Family<Outcome, Counter>,
    durations: Family<Kind, Histogram, fn() -> Histogram>,
    ages: Family<Group, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    /// Lines that the audit log has no room for.
    pub(super) audit_lost: Counter,
}

impl Default for ServerMetrics {
    fn default() -> Self {
        let metrics = Self {
            refusals: Family::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            ages: Family::new_with_constructor(|| Histogram::new(AGES)),
            in_flight: Gauge::default(),
            audit_lost: Counter::default(),
        };
        // The first of its kind would be no increase where there was no 0 before it.
        for reason in Refusal::ALL {
            let _ = metrics.refusals.get_or_create(&Labels { reason });
        }
        for group in GROUPS {
            let _ = metrics.ages.get_or_create(&Group { group });
        }
        metrics
    }
}

impl ServerMetrics {
    /// Registers the counters, and the life of the certificate that is shown; the registry's prefix names the server.
    pub fn register(&self, registry: &mut Registry, certificate: ServingCertificate) {
        registry.register(
            "refusals",
            "Connections and requests that were not served",
            self.refusals.clone(),
        );
        registry.register("requests", "Requests answered", self.requests.clone());
        registry.register_with_unit(
            "request_duration",
            "Time from the head of a request to the head of its answer",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register_with_unit(
            "answer_age",
            "Age of the oldest sample in an answer with metrics, when it was given",
            Unit::Seconds,
            self.ages.clone(),
        );
        registry.register(
            "requests_in_flight",
            "Requests that are worked on",
            self.in_flight.clone(),
        );
        registry.register(
            "audit_lines_lost",
            "Lines that were not written to the audit log, since it is slow or broken",
            self.audit_lost.clone(),
        );
        registry.register_collector(Box::new(Expiry(certificate)));
    }

    /// How often this was the reason.
    pub fn refused(&self, reason: Refusal) -> u64 {
        self.refusals.get_or_create(&Labels { reason }).get()
    }

    pub(super) fn count(&self, reason: Refusal) {
        self.refusals.get_or_create(&Labels { reason }).inc();
    }

    /// A request is in flight until this is dropped.
    pub(super) fn enter(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// A request was answered; `age` is that of the oldest sample in the answer.
    pub(super) fn answered(
        &self,
        attributes: &RequestAttributes,
        code: u16,
        duration: Duration,
        age: Option<Duration>,
    ) {
        let kind = Kind::of(attributes);
        if let Some(age) = age {
            let group = Group { group: kind.group };
            let ages = self.ages.get_or_create(&group);
            ages.observe(age.as_secs_f64());
        }
        let seconds = duration.as_secs_f64();
        self.durations.get_or_create(&kind).observe(seconds);
        self.requests.get_or_create(&Outcome { kind, code }).inc();
    }
}

/// One request that is being worked on.
pub(super) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Kind {
    /// `none` is what asks for no resource: discovery, health, own metrics, queries.
    fn of(attributes: &RequestAttributes) -> Self {
        let known = |text: &str, all: &[&'static str]| {
            all.iter()
                .find(|it| **it == text)
                .copied()
                .unwrap_or("other")
        };
        match attributes {
            RequestAttributes::Resource { group, verb, .. } => Self {
                group: known(group, &GROUPS),
                verb: known(verb, &["get", "list", "watch"]),
            },
            RequestAttributes::NonResource { verb, .. } => Self {
                group: "none",
                verb: known(verb, &["get", "head", "post"]),
            },
        }
    }
}

/// Until when the certificate in use is valid.
#[derive(Debug)]
struct Expiry(ServingCertificate);

impl Collector for Expiry {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let gauge = ConstGauge::new(self.0.validity().not_after.as_millis() / 1000);
        let help = "When the serving certificate in use expires";
        let kind = gauge.metric_type();
        gauge.encode(encoder.encode_descriptor(
            "certificate_expiry_timestamp",
            help,
            Some(&Unit::Seconds),
            kind,
        )?)
    }
}
