//! Counts of what scraping does, for the program's own metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::exposition::DropReason;

use super::ScrapeError;
use super::ingest::Ingested;
use super::pace::Turn;

/// Counts of all scrapes. Written once per scrape, read whenever somebody asks.
#[derive(Debug, Default)]
pub struct Statistics(Mutex<Counts>);

/// What was counted since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Targets now.
    pub targets: usize,
    /// Scrapes begun, by what they were for: `schedule`, or `demand` of a request whose data was too old.
    pub begun: BTreeMap<&'static str, u64>,
    /// Requests that waited for scrapes, by whether all of them ended in time: `in_time`, `too_late`.
    pub waits: BTreeMap<&'static str, u64>,
    /// Scrapes that gave samples.
    pub succeeded: u64,
    /// Scrapes that gave none, by the kind of failure ([`ScrapeError::kind`]).
    pub failed: BTreeMap<&'static str, u64>,
    /// Scrapes that did not happen because the one before took too long.
    pub missed: u64,
    /// Time that scrapes took, together.
    pub duration: Duration,
    /// Bytes of pages, decompressed.
    pub bytes: u64,
    /// Samples kept.
    pub samples: u64,
    /// Samples read but not kept: `relabelled`, `not_needed`, `label_limit`, `future`, `duplicate`, `store_limit`.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Lines of metrics that no rule needs, passed over unread.
    pub skipped: u64,
    /// Lines that are no samples, by the parser's reason.
    pub lines: BTreeMap<&'static str, u64>,
}

impl Statistics {
    /// What was counted so far.
    pub fn snapshot(&self) -> Counts {
        self.0.lock().clone()
    }

    pub(super) fn targets(&self, targets: usize) {
        self.0.lock().targets = targets;
    }

    pub(super) fn begun(&self, turn: &Turn) {
        let mut counts = self.0.lock();
        *counts.begun.entry(turn.cause.name()).or_default() += 1;
        counts.missed += turn.missed;
    }

    pub(super) fn waited(&self, in_time: bool) {
        let outcome = if in_time { "in_time" } else { "too_late" };
        *self.0.lock().waits.entry(outcome).or_default() += 1;
    }

    pub(super) fn scraped(
        &self,
        took: Duration,
        bytes: usize,
        page: &Ingested,
        result: &Result<(), ScrapeError>,
    ) {
        let mut counts = self.0.lock();
        counts.duration += took;
        counts.bytes += u64::try_from(bytes).unwrap_or(0);
        match result {
            Ok(()) => {
                counts.succeeded += 1;
                counts.samples += u64::try_from(page.kept).unwrap_or(0);
                counts.skipped += page.report.skipped;
            }
            Err(error) => *counts.failed.entry(error.kind()).or_default() += 1,
        }
        for (reason, count) in &page.dropped {
            *counts.dropped.entry(reason).or_default() += count;
        }
        let lines = page.report.dropped.iter();
        for (reason, count) in lines.map(|(reason, count)| (DropReason::as_str(reason), count)) {
            *counts.lines.entry(reason).or_default() += count;
        }
    }
}
