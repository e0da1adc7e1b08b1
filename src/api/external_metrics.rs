//! `external.metrics.k8s.io/v1beta1`: values that are of no object (`k8s.io/metrics/pkg/apis/external_metrics`).

use std::collections::BTreeMap;

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Serialize;

use crate::auth::User;
use crate::fallback::Fallback;
use crate::model::quantity::Quantity;
use crate::model::time::Timestamp;
use crate::provider::{ExternalAnswer, ExternalQuestion, ExternalValue, ProviderError};

use super::discovery::EXTERNAL_LIST;
use super::list::List;
use super::path::Version;
use super::protobuf::Message;
use super::refusal::refuse;
use super::status::{Details, failure};
use super::{Api, Reply, as_text, bad_request, dated, parameters};

/// A request.
pub(super) struct Asked<'a> {
    pub(super) namespace: &'a str,
    pub(super) metric: &'a str,
    /// The URI's query.
    pub(super) query: Option<&'a str>,
    /// Who asks.
    pub(super) caller: Option<&'a User>,
    /// Whether another adapter has passed it on.
    pub(super) passed_on: bool,
}

/// Answers one question.
pub(super) async fn respond(api: &Api, asked: &Asked<'_>, reply: &Reply<'_>) -> Response {
    let Asked {
        namespace,
        metric,
        query,
        ..
    } = *asked;
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
            match (&api.fallback, &error) {
                (Some(fallback), ProviderError::UnknownMetric(_)) if !asked.passed_on => {
                    pass_on(fallback, asked, reply, about).await
                }
                _ => refuse(&about, &error),
            }
        }
    }
}

/// Hands the question to another adapter, and its answer, or its refusal, to the caller.
async fn pass_on(
    fallback: &Fallback,
    asked: &Asked<'_>,
    reply: &Reply<'_>,
    about: Details<'_>,
) -> Response {
    let selector = parameters::first(asked.query, "labelSelector");
    let (namespace, metric) = (asked.namespace, asked.metric);
    let selector = selector.as_deref();
    let answer = fallback.ask(namespace, metric, selector, reply.accept, asked.caller);
    match answer.await {
        Ok(answer) => {
            let mut response = Response::new(Body::from(answer.body));
            *response.status_mut() = answer.status;
            if let Some(content_type) = answer.content_type {
                response.headers_mut().insert(CONTENT_TYPE, content_type);
            }
            response
        }
        Err(error) => {
            let message = error.to_string();
            let code = StatusCode::SERVICE_UNAVAILABLE;
            failure(code, "ServiceUnavailable", &message, Some(about))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::labels::Labels;

    /// What Go's own encoder made of the same list.
    #[tokio::test]
    async fn the_hpa_is_given_the_protobuf_that_go_writes() {
        let answer = ExternalAnswer {
            metric: Arc::from("queue_len"),
            values: vec![ExternalValue {
                labels: Labels::new([("q", "a"), ("az", "1")]),
                value: Quantity::from_millis(30_000),
                timestamp: Timestamp::from_millis(1_795_464_000_000),
            }],
        };
        let reply = Reply {
            accept: "application/vnd.kubernetes.protobuf, */*",
            pretty: false,
        };
        let body = axum::body::to_bytes(list(&answer, &reply).into_body(), 1 << 10).await;
        let golden = include_bytes!("../../tests/fixtures/protobuf/emb.pb");
        assert_eq!(body.expect("a short body"), golden[..]);
    }
}
