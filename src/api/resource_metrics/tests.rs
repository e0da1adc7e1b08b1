use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use http::Request;
use http::header::CONTENT_TYPE;
use k8s_metrics::v1beta1::{NodeMetrics, PodMetrics};
use tower::ServiceExt as _;

use super::*;
use crate::api::tests::over;
use crate::model::objects::LabelledObject;
use crate::model::quantity::Quantity;
use crate::provider::fixture::{at, world};
use crate::provider::resources::fixture::Kubelets;
use crate::provider::resources::{NodeUsage, PodUsage, Usage};

const BASE: &str = "/apis/metrics.k8s.io/v1beta1";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf, */*";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

/// Of the pods web-0 and of the nodes n1 have been scraped twice; the clock is at 00:20.
fn served() -> Router {
    let (mut kubelets, metrics) = Kubelets::of(&["n1"]);
    kubelets.usual(
        "n1",
        at(0),
        10.0,
        &[("web-0", "c", 5.0), ("web-0", "d", 1.0)],
    );
    kubelets.usual(
        "n1",
        at(15),
        25.0,
        &[("web-0", "c", 12.5), ("web-0", "d", 2.5)],
    );
    // The series live as long as their targets.
    std::mem::forget(kubelets);
    over(world(""), Some(Arc::new(metrics)))
}

async fn get(router: &Router, path: &str, accept: &str) -> (StatusCode, String, Vec<u8>) {
    let request = Request::get(path).header("accept", accept);
    let response = router
        .clone()
        .oneshot(request.body(Body::empty()).expect("a request"))
        .await
        .expect("infallible");
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.expect("a short body");
    let content_type = parts.headers[CONTENT_TYPE].to_str().expect("text");
    (parts.status, content_type.to_owned(), body.to_vec())
}

async fn text(router: &Router, path: &str, accept: &str) -> String {
    let (code, content_type, body) = get(router, &format!("{BASE}{path}"), accept).await;
    let text = String::from_utf8(body).expect("text");
    assert_eq!(
        (code, &*content_type),
        (StatusCode::OK, "application/json"),
        "{text}"
    );
    text
}

fn usage() -> Usage {
    Usage {
        cpu: Quantity::from_nanos(55_123_456),
        memory: Quantity::from_bytes(20_631_552),
        swap: None,
    }
}

fn labelled(namespace: Option<&str>, name: &str, labels: &[(&str, &str)]) -> LabelledObject {
    let labels = labels.iter();
    LabelledObject {
        object: ObjectRef {
            namespace: namespace.map(Arc::from),
            name: name.into(),
        },
        labels: Arc::new(labels.map(|(k, v)| ((*k).into(), (*v).into())).collect()),
    }
}

/// What Go's own encoders made of the same objects.
#[test]
fn lists_are_what_go_writes_to_the_byte() {
    let pod = PodUsage {
        pod: labelled(Some("demo"), "web-0", &[("app", "web")]),
        timestamp: at(0),
        window: Duration::from_millis(15_123),
        containers: vec![("c".into(), usage())],
    };
    let pods = [Item::pod(&pod)];
    let version = Version::ResourceV1Beta1;
    let json = serde_json::to_string(&bodies::list(Kind::Pod, version, &pods, at(0)));
    assert_eq!(
        json.expect("JSON"),
        concat!(
            r#"{"kind":"PodMetricsList","apiVersion":"metrics.k8s.io/v1beta1","metadata":{},"items":[{"metadata":{"name":"web-0","#,
            r#""namespace":"demo","creationTimestamp":"2026-11-23T20:00:00Z","labels":{"app":"web"}},"#,
            r#""timestamp":"2026-11-23T20:00:00Z","window":"15.123s","#,
            r#""containers":[{"name":"c","usage":{"cpu":"55123456n","memory":"20148Ki"}}]}]}"#
        )
    );
    assert_eq!(
        bodies::protobuf_list(Kind::Pod, version, &pods, at(0)),
        include_bytes!("../../../tests/fixtures/protobuf/pm.pb")
    );
    let node = NodeUsage {
        node: labelled(None, "n1", &[]),
        timestamp: at(0),
        window: Duration::from_secs(15),
        usage: usage(),
    };
    let nodes = [Item::node(&node)];
    let json = serde_json::to_string(&bodies::list(Kind::Node, version, &nodes, at(0)));
    assert_eq!(
        json.expect("JSON"),
        concat!(
            r#"{"kind":"NodeMetricsList","apiVersion":"metrics.k8s.io/v1beta1","metadata":{},"items":[{"metadata":{"name":"n1","#,
            r#""creationTimestamp":"2026-11-23T20:00:00Z"},"timestamp":"2026-11-23T20:00:00Z","window":"15s","#,
            r#""usage":{"cpu":"55123456n","memory":"20148Ki"}}]}"#
        )
    );
    assert_eq!(
        bodies::protobuf_list(Kind::Node, version, &nodes, at(0)),
        include_bytes!("../../../tests/fixtures/protobuf/nm.pb")
    );
}

#[test]
fn durations_are_written_as_go_does() {
    for (millis, expected) in [
        (0, "0s"),
        (15_000, "15s"),
        (60_000, "1m0s"),
        (15_123, "15.123s"),
        (15_060, "15.06s"),
        (90_000, "1m30s"),
        (3_600_000, "1h0m0s"),
        (500, "500ms"),
        (61_500, "1m1.5s"),
    ] {
        let duration = bodies::GoDuration(Duration::from_millis(millis));
        assert_eq!(duration.to_string(), expected);
    }
}

#[tokio::test]
async fn pods_are_listed_in_a_namespace_and_in_all_and_by_selectors() {
    let router = served();
    for path in [
        "/pods",
        "/namespaces/demo/pods",
        "/namespaces/demo/pods?labelSelector=app%3Dweb",
        "/pods?fieldSelector=metadata.name%3Dweb-0,metadata.namespace!%3Dother",
        "/pods?limit=500",
    ] {
        let list: serde_json::Value =
            serde_json::from_str(&text(&router, path, "application/json").await).expect("JSON");
        let items: Vec<PodMetrics> = serde_json::from_value(list["items"].clone()).expect(path);
        assert_eq!(items.len(), 1, "{path}");
        assert_eq!(items[0].metadata.name.as_deref(), Some("web-0"));
        assert_eq!(items[0].containers.len(), 2);
        assert_eq!(items[0].containers[0].usage.cpu.0, "500m");
    }
    for path in [
        "/namespaces/other/pods",
        "/pods?labelSelector=app%3Dx",
        "/pods?fieldSelector=metadata.name%3D%3Dweb-1",
        "/namespaces/demo/pods?fieldSelector=metadata.namespace%3Dother",
    ] {
        let list = text(&router, path, "").await;
        assert!(list.ends_with("\"items\":[]}\n"), "{path}: {list}");
    }
    let nodes: serde_json::Value =
        serde_json::from_str(&text(&router, "/nodes", "*/*").await).expect("JSON");
    let nodes: Vec<NodeMetrics> = serde_json::from_value(nodes["items"].clone()).expect("nodes");
    assert_eq!((nodes.len(), &*nodes[0].usage.cpu.0), (1, "1"));
}

#[tokio::test]
async fn one_object_has_its_kind_in_both_versions_and_encodings() {
    let router = served();
    let pod = text(&router, "/namespaces/demo/pods/web-0", "application/json").await;
    assert!(
        pod.starts_with(r#"{"kind":"PodMetrics","apiVersion":"metrics.k8s.io/v1beta1","metadata":{"name":"web-0""#),
        "{pod}"
    );
    let path = "/apis/metrics.k8s.io/v1/nodes/n1";
    let (_, _, node) = get(&router, path, "").await;
    let node = String::from_utf8(node).expect("text");
    assert!(
        node.starts_with(r#"{"kind":"NodeMetrics","apiVersion":"metrics.k8s.io/v1","#),
        "{node}"
    );
    let (code, content_type, body) = get(&router, path, PROTOBUF).await;
    assert_eq!(
        (code, &*content_type),
        (StatusCode::OK, protobuf::MEDIA_TYPE)
    );
    assert!(
        body.starts_with(b"k8s\0\x0a\x20\x0a\x11metrics.k8s.io/v1\x12\x0bNodeMetrics"),
        "{body:?}"
    );
}

#[tokio::test]
async fn kubectl_get_is_given_a_table() {
    let table = text(&served(), "/namespaces/demo/pods?limit=500", TABLE).await;
    assert_eq!(
        table,
        concat!(
            r#"{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{},"columnDefinitions":["#,
            r#"{"name":"Name","type":"string","format":"name","description":"Name of the resource","priority":0},"#,
            r#"{"name":"cpu","type":"string","format":"quantity","description":"","priority":0},"#,
            r#"{"name":"memory","type":"string","format":"quantity","description":"","priority":0},"#,
            r#"{"name":"Window","type":"string","format":"duration","description":"","priority":0}],"#,
            r#""rows":[{"cells":["web-0","600m","40296Ki","15s"],"object":{"kind":"PartialObjectMetadata","#,
            r#""apiVersion":"meta.k8s.io/v1","metadata":{"name":"web-0","namespace":"demo","#,
            r#""creationTimestamp":"2026-11-23T20:00:20Z","labels":{"app":"web"}}}}]}"#,
            "\n"
        )
    );
}

#[tokio::test]
async fn a_no_is_a_status_that_says_what_is_missing() {
    let router = served();
    for (path, code, expected) in [
        (
            "/namespaces/demo/pods/web-1",
            StatusCode::NOT_FOUND,
            r#""message":"podmetrics.metrics.k8s.io \"demo/web-1\" not found","reason":"NotFound","details":{"name":"demo/web-1","group":"metrics.k8s.io","kind":"podmetrics"}"#,
        ),
        (
            "/nodes/x",
            StatusCode::NOT_FOUND,
            r#""message":"nodes \"x\" not found","reason":"NotFound","details":{"name":"x","kind":"nodes"}"#,
        ),
        (
            "/pods?watch=true",
            StatusCode::METHOD_NOT_ALLOWED,
            r#"watch is not supported on resources of kind \"pods.metrics.k8s.io\""#,
        ),
        (
            "/pods?labelSelector=a+in",
            StatusCode::BAD_REQUEST,
            "unable to parse labelSelector",
        ),
        (
            "/pods?fieldSelector=spec.nodeName%3Dn1",
            StatusCode::BAD_REQUEST,
            r#"\"spec.nodeName\" is not a known field selector"#,
        ),
        (
            "/pods?fieldSelector=x",
            StatusCode::BAD_REQUEST,
            "invalid field selector",
        ),
        ("/widgets", StatusCode::NOT_FOUND, "requested resource"),
    ] {
        let (actual, _, body) = get(&router, &format!("{BASE}{path}"), "").await;
        let body = String::from_utf8(body).expect("text");
        assert!(
            actual == code && body.contains(expected),
            "{path}: {actual} {body}"
        );
    }
    let (code, _, _) = get(&router, &format!("{BASE}/pods"), "text/html").await;
    assert_eq!(code, StatusCode::NOT_ACCEPTABLE);
}

#[tokio::test]
async fn the_group_is_discovered_where_it_is_served_and_nowhere_else() {
    let router = served();
    let (_, _, list) = get(&router, BASE, "").await;
    assert_eq!(
        String::from_utf8(list).expect("text"),
        concat!(
            r#"{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"metrics.k8s.io/v1beta1","resources":["#,
            r#"{"name":"nodes","singularName":"","namespaced":false,"kind":"NodeMetrics","verbs":["get","list"]},"#,
            r#"{"name":"pods","singularName":"","namespaced":true,"kind":"PodMetrics","verbs":["get","list"]}]}"#,
            "\n"
        )
    );
    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let (_, _, document) = get(&router, "/apis", aggregated).await;
    let document: serde_json::Value = serde_json::from_slice(&document).expect("JSON");
    let group = &document["items"][2];
    assert_eq!(group["metadata"]["name"], "metrics.k8s.io");
    assert_eq!(
        group["versions"][0],
        serde_json::json!({"version": "v1beta1", "freshness": "Current", "resources": [
            {"resource": "nodes", "responseKind": {"group": "", "version": "", "kind": "NodeMetrics"},
             "scope": "Cluster", "singularResource": "", "verbs": ["get", "list"]},
            {"resource": "pods", "responseKind": {"group": "", "version": "", "kind": "PodMetrics"},
             "scope": "Namespaced", "singularResource": "", "verbs": ["get", "list"]},
        ]})
    );
    let (_, _, groups) = get(&router, "/apis", "").await;
    let groups = String::from_utf8(groups).expect("text");
    assert!(
        groups.contains(
            r#"{"name":"metrics.k8s.io","versions":[{"groupVersion":"metrics.k8s.io/v1beta1""#
        ),
        "{groups}"
    );
    let without = over(world(""), None);
    for path in [
        BASE,
        "/apis/metrics.k8s.io",
        "/apis/metrics.k8s.io/v1/nodes",
    ] {
        assert_eq!(
            get(&without, path, "").await.0,
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
    let (_, _, document) = get(&without, "/apis", aggregated).await;
    let document: serde_json::Value = serde_json::from_slice(&document).expect("JSON");
    assert_eq!(document["items"].as_array().map(Vec::len), Some(2));
}
