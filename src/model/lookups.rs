//! How a cache is used.

use std::sync::atomic::{AtomicU64, Ordering};

/// How often something was looked for in a cache, and how often it was there.
#[derive(Debug, Default)]
pub struct Lookups {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Lookups {
    /// It was looked for, and was there, or had to be found.
    pub fn count(&self, was_there: bool) {
        let counter = if was_there { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// These counts, of a cache of this name that holds about so many entries.
    pub fn of(&self, name: &'static str, entries: u64) -> CacheState {
        CacheState {
            name,
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            entries,
        }
    }
}

/// A cache as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheState {
    /// What it holds.
    pub name: &'static str,
    /// How often it had what was looked for.
    pub hits: u64,
    /// How often it had not.
    pub misses: u64,
    /// About how many entries it has.
    pub entries: u64,
}

impl CacheState {
    /// What became of lookups, as metrics name it.
    pub fn outcomes(&self) -> [(&'static str, u64); 2] {
        [("hit", self.hits), ("miss", self.misses)]
    }
}
