//! `check`: what is wrong with a configuration file, and what it would do.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use crate::app::Core;
use crate::cluster::StaticMapper;
use crate::config::Config;
use crate::model::objects::{GroupResource, ListError, ObjectLister, ObjectRef};
use crate::model::selector::Selector;

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The configuration file.
    file: PathBuf,
}

/// No objects: a check is done without a cluster.
struct Nothing;

impl ObjectLister for Nothing {
    fn list(
        &self,
        resource: &GroupResource,
        _: Option<&str>,
        _: &Selector,
    ) -> Result<Vec<ObjectRef>, ListError> {
        Err(ListError::NotWatched(resource.clone()))
    }
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let config = Config::load(&self.file)?;
        let core = Core::build(&config, Arc::new(Nothing), Arc::new(StaticMapper))?;
        let mut unusable = 0;
        for (id, problem) in core.provider.check_rules() {
            match problem {
                None => anstream::println!("{id}: ok"),
                Some(problem) => {
                    unusable += 1;
                    anstream::println!("{id}: {problem}");
                }
            }
        }
        for (present, section) in [
            (!config.external_rules.is_empty(), "externalRules"),
            (config.resource_rules.is_some(), "resourceRules"),
        ] {
            if present {
                anstream::println!("{section}: read, and not served by this version");
            }
        }
        for warning in warnings(&config) {
            anstream::println!("{warning}");
        }
        anyhow::ensure!(
            unusable == 0,
            "{unusable} rules cannot be evaluated; the others would serve"
        );
        Ok(())
    }
}

/// What works, and should be known before it is applied.
fn warnings(config: &Config) -> Vec<String> {
    let jobs = config.scrape.scrape_configs.iter().enumerate();
    let believing = jobs.filter(|(_, job)| job.tls_config.insecure_skip_verify);
    believing
        .map(|(index, job)| {
            let path = format!("scrape.scrape_configs[{index}].tls_config.insecure_skip_verify");
            let name = &job.job_name;
            format!("{path}: warning: whoever answers for a target of {name} is believed, and gets its credentials")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_believes_any_certificate_is_warned_of() {
        let job = |name: &str, tls: &str| {
            format!(
                "{{job_name: {name}, static_configs: [{{targets: ['h:1']}}], tls_config: {{{tls}}}}}"
            )
        };
        let (a, b) = (job("a", ""), job("b", "insecure_skip_verify: true"));
        let text = format!("scrape: {{scrape_configs: [{a}, {b}]}}");
        let config = Config::parse(&text).expect("valid");
        let expected = "scrape.scrape_configs[1].tls_config.insecure_skip_verify: warning: whoever answers for a target of b is believed, and gets its credentials";
        assert_eq!(warnings(&config), [expected]);
    }
}
