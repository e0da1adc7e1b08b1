mod encodings;

use axum::body::to_bytes;
use http::header::{ETAG, IF_NONE_MATCH, RETRY_AFTER};
use tower::ServiceExt as _;

use super::*;
use crate::engine::query::QueryService;
use crate::provider::fixture::{METRIC, World, at, world, world_with_external};
use crate::provider::resources::fixture::Kubelets;
use crate::store::{Limits, Store};

/// The router over a world in which two of three pods have a value.
async fn served() -> Router {
    let mut world = world("");
    world.scrape(at(0), &[("qwen-a", "0", 40.5), ("qwen-b", "1", 95.0)]);
    world.provider.refresh(at(0)).await;
    over(world, None)
}

/// All groups: two pods with a GPU each, an external metric, and a node with one pod that was scraped twice.
pub(super) async fn everything() -> Router {
    let mut world = world_with_external(
        "",
        r#"
- seriesQuery: DCGM_CUSTOM_PROCESS_SM_UTIL
  name: {as: busy_gpus}
  resources: {namespaced: false}
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (gpu)
"#,
    );
    world.scrape(at(0), &[("qwen-a", "0", 40.5), ("qwen-b", "1", 95.0)]);
    world.provider.refresh(at(0)).await;
    let (mut kubelets, metrics) = Kubelets::of(&["n1"]);
    kubelets.usual("n1", at(0), 10.0, &[("web-0", "c", 5.0)]);
    kubelets.usual("n1", at(15), 25.0, &[("web-0", "c", 12.5)]);
    // The series live as long as their targets.
    std::mem::forget(kubelets);
    over(world, Some(Arc::new(metrics)))
}

pub(super) fn over(world: World, resources: Option<Arc<ResourceMetrics>>) -> Router {
    let World { provider, target } = world;
    // The series live as long as their target.
    std::mem::forget(target);
    router(Arc::new(Api {
        fallback: None,
        provider: Arc::new(provider),
        resources,
        queries: Arc::new(prometheus::QueryApi::new(
            Arc::new(QueryService::over(Store::new(Limits::default()))),
            prometheus::QueryLimits::default(),
        )),
        health: Health::new(vec![Check {
            name: "pod-watch",
            test: Box::new(|| Err("no list yet".into())),
        }])
        .with_notes(vec![Note {
            name: "resource-metrics",
            text: Box::new(|| "1 of 2 nodes are measured; n2: down".to_owned()),
        }]),
        own_metrics: Box::new(|| "# EOF\n".to_owned()),
        now: Box::new(|| at(20)),
        discovery: Discovery::default(),
    }))
}

pub(super) async fn get(
    router: &Router,
    path: &str,
    headers: &[(&str, &str)],
) -> (StatusCode, http::HeaderMap, String) {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router
        .clone()
        .oneshot(request.body(Body::empty()).expect("a request"))
        .await
        .expect("infallible");
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.expect("a short body");
    assert!(!parts.headers.contains_key(RETRY_AFTER));
    (
        parts.status,
        parts.headers,
        String::from_utf8(body.to_vec()).expect("text"),
    )
}

const V2: &str = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default";
const V1: &str = "/apis/custom.metrics.k8s.io/v1beta1/namespaces/default";

#[tokio::test]
async fn lists_are_what_go_writes_to_the_byte() {
    let router = served().await;
    let (code, headers, body) = get(
        &router,
        &format!(
            "{V2}/pods/%2A/{METRIC}?labelSelector=app%3Dqwen&metricLabelSelector=ProcessId%3D1"
        ),
        &[("accept", "application/json, */*")],
    )
    .await;
    assert_eq!(
        (code, headers[CONTENT_TYPE].as_bytes()),
        (StatusCode::OK, &b"application/json"[..])
    );
    assert_eq!(
        body,
        concat!(
            r#"{"kind":"MetricValueList","apiVersion":"custom.metrics.k8s.io/v1beta2","metadata":{},"items":["#,
            r#"{"describedObject":{"kind":"Pod","namespace":"default","name":"qwen-a","apiVersion":"/v1"},"#,
            r#""metric":{"name":"DCGM_CUSTOM_PROCESS_SM_UTIL","selector":{"matchLabels":{"ProcessId":"1"}}},"#,
            r#""timestamp":"2026-11-23T20:00:00Z","value":"40500m"},"#,
            r#"{"describedObject":{"kind":"Pod","namespace":"default","name":"qwen-b","apiVersion":"/v1"},"#,
            r#""metric":{"name":"DCGM_CUSTOM_PROCESS_SM_UTIL","selector":{"matchLabels":{"ProcessId":"1"}}},"#,
            r#""timestamp":"2026-11-23T20:00:00Z","value":"95"}]}"#,
            "\n"
        )
    );
    let (_, _, body) = get(&router, &format!("{V1}/pods/qwen-b/{METRIC}"), &[]).await;
    assert_eq!(
        body,
        concat!(
            r#"{"kind":"MetricValueList","apiVersion":"custom.metrics.k8s.io/v1beta1","metadata":{},"items":["#,
            r#"{"describedObject":{"kind":"Pod","namespace":"default","name":"qwen-b","apiVersion":"/v1"},"#,
            r#""metricName":"DCGM_CUSTOM_PROCESS_SM_UTIL","timestamp":"2026-11-23T20:00:00Z","value":"95","selector":null}]}"#,
            "\n"
        )
    );
    let (_, _, body) = get(&router, &format!("{V2}/metrics/{METRIC}"), &[]).await;
    assert!(
        body.contains(
            r#""describedObject":{"kind":"Namespace","name":"default","apiVersion":"/v1"}"#
        ),
        "{body}"
    );
}

#[tokio::test]
async fn a_no_is_a_status_that_says_why() {
    let router = served().await;
    let unknown = get(&router, &format!("{V2}/pods/*/nothing"), &[]).await;
    assert_eq!(unknown.0, StatusCode::NOT_FOUND);
    assert_eq!(
        unknown.2,
        concat!(
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#,
            r#""message":"the server could not find the metric nothing for pods: none of the 2 rules offers it; "#,
            r#"offered for pods: DCGM_CUSTOM_PROCESS_SM_UTIL","reason":"NotFound","#,
            r#""details":{"name":"nothing","group":"custom.metrics.k8s.io","kind":"pods"},"code":404}"#,
            "\n"
        )
    );
    let cases = [
        (
            format!("{V2}/pods/*/{METRIC}?labelSelector=a+in"),
            StatusCode::BAD_REQUEST,
            "unable to parse labelSelector",
        ),
        (
            format!("{V2}/pods/*/{METRIC}?metricLabelSelector=a%3E1"),
            StatusCode::BAD_REQUEST,
            "metricLabelSelector",
        ),
        (
            format!(
                "{V2}/pods/*/{METRIC}?metricLabelSelector=a+in+({})",
                "x,".repeat(2100)
            ),
            StatusCode::BAD_REQUEST,
            "longer than 4096 bytes",
        ),
        (
            format!("/apis/custom.metrics.k8s.io/v1beta2/pods/*/{METRIC}"),
            StatusCode::BAD_REQUEST,
            "in one namespace",
        ),
        (
            "/apis/custom.metrics.k8s.io/v1beta2/pods/x".into(),
            StatusCode::BAD_REQUEST,
            "invalid request path",
        ),
        (
            format!("{V2}/pods/other/{METRIC}"),
            StatusCode::NOT_FOUND,
            "no value of",
        ),
        (
            format!("{V2}/widgets/*/{METRIC}"),
            StatusCode::NOT_FOUND,
            "could not find the resource widgets",
        ),
        (
            "/apis/metrics.k8s.io/v1beta1/nodes".into(),
            StatusCode::NOT_FOUND,
            "requested resource",
        ),
        (
            "/openapi/v3/apis/metrics.k8s.io/v1beta1".into(),
            StatusCode::NOT_FOUND,
            "requested resource",
        ),
        ("/api".into(), StatusCode::NOT_FOUND, "requested resource"),
        ("/apis/%ff".into(), StatusCode::BAD_REQUEST, "UTF-8"),
    ];
    for (path, code, text) in cases {
        let (actual, _, body) = get(&router, &path, &[]).await;
        assert!(
            actual == code && body.contains(text),
            "{path}: {actual} {body}"
        );
    }
    let html = get(
        &router,
        &format!("{V2}/pods/*/{METRIC}"),
        &[("accept", "text/html")],
    )
    .await;
    assert_eq!(html.0, StatusCode::NOT_ACCEPTABLE);
    let post = Request::post(format!("{V2}/pods/*/{METRIC}"))
        .body(Body::empty())
        .expect("a request");
    assert_eq!(
        router.oneshot(post).await.expect("infallible").status(),
        StatusCode::METHOD_NOT_ALLOWED
    );
}

#[tokio::test]
async fn discovery_lists_get_and_nothing_else() {
    let router = served().await;
    let (_, _, body) = get(&router, "/apis/custom.metrics.k8s.io/v1beta2", &[]).await;
    assert_eq!(
        body,
        concat!(
            r#"{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"custom.metrics.k8s.io/v1beta2","resources":["#,
            r#"{"name":"namespaces/DCGM_CUSTOM_PROCESS_SM_UTIL","singularName":"","namespaced":false,"#,
            r#""kind":"MetricValueList","verbs":["get"]},"#,
            r#"{"name":"pods/DCGM_CUSTOM_PROCESS_SM_UTIL","singularName":"","namespaced":true,"#,
            r#""kind":"MetricValueList","verbs":["get"]}]}"#,
            "\n"
        )
    );
    let (_, _, body) = get(&router, "/apis/custom.metrics.k8s.io", &[]).await;
    assert_eq!(
        body,
        concat!(
            r#"{"kind":"APIGroup","apiVersion":"v1","name":"custom.metrics.k8s.io","versions":["#,
            r#"{"groupVersion":"custom.metrics.k8s.io/v1beta2","version":"v1beta2"},"#,
            r#"{"groupVersion":"custom.metrics.k8s.io/v1beta1","version":"v1beta1"}],"#,
            r#""preferredVersion":{"groupVersion":"custom.metrics.k8s.io/v1beta2","version":"v1beta2"}}"#,
            "\n"
        )
    );
    let (_, _, body) = get(&router, "/apis", &[("accept", "application/json")]).await;
    assert!(body.starts_with(
        r#"{"kind":"APIGroupList","apiVersion":"v1","groups":[{"name":"custom.metrics.k8s.io""#
    ));
}

#[tokio::test]
async fn aggregated_discovery_is_sent_once_and_then_by_its_tag() {
    let router = served().await;
    let accept = (
        "accept",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    );
    let (code, headers, body) = get(&router, "/apis", &[accept]).await;
    assert_eq!(
        (code, headers[CONTENT_TYPE].as_bytes()),
        (StatusCode::OK, accept.1.as_bytes())
    );
    let document: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(document["kind"], "APIGroupDiscoveryList");
    let version = &document["items"][0]["versions"][0];
    assert_eq!(
        (version["version"].as_str(), version["freshness"].as_str()),
        (Some("v1beta2"), Some("Current"))
    );
    let pods = &version["resources"][1];
    assert_eq!(
        (pods["resource"].as_str(), pods["scope"].as_str()),
        (Some("pods"), Some("Namespaced"))
    );
    assert_eq!(pods["subresources"][0]["verbs"], serde_json::json!(["get"]));
    let tag = headers[ETAG].to_str().expect("text").to_owned();
    let (code, headers, body) =
        get(&router, "/apis", &[accept, (IF_NONE_MATCH.as_str(), &tag)]).await;
    assert_eq!((code, body.as_str()), (StatusCode::NOT_MODIFIED, ""));
    assert_eq!(headers[CONTENT_TYPE].as_bytes(), accept.1.as_bytes());
}

#[tokio::test]
async fn discovery_is_answered_before_anything_was_scraped() {
    let router = over(world(""), None);
    let (code, _, body) = get(&router, "/apis/custom.metrics.k8s.io/v1beta1", &[]).await;
    assert_eq!(code, StatusCode::OK);
    assert!(body.ends_with("\"resources\":[]}\n"), "{body}");
}

#[tokio::test]
async fn health_tells_its_checks_and_liveness_has_none() {
    let router = served().await;
    let (code, _, body) = get(&router, "/readyz", &[]).await;
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(
        body,
        concat!(
            "[+]ping ok\n[-]pod-watch failed: no list yet\n",
            "[+]resource-metrics ok: 1 of 2 nodes are measured; n2: down\nreadyz check failed\n"
        )
    );
    assert_eq!(get(&router, "/readyz?exclude=pod-watch", &[]).await.2, "ok");
    assert_eq!(get(&router, "/livez", &[]).await.2, "ok");
    assert_eq!(
        get(&router, "/healthz?verbose", &[]).await.2,
        "[+]ping ok\nhealthz check passed\n"
    );
    let (_, _, version) = get(&router, "/version", &[]).await;
    assert!(version.contains(r#""gitVersion":"v0."#), "{version}");
    assert_eq!(get(&router, "/metrics", &[]).await.2, "# EOF\n");
}

const EXTERNAL: &str = "/apis/external.metrics.k8s.io/v1beta1";

/// Rules for the external API over the one metric that the target shows.
const EXTERNAL_RULES: &str = r#"
- seriesQuery: DCGM_CUSTOM_PROCESS_SM_UTIL
  name: {as: Busy_GPUs}
  resources: {overrides: {NamespaceName: {resource: namespace}}}
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (gpu)
- seriesQuery: DCGM_CUSTOM_PROCESS_SM_UTIL
  name: {as: all_gpus}
  resources: {namespaced: false}
  metricsQuery: scalar(sum(<<.Series>>{<<.LabelMatchers>>}))
- seriesQuery: DCGM_CUSTOM_PROCESS_SM_UTIL
  name: {as: nowhere}
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>})
"#;

#[tokio::test]
async fn external_metrics_are_values_under_labels_and_their_names_may_come_in_lower_case() {
    let mut world = world_with_external("", EXTERNAL_RULES);
    world.scrape(at(0), &[("qwen-a", "0", 40.5), ("qwen-b", "1", 95.0)]);
    let router = over(world, None);
    let (code, _, body) = get(
        &router,
        &format!("{EXTERNAL}/namespaces/default/busy_gpus"),
        &[],
    )
    .await;
    assert_eq!(code, StatusCode::OK, "{body}");
    assert_eq!(
        body,
        concat!(
            r#"{"kind":"ExternalMetricValueList","apiVersion":"external.metrics.k8s.io/v1beta1","metadata":{},"items":["#,
            r#"{"metricName":"Busy_GPUs","metricLabels":{"gpu":"0"},"timestamp":"2026-11-23T20:00:00Z","value":"40500m"},"#,
            r#"{"metricName":"Busy_GPUs","metricLabels":{"gpu":"1"},"timestamp":"2026-11-23T20:00:00Z","value":"95"}]}"#,
            "\n"
        )
    );
    let (_, _, body) = get(
        &router,
        &format!("{EXTERNAL}/namespaces/default/Busy_GPUs?labelSelector=PodName+in+(qwen-b,x)"),
        &[],
    )
    .await;
    assert!(body.contains(r#""gpu":"1""#), "{body}");
    assert!(!body.contains(r#""gpu":"0""#), "{body}");
    // A number is a value without labels, with the time of what it was made from.
    let (_, _, body) = get(&router, &format!("{EXTERNAL}/namespaces/x/all_gpus"), &[]).await;
    assert!(
        body.ends_with(
            "\"metricLabels\":{},\"timestamp\":\"2026-11-23T20:00:00Z\",\"value\":\"135500m\"}]}\n"
        ),
        "{body}"
    );
    let (_, _, body) = get(&router, EXTERNAL, &[]).await;
    assert!(
        body.contains(concat!(
            r#"{"name":"Busy_GPUs","singularName":"","namespaced":true,"#,
            r#""kind":"ExternalMetricValueList","verbs":["get"]}"#
        )),
        "{body}"
    );
}

#[tokio::test]
async fn why_an_external_metric_has_no_value_is_said() {
    let mut world = world_with_external("", EXTERNAL_RULES);
    world.scrape(at(0), &[("qwen-a", "0", 40.5)]);
    let router = over(world, None);
    let cases = [
        (
            "namespaces/other/busy_gpus",
            StatusCode::NOT_FOUND,
            "no value of Busy_GPUs in namespace other: no series of DCGM_CUSTOM_PROCESS_SM_UTIL is there; \
             all 1 scrape targets answer and none shows it; rules[0] takes samples up to 45s old",
        ),
        (
            "namespaces/default/nowhere",
            StatusCode::INTERNAL_SERVER_ERROR,
            "it does not say which label names the namespace",
        ),
        (
            "namespaces/default/queue_len",
            StatusCode::NOT_FOUND,
            "the server could not find the external metric queue_len: none of the 3 externalRules offers it; \
             offered: Busy_GPUs, all_gpus, nowhere",
        ),
        (
            "namespaces/default/busy_gpus?labelSelector=gpu%3E1",
            StatusCode::BAD_REQUEST,
            "compares numbers",
        ),
        (
            "namespaces/default",
            StatusCode::BAD_REQUEST,
            "invalid request path",
        ),
    ];
    for (path, code, text) in cases {
        let (actual, _, body) = get(&router, &format!("{EXTERNAL}/{path}"), &[]).await;
        assert!(
            actual == code && body.contains(text),
            "{path}: {actual} {body}"
        );
    }
    let (_, _, body) = get(
        &over(world_with_external("", ""), None),
        &format!("{EXTERNAL}/namespaces/default/queue_len"),
        &[],
    )
    .await;
    assert!(
        body.contains("there are no `externalRules` in the configuration"),
        "{body}"
    );
}

/// prometheus-adapter asks the query and then answers 500, because Go's selectors have no such operator (its issue with `!=`).
#[tokio::test]
async fn a_selector_that_excludes_values_is_answered_and_given_back() {
    let router = served().await;
    let path = format!("{V2}/pods/*/{METRIC}?metricLabelSelector=ProcessId!%3D7,gpu+notin+(3)");
    let (code, _, body) = get(&router, &path, &[]).await;
    assert_eq!(code, StatusCode::OK, "{body}");
    let expressions = concat!(
        r#""selector":{"matchExpressions":[{"key":"ProcessId","operator":"NotIn","values":["7"]},"#,
        r#"{"key":"gpu","operator":"NotIn","values":["3"]}]}"#
    );
    assert!(body.contains(expressions), "{body}");
}
