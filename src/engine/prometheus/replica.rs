//! One server of a backend: how it is asked, and how it is doing.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Response, Url};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::config::prometheus::{Backend, Method};
use crate::config::scrape::http::HttpConfig;
use crate::model::time::Timestamp;
use crate::transport::{Clients, SendFault, Server, authorization};

use super::error::{Fault, ReplicaFault};
use super::token::Tokens;

/// After how many failures in a row a replica is left alone.
const PATIENCE: u32 = 3;

/// For how long at first, and at most: less than the time between two questions of an HPA.
const LEFT_ALONE: Duration = Duration::from_secs(1);
const LEFT_ALONE_AT_MOST: Duration = Duration::from_secs(5);

/// What the replicas of a backend have in common.
pub(super) struct Access {
    clients: Clients,
    http: Arc<HttpConfig>,
    headers: HeaderMap,
    tokens: Option<Tokens>,
    method: Method,
}

impl Access {
    pub(super) fn new(backend: &Backend) -> Self {
        let mut headers = HeaderMap::new();
        for (name, value) in &backend.headers {
            let name = HeaderName::try_from(name.as_str());
            let value = HeaderValue::try_from(value.expose());
            // Those that are none were found when the configuration was validated.
            if let (Ok(name), Ok(mut value)) = (name, value) {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        }
        Self {
            clients: Clients::default(),
            http: Arc::new(backend.http()),
            headers,
            tokens: backend.oauth2.clone().map(Tokens::new),
            method: backend.http_method,
        }
    }

    /// The header `Authorization`, with what proves it as it is now.
    async fn authorization(&self) -> Result<Option<HeaderValue>, Fault> {
        match &self.tokens {
            Some(tokens) => tokens.header().await.map(Some),
            None => Ok(authorization(&self.http).await?),
        }
    }
}

/// One server.
pub(super) struct Replica {
    server: Server,
    health: Mutex<Health>,
}

/// How a replica is doing.
#[derive(Debug, Default)]
struct Health {
    /// How often it has failed since it last answered.
    failures: u32,
    down: Option<(Timestamp, Fault)>,
    left_alone_until: Option<Instant>,
}

impl Replica {
    /// A server of which `idle` connections are kept at most.
    pub(super) fn new(url: Url, idle: usize) -> Self {
        Self {
            server: Server::new(url, idle),
            health: Mutex::default(),
        }
    }

    /// The URL without what is secret in it.
    pub(super) fn shown(&self) -> &Arc<str> {
        &self.server.shown
    }

    /// Whether it may be asked. After a while one request is let through to see whether it is back.
    pub(super) fn admits(&self, now: Instant) -> bool {
        let mut health = self.health.lock();
        let pause = pause(health.failures);
        match &mut health.left_alone_until {
            None => true,
            Some(until) if *until > now => false,
            Some(until) => {
                *until = now + pause;
                true
            }
        }
    }

    /// Since when it is down, and why, if it is.
    pub(super) fn down(&self) -> Option<(Timestamp, Fault)> {
        self.health.lock().down.clone()
    }

    /// What is wrong with it, as of its last failure.
    pub(super) fn complaint(&self) -> Option<ReplicaFault> {
        self.down().map(|(since, fault)| ReplicaFault {
            url: Arc::clone(&self.server.shown),
            fault,
            since: Some(since),
        })
    }

    pub(super) fn answered(&self, backend: &str) {
        let before = std::mem::take(&mut *self.health.lock());
        if before.down.is_some() {
            info!(backend, url = %self.server.shown, "backend answers again");
        }
    }

    pub(super) fn failed(&self, backend: &str, fault: &Fault, now: Instant) {
        let mut health = self.health.lock();
        health.failures = health.failures.saturating_add(1);
        if health.failures >= PATIENCE {
            health.left_alone_until = Some(now + pause(health.failures));
        }
        let since = match &health.down {
            Some((since, _)) => *since,
            None => {
                warn!(backend, url = %self.server.shown, %fault, "backend gives no answer");
                Timestamp::now()
            }
        };
        health.down = Some((since, fault.clone()));
    }

    /// Sends a request; its answer, body included, has until `within`.
    pub(super) async fn send(
        &self,
        access: &Access,
        path: &str,
        parameters: &[(&str, &str)],
        within: Duration,
    ) -> Result<Response, Fault> {
        let method = match access.method {
            Method::Post => reqwest::Method::POST,
            Method::Get => reqwest::Method::GET,
        };
        let (clients, http) = (&access.clients, &access.http);
        let request = self.server.request(clients, http, method, path.split('/'));
        let mut request = match access.method {
            Method::Post => request.await?.form(parameters),
            Method::Get => request.await?.query(parameters),
        };
        if let Some(value) = access.authorization().await? {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.headers(access.headers.clone()).timeout(within);
        let response = request.send().await.map_err(SendFault::from)?;
        if response.status() == 401
            && let Some(tokens) = &access.tokens
        {
            tokens.forget();
        }
        Ok(response)
    }
}

fn pause(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(PATIENCE).min(8);
    (LEFT_ALONE * 2_u32.pow(doublings)).min(LEFT_ALONE_AT_MOST)
}
