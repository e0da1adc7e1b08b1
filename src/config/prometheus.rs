//! The `prometheus:` section: servers with Prometheus's HTTP API that rules may be asked of. The keys that Prometheus has
//! too are called as there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use url::Url;

use super::Fault;
use super::scrape::http::{Authorization, BasicAuth, HttpConfig, Secret, TlsConfig};
use super::scrape::units;

/// The name of the engine inside, which no backend can have.
pub const EMBEDDED: &str = "embedded";

/// The most that `timeout` can be: an answer of the API has two seconds, and the reason for there being none is one too.
const MOST_TIMEOUT: Duration = Duration::from_millis(1_800);

/// One of `prometheus`: a backend, which may have several replicas that hold the same.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backend {
    /// What rules call it in their `engine`. Default `prometheus`; no two backends share one.
    pub name: String,
    /// The base URL, or a list of those of replicas. The next one is asked where one fails.
    #[serde(deserialize_with = "one_or_many")]
    pub url: Vec<String>,
    /// User name and password.
    pub basic_auth: Option<BasicAuth>,
    /// The header `Authorization`.
    pub authorization: Option<Authorization>,
    /// A token by OAuth 2.0's client credentials.
    pub oauth2: Option<OAuth2>,
    /// For `https`: authorities, a certificate of ours, the server's name. Default: the system's authorities.
    pub tls_config: TlsConfig,
    /// Further headers, such as `X-Scope-OrgID`.
    pub headers: BTreeMap<String, Secret>,
    /// `POST` (the default), or `GET` where something in between lets nothing else through.
    pub http_method: Method,
    /// How long one query may take, attempts at all replicas together. Default, and most, `1800ms`.
    #[serde(deserialize_with = "units::duration")]
    pub timeout: Duration,
    /// Most queries at a time; the others wait for their turn. Default 20, as many as a Prometheus answers at a time.
    pub max_concurrency: usize,
    /// Largest answer to a query, decompressed. Default `16MB`.
    #[serde(deserialize_with = "units::size")]
    pub body_size_limit: u64,
    /// How often it is looked up which series there are. A metric that is asked for and not known is looked up at once.
    /// Default `1m`.
    #[serde(deserialize_with = "units::duration")]
    pub series_interval: Duration,
    /// How far back a series' last sample may lie for its metric to be offered. Default `5m`.
    #[serde(deserialize_with = "units::duration")]
    pub series_max_age: Duration,
    /// How long a lookup of series may take. Default `30s`.
    #[serde(deserialize_with = "units::duration")]
    pub series_timeout: Duration,
}

impl Default for Backend {
    fn default() -> Self {
        Self {
            name: "prometheus".to_owned(),
            url: Vec::new(),
            basic_auth: None,
            authorization: None,
            oauth2: None,
            tls_config: TlsConfig::default(),
            headers: BTreeMap::new(),
            http_method: Method::Post,
            timeout: MOST_TIMEOUT,
            max_concurrency: 20,
            body_size_limit: 16 << 20,
            series_interval: Duration::from_secs(60),
            series_max_age: Duration::from_secs(300),
            series_timeout: Duration::from_secs(30),
        }
    }
}

/// How a query is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// In the body, however long it is.
    Post,
    /// In the URL.
    Get,
}

/// `oauth2`: where a token is had, and for what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OAuth2 {
    /// Who asks.
    pub client_id: String,
    /// The secret that proves it.
    pub client_secret: Option<Secret>,
    /// A file with it, read for each token.
    pub client_secret_file: Option<PathBuf>,
    /// What the token is to be good for.
    pub scopes: Vec<String>,
    /// Where it is had.
    pub token_url: String,
    /// Further parameters of that request.
    pub endpoint_params: BTreeMap<String, String>,
    /// How TLS is spoken there. Default: the system's authorities.
    pub tls_config: TlsConfig,
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a URL, or a list of URLs")]
    enum Urls {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Urls::deserialize(deserializer)? {
        Urls::One(url) => vec![url],
        Urls::Many(urls) => urls,
    })
}

impl Backend {
    /// How it is spoken to.
    pub fn http(&self) -> HttpConfig {
        HttpConfig {
            basic_auth: self.basic_auth.clone(),
            authorization: self.authorization.clone(),
            tls: self.tls_config.clone(),
            ..HttpConfig::default()
        }
    }
}

impl OAuth2 {
    /// How the server of tokens is spoken to.
    pub fn http(&self) -> HttpConfig {
        HttpConfig {
            tls: self.tls_config.clone(),
            ..HttpConfig::default()
        }
    }
}

/// All that is wrong with the section.
pub(super) fn validate(backends: &[Backend]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (index, backend) in backends.iter().enumerate() {
        let path = format!("prometheus[{index}]");
        backend.validate(&path, &mut faults);
        if backends[..index].iter().any(|it| it.name == backend.name) {
            let message = format!("another backend is called {:?} too", backend.name);
            faults.push(Fault::new(format!("{path}.name"), message));
        }
    }
    faults
}

impl Backend {
    fn validate(&self, path: &str, faults: &mut Vec<Fault>) {
        self.http().validate(path, faults);
        let mut fault = |field: &str, message: &str| {
            faults.push(Fault::new(format!("{path}.{field}"), message));
        };
        if self.name.is_empty() || self.name == EMBEDDED {
            fault("name", "is needed, and \"embedded\" is the engine inside");
        }
        if self.url.is_empty() {
            fault("url", "is needed");
        }
        if self.url.iter().any(|url| !is_http(url)) {
            fault("url", "is not a URL that begins with http:// or https://");
        }
        let name = &self.tls_config.server_name;
        if name.parse::<std::net::IpAddr>().is_ok() {
            fault("tls_config.server_name", "is an address and not a name");
        }
        for (field, zero) in [
            ("timeout", self.timeout.is_zero()),
            ("max_concurrency", self.max_concurrency == 0),
            ("body_size_limit", self.body_size_limit == 0),
            ("series_interval", self.series_interval.is_zero()),
            ("series_max_age", self.series_max_age.is_zero()),
            ("series_timeout", self.series_timeout.is_zero()),
        ] {
            if zero {
                fault(field, "must be more than 0");
            }
        }
        if self.timeout > MOST_TIMEOUT {
            fault("timeout", "is more than 1800ms: an answer has 2 s");
        }
        for (name, value) in &self.headers {
            if http::HeaderName::try_from(name.as_str()).is_err()
                || http::HeaderValue::try_from(value.expose()).is_err()
            {
                fault("headers", &format!("{name:?} is not a header"));
            }
        }
        let Some(oauth2) = &self.oauth2 else { return };
        if self.basic_auth.is_some() || self.authorization.is_some() {
            let message =
                "there is basic_auth or authorization too; one of them is all there can be";
            fault("oauth2", message);
        }
        if oauth2.client_id.is_empty() {
            fault("oauth2.client_id", "is needed");
        }
        if !is_http(&oauth2.token_url) {
            let message = "is not a URL that begins with http:// or https://";
            fault("oauth2.token_url", message);
        }
        if oauth2.client_secret.is_some() == oauth2.client_secret_file.is_some() {
            let message = "client_secret or client_secret_file is needed, and not both";
            fault("oauth2", message);
        }
        oauth2.http().validate(&format!("{path}.oauth2"), faults);
    }
}

fn is_http(url: &str) -> bool {
    let is_ours = |url: Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    Url::parse(url).is_ok_and(is_ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn faults(section: &str) -> Vec<String> {
        let config = Config::parse(&format!("prometheus: {section}")).expect("the form is right");
        config.validate().iter().map(Fault::to_string).collect()
    }

    #[test]
    fn a_backend_has_one_url_or_several() {
        let config = Config::parse(
            "prometheus: [{url: 'http://a:9090/prom'}, {name: b, url: [https://b0, https://b1]}]",
        );
        let config = config.expect("the form is right");
        assert_eq!(config.validate(), []);
        let urls: Vec<usize> = config.prometheus.iter().map(|it| it.url.len()).collect();
        assert_eq!(urls, [1, 2]);
        assert_eq!(config.prometheus[0].name, "prometheus");
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        assert_eq!(
            faults(
                "[{name: embedded, url: ftp://x, timeout: 5s}, {url: ['http://x', 'http://x:9090y'], max_concurrency: 0, headers: {'a b': c}}]"
            ),
            [
                "prometheus[0].name: is needed, and \"embedded\" is the engine inside",
                "prometheus[0].url: is not a URL that begins with http:// or https://",
                "prometheus[0].timeout: is more than 1800ms: an answer has 2 s",
                "prometheus[1].url: is not a URL that begins with http:// or https://",
                "prometheus[1].max_concurrency: must be more than 0",
                "prometheus[1].headers: \"a b\" is not a header",
            ]
        );
        assert_eq!(
            faults(
                "[{url: 'http://x', basic_auth: {username: u}, oauth2: {token_url: 'http://t', client_id: a}}, {url: 'http://y'}]"
            ),
            [
                "prometheus[0].oauth2: there is basic_auth or authorization too; one of them is all there can be",
                "prometheus[0].oauth2: client_secret or client_secret_file is needed, and not both",
                "prometheus[1].name: another backend is called \"prometheus\" too",
            ]
        );
    }
}
