//! What is answered to who prefers protobuf, held against what Go's own encoder makes of the same objects.

use k8s_metrics::custom_metrics::v1beta2::MetricValueList;
use k8s_metrics::external_metrics::ExternalMetric;
use k8s_metrics::external_metrics::v1beta1::ExternalMetricValueList;
use k8s_metrics::v1beta1::{NodeMetrics, PodMetrics};
use k8s_openapi::List;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    APIGroup, APIGroupList, APIResourceList, Status,
};
use serde::de::DeserializeOwned;

use super::*;

const HPA: &str = "application/vnd.kubernetes.protobuf, */*";

async fn bytes(router: &Router, path: &str, accept: &str) -> (HeaderValue, Vec<u8>) {
    let request = Request::get(path).header(ACCEPT, accept);
    let request = request.body(Body::empty()).expect("a request");
    let response = router.clone().oneshot(request).await.expect("infallible");
    let content_type = response.headers()[CONTENT_TYPE].clone();
    let body = to_bytes(response.into_body(), 1 << 20).await;
    (content_type, body.expect("a short body").to_vec())
}

#[tokio::test]
async fn discovery_is_what_go_writes_to_the_byte() {
    let router = served().await;
    let goldens: [(_, &[u8]); 3] = [
        (
            "/apis",
            include_bytes!("../../../tests/fixtures/protobuf/groups.pb"),
        ),
        (
            "/apis/custom.metrics.k8s.io",
            include_bytes!("../../../tests/fixtures/protobuf/group.pb"),
        ),
        (
            "/apis/custom.metrics.k8s.io/v1beta2",
            include_bytes!("../../../tests/fixtures/protobuf/resources.pb"),
        ),
    ];
    for (path, golden) in goldens {
        let (content_type, body) = bytes(&router, path, HPA).await;
        assert_eq!(
            (content_type.as_bytes(), &*body),
            (protobuf::MEDIA_TYPE.as_bytes(), golden),
            "{path}"
        );
        // The availability controller sends no `Accept`.
        assert_eq!(bytes(&router, path, "").await.0, "application/json");
    }
}

/// A router that refuses everything, behind the layer through which refusals go out.
fn refusing(details: Option<Details<'static>>) -> Router {
    let refuse = move || async move {
        failure(
            StatusCode::NOT_FOUND,
            "NotFound",
            "the server could not find the metric x for pods",
            details,
        )
    };
    Router::new()
        .fallback(refuse)
        .layer(from_fn(status::negotiated))
}

#[tokio::test]
async fn a_refusal_is_what_go_writes_to_the_byte() {
    let about = Details {
        name: "x",
        group: "custom.metrics.k8s.io",
        kind: "pods",
    };
    let goldens: [(_, &[u8]); 3] = [
        (
            None,
            include_bytes!("../../../tests/fixtures/protobuf/status.pb"),
        ),
        (
            Some(about),
            include_bytes!("../../../tests/fixtures/protobuf/status-details.pb"),
        ),
        (
            Some(Details::default()),
            include_bytes!("../../../tests/fixtures/protobuf/status-no-details.pb"),
        ),
    ];
    for (details, golden) in goldens {
        let (content_type, body) = bytes(&refusing(details), "/", HPA).await;
        assert_eq!(
            (content_type.as_bytes(), &*body),
            (protobuf::MEDIA_TYPE.as_bytes(), golden)
        );
    }
}

#[tokio::test]
async fn a_refusal_goes_in_the_form_that_its_client_reads() {
    let router = refusing(None);
    for (path, accept, content_type, start) in [
        ("/", "", "application/json", &b"{\"kind\""[..]),
        (
            "/",
            "application/vnd.kubernetes.protobuf;q=0.4,application/json",
            "application/json",
            b"{\"kind\"",
        ),
        (
            "/",
            "application/json;q=0.4,application/vnd.kubernetes.protobuf",
            protobuf::MEDIA_TYPE,
            b"k8s\0",
        ),
        (
            "/?pretty=1",
            "application/json",
            "application/json",
            b"{\n  \"kind\"",
        ),
        // What went wrong is not to be hidden by a 406.
        ("/", "text/html", "application/json", b"{\"kind\""),
    ] {
        let (actual, body) = bytes(&router, path, accept).await;
        assert_eq!(actual, content_type, "{accept}");
        assert!(body.starts_with(start), "{accept}: {body:?}");
    }
}

async fn read<T: DeserializeOwned>(router: &Router, path: &str) -> T {
    let (_, _, body) = get(router, path, &[]).await;
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error} in {body}"))
}

#[tokio::test]
async fn discovery_and_refusals_are_read_by_types_that_nobody_here_wrote() {
    let router = served().await;
    let groups: APIGroupList = read(&router, "/apis").await;
    let names: Vec<&str> = groups.groups.iter().map(|group| &*group.name).collect();
    assert_eq!(names, ["custom.metrics.k8s.io", "external.metrics.k8s.io"]);
    let group: APIGroup = read(&router, "/apis/external.metrics.k8s.io").await;
    assert_eq!(group.versions.len(), 1);
    let list: APIResourceList = read(&router, "/apis/custom.metrics.k8s.io/v1beta1").await;
    assert_eq!(list.resources[1].name, format!("pods/{METRIC}"));
    assert_eq!(list.resources[1].verbs, ["get"]);
    let status: Status = read(&router, &format!("{V2}/pods/*/nothing")).await;
    assert_eq!(
        (status.code, status.reason.as_deref()),
        (Some(404), Some("NotFound"))
    );
}

/// They check kind and version of the list, too. For `custom.metrics.k8s.io/v1beta1` there are none, and for `metrics.k8s.io/v1` only
/// against a Kubernetes newer than what this is compiled for.
#[tokio::test]
async fn every_list_is_read_by_types_that_nobody_here_wrote() {
    let router = everything().await;
    let list: MetricValueList<Pod> = read(&router, &format!("{V2}/pods/*/{METRIC}")).await;
    let values = list.items.iter();
    let values: Vec<(Option<&str>, &str)> = values
        .map(|item| (item.described_object.name.as_deref(), item.value.0.as_str()))
        .collect();
    assert_eq!(values, [(Some("qwen-a"), "40500m"), (Some("qwen-b"), "95")]);

    let path = "/apis/external.metrics.k8s.io/v1beta1/namespaces/any/busy_gpus";
    let list: ExternalMetricValueList<BusyGpus> = read(&router, path).await;
    let values = list.items.iter();
    let values: Vec<(&str, &str)> = values
        .map(|item| (item.metric_labels["gpu"].as_str(), item.value.0.as_str()))
        .collect();
    assert_eq!(values, [("0", "40500m"), ("1", "95")]);

    let pods: List<PodMetrics> = read(&router, "/apis/metrics.k8s.io/v1beta1/pods").await;
    assert_eq!(pods.items[0].containers[0].usage.cpu.0, "500m");
    let nodes: List<NodeMetrics> = read(&router, "/apis/metrics.k8s.io/v1beta1/nodes").await;
    assert_eq!(nodes.items[0].usage.cpu.0, "1");
}

struct BusyGpus;

impl ExternalMetric for BusyGpus {
    const KIND: &'static str = "ExternalMetricValue";
    const URL_PATH_SEGMENT: &'static str = "busy_gpus";
}
