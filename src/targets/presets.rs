//! The jobs that come with this program, written in the syntax that users write.

use crate::config::scrape::{
    Job, KubeletOptions, Preset, Relabel, RoleSelector, ScrapeConfig, SelectorRole,
};

/// The annotation by which a pod asks to be scraped.
const SCRAPE: &str = "prometheus.io/scrape";

/// The job of a preset, as the section would have it. Only dcgm-exporter is looked for in `preset_namespaces`: the others tell
/// of nobody but themselves, or are kubelets.
pub(super) fn job(preset: Preset, section: &ScrapeConfig) -> Job {
    let text = match preset {
        Preset::DcgmExporter => include_str!("presets/dcgm-exporter.yaml"),
        Preset::Kubelet => include_str!("presets/kubelet.yaml"),
        Preset::InferencePods => include_str!("presets/inference-pods.yaml"),
    };
    let mut job: Job = serde_saphyr::from_str(text).expect("the tests read every preset");
    for discovery in &mut job.kubernetes_sd_configs {
        match preset {
            Preset::DcgmExporter => {
                discovery
                    .namespaces
                    .names
                    .clone_from(&section.preset_namespaces);
            }
            Preset::InferencePods if discovery.selectors.iter().all(|it| it.label.is_none()) => {
                // The API server cannot select by annotation: all pods come, and few may be kept.
                discovery.annotated = Some(SCRAPE.to_owned());
            }
            Preset::InferencePods | Preset::Kubelet => {}
        }
    }
    if preset == Preset::Kubelet {
        reach(&mut job, &section.kubelet);
    }
    job
}

/// The kubelets' job with these options in it.
fn reach(job: &mut Job, options: &KubeletOptions) {
    job.scrape_interval = options.scrape_interval;
    job.scrape_timeout = options.scrape_timeout;
    if options.authorization.is_some() {
        job.authorization.clone_from(&options.authorization);
    }
    let cluster_ca = job.tls_config.ca_file.take();
    job.tls_config.clone_from(&options.tls_config);
    if job.tls_config.ca.is_none() && job.tls_config.ca_file.is_none() {
        job.tls_config.ca_file = cluster_ca;
    }
    if let Some(selector) = &options.node_selector {
        for discovery in &mut job.kubernetes_sd_configs {
            discovery.selectors.push(RoleSelector {
                role: SelectorRole::Node,
                label: Some(selector.clone()),
                field: None,
            });
        }
    }
    // The best comes last, so that it stays. IPv6 addresses are told from names and IPv4 by their colons.
    for kind in options.preferred_address_types.iter().rev() {
        let of_type = format!("__meta_kubernetes_node_address_{kind}");
        let address = |regex: &str, replacement: &str| Relabel {
            source_labels: vec![of_type.clone(), "__address__".to_owned()],
            regex: Some(regex.to_owned()),
            replacement: Some(replacement.to_owned()),
            target_label: Some("__address__".to_owned()),
            ..Relabel::default()
        };
        job.relabel_configs.extend([
            address(r"([^;:]+);.*:(\d+)", "$1:$2"),
            address(r"([^;]*:[^;]*);.*:(\d+)", "[$1]:$2"),
        ]);
    }
    if let Some(port) = options.port {
        job.relabel_configs.push(Relabel {
            source_labels: vec!["__address__".to_owned()],
            regex: Some(r"(.+):\d+".to_owned()),
            replacement: Some(format!("$1:{port}")),
            target_label: Some("__address__".to_owned()),
            ..Relabel::default()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scrape::ScrapeConfig;

    #[test]
    fn every_preset_is_a_valid_job_of_its_name() {
        for preset in Preset::ALL {
            let section = ScrapeConfig {
                preset_namespaces: vec!["gpu-operator".to_owned()],
                ..ScrapeConfig::default()
            };
            let job = job(preset, &section);
            assert_eq!(job.job_name, preset.name());
            for discovery in &job.kubernetes_sd_configs {
                let restricted = discovery.namespaces.names == ["gpu-operator"];
                assert_eq!(restricted, preset == Preset::DcgmExporter, "{preset:?}");
            }
            let config = ScrapeConfig {
                presets: Vec::new(),
                scrape_configs: vec![job],
                ..ScrapeConfig::default()
            };
            assert_eq!(config.validate(), []);
        }
    }
}
