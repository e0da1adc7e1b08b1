//! The adapter's own serving certificate: made when there is none, kept in a Secret, renewed in time, the same for all
//! replicas.
//!
//! A new authority reaches the APIServices before a leaf of it is shown, and replicas that learn of one from there read
//! the Secret at once.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cluster::identity::{IdentityError, SecretBytes, load_or_create};
use crate::cluster::registration::{CA_NAME, Certificates, Link, ServiceName};
use crate::model::time::Timestamp;
use crate::server::pki::{Authority, Pair, PkiError, Validity};
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

/// How soon it is looked at after an APIService has shown an authority that we do not know; as much again at random, so
/// that replicas do not all ask at once.
const LOOK_SOON: Duration = Duration::from_secs(2);
/// How often it is asked whether a new leaf is trusted. It is shown when it was so twice in a row: by then every
/// kube-apiserver has heard of its authority.
const ASK_INTERVAL: Duration = Duration::from_secs(5);
/// After how long an operator hears that it is not trusted.
const LATE: Duration = Duration::from_secs(60);

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
    /// What the Secret held when `shown` was taken from it.
    current: SecretBytes,
    authority: watch::Sender<Option<Vec<u8>>>,
    link: Link,
    /// A newer leaf, until it is shown.
    next: Option<Next>,
    /// Authorities that APIServices trust and the Secret does not know, as of the last look at it.
    strangers: Certificates,
}

/// A leaf that is not shown yet.
struct Next {
    secret: SecretBytes,
    since: Instant,
    ask_at: Instant,
    /// Whether it was trusted when last asked.
    trusted: bool,
    warned: bool,
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
        Ok(Self::new(client, service, shown, secret))
    }

    fn new(
        client: kube::Client,
        service: ServiceName,
        shown: ServingCertificate,
        secret: SecretBytes,
    ) -> Self {
        let authority = watch::Sender::new(Some(bytes(&secret, AUTHORITY).to_vec()));
        Self {
            client,
            service,
            shown,
            current: secret,
            link: Link::new(authority.subscribe()),
            authority,
            next: None,
            strangers: Certificates::new(),
        }
    }

    /// What to show to clients, now and after each renewal.
    pub(super) fn certificate(&self) -> ServingCertificate {
        self.shown.clone()
    }

    /// Whom clients are to trust, now and after each renewal; and back, whom they do trust.
    pub(super) fn authority(&self) -> Link {
        self.link.clone()
    }

    /// Takes part in renewals until `cancel`.
    pub(super) async fn keep_current(mut self, cancel: CancellationToken) {
        cancel.run_until_cancelled(self.follow()).await;
    }

    async fn follow(&mut self) {
        let mut bundles = self.link.bundles();
        // What came before now has been looked at by nobody.
        bundles.mark_changed();
        let mut look_at = Instant::now() + LOOK_INTERVAL;
        loop {
            let ask_at = self.next.as_ref().map(|next| next.ask_at);
            tokio::select! {
                () = sleep_until(look_at) => look_at = Instant::now() + self.look().await,
                Ok(()) = bundles.changed() => {
                    if !self.strangers().is_subset(&self.strangers) {
                        look_at = look_at.min(Instant::now() + LOOK_SOON + jitter(LOOK_SOON));
                    }
                }
                () = sleep_until(ask_at.unwrap_or(look_at)), if ask_at.is_some() => self.ask(),
            }
        }
    }

    /// Reads the Secret; says when to do so again.
    async fn look(&mut self) -> Duration {
        match read(&self.client, &self.service).await {
            Ok(secret) => {
                self.take(secret);
                LOOK_INTERVAL
            }
            Err(error) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "the serving certificate cannot be checked"
                );
                LOOK_INTERVAL / 10
            }
        }
    }

    /// The authority at once, a leaf of a new one when that is trusted: a client that trusts too many is right, one that
    /// trusts too few is not.
    fn take(&mut self, secret: SecretBytes) {
        let authority = bytes(&secret, AUTHORITY);
        self.authority.send_if_modified(|known| {
            let differs = known.as_deref() != Some(authority);
            if differs {
                *known = Some(authority.to_vec());
            }
            differs
        });
        self.strangers = self.strangers();
        let same = |key| bytes(&secret, key) == bytes(&self.current, key);
        if same(CERTIFICATE) {
            self.next = None;
        } else if same(AUTHORITY_KEY) {
            self.next = None;
            self.show(secret);
        } else if self.next.as_ref().is_none_or(|it| it.secret != secret) {
            let now = Instant::now();
            self.next = Some(Next {
                secret,
                since: now,
                ask_at: now,
                trusted: false,
                warned: false,
            });
        }
    }

    fn strangers(&self) -> Certificates {
        let known = self.authority.borrow();
        let known = known.as_deref().unwrap_or_default();
        self.link
            .bundles()
            .borrow()
            .strangers(known, Timestamp::now())
    }

    /// Shows the newer leaf if it may be shown.
    fn ask(&mut self) {
        let Some(mut next) = self.next.take() else {
            return;
        };
        let authority = bytes(&next.secret, AUTHORITY);
        let trusted = self.link.bundles().borrow().trust(authority);
        let before = std::mem::replace(&mut next.trusted, trusted);
        if may_show(before && trusted, self.shown.validity(), Timestamp::now()) {
            self.show(next.secret);
            return;
        }
        if !trusted && !next.warned && next.since.elapsed() >= LATE {
            next.warned = true;
            let until = self.shown.validity().not_after;
            warn!(%until, "no new serving certificate while an APIService does not trust its CA; the old one stays");
        }
        next.ask_at = Instant::now() + ASK_INTERVAL;
        self.next = Some(next);
    }

    fn show(&mut self, secret: SecretBytes) {
        let pair = (bytes(&secret, CERTIFICATE), bytes(&secret, KEY));
        match self.shown.replace(pair.0, pair.1) {
            Ok(()) => {
                self.current = secret;
                info!(until = %self.shown.validity().not_after, "serving certificate replaced");
            }
            Err(error) => warn!(
                error = &error as &dyn std::error::Error,
                "the new serving certificate is not usable"
            ),
        }
    }
}

/// A leaf that nobody trusts is no better than one that has expired, and no worse.
fn may_show(trusted: bool, shown: Validity, now: Timestamp) -> bool {
    trusted || shown.not_after <= now
}

/// A random duration below `limit`.
fn jitter(limit: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8) % 1024;
    limit.mul_f64(f64::from(u32::try_from(random).unwrap_or(0)) / 1024.0)
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

/// A pair of an authority that nobody knows.
///
/// # Errors
/// Where the system gives no random numbers.
pub(super) fn temporary(service: &ServiceName, now: Timestamp) -> Result<Pair, PkiError> {
    let authority = Authority::generate(CA_NAME, AUTHORITY_LIFE, now)?;
    authority.serving(&hosts(service), AUTHORITY_LIFE, now)
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
    let authority = Authority::generate(CA_NAME, AUTHORITY_LIFE, now)?;
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
    fn a_leaf_is_shown_when_it_is_trusted_or_there_is_nothing_to_lose() {
        let shown = Validity {
            not_before: at(0),
            not_after: at(1),
        };
        assert!(may_show(true, shown, at(0)));
        assert!(!may_show(false, shown, at(0)));
        assert!(may_show(false, shown, at(1)));
    }

    /// An owner that shows the leaf of `secret`, and whose cluster is at `url`.
    fn owner(secret: &SecretBytes, url: &str) -> OwnCertificate {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let config = kube::Config::new(url.parse().expect("a URL"));
        let client = kube::Client::try_from(config).expect("a client");
        let service = ServiceName {
            namespace: "gpu".into(),
            name: "adapter".into(),
        };
        let shown = ServingCertificate::from_pem(bytes(secret, CERTIFICATE), bytes(secret, KEY));
        OwnCertificate::new(client, service, shown.expect("a pair"), secret.clone())
    }

    const NOWHERE: &str = "http://127.0.0.1:1";

    #[tokio::test]
    async fn a_leaf_of_a_new_authority_waits_until_every_apiservice_trusts_it() {
        let now = Timestamp::now();
        let [old, new] = [0, 1].map(|_| make(&service_hosts(), now).expect("made"));
        let mut owner = owner(&old, NOWHERE);
        let link = owner.authority();
        let both = [bytes(&new, AUTHORITY), bytes(&old, AUTHORITY)].concat();
        link.note("a", Some(bytes(&old, AUTHORITY).to_vec()));
        link.note("b", Some(both.clone()));
        owner.take(new.clone());
        assert_eq!(
            owner.authority.borrow().as_deref(),
            Some(bytes(&new, AUTHORITY)),
            "the authority is told at once"
        );
        owner.ask();
        owner.ask();
        assert!(owner.current == old, "one of them does not trust it");
        link.note("a", Some(both));
        owner.ask();
        assert!(owner.current == old, "trusted only just");
        owner.ask();
        assert!(owner.current == new && owner.next.is_none());
    }

    #[tokio::test]
    async fn a_leaf_of_the_same_authority_is_shown_at_once() {
        let now = Timestamp::now();
        let secret = make(&service_hosts(), now).expect("made");
        let mut owner = owner(&secret, NOWHERE);
        owner.authority().note("a", Some(Vec::new()));
        let mut renewed = secret.clone();
        let later = now.plus(DAY * 250);
        let change = renew(&secret, &service_hosts(), later).expect("readable");
        renewed.extend(change.expect("due"));
        owner.take(renewed.clone());
        assert!(owner.current == renewed && owner.next.is_none());
        let until = later.plus(CERTIFICATE_LIFE).as_seconds();
        assert_eq!(owner.shown.validity().not_after.as_seconds(), until);
    }

    #[tokio::test]
    async fn a_secret_that_goes_back_leaves_nothing_waiting() {
        let now = Timestamp::now();
        let [old, new] = [0, 1].map(|_| make(&service_hosts(), now).expect("made"));
        let mut owner = owner(&old, NOWHERE);
        owner.authority().note("a", Some(Vec::new()));
        owner.take(new);
        assert!(owner.next.is_some());
        owner.take(old);
        assert!(owner.next.is_none());
    }

    #[tokio::test]
    async fn an_authority_that_the_secret_does_not_explain_is_asked_about_once() {
        let now = Timestamp::now();
        let [ours, other] = [0, 1].map(|_| make(&service_hosts(), now).expect("made"));
        let mut owner = owner(&ours, NOWHERE);
        let link = owner.authority();
        link.note("a", Some(bytes(&other, AUTHORITY).to_vec()));
        assert!(!owner.strangers().is_subset(&owner.strangers));
        owner.take(ours);
        assert!(owner.strangers().is_subset(&owner.strangers));
    }

    #[tokio::test]
    async fn an_unknown_authority_has_the_secret_read_within_seconds() {
        let now = Timestamp::now();
        let [ours, other] = [0, 1].map(|_| make(&service_hosts(), now).expect("made"));
        let cluster = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let cluster = cluster.expect("a port");
        let url = format!("http://{}", cluster.local_addr().expect("an address"));
        let owner = owner(&ours, &url);
        let link = owner.authority();
        let cancel = CancellationToken::new();
        let running = tokio::spawn(owner.keep_current(cancel.clone()));
        link.note("a", Some(bytes(&other, AUTHORITY).to_vec()));
        let asked = tokio::time::timeout(Duration::from_secs(30), cluster.accept()).await;
        asked.expect("it asks").expect("a connection");
        cancel.cancel();
        running.await.expect("it ends when it is told to");
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        let secret = BTreeMap::from([(AUTHORITY.to_owned(), b"\xff".to_vec())]);
        assert!(renew(&secret, &service_hosts(), at(0)).is_err());
    }
}
