//! The same rules through the three engines, and every kind of metric that an HPA can ask for: of pods, of another object, of
//! its namespace, and of none.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::json;

use crate::adapter::Adapter;
use crate::exporter::Exporter;
use crate::process::{Process, Workspace};
use crate::programs::programs;
use crate::scaled::{deployment, replicas_are};
use crate::scene::Scene;
use crate::wait::eventually;

/// What each HPA is scaled on: its Deployment's name, and the metric.
const KINDS: [&str; 4] = ["by-pods", "by-object", "by-namespace", "by-external"];

/// Back to one replica takes the window for scaling down, and a sync before and after it.
const LONG: Duration = Duration::from_secs(90);

/// The rule file, the same for all engines. `ADDRESS` is the exporter's.
const RULES: &str = r#"
freshWithin: 1s
maxAge: 5s
scrape:
  interval: 1s
  timeout: 1s
  presets: []
  scrape_configs: [{job_name: load, static_configs: [{targets: ['ADDRESS']}]}]
rules:
- seriesQuery: 'load{namespace!="",pod!=""}'
  resources: {template: <<.Resource>>}
  metricsQuery: avg(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
- seriesQuery: 'backlog{namespace!="",service!=""}'
  resources: {template: <<.Resource>>}
  metricsQuery: max(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
- seriesQuery: 'tenant_load{namespace!=""}'
  resources: {template: <<.Resource>>}
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
externalRules:
- seriesQuery: 'Queue_Length{namespace!=""}'
  resources: {template: <<.Resource>>}
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (queue)
"#;

#[tokio::test]
#[ignore = "needs the control plane, a real Prometheus and a real VictoriaMetrics: make test"]
async fn an_hpa_scales_on_each_kind_of_metric_through_each_engine() {
    let scene = Scene::new("engines").await;
    let exporter = Exporter::hanging(&scene, "load").await;
    exporter.show(String::new());
    let rules = RULES.replace("ADDRESS", &exporter.address());
    let workspace = Workspace::create("engines");
    let peers = peers(&workspace, &exporter.address());
    submit(&scene).await;
    let urls = peers.iter().map(|(url, _)| Some(url.as_str()));
    for url in [None].into_iter().chain(urls) {
        let flags: Vec<String> = url
            .map(|url| format!("--prometheus-url={url}"))
            .into_iter()
            .collect();
        let adapter = Adapter::start_with_external(&scene, &rules, &flags).await;
        let engine = url.unwrap_or("embedded");
        for (load, replicas) in [(15.0, 2), (4.0, 1)] {
            eventually(
                &format!("{replicas} replicas by {engine}"),
                LONG,
                async || {
                    peers.iter().for_each(|(_, peer)| peer.assert_running());
                    report(&scene, &exporter, load).await;
                    for name in KINDS {
                        replicas_are(&scene, name, replicas).await?;
                    }
                    Ok::<(), String>(())
                },
            )
            .await;
        }
        adapter.remove_external(&scene).await;
    }
}

/// A Prometheus and a VictoriaMetrics that scrape the exporter every second.
fn peers(workspace: &Workspace, exporter: &str) -> [(String, Process); 2] {
    let jobs = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs: [{{job_name: load, static_configs: [{{targets: ['{exporter}']}}]}}]\n"
    );
    let file = workspace.write("scrape.yml", &jobs);
    let address = || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").to_string()
    };
    let (prometheus, victoria) = (address(), address());
    let data = |name| workspace.path(name).display().to_string();
    let of_prometheus = [
        format!("--config.file={file}"),
        format!("--storage.tsdb.path={}", data("prometheus")),
        format!("--web.listen-address={prometheus}"),
        "--log.level=warn".to_owned(),
    ];
    let of_victoria = [
        format!("-promscrape.config={file}"),
        format!("-storageDataPath={}", data("victoria-metrics")),
        format!("-httpListenAddr={victoria}"),
        "-loggerLevel=WARN".to_owned(),
    ];
    let program = programs().join("prometheus");
    [
        (
            format!("http://{prometheus}"),
            workspace.spawn("prometheus", &program, &of_prometheus),
        ),
        (
            format!("http://{victoria}"),
            workspace.spawn(
                "victoria-metrics",
                Path::new("victoria-metrics"),
                &of_victoria,
            ),
        ),
    ]
}

/// A Deployment and an HPA for each kind of metric, of which 10 is what one replica is meant to bear.
async fn submit(scene: &Scene) {
    let front = json!({"metadata": {"name": "front"}, "spec": {"ports": [{"port": 80}]}});
    scene.create::<Service>(front).await;
    let ten = json!({"type": "AverageValue", "averageValue": "10"});
    let object = |api_version: &str, kind: &str, name: &str, metric: &str| {
        json!({"type": "Object", "object": {
            "describedObject": {"apiVersion": api_version, "kind": kind, "name": name},
            "metric": {"name": metric}, "target": ten,
        }})
    };
    let metrics = [
        json!({"type": "Pods", "pods": {"metric": {"name": "load"}, "target": ten}}),
        object("v1", "Service", "front", "backlog"),
        object("v1", "Namespace", scene.namespace, "tenant_load"),
        json!({"type": "External", "external": {
            "metric": {"name": "Queue_Length", "selector": {"matchLabels": {"queue": "jobs"}}}, "target": ten,
        }}),
    ];
    for (name, metric) in KINDS.into_iter().zip(metrics) {
        scene.create::<Deployment>(deployment(name)).await;
        let hpa = json!({
            "metadata": {"name": name},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
                "minReplicas": 1, "maxReplicas": 2, "metrics": [metric],
            },
        });
        scene.create::<HorizontalPodAutoscaler>(hpa).await;
    }
}

/// Shows the load: on each pod as much, and the same on whatever else there is.
async fn report(scene: &Scene, exporter: &Exporter, load: f64) {
    let namespace = scene.namespace;
    let pods = scene.api::<Pod>().list(&ListParams::default()).await;
    let pods = pods.expect("the pods");
    let lines = pods.iter().map(|pod| {
        let name = pod.name_any();
        format!("load{{namespace=\"{namespace}\",pod=\"{name}\"}} {load}\n")
    });
    let mut page: String = lines.collect();
    for series in [
        format!("backlog{{namespace=\"{namespace}\",service=\"front\"}}"),
        format!("tenant_load{{namespace=\"{namespace}\",gpu=\"0\"}}"),
        format!("Queue_Length{{namespace=\"{namespace}\",queue=\"jobs\"}}"),
    ] {
        page += &format!("{series} {load}\n");
    }
    // Of another namespace and another queue: far too much.
    page += "tenant_load{namespace=\"other\"} 1000\n";
    page += &format!("Queue_Length{{namespace=\"{namespace}\",queue=\"mail\"}} 1000\n");
    exporter.show(page);
}
