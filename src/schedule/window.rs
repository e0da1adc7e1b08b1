//! Windows: times in which there are to be at least so many replicas.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::{ExpressionError, Schedule};

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

/// A time with a floor. It may go over midnight; a window whose end never comes goes on.
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
}

impl Window {
    /// The floor at a time; 0 outside.
    pub fn floor(&self, now: Timestamp) -> u32 {
        let running = self
            .start
            .latest(now)
            .map_or(0, |start| match self.end.next(start) {
                Some(end) if end <= now => self.part(now.duration_since(end), self.ramp_down),
                _ => self.replicas,
            });
        let coming = self.start.next(now).map_or(0, |start| {
            self.part(start.duration_since(now), self.ramp_up)
        });
        running.max(coming)
    }

    /// The floor this far from the window, rounded up.
    fn part(&self, away: SignedDuration, ramp: Duration) -> u32 {
        let Ok(away) = Duration::try_from(away) else {
            return self.replicas;
        };
        let left = ramp.saturating_sub(away).as_millis();
        match (u128::from(self.replicas) * left).checked_div(ramp.as_millis()) {
            None => 0,
            Some(_) => {
                let part = (u128::from(self.replicas) * left).div_ceil(ramp.as_millis());
                u32::try_from(part).unwrap_or(self.replicas)
            }
        }
    }
}

/// The floor of several windows: the largest.
pub fn floor(windows: &[Window], now: Timestamp) -> u32 {
    windows.iter().map(|it| it.floor(now)).max().unwrap_or(0)
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
