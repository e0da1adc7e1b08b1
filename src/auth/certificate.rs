//! What a client certificate proves, by each of the two authorities.

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::{Oid, oid};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use super::trust::Trust;
use super::user::User;
use crate::model::time::Timestamp;

/// The key under which a certificate's fingerprint stands in a user's extra values.
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// The part of a subject that carries a user's UID (k8s.io/apimachinery `asn1/oid.go:36`).
const SUBJECT_UID: Oid<'static> = oid!(1.3.6.1.4.1.57683.2);

/// Why a certificate proves nothing to one of the authorities.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CertificateFault {
    /// The chain does not verify.
    #[error("chain does not verify")]
    Chain(#[source] rustls::Error),
    /// The chain verifies, but the subject cannot be read.
    #[error("subject cannot be read")]
    Subject,
    /// The front-proxy authority signed it, but not for a front proxy.
    #[error("common name {0:?} is not in the allowed list")]
    NameNotAllowed(String),
}

/// What the chain proves; `None` where there is no such authority, or where it has nothing to say.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    /// The peer is a front proxy, whose identity headers count.
    pub(super) front_proxy: Option<Result<(), CertificateFault>>,
    /// The peer is this user itself.
    pub(super) user: Option<Result<User, CertificateFault>>,
}

/// Judges the chain that a peer presented, leaf first, by each authority alone (x509.go:150-278).
///
/// That the peer holds the leaf's key was proved by the handshake.
pub(super) fn judge(
    chain: &[CertificateDer<'_>],
    fingerprint: &[u8],
    trust: &Trust,
    now: Timestamp,
) -> Verdict {
    let front_proxy = trust.front_proxy.as_deref().map(|authority| {
        let subject = verified_subject(authority, chain, now)?;
        let allowed =
            trust.allowed_names.is_empty() || trust.allowed_names.contains(&subject.common_name);
        allowed
            .then_some(())
            .ok_or(CertificateFault::NameNotAllowed(subject.common_name))
    });
    let user = trust.clients.as_deref().and_then(|authority| {
        verified_subject(authority, chain, now)
            .map(|subject| subject.into_user(fingerprint))
            .transpose()
    });
    Verdict { front_proxy, user }
}

fn verified_subject(
    authority: &dyn ClientCertVerifier,
    chain: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<Subject, CertificateFault> {
    let (leaf, intermediates) = chain.split_first().ok_or(CertificateFault::Subject)?;
    let seconds = u64::try_from(now.as_seconds()).unwrap_or(0);
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    authority
        .verify_client_cert(leaf, intermediates, now)
        .map_err(CertificateFault::Chain)?;
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| CertificateFault::Subject)?;
    Subject::read(leaf.subject())
}

struct Subject {
    common_name: String,
    organizations: Vec<String>,
    uid: Option<String>,
}

impl Subject {
    /// Of several common names the last counts, as in Go's `pkix.Name`; two UIDs or an empty one are a fault.
    fn read(name: &X509Name<'_>) -> Result<Self, CertificateFault> {
        let texts = |oid: &Oid<'_>| {
            name.iter_by_oid(oid)
                .map(|part| part.as_str().map(str::to_owned))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|_| CertificateFault::Subject)
        };
        let mut uids = texts(&SUBJECT_UID)?;
        let uid = uids.pop();
        if !uids.is_empty() || uid.as_deref() == Some("") {
            return Err(CertificateFault::Subject);
        }
        Ok(Self {
            common_name: texts(&x509_parser::oid_registry::OID_X509_COMMON_NAME)?
                .pop()
                .unwrap_or_default(),
            organizations: texts(&x509_parser::oid_registry::OID_X509_ORGANIZATION_NAME)?,
            uid,
        })
    }

    /// The user of this name, or `None` if it has none (x509.go:289-311).
    fn into_user(self, fingerprint: &[u8]) -> Option<User> {
        let fingerprint: String = fingerprint
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        (!self.common_name.is_empty()).then(|| User {
            name: self.common_name,
            uid: self.uid,
            groups: self.organizations,
            extra: [(
                CREDENTIAL_ID.to_owned(),
                vec![format!("X509SHA256={fingerprint}")],
            )]
            .into(),
        })
    }
}
