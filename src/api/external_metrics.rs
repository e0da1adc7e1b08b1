//! `external.metrics.k8s.io/v1beta1`: values that are of no object (`k8s.io/metrics/pkg/apis/external_metrics`).

use std::collections::BTreeMap;

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use crate::model::quantity::Quantity;
use crate::model::time::Timestamp;
use crate::provider::{ExternalAnswer, ExternalQuestion, ExternalValue};

use super::discovery::EXTERNAL_LIST;
use super::list::List;
use super::path::Version;
use super::protobuf::Message;
use super::refusal::refuse;
use super::status::Details;
use super::{Api, Reply, as_text, bad_request, dated, parameters};

/// Answers one question.
pub(super) async fn respond(
    api: &Api,
    namespace: &str,
    metric: &str,
    query: Option<&str>,
    reply: &Reply<'_>,
) -> Response {
    let selector = match parameters::metric_selector(query, "labelSelector") {
        Ok(selector) => selector,
        Err(message) => return bad_request(&message),
    };
    let question = ExternalQuestion {
        namespace: namespace.to_owned(),
        metric: metric.to_owned(),
        selector,
    };
    match api.provider.answer_external(&question, (api.now)()).await {
        Ok(answer) => dated(
            list(&answer, reply),
            answer.values.iter().map(|value| value.timestamp),
        ),
        Err(error) => {
            let version = Version::ExternalV1Beta1;
            let about = Details {
                name: metric,
                group: version.group(),
                kind: metric,
            };
            refuse(&about, &error)
        }
    }
}

fn list(answer: &ExternalAnswer, reply: &Reply<'_>) -> Response {
    let item = |value| V1Beta1::new(&answer.metric, value);
    let items = answer.values.iter().map(item).collect();
    let list = List::new(EXTERNAL_LIST, Version::ExternalV1Beta1, items);
    reply.json_or(StatusCode::OK, &list, || list.protobuf(V1Beta1::write))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct V1Beta1<'a> {
    metric_name: &'a str,
    metric_labels: BTreeMap<&'a str, &'a str>,
    #[serde(serialize_with = "as_text")]
    timestamp: Timestamp,
    #[serde(serialize_with = "as_text")]
    value: &'a Quantity,
}

impl<'a> V1Beta1<'a> {
    fn new(metric: &'a str, value: &'a ExternalValue) -> Self {
        Self {
            metric_name: metric,
            metric_labels: value.labels.iter().collect(),
            timestamp: value.timestamp,
            value: &value.value,
        }
    }

    /// `ExternalMetricValue{1 metricName, 2 metricLabels, 3 timestamp, 5 value}`.
    fn write(&self, message: &mut Message) {
        message.text(1, self.metric_name);
        for (key, value) in &self.metric_labels {
            message.entry(2, key, |entry| entry.text(2, value));
        }
        message.time(3, self.timestamp);
        message.quantity(5, self.value);
    }
}
