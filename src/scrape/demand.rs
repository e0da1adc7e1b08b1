//! The scrapes that requests ask for: whom they wake, who waits for them, and how many there may be.
//!
//! [`Demand`] is what the answering side holds. Each target's task holds a [`Timing`], which is known here for as long as the
//! task lives. What is decided, and by which rules, is in [`super::pace`].

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::model::freshness::{Freshness, Refresher};
use crate::model::time::Timestamp;

use super::Statistics;
use super::pace::{Pace, Reply, Turn};

/// Most scrapes at one time that requests have asked for. A request for a whole namespace must not have all of its nodes
/// send their pages at once; those beyond are answered with what is there.
const IN_FLIGHT: usize = 64;

/// Most requests that wait for one target.
const WAITING: usize = 256;

/// Takes the requests' demands to the tasks that scrape.
#[derive(Debug)]
pub struct Demand {
    targets: RwLock<HashMap<u64, Arc<Entry>>>,
    in_flight: AtomicUsize,
    statistics: Arc<Statistics>,
}

/// What a target's task and those who ask about it share.
#[derive(Debug)]
struct Entry {
    state: Mutex<State>,
    /// Wakes the task: a scrape is asked for, or the next one is earlier than it was.
    wake: Notify,
    /// Wakes those who wait: a scrape has ended, or the target has gone.
    ended: Notify,
}

#[derive(Debug)]
struct State {
    pace: Pace,
    /// How many scrapes have ended.
    ended: u64,
    /// When the latest of them began, where it was good.
    good: Option<Timestamp>,
    /// How many wait for one.
    waiting: usize,
}

/// A scrape to wait for, and until when.
struct Wait {
    entry: Arc<Entry>,
    /// How many had ended before.
    ended: u64,
    until: Instant,
}

impl Wait {
    /// Waits until it has ended: when it began, where it was good.
    async fn ended(&self) -> Option<Timestamp> {
        loop {
            let mut ended = pin!(self.entry.ended.notified());
            // Before a look at the state, so that nothing that comes after it is missed.
            ended.as_mut().enable();
            {
                let state = self.entry.state.lock();
                if state.ended != self.ended {
                    return state.good;
                }
            }
            ended.await;
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.entry.state.lock().waiting -= 1;
    }
}

impl Demand {
    /// No targets yet. `statistics` counts those who wait.
    pub fn new(statistics: Arc<Statistics>) -> Arc<Self> {
        Arc::new(Self {
            targets: RwLock::default(),
            in_flight: AtomicUsize::new(0),
            statistics,
        })
    }

    /// Takes in the target that the store calls `id`, until the [`Timing`] is dropped.
    pub(super) fn join(self: &Arc<Self>, id: u64, pace: Pace) -> Timing {
        let state = State {
            pace,
            ended: 0,
            good: None,
            waiting: 0,
        };
        let entry = Arc::new(Entry {
            state: Mutex::new(state),
            wake: Notify::new(),
            ended: Notify::new(),
        });
        self.targets.write().insert(id, Arc::clone(&entry));
        Timing {
            id,
            demand: Arc::clone(self),
            entry,
        }
    }

    fn ask(&self, entry: &Arc<Entry>, now: Instant, wanted: Freshness) -> Option<Wait> {
        let room = self.in_flight.load(Ordering::Relaxed) < IN_FLIGHT;
        let mut state = entry.state.lock();
        let due = state.pace.due();
        let reply = state.pace.ask(now, wanted, room);
        // A scrape that is later than it was needs no word: the task looks again when it wakes.
        if state.pace.due() < due || matches!(reply, Reply::Scrape(_)) {
            entry.wake.notify_one();
        }
        let until = match reply {
            Reply::Answer => return None,
            Reply::Wait(until) => until,
            Reply::Scrape(until) => {
                self.in_flight.fetch_add(1, Ordering::Relaxed);
                until
            }
        };
        // Before the lock is let go, so that the scrape cannot have ended.
        let is_free = state.waiting < WAITING;
        is_free.then(|| {
            state.waiting += 1;
            Wait {
                entry: Arc::clone(entry),
                ended: state.ended,
                until,
            }
        })
    }
}

impl Refresher for Demand {
    fn refresh(
        &self,
        targets: &[u64],
        wanted: Freshness,
    ) -> Option<BoxFuture<'static, Option<Timestamp>>> {
        let now = Instant::now();
        let mut waits = Vec::new();
        {
            let known = self.targets.read();
            let entries = targets.iter().filter_map(|id| known.get(id));
            waits.extend(entries.filter_map(|entry| self.ask(entry, now, wanted)));
        }
        if waits.is_empty() {
            return None;
        }
        let statistics = Arc::clone(&self.statistics);
        Some(
            async move {
                let (mut latest, mut in_time) = (None, true);
                for wait in waits {
                    match timeout_at(wait.until, wait.ended()).await {
                        Ok(good) => latest = latest.max(good),
                        Err(_) => in_time = false,
                    }
                }
                statistics.waited(in_time);
                latest
            }
            .boxed(),
        )
    }
}

/// The times of one target's scrapes, as its task sees them.
#[derive(Debug)]
pub(super) struct Timing {
    id: u64,
    demand: Arc<Demand>,
    entry: Arc<Entry>,
}

impl Timing {
    /// Waits until the next scrape is to begin.
    pub(super) async fn turn(&self) -> Turn {
        loop {
            let due = {
                let pace = &mut self.entry.state.lock().pace;
                if let Some(turn) = pace.turn(Instant::now()) {
                    return turn;
                }
                pace.due()
            };
            tokio::select! {
                () = sleep_until(due) => {}
                () = self.entry.wake.notified() => {}
            }
        }
    }

    /// The scrape has ended; `good` is its time where it gave samples.
    pub(super) fn ended(&self, good: Option<Timestamp>) {
        let state = &mut *self.entry.state.lock();
        self.over(state, good);
        state.pace.ended(Instant::now(), good.is_some());
    }

    /// There is nothing more to wait for.
    fn over(&self, state: &mut State, good: Option<Timestamp>) {
        if state.pace.demanded() {
            self.demand.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
        state.good = good;
        state.ended += 1;
        if state.waiting > 0 {
            self.entry.ended.notify_waiters();
        }
    }
}

impl Drop for Timing {
    fn drop(&mut self) {
        self.demand.targets.write().remove(&self.id);
        // Nobody can ask any more.
        self.over(&mut self.entry.state.lock(), None);
    }
}

#[cfg(test)]
mod tests;
