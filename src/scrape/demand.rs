//! The scrapes that requests ask for: whom they wake, who waits for them, and how many there may be.
//!
//! [`Demand`] is what the answering side holds. Each target's task holds a [`Timing`], which is known here for as long as the
//! task lives. What is decided, and by which rules, is in [`super::pace`].

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
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
    pace: Mutex<Pace>,
    /// Wakes the task: a scrape is asked for, or the next one is earlier than it was.
    wake: Notify,
    /// Changes with the end of each scrape; the time of the scrape, where it was good.
    ended: watch::Sender<Option<Timestamp>>,
}

/// A scrape to wait for, and until when.
struct Wait {
    ended: watch::Receiver<Option<Timestamp>>,
    until: Instant,
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
        let entry = Arc::new(Entry {
            pace: Mutex::new(pace),
            wake: Notify::new(),
            ended: watch::Sender::new(None),
        });
        self.targets.write().insert(id, Arc::clone(&entry));
        Timing {
            id,
            demand: Arc::clone(self),
            entry,
        }
    }

    fn ask(&self, entry: &Entry, now: Instant, wanted: Freshness) -> Option<Wait> {
        let room = self.in_flight.load(Ordering::Relaxed) < IN_FLIGHT;
        let mut pace = entry.pace.lock();
        let due = pace.due();
        let reply = pace.ask(now, wanted, room);
        // A scrape that is later than it was needs no word: the task looks again when it wakes.
        if pace.due() < due || matches!(reply, Reply::Scrape(_)) {
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
        let free = entry.ended.receiver_count() < WAITING;
        free.then(|| Wait {
            ended: entry.ended.subscribe(),
            until,
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
                for Wait { mut ended, until } in waits {
                    match timeout_at(until, ended.changed()).await {
                        Ok(Ok(())) => latest = latest.max(*ended.borrow()),
                        // The target has gone.
                        Ok(Err(_)) => {}
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
                let mut pace = self.entry.pace.lock();
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
        {
            let mut pace = self.entry.pace.lock();
            self.release(&pace);
            pace.ended(Instant::now(), good.is_some());
        }
        self.entry.ended.send_replace(good);
    }

    fn release(&self, pace: &Pace) {
        if pace.demanded() {
            self.demand.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Timing {
    fn drop(&mut self) {
        self.demand.targets.write().remove(&self.id);
        // Nobody can ask any more.
        self.release(&self.entry.pace.lock());
    }
}

#[cfg(test)]
mod tests;
