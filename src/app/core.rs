//! What answers: targets are scraped into the store, rules are evaluated over it.

mod compiled;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::scrape::Preset;
use crate::config::{Config, Fault};
use crate::engine::embedded::Embedded;
use crate::engine::query::{Origin, QueryService};
use crate::engine::{Engines, ResultType};
use crate::model::objects::{MeteredObjects, ObjectLister, ResourceMapper};
use crate::model::time::Timestamp;
use crate::provider::Provider;
use crate::provider::resources::ResourceMetrics;
use crate::rules::ResourceRules;
use crate::scrape::Scraping;
use crate::store::Store;
use crate::targets::relabel::LabelMap;
use crate::targets::{self, TargetSet};

use super::Tasks;
use compiled::{Compiled, KubeletTiming};

/// How often the catalog looks for new metrics. A metric that is asked for and not there is looked up at once anyway.
const CATALOG_INTERVAL: Duration = Duration::from_secs(5);

/// Why a configuration cannot be put to work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration is faulty:{}", .0.iter().map(|fault| format!("\n  {fault}")).collect::<String>())]
pub struct BuildError(pub Vec<Fault>);

/// Everything that answers, built and not yet running.
pub struct Core {
    /// The samples, and what brings them.
    pub scraping: Scraping,
    /// The answers.
    pub provider: Arc<Provider>,
    /// The answers to PromQL that no rule asks.
    pub queries: Arc<QueryService>,
    /// CPU and memory, once [`Core::serve_resource_metrics`] has been called.
    pub resources: Option<Arc<ResourceMetrics>>,
    jobs: Arc<watch::Sender<Vec<targets::Job>>>,
    targets: Arc<watch::Sender<Arc<TargetSet>>>,
    engine: Arc<Embedded>,
    mapper: Arc<dyn ResourceMapper>,
    resource_rules: Option<ResourceRules>,
    kubelets: Option<KubeletTiming>,
    default_max_age: Duration,
}

impl Core {
    /// Compiles the jobs and rules of a configuration.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn build(
        config: &Config,
        lister: Arc<dyn ObjectLister>,
        mapper: Arc<dyn ResourceMapper>,
    ) -> Result<Self, BuildError> {
        let Compiled {
            settings,
            jobs,
            kept,
            limits,
            resource_rules,
            kubelets,
        } = Compiled::new(config, &[])?;
        let default_max_age = settings.default_max_age;
        let store = Store::new(limits);
        let scraping = Scraping {
            limits: config.scrape.limits.clone(),
            kept: Arc::new(ArcSwap::from_pointee(kept)),
            ..Scraping::into(Arc::clone(&store))
        };
        let demand = Arc::clone(&scraping.demand);
        let engine = Arc::new(Embedded::new(Arc::clone(&store)).refreshed_by(demand));
        let jobs = Arc::new(watch::Sender::new(jobs));
        let targets = Arc::new(watch::Sender::new(Arc::default()));
        let queries = QueryService::over(store)
            .with_metadata(Arc::clone(&scraping.metadata))
            .with_origins(origins(&targets, &jobs));
        let provider = Provider::new(
            settings,
            Arc::clone(&engine) as _,
            lister,
            Arc::clone(&mapper),
        );
        Ok(Self {
            scraping,
            provider: Arc::new(provider),
            queries: Arc::new(queries),
            resources: None,
            jobs,
            targets,
            engine,
            mapper,
            resource_rules,
            kubelets,
            default_max_age,
        })
    }

    /// Puts another configuration to work, whole, while everything runs: samples stay, and targets that it leaves as they
    /// were are scraped on undisturbed. `scrape.limits`, `resourceMetrics` and
    /// `resourceRules` stay as they were at the start.
    ///
    /// # Errors
    /// All that is wrong with it; then nothing changes.
    pub async fn apply(&self, config: &Config, now: Timestamp) -> Result<(), BuildError> {
        let Compiled {
            settings,
            jobs,
            kept,
            limits,
            // Whether and how CPU and memory are answered is settled at the start.
            resource_rules: _,
            kubelets: _,
        } = Compiled::new(config, &self.provider.backends())?;
        self.scraping.store.limit(limits);
        self.scraping.kept.store(Arc::new(kept));
        self.jobs.send_if_modified(|current| {
            let differ = *current != jobs;
            *current = jobs;
            differ
        });
        self.provider.replace(settings, now).await;
        Ok(())
    }

    /// Has CPU and memory of `objects` answered, where the configuration says so: by `resourceRules`, or from what the preset
    /// kubelet scrapes.
    pub fn serve_resource_metrics(&mut self, objects: Arc<dyn MeteredObjects>) {
        let resources = match (&self.resource_rules, self.kubelets) {
            (Some(rules), _) => ResourceMetrics::of_rules(
                objects,
                self.engines().first(),
                Arc::clone(&self.mapper),
                rules.clone(),
                self.default_max_age,
            ),
            (None, Some(timing)) => {
                let job = Preset::Kubelet.name();
                let KubeletTiming {
                    resolution,
                    max_age,
                } = timing;
                let engine = Arc::clone(&self.engine);
                ResourceMetrics::of_kubelets(objects, engine, job, resolution, max_age)
            }
            (None, None) => return,
        };
        self.resources = Some(Arc::new(resources));
    }

    fn engines(&self) -> Engines {
        Engines::new(Arc::clone(&self.engine) as _, self.provider.backends())
    }

    /// What is wrong with the queries of `resourceRules`, by their names.
    pub fn check_resource_rules(&self) -> Vec<(String, Option<String>)> {
        let queries = self.resource_rules.iter().flat_map(ResourceRules::examples);
        let engine = self.engines().first();
        let check = |(id, query): (String, String)| {
            let problem = engine.check(&query, ResultType::Vector).err();
            (id, problem.map(|error| error.to_string()))
        };
        queries.map(check).collect()
    }

    /// Starts to find targets, to scrape them, and to keep the catalog. `client` finds the targets that are Kubernetes
    /// objects.
    pub fn start(&self, client: Option<kube::Client>, tasks: &Tasks) {
        let targets = self.targets.subscribe();
        let finding = find_targets(
            self.jobs.subscribe(),
            self.scraping.limits.targets,
            client,
            Arc::clone(&self.targets),
            tasks.token(),
        );
        tasks.spawn("targets", finding);
        tasks.spawn("scrape", self.scraping.clone().run(targets, tasks.token()));
        let (provider, cancel) = (Arc::clone(&self.provider), tasks.token());
        tasks.spawn("catalog", async move {
            let mut ticks = tokio::time::interval(CATALOG_INTERVAL);
            while cancel.run_until_cancelled(ticks.tick()).await.is_some() {
                provider.refresh(Timestamp::now()).await;
            }
        });
    }
}

/// Finds the targets of the latest jobs until `cancel`.
async fn find_targets(
    mut jobs: watch::Receiver<Vec<targets::Job>>,
    limit: usize,
    client: Option<kube::Client>,
    out: Arc<watch::Sender<Arc<TargetSet>>>,
    cancel: CancellationToken,
) {
    while !cancel.is_cancelled() {
        let current = jobs.borrow_and_update().clone();
        let until_changed = cancel.child_token();
        let finding = targets::run(
            current,
            limit,
            client.clone(),
            Arc::clone(&out),
            until_changed.clone(),
        );
        let change = async {
            // An error would mean that nobody can change them any more.
            if jobs.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            until_changed.cancel();
        };
        tokio::pin!(finding);
        tokio::select! {
            () = &mut finding => {}
            () = change => finding.await,
        }
    }
}

/// Tells what the targets were found as. Parameters may hold a token.
fn origins(
    targets: &Arc<watch::Sender<Arc<TargetSet>>>,
    jobs: &Arc<watch::Sender<Vec<targets::Job>>>,
) -> impl Fn() -> Vec<Origin> + Send + Sync + 'static {
    let (targets, jobs) = (Arc::clone(targets), Arc::clone(jobs));
    move || {
        let set = Arc::clone(&targets.borrow());
        let origin = |(target, mut discovered): (targets::Target, LabelMap)| {
            discovered.retain(|name, _| !name.starts_with("__param_"));
            Origin {
                job: target.settings.job.clone(),
                url: target.shown_url(),
                labels: target.labels,
                discovered,
            }
        };
        set.discovered(&jobs.borrow())
            .into_iter()
            .map(origin)
            .collect()
    }
}
