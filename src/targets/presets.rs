//! The jobs that come with this program, written in the syntax that users write.

use crate::config::scrape::{Job, Preset};

/// The job of a preset.
pub(super) fn job(preset: Preset) -> Job {
    let text = match preset {
        Preset::DcgmExporter => include_str!("presets/dcgm-exporter.yaml"),
    };
    serde_saphyr::from_str(text).expect("the tests read every preset")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scrape::ScrapeConfig;

    #[test]
    fn every_preset_is_a_valid_job_of_its_name() {
        let preset = Preset::DcgmExporter;
        let job = job(preset);
        assert_eq!(job.job_name, preset.name());
        let config = ScrapeConfig {
            presets: Vec::new(),
            scrape_configs: vec![job],
            ..ScrapeConfig::default()
        };
        assert_eq!(config.validate(), []);
    }
}
