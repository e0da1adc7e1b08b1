//! What stands between a proposal and the scale target: stabilization, bounds, and the speed limit upwards
//! (`normalizeDesiredReplicas`, horizontal.go:1105).

use std::collections::VecDeque;
use std::time::Duration;

use super::report::{self, Conditions};
use super::{Observation, Spec};
use crate::model::time::Timestamp;

/// What the controller remembers of one autoscaler between syncs. The default is one it has not seen yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Recommendations within the stabilization window, oldest first. Only those above every later one can still be the
    /// highest, so only those are kept: values fall from front to back.
    recommendations: VecDeque<(Timestamp, i32)>,
    /// The conditions as they stand in the autoscaler's status.
    pub(super) conditions: Conditions,
}

impl State {
    /// The size at first sight counts as a recommendation, so that a restarted controller does not scale down at once
    /// (`recordInitialRecommendation`, horizontal.go:802).
    pub(super) fn remember_first(&mut self, replicas: i32, now: Timestamp) {
        if self.recommendations.is_empty() {
            self.recommendations.push_back((now, replicas));
        }
    }

    /// The highest recommendation of the window, this one included (`stabilizeRecommendation`, horizontal.go:1083).
    fn stabilize(&mut self, wanted: i32, now: Timestamp, window: Duration) -> i32 {
        let cutoff = now.minus(window);
        while self
            .recommendations
            .front()
            .is_some_and(|(at, _)| *at < cutoff)
        {
            self.recommendations.pop_front();
        }
        while self
            .recommendations
            .back()
            .is_some_and(|(_, replicas)| *replicas <= wanted)
        {
            self.recommendations.pop_back();
        }
        self.recommendations.push_back((now, wanted));
        self.recommendations
            .front()
            .map_or(wanted, |(_, replicas)| *replicas)
    }

    /// The size that `wanted` becomes, and the conditions that say why.
    pub(super) fn normalize(&mut self, spec: &Spec, seen: &Observation<'_>, wanted: i32) -> i32 {
        let stabilized = self.stabilize(wanted, seen.now, spec.downscale_stabilization);
        self.conditions.able_to_scale = Some(report::stabilized(stabilized != wanted));

        let fastest = seen.replicas.saturating_mul(2).max(4);
        let (most, limit) = if spec.max_replicas > fastest {
            (fastest, report::Limit::ScaleUp)
        } else {
            (spec.max_replicas, report::Limit::Most)
        };
        let (allowed, limit) = if stabilized < spec.min_replicas {
            (spec.min_replicas, report::Limit::Fewest)
        } else if stabilized > most {
            (most, limit)
        } else {
            (stabilized, report::Limit::None)
        };
        self.conditions.scaling_limited = Some(report::limited(limit));
        allowed
    }
}
