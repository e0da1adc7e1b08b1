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
use super::list::{List, as_text};
use super::path::{MetricPath, Version};
use super::refusal::refuse;
use super::status::Details;
use super::{Api, Reply, bad_request, parameters};

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
        Ok(answer) => list(version, &question.metric, selector.as_ref(), &answer, reply),
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
        return reply.json(StatusCode::OK, &List::new(CUSTOM_LIST, version, items));
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
    reply.json(StatusCode::OK, &List::new(CUSTOM_LIST, version, items))
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
