//! The adapter's own serving certificate: made when there is none, kept in a Secret, renewed in time, the same for all
//! replicas.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cluster::identity::{IdentityError, SecretBytes, load_or_create};
use crate::cluster::registration::ServiceName;
use crate::model::time::Timestamp;
use crate::server::pki::{Authority, PkiError, Validity};
use crate::server::{CertificateError, ServingCertificate};

/// Keys of the Secret: Kubernetes' own names for a serving pair, and the authority's.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITY: &str = "ca.crt";
const AUTHORITY_KEY: &str = "ca.key";

const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const CERTIFICATE_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// How often the Secret is looked at, for a renewal that is due or that another replica has made.
const LOOK_INTERVAL: Duration = Duration::from_secs(600);
/// How often while it cannot be read.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// How long the start waits for the Secret.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why there is no serving certificate.
#[derive(Debug, thiserror::Error)]
pub enum OwnCertificateError {
    /// The Secret cannot be had.
    #[error(transparent)]
    Secret(#[from] IdentityError<PkiError>),
    /// What is in the Secret cannot be served with.
    #[error("the certificate in the secret is not usable")]
    Unusable(#[from] CertificateError),
}

/// A serving certificate kept in a Secret.
pub(super) struct OwnCertificate {
    client: kube::Client,
    service: ServiceName,
    shown: ServingCertificate,
    authority: watch::Sender<Option<Vec<u8>>>,
}

impl OwnCertificate {
    /// Reads the Secret `NAME-tls` beside the Service, or makes it. Waits a minute for a cluster that does not answer.
    ///
    /// # Errors
    /// Where the Secret cannot be had, or is not what it should be.
    pub(super) async fn load(
        client: kube::Client,
        service: ServiceName,
    ) -> Result<Self, OwnCertificateError> {
        let end = tokio::time::Instant::now() + PATIENCE;
        let secret = loop {
            match read(&client, &service).await {
                Ok(secret) => break secret,
                Err(error @ IdentityError::Request { .. }) if tokio::time::Instant::now() < end => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "no serving certificate yet"
                    );
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        let shown = ServingCertificate::from_pem(bytes(&secret, CERTIFICATE), bytes(&secret, KEY))?;
        let authority = watch::Sender::new(Some(bytes(&secret, AUTHORITY).to_vec()));
        Ok(Self {
            client,
            service,
            shown,
            authority,
        })
    }

    /// What to show to clients, now and after each renewal.
    pub(super) fn certificate(&self) -> ServingCertificate {
        self.shown.clone()
    }

    /// Whom clients are to trust, now and after each renewal.
    pub(super) fn authority(&self) -> watch::Receiver<Option<Vec<u8>>> {
        self.authority.subscribe()
    }

    /// Takes part in renewals until `cancel`.
    pub(super) async fn keep_current(self, cancel: CancellationToken) {
        let mut wait = LOOK_INTERVAL;
        while cancel
            .run_until_cancelled(tokio::time::sleep(wait))
            .await
            .is_some()
        {
            match read(&self.client, &self.service).await {
                Ok(secret) => {
                    self.take(&secret);
                    wait = LOOK_INTERVAL;
                }
                Err(error) => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "the serving certificate cannot be checked"
                    );
                    wait = LOOK_INTERVAL / 10;
                }
            }
        }
    }

    /// The authority first: a client that trusts too many is right, one that trusts too few is not.
    fn take(&self, secret: &SecretBytes) {
        let authority = bytes(secret, AUTHORITY);
        self.authority.send_if_modified(|known| {
            let differs = known.as_deref() != Some(authority);
            if differs {
                *known = Some(authority.to_vec());
            }
            differs
        });
        let before = self.shown.validity();
        match self
            .shown
            .replace(bytes(secret, CERTIFICATE), bytes(secret, KEY))
        {
            Ok(()) if self.shown.validity() != before => {
                info!(until = %self.shown.validity().not_after, "serving certificate replaced");
            }
            Ok(()) => {}
            Err(error) => warn!(
                error = &error as &dyn std::error::Error,
                "the new serving certificate is not usable"
            ),
        }
    }
}

async fn read(
    client: &kube::Client,
    service: &ServiceName,
) -> Result<SecretBytes, IdentityError<PkiError>> {
    let name = format!("{}-tls", service.name);
    let hosts = hosts(service);
    let make = || make(&hosts, Timestamp::now());
    let renew = |secret: &SecretBytes| renew(secret, &hosts, Timestamp::now());
    load_or_create(client, &service.namespace, &name, make, renew).await
}

/// The names that clients may call the Service by. The aggregator checks `NAME.NAMESPACE.svc`.
fn hosts(service: &ServiceName) -> [String; 4] {
    let ServiceName { namespace, name } = service;
    [
        format!("{name}.{namespace}.svc"),
        format!("{name}.{namespace}.svc.cluster.local"),
        format!("{name}.{namespace}"),
        "localhost".to_owned(),
    ]
}

fn make(hosts: &[String], now: Timestamp) -> Result<SecretBytes, PkiError> {
    let authority = Authority::generate("gpu-metrics-adapter-ca", AUTHORITY_LIFE, now)?;
    let mut secret = leaf(&authority, hosts, now)?;
    secret.insert(AUTHORITY.to_owned(), authority.certificate().into());
    secret.insert(AUTHORITY_KEY.to_owned(), authority.key().into_bytes());
    Ok(secret)
}

/// What to change in the Secret: the leaf at two thirds of its life, and the authority with it when its own two thirds are
/// over. The old authority then stays in the bundle beside the new one, since another replica still shows its leaf.
fn renew(
    secret: &SecretBytes,
    hosts: &[String],
    now: Timestamp,
) -> Result<Option<SecretBytes>, PkiError> {
    let authorities = utf8(secret, AUTHORITY);
    let authority = Authority::from_pem(authorities, utf8(secret, AUTHORITY_KEY))?;
    if authority.validity().needs_renewal(now) {
        let mut renewed = make(hosts, now)?;
        let new = utf8(&renewed, AUTHORITY).to_owned();
        renewed.insert(
            AUTHORITY.to_owned(),
            format!("{new}{}", authority.certificate()).into_bytes(),
        );
        return Ok(Some(renewed));
    }
    if Validity::of_pem(utf8(secret, CERTIFICATE))?.needs_renewal(now) {
        return leaf(&authority, hosts, now).map(Some);
    }
    Ok(None)
}

fn leaf(authority: &Authority, hosts: &[String], now: Timestamp) -> Result<SecretBytes, PkiError> {
    let pair = authority.serving(hosts, CERTIFICATE_LIFE, now)?;
    Ok(BTreeMap::from([
        (CERTIFICATE.to_owned(), pair.certificate.into_bytes()),
        (KEY.to_owned(), pair.key.into_bytes()),
    ]))
}

/// `load_or_create` gives only Secrets that have every key.
fn bytes<'a>(secret: &'a SecretBytes, key: &str) -> &'a [u8] {
    secret.get(key).map(Vec::as_slice).unwrap_or_default()
}

/// What is not text is not PEM either, and is refused as such.
fn utf8<'a>(secret: &'a SecretBytes, key: &str) -> &'a str {
    std::str::from_utf8(bytes(secret, key)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn at(days: u32) -> Timestamp {
        Timestamp::from_millis(1_795_464_000_000).plus(DAY * days)
    }

    fn service_hosts() -> [String; 4] {
        hosts(&ServiceName {
            namespace: "gpu".into(),
            name: "adapter".into(),
        })
    }

    #[test]
    fn the_leaf_is_renewed_at_two_thirds_of_its_life_under_the_same_authority() {
        let hosts = service_hosts();
        let secret = make(&hosts, at(0)).expect("made");
        assert_eq!(renew(&secret, &hosts, at(200)).expect("readable"), None);
        let renewed = renew(&secret, &hosts, at(250))
            .expect("readable")
            .expect("due");
        assert_eq!(
            renewed.keys().collect::<Vec<_>>(),
            [CERTIFICATE, KEY],
            "the authority stays"
        );
        assert!(
            ServingCertificate::from_pem(bytes(&renewed, CERTIFICATE), bytes(&renewed, KEY))
                .is_ok()
        );
    }

    #[test]
    fn a_new_authority_stands_beside_the_old_one() {
        let hosts = service_hosts();
        let secret = make(&hosts, at(0)).expect("made");
        let renewed = renew(&secret, &hosts, at(2500))
            .expect("readable")
            .expect("due");
        let bundle = utf8(&renewed, AUTHORITY);
        assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 2);
        assert!(bundle.ends_with(utf8(&secret, AUTHORITY)));
        let again = renew(&renewed, &hosts, at(5000))
            .expect("readable")
            .expect("due");
        assert_eq!(
            utf8(&again, AUTHORITY).matches("BEGIN CERTIFICATE").count(),
            2,
            "the oldest one goes"
        );
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        let secret = BTreeMap::from([(AUTHORITY.to_owned(), b"\xff".to_vec())]);
        assert!(renew(&secret, &service_hosts(), at(0)).is_err());
    }
}
