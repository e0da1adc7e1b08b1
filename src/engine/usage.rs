//! What an engine was asked, and what its caches spared.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::lookups::CacheState;

/// How an engine is used, since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Queries that were answered, with values or with none.
    pub answered: u64,
    /// Queries that could not be answered.
    pub failed: u64,
    /// Its caches.
    pub caches: Vec<CacheState>,
}

/// Counts queries.
#[derive(Debug, Default)]
pub(super) struct Queries {
    answered: AtomicU64,
    failed: AtomicU64,
}

impl Queries {
    /// Counts what became of one, and gives it on.
    pub(super) fn count<T, E>(&self, answer: Result<T, E>) -> Result<T, E> {
        let counter = match answer {
            Ok(_) => &self.answered,
            Err(_) => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        answer
    }

    pub(super) fn with_caches(&self, caches: Vec<CacheState>) -> Usage {
        Usage {
            answered: self.answered.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            caches,
        }
    }
}
