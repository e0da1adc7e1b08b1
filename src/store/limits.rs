//! What bounds the store's memory.

use std::time::Duration;

/// Bounds on what the store keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long samples are kept.
    pub retention: Duration,
    /// Most series of all targets together. More than half a billion there cannot be.
    pub series: usize,
    /// Most series of one target.
    pub series_per_target: usize,
    /// Of most how many of a target's scrapes samples are kept, whatever the retention.
    pub samples_per_series: usize,
}

impl Default for Limits {
    /// 10 minutes, 2,000,000 series, 50,000 per target, 240 samples per series.
    fn default() -> Self {
        Self {
            retention: Duration::from_secs(600),
            series: 2_000_000,
            series_per_target: 50_000,
            samples_per_series: 240,
        }
    }
}

/// A bound that a scrape met. The sample is not kept; the scrape goes on with the series it already has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// The target has as many series as one may have.
    #[error("the target has more than {0} series")]
    TargetSeries(usize),
    /// All targets together have as many series as there may be.
    #[error("all targets together have more than {0} series")]
    Series(usize),
}
