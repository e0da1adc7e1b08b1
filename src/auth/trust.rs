//! Whom to believe: the ConfigMap `kube-system/extension-apiserver-authentication`, parsed.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderName;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};

use super::headers::IdentityHeaders;

/// The certificate authorities and header names that prove an identity. The default trusts nobody.
///
/// The two authorities are kept apart on purpose: in one pool, any client of the cluster could speak as anyone.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Vouches for the subject of a client certificate.
    pub(super) clients: Option<Arc<dyn ClientCertVerifier>>,
    /// Vouches for the front proxy, whose headers are then believed.
    pub(super) front_proxy: Option<Arc<dyn ClientCertVerifier>>,
    /// The common names a front proxy may have; empty means any.
    pub(super) allowed_names: Vec<String>,
    pub(super) headers: IdentityHeaders,
}

/// Why the ConfigMap says nothing usable. Nothing of it is taken then.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The text is not PEM.
    #[error("{key}: not PEM")]
    Pem {
        /// The ConfigMap's key.
        key: &'static str,
        /// Where it broke.
        #[source]
        source: pem::Error,
    },
    /// The PEM text holds no certificate.
    #[error("{0}: no certificate in it")]
    NoCertificate(&'static str),
    /// A certificate cannot serve as an authority.
    #[error("{key}: certificate {position} is not usable as an authority")]
    Certificate {
        /// The ConfigMap's key.
        key: &'static str,
        /// Which certificate, from 1.
        position: usize,
        /// What is wrong with it.
        #[source]
        source: rustls::Error,
    },
    /// No verifier can be made of the certificates.
    #[error("{key}: no verifier for these authorities")]
    Verifier {
        /// The ConfigMap's key.
        key: &'static str,
        /// What is wrong with them.
        #[source]
        source: VerifierBuilderError,
    },
    /// A list is not a JSON array of strings.
    #[error("{key}: not a list of strings in JSON")]
    List {
        /// The ConfigMap's key.
        key: &'static str,
        /// Where it broke.
        #[source]
        source: serde_json::Error,
    },
    /// A listed name cannot be that of an HTTP header.
    #[error("{key}: {name:?} is not the name of a header")]
    HeaderName {
        /// The ConfigMap's key.
        key: &'static str,
        /// The name in question.
        name: String,
    },
}

impl Trust {
    /// Reads the ConfigMap's `data`. A missing or empty key means that this kind of proof is not accepted.
    ///
    /// # Errors
    ///
    /// A key that is there and cannot be understood; the trust that was in force should stay.
    pub fn from_config_map(data: &BTreeMap<String, String>) -> Result<Self, TrustError> {
        Ok(Self {
            clients: authorities(data, "client-ca-file")?,
            front_proxy: authorities(data, "requestheader-client-ca-file")?,
            allowed_names: list(data, "requestheader-allowed-names")?,
            headers: IdentityHeaders {
                user: header_names(data, "requestheader-username-headers")?,
                uid: header_names(data, "requestheader-uid-headers")?,
                group: header_names(data, "requestheader-group-headers")?,
                extra_prefixes: list(data, "requestheader-extra-headers-prefix")?
                    .into_iter()
                    .map(|prefix| prefix.to_ascii_lowercase())
                    .filter(|prefix| !prefix.is_empty())
                    .collect(),
            },
        })
    }
}

fn value<'a>(data: &'a BTreeMap<String, String>, key: &str) -> Option<&'a str> {
    data.get(key)
        .map(String::as_str)
        .filter(|text| !text.trim().is_empty())
}

fn authorities(
    data: &BTreeMap<String, String>,
    key: &'static str,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TrustError> {
    let Some(text) = value(data, key) else {
        return Ok(None);
    };
    let mut roots = RootCertStore::empty();
    for (index, certificate) in CertificateDer::pem_slice_iter(text.as_bytes()).enumerate() {
        let certificate = certificate.map_err(|source| TrustError::Pem { key, source })?;
        roots
            .add(certificate)
            .map_err(|source| TrustError::Certificate {
                key,
                position: index + 1,
                source,
            })?;
    }
    if roots.is_empty() {
        return Err(TrustError::NoCertificate(key));
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier: Arc<dyn ClientCertVerifier> =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|source| TrustError::Verifier { key, source })?;
    Ok(Some(verifier))
}

fn list(data: &BTreeMap<String, String>, key: &'static str) -> Result<Vec<String>, TrustError> {
    match value(data, key) {
        // `null` is how Go writes a list that was never made.
        Some(text) => serde_json::from_str::<Option<Vec<String>>>(text)
            .map(Option::unwrap_or_default)
            .map_err(|source| TrustError::List { key, source }),
        None => Ok(Vec::new()),
    }
}

fn header_names(
    data: &BTreeMap<String, String>,
    key: &'static str,
) -> Result<Vec<HeaderName>, TrustError> {
    list(data, key)?
        .into_iter()
        .map(|name| {
            HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| TrustError::HeaderName { key, name })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entries: &[(&str, &str)]) -> Result<Trust, TrustError> {
        let data = entries
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        Trust::from_config_map(&data)
    }

    fn authority() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn an_empty_config_map_trusts_nobody() {
        let trust = read(&[("client-ca-file", ""), ("requestheader-allowed-names", "")]).unwrap();
        assert!(trust.clients.is_none() && trust.front_proxy.is_none());
        assert!(trust.headers.user.is_empty());
    }

    #[test]
    fn every_certificate_of_a_bundle_is_an_authority() {
        let bundle = format!("# old\n{}\n# new\n{}", authority(), authority());
        let trust = read(&[("client-ca-file", &bundle)]).unwrap();
        assert_eq!(trust.clients.unwrap().root_hint_subjects().len(), 2);
        assert!(trust.front_proxy.is_none());
    }

    #[test]
    fn lists_are_read_as_the_kube_apiserver_writes_them() {
        let trust = read(&[
            (
                "requestheader-username-headers",
                r#"["X-Remote-User","X-User"]"#,
            ),
            ("requestheader-group-headers", "null"),
            (
                "requestheader-extra-headers-prefix",
                r#"["X-Remote-Extra-"]"#,
            ),
            ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
        ])
        .unwrap();
        assert_eq!(trust.headers.user, ["x-remote-user", "x-user"]);
        assert!(trust.headers.group.is_empty() && trust.headers.uid.is_empty());
        assert_eq!(trust.headers.extra_prefixes, ["x-remote-extra-"]);
        assert_eq!(trust.allowed_names, ["front-proxy-client"]);
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        let message = |entries: &[(&str, &str)]| read(entries).unwrap_err().to_string();
        assert_eq!(
            message(&[("client-ca-file", "hello")]),
            "client-ca-file: no certificate in it"
        );
        let bad = format!(
            "{}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            authority()
        );
        assert_eq!(
            message(&[("requestheader-client-ca-file", &bad)]),
            "requestheader-client-ca-file: certificate 2 is not usable as an authority"
        );
        assert_eq!(
            message(&[("requestheader-allowed-names", "front-proxy-client")]),
            "requestheader-allowed-names: not a list of strings in JSON"
        );
        assert_eq!(
            message(&[("requestheader-group-headers", r#"["X Group"]"#)]),
            r#"requestheader-group-headers: "X Group" is not the name of a header"#
        );
    }
}
