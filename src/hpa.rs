//! The HorizontalPodAutoscaler's replica algorithm as a pure function.
//!
//! One [`sync`] does what kube-controller-manager 1.37 does every 15 s for an autoscaler with one metric of type `Pods` and
//! without `spec.behavior`: the same integer arithmetic, the same reasons, the same words
//! (`pkg/controller/podautoscaler/horizontal.go` and `replica_calculator.go`). Time and state are passed in.

mod limits;
mod replicas;
mod report;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

pub use limits::State;
pub use replicas::{Pod, PodPhase, Proposal, ReplicaError, Tolerance, pods_metric_replicas};
pub use report::{Condition, Conditions, Event};

use crate::model::quantity::Quantity;
use crate::model::time::Timestamp;

/// How often kube-controller-manager looks at each autoscaler (`--horizontal-pod-autoscaler-sync-period`).
pub const SYNC_PERIOD: Duration = Duration::from_secs(15);

/// What an autoscaler asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// `minReplicas`; 1 where it is absent.
    pub min_replicas: i32,
    /// `maxReplicas`.
    pub max_replicas: i32,
    /// The name of the `Pods` metric.
    pub metric: String,
    /// The target's `averageValue`; the API server takes only what is above zero.
    pub target: Quantity,
    /// How far from the target is near enough.
    pub tolerance: Tolerance,
    /// How long the highest recommendation holds (`--horizontal-pod-autoscaler-downscale-stabilization`).
    pub downscale_stabilization: Duration,
}

impl Spec {
    /// An autoscaler with the controller's defaults: one replica at least, a tenth of tolerance, five minutes of
    /// stabilization.
    pub fn new(metric: impl Into<String>, target: Quantity, max_replicas: i32) -> Self {
        Self {
            min_replicas: 1,
            max_replicas,
            metric: metric.into(),
            target,
            tolerance: Tolerance::default(),
            downscale_stabilization: Duration::from_secs(300),
        }
    }
}

/// What one sync sees.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// When it looks.
    pub now: Timestamp,
    /// `spec.replicas` of the scale target.
    pub replicas: i32,
    /// The pods that the target's selector matches.
    pub pods: &'a [Pod],
    /// The answer of the custom metrics API, in thousandths by pod name; or the message of its refusal.
    pub metrics: Result<&'a BTreeMap<String, i64>, &'a str>,
}

/// What one sync decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The replicas that the target has from now on; those it had where nothing is decided.
    pub replicas: i32,
    /// The metric's average over the pods that sent one, in thousandths; `None` where it was not computed.
    pub average: Option<i64>,
    /// The replicas that the metric alone asks for, before stabilization and limits.
    pub proposal: Option<i32>,
    /// Why the metric or a bound asks for another size; `None` where it does not.
    pub reason: Option<String>,
    /// The conditions after this sync.
    pub conditions: Conditions,
    /// The events of this sync.
    pub events: Vec<Event>,
}

/// One look at one autoscaler (`reconcileAutoscaler`, horizontal.go:824). `state` is what the controller remembers of it
/// between syncs.
pub fn sync(spec: &Spec, state: &mut State, seen: &Observation<'_>) -> Outcome {
    state.remember_first(seen.replicas, seen.now);
    state.conditions.able_to_scale = Some(report::got_scale());
    let mut outcome = Outcome {
        replicas: seen.replicas,
        average: None,
        proposal: None,
        reason: None,
        conditions: Conditions::default(),
        events: Vec::new(),
    };
    if seen.replicas == 0 {
        state.conditions.scaling_active = Some(report::scaling_disabled());
    } else if seen.replicas > spec.max_replicas {
        outcome.replicas = spec.max_replicas;
        outcome.reason = Some("Current number of replicas above Spec.MaxReplicas".to_owned());
    } else if seen.replicas < spec.min_replicas {
        outcome.replicas = spec.min_replicas;
        outcome.reason = Some("Current number of replicas below Spec.MinReplicas".to_owned());
    } else {
        match propose(spec, seen) {
            Ok(proposal) => follow(spec, state, seen, proposal, &mut outcome),
            Err(error) => {
                state.conditions.scaling_active = Some(report::no_metric(&error));
                outcome.events = report::failure_events(&error);
            }
        }
    }
    if outcome.replicas != seen.replicas {
        state.conditions.able_to_scale = Some(report::rescaled(outcome.replicas));
        state.conditions.scaled_to_zero = Some(report::not_scaled_to_zero());
        let reason = outcome.reason.as_deref().unwrap_or_default();
        outcome
            .events
            .push(report::rescale_event(outcome.replicas, reason));
    }
    outcome.conditions = state.conditions.clone();
    outcome
}

fn propose(spec: &Spec, seen: &Observation<'_>) -> Result<Proposal, String> {
    const CLIENT: &str = "custom metrics API";
    let metrics = match seen.metrics {
        Ok(metrics) if metrics.is_empty() => Err(format!("no metrics returned from {CLIENT}")),
        Ok(metrics) => Ok(metrics),
        Err(message) => Err(format!("unable to fetch metrics from {CLIENT}: {message}")),
    }
    .map_err(|cause| format!("unable to get metric {}: {cause}", spec.metric))?;
    let target = spec.target.milli_value();
    pods_metric_replicas(seen.replicas, target, spec.tolerance, seen.pods, metrics)
        .map_err(|error| error.to_string())
}

fn follow(
    spec: &Spec,
    state: &mut State,
    seen: &Observation<'_>,
    proposal: Proposal,
    outcome: &mut Outcome,
) {
    let metric = format!("pods metric {}", spec.metric);
    state.conditions.scaling_active = Some(report::valid_metric(&metric));
    // A proposal below zero (a negative metric) counts as zero: horizontal.go keeps the greater of the two.
    let wanted = proposal.replicas.max(0);
    outcome.average = Some(proposal.average);
    outcome.proposal = Some(wanted);
    outcome.reason = match wanted.cmp(&seen.replicas) {
        Ordering::Greater => Some(format!("{metric} above target")),
        Ordering::Less => Some("All metrics below target".to_owned()),
        Ordering::Equal => None,
    };
    outcome.replicas = state.normalize(spec, seen, wanted);
}
