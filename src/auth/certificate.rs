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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };
    use rustls::CertificateError;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_464_000_000);
    const O: DnType = DnType::OrganizationName;
    /// The same part of a name again, which rcgen would else replace.
    const O_AGAIN: [u64; 4] = [2, 5, 4, 10];
    const UID: [u64; 8] = [1, 3, 6, 1, 4, 1, 57683, 2];

    struct Ca {
        pem: String,
        issuer: Issuer<'static, KeyPair>,
    }

    impl Ca {
        fn new(name: &str) -> Self {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let pem = params.self_signed(&key).unwrap().pem();
            let issuer = Issuer::new(params, key);
            Self { pem, issuer }
        }

        fn sign(&self, name: &[(DnType, &str)]) -> CertificateParams {
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            for (part, value) in name {
                params.distinguished_name.push(part.clone(), *value);
            }
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            params
        }

        fn finish(&self, params: &CertificateParams) -> CertificateDer<'static> {
            let key = KeyPair::generate().unwrap();
            params.signed_by(&key, &self.issuer).unwrap().der().clone()
        }

        fn leaf(&self, name: &[(DnType, &str)]) -> CertificateDer<'static> {
            self.finish(&self.sign(name))
        }
    }

    fn trust(key: &str, ca: &Ca, names: &str) -> Trust {
        let entries = [
            (key.to_owned(), ca.pem.clone()),
            ("requestheader-allowed-names".to_owned(), names.to_owned()),
        ];
        Trust::from_config_map(&entries.into()).unwrap()
    }

    fn user(ca: &Ca, leaf: CertificateDer<'_>) -> Option<Result<User, CertificateFault>> {
        judge(
            &[leaf],
            &[0xab, 0x01],
            &trust("client-ca-file", ca, ""),
            NOW,
        )
        .user
    }

    #[test]
    fn the_subject_is_the_user() {
        let ca = Ca::new("clients");
        let leaf = ca.leaf(&[
            (DnType::CommonName, "alice"),
            (O, "one"),
            (DnType::CustomDnType(O_AGAIN.to_vec()), "two"),
            (DnType::CustomDnType(UID.to_vec()), "42"),
        ]);
        let user = user(&ca, leaf).unwrap().unwrap();
        assert_eq!(
            (user.name.as_str(), user.uid.as_deref()),
            ("alice", Some("42"))
        );
        assert_eq!(user.groups, ["one", "two"]);
        assert_eq!(user.extra[CREDENTIAL_ID], ["X509SHA256=ab01"]);
    }

    #[test]
    fn a_certificate_without_a_common_name_says_nothing() {
        let ca = Ca::new("clients");
        assert!(user(&ca, ca.leaf(&[(O, "system:masters")])).is_none());
        let empty_uid = [
            (DnType::CommonName, "alice"),
            (DnType::CustomDnType(UID.to_vec()), ""),
        ];
        let fault = user(&ca, ca.leaf(&empty_uid)).unwrap().unwrap_err();
        assert_eq!(fault, CertificateFault::Subject);
    }

    #[test]
    fn what_does_not_verify_is_refused() {
        let ca = Ca::new("clients");
        let alice = [(DnType::CommonName, "alice")];
        let refused = |leaf| match user(&ca, leaf) {
            Some(Err(CertificateFault::Chain(rustls::Error::InvalidCertificate(error)))) => error,
            other => panic!("not refused: {other:?}"),
        };
        // Same name, other key.
        let forged = refused(Ca::new("clients").leaf(&alice));
        assert!(
            matches!(
                forged,
                CertificateError::UnknownIssuer | CertificateError::BadSignature
            ),
            "{forged:?}"
        );
        let mut expired = ca.sign(&alice);
        expired.not_after = rcgen::date_time_ymd(2026, 11, 22);
        let expired = refused(ca.finish(&expired));
        assert!(
            matches!(expired, CertificateError::ExpiredContext { .. }),
            "{expired:?}"
        );
        let mut server = ca.sign(&alice);
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server = refused(ca.finish(&server));
        assert!(
            matches!(server, CertificateError::InvalidPurposeContext { .. }),
            "{server:?}"
        );
        let garbage = refused(CertificateDer::from(vec![1, 2, 3]));
        assert_eq!(garbage, CertificateError::BadEncoding);
    }

    #[test]
    fn a_front_proxy_needs_an_allowed_name_if_any_are_listed() {
        let ca = Ca::new("proxies");
        let leaf = ca.leaf(&[(DnType::CommonName, "proxy")]);
        let verdict = |names| {
            let trust = trust("requestheader-client-ca-file", &ca, names);
            judge(std::slice::from_ref(&leaf), &[], &trust, NOW)
        };
        assert_eq!(verdict("[]").front_proxy, Some(Ok(())));
        assert_eq!(verdict(r#"["other","proxy"]"#).front_proxy, Some(Ok(())));
        let fault = CertificateFault::NameNotAllowed("proxy".to_owned());
        assert_eq!(verdict(r#"["other"]"#).front_proxy, Some(Err(fault)));
        assert!(
            verdict("[]").user.is_none(),
            "no authority for users is known"
        );
    }
}
