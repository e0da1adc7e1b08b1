//! How many replicas a metric of type `Pods` asks for (`calcPlainMetricReplicas`, replica_calculator.go:193).

use std::collections::{BTreeMap, BTreeSet};

/// How far the ratio of metric and target may be from 1 before anything happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Downwards, as a fraction.
    pub down: f64,
    /// Upwards, as a fraction.
    pub up: f64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self { down: 0.1, up: 0.1 }
    }
}

impl Tolerance {
    /// Both bounds belong to the range (`Tolerances.isWithin`, replica_calculator.go:56).
    fn covers(self, ratio: f64) -> bool {
        (1.0 - self.down) <= ratio && ratio <= (1.0 + self.up)
    }
}

/// A pod as the autoscaler sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name, under which the metric is looked up.
    pub name: String,
    /// `status.phase`.
    pub phase: PodPhase,
    /// Whether it has a deletion timestamp.
    pub deleted: bool,
}

/// `status.phase` of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodPhase {
    /// Not all of its containers have started.
    Pending,
    /// Bound to a node, with a container that runs or is being restarted.
    Running,
    /// All containers ended well. It still counts, as in the controller.
    Succeeded,
    /// A container failed for good.
    Failed,
    /// Its node cannot be reached. It still counts.
    Unknown,
}

/// What the metric asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// How many replicas, before stabilization and limits.
    pub replicas: i32,
    /// The average over the pods that sent the metric, in thousandths.
    pub average: i64,
}

/// Why nothing can be computed, in the controller's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplicaError {
    /// The selector matches no pod.
    #[error("no pods returned by selector while calculating replica count")]
    NoPods,
    /// The metric is there only for pods that do not count.
    #[error("did not receive metrics for targeted pods (pods might be unready)")]
    NoMetrics,
}

/// The replicas for an average of `target` thousandths, given `metrics` in thousandths by pod name.
///
/// Pods without a metric are assumed to be on target where the others are below it, and idle where they are above it; pending
/// pods are assumed idle where the others are above it. Neither assumption may turn the direction round. A metric of a pod
/// that is not among `pods` stays in the average, as in the controller.
///
/// # Errors
/// Where there are no pods, or no metric of one that counts.
pub fn pods_metric_replicas(
    current: i32,
    target: i64,
    tolerance: Tolerance,
    pods: &[Pod],
    metrics: &BTreeMap<String, i64>,
) -> Result<Proposal, ReplicaError> {
    if pods.is_empty() {
        return Err(ReplicaError::NoPods);
    }
    let groups = Groups::of(pods, metrics);
    let mut metrics: BTreeMap<&str, i64> = metrics
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .filter(|(name, _)| !groups.ignored.contains(name) && !groups.unready.contains(name))
        .collect();
    if metrics.is_empty() {
        return Err(ReplicaError::NoMetrics);
    }
    let average = average_of(&metrics);
    let ratio = ratio_of(average, target);
    let keep = Ok(Proposal {
        replicas: current,
        average,
    });

    let unready_are_idle = !groups.unready.is_empty() && ratio > 1.0;
    if !unready_are_idle && groups.missing.is_empty() {
        let replicas = ceil(ratio * f64::from(groups.ready));
        return if tolerance.covers(ratio) {
            keep
        } else {
            Ok(Proposal { replicas, average })
        };
    }
    let assumed = if ratio < 1.0 {
        Some(target)
    } else {
        (ratio > 1.0).then_some(0)
    };
    if let Some(assumed) = assumed {
        metrics.extend(groups.missing.iter().map(|name| (*name, assumed)));
    }
    if unready_are_idle {
        metrics.extend(groups.unready.iter().map(|name| (*name, 0)));
    }

    let new_ratio = ratio_of(average_of(&metrics), target);
    let turned = (ratio < 1.0 && new_ratio > 1.0) || (ratio > 1.0 && new_ratio < 1.0);
    if turned || tolerance.covers(new_ratio) {
        return keep;
    }
    let replicas = ceil(new_ratio * count(metrics.len()));
    if (new_ratio < 1.0 && replicas > current) || (new_ratio > 1.0 && replicas < current) {
        return keep;
    }
    Ok(Proposal { replicas, average })
}

/// The pods by how they count (`groupPods`, replica_calculator.go:422).
#[derive(Default)]
struct Groups<'a> {
    ready: u32,
    unready: BTreeSet<&'a str>,
    missing: BTreeSet<&'a str>,
    ignored: BTreeSet<&'a str>,
}

impl<'a> Groups<'a> {
    fn of(pods: &'a [Pod], metrics: &BTreeMap<String, i64>) -> Self {
        let mut groups = Self::default();
        for pod in pods {
            let name = pod.name.as_str();
            if pod.deleted || pod.phase == PodPhase::Failed {
                groups.ignored.insert(name);
            } else if pod.phase == PodPhase::Pending {
                groups.unready.insert(name);
            } else if metrics.contains_key(name) {
                groups.ready += 1;
            } else {
                groups.missing.insert(name);
            }
        }
        groups
    }
}

/// Truncates toward zero, as Go divides (`GetMetricUsageRatio`, metrics/utilization.go:57). A sum beyond 64 bits, which
/// wraps round there, does not here.
fn average_of(metrics: &BTreeMap<&str, i64>) -> i64 {
    let total: i128 = metrics.values().map(|value| i128::from(*value)).sum();
    let count = i128::try_from(metrics.len().max(1)).unwrap_or(i128::MAX);
    i64::try_from(total / count).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "as the controller computes it")]
fn ratio_of(average: i64, target: i64) -> f64 {
    average as f64 / target as f64
}

#[expect(clippy::cast_precision_loss, reason = "no cluster has 2^52 pods")]
fn count(pods: usize) -> f64 {
    pods as f64
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the value is whole, and what does not fit saturates"
)]
fn ceil(replicas: f64) -> i32 {
    replicas.ceil() as i32
}
