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
        let rules = core.provider.check_rules().into_iter();
        let rules = rules.map(|(id, problem)| (id.to_string(), problem));
        for (id, problem) in rules.chain(core.check_resource_rules()) {
            match problem {
                None => anstream::println!("{id}: ok"),
                Some(problem) => {
                    unusable += 1;
                    anstream::println!("{id}: {problem}");
                }
            }
        }
        if !config.external_rules.is_empty() {
            anstream::println!("externalRules: read, and not served by this version");
        }
        if config.resource_rules.is_some() && !config.resource_metrics {
            anstream::println!("resourceRules: read, and not served without resourceMetrics: true");
        }
        anyhow::ensure!(
            unusable == 0,
            "{unusable} rules cannot be evaluated; the others would serve"
        );
        Ok(())
    }
}
