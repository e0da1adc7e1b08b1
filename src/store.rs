//! Series and their recent samples, in memory.
//!
//! Each scrape target has one [`TargetWriter`], and only that writes its series. Requests read through
//! [`Store::select`]; they wait for no scrape, and they see each target's scrape whole or not at all.

mod limits;
mod writer;

pub use limits::{LimitError, Limits};
pub use writer::{Scrape, TargetInfo, TargetWriter};

use std::sync::Arc;

/// All series of all targets.
#[derive(Debug)]
pub struct Store {
    limits: Limits,
}

impl Store {
    /// An empty store with these limits.
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits })
    }

    /// Makes room for a target. What it writes stays until the writer is dropped; then its series end.
    pub fn register(self: &Arc<Self>, target: TargetInfo) -> TargetWriter {
        let _ = (&self.limits, target);
        todo!()
    }
}
