//! One server of a backend: how it is asked, and how it is doing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::config::prometheus::{Backend, Method};
use crate::config::scrape::http::HttpConfig;
use crate::model::time::Timestamp;
use crate::transport::{
    Clients, SettingsError, Tls, authorization, certificate_fault_behind, root_cause,
};

use super::error::{CONNECT, Fault, ReplicaFault};
use super::token::Tokens;

/// After how many failures in a row a replica is left alone.
const PATIENCE: u32 = 3;

/// For how long at first, and at most: less than the time between two questions of an HPA.
const LEFT_ALONE: Duration = Duration::from_secs(1);
const LEFT_ALONE_AT_MOST: Duration = Duration::from_secs(5);

/// How long a connection without requests is kept.
const IDLE: Duration = Duration::from_secs(60);

/// What the replicas of a backend have in common.
pub(super) struct Access {
    clients: Clients,
    http: Arc<HttpConfig>,
    headers: HeaderMap,
    tokens: Option<Tokens>,
    method: Method,
    idle: usize,
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
            idle: backend.max_concurrency,
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
    url: Url,
    /// The URL without what is secret in it.
    pub(super) shown: Arc<str>,
    client: Mutex<Option<(Arc<ClientConfig>, Client)>>,
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
    pub(super) fn new(url: Url) -> Self {
        let mut shown = url.clone();
        // A URL of HTTP can be without them.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        shown.set_query(None);
        Self {
            url,
            shown: shown.as_str().trim_end_matches('/').into(),
            client: Mutex::default(),
            health: Mutex::default(),
        }
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
            url: Arc::clone(&self.shown),
            fault,
            since: Some(since),
        })
    }

    pub(super) fn answered(&self, backend: &str) {
        let before = std::mem::take(&mut *self.health.lock());
        if before.down.is_some() {
            info!(backend, url = %self.shown, "backend answers again");
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
                warn!(backend, url = %self.shown, %fault, "backend gives no answer");
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
        let (client, name) = self.client(access).await?;
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.split('/'));
        }
        let mut request = match access.method {
            Method::Post => client.post(place(&url, &name)?).form(parameters),
            Method::Get => client.get(place(&url, &name)?).query(parameters),
        };
        if name.is_some() {
            let host = self.url.host_str().unwrap_or_default();
            let host = match self.url.port() {
                Some(port) => format!("{host}:{port}"),
                None => host.to_owned(),
            };
            request = request.header(HOST, host);
        }
        if let Some(value) = access.authorization().await? {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.headers(access.headers.clone()).timeout(within);
        let response = request.send().await.map_err(|error| {
            if let Some(fault) = certificate_fault_behind(&error) {
                Fault::Certificate(fault)
            } else if error.is_timeout() {
                Fault::Timeout
            } else if error.is_connect() {
                Fault::Connect(root_cause(&error))
            } else {
                Fault::Broken
            }
        })?;
        if response.status() == 401
            && let Some(tokens) = &access.tokens
        {
            tokens.forget();
        }
        Ok(response)
    }

    /// The client, with TLS as its files are now, and the name that the certificate must have where that is not the host.
    async fn client(&self, access: &Access) -> Result<(Client, Option<String>), Fault> {
        let Tls {
            config,
            server_name,
        } = access.clients.get(&access.http).await?;
        let name = match server_name {
            Some(ServerName::DnsName(name)) if self.url.scheme() == "https" => {
                Some(name.as_ref().to_owned())
            }
            _ => None,
        };
        let mut made = self.client.lock();
        if let Some((of, client)) = &*made
            && Arc::ptr_eq(of, &config)
        {
            return Ok((client.clone(), name));
        }
        let mut builder = Client::builder()
            .tls_backend_preconfigured((*config).clone())
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT)
            .pool_max_idle_per_host(access.idle)
            .pool_idle_timeout(IDLE)
            .user_agent(concat!("gpu-metrics-adapter/", env!("CARGO_PKG_VERSION")));
        if name.is_some() {
            let host = self.url.host_str().unwrap_or_default();
            let host = host.trim_start_matches('[').trim_end_matches(']');
            builder = builder.dns_resolver(AlwaysAt(host.into()));
        }
        let client = builder
            .build()
            .map_err(|error| SettingsError(root_cause(&error)))?;
        *made = Some((config, client.clone()));
        Ok((client, name))
    }
}

/// The URL to ask; with the name that the certificate must have, if it must.
fn place(url: &Url, name: &Option<String>) -> Result<Url, Fault> {
    let mut url = url.clone();
    if let Some(name) = name {
        url.set_host(Some(name))
            .map_err(|_| SettingsError("tls_config.server_name is no name of a host".to_owned()))?;
    }
    Ok(url)
}

fn pause(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(PATIENCE).min(8);
    (LEFT_ALONE * 2_u32.pow(doublings)).min(LEFT_ALONE_AT_MOST)
}

/// Looks up one host, whatever name is asked for: that is the one of the certificate.
struct AlwaysAt(Arc<str>);

impl Resolve for AlwaysAt {
    fn resolve(&self, _: Name) -> Resolving {
        let host = Arc::clone(&self.0);
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((&*host, 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
