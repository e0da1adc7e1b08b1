//! The certificate the server shows, and how a new one takes its place.
//!
//! Written by whoever renews it (files, or the adapter itself); each handshake reads it. Open connections keep theirs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{self, Digest};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::pki::{PkiError, Validity};

/// How often the files are read again: mounted Secrets change by a symlink swap, which no file watch sees reliably.
const REREAD: Duration = Duration::from_secs(10);

/// Why a certificate cannot be shown. The one in use stays.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The certificate is not PEM.
    #[error("certificate is not PEM")]
    Certificate(#[source] pem::Error),
    /// There is no certificate in the text.
    #[error("no certificate in it")]
    Empty,
    /// The private key is not PEM, or not there.
    #[error("private key is not PEM")]
    Key(#[source] pem::Error),
    /// The key is of an unknown kind, or not the certificate's.
    #[error("key and certificate do not go together")]
    Pair(#[source] rustls::Error),
    /// The certificate's dates cannot be read.
    #[error("certificate cannot be read")]
    Validity(#[source] PkiError),
}

/// The certificate in use; clones share it.
#[derive(Clone, Debug)]
pub struct ServingCertificate {
    current: Arc<ArcSwap<Shown>>,
}

#[derive(Debug)]
struct Shown {
    key: Arc<CertifiedKey>,
    validity: Validity,
}

impl Shown {
    fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(CertificateError::Certificate)?;
        let leaf = chain.first().ok_or(CertificateError::Empty)?;
        let validity = Validity::of_der(leaf).map_err(CertificateError::Validity)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(CertificateError::Key)?;
        let key = CertifiedKey::from_der(chain, key, &default_provider())
            .map_err(CertificateError::Pair)?;
        Ok(Self {
            key: Arc::new(key),
            validity,
        })
    }
}

impl ServingCertificate {
    /// From a chain (leaf first) and its private key, both in PEM.
    ///
    /// # Errors
    ///
    /// They cannot be read, or do not go together.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        Ok(Self {
            current: Arc::new(ArcSwap::from_pointee(Shown::from_pem(chain, key)?)),
        })
    }

    /// Shows another certificate from the next handshake on.
    ///
    /// # Errors
    ///
    /// As [`Self::from_pem`]; nothing changes then.
    pub fn replace(&self, chain: &[u8], key: &[u8]) -> Result<(), CertificateError> {
        self.current.store(Arc::new(Shown::from_pem(chain, key)?));
        Ok(())
    }

    /// When the certificate in use is valid.
    pub fn validity(&self) -> Validity {
        self.current.load().validity
    }
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().key.clone())
    }
}

/// A certificate and key in files that someone else renews.
#[derive(Debug)]
pub struct CertificateFiles {
    chain: PathBuf,
    key: PathBuf,
    shown: ServingCertificate,
    /// Digest of the pair in use.
    loaded: Digest,
}

impl CertificateFiles {
    /// Reads the pair: the chain, leaf first, and the private key.
    ///
    /// # Errors
    ///
    /// The files cannot be read, or hold no pair.
    pub async fn load(
        chain: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, CertificateError> {
        let (chain, key) = (chain.into(), key.into());
        let (chain_pem, key_pem) = (read(&chain).await?, read(&key).await?);
        Ok(Self {
            shown: ServingCertificate::from_pem(&chain_pem, &key_pem)?,
            loaded: digest_of(&chain_pem, &key_pem),
            chain,
            key,
        })
    }

    /// What is shown, now and after each reload.
    pub fn certificate(&self) -> ServingCertificate {
        self.shown.clone()
    }

    /// Reads the files again; true if they held another pair, which is now in use.
    ///
    /// # Errors
    ///
    /// The files cannot be read, or hold no pair (as between the writes of one and the other): the old one stays in use.
    pub async fn reload(&mut self) -> Result<bool, CertificateError> {
        let (chain, key) = (read(&self.chain).await?, read(&self.key).await?);
        let found = digest_of(&chain, &key);
        if found.as_ref() == self.loaded.as_ref() {
            return Ok(false);
        }
        self.shown.replace(&chain, &key)?;
        self.loaded = found;
        Ok(true)
    }

    /// Takes up each new pair until told to stop. Trouble is logged when it begins, not each time.
    pub async fn keep_current(mut self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(REREAD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut trouble = None;
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            match self.reload().await {
                Ok(changed) => {
                    trouble = None;
                    if changed {
                        let until = self.shown.validity().not_after;
                        info!(%until, "serving certificate replaced");
                    }
                }
                Err(error) => {
                    let said = error.to_string();
                    if trouble.as_ref() != Some(&said) {
                        let source = std::error::Error::source(&error);
                        warn!(%error, source, "serving certificate not replaced");
                    }
                    trouble = Some(said);
                }
            }
        }
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    tokio::fs::read(path)
        .await
        .map_err(|source| CertificateError::Read {
            path: path.to_owned(),
            source,
        })
}

fn digest_of(chain: &[u8], key: &[u8]) -> Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&chain.len().to_be_bytes());
    context.update(chain);
    context.update(key);
    context.finish()
}
