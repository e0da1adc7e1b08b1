//! The scrapes that requests ask for: whom they wake, who waits for them, and how many there may be.
//!
//! [`Demand`] is what the answering side holds. Who scrapes a target holds a [`Timing`], which is known here for as long as that
//! lives. What is decided, and by which rules, is in [`super::pace`].

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, timeout_at};

use crate::model::freshness::{Freshness, Refresher};
use crate::model::time::Timestamp;

use super::Statistics;
use super::pace::{Pace, Reply, Turn};

/// Most scrapes at one time that requests have asked for. A request for a whole namespace must not have all of its nodes
/// send their pages at once; those beyond are answered with what is there.
const IN_FLIGHT: usize = 64;

/// Most requests that wait for one target.
const WAITING: usize = 256;

/// Takes the requests' demands to those who scrape.
#[derive(Debug)]
pub struct Demand {
    targets: RwLock<HashMap<u64, Arc<Entry>>>,
    in_flight: AtomicUsize,
    statistics: Arc<Statistics>,
}

/// What who scrapes a target and those who ask about it share.
#[derive(Debug)]
struct Entry {
    id: u64,
    state: Mutex<State>,
    /// Who scrapes the target is told its id: a scrape is asked for, or the next one is earlier than it was.
    wake: UnboundedSender<u64>,
    /// Wakes those who wait: a scrape has ended, or the target has gone.
    ended: Notify,
}

#[derive(Debug)]
struct State {
    pace: Pace,
    /// Who scrapes it has been told to look at its time, and has not yet.
    woken: bool,
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

    /// Takes in the target that the store calls `id`, until the [`Timing`] is dropped. `wake` gets its id, once, when its
    /// [`Timing::turn`] may come sooner than was said.
    pub(super) fn join(
        self: &Arc<Self>,
        id: u64,
        pace: Pace,
        wake: UnboundedSender<u64>,
    ) -> Timing {
        let state = State {
            pace,
            woken: false,
            ended: 0,
            good: None,
            waiting: 0,
        };
        let entry = Arc::new(Entry {
            id,
            state: Mutex::new(state),
            wake,
            ended: Notify::new(),
        });
        self.targets.write().insert(id, Arc::clone(&entry));
        Timing {
            demand: Arc::clone(self),
            entry,
        }
    }

    fn ask(&self, entry: &Arc<Entry>, now: Instant, wanted: Freshness) -> Option<Wait> {
        let room = self.in_flight.load(Ordering::Relaxed) < IN_FLIGHT;
        let mut state = entry.state.lock();
        let due = state.pace.due();
        let reply = state.pace.ask(now, wanted, room);
        // A scrape that is later than it was needs no word: its time is looked at again when it comes.
        let is_sooner = state.pace.due() < due || matches!(reply, Reply::Scrape(_));
        if is_sooner && !state.woken {
            state.woken = true;
            // Nobody is there to be told only where the target is about to go.
            let _ = entry.wake.send(entry.id);
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

/// The times of one target's scrapes, for who scrapes it.
#[derive(Debug)]
pub(super) struct Timing {
    demand: Arc<Demand>,
    entry: Arc<Entry>,
}

impl Timing {
    /// The scrape that is to begin, or when to look again, unless it is woken before.
    pub(super) fn turn(&self, now: Instant) -> Result<Turn, Instant> {
        let state = &mut *self.entry.state.lock();
        state.woken = false;
        state.pace.turn(now).ok_or_else(|| state.pace.due())
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
        self.demand.targets.write().remove(&self.entry.id);
        // Nobody can ask any more.
        self.over(&mut self.entry.state.lock(), None);
    }
}

#[cfg(test)]
mod tests;
