//! The answers as any client of the cluster reads them: through the aggregator, with kubectl.

use serde_json::{Value, json};

use crate::adapter::Adapter;
use crate::exporter::{Exporter, sm_util_page};
use crate::scene::Scene;
use crate::wait::{PATIENCE, eventually};

const METRIC: &str = "DCGM_CUSTOM_PROCESS_SM_UTIL";

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn kubectl_get_raw_answers_for_both_versions() {
    let scene = Scene::new("raw").await;
    for (name, app) in [("busy", "model"), ("idle", "model"), ("other", "else")] {
        let pod = json!({
            "metadata": {"name": name, "labels": {"app": app}},
            "spec": {"containers": [{"name": "main", "image": "model"}]},
        });
        scene.create::<k8s_openapi::api::core::v1::Pod>(pod).await;
    }
    let exporter = Exporter::hanging(&scene, "exporter").await;
    let values = [("busy", 97.5), ("idle", 0.0), ("other", 40.0)];
    exporter.show(sm_util_page(
        scene.namespace,
        &values.map(|(pod, percent)| (pod.to_owned(), percent)),
    ));
    let _adapter = Adapter::start(&scene).await;

    for version in ["v1beta1", "v1beta2"] {
        let list = |items: Value| {
            json!({
                "kind": "MetricValueList",
                "apiVersion": format!("custom.metrics.k8s.io/{version}"),
                "metadata": {},
                "items": items,
            })
        };
        let item = |pod: &str, value: &str| item(version, scene.namespace, pod, value);
        let metrics = format!(
            "/apis/custom.metrics.k8s.io/{version}/namespaces/{}/pods",
            scene.namespace
        );

        let selected = format!("{metrics}/*/{METRIC}?labelSelector=app%3Dmodel");
        let text = eventually("values of the selected pods", PATIENCE, async || {
            scene.plane.kubectl(&["get", "--raw", &selected]).await
        })
        .await;
        assert!(
            text.starts_with("{\"kind\":\"MetricValueList\",\"apiVersion\":"),
            "{text}"
        );
        assert_eq!(
            read(&text),
            list(json!([item("busy", "97500m"), item("idle", "0")])),
            "a GPU at 0 is an answer, a pod that is not selected is none"
        );

        let one = format!("{metrics}/other/{METRIC}");
        let text = scene.plane.kubectl(&["get", "--raw", &one]).await;
        assert_eq!(
            read(&text.expect("one pod")),
            list(json!([item("other", "40")]))
        );

        let unknown = format!("{metrics}/*/no_such_metric");
        let refusal = scene.plane.kubectl(&["get", "--raw", &unknown]).await;
        let refusal = refusal.expect_err("an unknown metric");
        assert!(
            refusal.contains("(NotFound)") && refusal.contains("no_such_metric"),
            "{refusal}"
        );

        let discovery = format!("/apis/custom.metrics.k8s.io/{version}");
        let text = scene.plane.kubectl(&["get", "--raw", &discovery]).await;
        let document: Value =
            serde_json::from_str(&text.expect("discovery")).expect("discovery in JSON");
        let resources = document["resources"].as_array().expect("resources");
        let pods = resources
            .iter()
            .find(|resource| resource["name"] == format!("pods/{METRIC}"))
            .unwrap_or_else(|| panic!("pods/{METRIC} in {document}"));
        assert_eq!(pods["namespaced"], true);
        // A `list` or `delete` here would bring the garbage collector and the namespace controller.
        assert_eq!(pods["verbs"], json!(["get"]));
    }
}

/// An item as the version has it, without the time of the sample.
fn item(version: &str, namespace: &str, pod: &str, value: &str) -> Value {
    let object = json!({"kind": "Pod", "namespace": namespace, "name": pod, "apiVersion": "/v1"});
    if version == "v1beta1" {
        json!({"describedObject": object, "metricName": METRIC, "value": value, "selector": null})
    } else {
        json!({"describedObject": object, "metric": {"name": METRIC, "selector": null}, "value": value})
    }
}

/// The list, with each item's time checked and taken out.
fn read(text: &str) -> Value {
    let mut list: Value = serde_json::from_str(text).expect("JSON");
    for item in list["items"].as_array_mut().expect("items") {
        let fields = item.as_object_mut().expect("an item");
        let time = fields.remove("timestamp").expect("a timestamp");
        let time: jiff::Timestamp = time
            .as_str()
            .expect("text")
            .parse()
            .expect("an RFC 3339 time");
        let age = jiff::Timestamp::now().duration_since(time).as_secs();
        assert!((-1..=30).contains(&age), "the sample is {age} s old");
    }
    list
}
