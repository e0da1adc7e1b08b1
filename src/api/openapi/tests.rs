use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};

use super::*;
use crate::api::path::{self, Target};
use crate::api::tests::{everything, get, over};
use crate::provider::fixture::{METRIC, world_with_external};

async fn json(router: &axum::Router, path: &str) -> Value {
    let (code, headers, body) = get(router, path, &[]).await;
    assert_eq!(
        (code, headers[CONTENT_TYPE].as_bytes()),
        (StatusCode::OK, &b"application/json"[..]),
        "{path}: {body}"
    );
    serde_json::from_str(&body).expect("JSON")
}

fn group_versions() -> impl Iterator<Item = &'static str> {
    Version::ALL.into_iter().map(Version::group_version)
}

/// That of KEDA is not described twice.
#[tokio::test]
async fn external_metrics_are_described_only_where_there_are_rules_for_them_and_are_served_all_the_same()
 {
    let router = over(world_with_external("", ""), None);
    let root = json(&router, "/openapi/v3").await;
    let described = root["paths"].as_object().expect("an object").keys();
    let described: Vec<&String> = described.collect();
    assert_eq!(
        described,
        [
            "apis/custom.metrics.k8s.io/v1beta1",
            "apis/custom.metrics.k8s.io/v1beta2"
        ]
    );
    let old = json(&router, "/openapi/v2").await;
    let paths = old["paths"].as_object().expect("an object");
    assert!(!paths.keys().any(|path| path.contains("external")));
    let external = "external.metrics.k8s.io/v1beta1";
    let (code, ..) = get(&router, &format!("/openapi/v3/apis/{external}"), &[]).await;
    assert_eq!(code, StatusCode::NOT_FOUND);
    let paths = json(&router, "/").await;
    let paths = paths["paths"].to_string();
    assert!(!paths.contains(&format!("/openapi/v3/apis/{external}")));
    assert!(paths.contains(&format!("\"/apis/{external}\"")));
    let served = json(&router, &format!("/apis/{external}")).await;
    assert_eq!(served["resources"], json!([]));
}

#[tokio::test]
async fn the_root_leads_to_the_documents_which_may_be_kept_for_ever() {
    let router = everything().await;
    let root = json(&router, "/openapi/v3").await;
    for version in group_versions() {
        let url = &root["paths"][format!("apis/{version}")]["serverRelativeURL"];
        let url = url.as_str().expect("a path");
        let (code, headers, body) = get(&router, url, &[("accept", "application/json")]).await;
        assert_eq!(code, StatusCode::OK, "{body}");
        assert_eq!(headers[CACHE_CONTROL], FOR_EVER);
        assert!(body.len() < 16_000, "{url} has {} bytes", body.len());
        let tag = headers[ETAG].to_str().expect("text");
        let again = get(&router, url, &[(IF_NONE_MATCH.as_str(), tag)]).await;
        assert_eq!((again.0, &*again.2), (StatusCode::NOT_MODIFIED, ""));

        // Another document's hash, and none.
        let plain = format!("/openapi/v3/apis/{version}");
        let (code, headers, _) = get(&router, &format!("{plain}?hash=0123"), &[]).await;
        assert_eq!(
            (code, headers[LOCATION].as_bytes()),
            (StatusCode::MOVED_PERMANENTLY, url.as_bytes())
        );
        let (_, headers, same) = get(&router, &plain, &[]).await;
        assert_eq!(
            (headers[CACHE_CONTROL].as_bytes(), same),
            (ASK_AGAIN.as_bytes(), body)
        );
    }
    let protobuf = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
    let (code, ..) = get(&router, "/openapi/v3", &[("accept", protobuf)]).await;
    assert_eq!(code, StatusCode::NOT_ACCEPTABLE);
}

/// The document of version 2 has the same paths and schemas as all of version 3.
#[tokio::test]
async fn both_forms_tell_the_same() {
    let router = everything().await;
    let v2 = json(&router, "/openapi/v2").await;
    assert_eq!(v2["swagger"], "2.0");
    // kube-apiserver makes protobuf of it, and knows no more words than these.
    assert!(!v2.to_string().contains("nullable") && !v2.to_string().contains(SCHEMAS));
    let (mut paths, mut schemas) = (Vec::new(), Map::new());
    for version in group_versions() {
        let v3 = json(&router, &format!("/openapi/v3/apis/{version}")).await;
        paths.extend(v3["paths"].as_object().expect("paths").keys().cloned());
        schemas.extend(
            v3["components"]["schemas"]
                .as_object()
                .expect("schemas")
                .clone(),
        );
    }
    let of_v2: Vec<String> = v2["paths"]
        .as_object()
        .expect("paths")
        .keys()
        .cloned()
        .collect();
    paths.sort();
    assert_eq!(of_v2, paths);
    let schemas = Value::Object(schemas)
        .to_string()
        .replace(SCHEMAS, DEFINITIONS);
    assert_eq!(v2["definitions"].to_string(), schemas);
}

#[tokio::test]
async fn every_path_that_is_described_is_served() {
    let router = everything().await;
    let v2 = json(&router, "/openapi/v2").await;
    let paths = v2["paths"].as_object().expect("paths");
    assert!(
        paths
            .contains_key("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/busy_gpus")
    );
    for (path, item) in paths {
        let target = path::parse(&path.replace(['{', '}'], "")).expect("text");
        let refused = item["get"]["responses"].get("200").is_none();
        assert_eq!(target == Target::BadMetricPath, refused, "{path}");
        assert_ne!(target, Target::Unknown, "{path}");
        let named = path.matches('{').count();
        let parameters = item["get"]["parameters"].as_array().expect("parameters");
        let in_path = parameters
            .iter()
            .filter(|it| it["in"] == "path" && it["required"] == true);
        assert_eq!(in_path.count(), named, "{path}");
    }
}

#[tokio::test]
async fn every_answer_is_as_its_schema_says() {
    let router = everything().await;
    for (version, path, kind) in [
        (
            "custom.metrics.k8s.io/v1beta2",
            format!("namespaces/default/pods/*/{METRIC}"),
            "MetricValueList",
        ),
        (
            "custom.metrics.k8s.io/v1beta2",
            format!(
                "namespaces/default/pods/*/{METRIC}?metricLabelSelector=ProcessId%3D1,gpu+notin+(7)"
            ),
            "MetricValueList",
        ),
        (
            "custom.metrics.k8s.io/v1beta1",
            format!("namespaces/default/metrics/{METRIC}?metricLabelSelector=ProcessId"),
            "MetricValueList",
        ),
        (
            "external.metrics.k8s.io/v1beta1",
            "namespaces/x/busy_gpus".into(),
            "ExternalMetricValueList",
        ),
        ("metrics.k8s.io/v1beta1", "pods".into(), "PodMetricsList"),
        ("metrics.k8s.io/v1", "nodes".into(), "NodeMetricsList"),
        (
            "metrics.k8s.io/v1",
            "namespaces/demo/pods/web-0".into(),
            "PodMetrics",
        ),
        ("metrics.k8s.io/v1beta1", "nodes/n1".into(), "NodeMetrics"),
    ] {
        let document = json(&router, &format!("/openapi/v3/apis/{version}")).await;
        let (group, name) = version.split_once('/').expect("two parts");
        let gvk = json!([{"group": group, "version": name, "kind": kind}]);
        let schemas = document["components"]["schemas"]
            .as_object()
            .expect("schemas");
        let schema = schemas
            .values()
            .find(|it| it["x-kubernetes-group-version-kind"] == gvk);
        let answer = json(&router, &format!("/apis/{version}/{path}")).await;
        assert!(
            answer.get("items").is_none_or(|items| items != &json!([])),
            "{answer}"
        );
        check(&document, schema.expect("a schema"), &answer, path.as_str());
    }
}

/// Whether a value is as its schema says, with nothing besides.
fn check(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(reference) = schema.get("$ref") {
        let pointer = reference.as_str().expect("text").trim_start_matches('#');
        let schema = document.pointer(pointer);
        return check(
            document,
            schema.unwrap_or_else(|| panic!("{at}: {reference}")),
            value,
            at,
        );
    }
    assert!(
        schema["description"].is_string() || schema.get("properties").is_none(),
        "{at}: {schema}"
    );
    match (schema["type"].as_str(), value) {
        (Some("object"), Value::Object(fields)) => {
            for required in schema["required"].as_array().into_iter().flatten() {
                let required = required.as_str().expect("text");
                assert!(
                    fields.contains_key(required),
                    "{at}: no {required} in {value}"
                );
            }
            for (name, field) in fields {
                let known = schema.get("properties").and_then(|it| it.get(name));
                let schema = known.or(schema.get("additionalProperties"));
                let schema = schema.unwrap_or_else(|| panic!("{at}: {name} is not described"));
                check(document, schema, field, &format!("{at}.{name}"));
            }
        }
        (Some("array"), Value::Array(items)) => {
            items
                .iter()
                .for_each(|item| check(document, &schema["items"], item, at));
        }
        // Go writes null for a selector that is not there.
        (Some("string"), Value::String(_)) => {}
        (Some("object"), Value::Null) if at.ends_with(".selector") => {}
        (expected, value) => panic!("{at}: {value} is no {expected:?}"),
    }
}
