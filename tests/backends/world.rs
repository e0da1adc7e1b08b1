//! The adapter's answers, without a cluster and without TLS: what the API says of pods p0, p1 and p2 in each namespace.

use std::collections::BTreeMap;
use std::sync::Arc;

use gpu_metrics_adapter::app::Core;
use gpu_metrics_adapter::cluster::StaticMapper;
use gpu_metrics_adapter::config::Config;
use gpu_metrics_adapter::model::objects::{GroupResource, ListError, ObjectLister, ObjectRef};
use gpu_metrics_adapter::model::selector::Selector;
use gpu_metrics_adapter::model::time::Timestamp;
use gpu_metrics_adapter::provider::{MetricQuestion, Objects};

/// A rule for pods, of the metric `util`.
pub(crate) const RULES: &str = "
rules:
- seriesQuery: 'util{namespace!=\"\",pod!=\"\"}'
  resources: {overrides: {namespace: {resource: namespace}, pod: {resource: pod}}}
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
";

struct Pods;

impl ObjectLister for Pods {
    fn list(
        &self,
        _: &GroupResource,
        namespace: Option<&str>,
        selector: &Selector,
    ) -> Result<Vec<ObjectRef>, ListError> {
        let names = (0..3).map(|index| format!("p{index}"));
        let names = names
            .filter(|name| selector.matches(&BTreeMap::from([("app".to_owned(), name.clone())])));
        let object = |name: String| ObjectRef {
            namespace: namespace.map(Arc::from),
            name: name.into(),
        };
        Ok(names.map(object).collect())
    }
}

/// What this configuration makes of it.
pub(crate) fn core(config: &str) -> Core {
    core_of(&format!("scrape: {{presets: []}}\n{config}"))
}

/// What a whole configuration makes of it.
pub(crate) fn core_of(config: &str) -> Core {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = Config::parse(config).expect("the form is right");
    Core::build(&config, Arc::new(Pods), Arc::new(StaticMapper)).expect("valid")
}

/// A question about all pods of a namespace, or about those that a selector matches.
pub(crate) fn question(namespace: &str, selector: &str, metric: &str) -> MetricQuestion {
    MetricQuestion {
        resource: GroupResource::core("pods"),
        namespace: Some(namespace.to_owned()),
        objects: Objects::Matching(Selector::parse(selector).unwrap()),
        metric: metric.to_owned(),
        metric_selector: Selector::default(),
    }
}

/// The values of `util` of all pods in `default` by name, or why there is none.
pub(crate) async fn ask(core: &Core) -> Result<BTreeMap<String, String>, String> {
    ask_for(core, "util").await
}

pub(crate) async fn ask_for(core: &Core, metric: &str) -> Result<BTreeMap<String, String>, String> {
    let question = question("default", "", metric);
    let answer = core.provider.answer(&question, Timestamp::now()).await;
    let values = answer.map_err(|error| error.to_string())?.values;
    let pair = |value: gpu_metrics_adapter::provider::MetricValue| {
        (value.object.name.to_string(), value.value.to_string())
    };
    Ok(values.into_iter().map(pair).collect())
}

/// What three pods with the same value are.
pub(crate) fn three(value: &str) -> BTreeMap<String, String> {
    let pair = |index| (format!("p{index}"), value.to_owned());
    (0..3).map(pair).collect()
}
