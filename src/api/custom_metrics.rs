//! `custom.metrics.k8s.io`: values of objects, in the shapes of v1beta1 and v1beta2
//! (`k8s.io/metrics/pkg/apis/custom_metrics`).

use std::collections::BTreeMap;

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use crate::model::quantity::Quantity;
use crate::model::selector::{LabelExpression, LabelSelector};
use crate::model::time::Timestamp;
use crate::provider::{MetricAnswer, MetricQuestion, MetricValue, Objects};

use super::discovery::CUSTOM_LIST;
use super::list::List;
use super::path::{MetricPath, Version};
use super::protobuf::Message;
use super::refusal::refuse;
use super::status::Details;
use super::{Api, Reply, as_text, bad_request, dated, parameters};

/// Answers one question.
pub(super) async fn respond(
    api: &Api,
    version: Version,
    path: &MetricPath,
    query: Option<&str>,
    reply: &Reply<'_>,
) -> Response {
    let question = match question(path, query) {
        Ok(question) => question,
        Err(message) => return bad_request(&message),
    };
    let selector = if question.metric_selector.is_everything() {
        None
    } else {
        match question.metric_selector.to_label_selector() {
            Ok(selector) => Some(selector),
            Err(error) => return bad_request(&format!("metricLabelSelector: {error}")),
        }
    };
    match api.provider.answer(&question, (api.now)()).await {
        Ok(answer) => dated(
            list(version, &question.metric, selector.as_ref(), &answer, reply),
            answer.values.iter().map(|value| value.timestamp),
        ),
        Err(error) => refuse(
            &Details {
                name: &question.metric,
                group: version.group(),
                kind: &question.resource.to_string(),
            },
            &error,
        ),
    }
}

fn question(path: &MetricPath, query: Option<&str>) -> Result<MetricQuestion, String> {
    let objects = if path.name == "*" {
        Objects::Matching(parameters::selector(query, "labelSelector")?)
    } else {
        Objects::Named(path.name.clone())
    };
    Ok(MetricQuestion {
        resource: path.resource.clone(),
        namespace: path.namespace.clone(),
        objects,
        metric: path.metric.clone(),
        metric_selector: parameters::metric_selector(query, METRIC_SELECTOR)?,
    })
}

/// The query parameter that selects among a metric's series.
const METRIC_SELECTOR: &str = "metricLabelSelector";

fn list(
    version: Version,
    metric: &str,
    selector: Option<&LabelSelector>,
    answer: &MetricAnswer,
    reply: &Reply<'_>,
) -> Response {
    let api_version = answer.kind.api_version();
    let selector = selector.map(SelectorBody::from);
    if version == Version::CustomV1Beta1 {
        let item = |value| V1Beta1 {
            described_object: described(answer, &api_version, value),
            metric_name: metric,
            timestamp: value.timestamp,
            value: &value.value,
            selector: selector.as_ref(),
        };
        let items = answer.values.iter().map(item).collect();
        let list = List::new(CUSTOM_LIST, version, items);
        return reply.json_or(StatusCode::OK, &list, || list.protobuf(V1Beta1::write));
    }
    let item = |value| V1Beta2 {
        described_object: described(answer, &api_version, value),
        metric: Identifier {
            name: metric,
            selector: selector.as_ref(),
        },
        timestamp: value.timestamp,
        value: &value.value,
    };
    let items = answer.values.iter().map(item).collect();
    let list = List::new(CUSTOM_LIST, version, items);
    reply.json_or(StatusCode::OK, &list, || list.protobuf(V1Beta2::write))
}

/// `describedObject`: an `ObjectReference`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Described<'a> {
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    name: &'a str,
    api_version: &'a str,
}

fn described<'a>(
    answer: &'a MetricAnswer,
    api_version: &'a str,
    value: &'a MetricValue,
) -> Described<'a> {
    Described {
        kind: &answer.kind.kind,
        namespace: value.object.namespace.as_deref(),
        name: &value.object.name,
        api_version,
    }
}

impl Described<'_> {
    /// An `ObjectReference`.
    fn write(&self, reference: &mut Message) {
        reference.text(1, self.kind);
        reference.text(2, self.namespace.unwrap_or_default());
        reference.text(3, self.name);
        reference.text(4, "");
        reference.text(5, self.api_version);
        reference.text(6, "");
        reference.text(7, "");
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct V1Beta2<'a> {
    described_object: Described<'a>,
    metric: Identifier<'a>,
    #[serde(serialize_with = "as_text")]
    timestamp: Timestamp,
    #[serde(serialize_with = "as_text")]
    value: &'a Quantity,
}

impl V1Beta2<'_> {
    fn write(&self, message: &mut Message) {
        message.message(1, |reference| self.described_object.write(reference));
        message.message(2, |metric| {
            metric.text(1, self.metric.name);
            if let Some(selector) = self.metric.selector {
                metric.message(2, |message| selector.write(message));
            }
        });
        message.time(3, self.timestamp);
        message.quantity(5, self.value);
    }
}

#[derive(Serialize)]
struct Identifier<'a> {
    name: &'a str,
    // Go writes `null` where there is none.
    selector: Option<&'a SelectorBody>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct V1Beta1<'a> {
    described_object: Described<'a>,
    metric_name: &'a str,
    #[serde(serialize_with = "as_text")]
    timestamp: Timestamp,
    #[serde(serialize_with = "as_text")]
    value: &'a Quantity,
    selector: Option<&'a SelectorBody>,
}

impl V1Beta1<'_> {
    fn write(&self, message: &mut Message) {
        message.message(1, |reference| self.described_object.write(reference));
        message.text(2, self.metric_name);
        message.time(3, self.timestamp);
        message.quantity(5, self.value);
        if let Some(selector) = self.selector {
            message.message(6, |message| selector.write(message));
        }
    }
}

/// `metav1.LabelSelector`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SelectorBody {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    match_labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    match_expressions: Vec<SelectorExpression>,
}

#[derive(Serialize)]
struct SelectorExpression {
    key: String,
    operator: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    values: Vec<String>,
}

impl SelectorBody {
    fn write(&self, message: &mut Message) {
        for (key, value) in &self.match_labels {
            message.entry(1, key, |entry| entry.text(2, value));
        }
        for expression in &self.match_expressions {
            message.message(2, |message| {
                message.text(1, &expression.key);
                message.text(2, expression.operator);
                for value in &expression.values {
                    message.text(3, value);
                }
            });
        }
    }
}

impl From<&LabelSelector> for SelectorBody {
    fn from(selector: &LabelSelector) -> Self {
        let expression = |expression: &LabelExpression| SelectorExpression {
            key: expression.key.clone(),
            operator: expression.operator,
            values: expression.values.clone(),
        };
        Self {
            match_labels: selector.match_labels.clone(),
            match_expressions: selector.match_expressions.iter().map(expression).collect(),
        }
    }
}
#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::header::CONTENT_TYPE;

    use super::*;
    use crate::api::protobuf;
    use crate::model::objects::{GroupResource, ObjectRef, ResourceKind};
    use crate::model::selector::Selector;

    /// What Go's own encoder made of the same list.
    #[tokio::test]
    async fn the_hpa_is_given_the_protobuf_that_go_writes() {
        let answer = MetricAnswer {
            kind: ResourceKind {
                resource: GroupResource::core("pods"),
                version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                namespaced: true,
            },
            values: vec![MetricValue {
                object: ObjectRef {
                    namespace: Some(Arc::from("demo")),
                    name: "web-0".into(),
                },
                value: Quantity::from_millis(40_500),
                timestamp: Timestamp::from_millis(1_795_464_000_000),
            }],
        };
        let reply = Reply {
            accept: "application/vnd.kubernetes.protobuf, */*",
            pretty: false,
        };
        let response = list(Version::CustomV1Beta2, "sm_util", None, &answer, &reply);
        assert_eq!(response.headers()[CONTENT_TYPE], protobuf::MEDIA_TYPE);
        let body = axum::body::to_bytes(response.into_body(), 1 << 10).await;
        let golden = include_bytes!("../../tests/fixtures/protobuf/cm2b.pb");
        assert_eq!(body.expect("a short body"), golden[..]);

        let selector = Selector::parse("gpu=0,zone in (a,b),!idle").expect("valid");
        let selector = selector.to_label_selector().expect("one that has a form");
        let goldens: [(_, &[u8]); 2] = [
            (
                Version::CustomV1Beta1,
                include_bytes!("../../tests/fixtures/protobuf/cm1b.pb"),
            ),
            (
                Version::CustomV1Beta2,
                include_bytes!("../../tests/fixtures/protobuf/cm2s.pb"),
            ),
        ];
        for (version, golden) in goldens {
            let response = list(version, "sm_util", Some(&selector), &answer, &reply);
            let body = axum::body::to_bytes(response.into_body(), 1 << 10).await;
            assert_eq!(body.expect("a short body"), golden, "{version:?}");
        }
    }
}
