//! One server that is asked by reqwest, with TLS as its files are now.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::HOST;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Url};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::{Clients, SettingsError, Tls, certificate_fault_behind, root_cause};
use crate::config::scrape::http::HttpConfig;

/// The longest that a connection may take; less where the whole request has less.
pub(crate) const CONNECT: Duration = Duration::from_secs(1);

/// How long a connection without requests is kept.
const IDLE: Duration = Duration::from_secs(60);

/// A server under a base URL. It is asked directly, by no proxy, and sends nobody on to another.
pub(crate) struct Server {
    url: Url,
    /// The URL without what is secret in it.
    pub(crate) shown: Arc<str>,
    idle: usize,
    made: Mutex<Option<(Arc<ClientConfig>, Client)>>,
}

/// Why a request has no answer. The text stands behind the server's URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendFault {
    /// No connection.
    #[error("cannot be reached ({0})")]
    Connect(String),
    /// The server's certificate does not count.
    #[error("cannot be trusted: {0}")]
    Certificate(&'static str),
    /// The answer, or the rest of it, was not there in time.
    #[error("does not answer in time")]
    Timeout,
    /// The connection broke.
    #[error("broke off the answer")]
    Broken,
}

impl From<reqwest::Error> for SendFault {
    fn from(error: reqwest::Error) -> Self {
        if let Some(fault) = certificate_fault_behind(&error) {
            Self::Certificate(fault)
        } else if error.is_timeout() {
            Self::Timeout
        } else if error.is_connect() {
            Self::Connect(root_cause(&error))
        } else {
            Self::Broken
        }
    }
}

impl Server {
    /// A server of which `idle` connections are kept at most.
    pub(crate) fn new(url: Url, idle: usize) -> Self {
        let mut shown = url.clone();
        // A URL of HTTP can be without them.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        shown.set_query(None);
        Self {
            url,
            shown: shown.as_str().trim_end_matches('/').into(),
            idle,
            made: Mutex::default(),
        }
    }

    /// A request for the path of these segments below the base URL; it is still to be sent.
    ///
    /// # Errors
    /// Where the files of TLS cannot be used.
    pub(crate) async fn request<'a>(
        &self,
        clients: &Clients,
        http: &Arc<HttpConfig>,
        method: Method,
        path: impl IntoIterator<Item = &'a str>,
    ) -> Result<RequestBuilder, SettingsError> {
        let (client, name) = self.client(clients, http).await?;
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let request = client.request(method, place(&url, &name)?);
        if name.is_none() {
            return Ok(request);
        }
        let host = self.url.host_str().unwrap_or_default();
        let host = match self.url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        Ok(request.header(HOST, host))
    }

    /// The client, with TLS as its files are now, and the name that the certificate must have where that is not the host.
    async fn client(
        &self,
        clients: &Clients,
        http: &Arc<HttpConfig>,
    ) -> Result<(Client, Option<String>), SettingsError> {
        let Tls {
            config,
            server_name,
        } = clients.get(http).await?;
        let name = match server_name {
            Some(ServerName::DnsName(name)) if self.url.scheme() == "https" => {
                Some(name.as_ref().to_owned())
            }
            _ => None,
        };
        let mut made = self.made.lock();
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
            .pool_max_idle_per_host(self.idle)
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
fn place(url: &Url, name: &Option<String>) -> Result<Url, SettingsError> {
    let mut url = url.clone();
    if let Some(name) = name {
        url.set_host(Some(name))
            .map_err(|_| SettingsError("tls_config.server_name is no name of a host".to_owned()))?;
    }
    Ok(url)
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
