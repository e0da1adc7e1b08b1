//! Exporters that show the time, and HPAs that ask for it through the API: how old is what they get, and how often are the
//! exporters asked?

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::routing::get;
use gpu_metrics_adapter::api::prometheus::{QueryApi, QueryLimits};
use gpu_metrics_adapter::api::{self, Api, Discovery, Health};
use gpu_metrics_adapter::app::{Core, Tasks};
use gpu_metrics_adapter::cluster::StaticMapper;
use gpu_metrics_adapter::config::Config;
use gpu_metrics_adapter::model::objects::{GroupResource, ListError, ObjectLister, ObjectRef};
use gpu_metrics_adapter::model::selector::Selector;
use gpu_metrics_adapter::model::time::Timestamp;
use http::Request;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tower::ServiceExt as _;

const METRIC: &str = "DCGM_FI_DEV_GPU_UTIL";

/// One pod for each exporter, `app=p0` and so on.
struct Pods(usize);

impl ObjectLister for Pods {
    fn list(
        &self,
        _: &GroupResource,
        namespace: Option<&str>,
        selector: &Selector,
    ) -> Result<Vec<ObjectRef>, ListError> {
        let names = (0..self.0).map(|index| format!("p{index}"));
        let object = |name: String| ObjectRef {
            namespace: namespace.map(Arc::from),
            name: name.into(),
        };
        Ok(names
            .filter(|name| selector.matches(&BTreeMap::from([("app".to_owned(), name.clone())])))
            .map(object)
            .collect())
    }
}

/// What was seen.
#[derive(Debug)]
pub(crate) struct Seen {
    /// The ages of the answers' data, in the order of size.
    pub(crate) ages: Vec<Duration>,
    /// How long the answers took, likewise.
    pub(crate) waits: Vec<Duration>,
    /// Scrapes of one exporter in an interval, on average.
    pub(crate) per_interval: f64,
}

/// The middle of sorted values.
pub(crate) fn median(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() / 2]
}

/// `exporters` with one HPA each, of which one asks each `interval` at a phase of its own, for `intervals`; what they see of
/// it but for the first `settle` intervals.
pub(crate) async fn observe(
    exporters: usize,
    interval: Duration,
    fresh_within: Duration,
    settle: u32,
    intervals: u32,
) -> Seen {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let epoch = Instant::now();
    let scrapes = Arc::new(AtomicUsize::new(0));
    let mut servers = Vec::new();
    let mut addresses = Vec::new();
    for index in 0..exporters {
        let scrapes = Arc::clone(&scrapes);
        let page = move || {
            scrapes.fetch_add(1, Ordering::Relaxed);
            let time = epoch.elapsed().as_secs_f64();
            async move {
                format!("{METRIC}{{gpu=\"0\",namespace=\"default\",pod=\"p{index}\"}} {time:.3}\n")
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        addresses.push(listener.local_addr().expect("an address").to_string());
        let router = Router::new().route("/metrics", get(page));
        servers.push(tokio::spawn(async move {
            axum::serve(listener, router).await.expect("it serves");
        }));
    }
    let millis = |duration: Duration| format!("{}ms", duration.as_millis());
    let (every, within) = (millis(interval), millis(fresh_within));
    // The preset's rules, without its job: nothing is found in a cluster that is not there.
    let text = format!(
        "freshWithin: {within}\nscrape:\n  interval: {every}\n  scrape_configs:\n  - {{job_name: nodes, static_configs: [{{targets: {addresses:?}}}]}}\n"
    );
    let config = Config::parse(&text).expect("valid");
    let core =
        Core::build(&config, Arc::new(Pods(exporters)), Arc::new(StaticMapper)).expect("valid");
    let tasks = Tasks::default();
    core.start(None, &tasks);
    let router = api::router(Arc::new(Api {
        provider: Arc::clone(&core.provider),
        fallback: None,
        resources: None,
        queries: Arc::new(QueryApi::new(
            Arc::clone(&core.queries),
            QueryLimits::default(),
        )),
        health: Health::new(Vec::new()),
        own_metrics: Box::new(String::new),
        now: Box::new(Timestamp::now),
        discovery: Discovery::default(),
    }));

    // All targets have been scraped once within two seconds; then the phases are spread.
    sleep(Duration::from_millis(2_500)).await;
    let mut askers = Vec::new();
    for index in 0..exporters {
        let router = router.clone();
        askers.push(tokio::spawn(async move {
            let mut seen = Vec::new();
            let share = (index * 7 % exporters) as f64 / exporters as f64;
            sleep(interval.mul_f64(share)).await;
            for count in 0..settle + intervals {
                let asked = Instant::now();
                let value = ask(&router, index).await;
                let age = epoch.elapsed().as_secs_f64() - value;
                if count >= settle {
                    seen.push((Duration::from_secs_f64(age.max(0.0)), asked.elapsed()));
                }
                // What an HPA needs for itself comes on top of its period.
                let own = f64::from((u32::try_from(index).unwrap_or(0) * 31 + count * 17) % 20);
                sleep(interval + interval.mul_f64(own / 1_000.0)).await;
            }
            seen
        }));
    }
    sleep(interval * settle).await;
    let (before, from) = (scrapes.load(Ordering::Relaxed), Instant::now());
    sleep(interval * intervals).await;
    let scraped = scrapes.load(Ordering::Relaxed) - before;
    let lasted = from.elapsed().div_duration_f64(interval);
    let (mut ages, mut waits) = (Vec::new(), Vec::new());
    for asker in askers {
        for (age, wait) in asker.await.expect("no panic") {
            ages.push(age);
            waits.push(wait);
        }
    }
    tasks.stop().await;
    servers.iter().for_each(tokio::task::JoinHandle::abort);
    ages.sort();
    waits.sort();
    Seen {
        ages,
        waits,
        per_interval: scraped as f64 / exporters as f64 / lasted,
    }
}

/// The value of pod `index`, in the HPA's way.
async fn ask(router: &Router, index: usize) -> f64 {
    let uri = format!(
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods/%2A/{METRIC}?labelSelector=app%3Dp{index}"
    );
    let request = Request::get(uri).body(Body::empty()).expect("a request");
    let response = router.clone().oneshot(request).await.expect("infallible");
    let (status, body) = (response.status(), response.into_body());
    let body = to_bytes(body, 1 << 20).await.expect("a body");
    assert!(status.is_success(), "{}", String::from_utf8_lossy(&body));
    let answer: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    let value = answer["items"][0]["value"].as_str().expect("a value");
    match value.strip_suffix('m') {
        Some(thousandths) => thousandths.parse::<f64>().expect("a number") / 1_000.0,
        None => value.parse().expect("a number"),
    }
}
