//! A small certificate authority, for those who have no other: development, the demo, self-signed serving, tests.
//!
//! Keys exist in memory and in the hands of the caller; nothing here writes a file. All keys are ECDSA P-256.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::model::time::Timestamp;

/// By how much a certificate is dated back, for peers whose clocks are behind.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// Why a certificate cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// It cannot be made: a bad name, or no random numbers.
    #[error("certificate cannot be made")]
    Make(#[source] rcgen::Error),
    /// The text is not a certificate in PEM.
    #[error("certificate is not PEM")]
    Pem(#[source] pem::Error),
    /// The certificate is not X.509.
    #[error("certificate is not x509")]
    X509,
    /// The certificate may not sign others.
    #[error("certificate is not that of an authority")]
    NotAuthority,
    /// The authority's name has a part twice, or parts that stand together: leaves would not chain to it.
    #[error("name of the authority cannot be repeated in the certificates it signs")]
    UnusableName,
    /// The key cannot be read, or is not the authority's.
    #[error("key is not the authority's")]
    WrongKey,
}

/// From when until when a certificate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Not before this time.
    pub not_before: Timestamp,
    /// Not after this time.
    pub not_after: Timestamp,
}

impl Validity {
    /// Reads it from the first certificate of a PEM text.
    ///
    /// # Errors
    ///
    /// The text holds no certificate.
    pub fn of_pem(certificate: &str) -> Result<Self, PkiError> {
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(PkiError::Pem)?;
        Self::of_der(&der)
    }

    pub(super) fn of_der(certificate: &CertificateDer<'_>) -> Result<Self, PkiError> {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| PkiError::X509)?;
        let at = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1000));
        Ok(Self {
            not_before: at(parsed.validity().not_before.timestamp()),
            not_after: at(parsed.validity().not_after.timestamp()),
        })
    }

    /// Whether two thirds of the life are over.
    pub fn needs_renewal(&self, now: Timestamp) -> bool {
        let life = self.not_after.since(self.not_before);
        now.since(self.not_before) >= life * 2 / 3
    }
}

/// A certificate and its private key. `Debug` shows the former only.
#[derive(Clone)]
pub struct Pair {
    /// The certificate in PEM.
    pub certificate: String,
    /// The private key in PEM (PKCS#8).
    pub key: String,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// A certificate authority with its key. `Debug` does not show the key.
#[derive(Debug)]
pub struct Authority {
    certificate: String,
    validity: Validity,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new authority that signs itself.
    ///
    /// # Errors
    ///
    /// The system gives no random numbers.
    pub fn generate(name: &str, life: Duration, now: Timestamp) -> Result<Self, PkiError> {
        let key = KeyPair::generate().map_err(PkiError::Make)?;
        let validity = Validity {
            not_before: now.minus(CLOCK_SKEW),
            not_after: now.plus(life),
        };
        let mut params = params(validity, name, None);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        let certificate = params.self_signed(&key).map_err(PkiError::Make)?.pem();
        Ok(Self {
            certificate,
            validity,
            issuer: Issuer::new(params, key),
        })
    }

    /// An authority that was made before, to sign again. Of a bundle it is the first certificate; the others are left out.
    ///
    /// # Errors
    ///
    /// One of the texts cannot be read, or they do not go together.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, PkiError> {
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(PkiError::Pem)?;
        let key = KeyPair::from_pem(key).map_err(|_| PkiError::WrongKey)?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| PkiError::X509)?;
        if !parsed.is_ca() {
            return Err(PkiError::NotAuthority);
        }
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(PkiError::WrongKey);
        }
        // rcgen keeps one value of each kind, and would sign under another name without a word.
        let parts: Vec<_> = parsed
            .subject()
            .iter_attributes()
            .map(|part| part.attr_type())
            .collect();
        let repeated = (1..parts.len()).any(|index| parts[..index].contains(&parts[index]));
        if repeated || parsed.subject().iter().count() != parts.len() {
            return Err(PkiError::UnusableName);
        }
        const END: &str = "-----END CERTIFICATE-----\n";
        let end = certificate
            .find(END)
            .map_or(certificate.len(), |at| at + END.len());
        Ok(Self {
            certificate: certificate[..end].to_owned(),
            validity: Validity::of_der(&der)?,
            issuer: Issuer::from_ca_cert_der(&der, key).map_err(PkiError::Make)?,
        })
    }

    /// The authority's certificate in PEM: what others are to trust (a `caBundle`).
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The authority's private key in PEM. Who has it can be anyone.
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// When the authority's certificate is valid.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// A pair to serve with, under each of the DNS names and IP addresses.
    ///
    /// # Errors
    ///
    /// One of the hosts is neither.
    pub fn serving(
        &self,
        hosts: &[impl AsRef<str>],
        life: Duration,
        now: Timestamp,
    ) -> Result<Pair, PkiError> {
        let hosts: Vec<String> = hosts.iter().map(|host| host.as_ref().to_owned()).collect();
        let names = CertificateParams::new(hosts).map_err(PkiError::Make)?;
        let mut params = params(self.leaf_validity(life, now), "gpu-metrics-adapter", None);
        params.subject_alt_names = names.subject_alt_names;
        self.sign(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A pair with which a client is the user `name`, in `group` if one is given.
    ///
    /// # Errors
    ///
    /// The system gives no random numbers.
    pub fn client(
        &self,
        name: &str,
        group: Option<&str>,
        life: Duration,
        now: Timestamp,
    ) -> Result<Pair, PkiError> {
        let params = params(self.leaf_validity(life, now), name, group);
        self.sign(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// No leaf outlives its authority.
    fn leaf_validity(&self, life: Duration, now: Timestamp) -> Validity {
        Validity {
            not_before: now.minus(CLOCK_SKEW),
            not_after: now.plus(life).min(self.validity.not_after),
        }
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<Pair, PkiError> {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(PkiError::Make)?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(PkiError::Make)?;
        Ok(Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn params(validity: Validity, name: &str, organization: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    let at = |time: Timestamp| {
        let seconds = u64::try_from(time.as_seconds()).unwrap_or(0);
        (UNIX_EPOCH + Duration::from_secs(seconds)).into()
    };
    params.not_before = at(validity.not_before);
    params.not_after = at(validity.not_after);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(organization) = organization {
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
    }
    params
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn an_authority_read_from_pem_signs_on() {
        let now = Timestamp::from_millis(1_795_464_000_000);
        let made = Authority::generate("test-ca", 10 * DAY, now).unwrap();
        let read = Authority::from_pem(made.certificate(), &made.key()).unwrap();
        assert_eq!(read.validity(), made.validity());
        let pair = read
            .serving(&["adapter.ns.svc", "127.0.0.1"], DAY, now)
            .unwrap();
        let validity = Validity::of_pem(&pair.certificate).unwrap();
        assert_eq!(validity.not_after, now.plus(DAY));
        assert!(!format!("{pair:?}{read:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_leaf_does_not_outlive_its_authority() {
        let now = Timestamp::from_millis(1_795_464_000_000);
        let authority = Authority::generate("test-ca", DAY, now).unwrap();
        let pair = authority.client("alice", Some("a"), 2 * DAY, now).unwrap();
        let validity = Validity::of_pem(&pair.certificate).unwrap();
        assert_eq!(validity.not_after, now.plus(DAY));
    }

    #[test]
    fn a_certificate_and_a_key_that_do_not_belong_together_are_no_authority() {
        let now = Timestamp::now();
        let [one, other] =
            ["one", "other"].map(|name| Authority::generate(name, DAY, now).unwrap());
        let mixed = Authority::from_pem(one.certificate(), &other.key());
        assert!(matches!(mixed, Err(PkiError::WrongKey)), "{mixed:?}");
        let leaf = one.client("alice", None, DAY, now).unwrap();
        let leaf = Authority::from_pem(&leaf.certificate, &leaf.key);
        assert!(matches!(leaf, Err(PkiError::NotAuthority)), "{leaf:?}");
    }

    #[test]
    fn renewal_is_due_at_two_thirds_of_the_life() {
        let at = Timestamp::from_millis;
        let validity = Validity {
            not_before: at(1_000),
            not_after: at(4_000),
        };
        assert!(!validity.needs_renewal(at(0)));
        assert!(!validity.needs_renewal(at(2_999)));
        assert!(validity.needs_renewal(at(3_000)));
        assert!(validity.needs_renewal(at(9_000)));
    }
}
