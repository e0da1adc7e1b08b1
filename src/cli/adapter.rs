//! prometheus-adapter's flags (`cmd/adapter/adapter.go`, and those of its API server library), by their names and with their
//! meaning, so that this program takes its place in an installation as it is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tracing::warn;

use crate::cluster::{self, AccessError};
use crate::config::prometheus::{Backend, Method};
use crate::config::scrape::ScrapeConfig;
use crate::config::scrape::http::{Authorization, HttpConfig, Secret};
use crate::config::{Compat, Config};
use crate::server::TlsTerms;

use super::serve::duration;

/// The token of a pod's service account, and the authority of the cluster.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "As prometheus-adapter has them")]
pub(super) struct AdapterFlags {
    /// The base URL of a Prometheus that answers the file's rules: a first entry of `prometheus:`. Exporters are then not
    /// scraped, unless the file has a section `scrape`.
    #[arg(long, value_name = "URL")]
    prometheus_url: Option<String>,
    /// Show the service account's token to Prometheus, and trust the cluster's authority.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", action = clap::ArgAction::Set, hide_default_value = true)]
    prometheus_auth_incluster: bool,
    /// A kubeconfig whose current context says whom to trust and as whom to come to Prometheus; the server is the URL's.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "prometheus_auth_incluster"
    )]
    prometheus_auth_config: Option<PathBuf>,
    /// What it says, once it has been read.
    #[arg(skip)]
    access: HttpConfig,
    /// The authorities that vouch for Prometheus.
    #[arg(long, value_name = "FILE")]
    prometheus_ca_file: Option<PathBuf>,
    /// A certificate to show to Prometheus; read again when it changes.
    #[arg(long, value_name = "FILE", requires = "prometheus_client_tls_key_file")]
    prometheus_client_tls_cert_file: Option<PathBuf>,
    /// The certificate's private key.
    #[arg(
        long,
        value_name = "FILE",
        requires = "prometheus_client_tls_cert_file"
    )]
    prometheus_client_tls_key_file: Option<PathBuf>,
    /// A file with a token for Prometheus; read again for each request.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "prometheus_auth_incluster"
    )]
    prometheus_token_file: Option<PathBuf>,
    /// A header for Prometheus, NAME=VALUE; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = header, value_delimiter = ',')]
    prometheus_header: Vec<(String, String)>,
    /// How Prometheus is asked. Default: POST.
    #[arg(long, value_name = "METHOD", ignore_case = true)]
    prometheus_verb: Option<Verb>,
    /// How often the catalog of metrics is made anew: series_interval of the backend.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    metrics_relist_interval: Option<Duration>,
    /// How far back a series' last sample may lie: series_max_age of the backend. Default: the relist interval.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    metrics_max_age: Option<Duration>,
    /// Where prometheus-adapter keeps a certificate that it makes for itself. Here one is made at each start and kept in no
    /// Secret, and no caBundle is written, unless there are files apiserver.crt and apiserver.key.
    #[arg(long, value_name = "FOLDER", conflicts_with = "tls_cert_file")]
    pub(super) cert_dir: Option<PathBuf>,
    /// The oldest version of TLS that is spoken to clients; none before 1.2 is.
    #[arg(long, value_name = "VERSION")]
    tls_min_version: Option<TlsVersion>,
    /// The cipher suites of TLS 1.2 that are spoken to clients, by commas; those of TLS 1.3 stay, as in Go.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    tls_cipher_suites: Vec<String>,
    /// Values as this adapter computes them: compat of the configuration.
    #[arg(long, value_name = "ADAPTER")]
    compat: Option<CompatName>,
    /// How much klog would log: from 6 on, debug.
    #[arg(long, short = 'v', value_name = "NUMBER")]
    v: Option<u8>,
    #[command(flatten)]
    unused: Unused,
    /// What prometheus-adapter ignores too: its Helm chart passes its own name.
    #[arg(hide = true)]
    positional: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Verb {
    Get,
    Post,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CompatName {
    PrometheusAdapter,
}

/// As Go calls them, in kube-apiserver's flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TlsVersion {
    #[value(name = "VersionTLS10")]
    Tls10,
    #[value(name = "VersionTLS11")]
    Tls11,
    #[value(name = "VersionTLS12")]
    Tls12,
    #[value(name = "VersionTLS13")]
    Tls13,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    if name.is_empty() {
        return Err("must be NAME=VALUE".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// Flags that are taken and do nothing, each with the reason.
macro_rules! unused {
    ($($field:ident, $flag:literal, $reason:literal;)*) => {
        /// Taken, so that an installation's arguments can stay as they are.
        #[derive(Clone, Debug, Default, Args)]
        struct Unused {
            $(#[arg(long = $flag, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
            $field: Vec<String>,)*
        }

        impl Unused {
            /// Those that were given, with the reason why they do nothing.
            fn given(&self) -> Vec<(&'static str, &'static str)> {
                let mut given = Vec::new();
                $(if !self.$field.is_empty() {
                    given.push((concat!("--", $flag), $reason));
                })*
                given
            }
        }
    };
}

unused! {
    disable_http2, "disable-http2", "streams and resets are bounded, which is what it is for";
    discovery_interval, "discovery-interval", "new resources are found by themselves";
    client_qps, "client-qps", "objects come from watches, not from requests";
    client_burst, "client-burst", "objects come from watches, not from requests";
    sni, "tls-sni-cert-key", "one certificate is shown to all";
    max_streams, "http2-max-streams-per-connection", "streams are bounded already";
    address_sharing, "permit-address-sharing", "a new replica has an address of its own";
    port_sharing, "permit-port-sharing", "a new replica has an address of its own";
    authentication_kubeconfig, "authentication-kubeconfig", "tokens are reviewed with --kubeconfig";
    authentication_skip_lookup, "authentication-skip-lookup", "the cluster's ConfigMap says whom to trust";
    authentication_tolerate, "authentication-tolerate-lookup-failure", "it serves without, and trusts nobody until it is there";
    authentication_ttl, "authentication-token-webhook-cache-ttl", "a review counts for 10 s";
    client_ca, "client-ca-file", "the cluster's ConfigMap says whom to trust";
    requestheader_ca, "requestheader-client-ca-file", "the cluster's ConfigMap says whom to trust";
    requestheader_names, "requestheader-allowed-names", "the cluster's ConfigMap says whom to trust";
    requestheader_user, "requestheader-username-headers", "the cluster's ConfigMap says which";
    requestheader_group, "requestheader-group-headers", "the cluster's ConfigMap says which";
    requestheader_extra, "requestheader-extra-headers-prefix", "the cluster's ConfigMap says which";
    authorization_kubeconfig, "authorization-kubeconfig", "rights are reviewed with --kubeconfig";
    authorization_always, "authorization-always-allow-paths", "health is open to all, and nothing else";
    authorization_ttl, "authorization-webhook-cache-authorized-ttl", "a review counts for 10 s";
    authorization_refused_ttl, "authorization-webhook-cache-unauthorized-ttl", "a review counts for 10 s";
    audit_path, "audit-log-path", "see --audit-log";
    audit_policy, "audit-policy-file", "see --audit-log";
    audit_format, "audit-log-format", "see --audit-log";
    audit_age, "audit-log-maxage", "see --audit-log";
    audit_backup, "audit-log-maxbackup", "see --audit-log";
    audit_size, "audit-log-maxsize", "see --audit-log";
    profiling, "profiling", "there is no profiling endpoint";
    contention, "contention-profiling", "there is no profiling endpoint";
    debug_socket, "debug-socket-path", "see --debug-address";
    fairness, "enable-priority-and-fairness", "requests in flight are bounded";
    vmodule, "vmodule", "it is klog's; see --log";
    flush, "log-flush-frequency", "it is klog's; every line is written at once";
    logtostderr, "logtostderr", "it is klog's; that is where the log goes";
    alsologtostderr, "alsologtostderr", "it is klog's; the log goes to standard error";
    stderrthreshold, "stderrthreshold", "it is klog's; see --log";
    log_dir, "log-dir", "it is klog's; the log goes to standard error";
    log_file, "log-file", "it is klog's; the log goes to standard error";
    log_file_size, "log-file-max-size", "it is klog's; the log goes to standard error";
    skip_headers, "skip-headers", "it is klog's; see --log-format";
    add_dir_header, "add-dir-header", "it is klog's; see --log-format";
    one_output, "one-output", "it is klog's; the log goes to standard error";
    log_backtrace, "log-backtrace-at", "it is klog's";
}

impl AdapterFlags {
    /// What klog's `-v` would have logged, where it was given.
    pub(super) fn log_level(&self) -> Option<&'static str> {
        self.v.map(|v| if v >= 6 { "debug" } else { "info" })
    }

    /// Which TLS is to be spoken to clients.
    pub(super) fn tls(&self) -> TlsTerms {
        let suites = &self.tls_cipher_suites;
        TlsTerms {
            only_tls13: self.tls_min_version == Some(TlsVersion::Tls13),
            suites: (!suites.is_empty()).then(|| suites.clone()),
        }
    }

    /// Reads the kubeconfig with the access to Prometheus, if there is one.
    pub(super) fn read_kubeconfig(&mut self) -> Result<(), AccessError> {
        if let Some(path) = &self.prometheus_auth_config {
            self.access = cluster::access(path)?;
        }
        Ok(())
    }

    /// Tells of the flags that do nothing.
    pub(super) fn warn(&self) {
        let tls = self.tls();
        let suites = tls.unknown();
        if !suites.is_empty() {
            let suites = suites.join(",");
            warn!(
                suites,
                "cipher suites that are not spoken here, only ones with forward secrecy and authenticated encryption are"
            );
        }
        if let Some(TlsVersion::Tls10 | TlsVersion::Tls11) = self.tls_min_version {
            warn!("TLS 1.2 is the oldest that is spoken, whatever --tls-min-version says");
        }
        for (flag, reason) in self.unused.given() {
            warn!(flag, reason, "flag of prometheus-adapter does nothing here");
        }
        for argument in &self.positional {
            warn!(argument, "argument ignored, as prometheus-adapter does");
        }
    }

    /// Puts the backend in front of those of the file.
    pub(super) fn apply(&self, config: &mut Config) {
        if let Some(CompatName::PrometheusAdapter) = self.compat {
            config.compat = Some(Compat::PrometheusAdapter);
        }
        let Some(url) = &self.prometheus_url else {
            return;
        };
        if config.scrape == ScrapeConfig::default() {
            config.scrape.presets = Vec::new();
        }
        let access = self.access.clone();
        let mut backend = Backend {
            url: vec![url.clone()],
            basic_auth: access.basic_auth,
            authorization: access.authorization,
            tls_config: access.tls,
            ..Backend::default()
        };
        let incluster = self.prometheus_auth_incluster;
        let in_account = |name: &str| incluster.then(|| PathBuf::from(ACCOUNT).join(name));
        let token = self.prometheus_token_file.clone();
        if let Some(file) = token.or_else(|| in_account("token")) {
            backend.authorization = Some(Authorization {
                credentials_file: Some(file),
                ..Authorization::default()
            });
            backend.basic_auth = None;
        }
        let tls = &mut backend.tls_config;
        let authority = self.prometheus_ca_file.clone();
        if let Some(file) = authority.or_else(|| in_account("ca.crt")) {
            (tls.ca, tls.ca_file) = (None, Some(file));
        }
        let pair = self.prometheus_client_tls_cert_file.clone();
        if let Some((cert, key)) = pair.zip(self.prometheus_client_tls_key_file.clone()) {
            (tls.cert, tls.cert_file) = (None, Some(cert));
            (tls.key, tls.key_file) = (None, Some(key));
        }
        backend.headers = self.headers();
        if let Some(verb) = self.prometheus_verb {
            backend.http_method = match verb {
                Verb::Get => Method::Get,
                Verb::Post => Method::Post,
            };
        }
        if let Some(interval) = self.metrics_relist_interval {
            backend.series_interval = interval;
            backend.series_max_age = backend.series_max_age.max(interval);
        }
        if let Some(age) = self.metrics_max_age {
            backend.series_max_age = age;
        }
        config.prometheus.insert(0, backend);
    }

    /// Of one name several values are one, as HTTP has it.
    fn headers(&self) -> BTreeMap<String, Secret> {
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in &self.prometheus_header {
            let known = headers.entry(name.clone()).or_default();
            if !known.is_empty() {
                known.push(',');
            }
            known.push_str(value);
        }
        let headers = headers.into_iter();
        headers
            .map(|(name, value)| (name, Secret::from(value)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: AdapterFlags,
        /// Stands for that of `serve`.
        #[arg(long)]
        tls_cert_file: Option<PathBuf>,
    }

    fn config(line: &str) -> Config {
        let mut config = Config::default();
        let line = Line::try_parse_from(line.split(' ')).expect(line);
        assert_eq!(line.tls_cert_file, None);
        line.flags.apply(&mut config);
        config
    }

    /// The arguments of prometheus-adapter's own manifests, and of its Helm chart.
    #[test]
    fn the_arguments_of_an_installation_are_taken_as_they_are() {
        let manifests = "x --cert-dir=/var/run/serving-cert --metrics-relist-interval=1m --prometheus-url=https://prometheus.monitoring.svc:9090/ --tls-cipher-suites=TLS_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,TLS_RSA_WITH_AES_128_GCM_SHA256";
        let of_manifests = config(manifests);
        let backend = &of_manifests.prometheus[0];
        assert_eq!(backend.url, ["https://prometheus.monitoring.svc:9090/"]);
        assert_eq!(backend.series_interval, Duration::from_secs(60));
        assert!(of_manifests.scrape.presets.is_empty());
        let line = Line::try_parse_from(manifests.split(' ')).expect(manifests);
        let tls = line.flags.tls();
        assert_eq!(tls.unknown(), ["TLS_RSA_WITH_AES_128_GCM_SHA256"]);
        assert!(!tls.only_tls13);
        let chart = "x /adapter --cert-dir=/tmp/cert --prometheus-url=http://prometheus.default.svc:9090 --metrics-relist-interval=1m --v=4 --logtostderr=true --profiling=false --authorization-always-allow-paths=/healthz,/readyz";
        let line = Line::try_parse_from(chart.split(' ')).expect(chart);
        let given: Vec<&str> = line.flags.unused.given().iter().map(|it| it.0).collect();
        assert_eq!(
            given,
            [
                "--authorization-always-allow-paths",
                "--profiling",
                "--logtostderr"
            ]
        );
        assert_eq!(line.flags.log_level(), Some("info"));
        assert_eq!(line.flags.positional, ["/adapter"]);
    }

    #[test]
    fn flags_about_prometheus_make_a_backend() {
        let url = "x --prometheus-url=https://p:9090";
        let backend = |more: &str| config(&format!("{url} {more}")).prometheus.remove(0);
        let incluster = backend("--prometheus-auth-incluster");
        let token = PathBuf::from(format!("{ACCOUNT}/token"));
        let authorization = incluster.authorization.expect("a token");
        assert_eq!(authorization.credentials_file, Some(token));
        let authority = PathBuf::from(format!("{ACCOUNT}/ca.crt"));
        assert_eq!(incluster.tls_config.ca_file, Some(authority));
        assert_eq!(
            backend("--prometheus-auth-incluster=false").authorization,
            None
        );
        let mutual = "--prometheus-ca-file=/ca --prometheus-client-tls-cert-file=/c --prometheus-client-tls-key-file=/k --prometheus-verb=get --metrics-max-age=20m";
        let mutual = backend(mutual);
        assert_eq!(mutual.tls_config.ca_file, Some("/ca".into()));
        assert_eq!(mutual.tls_config.key_file, Some("/k".into()));
        assert_eq!(mutual.http_method, Method::Get);
        assert_eq!(mutual.series_max_age, Duration::from_secs(1200));
        // As in prometheus-adapter's own test of its flags.
        let headers = "--prometheus-header=foo=bar --prometheus-header=foo=baz,bux=baz=23 --prometheus-header=x";
        let headers = backend(headers).headers;
        let shown: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.expose()))
            .collect();
        assert_eq!(shown, [("bux", "baz=23"), ("foo", "bar,baz"), ("x", "")]);
        assert_eq!(config("x --metrics-relist-interval=1m"), Config::default());
    }

    #[test]
    fn the_oldest_tls_is_as_it_is_called_in_go() {
        for (version, only_tls13) in [
            ("VersionTLS13", true),
            ("VersionTLS12", false),
            ("VersionTLS10", false),
        ] {
            let flag = format!("--tls-min-version={version}");
            let line = Line::parse_from(["x", &flag]);
            assert_eq!(line.flags.tls().only_tls13, only_tls13, "{version}");
            assert_eq!(line.flags.tls().suites, None);
        }
        assert!(Line::try_parse_from(["x", "--tls-min-version=TLS13"]).is_err());
    }

    #[test]
    fn a_kubeconfig_says_how_to_come_to_prometheus_and_other_flags_say_more() {
        let file = format!(
            "gpu-metrics-adapter-{}-flags.kubeconfig",
            std::process::id()
        );
        let path = std::env::temp_dir().join(file);
        let kubeconfig = "current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\n\
            clusters: [{name: c, cluster: {server: 'https://kube', certificate-authority: /ca}}]\n\
            users: [{name: u, user: {token: t, client-certificate: /c, client-key: /k}}]\n";
        std::fs::write(&path, kubeconfig).expect("a temporary file");
        let backend = |more: &[&str]| {
            let kubeconfig = format!("--prometheus-auth-config={}", path.display());
            let line = ["x", "--prometheus-url=https://p", &kubeconfig];
            let mut line = Line::parse_from(line.iter().chain(more));
            line.flags.read_kubeconfig().expect("access");
            let mut config = Config::default();
            line.flags.apply(&mut config);
            assert_eq!(config.validate(), []);
            config.prometheus.remove(0)
        };
        let plain = backend(&[]);
        assert_eq!(plain.url, ["https://p"]);
        assert_eq!(plain.tls_config.ca_file, Some("/ca".into()));
        assert_eq!(plain.tls_config.key_file, Some("/k".into()));
        let token = plain.authorization.and_then(|it| it.credentials);
        assert_eq!(token.expect("a token").expose(), "t");
        let other = backend(&["--prometheus-ca-file=/other", "--prometheus-token-file=/t"]);
        assert_eq!(other.tls_config.ca_file, Some("/other".into()));
        let authorization = other.authorization.expect("a token");
        assert_eq!(authorization.credentials, None);
        assert_eq!(authorization.credentials_file, Some("/t".into()));
        std::fs::remove_file(&path).expect("removed");
        let both = "x --prometheus-auth-incluster --prometheus-auth-config=/k";
        assert!(Line::try_parse_from(both.split(' ')).is_err());
    }

    #[test]
    fn a_file_that_says_what_to_scrape_keeps_it() {
        let mut config = Config::parse("scrape: {interval: 30s}").expect("valid");
        let line = Line::parse_from(["x", "--prometheus-url=http://p:9090"]);
        line.flags.apply(&mut config);
        assert!(!config.scrape.presets.is_empty());
    }
}
