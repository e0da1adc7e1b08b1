//! What the adapter says of itself, as kubectl shows it: kinds and their fields, resources, groups.

use std::time::Duration;

use http::header::{ACCEPT, ETAG, IF_NONE_MATCH};
use serde_json::Value;

use crate::adapter::Adapter;
use crate::exporter::Exporter;
use crate::resource_metrics::adapter_and;
use crate::scene::Scene;
use crate::wait::{PATIENCE, eventually};

/// kube-apiserver asks for OpenAPI once a minute.
const LONG: Duration = Duration::from_secs(100);

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn kubectl_explains_and_lists_what_is_served() {
    let scene = Scene::new("documents").await;
    let (_kubelets, adapter) = adapter_and(&scene).await;

    let pods = explained(&scene, &["podmetrics"]).await;
    for text in [
        "GROUP:      metrics.k8s.io",
        "KIND:       PodMetrics",
        "VERSION:    v1beta1",
        "containers\t<[]Object> -required-",
        "window\t<string> -required-",
    ] {
        assert!(pods.contains(text), "{text:?} in\n{pods}");
    }
    let usage = explained(&scene, &["podmetrics.containers.usage"]).await;
    assert!(
        usage.contains("FIELD: usage <map[string]string>"),
        "{usage}"
    );
    assert!(usage.contains("cpu in cores"), "{usage}");
    let nodes = explained(&scene, &["nodemetrics", "--recursive"]).await;
    assert!(
        nodes.contains("usage\t<map[string]string> -required-"),
        "{nodes}"
    );
    let v1 = explained(&scene, &["podmetrics", "--api-version=metrics.k8s.io/v1"]).await;
    assert!(v1.contains("VERSION:    v1\n"), "{v1}");
    // The kind that a metric of pods is answered with; kubectl finds a kind by a resource only.
    for (version, field) in [
        ("v1beta2", "metric\t<Object>"),
        ("v1beta1", "metricName\t<string>"),
    ] {
        let version = format!("--api-version=custom.metrics.k8s.io/{version}");
        let list = explained(&scene, &["pods", &version]).await;
        assert!(list.contains("KIND:       MetricValueList"), "{list}");
        let list = explained(&scene, &["pods", &version, "--recursive"]).await;
        assert!(list.contains("items\t<[]MetricValue> -required-"), "{list}");
        assert!(list.contains(field), "{field} in\n{list}");
    }

    // Merged into the document of version 2, from which kube-apiserver makes protobuf; nothing of Kubernetes' own is renamed by it.
    let v2 = explained(&scene, &["podmetrics", "--output=plaintext-openapiv2"]).await;
    assert!(v2.contains("KIND:     PodMetrics"), "{v2}");
    let merged = scene.plane.kubectl(&["get", "--raw", "/openapi/v2"]).await;
    let merged: Value = serde_json::from_str(&merged.expect("a document")).expect("JSON");
    let definitions = merged["definitions"].as_object().expect("definitions");
    let renamed: Vec<&String> = definitions.keys().filter(|it| it.contains("_v2")).collect();
    assert!(renamed.is_empty(), "{renamed:?}");

    let resources = ["api-resources", "--no-headers", "--api-group"];
    let of = async |group: &str| {
        let text = scene
            .plane
            .kubectl(&[&resources[..], &[group]].concat())
            .await;
        let mut lines: Vec<String> = text
            .expect("resources")
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(
        of("metrics.k8s.io").await,
        [
            "nodes metrics.k8s.io/v1beta1 false NodeMetrics",
            "pods metrics.k8s.io/v1beta1 true PodMetrics",
        ]
    );
    assert_eq!(
        of("custom.metrics.k8s.io").await,
        [""; 0],
        "metrics are no resources of their own"
    );
    let services = scene
        .plane
        .kubectl(&["get", "apiservice", "--no-headers"])
        .await;
    let services = services.expect("APIServices");
    for name in [
        "v1beta1.custom.metrics.k8s.io",
        "v1beta2.custom.metrics.k8s.io",
        "v1.metrics.k8s.io",
        "v1beta1.metrics.k8s.io",
    ] {
        let line = services.lines().find(|line| line.starts_with(name));
        let words: Vec<&str> = line.expect("it is registered").split_whitespace().collect();
        assert_eq!(
            words[1..3],
            ["gpu-metrics-adapter/gpu-metrics-adapter", "True"],
            "{name}"
        );
    }
    without_the_aggregator(&scene, &adapter).await;
}

/// What kube-apiserver answers itself where it is between.
async fn without_the_aggregator(scene: &Scene, adapter: &Adapter) {
    let client = adapter.direct(&adapter.ca, Some(&scene.plane.front_proxy));
    let get = async |path: &str, accept: &str, tag: Option<&str>| {
        let mut request = client.get(adapter.url(path)).header(ACCEPT, accept);
        request = request.header("X-Remote-User", "system:kube-aggregator");
        request = request.header("X-Remote-Group", "system:masters");
        if let Some(tag) = tag {
            request = request.header(IF_NONE_MATCH, tag);
        }
        let answer = request.send().await.expect("an answer");
        let (code, headers) = (answer.status().as_u16(), answer.headers().clone());
        (code, headers, answer.bytes().await.expect("a body"))
    };
    assert_eq!(get("/api", "*/*", None).await.0, 404);
    let (code, _, version) = get("/version", "*/*", None).await;
    let version: Value = serde_json::from_slice(&version).expect("JSON");
    assert_eq!(
        (code, version["gitVersion"].as_str()),
        (200, Some(concat!("v", env!("CARGO_PKG_VERSION"))))
    );
    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    for (path, accept) in [
        ("/apis", aggregated),
        ("/openapi/v2", "application/json"),
        ("/openapi/v3", ""),
    ] {
        let (code, headers, _) = get(path, accept, None).await;
        assert_eq!(code, 200, "{path}");
        let tag = headers[ETAG].to_str().expect("text");
        let (code, _, body) = get(path, accept, Some(tag)).await;
        assert_eq!((code, body.len()), (304, 0), "{path}");
    }
    let protobuf = "application/vnd.kubernetes.protobuf, */*";
    let missing = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/documents/pods/*/none";
    for (path, code) in [("/apis/custom.metrics.k8s.io/v1beta2", 200), (missing, 404)] {
        let (actual, _, body) = get(path, protobuf, None).await;
        assert_eq!((actual, &body[..4]), (code, &b"k8s\0"[..]), "{path}");
    }
}

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn kubectl_explains_an_external_metric() {
    let scene = Scene::new("documents-external").await;
    let exporter = Exporter::hanging(&scene, "exporter").await;
    exporter.show("queue_len{queue=\"jobs\"} 3\n".to_owned());
    let rules = format!(
        "maxAge: 5s
scrape:
  interval: 1s
  timeout: 1s
  presets: []
  scrape_configs: [{{job_name: queues, static_configs: [{{targets: ['{}']}}]}}]
externalRules:
- seriesQuery: queue_len
  resources: {{namespaced: false}}
  metricsQuery: sum(<<.Series>>{{<<.LabelMatchers>>}}) by (queue)
",
        exporter.address()
    );
    let adapter = Adapter::start_with_external(&scene, &rules, &[]).await;
    let text = explained(&scene, &["queue_len"]).await;
    assert!(
        text.contains("KIND:       ExternalMetricValueList"),
        "{text}"
    );
    let item = explained(&scene, &["queue_len.items.metricLabels"]).await;
    assert!(
        item.contains("FIELD: metricLabels <map[string]string>"),
        "{item}"
    );
    let path = "/apis/external.metrics.k8s.io/v1beta1/namespaces/any/queue_len";
    let list = eventually("the metric", PATIENCE, async || {
        scene.plane.kubectl(&["get", "--raw", path]).await
    })
    .await;
    assert!(
        list.contains(r#""metricLabels":{"queue":"jobs"}"#),
        "{list}"
    );
    adapter.remove_external(&scene).await;
}

/// What `kubectl explain` prints, once kube-apiserver has asked for the documents.
async fn explained(scene: &Scene, arguments: &[&str]) -> String {
    let command = [&["explain"], arguments].concat();
    eventually(&format!("{command:?}"), LONG, async || {
        scene.plane.kubectl(&command).await
    })
    .await
}
