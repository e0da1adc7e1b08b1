//! Which series a backend has, looked up in the background: whoever asks waits a moment at most, and then takes what was
//! known before.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::engine::SeriesShape;
use crate::model::time::Timestamp;

use super::answer::Shapes;
use super::error::{BackendError, Fault};
use super::replicas::{Question, Replicas};

/// How long a lookup is waited for; it goes on without that.
const PATIENCE: Duration = Duration::from_secs(1);

/// The least time between two lookups of the same series, for whatever reason.
const LEAST_INTERVAL: Duration = Duration::from_secs(5);

/// The most of the time that a backend spends on one rule's lookups: one part of so many.
const SHARE: u32 = 10;

/// The largest answer; only its kinds of series are kept.
const MOST_BYTES: u64 = 2 << 30;

/// After how long without a question a selector is forgotten: its rule is gone.
const FORGOTTEN: Duration = Duration::from_secs(600);

type Found = Result<Arc<[SeriesShape]>, BackendError>;

/// The lookups of a backend, by selector.
pub(super) struct Lookups {
    interval: Duration,
    max_age: Duration,
    timeout: Duration,
    by_selector: Mutex<HashMap<String, Lookup>>,
}

/// What is known of one selector.
struct Lookup {
    asked: Instant,
    done: Option<Done>,
    running: Option<Running>,
}

#[derive(Clone)]
struct Done {
    found: Found,
    ended: Instant,
    took: Duration,
}

struct Running {
    begun: Instant,
    done: watch::Receiver<Option<Done>>,
    _task: AbortOnDropHandle<()>,
}

impl Lookup {
    /// Takes up what a lookup that has ended found.
    fn collect(&mut self) {
        let Some(running) = &self.running else { return };
        let done = running.done.borrow().clone();
        // Without a sender there will be nothing more.
        if done.is_some() || running.done.has_changed().is_err() {
            self.done = done.or(self.done.take());
            self.running = None;
        }
    }

    /// Whether what is known will do for one who wants it no older than `within`.
    fn is_fresh(&self, within: Duration, now: Instant) -> bool {
        self.done.as_ref().is_some_and(|done| {
            let within = match done.found {
                Ok(_) => within.max(LEAST_INTERVAL).max(done.took * SHARE),
                Err(_) => LEAST_INTERVAL,
            };
            now.saturating_duration_since(done.ended) < within
        })
    }
}

impl Lookups {
    pub(super) fn new(interval: Duration, max_age: Duration, timeout: Duration) -> Self {
        Self {
            interval,
            max_age,
            timeout,
            by_selector: Mutex::default(),
        }
    }

    /// The kinds of series that match. `anew`: somebody waits for a metric that is not known yet.
    pub(super) async fn find(&self, replicas: &Arc<Replicas>, selector: &str, anew: bool) -> Found {
        let now = Instant::now();
        let within = if anew { Duration::ZERO } else { self.interval };
        let (begun, mut done) = {
            let mut all = self.by_selector.lock();
            all.retain(|_, lookup| now.saturating_duration_since(lookup.asked) < FORGOTTEN);
            let lookup = all.entry(selector.to_owned()).or_insert(Lookup {
                asked: now,
                done: None,
                running: None,
            });
            lookup.asked = now;
            lookup.collect();
            if lookup.running.is_none()
                && let Some(done) = &lookup.done
                && lookup.is_fresh(within, now)
            {
                return done.found.clone();
            }
            let running = lookup
                .running
                .get_or_insert_with(|| self.begin(replicas, selector, now));
            (running.begun, running.done.clone())
        };
        // Either way it is taken from where the next one finds it.
        let _ = timeout_at(begun + PATIENCE, done.wait_for(Option::is_some)).await;
        let mut all = self.by_selector.lock();
        let lookup = all.get_mut(selector);
        let known = lookup.and_then(|lookup| {
            lookup.collect();
            lookup.done.clone()
        });
        known.map_or_else(|| Err(replicas.error(&Fault::Pending)), |done| done.found)
    }

    fn begin(&self, replicas: &Arc<Replicas>, selector: &str, begun: Instant) -> Running {
        let (sender, done) = watch::channel(None);
        let (replicas, selector) = (Arc::clone(replicas), selector.to_owned());
        let start = seconds(Timestamp::now().minus(self.max_age));
        let budget = self.timeout;
        let task = tokio::spawn(async move {
            let question = Question {
                path: "api/v1/series",
                parameters: vec![("match[]", &selector), ("start", &start)],
                budget,
                limit: MOST_BYTES,
            };
            let found = replicas.look_up::<Shapes>(&question).await;
            let ended = Instant::now();
            sender.send_replace(Some(Done {
                found: found.map(|Shapes(shapes)| shapes.into()),
                ended,
                took: ended - begun,
            }));
        });
        Running {
            begun,
            done,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Whether one of the kinds of series that are known is as `is_it` says.
    pub(super) fn any(&self, is_it: impl Fn(&SeriesShape) -> bool) -> bool {
        let all = self.by_selector.lock();
        let mut found = all.values().filter_map(|lookup| lookup.done.as_ref());
        found.any(|done| done.found.iter().any(|shapes| shapes.iter().any(&is_it)))
    }
}

/// A time as Prometheus takes it.
pub(super) fn seconds(at: Timestamp) -> String {
    let millis = at.as_millis();
    format!(
        "{}.{:03}",
        millis.div_euclid(1_000),
        millis.rem_euclid(1_000)
    )
}
