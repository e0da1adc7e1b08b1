//! Which targets are scraped: started, replaced and ended as the set of targets changes.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hashbrown::HashTable;
use reqwest::Url;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{Semaphore, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::config::scrape::ScrapeLimits;
use crate::model::labels::Labels;
use crate::store::{MetadataIndex, Store, TargetInfo};
use crate::targets::{Target, TargetSet};

use super::fetch::Fetcher;
use super::pace::Ticks;
use super::scraper::{Scraper, Shared, pace};
use super::threads::Threads;
use super::worker::{Order, Worker};
use super::{Demand, KeptMetrics, Statistics};

/// What scraping reads and writes beside its targets.
#[derive(Clone, Debug)]
pub struct Scraping {
    /// Where samples go.
    pub store: Arc<Store>,
    /// Where the descriptions of metrics go.
    pub metadata: Arc<MetadataIndex>,
    /// What bounds it.
    pub limits: ScrapeLimits,
    /// Which metrics are kept; may be replaced while it runs.
    pub kept: Arc<ArcSwap<KeptMetrics>>,
    /// What it counts.
    pub statistics: Arc<Statistics>,
    /// What requests wish.
    pub demand: Arc<Demand>,
}

impl Scraping {
    /// Scraping of everything into `store`, within the usual limits.
    pub fn into(store: Arc<Store>) -> Self {
        let statistics = Arc::new(Statistics::default());
        Self {
            store,
            metadata: Arc::default(),
            limits: ScrapeLimits::default(),
            kept: Arc::default(),
            demand: Demand::new(Arc::clone(&statistics)),
            statistics,
        }
    }

    /// Scrapes the latest of `targets` until `cancel`; then every scrape has ended.
    ///
    /// A target that leaves the set takes its series with it. One that stays as it is goes on undisturbed; one that changes
    /// in anything (its labels, its job's settings) starts afresh.
    pub async fn run(
        self,
        mut targets: watch::Receiver<Arc<TargetSet>>,
        cancel: CancellationToken,
    ) {
        let shared = Arc::new(Shared {
            fetcher: Fetcher::new(&self.limits),
            turns: Semaphore::new(self.limits.concurrency.min(Semaphore::MAX_PERMITS)),
            kept: self.kept,
            metadata: self.metadata,
            statistics: self.statistics,
        });
        let (panicked, mut panics) = unbounded_channel();
        let mut pool = Pool {
            store: self.store,
            shared,
            demand: self.demand,
            origin: Instant::now(),
            targets: 0,
            threads: Threads::start(),
            seats: Vec::new(),
            next: 0,
            workers: JoinSet::new(),
            panicked,
            keys: RandomState::new(),
            running: HashTable::new(),
        };
        let threads = 0..pool.threads.handles().len();
        pool.seats = threads.map(|thread| pool.staff(thread)).collect();
        let mut open = true;
        loop {
            let set = targets.borrow_and_update().clone();
            pool.adopt(&set);
            let changed = loop {
                tokio::select! {
                    () = cancel.cancelled() => break false,
                    changed = targets.changed(), if open => {
                        open = changed.is_ok();
                        break true;
                    }
                    Some((id, error)) = panics.recv() => pool.revive(&error, |it| it.id == id),
                    Some(ended) = pool.workers.join_next() => {
                        if let Err(error) = ended {
                            pool.replace(&error);
                        }
                    }
                }
            };
            if !changed {
                break;
            }
        }
        pool.end().await;
    }
}

struct Pool {
    store: Arc<Store>,
    shared: Arc<Shared>,
    demand: Arc<Demand>,
    /// When the clock began whose ticks scrapes begin on.
    origin: Instant,
    /// How many targets there are to be.
    targets: usize,
    threads: Threads,
    /// One for each of the threads.
    seats: Vec<Seat>,
    /// The place of who scrapes the next target.
    next: usize,
    workers: JoinSet<()>,
    /// Where workers tell which target's scrape panicked.
    panicked: UnboundedSender<(u64, JoinError)>,
    /// What `running` is hashed with.
    keys: RandomState,
    /// By [`key`].
    running: HashTable<Running>,
}

/// How to reach a worker.
struct Seat {
    id: Id,
    orders: UnboundedSender<Order>,
    wake: UnboundedSender<u64>,
}

struct Running {
    target: Arc<Target>,
    /// What the store calls it.
    id: u64,
    /// The place of who scrapes it.
    seat: usize,
}

impl Seat {
    /// Where nobody is there to take it, it is of no use any more: the worker has panicked, and its targets start anew.
    fn give(&self, order: Order) {
        let _ = self.orders.send(order);
    }
}

impl Pool {
    /// Has a worker on the thread of this place.
    fn staff(&mut self, thread: usize) -> Seat {
        let (orders, taken) = unbounded_channel();
        let (wake, woken) = unbounded_channel();
        let worker = Worker::new(taken, woken, self.panicked.clone());
        let handle = &self.threads.handles()[thread];
        let id = self.workers.spawn_on(worker.run(), handle).id();
        Seat { id, orders, wake }
    }

    /// Makes the targets those of `set`.
    fn adopt(&mut self, set: &TargetSet) {
        self.targets = set.targets.len();
        let hash = |target: &Target| self.keys.hash_one(key(target));
        let mut wanted: HashTable<&Target> = HashTable::with_capacity(set.targets.len());
        for target in &set.targets {
            wanted.insert_unique(hash(target), target, |it| hash(it));
        }
        self.running.retain(|running| {
            let target = &running.target;
            let is_it = |it: &&Target| key(it) == key(target);
            let stays = wanted.find(hash(target), is_it).is_some();
            if !stays {
                self.seats[running.seat].give(Order::End(running.id));
            }
            stays
        });
        let is_new = |target: &&Arc<Target>| {
            let running = self.running(target);
            running.is_none_or(|running| running.target != **target)
        };
        let new: Vec<&Arc<Target>> = set.targets.iter().filter(is_new).collect();
        for target in &new {
            if let Some(changed) = self.running(target) {
                self.seats[changed.seat].give(Order::End(changed.id));
            }
            self.start(Arc::clone(target), new.len(), Duration::ZERO);
        }
        self.shared.statistics.targets(self.running.len());
    }

    /// What runs for `target`, or for what it was before it changed.
    fn running(&self, target: &Target) -> Option<&Running> {
        let is_it = |running: &Running| key(&running.target) == key(target);
        self.running.find(self.keys.hash_one(key(target)), is_it)
    }

    /// Has `target`, one of `new` ones, scraped from now on.
    fn start(&mut self, target: Arc<Target>, new: usize, delay: Duration) {
        let writer = self.store.register(TargetInfo {
            job: target.settings.job.clone(),
            url: target.shown_url(),
            object: target.object.clone(),
            interval: target.interval,
        });
        self.next = (self.next + 1) % self.seats.len();
        let (id, seat) = (writer.id(), self.next);
        let worker = &self.seats[seat];
        let ticks = Ticks::new(self.origin, target.interval, self.targets);
        let pace = pace(&target, ticks, new, delay);
        let timing = self.demand.join(id, pace, worker.wake.clone());
        let scraper = Scraper::new(target.clone(), timing, writer, self.shared.clone());
        worker.give(Order::Start(Box::new(scraper)));
        let running = Running { target, id, seat };
        let hash = |target: &Target| self.keys.hash_one(key(target));
        let is_it = |it: &Running| key(&it.target) == key(&running.target);
        let place = self
            .running
            .entry(hash(&running.target), is_it, |it| hash(&it.target));
        place.insert(running);
    }

    /// Starts the targets anew, an interval later, whose scrapes have ended though they should not.
    fn revive(&mut self, error: &JoinError, has_ended: impl Fn(&Running) -> bool) {
        let ended = self.running.iter().filter(|it| has_ended(it));
        let ended: Vec<Arc<Target>> = ended.map(|it| it.target.clone()).collect();
        for target in ended {
            error!(url = %target.url, %error, "scraping panicked; it starts anew");
            let delay = target.interval;
            self.start(target, 1, delay);
        }
    }

    /// Gives the thread of a worker that panicked another one.
    fn replace(&mut self, error: &JoinError) {
        let Some(seat) = self.seats.iter().position(|seat| seat.id == error.id()) else {
            return;
        };
        self.seats[seat] = self.staff(seat);
        self.revive(error, |running| running.seat == seat);
    }

    /// Ends everything; then every scrape has ended.
    async fn end(mut self) {
        self.running.clear();
        self.seats.clear();
        while self.workers.join_next().await.is_some() {}
        self.shared.statistics.targets(0);
    }
}

/// What makes two targets the same target. Not kept: it would take as much as all else that is known of one here.
fn key(target: &Target) -> (&str, &Url, &Labels) {
    (&target.settings.job, &target.url, &target.labels)
}
