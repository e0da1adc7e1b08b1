//! The HTTP clients of jobs, one for each way to speak TLS, and the credentials that go with a request.
//!
//! Files are read again: those of TLS at most once in [`REREAD`], and a client is made anew only where they changed; those
//! of credentials for each scrape.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use http::header::AUTHORIZATION;
use parking_lot::Mutex;
use reqwest::redirect::Policy;
use reqwest::tls::Version;
use reqwest::{Certificate, Client, ClientBuilder, Identity, RequestBuilder};
use tracing::warn;

use crate::config::scrape::http::{HttpConfig, Secret, TlsConfig, TlsVersion};

use super::ScrapeError;

/// How old what is known of a file of TLS may be.
const REREAD: Duration = Duration::from_secs(1);

/// The clients that were made. There are no more than the configuration has jobs.
#[derive(Debug, Default)]
pub(super) struct Clients(Mutex<Vec<Made>>);

#[derive(Debug)]
struct Made {
    config: Arc<HttpConfig>,
    read: Instant,
    pem: Pem,
    client: Client,
}

/// What a job's files of TLS hold, and what is written in their place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pem {
    ca: Option<Secret>,
    cert: Option<Secret>,
    key: Option<Secret>,
}

impl Clients {
    /// The client for these settings, with its files as they were a moment ago.
    ///
    /// # Errors
    /// A file cannot be read, or holds nothing of use.
    pub(super) async fn get(&self, config: &Arc<HttpConfig>) -> Result<Client, ScrapeError> {
        if let Some(client) = self.fresh(config) {
            return Ok(client);
        }
        let pem = Pem::read(&config.tls).await?;
        let mut all = self.0.lock();
        if let Some(made) = all.iter_mut().find(|it| same(&it.config, config)) {
            if made.pem != pem {
                made.client = make(config, &pem)?;
                made.pem = pem;
            }
            made.read = Instant::now();
            return Ok(made.client.clone());
        }
        // Under the lock, so that a job's first scrapes do not all make one.
        let client = make(config, &pem)?;
        if config.tls.insecure_skip_verify {
            warn!("any certificate of this job's targets is believed, as its tls_config says");
        }
        all.push(Made {
            config: config.clone(),
            read: Instant::now(),
            pem,
            client: client.clone(),
        });
        Ok(client)
    }

    fn fresh(&self, config: &Arc<HttpConfig>) -> Option<Client> {
        let all = self.0.lock();
        let made = all.iter().find(|it| same(&it.config, config))?;
        let files = [
            &config.tls.ca_file,
            &config.tls.cert_file,
            &config.tls.key_file,
        ];
        let unchanging = files.iter().all(|it| it.is_none());
        (unchanging || made.read.elapsed() < REREAD).then(|| made.client.clone())
    }
}

/// Whether one client does for both.
fn same(one: &Arc<HttpConfig>, other: &Arc<HttpConfig>) -> bool {
    Arc::ptr_eq(one, other) || (one.http2, &one.tls) == (other.http2, &other.tls)
}

impl Pem {
    async fn read(tls: &TlsConfig) -> Result<Self, ScrapeError> {
        let ca = tls.ca.clone().map(Secret::from);
        let cert = tls.cert.clone().map(Secret::from);
        Ok(Self {
            ca: either(&ca, &tls.ca_file).await?,
            cert: either(&cert, &tls.cert_file).await?,
            key: either(&tls.key, &tls.key_file).await?,
        })
    }
}

/// The request with the job's credentials, as they are now.
///
/// # Errors
/// A file cannot be read, or holds what no header can have.
pub(super) async fn authorize(
    request: RequestBuilder,
    config: &HttpConfig,
) -> Result<RequestBuilder, ScrapeError> {
    if let Some(auth) = &config.basic_auth {
        let user = auth.username.clone().map(Secret::from);
        let user = either(&user, &auth.username_file).await?;
        let user = user.as_ref().map_or("", Secret::expose);
        let password = either(&auth.password, &auth.password_file).await?;
        return Ok(request.basic_auth(user, password.as_ref().map(Secret::expose)));
    }
    let Some(auth) = &config.authorization else {
        return Ok(request);
    };
    let credentials = either(&auth.credentials, &auth.credentials_file).await?;
    let credentials = credentials.as_ref().map_or("", Secret::expose);
    let value = HeaderValue::try_from(format!("{} {credentials}", auth.kind));
    let mut value = value.map_err(|_| {
        ScrapeError::Settings("the credentials hold what no HTTP header can have".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(request.header(AUTHORIZATION, value))
}

async fn either(
    written: &Option<Secret>,
    file: &Option<PathBuf>,
) -> Result<Option<Secret>, ScrapeError> {
    match file {
        Some(path) => read(path).await.map(Some),
        None => Ok(written.clone()),
    }
}

/// The text of a file without the white space around it, as Prometheus takes it.
async fn read(path: &Path) -> Result<Secret, ScrapeError> {
    match tokio::fs::read_to_string(path).await {
        Ok(text) => Ok(Secret::from(text.trim().to_owned())),
        Err(error) => {
            let (path, kind) = (path.display(), error.kind());
            Err(ScrapeError::Settings(format!("cannot read {path}: {kind}")))
        }
    }
}

fn make(config: &HttpConfig, pem: &Pem) -> Result<Client, ScrapeError> {
    let unusable = |what: &str| ScrapeError::Settings(format!("tls_config: {what}"));
    let builder = || -> Result<ClientBuilder, ScrapeError> {
        let mut builder = plain();
        if !config.http2 {
            builder = builder.http1_only();
        }
        if let Some(ca) = &pem.ca {
            let ca = Certificate::from_pem_bundle(ca.expose().as_bytes())
                .ok()
                .filter(|it| !it.is_empty())
                .ok_or_else(|| unusable("ca holds no certificate in PEM"))?;
            builder = builder.tls_certs_only(ca);
        }
        if let (Some(cert), Some(key)) = (&pem.cert, &pem.key) {
            let both = format!("{}\n{}\n", cert.expose(), key.expose());
            let identity = Identity::from_pem(both.as_bytes())
                .map_err(|_| unusable("cert and key are not a certificate and its key in PEM"))?;
            builder = builder.identity(identity);
        }
        if let Some(min) = config.tls.min_version {
            builder = builder.tls_version_min(version(min));
        }
        if let Some(max) = config.tls.max_version {
            builder = builder.tls_version_max(version(max));
        }
        if config.tls.insecure_skip_verify {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        Ok(builder)
    };
    let made = builder()?.build();
    if let (Err(error), None) = (&made, &pem.ca) {
        // An image without certificate authorities must still scrape http targets.
        warn!(%error, "no certificate authorities: https targets will not be trusted");
        let without = builder()?.tls_certs_only([]).build();
        return without.map_err(|_| unusable("no TLS client can be made of it"));
    }
    made.map_err(|_| unusable("no TLS client can be made of it"))
}

fn plain() -> ClientBuilder {
    // Compression is undone by the fetcher rather than by the client, which would not say how much was sent.
    Client::builder()
        .user_agent(concat!("gpu-metrics-adapter/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .no_gzip()
        .redirect(Policy::none())
        .pool_max_idle_per_host(1)
}

fn version(version: TlsVersion) -> Version {
    match version {
        TlsVersion::Tls12 => Version::TLS_1_2,
        TlsVersion::Tls13 => Version::TLS_1_3,
    }
}
