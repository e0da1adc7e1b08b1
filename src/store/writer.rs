//! The write half: what a scrape task holds.

use std::time::Duration;

use crate::model::labels::Labels;
use crate::model::time::Timestamp;

use super::LimitError;

/// What is known of a target when it is registered; it is what a user reads when its data is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetInfo {
    /// The scrape job's name, such as `dcgm-exporter`.
    pub job: String,
    /// Where it is scraped, such as `http://10.0.0.7:9400/metrics`. Contains no credentials.
    pub url: String,
    /// The Kubernetes object behind it where there is one, such as `pod monitoring/dcgm-exporter-x2x4f`.
    pub object: Option<String>,
    /// How often it is scraped.
    pub interval: Duration,
}

/// Writes the series of one target. Dropping it ends all of them.
#[derive(Debug)]
pub struct TargetWriter;

impl TargetWriter {
    /// Begins a scrape that started at `at`. Nothing is visible to readers before [`Scrape::commit`].
    pub fn begin(&mut self, at: Timestamp) -> Scrape<'_> {
        let _ = at;
        todo!()
    }

    /// Notes that the scrape begun at `at` failed, and why; the text is for users and has no credentials.
    /// The target's series keep their last samples: the age limit of whoever reads them decides how long they count.
    pub fn failed(&mut self, at: Timestamp, reason: &str) {
        let _ = (at, reason);
        todo!()
    }
}

/// One scrape being written.
#[derive(Debug)]
pub struct Scrape<'a>(std::marker::PhantomData<&'a ()>);

impl Scrape<'_> {
    /// Adds a sample of the series with these labels (`__name__` included). Without a timestamp of its own it gets the
    /// scrape's. Of two samples of one series in one scrape the first counts (`Ok(false)` for the second).
    ///
    /// # Errors
    /// Where a new series would pass a limit. Other samples can still be added.
    pub fn add(
        &mut self,
        labels: &Labels,
        value: f64,
        timestamp: Option<Timestamp>,
    ) -> Result<bool, LimitError> {
        let _ = (labels, value, timestamp);
        todo!()
    }

    /// Makes the scrape visible, whole, and ends the target's series that it did not contain.
    /// An empty scrape (no sample at all) is noted as a failure and ends nothing: dcgm-exporter answers 200 with an empty
    /// body while it reloads.
    pub fn commit(self) {
        todo!()
    }
}
