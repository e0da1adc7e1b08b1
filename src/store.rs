//! Series and their recent samples, in memory.
//!
//! Each scrape target has one [`TargetWriter`], and only that writes its series. Requests read through
//! `Store::select`; they wait for no scrape, and they see each target's scrape whole or not at all.
//!
//! Two kinds of lock, always taken in this order: the index (which series exist), and one per target (its samples).
//! A scrape that brings nothing new takes only its target's lock, for as long as it takes to append its samples. Series
//! that come or go take the index by the few hundred, so that no reader waits for a flood of them.
//!
//! A million series must fit: what they have in common (labels, the times of scrapes) is kept once, and what a scrape brings
//! is [encoded](encoding) into one [column].

mod column;
mod encoding;
mod history;
mod ids;
mod index;
mod limits;
mod metadata;
mod samples;
mod scrape;
mod writer;

pub use limits::{LimitError, Limits};
pub use metadata::{Metadata, MetadataIndex};
pub use samples::Samples;
pub use scrape::Scrape;
pub use writer::{Slot, TargetInfo, TargetWriter};

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use parking_lot::RwLock;

use crate::model::labels::Labels;
use crate::model::matcher::Matcher;
use crate::model::sample::Sample;
use crate::model::time::Timestamp;

use history::History;
use index::{Found, Index, SeriesId};

/// All series of all targets.
#[derive(Debug)]
pub struct Store {
    limits: ArcSwap<Limits>,
    index: RwLock<Index>,
    targets: RwLock<BTreeMap<u64, Arc<Block>>>,
    next_target: AtomicU64,
    /// Series that exist or are promised to a scrape in progress.
    reserved: AtomicUsize,
    generation: AtomicU64,
}

/// The samples of one target. Readers take its lock once per query, so that they see a scrape whole.
#[derive(Debug)]
struct Block {
    id: u64,
    info: TargetInfo,
    state: RwLock<BlockState>,
}

#[derive(Debug, Default)]
struct BlockState {
    /// By slot. A series without a sample is not there yet.
    history: History,
    health: Health,
    /// Whether its writer is gone, and its series with it.
    gone: bool,
}

impl BlockState {
    fn samples(&self, series: &Found<'_>) -> Samples<'_> {
        Samples {
            history: &self.history,
            slot: series.slot,
        }
    }
}

/// How scraping a target goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// When the last good scrape began.
    pub last_success: Option<Timestamp>,
    /// Set while the target gives no samples.
    pub down: Option<Down>,
}

/// A target that gives no samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// When the first of the failed scrapes began.
    pub since: Timestamp,
    /// Why the latest of them failed.
    pub reason: String,
}

/// A target, how it goes, and how fresh it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStatus {
    /// The number of its registration, which no other target ever has; [`TargetWriter::id`].
    pub id: u64,
    /// What it was registered as.
    pub info: TargetInfo,
    /// How scraping it goes.
    pub health: Health,
    /// The newest sample of the series that were asked about; `None` where nothing was asked about or there is none.
    pub newest: Option<Timestamp>,
}

impl Store {
    /// An empty store with these limits.
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits: ArcSwap::from_pointee(limits),
            index: RwLock::default(),
            targets: RwLock::default(),
            next_target: AtomicU64::new(0),
            reserved: AtomicUsize::new(0),
            generation: AtomicU64::new(0),
        })
    }

    /// Bounds it by these limits from now on: what is too old for them goes with the next scrape of its target.
    pub fn limit(&self, limits: Limits) {
        self.limits.store(Arc::new(limits));
    }

    /// Makes room for a target. What it writes stays until the writer is dropped; then its series are gone.
    pub fn register(self: &Arc<Self>, target: TargetInfo) -> TargetWriter {
        let id = self.next_target.fetch_add(1, Ordering::Relaxed);
        let block = Arc::new(Block {
            id,
            info: target,
            state: RwLock::default(),
        });
        let number = self.index.write().add_block(Arc::clone(&block));
        self.targets.write().insert(id, Arc::clone(&block));
        TargetWriter::new(Arc::clone(self), block, number)
    }

    /// Calls `visit` with each series that meets all `matchers`, in no particular order.
    /// Series that have ended are among them until their last sample leaves the retention.
    pub fn select(&self, matchers: &[Matcher], mut visit: impl FnMut(&Labels, Samples<'_>)) {
        let index = self.index.read();
        Index::visit_by_block(index.find(matchers), |_, state, found| {
            for series in found {
                visit(&series.labels(), state.samples(series));
            }
        });
    }

    /// As [`Store::select`] in the targets that `of` accepts, for a `visit` that may take its time: it sees what `copy` took of
    /// the samples, one target's after the other's, and meanwhile neither scrapes nor other readers wait. Series that come or go
    /// in between may be missed.
    pub fn select_copies(
        &self,
        of: impl Fn(&TargetInfo) -> bool,
        matchers: &[Matcher],
        copy: impl Fn(Samples<'_>, &mut Vec<Sample>),
        mut visit: impl FnMut(&Labels, &[Sample]),
    ) {
        let mut by_target: Vec<Vec<(SeriesId, Labels)>> = Vec::new();
        let index = self.index.read();
        Index::visit_by_block(index.find(matchers), |block, _, found| {
            let place = |series: &Found<'_>| (series.id, series.labels());
            if of(&block.info) {
                by_target.push(found.iter().map(place).collect());
            }
        });
        drop(index);
        let mut samples: Vec<Sample> = Vec::new();
        let mut copies: Vec<(Labels, usize)> = Vec::new();
        for series in by_target {
            samples.clear();
            copies.clear();
            let index = self.index.read();
            // Whoever has the place now need not be who had it.
            let still = |(id, labels): &(SeriesId, Labels)| {
                index.get(*id).filter(|series| series.has(labels))
            };
            let still = series.iter().filter_map(still).collect();
            Index::visit_by_block(still, |_, state, found| {
                for series in found {
                    copy(state.samples(series), &mut samples);
                    copies.push((series.labels(), samples.len()));
                }
            });
            drop(index);
            let mut start = 0;
            for (labels, end) in &copies {
                visit(labels, &samples[start..*end]);
                start = *end;
            }
        }
    }

    /// The targets behind the series that meet all `matchers`, each with the newest of those series' samples.
    pub fn origins(&self, matchers: &[Matcher]) -> Vec<TargetStatus> {
        let mut origins = Vec::new();
        let index = self.index.read();
        Index::visit_by_block(index.find(matchers), |block, state, found| {
            let newest = found
                .iter()
                .filter_map(|series| state.samples(series).newest())
                .max();
            origins.push(TargetStatus {
                id: block.id,
                info: block.info.clone(),
                health: state.health.clone(),
                newest,
            });
        });
        origins.sort_by(|a, b| a.info.url.cmp(&b.info.url));
        origins
    }

    /// All targets, in the order of their registration.
    pub fn targets(&self) -> Vec<TargetStatus> {
        let targets = self.targets.read();
        let status = |block: &Arc<Block>| TargetStatus {
            id: block.id,
            info: block.info.clone(),
            health: block.state.read().health.clone(),
            newest: None,
        };
        targets.values().map(status).collect()
    }

    /// All targets in the order of their registration, each with those of its series that meet all `matchers` and their
    /// newest values.
    pub fn targets_with(&self, matchers: &[Matcher]) -> Vec<(TargetStatus, Vec<(Labels, Sample)>)> {
        // Held throughout: no target can go meanwhile, so that an address names one target only.
        let index = self.index.read();
        let mut series: HashMap<*const Block, Vec<(Labels, Sample)>> = HashMap::new();
        Index::visit_by_block(index.find(matchers), |block, state, found| {
            let newest = |series: &Found<'_>| {
                let last = state.samples(series).latest(Timestamp::MAX)?;
                Some((series.labels(), last))
            };
            series.insert(block, found.iter().filter_map(newest).collect());
        });
        let targets = self.targets.read();
        let with_series = |block: &Arc<Block>| {
            let series = series.remove(&Arc::as_ptr(block)).unwrap_or_default();
            let status = TargetStatus {
                id: block.id,
                info: block.info.clone(),
                health: block.state.read().health.clone(),
                newest: series.iter().map(|(_, sample)| sample.timestamp).max(),
            };
            (status, series)
        };
        targets.values().map(with_series).collect()
    }

    /// A number that changes whenever a series appears or goes.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// How many series there are, those that have ended but are still kept included.
    pub fn series_count(&self) -> usize {
        self.index.read().len()
    }

    fn changed(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Promises room for one more series.
    fn reserve(&self) -> Result<(), LimitError> {
        let limit = self.limits.load().series.min(writer::MOST_SERIES);
        self.reserved
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < limit).then_some(count + 1)
            })
            .map(drop)
            .map_err(|_| LimitError::Series(limit))
    }

    fn release(&self, count: usize) {
        self.reserved.fetch_sub(count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
