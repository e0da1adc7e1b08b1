//! How a job's targets are spoken to: credentials, TLS, HTTP versions. Prometheus's `http_config`, key for key.
//!
//! Secrets are never shown: their [`Secret`] has no other way out than [`Secret::expose`]. Files are only named here; who
//! uses them reads them, again and again.

use std::fmt;
use std::path::PathBuf;

use rustls::pki_types::ServerName;
use serde::Deserialize;

use super::Fault;

/// The HTTP settings of a job, together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// User name and password.
    pub basic_auth: Option<BasicAuth>,
    /// The header `Authorization`.
    pub authorization: Option<Authorization>,
    /// For `https`.
    pub tls: TlsConfig,
    /// Whether HTTP/2 is offered to targets behind TLS.
    pub http2: bool,
    /// Whether redirects are followed; never to another host.
    pub follow_redirects: bool,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            basic_auth: None,
            authorization: None,
            tls: TlsConfig::default(),
            http2: true,
            follow_redirects: true,
        }
    }
}

/// A text that is never shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself, to be sent and not to be shown.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// `basic_auth`: a user name and a password, each written or in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BasicAuth {
    /// The user's name.
    pub username: Option<String>,
    /// A file with the user's name, read again for each scrape.
    pub username_file: Option<PathBuf>,
    /// The password.
    pub password: Option<Secret>,
    /// A file with the password, read again for each scrape.
    pub password_file: Option<PathBuf>,
}

/// `authorization`: the header of that name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Authorization {
    /// The scheme before the credentials. Default `Bearer`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The credentials.
    pub credentials: Option<Secret>,
    /// A file with the credentials, read again for each scrape.
    pub credentials_file: Option<PathBuf>,
}

impl Default for Authorization {
    fn default() -> Self {
        Self {
            kind: "Bearer".to_owned(),
            credentials: None,
            credentials_file: None,
        }
    }
}

/// `tls_config`: whom a target must prove to be, and what this program shows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// Authorities that vouch for the target, in PEM. Default: the system's.
    pub ca: Option<String>,
    /// A file with them, read again when it changes.
    pub ca_file: Option<PathBuf>,
    /// The certificate that is shown to the target, in PEM.
    pub cert: Option<String>,
    /// A file with it, read again when it changes.
    pub cert_file: Option<PathBuf>,
    /// The certificate's private key, in PEM.
    pub key: Option<Secret>,
    /// A file with it, read again when it changes.
    pub key_file: Option<PathBuf>,
    /// The name that the target's certificate must have. Default: the host of its URL.
    pub server_name: String,
    /// Whether any certificate is believed. Whoever sits between can then answer for the target, and reads the credentials.
    pub insecure_skip_verify: bool,
    /// The oldest version of TLS that is spoken.
    pub min_version: Option<TlsVersion>,
    /// The newest version of TLS that is spoken.
    pub max_version: Option<TlsVersion>,
}

/// Versions of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl TryFrom<String> for TlsVersion {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "TLS12" => Ok(Self::Tls12),
            "TLS13" => Ok(Self::Tls13),
            "TLS10" | "TLS11" => Err(format!("{text} is not spoken here; TLS12 and TLS13 are")),
            _ => Err(format!("{text:?} is not TLS12 or TLS13")),
        }
    }
}

impl HttpConfig {
    /// Adds all that is wrong with these settings (`common/config/http_config.go`, `Validate`); `path` is their job's place.
    pub(in crate::config) fn validate(&self, path: &str, faults: &mut Vec<Fault>) {
        let mut fault = |field: &str, message: &str| {
            faults.push(Fault::new(format!("{path}.{field}"), message));
        };
        if self.basic_auth.is_some() && self.authorization.is_some() {
            fault(
                "authorization",
                "there is basic_auth too; one of them is all there can be",
            );
        }
        let mut pairs = Vec::new();
        if let Some(auth) = &self.basic_auth {
            pairs.extend([
                (
                    "basic_auth.username_file",
                    auth.username.is_some(),
                    &auth.username_file,
                ),
                (
                    "basic_auth.password_file",
                    auth.password.is_some(),
                    &auth.password_file,
                ),
            ]);
        }
        if let Some(auth) = &self.authorization {
            if !is_token(&auth.kind) {
                fault("authorization.type", "is not one word");
            } else if auth.kind.eq_ignore_ascii_case("basic") {
                fault("authorization.type", "write basic_auth for that");
            }
            let written = auth.credentials.is_some();
            pairs.push((
                "authorization.credentials_file",
                written,
                &auth.credentials_file,
            ));
            if !written && auth.credentials_file.is_none() {
                fault("authorization", "needs credentials or credentials_file");
            }
        }
        let tls = &self.tls;
        pairs.extend([
            ("tls_config.ca_file", tls.ca.is_some(), &tls.ca_file),
            ("tls_config.cert_file", tls.cert.is_some(), &tls.cert_file),
            ("tls_config.key_file", tls.key.is_some(), &tls.key_file),
        ]);
        for (field, written, file) in pairs {
            let Some(file) = file else { continue };
            if written {
                fault(field, "is written out too; one of them is all there can be");
            }
            if !file.is_absolute() {
                fault(field, "is not an absolute path");
            }
        }
        let certificate = tls.cert.is_some() || tls.cert_file.is_some();
        if certificate != (tls.key.is_some() || tls.key_file.is_some()) {
            fault(
                "tls_config",
                "a certificate and its key are needed together",
            );
        }
        if !tls.server_name.is_empty() && ServerName::try_from(&*tls.server_name).is_err() {
            fault(
                "tls_config.server_name",
                "is no name that a certificate can have",
            );
        }
        if let (Some(min), Some(max)) = (tls.min_version, tls.max_version)
            && min > max
        {
            fault("tls_config.min_version", "is more than max_version");
        }
    }
}

/// Whether `text` can stand before credentials (RFC 9110, `token`).
fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}
