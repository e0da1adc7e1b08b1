//! Windows: times in which there are to be at least so many replicas.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Excluded, ExpressionError, Schedule};

/// The external metric that tells the floor of an object's windows.
pub const METRIC: &str = "schedule_desired_replicas";

/// Where a window begins or ends.
#[derive(Clone, Debug)]
pub enum Edge {
    /// Once.
    At(Timestamp),
    /// Again and again.
    Due(Schedule),
}

/// Why a text is no edge of a window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither a time such as 2026-11-27T08:00:00Z nor a schedule")]
pub struct EdgeError(#[from] ExpressionError);

impl Edge {
    /// Reads a time as RFC 3339 has it, or a cron expression.
    ///
    /// # Errors
    /// Where it is neither.
    pub fn parse(text: &str, zone: TimeZone, anchor: Timestamp) -> Result<Self, EdgeError> {
        match text.parse() {
            Ok(at) => Ok(Self::At(at)),
            Err(_) => Ok(Self::Due(Schedule::new(text, zone, anchor)?)),
        }
    }

    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::At(at) => (*at > after).then_some(*at),
            Self::Due(schedule) => schedule.next(after),
        }
    }

    fn latest(&self, until: Timestamp) -> Option<Timestamp> {
        match self {
            Self::At(at) => (*at <= until).then_some(*at),
            Self::Due(schedule) => schedule.latest(until),
        }
    }
}

/// A time with a floor. It may go over midnight.
#[derive(Clone, Debug)]
pub struct Window {
    /// Its beginning, at which the floor is reached.
    pub start: Edge,
    /// Its end, from which on the floor sinks.
    pub end: Edge,
    /// The floor.
    pub replicas: u32,
    /// How long before the beginning the floor begins to rise.
    pub ramp_up: Duration,
    /// How long after the end it takes to sink to nothing.
    pub ramp_down: Duration,
    /// Days on which it does not begin.
    pub excluded: Arc<[Excluded]>,
    /// Whose days these are.
    pub zone: TimeZone,
}

impl Window {
    /// The floor at a time; 0 outside.
    pub fn floor(&self, now: Timestamp) -> u32 {
        let running = match self.last(now) {
            None => 0,
            Some(end) if end > now => self.replicas,
            Some(end) => self.part(now.duration_since(end), self.ramp_down),
        };
        let coming = self.coming(now).map_or(0, |start| {
            self.part(start.duration_since(now), self.ramp_up)
        });
        running.max(coming)
    }

    /// When the floor changes next, to the second; `None`: never.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let falling = self.last(now).and_then(|end| {
            if end > now {
                Some(end)
            } else {
                self.step_down(end, now)
            }
        });
        let rising = self.coming(now).and_then(|start| {
            let begins = start.checked_sub(SignedDuration::try_from(self.ramp_up).ok()?);
            match begins.ok()? {
                begins if begins > now => Some(begins),
                begins => self.step_up(begins, now).or(Some(start)),
            }
        });
        // One that does not begin today may begin on a later day.
        let skipped = self.start.next(now).filter(|_| self.coming(now).is_none());
        falling.into_iter().chain(rising).chain(skipped).min()
    }

    /// The end of the window that began last; it may be past.
    fn last(&self, now: Timestamp) -> Option<Timestamp> {
        let start = self.start.latest(now).filter(|it| !self.skips(*it))?;
        self.end.next(start)
    }

    /// The next beginning.
    fn coming(&self, now: Timestamp) -> Option<Timestamp> {
        self.start.next(now).filter(|it| !self.skips(*it))
    }

    fn skips(&self, start: Timestamp) -> bool {
        let mut days = self.excluded.iter();
        days.any(|day| day.is_day_of(start, &self.zone))
    }

    /// The floor this far from the window, rounded up.
    fn part(&self, away: SignedDuration, ramp: Duration) -> u32 {
        let Ok(away) = Duration::try_from(away) else {
            return self.replicas;
        };
        let left = ramp.saturating_sub(away).as_millis();
        let parts = u128::from(self.replicas) * left;
        // No ramp is no part of one.
        let part = (!ramp.is_zero()).then(|| parts.div_ceil(ramp.as_millis().max(1)));
        part.map_or(0, |it| u32::try_from(it).unwrap_or(self.replicas))
    }

    /// The first whole second after `now` at which the ramp that began at `from` is another step higher.
    fn step_up(&self, from: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let (passed, steps, ramp) = self.ramp(self.ramp_up, from, now)?;
        let done = (passed * steps).div_ceil(ramp);
        after(from, done * ramp / steps / 1000 + 1)
    }

    /// The first whole second after `now` at which the ramp that began at `from` is another step lower.
    fn step_down(&self, from: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let (passed, steps, ramp) = self.ramp(self.ramp_down, from, now)?;
        let done = passed * steps / ramp;
        after(from, ((done + 1) * ramp).div_ceil(steps).div_ceil(1000))
    }

    /// How far a ramp is, its steps, and its length, in milliseconds; where `now` is on it.
    fn ramp(&self, ramp: Duration, from: Timestamp, now: Timestamp) -> Option<(u128, u128, u128)> {
        let passed = u128::try_from(now.duration_since(from).as_millis()).ok()?;
        let (steps, ramp) = (u128::from(self.replicas), ramp.as_millis());
        (passed < ramp && steps > 0).then_some((passed, steps, ramp))
    }
}

fn after(from: Timestamp, seconds: u128) -> Option<Timestamp> {
    let seconds = SignedDuration::from_secs(i64::try_from(seconds).ok()?);
    from.checked_add(seconds).ok()
}

/// The floor of several windows: the largest.
pub fn floor(windows: &[Window], now: Timestamp) -> u32 {
    windows.iter().map(|it| it.floor(now)).max().unwrap_or(0)
}

/// What a target without an autoscaler was given for the sake of a floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The replicas that it was given.
    pub replicas: i32,
    /// Those that it has without windows.
    pub base: i32,
}

/// How many replicas a target is to have that has `current` ones, and what is to be remembered about it. Replicas that somebody
/// else has set since are the new base.
pub fn hold(current: i32, held: Option<Held>, floor: i32) -> (i32, Option<Held>) {
    let base = held
        .filter(|held| held.replicas == current)
        .map_or(current, |held| held.base);
    if floor == 0 {
        return (base, None);
    }
    let replicas = base.max(floor);
    (replicas, Some(Held { replicas, base }))
}

/// The windows of all objects, by namespace and name: written by whoever follows the objects, read by whoever answers for
/// them.
#[derive(Debug, Default)]
pub struct Floors {
    windows: ArcSwap<ByObject>,
}

type ByObject = BTreeMap<(String, String), Arc<[Window]>>;

impl Floors {
    /// From now on an object has these windows. Without any it has no floor.
    pub fn set(&self, namespace: &str, name: &str, windows: Vec<Window>) {
        let key = (namespace.to_owned(), name.to_owned());
        if windows.is_empty() && !self.windows.load().contains_key(&key) {
            return;
        }
        let windows: Arc<[Window]> = windows.into();
        self.windows.rcu(|all| {
            let mut all = BTreeMap::clone(all);
            if windows.is_empty() {
                all.remove(&key);
            } else {
                all.insert(key.clone(), Arc::clone(&windows));
            }
            all
        });
    }

    /// The floor of each object of a namespace that has windows, by name.
    pub fn of(&self, namespace: &str, now: Timestamp) -> Vec<(String, u32)> {
        let all = self.windows.load();
        let first = (namespace.to_owned(), String::new());
        all.range(first..)
            .take_while(|((other, _), _)| other == namespace)
            .map(|((_, name), windows)| (name.clone(), floor(windows, now)))
            .collect()
    }
}
