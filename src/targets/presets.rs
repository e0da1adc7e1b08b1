//! The jobs that come with this program, written in the syntax that users write.

use crate::config::scrape::{Job, Preset};

/// The job of a preset, looking in these namespaces; in all where none is named.
pub(super) fn job(preset: Preset, namespaces: &[String]) -> Job {
    let text = match preset {
        Preset::DcgmExporter => include_str!("presets/dcgm-exporter.yaml"),
    };
    let mut job: Job = serde_saphyr::from_str(text).expect("the tests read every preset");
    for discovery in &mut job.kubernetes_sd_configs {
        discovery.namespaces.names = namespaces.to_vec();
    }
    job
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scrape::ScrapeConfig;

    #[test]
    fn every_preset_is_a_valid_job_of_its_name() {
        let preset = Preset::DcgmExporter;
        let job = job(preset, &["gpu-operator".to_owned()]);
        let discovered = &job.kubernetes_sd_configs;
        assert!(
            discovered
                .iter()
                .all(|it| it.namespaces.names == ["gpu-operator"])
        );
        assert_eq!(job.job_name, preset.name());
        let config = ScrapeConfig {
            presets: Vec::new(),
            scrape_configs: vec![job],
            ..ScrapeConfig::default()
        };
        assert_eq!(config.validate(), []);
    }
}
