//! Data that is fresh when it is asked for: the seam between those who answer and those who scrape.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::time::Timestamp;

/// How fresh data is to be, and what that is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// How long ago a target may have been scraped.
    pub within: Duration,
    /// The longest that whoever asks waits for a scrape.
    pub patience: Duration,
}

/// Brings targets up to date for a request that needs them.
pub trait Refresher: Debug + Send + Sync {
    /// Notes that somebody asks about these targets (by the number that the store gives them), and has those scraped whose
    /// last scrape is too long ago. `None`: there is nothing to wait for, since all is fresh, or cannot be made so now.
    ///
    /// The future ends when those scrapes have, or patience has. It gives the time of the latest of them that was good, so
    /// that the request can be answered as of then. Dropping it cancels no scrape.
    fn refresh(
        &self,
        targets: &[u64],
        wanted: Freshness,
    ) -> Option<BoxFuture<'static, Option<Timestamp>>>;
}
