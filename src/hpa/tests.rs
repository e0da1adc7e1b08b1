//! Held against kube-controller-manager 1.37.2: the cases of its `replica_calculator_test.go`, and what it did and said in
//! a cluster with KServe when the metric's values were set by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{
    Condition, Observation, Outcome, Pod, PodPhase, ReplicaError, Spec, State, Tolerance,
    pods_metric_replicas, sync,
};
use crate::model::quantity::Quantity;
use crate::model::time::Timestamp;

const METRIC: &str = "DCGM_CUSTOM_PROCESS_SM_UTIL";

fn pods(phases: &[PodPhase]) -> Vec<Pod> {
    let pod = |(index, phase): (usize, &PodPhase)| Pod {
        name: format!("pod-{index}"),
        phase: *phase,
        deleted: false,
    };
    phases.iter().enumerate().map(pod).collect()
}

fn running(count: usize) -> Vec<Pod> {
    pods(&vec![PodPhase::Running; count])
}

/// The first pods' values in thousandths.
fn values(values: &[i64]) -> BTreeMap<String, i64> {
    let named = |(index, value): (usize, &i64)| (format!("pod-{index}"), *value);
    values.iter().enumerate().map(named).collect()
}

/// Replicas and average.
fn computed(current: i32, target: i64, pods: &[Pod], metrics: &[i64]) -> (i32, i64) {
    let tolerance = Tolerance::default();
    let proposal = pods_metric_replicas(current, target, tolerance, pods, &values(metrics))
        .expect("there are pods and metrics");
    (proposal.replicas, proposal.average)
}

#[test]
fn the_controllers_own_cases_come_out_the_same() {
    let up = [20_000, 10_000, 30_000];
    assert_eq!(computed(3, 15_000, &running(3), &up), (4, 20_000));
    let hot = [50_000, 10_000, 30_000];
    assert_eq!(computed(3, 15_000, &running(3), &hot), (6, 30_000));
    let hotter = [50_000, 15_000, 30_000];
    assert_eq!(computed(3, 15_000, &running(3), &hotter), (7, 31_666));
    assert_eq!(computed(5, 20_000, &running(5), &[12_000; 5]), (3, 12_000));
    let near = [20_000, 21_000, 21_000];
    assert_eq!(computed(3, 20_000, &running(3), &near), (3, 20_666));
    let narrow = Tolerance {
        down: 0.1,
        up: 0.01,
    };
    let proposal = pods_metric_replicas(3, 20_000, narrow, &running(3), &values(&near));
    assert_eq!(proposal.map(|proposal| proposal.replicas), Ok(4));
    let on_target = [20_000, 19_000, 21_000];
    assert_eq!(computed(5, 20_000, &running(5), &on_target), (5, 20_000));
    assert_eq!(computed(2, 17_000, &running(3), &[10_000; 2]), (2, 10_000));
}

#[test]
fn a_ratio_on_the_edge_of_the_tolerance_changes_nothing() {
    assert_eq!(computed(10, 50_000, &running(10), &[55_000; 10]).0, 10);
    assert_eq!(computed(10, 50_000, &running(10), &[55_001; 10]).0, 12);
    assert_eq!(computed(10, 50_000, &running(10), &[45_000; 10]).0, 10);
    assert_eq!(computed(10, 50_000, &running(10), &[44_999; 10]).0, 9);
}

#[test]
fn pods_without_a_metric_hold_back_both_ways() {
    // Down: the two missing ones count as on target: (2·10 + 2·50)/4 = 30 → 0.6 · 4 → 3 instead of 1.
    assert_eq!(computed(4, 50_000, &running(4), &[10_000; 2]).0, 3);
    assert_eq!(computed(4, 50_000, &running(4), &[10_000; 4]).0, 1);
    // Up: they count as idle: (2·200)/4 = 100 → 2 · 4 → 8 instead of 16.
    assert_eq!(computed(4, 50_000, &running(4), &[200_000; 2]).0, 8);
    assert_eq!(computed(4, 50_000, &running(4), &[200_000; 4]).0, 16);
    // Up, but idle ones would turn it into down: (1·60)/4 = 15.
    assert_eq!(computed(4, 50_000, &running(4), &[60_000]).0, 4);
}

#[test]
fn pending_pods_count_as_idle_on_the_way_up_and_not_at_all_on_the_way_down() {
    use PodPhase::{Pending, Running};
    // One busy pod must not shrink the size while three are starting: 60/4 = 15 turns the direction round.
    let starting = pods(&[Running, Pending, Pending, Pending]);
    assert_eq!(computed(4, 50_000, &starting, &[60_000]), (4, 60_000));
    assert_eq!(computed(4, 50_000, &starting, &[300_000]), (6, 300_000));
    let three = pods(&[Running, Running, Pending]);
    assert_eq!(computed(3, 50_000, &three, &[10_000; 2]), (1, 10_000));
    // A metric of a pending pod is not believed.
    assert_eq!(
        computed(3, 50_000, &three, &[10_000, 10_000, 900_000]),
        (1, 10_000)
    );
}

#[test]
fn deleted_and_failed_pods_do_not_count() {
    use PodPhase::{Failed, Pending, Running, Succeeded};
    let mut three = pods(&[Running, Failed, Succeeded]);
    assert_eq!(computed(3, 50_000, &three, &[100_000; 3]), (4, 100_000));
    three[2].deleted = true;
    assert_eq!(computed(3, 50_000, &three, &[100_000; 3]), (2, 100_000));
    let tolerance = Tolerance::default();
    for (phases, error) in [
        (&[][..], ReplicaError::NoPods),
        (&[Failed, Pending], ReplicaError::NoMetrics),
    ] {
        let result = pods_metric_replicas(2, 50_000, tolerance, &pods(phases), &values(&[1, 1]));
        assert_eq!(result, Err(error));
    }
}

#[test]
fn a_metric_of_an_unknown_pod_stays_in_the_average() {
    // Six pods at 40 and a stranger at 400 were an average of 91428m in a cluster too.
    let mut metrics = values(&[40_000; 6]);
    metrics.insert("stranger".to_owned(), 400_000);
    let proposal = pods_metric_replicas(6, 50_000, Tolerance::default(), &running(6), &metrics)
        .expect("there are pods and metrics");
    assert_eq!((proposal.replicas, proposal.average), (11, 91_428));
}

/// arena's autoscaler for the qwen service: a target of 50, one to two replicas.
struct Qwen {
    spec: Spec,
    state: State,
    now: Timestamp,
    replicas: i32,
}

impl Qwen {
    fn new(max_replicas: i32) -> Self {
        Self {
            spec: Spec::new(METRIC, Quantity::from_millis(50_000), max_replicas),
            state: State::default(),
            now: Timestamp::from_millis(0),
            replicas: 1,
        }
    }

    /// The next sync, 15 s later; the target has as many running pods as replicas.
    fn sync(&mut self, metrics: Result<&[i64], &str>) -> Outcome {
        let pods = running(usize::try_from(self.replicas).expect("not negative"));
        let metrics = metrics.map(values);
        let seen = Observation {
            now: self.now,
            replicas: self.replicas,
            pods: &pods,
            metrics: metrics.as_ref().map_err(|message| *message),
        };
        let outcome = sync(&self.spec, &mut self.state, &seen);
        self.replicas = outcome.replicas;
        self.now = self.now.plus(super::SYNC_PERIOD);
        outcome
    }
}

/// Status, reason and message of AbleToScale, ScalingActive, ScalingLimited and ScaledToZero, as `kubectl describe` shows them.
fn described(outcome: &Outcome) -> Vec<(bool, &str, &str)> {
    let conditions = &outcome.conditions;
    [
        &conditions.able_to_scale,
        &conditions.scaling_active,
        &conditions.scaling_limited,
        &conditions.scaled_to_zero,
    ]
    .into_iter()
    .flatten()
    .map(
        |Condition {
             status,
             reason,
             message,
         }| (*status, *reason, message.as_str()),
    )
    .collect()
}

const READY: (bool, &str, &str) = (
    true,
    "ReadyForNewScale",
    "recommended size matches current size",
);
const STABILIZED: (bool, &str, &str) = (
    true,
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const VALID: (bool, &str, &str) = (
    true,
    "ValidMetricFound",
    "the HPA was able to successfully calculate a replica count from pods metric DCGM_CUSTOM_PROCESS_SM_UTIL",
);
const WITHIN: (bool, &str, &str) = (
    false,
    "DesiredWithinRange",
    "the desired count is within the acceptable range",
);
const TOO_MANY: (bool, &str, &str) = (
    true,
    "TooManyReplicas",
    "the desired replica count is more than the maximum replica count",
);
const TOO_FEW: (bool, &str, &str) = (
    true,
    "TooFewReplicas",
    "the desired replica count is less than the minimum replica count",
);
const NOT_ZERO: (bool, &str, &str) = (
    false,
    "NotScaledToZero",
    "the HPA controller did not scale the workload to zero",
);

fn events(outcome: &Outcome) -> Vec<(bool, &str, &str)> {
    outcome
        .events
        .iter()
        .map(|e| (e.warning, e.reason, e.message.as_str()))
        .collect()
}

#[test]
fn the_story_of_the_captured_cluster_is_told_again() {
    let mut qwen = Qwen::new(2);

    let idle = qwen.sync(Ok(&[12_000]));
    assert_eq!((idle.replicas, idle.average), (1, Some(12_000)));
    assert_eq!(described(&idle), [READY, VALID, WITHIN]);
    assert_eq!(idle.events, []);

    let rises = qwen.sync(Ok(&[95_000]));
    assert_eq!((rises.replicas, rises.proposal), (2, Some(2)));
    let rescaled = (
        true,
        "SucceededRescale",
        "the HPA controller was able to update the target scale to 2",
    );
    assert_eq!(described(&rises), [rescaled, VALID, WITHIN, NOT_ZERO]);
    let event = "New size: 2; reason: pods metric DCGM_CUSTOM_PROCESS_SM_UTIL above target";
    assert_eq!(events(&rises), [(false, "SuccessfulRescale", event)]);

    let loaded = qwen.sync(Ok(&[95_000, 95_000]));
    assert_eq!((loaded.replicas, loaded.proposal), (2, Some(4)));
    assert_eq!(described(&loaded), [READY, VALID, TOO_MANY, NOT_ZERO]);
    assert_eq!(loaded.events, []);

    let half_blind = qwen.sync(Ok(&[95_000]));
    assert_eq!((half_blind.replicas, half_blind.average), (2, Some(95_000)));
    assert_eq!(half_blind.proposal, Some(2));
    assert_eq!(
        described(&half_blind),
        [STABILIZED, VALID, TOO_MANY, NOT_ZERO]
    );

    // The 4 holds for five minutes from its sync, the 2 for one sync more.
    for later in 2..=20 {
        let quiet = qwen.sync(Ok(&[0, 0]));
        assert_eq!((quiet.replicas, quiet.proposal), (2, Some(0)));
        assert_eq!(
            described(&quiet),
            [STABILIZED, VALID, TOO_MANY, NOT_ZERO],
            "{later}"
        );
    }
    let held_by_two = qwen.sync(Ok(&[0, 0]));
    assert_eq!(held_by_two.replicas, 2);
    assert_eq!(
        described(&held_by_two),
        [STABILIZED, VALID, WITHIN, NOT_ZERO]
    );

    let falls = qwen.sync(Ok(&[0, 0]));
    assert_eq!(falls.replicas, 1);
    let rescaled = (
        true,
        "SucceededRescale",
        "the HPA controller was able to update the target scale to 1",
    );
    assert_eq!(described(&falls), [rescaled, VALID, TOO_FEW, NOT_ZERO]);
    let event = "New size: 1; reason: All metrics below target";
    assert_eq!(events(&falls), [(false, "SuccessfulRescale", event)]);

    let rests = qwen.sync(Ok(&[0]));
    assert_eq!(described(&rests), [READY, VALID, TOO_FEW, NOT_ZERO]);
    assert_eq!(rests.events, []);
}

#[test]
fn a_refused_metric_changes_nothing_and_is_quoted() {
    let refusal = "the server could not find the metric DCGM_CUSTOM_PROCESS_SM_UTIL for pods";
    let mut qwen = Qwen::new(2);
    let outcome = qwen.sync(Err(refusal));
    assert_eq!((outcome.replicas, outcome.average), (1, None));
    let got_scale = (
        true,
        "SucceededGetScale",
        "the HPA controller was able to get the target's current scale",
    );
    let cause = "unable to get metric DCGM_CUSTOM_PROCESS_SM_UTIL: unable to fetch metrics from custom metrics API: the server could not find the metric DCGM_CUSTOM_PROCESS_SM_UTIL for pods";
    let message = format!("the HPA was unable to compute the replica count: {cause}");
    let failed = (false, "FailedGetPodsMetric", message.as_str());
    assert_eq!(described(&outcome), [got_scale, failed]);
    let summary = format!(
        "invalid metrics (1 invalid out of 1), first error is: failed to get pods metric value: {cause}"
    );
    assert_eq!(
        events(&outcome),
        [
            (true, "FailedGetPodsMetric", cause),
            (true, "FailedComputeMetricsReplicas", &summary),
        ]
    );

    let empty = qwen.sync(Ok(&[]));
    assert_eq!(
        events(&empty)[0].2,
        "unable to get metric DCGM_CUSTOM_PROCESS_SM_UTIL: no metrics returned from custom metrics API"
    );
}

#[test]
fn growth_is_limited_to_twice_the_size_but_four_are_always_allowed() {
    let mut qwen = Qwen::new(100);
    let limit = (
        true,
        "ScaleUpLimit",
        "the desired replica count is increasing faster than the maximum scale rate",
    );
    for size in [4, 8, 16] {
        let pods = usize::try_from(qwen.replicas).expect("not negative");
        let outcome = qwen.sync(Ok(&vec![5_000_000; pods]));
        assert_eq!(outcome.replicas, size);
        assert_eq!(described(&outcome)[2], limit);
    }
}

#[test]
fn a_size_out_of_bounds_is_corrected_without_a_metric() {
    for (size, corrected, reason) in [
        (5, 2, "Current number of replicas above Spec.MaxReplicas"),
        (1, 2, "Current number of replicas below Spec.MinReplicas"),
    ] {
        let mut qwen = Qwen::new(2);
        qwen.spec.min_replicas = 2;
        qwen.replicas = size;
        let outcome = qwen.sync(Err("never asked"));
        assert_eq!(
            (outcome.replicas, outcome.reason.as_deref()),
            (corrected, Some(reason))
        );
        let event = format!("New size: {corrected}; reason: {reason}");
        assert_eq!(
            events(&outcome),
            [(false, "SuccessfulRescale", event.as_str())]
        );
    }
}

#[test]
fn zero_replicas_stay_zero() {
    let mut qwen = Qwen::new(2);
    qwen.replicas = 0;
    let outcome = qwen.sync(Err("never asked"));
    assert_eq!((outcome.replicas, outcome.events.len()), (0, 0));
    assert_eq!(described(&outcome)[1].1, "ScalingDisabled");
}

#[test]
fn the_first_size_seen_holds_for_the_window() {
    let mut qwen = Qwen::new(4);
    qwen.replicas = 4;
    qwen.spec.downscale_stabilization = Duration::from_secs(60);
    let sizes: Vec<i32> = (0..6)
        .map(|_| {
            let pods = usize::try_from(qwen.replicas).expect("not negative");
            qwen.sync(Ok(&vec![5_000; pods])).replicas
        })
        .collect();
    assert_eq!(sizes, [4, 4, 4, 4, 4, 1]);
}

#[test]
fn a_metric_below_zero_asks_for_none() {
    let mut qwen = Qwen::new(4);
    let outcome = qwen.sync(Ok(&[-400_000]));
    assert_eq!((outcome.proposal, outcome.replicas), (Some(0), 1));
}
