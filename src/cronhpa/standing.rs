//! How the schedules stand, for people: a line of `/readyz?verbose`, and own metrics.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds of the lateness of jobs, in seconds: on time, after a change of leader, caught up with.
const BUCKETS: [f64; 9] = [0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0];

/// What is known of it; clones share it.
#[derive(Clone, Debug)]
pub struct Standing {
    leads: Gauge,
    objects: Gauge,
    runs: Family<Labels, Counter>,
    lateness: Histogram,
    /// Why the objects are not followed, if that is so.
    trouble: Arc<Mutex<Option<String>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: Outcome,
}

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Outcome {
    Succeeded,
    Failed,
}

impl EncodeLabelValue for Outcome {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelValueEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        let text = match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        };
        EncodeLabelValue::encode(&text, encoder)
    }
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            leads: Gauge::default(),
            objects: Gauge::default(),
            runs: Family::default(),
            lateness: Histogram::new(BUCKETS),
            trouble: Arc::new(Mutex::new(Some("starting".to_owned()))),
        }
    }
}

impl Standing {
    /// How it stands, in one line.
    pub fn text(&self) -> String {
        if let Some(trouble) = &*self.trouble.lock() {
            return trouble.clone();
        }
        let acts = if self.leads.get() == 1 {
            "this replica acts"
        } else {
            "another replica acts"
        };
        format!("{} objects; {acts}", self.objects.get())
    }

    /// Adds its metrics.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("schedule");
        registry.register(
            "leader",
            "Whether this replica is the one that runs schedules",
            self.leads.clone(),
        );
        registry.register(
            "objects",
            "CronHorizontalPodAutoscalers known",
            self.objects.clone(),
        );
        registry.register("runs", "Jobs run by this replica", self.runs.clone());
        registry.register_with_unit(
            "lateness",
            "From when a job was due to when it had been run",
            Unit::Seconds,
            self.lateness.clone(),
        );
    }

    pub(super) fn leads(&self, leads: bool) {
        self.leads.set(leads.into());
    }

    pub(super) fn objects(&self, count: usize) {
        self.objects.set(i64::try_from(count).unwrap_or(i64::MAX));
        *self.trouble.lock() = None;
    }

    pub(super) fn trouble(&self, trouble: String) {
        *self.trouble.lock() = Some(trouble);
    }

    pub(super) fn ran(&self, outcome: Outcome, late: Duration) {
        self.runs.get_or_create(&Labels { outcome }).inc();
        if outcome == Outcome::Succeeded {
            self.lateness.observe(late.as_secs_f64());
        }
    }
}
