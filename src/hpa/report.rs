//! Conditions and events in the controller's own words, so that an operator can compare them with `kubectl describe hpa`.

/// One condition of the autoscaler's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Whether it is `True`.
    pub status: bool,
    /// The reason in one word.
    pub reason: &'static str,
    /// The reason in a sentence.
    pub message: String,
}

/// The conditions of the autoscaler's status; `None` where the controller has not set it yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Whether the controller can read and change the size.
    pub able_to_scale: Option<Condition>,
    /// Whether a size can be computed.
    pub scaling_active: Option<Condition>,
    /// Whether a bound holds the size back.
    pub scaling_limited: Option<Condition>,
    /// Whether the controller took the size to zero; set by controllers from Kubernetes 1.37 on.
    pub scaled_to_zero: Option<Condition>,
}

/// One event that the controller emits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whether its type is `Warning` rather than `Normal`.
    pub warning: bool,
    /// The reason in one word.
    pub reason: &'static str,
    /// What happened.
    pub message: String,
}

/// What holds a size back.
#[derive(Clone, Copy)]
pub(super) enum Limit {
    None,
    Fewest,
    Most,
    ScaleUp,
}

const fn condition(status: bool, reason: &'static str, message: String) -> Condition {
    Condition {
        status,
        reason,
        message,
    }
}

fn said(status: bool, reason: &'static str, message: &str) -> Condition {
    condition(status, reason, message.to_owned())
}

pub(super) fn got_scale() -> Condition {
    let message = "the HPA controller was able to get the target's current scale";
    said(true, "SucceededGetScale", message)
}

pub(super) fn rescaled(replicas: i32) -> Condition {
    let message = format!("the HPA controller was able to update the target scale to {replicas}");
    condition(true, "SucceededRescale", message)
}

pub(super) fn stabilized(held: bool) -> Condition {
    if held {
        let message = "recent recommendations were higher than current one, applying the highest recent recommendation";
        said(true, "ScaleDownStabilized", message)
    } else {
        said(
            true,
            "ReadyForNewScale",
            "recommended size matches current size",
        )
    }
}

pub(super) fn scaling_disabled() -> Condition {
    let message = "scaling is disabled since the replica count of the target is zero";
    said(false, "ScalingDisabled", message)
}

pub(super) fn valid_metric(metric: &str) -> Condition {
    let message =
        format!("the HPA was able to successfully calculate a replica count from {metric}");
    condition(true, "ValidMetricFound", message)
}

pub(super) fn no_metric(error: &str) -> Condition {
    let message = format!("the HPA was unable to compute the replica count: {error}");
    condition(false, "FailedGetPodsMetric", message)
}

pub(super) fn limited(by: Limit) -> Condition {
    let (status, reason, message) = match by {
        Limit::None => (
            false,
            "DesiredWithinRange",
            "the desired count is within the acceptable range",
        ),
        Limit::Fewest => (
            true,
            "TooFewReplicas",
            "the desired replica count is less than the minimum replica count",
        ),
        Limit::Most => (
            true,
            "TooManyReplicas",
            "the desired replica count is more than the maximum replica count",
        ),
        Limit::ScaleUp => (
            true,
            "ScaleUpLimit",
            "the desired replica count is increasing faster than the maximum scale rate",
        ),
    };
    said(status, reason, message)
}

pub(super) fn not_scaled_to_zero() -> Condition {
    let message = "the HPA controller did not scale the workload to zero";
    said(false, "NotScaledToZero", message)
}

pub(super) fn rescale_event(replicas: i32, reason: &str) -> Event {
    Event {
        warning: false,
        reason: "SuccessfulRescale",
        message: format!("New size: {replicas}; reason: {reason}"),
    }
}

/// The two events of a sync without a metric (horizontal.go:1194 and :930).
pub(super) fn failure_events(error: &str) -> Vec<Event> {
    let summary = format!(
        "invalid metrics (1 invalid out of 1), first error is: failed to get pods metric value: {error}"
    );
    [
        ("FailedGetPodsMetric", error.to_owned()),
        ("FailedComputeMetricsReplicas", summary),
    ]
    .map(|(reason, message)| Event {
        warning: true,
        reason,
        message,
    })
    .into()
}
