//! How this program speaks TLS to targets and backends, and the credentials that go with its requests. It asks nothing itself.
//!
//! Files are read again: those of TLS at most once in [`REREAD`], and a configuration of TLS is made anew only where they changed; those
//! of credentials for each request. Files of TLS that cannot be used, as when they are half written, leave what worked before.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use http::HeaderValue;
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tracing::{info, warn};

use crate::config::scrape::http::{HttpConfig, Secret, TlsConfig, TlsVersion};

mod fault;
mod server;

pub(crate) use fault::{certificate_fault, certificate_fault_behind, root_cause};
pub use server::SendFault;
pub(crate) use server::{CONNECT, Server};

/// How old what is known of a file of TLS may be.
const REREAD: Duration = Duration::from_secs(1);

/// Settings for TLS or credentials that cannot be used: a file is missing, or holds something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(pub String);

/// How TLS is spoken to another.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Whom to trust, and as whom to come.
    pub config: Arc<ClientConfig>,
    /// The name that the certificate must have, where it is not the URL's host.
    pub server_name: Option<ServerName<'static>>,
}

/// The configurations that were made. There are no more than the configuration has jobs and backends.
#[derive(Debug, Default)]
pub struct Clients(Mutex<Vec<Made>>);

#[derive(Debug)]
struct Made {
    config: Arc<HttpConfig>,
    read: Instant,
    pem: Pem,
    tls: Tls,
    /// Why what the files hold now is not what is used.
    fault: Option<SettingsError>,
}

/// What a job's files of TLS hold, and what is written in their place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pem {
    ca: Option<Secret>,
    cert: Option<Secret>,
    key: Option<Secret>,
}

impl Clients {
    /// How to speak TLS with these settings, with its files as they were a moment ago.
    ///
    /// # Errors
    /// A file cannot be read, or holds nothing of use, and never did.
    pub async fn get(&self, config: &Arc<HttpConfig>) -> Result<Tls, SettingsError> {
        if let Some(tls) = self.fresh(config) {
            return Ok(tls);
        }
        let pem = Pem::read(&config.tls).await;
        let mut all = self.0.lock();
        if let Some(made) = all.iter_mut().find(|it| same(&it.config, config)) {
            made.renew(pem);
            return Ok(made.tls.clone());
        }
        let pem = pem?;
        // Under the lock, so that a job's first scrapes do not all make one.
        let tls = make(config, &pem)?;
        if config.tls.insecure_skip_verify {
            warn!("any certificate is believed, as tls_config.insecure_skip_verify says");
        }
        all.push(Made {
            config: config.clone(),
            read: Instant::now(),
            pem,
            tls: tls.clone(),
            fault: None,
        });
        Ok(tls)
    }

    fn fresh(&self, config: &Arc<HttpConfig>) -> Option<Tls> {
        let all = self.0.lock();
        let made = all.iter().find(|it| same(&it.config, config))?;
        let files = [
            &config.tls.ca_file,
            &config.tls.cert_file,
            &config.tls.key_file,
        ];
        let unchanging = files.iter().all(|it| it.is_none());
        (unchanging || made.read.elapsed() < REREAD).then(|| made.tls.clone())
    }
}

impl Made {
    /// Takes up what the files hold now, if it can be used.
    fn renew(&mut self, pem: Result<Pem, SettingsError>) {
        self.read = Instant::now();
        let renewed = pem.and_then(|pem| {
            if self.pem != pem {
                self.tls = make(&self.config, &pem)?;
                self.pem = pem;
            }
            Ok(())
        });
        let fault = renewed.err();
        if self.fault != fault {
            match &fault {
                Some(error) => {
                    warn!(%error, "files of tls_config cannot be used; what they held before is")
                }
                None => info!("files of tls_config can be used again"),
            }
            self.fault = fault;
        }
    }
}

/// Whether one does for both.
fn same(one: &Arc<HttpConfig>, other: &Arc<HttpConfig>) -> bool {
    Arc::ptr_eq(one, other) || (one.http2, &one.tls) == (other.http2, &other.tls)
}

impl Pem {
    async fn read(tls: &TlsConfig) -> Result<Self, SettingsError> {
        let ca = tls.ca.clone().map(Secret::from);
        let cert = tls.cert.clone().map(Secret::from);
        Ok(Self {
            ca: secret(&ca, &tls.ca_file).await?,
            cert: secret(&cert, &tls.cert_file).await?,
            key: secret(&tls.key, &tls.key_file).await?,
        })
    }
}

/// The value of a request's `Authorization`, with the job's credentials as they are now.
///
/// # Errors
/// A file cannot be read, or holds what no header can have.
pub async fn authorization(config: &HttpConfig) -> Result<Option<HeaderValue>, SettingsError> {
    let text = if let Some(auth) = &config.basic_auth {
        let user = auth.username.clone().map(Secret::from);
        let user = secret(&user, &auth.username_file).await?;
        let password = secret(&auth.password, &auth.password_file).await?;
        let text = |secret: &Option<Secret>| {
            secret
                .as_ref()
                .map(Secret::expose)
                .unwrap_or_default()
                .to_owned()
        };
        let both = format!("{}:{}", text(&user), text(&password));
        format!("Basic {}", BASE64.encode(both))
    } else if let Some(auth) = &config.authorization {
        let credentials = secret(&auth.credentials, &auth.credentials_file).await?;
        let credentials = credentials.as_ref().map_or("", Secret::expose);
        format!("{} {credentials}", auth.kind)
    } else {
        return Ok(None);
    };
    let mut value = HeaderValue::try_from(text).map_err(|_| {
        SettingsError("the credentials hold what no HTTP header can have".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// A secret as it is written, or as its file holds it now.
///
/// # Errors
/// The file cannot be read.
pub async fn secret(
    written: &Option<Secret>,
    file: &Option<PathBuf>,
) -> Result<Option<Secret>, SettingsError> {
    match file {
        Some(path) => read(path).await.map(Some),
        None => Ok(written.clone()),
    }
}

/// The text of a file without the white space around it, as Prometheus takes it.
async fn read(path: &Path) -> Result<Secret, SettingsError> {
    match tokio::fs::read_to_string(path).await {
        Ok(text) => Ok(Secret::from(text.trim().to_owned())),
        Err(error) => {
            let (path, kind) = (path.display(), error.kind());
            Err(SettingsError(format!("cannot read {path}: {kind}")))
        }
    }
}

fn make(config: &HttpConfig, pem: &Pem) -> Result<Tls, SettingsError> {
    let unusable = |what: &str| SettingsError(format!("tls_config: {what}"));
    let provider = Arc::new(aws_lc_rs::default_provider());
    let allowed = |version: TlsVersion| {
        config.tls.min_version.is_none_or(|min| min <= version)
            && config.tls.max_version.is_none_or(|max| version <= max)
    };
    let versions = [(TlsVersion::Tls12, &TLS12), (TlsVersion::Tls13, &TLS13)];
    let versions: Vec<_> = versions
        .into_iter()
        .filter_map(|(version, it)| allowed(version).then_some(it))
        .collect();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|_| unusable("no version of TLS is left"))?;
    let builder = if config.tls.insecure_skip_verify {
        let verifier = Arc::new(BelieveAnyone(provider));
        builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
    } else if let Some(ca) = &pem.ca {
        let certificates = certificates(ca).ok_or_else(|| unusable("ca is not whole PEM"))?;
        let mut roots = RootCertStore::empty();
        let (_, ignored) = roots.add_parsable_certificates(certificates);
        if roots.is_empty() {
            return Err(unusable("ca holds no certificate in PEM"));
        }
        if ignored > 0 {
            warn!(
                ignored,
                "some certificates of ca are of no use as authorities"
            );
        }
        builder.with_root_certificates(roots)
    } else {
        builder.with_root_certificates(Arc::clone(&SYSTEM))
    };
    let mut tls = if let (Some(cert), Some(key)) = (&pem.cert, &pem.key) {
        let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).ok();
        certificates(cert)
            .zip(key)
            .and_then(|(chain, key)| builder.with_client_auth_cert(chain, key).ok())
            .ok_or_else(|| unusable("cert and key are not a certificate and its key in PEM"))?
    } else {
        builder.with_no_client_auth()
    };
    if config.http2 {
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    Ok(Tls {
        config: Arc::new(tls),
        server_name: ServerName::try_from(config.tls.server_name.clone()).ok(),
    })
}

/// The certificates in PEM; `None` where something is broken: trusting only those before it would be a surprise.
fn certificates(pem: &Secret) -> Option<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem.expose().as_bytes())
        .collect::<Result<_, _>>()
        .ok()
}

/// The certificate authorities of the system. An image without any must still scrape http targets.
static SYSTEM: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        warn!("no certificate authorities: https targets will not be trusted");
    }
    Arc::new(roots)
});

/// What a job's `insecure_skip_verify` asks for: any certificate will do. That its key is the other end's is still checked.
#[derive(Debug)]
struct BelieveAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for BelieveAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
