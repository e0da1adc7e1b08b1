//! The tasks of all targets: started, replaced and ended as the set of targets changes.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hashbrown::HashTable;
use reqwest::Url;
use tokio::sync::{Semaphore, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, error_span};

use crate::config::scrape::ScrapeLimits;
use crate::model::labels::Labels;
use crate::store::{MetadataIndex, Store, TargetInfo};
use crate::targets::{Target, TargetSet};

use super::fetch::Fetcher;
use super::task::{Shared, Task, pace};
use super::threads::Threads;
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
        let mut pool = Pool {
            store: self.store,
            shared,
            demand: self.demand,
            origin: Instant::now(),
            threads: Threads::start(),
            cancel: cancel.clone(),
            keys: RandomState::new(),
            running: HashTable::new(),
            tasks: JoinSet::new(),
        };
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
                    Some(ended) = pool.tasks.join_next(), if !pool.tasks.is_empty() => {
                        if let Err(error) = ended {
                            pool.revive(&error);
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
    threads: Threads,
    cancel: CancellationToken,
    /// What `running` is hashed with.
    keys: RandomState,
    /// By [`key`].
    running: HashTable<Running>,
    tasks: JoinSet<()>,
}

struct Running {
    target: Arc<Target>,
    cancel: CancellationToken,
    id: Id,
}

impl Pool {
    /// Makes the tasks those of `set`.
    fn adopt(&mut self, set: &TargetSet) {
        let hash = |target: &Target| self.keys.hash_one(key(target));
        let mut wanted: HashTable<&Target> = HashTable::with_capacity(set.targets.len());
        for target in &set.targets {
            wanted.insert_unique(hash(target), target, |it| hash(it));
        }
        self.running.retain(|Running { target, cancel, .. }| {
            let is_it = |it: &&Target| key(it) == key(target);
            let stays = wanted.find(hash(target), is_it).is_some();
            if !stays {
                cancel.cancel();
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
                changed.cancel.cancel();
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

    /// Starts the task of `target`, one of `new` ones.
    fn start(&mut self, target: Arc<Target>, new: usize, delay: Duration) {
        let url = target.shown_url();
        let writer = self.store.register(TargetInfo {
            job: target.settings.job.clone(),
            url: url.clone(),
            object: target.object.clone(),
            interval: target.interval,
        });
        // A span of this level, so that a filter that lets warnings through keeps saying of which target they are.
        let (job, object) = (&target.settings.job, target.object.as_deref());
        let span = error_span!("target", job, url, object);
        let cancel = self.cancel.child_token();
        let pace = pace(&target, self.origin, new, delay);
        let timing = self.demand.join(writer.id(), pace);
        let task = Task::new(target.clone(), writer, self.shared.clone());
        let task = task.run(timing, cancel.clone()).instrument(span);
        let id = self.tasks.spawn_on(task, self.threads.next()).id();
        let running = Running { target, cancel, id };
        let hash = |target: &Target| self.keys.hash_one(key(target));
        let is_it = |it: &Running| key(&it.target) == key(&running.target);
        let place = self
            .running
            .entry(hash(&running.target), is_it, |it| hash(&it.target));
        place.insert(running);
    }

    /// Starts the task that panicked anew, an interval later.
    fn revive(&mut self, error: &JoinError) {
        let dead = self.running.iter().find(|it| it.id == error.id());
        if let Some(target) = dead.map(|it| it.target.clone()) {
            error!(url = %target.url, %error, "scraping panicked; it starts anew");
            let delay = target.interval;
            self.start(target, 1, delay);
        }
    }

    async fn end(mut self) {
        for running in &self.running {
            running.cancel.cancel();
        }
        while self.tasks.join_next().await.is_some() {}
        self.shared.statistics.targets(0);
    }
}

/// What makes two targets the same target. Not kept: it would take as much as all else that is known of one here.
fn key(target: &Target) -> (&str, &Url, &Labels) {
    (&target.settings.job, &target.url, &target.labels)
}
