//! `check`: what is wrong with a configuration file, and what it would do.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use crate::app::Core;
use crate::cluster::StaticMapper;
use crate::config::Config;
use crate::model::objects::NoObjects;

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The configuration file.
    file: PathBuf,
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let config = Config::load(&self.file)?;
        let core = Core::build(&config, Arc::new(NoObjects), Arc::new(StaticMapper))?;
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
        for (present, section) in [(config.resource_rules.is_some(), "resourceRules")] {
            if present {
                anstream::println!("{section}: read, and not served by this version");
            }
        }
        anyhow::ensure!(
            unusable == 0,
            "{unusable} rules cannot be evaluated; the others would serve"
        );
        Ok(())
    }
}
