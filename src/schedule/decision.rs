//! What is to be done now about the jobs of one object, from what is known of their last runs: state, not events.
//!
//! A controller that has just started, or just become the leader, comes to the same decision as one that was there all along:
//! what is due and not handled is run, once, if it is not too long ago.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::{Excluded, Schedule};

/// What became of a job the last time, as its condition says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It waits for its next due time.
    Submitted,
    /// It was run.
    Succeed,
    /// It could not be run.
    Failed,
}

/// A job, and how far it is.
#[derive(Clone, Debug)]
pub struct Job {
    /// When it is due.
    pub schedule: Schedule,
    /// Whether it is to be run once and then no more.
    pub once: bool,
    /// What became of it.
    pub state: State,
    /// Up to when its due times have been handled: the condition's `lastProbeTime`.
    pub handled: Timestamp,
}

/// What is to be done about one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing before its next due time; `None`: nothing at all.
    Wait(Option<Timestamp>),
    /// Run it.
    Run(Timestamp),
    /// It was missed, and so was another one after it, which is run instead.
    Superseded(Timestamp),
    /// It was missed, longer ago than is caught up with.
    Missed(Timestamp),
    /// It is due on a day that the object excludes, by this entry of `excludeDates`. That uses up no `runOnce`.
    Excluded(Timestamp, String),
}

/// How long a job that failed waits until it is tried again, as long as it is still caught up with.
const RETRY: Duration = Duration::from_secs(30);

/// What holds for all jobs of an object.
#[derive(Clone, Debug)]
pub struct Terms<'a> {
    /// The days on which nothing is done.
    pub excluded: &'a [Excluded],
    /// Whose days these are.
    pub zone: &'a TimeZone,
    /// How long ago a due time may be to be caught up with.
    pub catch_up: Duration,
}

/// What is to be done now, in the order of the jobs. Of jobs due in the same second all are run, the last one last.
pub fn decide(jobs: &[Job], terms: &Terms<'_>, now: Timestamp) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> = jobs.iter().map(|job| job.verdict(terms, now)).collect();
    let due = |verdict: &Verdict| match verdict {
        Verdict::Run(due) => Some(*due),
        _ => None,
    };
    // A due time that another job has handled since is as good as superseded.
    let last_run = jobs
        .iter()
        .filter(|job| job.state == State::Succeed)
        .filter_map(|job| job.schedule.latest(job.handled))
        .chain(verdicts.iter().filter_map(due))
        .max();
    for verdict in &mut verdicts {
        if let Some(due) = due(verdict).filter(|due| Some(*due) < last_run) {
            *verdict = Verdict::Superseded(due);
        }
    }
    verdicts
}

impl Job {
    fn verdict(&self, terms: &Terms<'_>, now: Timestamp) -> Verdict {
        if self.once && self.state == State::Succeed {
            return Verdict::Wait(None);
        }
        let next = self.schedule.next(self.handled);
        let retry = self.retry(terms.catch_up);
        if !next.into_iter().chain(retry).any(|at| at <= now) {
            return Verdict::Wait(next.into_iter().chain(retry).min());
        }
        let Some(due) = self.schedule.latest(now) else {
            return Verdict::Wait(None);
        };
        if let Some(day) = terms
            .excluded
            .iter()
            .find(|it| it.is_day_of(due, terms.zone))
        {
            return Verdict::Excluded(due, day.text().to_owned());
        }
        let late = Duration::try_from(now.duration_since(due)).unwrap_or_default();
        if late > terms.catch_up {
            return Verdict::Missed(due);
        }
        Verdict::Run(due)
    }

    /// When a run that failed is tried again.
    fn retry(&self, catch_up: Duration) -> Option<Timestamp> {
        let due = match self.state {
            State::Failed => self.schedule.latest(self.handled)?,
            State::Submitted | State::Succeed => return None,
        };
        let at = self.handled.checked_add(RETRY).ok()?;
        let late = Duration::try_from(at.duration_since(due)).unwrap_or_default();
        (late <= catch_up).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> Timestamp {
        format!("2026-11-23T{time}Z").parse().expect("a time")
    }

    fn job(schedule: &str, state: State, handled: &str) -> Job {
        let anchor = at("00:00:00");
        Job {
            schedule: Schedule::new(schedule, TimeZone::UTC, anchor).expect("valid"),
            once: false,
            state,
            handled: at(handled),
        }
    }

    fn decided(jobs: &[Job], excluded: &[&str], now: &str) -> Vec<Verdict> {
        let days: Vec<Excluded> = excluded
            .iter()
            .map(|day| Excluded::new(day).expect("valid"))
            .collect();
        let terms = Terms {
            excluded: &days,
            zone: &TimeZone::UTC,
            catch_up: Duration::from_secs(600),
        };
        decide(jobs, &terms, at(now))
    }

    const UP: &str = "0 30 10 * * *";
    const DOWN: &str = "0 0 12 * * *";

    #[test]
    fn a_job_is_run_once_whoever_leads() {
        let waits =
            |jobs: &[Job], now| matches!(decided(jobs, &[], now)[..], [Verdict::Wait(Some(_))]);
        let mut jobs = [job(UP, State::Submitted, "09:00:00")];
        assert_eq!(
            decided(&jobs, &[], "10:29:59"),
            [Verdict::Wait(Some(at("10:30:00")))]
        );
        assert_eq!(
            decided(&jobs, &[], "10:30:00"),
            [Verdict::Run(at("10:30:00"))]
        );
        // The leader is gone, and nothing was recorded.
        assert_eq!(
            decided(&jobs, &[], "10:30:16"),
            [Verdict::Run(at("10:30:00"))]
        );
        // It was recorded by whoever ran it, in the same second or later.
        for handled in ["10:30:00", "10:30:16"] {
            jobs[0] = job(UP, State::Succeed, handled);
            assert!(waits(&jobs, "10:30:17"), "{handled}");
        }
        // A job that was made after its time waits for tomorrow.
        assert!(waits(&[job(UP, State::Submitted, "10:31:00")], "10:32:00"));
    }

    #[test]
    fn what_is_too_long_ago_is_told_and_not_run() {
        let jobs = [job(UP, State::Submitted, "09:00:00")];
        assert_eq!(
            decided(&jobs, &[], "10:40:00"),
            [Verdict::Run(at("10:30:00"))]
        );
        assert_eq!(
            decided(&jobs, &[], "10:40:01"),
            [Verdict::Missed(at("10:30:00"))]
        );
    }

    #[test]
    fn of_several_missed_jobs_the_last_one_counts() {
        let both = ["0 0 12 * * *", "0 5 12 * * *"].map(|it| job(it, State::Submitted, "09:00:00"));
        let [first, second] = [at("12:00:00"), at("12:05:00")];
        assert_eq!(
            decided(&both, &[], "12:06:00"),
            [Verdict::Superseded(first), Verdict::Run(second)]
        );
        // The later one was run already: the earlier one must not undo it.
        let ran = [
            both[0].clone(),
            job("0 5 12 * * *", State::Succeed, "12:05:01"),
        ];
        assert_eq!(
            decided(&ran, &[], "12:06:00")[0],
            Verdict::Superseded(first)
        );
        // In the same second: both, in their order.
        let same = [DOWN, DOWN].map(|it| job(it, State::Submitted, "09:00:00"));
        assert_eq!(
            decided(&same, &[], "12:00:00"),
            [Verdict::Run(first), Verdict::Run(first)]
        );
    }

    #[test]
    fn an_excluded_day_uses_up_no_run_once() {
        let mut once = job(UP, State::Submitted, "09:00:00");
        once.once = true;
        let excluded = decided(&[once.clone()], &["* * * 23 11 *"], "10:30:00");
        let day = "* * * 23 11 *".to_owned();
        assert_eq!(excluded, [Verdict::Excluded(at("10:30:00"), day)]);
        once.state = State::Succeed;
        assert_eq!(
            decided(&[once.clone()], &[], "10:30:00"),
            [Verdict::Wait(None)]
        );
        // One that failed is tried again at its next time.
        once.state = State::Failed;
        assert_eq!(
            decided(&[once], &[], "10:30:00"),
            [Verdict::Run(at("10:30:00"))]
        );
    }
}
