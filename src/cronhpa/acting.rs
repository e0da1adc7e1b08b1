//! One object's turn: what is due is done, and what became of it is written down.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::sleep;
use tracing::{debug, error, info, warn};

use crate::cluster::custom::CustomObjects;
use crate::cluster::events::{Recorder, Severity};
use crate::cluster::lease::Leadership;
use crate::cluster::request::{RequestError, describe};
use crate::cluster::scale::Scalable;
use crate::schedule::decision::State;
use crate::schedule::object::Spec;
use crate::schedule::status::{Defaults, Plan, Run, Status, plan};
use crate::schedule::window::{Held, METRIC, hold};

use super::object::{Key, Object};
use super::standing::{Outcome, Standing};
use super::target::{
    Scaled, TargetError, Targets, asks_for_floors, is_hpa, rivalry, scalable, told,
};

/// How often a job is tried before it has failed, and how long after each other, as kubernetes-cronhpa-controller does it
/// (`cronjob.go`).
const TRIES: u32 = 4;
const BETWEEN_TRIES: Duration = Duration::from_secs(3);

/// How often somebody else may change an object between its reading and the writing of its status.
const ROUNDS: usize = 5;

/// How soon an object is looked at again whose status could not be written.
const AGAIN: Duration = Duration::from_secs(5);

/// How soon a floor is tried again that could not be kept.
const RETRY: Duration = Duration::from_secs(30);

/// How often a floor is held against the replicas that there are, where no autoscaler does.
const HOLD: Duration = Duration::from_secs(60);

/// What a turn needs.
pub(super) struct Acting {
    pub(super) objects: CustomObjects,
    pub(super) targets: Targets,
    pub(super) recorder: Recorder,
    pub(super) leadership: Leadership,
    pub(super) defaults: Defaults,
    pub(super) standing: Standing,
    /// How many objects may ask the API server at a time. One that waits for its next try does not count.
    pub(super) slots: Semaphore,
}

/// When a floor is held against the replicas that there are, where no autoscaler does it.
pub(super) fn hold_at(status: &Status) -> Option<Timestamp> {
    status.floor.and_then(|_| soon(HOLD))
}

fn soon(wait: Duration) -> Option<Timestamp> {
    Timestamp::now().checked_add(wait).ok()
}

/// What came of a turn. Nothing where the object is gone, or another replica acts now.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// The status as it was written or found.
    pub(super) status: Option<Status>,
    /// When it is to be looked at again.
    pub(super) next: Option<Timestamp>,
    /// What was run and could not be written down yet.
    pub(super) outcomes: Outcomes,
}

/// What became of a job, by its version and due time: it is not run again because its status could not be written.
pub(super) type Outcomes = HashMap<(String, Timestamp), Ran>;

#[derive(Clone, Debug)]
pub(super) struct Ran {
    state: State,
    at: Timestamp,
    message: String,
    /// Replicas that it gave a target which no autoscaler scales.
    given: Option<i32>,
}

impl Acting {
    /// Does what is due for an object, and writes down what became of it. `outcomes` are those of the turn before.
    pub(super) async fn turn(self: Arc<Self>, key: &Key, mut outcomes: Outcomes) -> Turn {
        let (namespace, name) = key;
        // A panic over one object is not to take it out of the agenda for ever.
        let turn = AssertUnwindSafe(self.try_turn(key, &mut outcomes));
        match turn.catch_unwind().await {
            Ok(Ok(Some(turn))) => return turn,
            Ok(Ok(None)) => debug!(namespace, name, "changes all the time"),
            Ok(Err(error)) => {
                let error = describe(&error);
                warn!(namespace, name, %error, "cannot read or write a schedule's status");
            }
            Err(_) => error!(namespace, name, "a turn panicked; this is a bug"),
        }
        Turn {
            status: None,
            next: soon(AGAIN),
            outcomes,
        }
    }

    /// `None`: others changed it each time in between.
    async fn try_turn(
        &self,
        key: &Key,
        outcomes: &mut Outcomes,
    ) -> Result<Option<Turn>, RequestError> {
        for _ in 0..ROUNDS {
            let slot = self.slot().await;
            let fresh = self.objects.get(&key.0, &key.1).await?;
            drop(slot);
            let Some(object) = fresh.map(Object::read) else {
                return Ok(Some(Turn::default()));
            };
            let spec = match &object.spec {
                Ok(spec) => spec,
                Err(error) => {
                    let message = format!("the specification cannot be read: {error}");
                    self.tell(&object, Severity::Warning, "Failed", &message)
                        .await;
                    return Ok(Some(Turn {
                        status: Some(object.status),
                        ..Turn::default()
                    }));
                }
            };
            let now = Timestamp::now();
            let mut planned = plan(object.known(spec), &self.defaults, now);
            self.leave(&object, spec).await;
            for run in planned.runs.clone() {
                if !self.leadership.holds() {
                    return Ok(Some(Turn::default()));
                }
                self.run(&object, spec, &mut planned, run, outcomes).await;
            }
            let kept = self.keep_floor(&object, spec, &mut planned).await;
            if !self.leadership.holds() {
                return Ok(Some(Turn::default()));
            }
            if planned.status != object.status {
                let status = serde_json::json!(planned.status);
                let _slot = self.slot().await;
                let (namespace, name) = key;
                let version = &object.version;
                let written = self.objects.write_status(namespace, name, version, &status);
                if !written.await? {
                    debug!(namespace, name, "changed in between; looked at again");
                    continue;
                }
            }
            let mut known = object.known(spec);
            known.status = &planned.status;
            let next = plan(known, &self.defaults, Timestamp::now()).next;
            let again = if kept { None } else { soon(RETRY) };
            let next = [next, again, hold_at(&planned.status)];
            return Ok(Some(Turn {
                status: Some(planned.status),
                next: next.into_iter().flatten().min(),
                outcomes: Outcomes::new(),
            }));
        }
        Ok(None)
    }

    /// Gives the target that the object had before its bounds back, if it was an HPA.
    async fn leave(&self, object: &Object, spec: &Spec) {
        let before = object.status.scale_target_ref.as_ref();
        if let Some(before) = before.filter(|it| is_hpa(it) && **it != spec.scale_target_ref) {
            self.release(&object.key, &before.name).await;
        }
    }

    /// Gives an HPA the bounds back that it had before this object.
    pub(super) async fn release(&self, (namespace, by): &Key, hpa: &str) {
        if !self.leadership.holds() {
            return;
        }
        let _slot = self.slot().await;
        if let Err(error) = self.targets.release(namespace, hpa, by).await {
            let error = told(&error);
            warn!(namespace, name = by, hpa, %error, "cannot give an HPA its bounds back");
        }
    }

    /// Runs a job, or takes what is known of its run, and puts the outcome into its condition.
    async fn run(
        &self,
        object: &Object,
        spec: &Spec,
        planned: &mut Plan,
        run: Run,
        outcomes: &mut Outcomes,
    ) {
        let id = (planned.status.conditions[run.index].job_id.clone(), run.due);
        let ran = match outcomes.get(&id) {
            Some(ran) => ran.clone(),
            None => {
                let ran = self.run_now(object, spec, planned.floor, run).await;
                outcomes.insert(id, ran.clone());
                ran
            }
        };
        if let Some(base) = ran.given {
            planned.status.floor = (planned.floor > 0).then(|| Held {
                replicas: base.max(planned.floor),
                base,
            });
        }
        let condition = &mut planned.status.conditions[run.index];
        condition.set(ran.state, ran.at, ran.message);
        planned.status.last_result = Some(format!("{} {:?}", condition.name, condition.state));
    }

    async fn run_now(&self, object: &Object, spec: &Spec, floor: i32, run: Run) -> Ran {
        let job = &spec.jobs[run.index];
        let scaled = self.tried(object, spec, job.target_size, floor).await;
        let at = Timestamp::now();
        let late = Duration::try_from(at.duration_since(run.due)).unwrap_or_default();
        let (namespace, name) = &object.key;
        let target = &spec.scale_target_ref;
        match scaled {
            Ok(mut scaled) => {
                self.standing.ran(Outcome::Succeeded, late);
                if !is_hpa(target) {
                    scaled.warning = self.rival(&scalable(namespace, target)).await;
                }
                let message = format!(
                    "cron hpa job {} executed successfully. {}",
                    job.name,
                    scaled.message(namespace)
                );
                info!(
                    namespace,
                    name,
                    job = job.name,
                    ?late,
                    outcome = message,
                    "job run"
                );
                self.tell(object, Severity::Normal, "Succeed", &message)
                    .await;
                Ran {
                    state: State::Succeed,
                    at,
                    message,
                    given: (!is_hpa(target)).then_some(job.target_size),
                }
            }
            Err(error) => {
                self.standing.ran(Outcome::Failed, late);
                let message = format!(
                    "cron hpa failed to execute, because of failed to scale {} {} in {namespace} namespace to {} after retrying {TRIES} times and exit,because of {}",
                    target.kind,
                    target.name,
                    job.target_size,
                    told(&error)
                );
                warn!(
                    namespace,
                    name,
                    job = job.name,
                    outcome = message,
                    "job failed"
                );
                if !run.again {
                    self.tell(object, Severity::Warning, "Failed", &message)
                        .await;
                }
                Ran {
                    state: State::Failed,
                    at,
                    message,
                    given: None,
                }
            }
        }
    }

    /// Scales the target for a job, with some patience.
    async fn tried(
        &self,
        object: &Object,
        spec: &Spec,
        size: i32,
        floor: i32,
    ) -> Result<Scaled, TargetError> {
        let (namespace, name) = &object.key;
        let target = &spec.scale_target_ref;
        let mut left = TRIES;
        loop {
            let slot = self.slot().await;
            let scaled = if is_hpa(target) {
                let by = (&**namespace, &**name);
                self.targets
                    .bound(by, &target.name, Some(size), floor)
                    .await
            } else {
                let replicas = size.max(floor);
                self.targets
                    .scale(&scalable(namespace, target), replicas)
                    .await
            };
            drop(slot);
            left -= 1;
            match scaled {
                Err(_) if left > 0 && self.leadership.holds() => sleep(BETWEEN_TRIES).await,
                scaled => return scaled,
            }
        }
    }

    /// What will undo a job on this target. It is told and no more, so not to know it is no failure.
    async fn rival(&self, target: &Scalable) -> Option<String> {
        let _slot = self.slot().await;
        let hpa = self.targets.hpa_over(target).await.ok().flatten()?;
        Some(rivalry(&hpa))
    }

    /// Holds the target at the floor of the object's windows, or lets go of it. Gives whether that was done.
    async fn keep_floor(&self, object: &Object, spec: &Spec, planned: &mut Plan) -> bool {
        let had_floor = object.status.windows.iter().any(|it| it.replicas > 0);
        if planned.floor == 0 && planned.status.floor.is_none() && !had_floor {
            return true;
        }
        let windows = &mut planned.status.windows;
        let (problem, kept) = match self
            .held(object, spec, planned.floor, planned.status.floor)
            .await
        {
            Ok((floor, problem)) => {
                planned.status.floor = floor;
                (problem, true)
            }
            Err(error) => {
                // As it was, so that letting go is tried again.
                windows.clone_from(&object.status.windows);
                (Some(told(&error)), false)
            }
        };
        if let Some(problem) = problem {
            for window in windows.iter_mut().filter(|it| it.replicas > 0) {
                window.message.clone_from(&problem);
            }
        }
        kept
    }

    /// What the target is given by now, and why the floor does not do what it says, if that is so.
    async fn held(
        &self,
        object: &Object,
        spec: &Spec,
        floor: i32,
        held: Option<Held>,
    ) -> Result<(Option<Held>, Option<String>), TargetError> {
        let (namespace, name) = &object.key;
        let target = &spec.scale_target_ref;
        let _slot = self.slot().await;
        if is_hpa(target) {
            let by = (&**namespace, &**name);
            let scaled = self.targets.bound(by, &target.name, None, floor).await?;
            return Ok((None, scaled.warning.filter(|_| floor > 0)));
        }
        let scalable = scalable(namespace, target);
        if let Some(hpa) = self.targets.hpa_over(&scalable).await? {
            let asks = asks_for_floors(&hpa);
            let problem = (!asks).then(|| {
                format!(
                    "{} Or let it ask for the external metric {METRIC}.",
                    rivalry(&hpa)
                )
            });
            return Ok((None, problem));
        }
        let current = self.targets.scales.replicas(&scalable).await?;
        let (replicas, held) = hold(current, held, floor);
        if replicas != current {
            self.targets.scales.scale(&scalable, replicas).await?;
            let message = format!(
                "floor of windows: {floor}. current replicas:{current}, desired replicas:{replicas}."
            );
            info!(namespace, name, outcome = message, "floor kept");
            self.tell(object, Severity::Normal, "Window", &message)
                .await;
        }
        Ok((held, None))
    }

    /// Writes an event. One that is lost is no harm: the condition tells the same.
    async fn tell(&self, object: &Object, severity: Severity, reason: &str, message: &str) {
        let about = object.reference();
        let told = self.recorder.record(&about, severity, reason, message);
        if let Err(error) = told.await {
            let error = describe(&error);
            debug!(%error, "event not written");
        }
    }

    async fn slot(&self) -> SemaphorePermit<'_> {
        let slot = self.slots.acquire().await;
        slot.expect("the semaphore is never closed")
    }
}
