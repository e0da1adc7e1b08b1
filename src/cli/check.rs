//! `check`: what is wrong with a configuration file, what it would do, and whether it does what its tests expect.

mod notation;
mod offers;
mod suite;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use crate::app::Core;
use crate::cluster::{self, StaticMapper};
use crate::config::Config;
use crate::model::objects::NoObjects;

use offers::Offers;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gpu-metrics-adapter check config.yaml
  curl -s http://10.0.0.7:9400/metrics >page.txt; gpu-metrics-adapter check config.yaml --from page.txt
  gpu-metrics-adapter check config.yaml --kubeconfig ~/.kube/config
  gpu-metrics-adapter check config.yaml --test rules_test.yaml")]
pub(super) struct Check {
    /// The configuration file.
    file: PathBuf,
    /// A page of an exporter, or a recording, over whose series each rule's metrics are listed.
    #[arg(long, value_name = "FILE", conflicts_with = "kubeconfig")]
    from: Option<PathBuf>,
    /// The kubeconfig of a cluster, whose targets are found and scraped once, over whose series each rule's metrics are
    /// listed. Targets are connected to from here.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Tests to run: series in, answers of the API out. May be repeated.
    #[arg(long, value_name = "FILE")]
    test: Vec<PathBuf>,
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<()> {
        super::runtime()?.block_on(self.check())
    }

    async fn check(self) -> anyhow::Result<()> {
        let config = Config::load(&self.file)?;
        let core = Core::build(&config, Arc::new(NoObjects), Arc::new(StaticMapper))?;
        let offers = self.offers(&config).await?;
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
            if let Some(offers) = &offers {
                match offers.get(&*id) {
                    None => anstream::println!("  no series for it"),
                    Some(lines) => {
                        for line in lines {
                            anstream::println!("  {line}");
                        }
                    }
                }
            }
        }
        if config.resource_rules.is_some() && !config.resource_metrics {
            anstream::println!("resourceRules: read, and not served without resourceMetrics: true");
        }
        for warning in core.provider.lint(config.scrape.interval) {
            anstream::println!("{}: warning: {}", warning.path, warning.message);
        }
        for warning in warnings(&config) {
            anstream::println!("{warning}");
        }
        let mut failed = 0;
        for path in &self.test {
            failed += usize::from(!suite::run(&config, path).await?);
        }
        anyhow::ensure!(
            unusable == 0,
            "{unusable} rules cannot be evaluated; the others would serve"
        );
        anyhow::ensure!(failed == 0, "{failed} files of tests failed");
        Ok(())
    }

    async fn offers(&self, config: &Config) -> anyhow::Result<Option<Offers>> {
        if let Some(page) = &self.from {
            return Ok(Some(offers::of_page(config, page).await?));
        }
        let Some(kubeconfig) = &self.kubeconfig else {
            return Ok(None);
        };
        let client = cluster::connect(Some(kubeconfig)).await?;
        let mapper = cluster::discover_once(client.clone()).await?;
        let core = Core::build(config, Arc::new(NoObjects), mapper)?;
        Ok(Some(offers::of_cluster(&core, client).await))
    }
}

/// What works, and should be known before it is applied.
fn warnings(config: &Config) -> Vec<String> {
    let jobs = config.scrape.scrape_configs.iter().enumerate();
    let jobs = jobs.map(|(index, job)| {
        let path = format!("scrape.scrape_configs[{index}]");
        (
            path,
            format!("a target of {}", job.job_name),
            &job.tls_config,
        )
    });
    let kubelet = &config.scrape.kubelet.tls_config;
    let kubelet = ("scrape.kubelet".to_owned(), "a kubelet".to_owned(), kubelet);
    let backends = config.prometheus.iter().enumerate();
    let backends = backends.map(|(index, backend)| {
        let path = format!("prometheus[{index}]");
        (
            path,
            format!("the backend {}", backend.name),
            &backend.tls_config,
        )
    });
    jobs.chain([kubelet])
        .chain(backends)
        .filter(|(.., tls)| tls.insecure_skip_verify)
        .map(|(path, what, _)| format!("{path}.tls_config.insecure_skip_verify: warning: whoever answers for {what} is believed, and gets its credentials"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_or_a_backend_that_believes_any_certificate_is_warned_of() {
        let job = |name: &str, tls: &str| {
            format!(
                "{{job_name: {name}, static_configs: [{{targets: ['h:1']}}], tls_config: {{{tls}}}}}"
            )
        };
        let (a, b) = (job("a", ""), job("b", "insecure_skip_verify: true"));
        let backends = "[{url: 'https://x'}, {name: other, url: 'https://y', tls_config: {insecure_skip_verify: true}}]";
        let text = format!("scrape: {{scrape_configs: [{a}, {b}]}}\nprometheus: {backends}");
        let config = Config::parse(&text).expect("valid");
        let expected = [
            ("scrape.scrape_configs[1]", "a target of b"),
            ("prometheus[1]", "the backend other"),
        ]
        .map(|(path, what)| format!("{path}.tls_config.insecure_skip_verify: warning: whoever answers for {what} is believed, and gets its credentials"));
        assert_eq!(warnings(&config), expected);
    }
}
