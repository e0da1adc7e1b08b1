//! `externalFallback`: another adapter's `external.metrics.k8s.io`, behind ours.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use url::Url;

use super::Fault;
use super::scrape::http::{Authorization, HttpConfig, TlsConfig};
use super::scrape::units;

/// The token of a pod's service account.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Another adapter that external metrics are had from which no rule here offers. A cluster has one owner of
/// `external.metrics.k8s.io`; so KEDA's or Datadog's can live beside this one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ExternalFallback {
    /// Where it serves, such as `https://keda-operator-metrics-apiserver.keda.svc`. Only `https`, and its certificate is always
    /// verified.
    pub url: String,
    /// Authorities, a certificate of ours, the server's name. Default: the system's authorities.
    #[serde(rename = "tls_config")]
    pub tls: TlsConfig,
    /// The header `Authorization`. Default: none where `tls_config` has a certificate, else the token of the pod's service account.
    pub authorization: Option<Authorization>,
    /// Whether it is asked as the caller, by impersonation, which needs the right to impersonate there. Default `false`: it is asked
    /// as the adapter, once the caller has been allowed the same here.
    pub impersonate: bool,
    /// How long an answer may take. Default `5s`.
    #[serde(deserialize_with = "units::duration")]
    pub timeout: Duration,
}

impl Default for ExternalFallback {
    fn default() -> Self {
        Self {
            url: String::new(),
            tls: TlsConfig::default(),
            authorization: None,
            impersonate: false,
            timeout: Duration::from_secs(5),
        }
    }
}

impl ExternalFallback {
    /// How it is spoken to.
    pub fn http(&self) -> HttpConfig {
        let shows_certificate = self.tls.cert.is_some() || self.tls.cert_file.is_some();
        let token = || Authorization {
            credentials_file: Some(PathBuf::from(TOKEN)),
            ..Authorization::default()
        };
        HttpConfig {
            authorization: match &self.authorization {
                None if !shows_certificate => Some(token()),
                written => written.clone(),
            },
            tls: self.tls.clone(),
            ..HttpConfig::default()
        }
    }

    /// All that is wrong with the section.
    pub(super) fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        self.http().validate("externalFallback", &mut faults);
        let mut fault = |field: &str, message: &str| {
            faults.push(Fault::new(format!("externalFallback.{field}"), message));
        };
        let url = Url::parse(&self.url);
        if !url.is_ok_and(|url| url.scheme() == "https" && url.has_host()) {
            fault("url", "is needed, and begins with https://");
        }
        if self.tls.insecure_skip_verify {
            let message = "cannot be: what it says scales workloads. Give ca_file, and server_name if need be";
            fault("tls_config.insecure_skip_verify", message);
        }
        if self.timeout.is_zero() {
            fault("timeout", "must be more than 0");
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn read(section: &str) -> (ExternalFallback, Vec<String>) {
        let config =
            Config::parse(&format!("externalFallback: {section}")).expect("the form is right");
        let faults = config.validate().iter().map(Fault::to_string).collect();
        (config.external_fallback.expect("there is one"), faults)
    }

    #[test]
    fn the_pods_token_is_shown_unless_something_else_is() {
        let (plain, faults) = read("{url: 'https://keda.keda.svc'}");
        let file = plain
            .http()
            .authorization
            .and_then(|it| it.credentials_file);
        assert_eq!((file, faults.len()), (Some(PathBuf::from(TOKEN)), 0));
        let (shown, _) =
            read("{url: 'https://keda.keda.svc', tls_config: {cert_file: a, key_file: b}}");
        assert_eq!(shown.http().authorization, None);
    }

    #[test]
    fn it_is_never_asked_without_a_verified_certificate() {
        let (_, faults) = read(
            "{url: 'http://keda.keda.svc', timeout: 0s, tls_config: {insecure_skip_verify: true}}",
        );
        assert_eq!(
            faults,
            [
                "externalFallback.url: is needed, and begins with https://",
                "externalFallback.tls_config.insecure_skip_verify: cannot be: what it says scales workloads. Give ca_file, and server_name if need be",
                "externalFallback.timeout: must be more than 0",
            ]
        );
    }
}
