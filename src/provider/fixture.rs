//! For tests: a provider over a real store with one target, and a small cluster of three pods.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};

use super::{Provider, RuleSet, Settings, ValueStyle};
use crate::config::rules::DiscoveryRule;
use crate::engine::embedded::Embedded;
use crate::model::labels::{Labels, METRIC_NAME};
use crate::model::objects::{
    GroupResource, ListError, ObjectLister, ObjectRef, ResourceKind, ResourceMapper,
};
use crate::model::selector::Selector;
use crate::model::time::Timestamp;
use crate::rules::{DCGM_EXPORTER_PRESET, Rule};
use crate::store::{Limits, Store, TargetInfo, TargetWriter};

/// What the target shows.
pub(crate) const METRIC: &str = "DCGM_CUSTOM_PROCESS_SM_UTIL";
const MAX_AGE: Duration = Duration::from_secs(45);

/// Seconds after 20:00.
pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_795_464_000_000).plus(Duration::from_secs(seconds))
}

/// The pods of namespace `default`, with their label `app`.
struct Pods(BTreeMap<&'static str, &'static str>);

impl ObjectLister for Pods {
    fn list(
        &self,
        resource: &GroupResource,
        namespace: Option<&str>,
        selector: &Selector,
    ) -> Result<Vec<ObjectRef>, ListError> {
        if resource.resource == "namespaces" {
            return Ok(vec![ObjectRef {
                namespace: None,
                name: "default".into(),
            }]);
        }
        let matches =
            |app: &str| selector.matches(&BTreeMap::from([("app".to_owned(), app.to_owned())]));
        let object = |name: &str| ObjectRef {
            namespace: namespace.map(Arc::from),
            name: name.into(),
        };
        Ok(self
            .0
            .iter()
            .filter(|(_, app)| matches(app))
            .map(|(name, _)| object(name))
            .collect())
    }

    /// A Deployment of its pods' label.
    fn pods_of<'a>(
        &'a self,
        _: &'a ResourceKind,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Vec<ObjectRef>, ListError>> {
        let selector = Selector::parse(&format!("app={name}")).expect("a selector");
        ready(self.list(&GroupResource::core("pods"), Some(namespace), &selector)).boxed()
    }
}

struct Mapper;

impl ResourceMapper for Mapper {
    fn resolve(&self, name: &GroupResource) -> Option<ResourceKind> {
        let (plural, kind, namespaced) = match name.resource.as_str() {
            "pod" | "pods" => ("pods", "Pod", true),
            "namespace" | "namespaces" => ("namespaces", "Namespace", false),
            "deployment" | "deployments" => ("deployments", "Deployment", true),
            _ => return None,
        };
        let (resource, version) = (GroupResource::core(plural), "v1".to_owned());
        Some(ResourceKind {
            resource,
            version,
            kind: kind.to_owned(),
            namespaced,
        })
    }
}

/// A provider over a store with one target.
pub(crate) struct World {
    pub(crate) provider: Provider,
    pub(crate) target: TargetWriter,
}

/// The preset's rules and these.
pub(crate) fn world(extra_rules: &str) -> World {
    world_with_external(extra_rules, "")
}

/// The preset's rules and these, of objects and of none.
pub(crate) fn world_with_external(extra_rules: &str, external: &str) -> World {
    let external: Option<Vec<DiscoveryRule>> = serde_saphyr::from_str(external).expect("valid");
    let external = external.unwrap_or_default();
    let store = Store::new(Limits::default());
    let target = store.register(TargetInfo {
        job: "dcgm-exporter".into(),
        url: "http://10.0.0.7:9400/metrics".into(),
        object: Some("pod monitoring/dcgm-0".into()),
        interval: Duration::from_secs(15),
    });
    let mut configs: Vec<DiscoveryRule> =
        serde_saphyr::from_str(DCGM_EXPORTER_PRESET).expect("valid");
    let extra: Option<Vec<DiscoveryRule>> = serde_saphyr::from_str(extra_rules).expect("valid");
    configs.extend(extra.unwrap_or_default());
    let compile = |(index, config): (usize, &DiscoveryRule)| {
        Arc::new(Rule::compile(&format!("rules[{index}]"), config).expect("valid"))
    };
    let rules = RuleSet {
        custom: configs.iter().enumerate().map(compile).collect(),
        external: external.iter().enumerate().map(compile).collect(),
    };
    let pods = Pods(BTreeMap::from([
        ("qwen-a", "qwen"),
        ("qwen-b", "qwen"),
        ("other", "other"),
    ]));
    let engine = Arc::new(Embedded::new(store));
    let settings = Settings {
        rules,
        default_max_age: MAX_AGE,
        fresh_within: Duration::ZERO,
        style: ValueStyle::default(),
        backends: Vec::new(),
    };
    let provider = Provider::new(settings, engine, Arc::new(pods), Arc::new(Mapper));
    World { provider, target }
}

impl World {
    /// A good scrape with these values by pod and GPU.
    pub(crate) fn scrape(&mut self, time: Timestamp, samples: &[(&str, &str, f64)]) {
        let mut scrape = self.target.begin(time);
        for (pod, gpu, value) in samples {
            let labels = Labels::new([
                (METRIC_NAME, METRIC),
                ("NamespaceName", "default"),
                ("PodName", pod),
                ("gpu", gpu),
                ("UUID", gpu),
                ("ProcessId", "1"),
            ]);
            scrape
                .add(&labels, *value, None)
                .expect("within the limits");
        }
        scrape.commit();
    }
}
