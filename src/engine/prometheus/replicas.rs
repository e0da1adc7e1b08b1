//! A question put to a backend: which of its servers, how often, and until when.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::Url;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::prometheus::Backend;
use crate::transport::SendFault;

use super::body;
use super::error::{BackendError, Fault, ReplicaFault};
use super::replica::{Access, Replica};

/// The most attempts at one question.
const ATTEMPTS: usize = 3;

/// How long the second attempt at the same server waits, at least and at most; the third twice as long.
const BACKOFF: (u64, u64) = (50, 150);

/// How many lookups of series there are at a time: they are heavy, and queries must not wait for them.
const LOOKUPS: usize = 2;

/// One request's content.
pub(super) struct Question<'a> {
    /// The path below the base URL.
    pub(super) path: &'static str,
    pub(super) parameters: Vec<(&'static str, &'a str)>,
    /// How long it may take, all attempts together.
    pub(super) budget: Duration,
    /// The longest answer.
    pub(super) limit: u64,
}

/// All servers of a backend.
pub(super) struct Replicas {
    name: Arc<str>,
    access: Access,
    all: Vec<Replica>,
    /// Which is asked first: the last that answered, since two of them scrape at different times.
    preferred: AtomicUsize,
    queries: Semaphore,
    lookups: Semaphore,
    /// Requests sent, whatever became of them.
    pub(super) sent: AtomicU64,
}

impl Replicas {
    pub(super) fn new(backend: &Backend) -> Self {
        let urls = backend.url.iter();
        // What is none was found when the configuration was validated.
        let urls = urls.filter_map(|url| Url::parse(url).ok());
        Self {
            name: backend.name.as_str().into(),
            access: Access::new(backend),
            all: urls
                .map(|url| Replica::new(url, backend.max_concurrency))
                .collect(),
            preferred: AtomicUsize::new(0),
            queries: Semaphore::new(backend.max_concurrency),
            lookups: Semaphore::new(LOOKUPS),
            sent: AtomicU64::new(0),
        }
    }

    pub(super) fn all(&self) -> &[Replica] {
        &self.all
    }

    pub(super) fn error(&self, fault: &Fault) -> BackendError {
        let fault = |replica: &Replica| ReplicaFault {
            url: Arc::clone(replica.shown()),
            fault: fault.clone(),
            since: None,
        };
        BackendError {
            backend: Arc::clone(&self.name),
            replicas: self.all.iter().map(fault).collect(),
        }
    }

    pub(super) async fn query<T: DeserializeOwned + Send + 'static>(
        &self,
        question: &Question<'_>,
    ) -> Result<T, BackendError> {
        self.ask(question, &self.queries).await
    }

    pub(super) async fn look_up<T: DeserializeOwned + Send + 'static>(
        &self,
        question: &Question<'_>,
    ) -> Result<T, BackendError> {
        self.ask(question, &self.lookups).await
    }

    async fn ask<T: DeserializeOwned + Send + 'static>(
        &self,
        question: &Question<'_>,
        turns: &Semaphore,
    ) -> Result<T, BackendError> {
        let deadline = Instant::now() + question.budget;
        let Ok(Ok(_turn)) = timeout_at(deadline, turns.acquire()).await else {
            return Err(self.error(&Fault::Busy));
        };
        let first = self.preferred.load(Ordering::Relaxed);
        let mut tried = vec![false; self.all.len()];
        let mut last = None;
        for attempt in 0..ATTEMPTS {
            let Some(index) = self.choose(first + attempt, &tried) else {
                break;
            };
            let replica = &self.all[index];
            if tried[index] && !wait(attempt, deadline).await {
                break;
            }
            tried[index] = true;
            let left = deadline.saturating_duration_since(Instant::now());
            // One that hangs must leave time to ask another.
            let others = tried.iter().any(|tried| !tried);
            let within = if others { left / 2 } else { left };
            match self.attempt(replica, question, within).await {
                Ok(data) => {
                    replica.answered(&self.name);
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(data);
                }
                Err(fault) if fault.is_of_query() => {
                    replica.answered(&self.name);
                    return Err(BackendError {
                        backend: Arc::clone(&self.name),
                        replicas: vec![ReplicaFault {
                            url: Arc::clone(replica.shown()),
                            fault,
                            since: None,
                        }],
                    });
                }
                Err(fault) => {
                    replica.failed(&self.name, &fault, Instant::now());
                    last = Some(fault);
                }
            }
        }
        let complaints = self.all.iter().filter_map(Replica::complaint);
        let error = BackendError {
            backend: Arc::clone(&self.name),
            replicas: complaints.collect(),
        };
        // Another request may just have found that they all answer again.
        let error_of_last = || self.error(&last.unwrap_or(Fault::Busy));
        Err(if error.replicas.is_empty() {
            error_of_last()
        } else {
            error
        })
    }

    /// The server to ask next, from the one at `start` on: one that was not asked yet, else any that may be asked.
    fn choose(&self, start: usize, tried: &[bool]) -> Option<usize> {
        let now = Instant::now();
        let count = self.all.len();
        let order = || (start..start + count).map(|index| index % count);
        let admitted = |index: &usize| self.all[*index].admits(now);
        order()
            .filter(|index| !tried[*index])
            .find(admitted)
            .or_else(|| order().filter(|index| tried[*index]).find(admitted))
    }

    async fn attempt<T: DeserializeOwned + Send + 'static>(
        &self,
        replica: &Replica,
        question: &Question<'_>,
        within: Duration,
    ) -> Result<T, Fault> {
        let deadline = Instant::now() + within;
        let asked = async {
            self.sent.fetch_add(1, Ordering::Relaxed);
            let Question {
                path, parameters, ..
            } = question;
            let response = replica.send(&self.access, path, parameters, within).await?;
            body::read(response, question.limit).await
        };
        // Files, tokens and names count too.
        timeout_at(deadline, asked)
            .await
            .unwrap_or(Err(SendFault::Timeout.into()))
    }
}

/// Waits before another attempt at the same server; not where that would be after the deadline.
async fn wait(attempt: usize, deadline: Instant) -> bool {
    let (least, most) = BACKOFF;
    let random = RandomState::new().hash_one(attempt) % (most - least + 1);
    let doubled = (least + random) << attempt.saturating_sub(1);
    let until = Instant::now() + Duration::from_millis(doubled);
    if until >= deadline {
        return false;
    }
    sleep(until - Instant::now()).await;
    true
}
