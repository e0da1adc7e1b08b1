//! Every request that a real API server, its aggregator, the HPA controller and kubectl were seen to send.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::adapter::Adapter;
use crate::fixtures;
use crate::scene::Scene;

/// One captured request; the other fields say how it travelled.
#[derive(Deserialize)]
struct Captured {
    m: String,
    uri: String,
    h: BTreeMap<String, Vec<String>>,
}

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn every_captured_request_gets_an_answer_its_sender_can_use() {
    let scene = Scene::new("captured").await;
    let adapter = Adapter::start(&scene).await;
    let client = adapter.direct(&adapter.ca, Some(&scene.plane.front_proxy));
    let requests: Vec<Captured> = fixtures::text("captured-requests.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a captured request"))
        .collect();
    assert_eq!(requests.len(), 43);

    let mut wrong = Vec::new();
    for captured in &requests {
        let method = captured.m.parse().expect("a method");
        let mut request = client.request(method, adapter.url(&captured.uri));
        for (name, values) in &captured.h {
            for value in values {
                request = request.header(name, value);
            }
        }
        let answer = request.send().await.expect("an answer");
        let code = answer.status().as_u16();
        let headers = answer.headers().clone();
        let body = answer.bytes().await.expect("a body");
        let faults = [
            (!expected(&captured.uri).contains(&code), "status"),
            // client-go would then retry ten times and hold a worker of the HPA controller.
            (headers.contains_key("retry-after"), "Retry-After"),
            (code >= 400 && !is_refusal(&captured.uri, &body), "body"),
        ];
        for (_, fault) in faults.iter().filter(|(found, _)| *found) {
            let text = String::from_utf8_lossy(&body);
            wrong.push(format!("{fault}: {} → {code} {text}", captured.uri));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The answers that do no harm. What is not served is 404 for whoever may ask, and never 403: the availability and
/// OpenAPI controllers would take that for a broken API.
fn expected(uri: &str) -> &'static [u16] {
    match uri {
        "/apis"
        | "/apis/custom.metrics.k8s.io/v1beta1"
        | "/apis/custom.metrics.k8s.io/v1beta2"
        | "/apis/external.metrics.k8s.io/v1beta1" => &[200],
        openapi if openapi.starts_with("/openapi/") => &[200, 404],
        // Metrics of an exporter that is not there, and the groups that are not served.
        _ => &[404],
    }
}

/// A metric is refused with a Status, in JSON or protobuf: its message is all that the user of an HPA sees.
fn is_refusal(uri: &str, body: &[u8]) -> bool {
    if !uri.contains("/namespaces/") {
        return true;
    }
    let json = || serde_json::from_slice::<Value>(body).ok();
    body.starts_with(b"k8s\0") || json().is_some_and(|status| status["kind"] == "Status")
}
