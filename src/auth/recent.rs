//! Verdicts kept for a short while, so that a busy client is not judged on each request.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use moka::Entry;
use moka::future::Cache;

use crate::model::lookups::{CacheState, Lookups};
use crate::model::time::Timestamp;

/// How long a verdict stands: what a Go aggregated API server uses for TokenReview and SubjectAccessReview.
pub(super) const LIFETIME: Duration = Duration::from_secs(10);

/// Verdicts by what they were given for. Concurrent askers of the same key ask once; errors are not kept.
pub(super) struct Recent<K, V> {
    entries: Cache<K, (Timestamp, V)>,
    lookups: Lookups,
}

impl<K, V> Recent<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Keeps at most about `bound` verdicts, dropping those least used.
    pub(super) fn new(bound: u64) -> Self {
        // The cache's own clock bounds an entry's life even when the wall clock is set back.
        let entries = Cache::builder()
            .max_capacity(bound)
            .time_to_live(LIFETIME)
            .build();
        Self {
            entries,
            lookups: Lookups::default(),
        }
    }

    /// The verdict for `key` if one is younger than [`LIFETIME`] at `now`, else the one that `ask` gives.
    pub(super) async fn get<E>(
        &self,
        key: K,
        now: Timestamp,
        ask: impl Future<Output = Result<V, E>> + Send,
    ) -> Result<V, Arc<E>>
    where
        E: Send + Sync + 'static,
    {
        if let Some((at, _)) = self.entries.get(&key).await
            && now.since(at) >= LIFETIME
        {
            self.entries.invalidate(&key).await;
        }
        let entry = self.entries.entry(key);
        let entry = entry
            .or_try_insert_with(async { Ok::<_, E>((now, ask.await?)) })
            .await;
        let fresh = entry.as_ref().map_or(true, Entry::is_fresh);
        self.lookups.count(!fresh);
        let (_, verdict) = entry?.into_value();
        Ok(verdict)
    }

    /// How it is used, under this name.
    pub(super) fn state(&self, name: &'static str) -> CacheState {
        self.lookups.of(name, self.entries.entry_count())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[tokio::test]
    async fn a_verdict_stands_for_ten_seconds() {
        let recent = Recent::new(8);
        let at = |millis, verdict: &'static str| {
            recent.get("key", Timestamp::from_millis(millis), async move {
                Ok::<_, Infallible>(verdict)
            })
        };
        assert_eq!(at(0, "first").await, Ok("first"));
        assert_eq!(at(9_999, "second").await, Ok("first"));
        assert_eq!(at(10_000, "third").await, Ok("third"));
    }

    #[tokio::test]
    async fn an_error_is_not_kept() {
        let recent = Recent::new(8);
        let now = Timestamp::from_millis(0);
        let failed = recent
            .get("key", now, async { Err::<u8, _>("unreachable") })
            .await;
        assert_eq!(failed, Err(Arc::new("unreachable")));
        let asked_again = recent.get("key", now, async { Ok::<_, &str>(1) }).await;
        assert_eq!(asked_again, Ok(1));
    }
}
