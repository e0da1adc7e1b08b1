//! The status of a CronHorizontalPodAutoscaler, and what is to be done about an object now.
//!
//! One condition for each job, as kubernetes-cronhpa-controller writes them: an object keeps its history when it changes hands.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::decision::{Job, State, Terms, Verdict, decide};
use super::object::{JobSpec, ScaleTargetRef, Spec, SpecError};

/// `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The target that the conditions are about.
    pub scale_target_ref: Option<ScaleTargetRef>,
    /// The excluded days that they are about.
    pub exclude_dates: Vec<String>,
    /// What became of each job.
    pub conditions: Vec<Condition>,
    /// The job that is due next.
    pub next_job: Option<String>,
    /// When it is due.
    pub next_time: Option<Timestamp>,
    /// What became of the last job that was run.
    pub last_result: Option<String>,
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

/// What is to be done about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The status once the runs are done, but for [`Plan::runs`], whose outcome is still to be set.
    pub status: Status,
    /// The jobs to be run now, by their index, in the order of their due times.
    pub runs: Vec<usize>,
    /// When there is something to be done again.
    pub next: Option<Timestamp>,
}

/// What is to be done now about an object made at `created` with this specification and status. `zone` is that of objects
/// that name none.
pub fn plan(
    spec: &Spec,
    before: &Status,
    (uid, created): (&str, Timestamp),
    zone: &TimeZone,
    catch_up: Duration,
    now: Timestamp,
) -> Plan {
    let same_object = before.scale_target_ref.as_ref() == Some(&spec.scale_target_ref)
        && before.exclude_dates == spec.exclude_dates;
    let mut known = if same_object {
        before.conditions.clone()
    } else {
        Vec::new()
    };
    let mut conditions: Vec<Condition> = spec
        .jobs
        .iter()
        .map(|job| match known.iter().position(|it| it.is_of(job)) {
            Some(index) => known.remove(index),
            None => Condition::new(uid, job, now),
        })
        .collect();
    let whole = spec
        .scale_target_ref
        .group_version()
        .map(|_| ())
        .and_then(|()| Ok((spec.zone(zone)?, spec.excluded()?)));
    let mut runs = Vec::new();
    let mut next: Option<(Timestamp, usize)> = None;
    match whole {
        Err(error) => {
            for condition in &mut conditions {
                condition.faulty(&error, now);
            }
        }
        Ok((zone, excluded)) => {
            let mut jobs = Vec::new();
            let mut indices = Vec::new();
            for (index, schedule) in spec.schedules(&zone, created).into_iter().enumerate() {
                let condition = &mut conditions[index];
                match schedule {
                    Err(error) => condition.faulty(&error, now),
                    Ok(schedule) => {
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
            let terms = Terms {
                excluded: &excluded,
                zone: &zone,
                catch_up,
            };
            let mut due_runs = Vec::new();
            for (at, verdict) in decide(&jobs, &terms, now).into_iter().enumerate() {
                let index = indices[at];
                let condition = &mut conditions[index];
                match verdict {
                    Verdict::Wait(_) => {}
                    Verdict::Run(_) if spec.suspend => {
                        condition.set(
                            condition.state,
                            now,
                            "skip scaling activity,because the object is suspended.",
                        );
                    }
                    Verdict::Run(due) => due_runs.push((due, index)),
                    Verdict::Superseded(due) => {
                        let message = format!("missed at {due}; a later job was run instead.");
                        condition.set(State::Submitted, now, message);
                    }
                    Verdict::Missed(due) => {
                        let message = format!(
                            "cron hpa failed to execute, because of a due time that was missed: {due}"
                        );
                        condition.set(State::Failed, now, message);
                    }
                    Verdict::Excluded(_, day) => {
                        let message = format!(
                            "cron hpa job {} executed successfully. skip scaling activity,because of excludeDate ({day}).",
                            condition.name
                        );
                        // A day that is left out uses up no `runOnce`.
                        let state = if condition.run_once {
                            State::Submitted
                        } else {
                            State::Succeed
                        };
                        condition.set(state, now, message);
                    }
                }
                let done = condition.run_once && condition.state == State::Succeed;
                let after = jobs[at].schedule.next(now).filter(|_| !done);
                next = next.into_iter().chain(after.map(|it| (it, index))).min();
            }
            due_runs.sort_unstable();
            runs = due_runs.into_iter().map(|(_, index)| index).collect();
        }
    }
    let status = Status {
        scale_target_ref: Some(spec.scale_target_ref.clone()),
        exclude_dates: spec.exclude_dates.clone(),
        next_job: next.map(|(_, index)| conditions[index].name.clone()),
        next_time: next.map(|(time, _)| time),
        last_result: before.last_result.clone(),
        conditions,
    };
    Plan {
        status,
        runs,
        next: next.map(|(time, _)| time),
    }
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
        let message = format!(
            "Failed to create cron hpa job {},because of {error}",
            self.name
        );
        if self.message != message {
            self.set(State::Failed, now, message);
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
        let catch_up = Duration::from_secs(600);
        plan(
            spec,
            before,
            ("uid", at("00:00:00")),
            &TimeZone::UTC,
            catch_up,
            at(now),
        )
    }

    const UP: &str = r#"{"name": "scale-up", "schedule": "1 7 21 * * *", "targetSize": 2}"#;

    #[test]
    fn a_job_is_submitted_then_run_once_also_after_a_restart() {
        let spec = spec(UP);
        let made = planned(&spec, &Status::default(), "21:06:22");
        assert_eq!(
            (made.runs.as_slice(), made.next),
            (&[][..], Some(at("21:07:01")))
        );
        assert_eq!(made.status.conditions[0].state, State::Submitted);
        // A new leader knows what is stored and no more.
        let stored = serde_json::to_string(&made.status).expect("JSON");
        let stored: Status = serde_json::from_str(&stored).expect("the same form");
        let mut due = planned(&spec, &stored, "21:09:00");
        assert_eq!(due.runs, [0]);
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
        assert_eq!(planned(&both, &made.status, "21:07:01").runs, [0]);
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
}
