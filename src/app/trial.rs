//! A configuration put to work on samples and objects that are given: no cluster, no scrape, and a clock that its owner
//! moves. What it answers is what the API would.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use http::{Request, StatusCode};
use tower::ServiceExt as _;

use crate::api::prometheus::{QueryApi, QueryLimits};
use crate::api::{self, Api, Discovery, Health};
use crate::cluster::StaticMapper;
use crate::config::Config;
use crate::model::labels::Labels;
use crate::model::objects::{
    GroupResource, ListError, ObjectLabels, ObjectLister, ObjectRef, ResourceMapper,
};
use crate::model::selector::Selector;
use crate::model::time::Timestamp;
use crate::store::{TargetInfo, TargetWriter};

use super::{BuildError, Core};

/// The largest answer.
const ANSWER_BYTES: usize = 64 << 20;

/// An object of the cluster that is imagined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialObject {
    /// Its resource, in any of its names.
    pub resource: GroupResource,
    /// Its namespace, where it has one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: ObjectLabels,
}

/// Why a path has no answer at all, not even a refusal.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// It is no path.
    #[error("{0} is no path of a URL: {1}")]
    Path(String, http::Error),
    /// The answer is no text.
    #[error("the answer for {0} cannot be read")]
    Answer(String),
}

/// The configuration at work.
pub struct Trial {
    core: Core,
    router: Router,
    now: Arc<AtomicI64>,
    /// Each series has a target of its own, so that one can miss a scrape and another not.
    series: HashMap<Labels, TargetWriter>,
    interval: Duration,
}

impl Trial {
    /// A trial of `config` in a cluster with these objects; `interval` lies between two samples of a series.
    ///
    /// # Errors
    /// All that is wrong with the configuration.
    pub fn new(
        config: &Config,
        objects: Vec<TrialObject>,
        interval: Duration,
    ) -> Result<Self, BuildError> {
        let objects = Arc::new(Objects(objects));
        let core = Core::build(config, objects, Arc::new(StaticMapper))?;
        let now = Arc::new(AtomicI64::new(0));
        let clock = Arc::clone(&now);
        let queries = QueryApi::new(Arc::clone(&core.queries), QueryLimits::default());
        let router = api::router(Arc::new(Api {
            provider: Arc::clone(&core.provider),
            fallback: None,
            resources: None,
            queries: Arc::new(queries),
            health: Health::new(Vec::new()),
            own_metrics: Box::new(String::new),
            now: Box::new(move || Timestamp::from_millis(clock.load(Ordering::Relaxed))),
            discovery: Discovery::default(),
        }));
        Ok(Self {
            core,
            router,
            now,
            series: HashMap::new(),
            interval,
        })
    }

    /// What was compiled.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// A scrape at `at` finds this value of a series; `None`: it no longer has the series.
    pub fn write(&mut self, at: Timestamp, labels: &Labels, value: Option<f64>) {
        let (store, interval) = (&self.core.scraping.store, self.interval);
        let writer = self.series.entry(labels.clone()).or_insert_with(|| {
            store.register(TargetInfo {
                job: "trial".to_owned(),
                url: format!("trial:{labels}"),
                object: None,
                interval,
            })
        });
        let mut scrape = writer.begin(at);
        if let Some(value) = value {
            // A trial has far fewer series than the limits allow.
            let _ = scrape.add(labels, value, None);
        }
        scrape.commit();
    }

    /// What the API answers to a GET of `path` at `at`: the code and the body.
    ///
    /// # Errors
    /// Where the path is none.
    pub async fn ask(&self, path: &str, at: Timestamp) -> Result<(StatusCode, String), TrialError> {
        self.now.store(at.as_millis(), Ordering::Relaxed);
        self.core.provider.refresh(at).await;
        let request = Request::get(path)
            .body(Body::empty())
            .map_err(|error| TrialError::Path(path.to_owned(), error))?;
        let response = match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let code = response.status();
        let body = to_bytes(response.into_body(), ANSWER_BYTES).await.ok();
        let text = body.and_then(|body| String::from_utf8(body.to_vec()).ok());
        let text = text.ok_or_else(|| TrialError::Answer(path.to_owned()))?;
        Ok((code, text))
    }
}

struct Objects(Vec<TrialObject>);

impl ObjectLister for Objects {
    fn list(
        &self,
        resource: &GroupResource,
        namespace: Option<&str>,
        selector: &Selector,
    ) -> Result<Vec<ObjectRef>, ListError> {
        let is_of = |object: &&TrialObject| {
            let kind = StaticMapper.resolve(&object.resource);
            kind.is_some_and(|kind| kind.resource == *resource)
                && (namespace.is_none() || object.namespace.as_deref() == namespace)
                && selector.matches(&object.labels)
        };
        let reference = |object: &TrialObject| ObjectRef {
            namespace: object.namespace.as_deref().map(Arc::from),
            name: object.name.as_str().into(),
        };
        let mut found: Vec<ObjectRef> = self.0.iter().filter(is_of).map(reference).collect();
        found.sort();
        Ok(found)
    }
}
