//! The jobs that come with this program, written in the syntax that users write.

use crate::config::scrape::{Job, Preset};

/// The annotation by which a pod asks to be scraped.
const SCRAPE: &str = "prometheus.io/scrape";

/// The job of a preset. `namespaces` is where dcgm-exporter is looked for; everywhere where none is named. The others tell of
/// nobody but themselves, or are kubelets.
pub(super) fn job(preset: Preset, namespaces: &[String]) -> Job {
    let text = match preset {
        Preset::DcgmExporter => include_str!("presets/dcgm-exporter.yaml"),
        Preset::Kubelet => include_str!("presets/kubelet.yaml"),
        Preset::InferencePods => include_str!("presets/inference-pods.yaml"),
    };
    let mut job: Job = serde_saphyr::from_str(text).expect("the tests read every preset");
    for discovery in &mut job.kubernetes_sd_configs {
        match preset {
            Preset::DcgmExporter => discovery.namespaces.names = namespaces.to_vec(),
            Preset::InferencePods if discovery.selectors.iter().all(|it| it.label.is_none()) => {
                // The API server cannot select by annotation: all pods come, and few may be kept.
                discovery.annotated = Some(SCRAPE.to_owned());
            }
            Preset::InferencePods | Preset::Kubelet => {}
        }
    }
    job
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scrape::ScrapeConfig;

    #[test]
    fn every_preset_is_a_valid_job_of_its_name() {
        for preset in Preset::ALL {
            let job = job(preset, &["gpu-operator".to_owned()]);
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
