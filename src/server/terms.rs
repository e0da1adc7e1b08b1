//! Which TLS is spoken to clients, where less is wanted than all that is safe.

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

/// Versions and cipher suites. By default TLS 1.2 and 1.3, with forward secrecy and authenticated encryption only.
#[derive(Clone, Debug, Default)]
pub struct TlsTerms {
    /// No version before 1.3.
    pub only_tls13: bool,
    /// Of TLS 1.2 only these suites, by their IANA names, or as Go shortens them; `None`: all. Those of TLS 1.3 are not a
    /// matter of choice (Go's `tls.Config.CipherSuites`, which this is called after in kube-apiserver's flags).
    pub suites: Option<Vec<String>>,
}

impl TlsTerms {
    /// The suites that were named and are not spoken here.
    pub fn unknown(&self) -> Vec<&str> {
        let provider = aws_lc_rs::default_provider();
        let known = |name: &str| {
            provider
                .cipher_suites
                .iter()
                .any(|suite| is_named(suite, name))
        };
        let named = self.suites.iter().flatten().map(String::as_str);
        named.filter(|name| !known(name)).collect()
    }

    pub(super) fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
        if self.only_tls13 { &BOTH[..1] } else { &BOTH }
    }

    /// Leaves out what may not be spoken.
    pub(super) fn restrict(&self, provider: &mut CryptoProvider) {
        let Some(names) = &self.suites else { return };
        provider.cipher_suites.retain(|suite| {
            suite.tls13().is_some() || names.iter().any(|name| is_named(suite, name))
        });
    }
}

/// Go calls ChaCha20's suites of TLS 1.2 without their hash, too.
fn is_named(suite: &SupportedCipherSuite, name: &str) -> bool {
    let own = suite.suite().as_str().unwrap_or_default();
    // rustls marks those of 1.3 in their names.
    let own = own.replace("TLS13_", "TLS_");
    own == name || (name.ends_with("_POLY1305") && own.strip_suffix("_SHA256") == Some(name))
}
