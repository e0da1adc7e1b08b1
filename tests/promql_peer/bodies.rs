//! The HTTP API's answers, to the byte: what a client of Prometheus gets from it and from us.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use gpu_metrics_adapter::api::prometheus::{QueryApi, QueryLimits, router};
use gpu_metrics_adapter::engine::query::QueryService;
use gpu_metrics_adapter::engine::recorded::Recorded;
use http::Request;
use tower::ServiceExt as _;

use crate::data;
use crate::era::Era;
use crate::prometheus::PROMETHEUS;

/// Paths below `/api/v1`, with the times of [`Era::Recorded`]. Vectors that are not ordered have one element at most.
const PATHS: &[&str] = &[
    // Each type of result, and numbers in all forms.
    "query?time=600&query=1%2B1",
    "query?time=600.5&query=1e30",
    "query?time=600&query=-1/0",
    "query?time=600&query=0/0",
    "query?time=600.25&query=%22a%5C%22b%22",
    "query?time=600&query=vector(1e21)",
    "query?time=600&query=vector(-1e-7)",
    "query?time=600&query=vector(5e-324)",
    "query?time=600.1&query=vector(123456789.125)",
    "query?time=1970-01-01T00:10:00.25Z&query=time()",
    "query?time=600&query=nothing",
    "query?time=600&query=absent(nothing%7Bpod%3D%22a%22%7D)",
    "query?time=600&query=sort_desc(sum(requests_total)%20by%20(job))",
    "query?time=600&query=requests_total%7Binstance%3D%22a:1%22%7D%5B1m%5D",
    "query?time=600&query=sort_desc(sum(requests_total)%20by%20(job))&limit=1",
    "query?time=600&query=count(requests_total)&lookback_delta=10s",
    "query?time=600&query=count(requests_total)&timeout=5s",
    // Ranges.
    "query_range?start=0&end=600&step=60&query=requests_total",
    "query_range?start=0.5&end=600&step=45.5&query=rate(requests_total%5B5m%5D)",
    "query_range?start=1970-01-01T00:00:00Z&end=1970-01-01T00:05:00Z&step=1m&query=sum(requests_total)",
    "query_range?start=0&end=600&step=60&query=requests_total&limit=2",
    "query_range?start=0&end=2&step=1&query=1",
    "query_range?start=0&end=11000&step=1&query=count(requests_total)",
    // Refusals.
    "query?query=sum(",
    "query?query=up%7B",
    "query?query=up&time=now",
    "query?query=up&timeout=x",
    "query?query=up&limit=-1",
    "query?time=600&query=requests_total%20*%20on(job)%20requests_total",
    "query_range?query=up&end=1&step=1",
    "query_range?query=up&start=1&end=x&step=1",
    "query_range?query=up&start=2&end=1&step=1",
    "query_range?query=up&start=0&end=1",
    "query_range?query=up&start=0&end=1&step=0",
    "query_range?query=up&start=0&end=1&step=-1",
    "query_range?query=up&start=0&end=1&step=zz",
    "query_range?query=up&start=0&end=1&step=1e300",
    "query_range?query=up&start=0&end=11001&step=1",
    "query_range?query=up%5B1m%5D&start=1&end=2&step=1",
    "series",
    "series?match[]=up%7B",
    "labels?start=x",
    // What there is.
    "labels",
    "labels?limit=2",
    "labels?match[]=requests_total",
    "labels?match[]=requests_total&match[]=nothing",
    "label/job/values",
    "label/job/values?limit=1",
    "label/__name__/values?match[]=%7Bjob%3D%22api%22%7D",
    "label/nothing/values",
    "series?match[]=requests_total&start=0&end=600",
    "series?match[]=requests_total%7Bjob%3D%22web%22%7D&match[]=requests_total%7Bcode%3D%22500%22%7D&start=0&end=600",
    "series?match[]=nothing",
    "rules",
    "alerts",
    "targets",
];

#[test]
#[ignore = "needs Prometheus: make test"]
fn clients_get_the_same_bytes() {
    let all = Era::Recorded.place(&data::generate()).into_iter();
    let samples = all.flat_map(|series| {
        let labels = series.labels;
        let samples = series.samples.into_iter();
        samples.map(move |sample| (labels.clone(), sample))
    });
    let service = QueryService::over_recording(Recorded::new(samples));
    let queries = QueryApi::new(Arc::new(service), QueryLimits::default());
    let ours = router(Arc::new(queries), Era::Recorded.at(600_000));
    let mut differences = Vec::new();
    PROMETHEUS.runtime.block_on(async {
        for path in PATHS {
            let path = format!("/api/v1/{path}");
            let expected = PROMETHEUS.body(&path).await;
            let request = Request::get(&path).body(Body::empty()).expect("a request");
            let response = ours.clone().oneshot(request).await.expect("infallible");
            let code = response.status().as_u16();
            let body = to_bytes(response.into_body(), 1 << 26)
                .await
                .expect("a body");
            let actual = (code, String::from_utf8(body.to_vec()).expect("text"));
            if actual != expected {
                let ((wanted, theirs), (code, ours)) = (&expected, &actual);
                differences.push(format!(
                    "{path}\n  {wanted} {theirs:.500}\n  {code} {ours:.500}"
                ));
            }
        }
    });
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
