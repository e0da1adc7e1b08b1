//! `serve`: the adapter in a cluster.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};

use crate::app::serve::{CertificateSource, ConfigFile, RunError, ServiceName, Settings};
use crate::config::Config;
use crate::config::scrape::units::parse_duration;
use crate::server::AuditLog;
use crate::{cluster, telemetry};

use super::adapter::AdapterFlags;
use super::kubelet::KubeletFlags;

/// The namespace of a pod, as its service account knows it.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The name of the Service in the manifests.
const SERVICE: &str = "gpu-metrics-adapter";

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// The configuration file; without one the defaults serve the GPU metrics of a dcgm-exporter.
    #[arg(long, env = "GPU_METRICS_ADAPTER_CONFIG")]
    config: Option<PathBuf>,
    /// The kubeconfig of the cluster; without one the pod's service account is used.
    #[arg(long, alias = "lister-kubeconfig")]
    kubeconfig: Option<PathBuf>,
    /// The address to listen on.
    #[arg(long, default_value = "0.0.0.0")]
    bind_address: IpAddr,
    /// The port to serve HTTPS on.
    #[arg(long, default_value_t = 6443)]
    secure_port: u16,
    /// The Service that the APIServices refer to, as NAMESPACE/NAME. Default: gpu-metrics-adapter in the pod's namespace.
    #[arg(long, env = "GPU_METRICS_ADAPTER_SERVICE")]
    service: Option<Service>,
    /// A certificate file (PEM, leaf first) to serve with, re-read when it changes. Without it the adapter makes its own,
    /// keeps it in a Secret, and keeps the caBundle of its APIServices.
    #[arg(long, requires = "tls_private_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// The certificate's private key (PEM).
    #[arg(long, requires = "tls_cert_file")]
    tls_private_key_file: Option<PathBuf>,
    /// An address of loopback, such as 127.0.0.1:9090, to serve Prometheus's query API, /metrics and health on, for
    /// debugging: without TLS and without authentication.
    #[arg(long, value_parser = loopback)]
    debug_address: Option<SocketAddr>,
    /// Serve metrics.k8s.io too, in place of metrics-server, as resourceMetrics of the configuration does.
    #[arg(long)]
    resource_metrics: bool,
    /// Run CronHorizontalPodAutoscalers, in place of kubernetes-cronhpa-controller, as schedules.enabled of the configuration
    /// does.
    #[arg(long)]
    schedules: bool,
    /// Another adapter, such as https://keda-operator-metrics-apiserver.keda.svc, that external metrics are had from which no rule
    /// offers: url of externalFallback.
    #[arg(long, value_name = "URL")]
    external_fallback: Option<String>,
    /// The authorities that vouch for it: ca_file of externalFallback's tls_config.
    #[arg(long, value_name = "FILE", requires = "external_fallback")]
    external_fallback_ca_file: Option<PathBuf>,
    #[command(flatten)]
    kubelet: KubeletFlags,
    #[command(flatten)]
    adapter: AdapterFlags,
    /// Write a line of JSON for each request to this file, or to standard output where it is -.
    #[arg(long, value_name = "FILE", value_parser = audit_log)]
    audit_log: Option<AuditLog>,
    /// How long to go on serving after the signal to stop, so that no client is sent to a replica that is gone.
    #[arg(long, default_value = "5s", value_parser = duration)]
    shutdown_delay_duration: Duration,
    /// What to log: a level, or directives such as info,gpu_metrics_adapter::scrape=debug. Default: info.
    #[arg(long, env = "GPU_METRICS_ADAPTER_LOG")]
    log: Option<String>,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// `NAMESPACE/NAME`.
#[derive(Clone, Debug)]
struct Service(ServiceName);

impl FromStr for Service {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((namespace, name))
                if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
            {
                Ok(Self(ServiceName {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                }))
            }
            _ => Err("must be NAMESPACE/NAME"),
        }
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "must be a duration such as 5s or 1m30s".to_owned())
}

fn audit_log(text: &str) -> Result<AuditLog, &'static str> {
    match text {
        "" => Err("must be a file, or - for standard output"),
        "-" => Ok(AuditLog::Stdout),
        path => Ok(AuditLog::File(path.into())),
    }
}

fn loopback(text: &str) -> Result<SocketAddr, &'static str> {
    match text.parse::<SocketAddr>() {
        Err(_) => Err("must be ADDRESS:PORT, such as 127.0.0.1:9090"),
        Ok(address) if !address.ip().is_loopback() => {
            Err("must be an address of loopback: nothing is authenticated there")
        }
        Ok(address) => Ok(address),
    }
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let format = match self.log_format {
            LogFormat::Text => telemetry::LogFormat::Text,
            LogFormat::Json => telemetry::LogFormat::Json,
        };
        let log = self.log.as_deref().or(self.adapter.log_level());
        let log = log.unwrap_or("info");
        telemetry::start_logging(format, log, cluster::LOG_DIRECTIVES)
            .map_err(|reason| anyhow!("--log {log}: {reason}"))?;
        self.adapter.warn();
        let mut config = match &self.config {
            Some(path) => Config::load(path)?,
            None => Config::default(),
        };
        let certificate = self.certificate();
        let tls = self.adapter.tls();
        let (resource_metrics, kubelet) = (self.resource_metrics, self.kubelet);
        let schedules = self.schedules;
        let fallback = self.external_fallback;
        let fallback_ca_file = self.external_fallback_ca_file;
        let mut adapter = self.adapter;
        adapter.read_kubeconfig()?;
        let flags = Arc::new(move |config: &mut Config| {
            config.resource_metrics |= resource_metrics;
            config.schedules.enabled |= schedules;
            if let Some(url) = &fallback {
                let section = config.external_fallback.get_or_insert_default();
                section.url.clone_from(url);
                if fallback_ca_file.is_some() {
                    section.tls.ca_file.clone_from(&fallback_ca_file);
                }
            }
            kubelet.apply(&mut config.scrape.kubelet);
            adapter.apply(config);
        });
        flags(&mut config);
        let settings = Settings {
            config,
            config_file: self.config.map(|path| ConfigFile { path, flags }),
            kubeconfig: self.kubeconfig,
            address: SocketAddr::new(self.bind_address, self.secure_port),
            service: self
                .service
                .map_or_else(own_service, |service| Ok(service.0))?,
            certificate,
            debug_address: self.debug_address,
            tls,
            audit_log: self.audit_log,
            shutdown_delay: self.shutdown_delay_duration,
        };
        super::runtime()?
            .block_on(crate::app::serve::run(settings))
            .map_err(|error| match error {
                RunError::Build(faults) => faults.into(),
                error => error.into(),
            })
    }
}

impl Serve {
    fn certificate(&self) -> CertificateSource {
        let files = self.tls_cert_file.clone();
        if let Some((chain, key)) = files.zip(self.tls_private_key_file.clone()) {
            return CertificateSource::Files { chain, key };
        }
        let Some(folder) = &self.adapter.cert_dir else {
            return CertificateSource::Own;
        };
        let (chain, key) = (folder.join("apiserver.crt"), folder.join("apiserver.key"));
        if chain.exists() && key.exists() {
            CertificateSource::Files { chain, key }
        } else {
            CertificateSource::Temporary
        }
    }
}

fn own_service() -> anyhow::Result<ServiceName> {
    let namespace = std::fs::read_to_string(NAMESPACE_FILE)
        .context("outside a cluster --service NAMESPACE/NAME is needed")?;
    Ok(ServiceName {
        namespace: namespace.trim().to_owned(),
        name: SERVICE.to_owned(),
    })
}
