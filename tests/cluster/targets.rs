//! Targets of every role, from the objects that a real API server has, and really scraped.

use std::sync::Arc;

use gpu_metrics_adapter::model::matcher::Matcher;
use gpu_metrics_adapter::scrape::Scraping;
use gpu_metrics_adapter::store::{Limits, Store};
use gpu_metrics_adapter::targets::{self, TargetSet};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::control_plane::NODES;
use crate::exporter::{Exporter, SELECTOR};
use crate::scene::Scene;
use crate::wait::{PATIENCE, eventually};

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn pods_nodes_and_endpointslices_are_found_and_scraped() {
    let scene = Scene::new("roles").await;
    let exporter = Exporter::hanging(&scene, "exporter").await;
    exporter.show("answers 1\n".to_owned());
    let address = exporter.address();
    let port = address.rsplit_once(':').expect("a port").1;
    make_slice(&scene).await;
    // kwok has no kubelet: the node's own address is found, and led to the exporter. Nor may a slice have a loopback
    // address: it is the pod behind it that leads there, by a port that the slice has not.
    let section = format!(
        r#"
interval: 1s
timeout: 1s
presets: []
scrape_configs:
- job_name: pod
  kubernetes_sd_configs:
  - role: pod
    namespaces: {{names: [roles]}}
    selectors: [{{role: pod, label: {SELECTOR}}}]
- job_name: node
  kubernetes_sd_configs:
  - {{role: node, selectors: [{{role: node, field: metadata.name={node}}}]}}
  relabel_configs:
  - {{source_labels: [__address__], regex: "(.*):[0-9]+", target_label: __address__, replacement: "$1:{port}"}}
- job_name: endpointslice
  kubernetes_sd_configs:
  - {{role: endpointslice, namespaces: {{names: [roles]}}}}
  relabel_configs:
  - {{source_labels: [__address__], regex: "{address}", action: keep}}
  - {{source_labels: [__meta_kubernetes_service_name], target_label: service}}
  - {{source_labels: [__meta_kubernetes_pod_name], target_label: pod}}
"#,
        node = NODES[0],
    );
    let section = serde_saphyr::from_str(&section).expect("a section");
    let jobs = targets::compile(&section).expect("valid jobs");
    let (out, sets) = watch::channel(Arc::<TargetSet>::default());
    let cancel = CancellationToken::new();
    let client = Some(scene.client.clone());
    let finding = tokio::spawn(targets::run(
        jobs,
        10,
        client,
        Arc::new(out),
        cancel.clone(),
    ));
    let store = Store::new(Limits::default());
    let scraping = tokio::spawn(Scraping::into(store.clone()).run(sets, cancel.clone()));
    let mut expected = vec![
        format!(
            r#"answers{{instance="{address}", job="endpointslice", pod="exporter", service="exporter"}}"#
        ),
        format!(r#"answers{{instance="{}", job="node"}}"#, NODES[0]),
        format!(r#"answers{{instance="{address}", job="pod"}}"#),
    ];
    expected.sort();
    eventually("a sample of each role", PATIENCE, async || {
        let mut found = Vec::new();
        store.select(&[Matcher::equal("__name__", "answers")], |labels, _| {
            found.push(labels.to_string());
        });
        found.sort();
        (found == expected)
            .then_some(())
            .ok_or_else(|| format!("{found:#?} of {expected:#?}"))
    })
    .await;
    cancel.cancel();
    finding.await.expect("no panic");
    scraping.await.expect("no panic");
}

/// A Service, and a slice of it that leads to the exporter's pod.
async fn make_slice(scene: &Scene) {
    scene
        .create::<Service>(json!({
            "metadata": {"name": "exporter"},
            "spec": {"ports": [{"name": "other", "port": 81}]},
        }))
        .await;
    scene
        .create::<EndpointSlice>(json!({
            "metadata": {"name": "exporter-1", "labels": {"kubernetes.io/service-name": "exporter"}},
            "addressType": "IPv4",
            "ports": [{"name": "other", "port": 81}],
            "endpoints": [{
                "addresses": ["192.0.2.7"],
                "targetRef": {"kind": "Pod", "namespace": scene.namespace, "name": "exporter"},
            }],
        }))
        .await;
}
