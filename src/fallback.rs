//! Another adapter's `external.metrics.k8s.io`: which metrics it has, and its answers, passed on as they are.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Response, Url};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::auth::User;
use crate::config::fallback::ExternalFallback;
use crate::config::scrape::http::HttpConfig;
use crate::transport::{Clients, SendFault, Server, SettingsError, authorization};

/// The path of the API.
const API: [&str; 3] = ["apis", "external.metrics.k8s.io", "v1beta1"];

/// How often it is asked which metrics it has.
const INTERVAL: Duration = Duration::from_secs(30);

/// Most metrics that are listed as its own; an answer needs no list.
const MOST_NAMES: usize = 20_000;

/// Largest answer.
const MOST_BYTES: usize = 4 << 20;

/// Most requests at a time; the others wait for their turn, within their time.
const AT_ONCE: usize = 64;

/// What a request carries that was passed on, so that two adapters that are each other's fallback do not pass it on for ever.
pub const PASSED_ON: HeaderName = HeaderName::from_static("x-gpu-metrics-adapter-fallback");

/// An answer, whatever it says.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// What its body is.
    pub content_type: Option<HeaderValue>,
    /// Its body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FallbackError {
    /// It, or the rest of it, did not come.
    #[error("the external fallback {url} {fault}")]
    Send {
        /// Its URL.
        url: Arc<str>,
        /// Why not.
        fault: SendFault,
    },
    /// Our own files of TLS or credentials cannot be used.
    #[error("the external fallback was not asked: {0}")]
    Settings(#[from] SettingsError),
    /// A longer answer than may be.
    #[error("the external fallback {0} answers with more than {MOST_BYTES} bytes")]
    TooLarge(Arc<str>),
    /// It does not tell its metrics.
    #[error("the external fallback {url} answers {status} when it is asked for its metrics")]
    NoList {
        /// Its URL.
        url: Arc<str>,
        /// The status.
        status: StatusCode,
    },
}

/// Another adapter.
pub struct Fallback {
    server: Server,
    clients: Clients,
    http: Arc<HttpConfig>,
    timeout: Duration,
    impersonates: bool,
    turns: Semaphore,
    names: ArcSwap<Vec<Arc<str>>>,
    state: ArcSwap<Option<FallbackError>>,
}

#[derive(Deserialize)]
struct ResourceList {
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
}

impl Fallback {
    /// The adapter of this section, whose URL has been validated.
    pub fn new(config: &ExternalFallback) -> Option<Self> {
        Some(Self {
            server: Server::new(Url::parse(&config.url).ok()?, AT_ONCE),
            clients: Clients::default(),
            http: Arc::new(config.http()),
            timeout: config.timeout,
            impersonates: config.impersonate,
            turns: Semaphore::new(AT_ONCE),
            names: ArcSwap::default(),
            state: ArcSwap::default(),
        })
    }

    /// The metrics that it has, as it told last, sorted.
    pub fn names(&self) -> Arc<Vec<Arc<str>>> {
        self.names.load_full()
    }

    /// How it stands, in one line.
    pub fn text(&self) -> String {
        match &**self.state.load() {
            Some(error) => error.to_string(),
            None => format!("{} has {} metrics", self.server.shown, self.names().len()),
        }
    }

    /// Asks it which metrics it has, from time to time, until `cancel`. Where it does not tell, what it told before stays.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        loop {
            let Some(asked) = cancel.run_until_cancelled(self.look()).await else {
                return;
            };
            let failed = self.state.load().is_some();
            match &asked {
                Ok(()) if failed => {
                    info!(url = %self.server.shown, "external fallback answers again")
                }
                Err(error) if !failed => {
                    warn!(%error, "external fallback does not tell its metrics")
                }
                Ok(()) | Err(_) => {}
            }
            self.state.store(Arc::new(asked.err()));
            if cancel.run_until_cancelled(sleep(INTERVAL)).await.is_none() {
                return;
            }
        }
    }

    async fn look(&self) -> Result<(), FallbackError> {
        let answer = self.get(&[], &[], "application/json", None).await?;
        let list = serde_json::from_slice::<ResourceList>(&answer.body);
        let list = list.ok().filter(|_| answer.status.is_success());
        let list = list.ok_or_else(|| FallbackError::NoList {
            url: Arc::clone(&self.server.shown),
            status: answer.status,
        })?;
        let names = list.resources.into_iter().take(MOST_NAMES);
        let mut names: Vec<Arc<str>> = names.map(|it| it.name.into()).collect();
        names.sort_unstable();
        if **self.names.load() != names {
            self.names.store(Arc::new(names));
        }
        Ok(())
    }

    /// Asks for a metric, and passes on what comes of it. `accept` and the selector are the caller's.
    ///
    /// # Errors
    /// Where there is no answer at all.
    pub async fn ask(
        &self,
        namespace: &str,
        metric: &str,
        selector: Option<&str>,
        accept: &str,
        caller: Option<&User>,
    ) -> Result<Answer, FallbackError> {
        let selector = selector.map(|text| ("labelSelector", text));
        let query: Vec<_> = selector.into_iter().collect();
        let caller = caller.filter(|_| self.impersonates);
        self.get(&["namespaces", namespace, metric], &query, accept, caller)
            .await
    }

    async fn get(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        accept: &str,
        caller: Option<&User>,
    ) -> Result<Answer, FallbackError> {
        let deadline = Instant::now() + self.timeout;
        let late = || self.fault(SendFault::Timeout);
        let Ok(Ok(_turn)) = timeout_at(deadline, self.turns.acquire()).await else {
            return Err(late());
        };
        let path = API.into_iter().chain(path.iter().copied());
        let request = self
            .server
            .request(&self.clients, &self.http, Method::GET, path);
        let mut request = request.await?.query(query).header(PASSED_ON, "1");
        if let Ok(accept) = HeaderValue::from_str(accept) {
            request = request.header(ACCEPT, accept);
        }
        if let Some(value) = authorization(&self.http).await? {
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(caller) = caller {
            request = request.headers(impersonation(caller));
        }
        let answered = async {
            let response = request.send().await.map_err(|error| self.fault(error))?;
            self.read(response).await
        };
        timeout_at(deadline, answered).await.map_err(|_| late())?
    }

    async fn read(&self, mut response: Response) -> Result<Answer, FallbackError> {
        let status = response.status();
        let content_type = response.headers().get(CONTENT_TYPE).cloned();
        let mut body = BytesMut::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.fault(error))? {
            if body.len() + piece.len() > MOST_BYTES {
                return Err(FallbackError::TooLarge(Arc::clone(&self.server.shown)));
            }
            body.extend_from_slice(&piece);
        }
        Ok(Answer {
            status,
            content_type,
            body: body.freeze(),
        })
    }

    fn fault(&self, fault: impl Into<SendFault>) -> FallbackError {
        FallbackError::Send {
            url: Arc::clone(&self.server.shown),
            fault: fault.into(),
        }
    }
}

/// In the caller's name (`apiserver/pkg/endpoints/filters/impersonation`). What no header can hold is left out, which makes the caller
/// less and not more.
fn impersonation(caller: &User) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut add = |name: &str, value: &str| {
        let name = HeaderName::try_from(name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    };
    add("impersonate-user", &caller.name);
    if let Some(uid) = &caller.uid {
        add("impersonate-uid", uid);
    }
    for group in &caller.groups {
        add("impersonate-group", group);
    }
    for (key, values) in &caller.extra {
        let key = utf8_percent_encode(key, NON_ALPHANUMERIC);
        for value in values {
            add(&format!("impersonate-extra-{key}"), value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_caller_is_named_in_every_header_that_can_hold_it() {
        let caller = User {
            name: "system:serviceaccount:kube-system:horizontal-pod-autoscaler".to_owned(),
            uid: Some("u1".to_owned()),
            groups: ["system:serviceaccounts", "system:authenticated"]
                .map(str::to_owned)
                .into(),
            extra: BTreeMap::from([(
                "scopes/x".to_owned(),
                vec!["a".to_owned(), "b\n".to_owned()],
            )]),
        };
        let headers = impersonation(&caller);
        let mut told: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().expect("text")))
            .collect();
        told.sort_unstable();
        assert_eq!(
            told,
            [
                ("impersonate-extra-scopes%2fx", "a"),
                ("impersonate-group", "system:authenticated"),
                ("impersonate-group", "system:serviceaccounts"),
                ("impersonate-uid", "u1"),
                (
                    "impersonate-user",
                    "system:serviceaccount:kube-system:horizontal-pod-autoscaler"
                ),
            ]
        );
    }
}
