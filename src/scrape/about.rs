//! The series about a target, which it has beside those of its page.

use std::time::Duration;

use crate::model::labels::Labels;
use crate::model::time::Timestamp;
use crate::targets::Target;

/// What Prometheus writes about a target (`scrape/scrape.go`, `report`).
const NAMES: [&str; 3] = ["up", "scrape_duration_seconds", "scrape_samples_scraped"];

/// The labels of the series about a target.
pub(super) struct About([Labels; NAMES.len()]);

impl About {
    pub(super) fn new(target: &Target) -> Self {
        let others = target.labels.others();
        Self(NAMES.map(|name| Labels::of_metric(Some(name.into()), others.clone())))
    }
}

/// A scrape that has brought a page or an error.
pub(super) struct Scraped<'a> {
    /// When it began.
    pub(super) at: Timestamp,
    /// How long it took.
    pub(super) took: Duration,
    pub(super) about: &'a About,
}

impl Scraped<'_> {
    /// The values of the series about the target: whether the scrape was a good one, and how many samples its page had.
    pub(super) fn values(&self, good: bool, samples: u64) -> [(&Labels, f64); NAMES.len()] {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a page has less than 2^53 samples"
        )]
        let samples = samples as f64;
        let About([up, took, scraped]) = self.about;
        [
            (up, f64::from(u8::from(good))),
            (took, self.took.as_secs_f64()),
            (scraped, samples),
        ]
    }
}
