//! One watch that goes on for ever: list, watch, back off, resume or list again.
//!
//! It adds to kube-runtime's watcher what a server needs at its side: a bound on a list that hangs, a fresh start where
//! resuming cannot work, a health that also recovers when the cluster is quiet, and one log line per change of it.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use kube::runtime::watcher::{self, DefaultBackoff, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{info, warn};

use super::request::describe;
use crate::model::time::Timestamp;

/// After how long the API server ends a watch, in seconds. kube-runtime takes a watch for dead 5 s later; its default
/// of 290 s would leave a watch over a silently broken connection blind for five minutes.
const WATCH_SECONDS: u32 = 120;

/// How long one page of a list may take.
const LIST_PATIENCE: Duration = Duration::from_secs(60);

/// After how long without an error a watch that had failed is taken for healthy: more than a connection may take.
const QUIET: Duration = Duration::from_secs(15);

/// How a watch is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// The first list has not come yet, and nothing has failed.
    Starting,
    /// What is known is current.
    Live,
    /// The watch fails and is tried again and again; what is known stays, and is getting old.
    Failing {
        /// When the first failure was.
        since: Timestamp,
        /// Whether the API server says that we may not (a missing Role), as opposed to being out of reach.
        forbidden: bool,
        /// The first failure, in words.
        error: String,
    },
}

/// The watch options of this room: all objects.
pub(super) fn everything() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

/// The watch options for the one object `name`, in the form that RBAC's `resourceNames` can allow.
pub(super) fn named(name: &str) -> watcher::Config {
    everything().fields(&format!("metadata.name={name}"))
}

/// A watch of `K`, with its health.
pub struct Follow<K> {
    what: String,
    open: Box<dyn Fn() -> Events<K> + Send + Sync>,
    events: Events<K>,
    backoff: DefaultBackoff,
    listing: bool,
    resume_at: Option<Instant>,
    judge_at: Option<Instant>,
    health: watch::Sender<Health>,
}

type Events<K> = BoxStream<'static, watcher::Result<Event<K>>>;

impl<K> Follow<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    /// A watch over `api`; `what` names it in the log.
    pub(super) fn new(what: impl Into<String>, api: Api<K>, config: watcher::Config) -> Self {
        Self::over(what, move || watcher(api.clone(), config.clone()).boxed())
    }

    fn over(what: impl Into<String>, open: impl Fn() -> Events<K> + Send + Sync + 'static) -> Self {
        Self {
            what: what.into(),
            events: open(),
            open: Box::new(open),
            backoff: DefaultBackoff::default(),
            listing: false,
            resume_at: None,
            judge_at: None,
            health: watch::Sender::new(Health::Starting),
        }
    }

    /// The health, now and later.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// The next event, whatever it takes. Dropping the future loses nothing.
    ///
    /// A list that fails begins anew with [`Event::Init`]; until [`Event::InitDone`] the earlier state counts.
    pub async fn next(&mut self) -> Event<K> {
        loop {
            if let Some(at) = self.resume_at {
                sleep_until(at).await;
                self.resume_at = None;
                self.judge_at = Some(Instant::now() + QUIET);
            }
            let item = match self.judge_at {
                Some(at) => timeout_at(at, self.events.next()).await,
                None => Ok(self.events.next().await),
            };
            match item {
                Ok(Some(Ok(event))) => {
                    self.listing = matches!(event, Event::Init | Event::InitApply(_));
                    self.judge_at = self.listing.then(|| Instant::now() + LIST_PATIENCE);
                    if !self.listing {
                        self.succeeded();
                    }
                    return event;
                }
                Ok(Some(Err(error))) => {
                    if cannot_resume(&error) {
                        self.events = (self.open)();
                    }
                    self.failed(is_forbidden(&error), || describe(&error));
                }
                Ok(None) => {
                    self.events = (self.open)();
                    self.failed(false, || "the watch ended".to_owned());
                }
                Err(_) if self.listing => {
                    self.events = (self.open)();
                    self.failed(false, || format!("no list within {LIST_PATIENCE:?}"));
                }
                Err(_) => {
                    self.judge_at = None;
                    self.succeeded();
                }
            }
        }
    }

    fn succeeded(&self) {
        let before = self.health.borrow().clone();
        if before != Health::Live {
            self.health.send_replace(Health::Live);
        }
        if let Health::Failing { since, .. } = before {
            let after = Timestamp::now().since(since);
            info!(watch = self.what, ?after, "watch recovered");
        }
    }

    fn failed(&mut self, forbidden: bool, error: impl FnOnce() -> String) {
        let wait = self.backoff.next().unwrap_or(QUIET);
        self.resume_at = Some(Instant::now() + wait);
        self.judge_at = None;
        let (since, was_forbidden) = match &*self.health.borrow() {
            Health::Failing {
                since, forbidden, ..
            } => (Some(*since), *forbidden),
            Health::Starting | Health::Live => (None, false),
        };
        if since.is_some() && was_forbidden == forbidden {
            return;
        }
        let error = error();
        warn!(watch = self.what, %error, "watch failed; what is known stays");
        self.health.send_replace(Health::Failing {
            since: since.unwrap_or_else(Timestamp::now),
            forbidden,
            error,
        });
    }
}

/// kube-runtime lists again when the version is too old, but only if it is told so by an event, not by the response.
fn cannot_resume(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

fn is_forbidden(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.is_forbidden(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use k8s_openapi::api::core::v1::Pod;
    use parking_lot::Mutex;

    use super::*;

    type Item = watcher::Result<Event<Pod>>;

    /// Watches that yield these items, one list for each time one is opened, and then nothing for ever.
    fn scripted(scripts: impl IntoIterator<Item = Vec<Item>>) -> Follow<Pod> {
        let scripts = Mutex::new(scripts.into_iter().collect::<Vec<_>>().into_iter());
        Follow::over("pods", move || {
            let items = scripts.lock().next().expect("opened once too often");
            stream::iter(items).chain(stream::pending()).boxed()
        })
    }

    fn refused(code: u16) -> Item {
        let status = kube::core::Status::failure("told so", "reason").with_code(code);
        Err(watcher::Error::WatchStartFailed(kube::Error::Api(
            status.boxed(),
        )))
    }

    async fn told(follow: &mut Follow<Pod>, within: Duration) -> Option<String> {
        let event = tokio::time::timeout(within, follow.next()).await.ok()?;
        Some(format!("{event:?}"))
    }

    fn is_failing(follow: &Follow<Pod>) -> bool {
        matches!(*follow.health().borrow(), Health::Failing { .. })
    }

    const LONG: Duration = Duration::from_secs(300);

    #[tokio::test(start_paused = true)]
    async fn a_quiet_watch_recovers_without_an_event() {
        let mut follow = scripted([vec![Ok(Event::Init), Ok(Event::InitDone), refused(503)]]);
        told(&mut follow, LONG).await.expect("Init");
        told(&mut follow, LONG).await.expect("InitDone");
        assert_eq!(*follow.health().borrow(), Health::Live);
        // Polled in small pieces: an interrupted wait goes on where it was.
        let mut waited = Duration::ZERO;
        let piece = Duration::from_millis(100);
        while waited < QUIET {
            assert_eq!(told(&mut follow, piece).await, None);
            waited += piece;
            assert!(is_failing(&follow), "taken for healthy after {waited:?}");
        }
        assert_eq!(told(&mut follow, 2 * QUIET).await, None);
        assert_eq!(*follow.health().borrow(), Health::Live);
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_hangs_is_begun_anew() {
        let whole = vec![Ok(Event::Init), Ok(Event::InitDone)];
        let mut follow = scripted([vec![Ok(Event::Init)], whole]);
        told(&mut follow, LONG).await.expect("Init");
        let early = LIST_PATIENCE - Duration::from_secs(1);
        assert_eq!(told(&mut follow, early).await, None);
        assert!(!is_failing(&follow));
        assert_eq!(told(&mut follow, LONG).await.as_deref(), Some("Init"));
        assert!(is_failing(&follow), "a beginning is no success");
        assert_eq!(told(&mut follow, LONG).await.as_deref(), Some("InitDone"));
        assert_eq!(*follow.health().borrow(), Health::Live);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_version_that_is_gone_opens_another_watch() {
        let mut follow = scripted([
            vec![refused(503), refused(410)],
            vec![Ok(Event::Init), Ok(Event::InitDone)],
        ]);
        assert_eq!(told(&mut follow, LONG).await.as_deref(), Some("Init"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_failure_and_its_time_are_kept() {
        let mut follow = scripted([vec![refused(503), refused(500), refused(500)]]);
        assert_eq!(told(&mut follow, Duration::from_secs(20)).await, None);
        let Health::Failing { error, .. } = follow.health().borrow().clone() else {
            panic!("not failing");
        };
        assert!(error.starts_with("503"), "{error}");
    }
}
