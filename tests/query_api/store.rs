//! A store with known scrapes, and the API over it with a clock that stands still.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use gpu_metrics_adapter::api::prometheus::{QueryApi, QueryLimits};
use gpu_metrics_adapter::api::{self, Discovery, Health};
use gpu_metrics_adapter::cluster::StaticMapper;
use gpu_metrics_adapter::engine::embedded::Embedded;
use gpu_metrics_adapter::engine::query::QueryService;
use gpu_metrics_adapter::model::labels::{Labels, METRIC_NAME};
use gpu_metrics_adapter::model::objects::NoObjects;
use gpu_metrics_adapter::model::time::Timestamp;
use gpu_metrics_adapter::provider::{Provider, Settings};
use gpu_metrics_adapter::store::{Limits, MetadataIndex, Store, TargetInfo, TargetWriter};
use http::Request;
use tower::ServiceExt as _;

/// 2026-11-23T20:00:00Z, in seconds.
pub(crate) const BASE: i64 = 1_795_464_000;

/// Now: a quarter of a second after the last scrape.
const NOW: Timestamp = Timestamp::from_millis(BASE * 1000 + 60_250);

/// The API and what keeps its series alive.
pub(crate) struct Api {
    router: Router,
    _targets: [TargetWriter; 3],
}

/// The API within its usual limits.
pub(crate) fn scraped() -> Api {
    Api::new(QueryLimits::default())
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis((BASE + seconds) * 1000)
}

fn register(store: &Arc<Store>, job: &str, address: &str) -> TargetWriter {
    store.register(TargetInfo {
        job: job.into(),
        url: format!("http://{address}/metrics"),
        object: None,
        interval: Duration::from_secs(15),
    })
}

fn labels(name: &str, job: &str, instance: &str, pod: &str) -> Labels {
    Labels::new([
        (METRIC_NAME, name),
        ("job", job),
        ("instance", instance),
        ("pod", pod),
    ])
}

/// The series about a target.
fn about(job: &str, instance: &str) -> [Labels; 2] {
    ["up", "scrape_duration_seconds"].map(|name| labels(name, job, instance, ""))
}

impl Api {
    /// Five scrapes, 15 s apart, of a target with two pods, and with a third in the first scrape; a target that is down; one
    /// that was not scraped yet.
    pub(crate) fn new(limits: QueryLimits) -> Self {
        let store = Store::new(Limits::default());
        let (good, bad) = ("10.0.0.7:9400", "10.0.0.8:9400");
        let mut target = register(&store, "dcgm", good);
        let b = [f64::NAN, f64::NAN, f64::INFINITY, 9.5e-7, 1e21];
        for (index, a) in [40.0, 41.0, 42.0, 43.0, 44.0].into_iter().enumerate() {
            let time = at(15 * i64::try_from(index).unwrap());
            let mut scrape = target.begin(time);
            let util = |pod| labels("util", "dcgm", good, pod);
            scrape.add(&util("a"), a, None).unwrap();
            scrape.add(&util("b"), b[index], None).unwrap();
            if index == 0 {
                scrape.add(&util("gone"), 1.0, None).unwrap();
            }
            let [up, duration] = &about("dcgm", good);
            scrape.commit_with(&[(up, 1.0), (duration, 0.025)]);
        }
        let mut down = register(&store, "down", bad);
        let [up, duration] = &about("down", bad);
        let about_it = [(up, 0.0), (duration, 0.025)];
        down.failed(at(0), "answered 503", &about_it);
        let new = register(&store, "new", "10.0.0.9:9400");

        let metadata = Arc::new(MetadataIndex::default());
        metadata.set_kind("util", "gauge");
        metadata.set_help("util", "How busy.");
        metadata.set_unit("util", "percent");
        metadata.set_kind("gone", "gauge");
        let service = QueryService::over(Arc::clone(&store)).with_metadata(metadata);
        let service = Arc::new(service);
        let provider = Provider::new(
            Settings::default(),
            Arc::new(Embedded::new(store)),
            Arc::new(NoObjects),
            Arc::new(StaticMapper),
        );
        let router = api::router(Arc::new(api::Api {
            provider: Arc::new(provider),
            fallback: None,
            resources: None,
            queries: Arc::new(QueryApi::new(service, limits)),
            health: Health::new(Vec::new()),
            own_metrics: Box::new(String::new),
            now: Box::new(|| NOW),
            discovery: Discovery::default(),
        }));
        Self {
            router,
            _targets: [target, down, new],
        }
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, form: &str) -> (u16, String) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(form.to_owned()))
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let code = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 24).await.unwrap();
        (code, String::from_utf8(body.to_vec()).unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path, "").await
    }

    pub(crate) async fn post(&self, path: &str, form: &str) -> (u16, String) {
        self.ask("POST", path, form).await
    }

    /// The `data` of a good answer.
    pub(crate) async fn data(&self, path: &str) -> serde_json::Value {
        let (code, body) = self.get(path).await;
        assert_eq!(code, 200, "{path}: {body}");
        let mut answer: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["status"], "success");
        answer["data"].take()
    }
}
