//! The status of a CronHorizontalPodAutoscaler, and what is to be done about an object now.
//!
//! One condition for each job, as kubernetes-cronhpa-controller writes them: an object keeps its history when it changes hands.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::decision::{Job, State, Terms, Verdict, decide};
use super::object::{JobSpec, ScaleTargetRef, Spec, SpecError};
use super::window::Held;
use super::{Excluded, Schedule};

/// How the message about a job begins that cannot work as it is written.
const FAULTY: &str = "Failed to create cron hpa job";

/// `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The target that the conditions are about.
    pub scale_target_ref: Option<ScaleTargetRef>,
    /// The excluded days that they are about.
    #[serde(serialize_with = "none_if_empty", deserialize_with = "empty_if_none")]
    pub exclude_dates: Vec<String>,
    /// What became of each job.
    pub conditions: Vec<Condition>,
    /// The job that is due next.
    pub next_job: Option<String>,
    /// When it is due.
    pub next_time: Option<Timestamp>,
    /// What became of the last job that was run.
    pub last_result: Option<String>,
    /// How each window stands.
    #[serde(serialize_with = "none_if_empty", deserialize_with = "empty_if_none")]
    pub windows: Vec<WindowStatus>,
    /// What the target was given for the sake of a window, where no autoscaler gives it.
    pub floor: Option<Held>,
}

/// In a patch, null is what takes a field away.
fn none_if_empty<S, T>(list: &[T], serializer: S) -> Result<S::Ok, S::Error>
where
    S: Serializer,
    T: Serialize,
{
    (!list.is_empty()).then_some(list).serialize(serializer)
}

fn empty_if_none<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// One of `status.conditions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The job's name.
    pub name: String,
    /// Names this version of the job.
    pub job_id: String,
    /// Its schedule.
    pub schedule: String,
    /// Its size.
    pub target_size: i32,
    /// Whether it is run once only.
    #[serde(default)]
    pub run_once: bool,
    /// What became of it.
    pub state: State,
    /// When that was. Due times until then are handled.
    pub last_probe_time: Timestamp,
    /// Why, in words.
    #[serde(default)]
    pub message: String,
}

/// One of `status.windows`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowStatus {
    /// The window's name.
    pub name: String,
    /// Its floor now; 0 outside.
    pub replicas: u32,
    /// Why it does not do what it says, if that is so.
    #[serde(default)]
    pub message: String,
}

/// An object, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// What is wanted.
    pub spec: &'a Spec,
    /// What was written about it last.
    pub status: &'a Status,
    /// `metadata.uid`.
    pub uid: &'a str,
    /// `metadata.creationTimestamp`: what `@every` counts from.
    pub created: Timestamp,
}

/// What holds for all objects.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// The time zone of objects that name none.
    pub zone: TimeZone,
    /// How long ago a due time may be to be caught up with.
    pub catch_up: Duration,
}

/// What is to be done about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The status once all is done; the outcome of [`Plan::runs`] is still to be set.
    pub status: Status,
    /// The jobs to be run now, in the order of their due times.
    pub runs: Vec<Run>,
    /// The floor of the windows now.
    pub floor: i32,
    /// When there is something to be done again.
    pub next: Option<Timestamp>,
}

/// A job to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// When it is, or was, due.
    pub due: Timestamp,
    /// Its place in `spec.jobs`, which is that of its condition.
    pub index: usize,
    /// Whether it was tried for this due time before.
    pub again: bool,
}

/// What is to be done now about an object.
pub fn plan(known: Known<'_>, defaults: &Defaults, now: Timestamp) -> Plan {
    let Known { spec, status, .. } = known;
    let mut conditions = carried(known, now);
    let mut jobs = Jobs::default();
    match terms(spec, &defaults.zone) {
        Err(error) => {
            for condition in &mut conditions {
                condition.faulty(&error, now);
            }
        }
        Ok((zone, excluded)) => {
            let schedules = spec.schedules(&zone, known.created);
            let terms = Terms {
                excluded: &excluded,
                zone: &zone,
                catch_up: defaults.catch_up,
            };
            jobs = Jobs::decided(schedules, &mut conditions, spec.suspend, &terms, now);
        }
    }
    let (windows, floor, change) = windows(known, &defaults.zone, now);
    Plan {
        status: Status {
            scale_target_ref: Some(spec.scale_target_ref.clone()),
            exclude_dates: spec.exclude_dates.clone(),
            next_job: jobs.next.map(|(_, index)| conditions[index].name.clone()),
            next_time: jobs.next.map(|(time, _)| time),
            last_result: status.last_result.clone(),
            floor: status.floor,
            windows,
            conditions,
        },
        runs: jobs.runs,
        // It was an i32 in the specification.
        floor: i32::try_from(floor).unwrap_or(i32::MAX),
        next: jobs.wake.into_iter().chain(change).min(),
    }
}

/// The conditions of the jobs as they are now: those of jobs that have not changed, and new ones.
fn carried(known: Known<'_>, now: Timestamp) -> Vec<Condition> {
    let Known { spec, status, .. } = known;
    let same_object = status.scale_target_ref.as_ref() == Some(&spec.scale_target_ref)
        && status.exclude_dates == spec.exclude_dates;
    let mut left = if same_object {
        status.conditions.clone()
    } else {
        Vec::new()
    };
    let carried = |job| match left.iter().position(|it| it.is_of(job)) {
        Some(index) => left.remove(index),
        None => Condition::new(known.uid, job, now),
    };
    spec.jobs.iter().map(carried).collect()
}

/// What must be good for any job to be.
fn terms(spec: &Spec, default: &TimeZone) -> Result<(TimeZone, Vec<Excluded>), SpecError> {
    spec.scale_target_ref.group_version()?;
    Ok((spec.zone(default)?, spec.excluded()?))
}

/// What is to be done about the jobs.
#[derive(Default)]
struct Jobs {
    runs: Vec<Run>,
    /// The next due time, and whose it is.
    next: Option<(Timestamp, usize)>,
    /// When there is something to be done again.
    wake: Option<Timestamp>,
}

impl Jobs {
    /// Decides, and puts into the conditions what needs nothing to be run.
    fn decided(
        schedules: Vec<Result<Schedule, SpecError>>,
        conditions: &mut [Condition],
        suspended: bool,
        terms: &Terms<'_>,
        now: Timestamp,
    ) -> Self {
        let (mut jobs, mut indices) = (Vec::new(), Vec::new());
        for (index, schedule) in schedules.into_iter().enumerate() {
            let condition = &mut conditions[index];
            match schedule {
                Err(error) => condition.faulty(&error, now),
                Ok(schedule) => {
                    condition.mended(now);
                    indices.push(index);
                    jobs.push(Job {
                        schedule,
                        once: condition.run_once,
                        state: condition.state,
                        handled: condition.last_probe_time,
                    });
                }
            }
        }
        let mut decided = Self::default();
        for (at, verdict) in decide(&jobs, terms, now).into_iter().enumerate() {
            let index = indices[at];
            let condition = &mut conditions[index];
            match verdict {
                Verdict::Run(due) if !suspended => {
                    let failed = condition.state == State::Failed;
                    decided.runs.push(Run {
                        due,
                        index,
                        again: failed && condition.last_probe_time >= due,
                    });
                }
                verdict => {
                    if let Verdict::Wait(Some(wake)) = verdict {
                        decided.wake = decided.wake.into_iter().chain([wake]).min();
                    }
                    condition.take(verdict, now);
                }
            }
            let done = condition.run_once && condition.state == State::Succeed;
            let next = jobs[at].schedule.next(now).filter(|_| !done);
            let next = next.map(|next| (next, index));
            decided.next = decided.next.into_iter().chain(next).min();
        }
        let next = decided.next.map(|(time, _)| time);
        decided.wake = decided.wake.into_iter().chain(next).min();
        decided.runs.sort_unstable();
        decided
    }
}

/// How the windows stand, their floor, and when that changes.
fn windows(
    known: Known<'_>,
    zone: &TimeZone,
    now: Timestamp,
) -> (Vec<WindowStatus>, u32, Option<Timestamp>) {
    let suspended = known.spec.suspend;
    let (mut floor, mut change) = (0, None);
    let windows = known.spec.windows(zone, known.created);
    let standing = known.spec.windows.iter().zip(windows);
    let standing = standing.map(|(spec, window)| {
        let replicas = match &window {
            Ok(window) if !suspended => window.floor(now),
            _ => 0,
        };
        floor = floor.max(replicas);
        let next = window.as_ref().ok().and_then(|it| it.next_change(now));
        change = change.into_iter().chain(next).min();
        WindowStatus {
            name: spec.name.clone(),
            replicas,
            message: window.err().map(|it| it.to_string()).unwrap_or_default(),
        }
    });
    (standing.collect(), floor, change)
}

impl Condition {
    fn new(uid: &str, job: &JobSpec, now: Timestamp) -> Self {
        let version = format!(
            "{uid}/{}/{}/{}/{}",
            job.name, job.schedule, job.target_size, job.run_once
        );
        Self {
            name: job.name.clone(),
            job_id: format!("{:x}", md5::compute(version)),
            schedule: job.schedule.clone(),
            target_size: job.target_size,
            run_once: job.run_once,
            state: State::Submitted,
            last_probe_time: whole(now),
            message: String::new(),
        }
    }

    fn is_of(&self, job: &JobSpec) -> bool {
        (&self.name, &self.schedule, self.target_size, self.run_once)
            == (&job.name, &job.schedule, job.target_size, job.run_once)
    }

    /// Sets what became of it. Times are whole seconds, as in every object.
    pub fn set(&mut self, state: State, now: Timestamp, message: impl Into<String>) {
        self.state = state;
        self.last_probe_time = whole(now);
        self.message = message.into();
    }

    fn faulty(&mut self, error: &SpecError, now: Timestamp) {
        let message = format!("{FAULTY} {},because of {error}", self.name);
        if self.message != message {
            self.set(State::Failed, now, message);
        }
    }

    /// What could not work, and can now, begins anew.
    fn mended(&mut self, now: Timestamp) {
        if self.state == State::Failed && self.message.starts_with(FAULTY) {
            self.set(State::Submitted, now, "");
        }
    }

    /// Takes what was decided, where that means that nothing is run.
    fn take(&mut self, verdict: Verdict, now: Timestamp) {
        match verdict {
            Verdict::Wait(_) => {}
            Verdict::Run(_) => {
                let message = "skip scaling activity,because the object is suspended.";
                self.set(self.state, now, message);
            }
            Verdict::Superseded(due) => {
                let message = format!("missed at {due}; a later job was run instead.");
                self.set(State::Submitted, now, message);
            }
            Verdict::Missed(due) => {
                let message = format!(
                    "cron hpa failed to execute, because of a due time that was missed: {due}"
                );
                self.set(State::Failed, now, message);
            }
            Verdict::Excluded(_, day) => {
                let message = format!(
                    "cron hpa job {} executed successfully. skip scaling activity,because of excludeDate ({day}).",
                    self.name
                );
                // A day that is left out uses up no `runOnce`.
                let state = if self.run_once {
                    State::Submitted
                } else {
                    State::Succeed
                };
                self.set(state, now, message);
            }
        }
    }
}

fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> Timestamp {
        format!("2026-11-23T{time}Z").parse().expect("a time")
    }

    fn spec(jobs: &str) -> Spec {
        let target = r#""scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "qwen-cronhpa-predictor"}"#;
        serde_json::from_str(&format!("{{{target}, \"jobs\": [{jobs}]}}")).expect("a specification")
    }

    fn planned(spec: &Spec, before: &Status, now: &str) -> Plan {
        let defaults = Defaults {
            zone: TimeZone::UTC,
            catch_up: Duration::from_secs(600),
        };
        let known = Known {
            spec,
            status: before,
            uid: "uid",
            created: at("00:00:00"),
        };
        plan(known, &defaults, at(now))
    }

    fn run(plan: &Plan) -> Vec<usize> {
        plan.runs.iter().map(|run| run.index).collect()
    }

    const UP: &str = r#"{"name": "scale-up", "schedule": "1 7 21 * * *", "targetSize": 2}"#;

    #[test]
    fn a_job_is_submitted_then_run_once_also_after_a_restart() {
        let spec = spec(UP);
        let made = planned(&spec, &Status::default(), "21:06:22");
        assert_eq!((run(&made), made.next), (vec![], Some(at("21:07:01"))));
        assert_eq!(made.status.conditions[0].state, State::Submitted);
        // A new leader knows what is stored and no more.
        let stored = serde_json::to_string(&made.status).expect("JSON");
        let stored: Status = serde_json::from_str(&stored).expect("the same form");
        let mut due = planned(&spec, &stored, "21:09:00");
        assert_eq!(run(&due), [0]);
        due.status.conditions[0].set(State::Succeed, at("21:09:00"), "ran");
        let after = planned(&spec, &due.status, "21:09:01");
        assert_eq!((after.runs.len(), after.status), (0, due.status));
    }

    #[test]
    fn a_job_that_changes_starts_anew_and_one_that_cannot_work_says_why() {
        let made = planned(&spec(UP), &Status::default(), "21:06:22");
        let other = spec(&UP.replace(": 2", ": -3"));
        let changed = planned(&other, &made.status, "21:06:30").status;
        let message =
            "Failed to create cron hpa job scale-up,because of targetSize must not be negative: -3";
        assert_eq!(
            (
                changed.conditions[0].state,
                changed.conditions[0].message.as_str()
            ),
            (State::Failed, message)
        );
        assert_ne!(
            changed.conditions[0].job_id,
            made.status.conditions[0].job_id
        );
        // Told once: the status does not change with the time.
        assert_eq!(planned(&other, &changed, "21:08:00").status, changed);
    }

    #[test]
    fn of_two_jobs_of_one_name_the_first_is_run() {
        let both = spec(&format!("{UP}, {UP}"));
        let made = planned(&both, &Status::default(), "21:06:22");
        let states: Vec<State> = made.status.conditions.iter().map(|it| it.state).collect();
        assert_eq!(states, [State::Submitted, State::Failed]);
        assert_eq!(run(&planned(&both, &made.status, "21:07:01")), [0]);
    }

    #[test]
    fn a_suspended_object_runs_nothing_and_does_not_make_up_for_it() {
        let mut suspended = spec(UP);
        let made = planned(&suspended, &Status::default(), "21:06:22");
        suspended.suspend = true;
        let passed = planned(&suspended, &made.status, "21:07:01");
        assert!(passed.runs.is_empty());
        suspended.suspend = false;
        assert!(
            planned(&suspended, &passed.status, "21:07:05")
                .runs
                .is_empty()
        );
    }

    #[test]
    fn what_failed_is_tried_again_as_long_as_it_is_caught_up_with() {
        let spec = spec(UP);
        let mut status = planned(&spec, &Status::default(), "21:06:22").status;
        for (now, again) in [("21:07:01", false), ("21:07:40", true), ("21:16:50", true)] {
            let due = planned(&spec, &status, now);
            let expected = Run {
                due: at("21:07:01"),
                index: 0,
                again,
            };
            assert_eq!(due.runs, [expected], "{now}");
            status = due.status;
            status.conditions[0].set(State::Failed, at(now), "no such target");
            let soon = planned(&spec, &status, now);
            assert!(soon.runs.is_empty(), "{now}");
            let retry = soon.next.expect("a retry").duration_since(at(now));
            assert!(now == "21:16:50" || retry.as_secs() == 30, "{now}");
        }
        // Ten minutes are over.
        let over = planned(&spec, &status, "21:17:30");
        assert_eq!((over.runs.len(), over.next), (0, over.status.next_time));
        assert_eq!(over.status.conditions[0].message, "no such target");
    }

    #[test]
    fn what_is_mended_begins_anew() {
        let mut spec = spec(UP);
        spec.time_zone = Some("Middle/Earth".to_owned());
        let faulty = planned(&spec, &Status::default(), "21:06:22").status;
        assert_eq!(faulty.conditions[0].state, State::Failed);
        spec.time_zone = None;
        let mended = planned(&spec, &faulty, "21:08:00");
        assert!(mended.runs.is_empty(), "its time was before it could work");
        assert_eq!(mended.status.conditions[0].state, State::Submitted);
    }

    #[test]
    fn windows_are_told_with_their_floor_and_what_is_wrong_with_them() {
        let windows = r#"{"name": "day", "start": "0 0 9 * * *", "end": "0 0 17 * * *", "replicas": 3},
            {"name": "day", "start": "0 0 9 * * *", "end": "0 0 17 * * *", "replicas": 3},
            {"name": "peak", "start": "0 0 10 * * *", "end": "0 0 11 * * *", "replicas": 5},
            {"name": "bad", "start": "tomorrow", "end": "0 0 11 * * *", "replicas": 5}"#;
        let mut spec = spec("");
        spec.windows = serde_json::from_str(&format!("[{windows}]")).expect("windows");
        let plan = planned(&spec, &Status::default(), "09:30:00");
        let told: Vec<(&str, u32, &str)> = plan
            .status
            .windows
            .iter()
            .map(|it| (&*it.name, it.replicas, &*it.message))
            .collect();
        let expected = [
            ("day", 3, ""),
            ("day", 0, "another window has the name \"day\""),
            ("peak", 0, ""),
            (
                "bad",
                0,
                "start \"tomorrow\" is neither a time such as 2026-11-27T08:00:00Z nor a schedule",
            ),
        ];
        assert_eq!(told, expected);
        assert_eq!((plan.floor, plan.next), (3, Some(at("10:00:00"))));
        spec.suspend = true;
        assert_eq!(planned(&spec, &plan.status, "10:30:00").floor, 0);
    }
}
