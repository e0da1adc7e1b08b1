//! `scrape.kubelet`: how the preset kubelet reaches kubelets. `serve` has metrics-server's flags for the same.

use std::time::Duration;

use serde::Deserialize;

use super::http::{Authorization, TlsConfig};
use super::{Fault, Job, ScrapeConfig, units};

/// How kubelets are reached. What is not written stays as the preset has it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KubeletOptions {
    /// How often kubelets are scraped. Default: `interval` of the section.
    #[serde(deserialize_with = "units::some_duration")]
    pub scrape_interval: Option<Duration>,
    /// How long one scrape of a kubelet may take. Default: `timeout` of the section.
    #[serde(deserialize_with = "units::some_duration")]
    pub scrape_timeout: Option<Duration>,
    /// Which of a node's addresses is taken, the best first, such as `[InternalIP, Hostname]`. A node that has none of them,
    /// and all nodes where none is written: the first of InternalIP, InternalDNS, ExternalIP, ExternalDNS, Hostname.
    pub preferred_address_types: Vec<String>,
    /// The port of every kubelet. Default: the port that the node tells, else 10250.
    pub port: Option<u16>,
    /// A label selector: other nodes are not scraped. Default: all are.
    pub node_selector: Option<String>,
    /// The header `Authorization`. Default: the token of the pod's service account.
    pub authorization: Option<Authorization>,
    /// Whom a kubelet must prove to be. Without `ca` and `ca_file`, by a certificate of the cluster's CA.
    pub tls_config: TlsConfig,
}

impl KubeletOptions {
    /// Adds all that is wrong with these values.
    pub(super) fn validate(&self, section: &ScrapeConfig, faults: &mut Vec<Fault>) {
        if self.port == Some(0) {
            faults.push(Fault::new("kubelet.port", "must be more than 0"));
        }
        for (index, kind) in self.preferred_address_types.iter().enumerate() {
            if kind.is_empty() || !kind.bytes().all(|it| it.is_ascii_alphanumeric()) {
                let place = format!("kubelet.preferred_address_types[{index}]");
                let message = "is no type of address, such as InternalIP";
                faults.push(Fault::new(place, message));
            }
        }
        // The rest are a job's keys, under a job's rules.
        let job = Job {
            job_name: "kubelet".to_owned(),
            scrape_interval: self.scrape_interval,
            scrape_timeout: self.scrape_timeout,
            authorization: self.authorization.clone(),
            tls_config: self.tls_config.clone(),
            ..Job::default()
        };
        job.validate(section, "kubelet", faults);
    }
}
