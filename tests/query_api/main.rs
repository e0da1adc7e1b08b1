//! Prometheus's API over the samples held here: each endpoint, each kind of refusal, each bound.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod door;
mod monitoring;
mod store;

use serde_json::json;

use gpu_metrics_adapter::api::prometheus::QueryLimits;

use store::{Api, BASE, scraped};

#[tokio::test]
async fn instant_queries_are_answered_to_the_byte() {
    let api = scraped();
    let (code, body) = api.get("/api/v1/query?query=util%7Bpod%3D%22a%22%7D").await;
    assert_eq!(code, 200);
    assert_eq!(
        body,
        concat!(
            r#"{"status":"success","data":{"resultType":"vector","result":["#,
            r#"{"metric":{"__name__":"util","instance":"10.0.0.7:9400","job":"dcgm","pod":"a"},"#,
            r#""value":[1795464060.250,"44"]}]}}"#,
        )
    );
    let at = format!(
        "/api/v1/query?query=util%7Bpod%3D%22a%22%7D&time={}",
        BASE + 20
    );
    assert_eq!(
        api.data(&at).await["result"][0]["value"],
        json!([BASE + 20, "41"])
    );
    let rfc = "/api/v1/query?query=util%7Bpod%3D%22a%22%7D&time=2026-11-23T20:00:35.5Z";
    assert_eq!(
        api.data(rfc).await["result"][0]["value"],
        json!([1_795_464_035.5, "42"])
    );
    let none = api.get("/api/v1/query?query=nothing").await;
    let empty = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
    assert_eq!(none, (200, empty.to_owned()));
}

#[tokio::test]
async fn each_type_of_result_has_its_form() {
    let api = scraped();
    for (query, data) in [
        (
            "1%2B1",
            r#"{"resultType":"scalar","result":[1795464060.25,"2"]}"#,
        ),
        (
            "%22a%5C%22b%22",
            r#"{"resultType":"string","result":[1795464060.25,"a\"b"]}"#,
        ),
        (
            "util%7Bpod%3D%22a%22%7D%5B30s%5D",
            concat!(
                r#"{"resultType":"matrix","result":["#,
                r#"{"metric":{"__name__":"util","instance":"10.0.0.7:9400","job":"dcgm","pod":"a"},"#,
                r#""values":[[1795464045,"43"],[1795464060,"44"]]}]}"#
            ),
        ),
        (
            "sum(rate(util%7Bpod%3D%22a%22%7D%5B1m%5D))",
            r#"{"resultType":"vector","result":[{"metric":{},"value":[1795464060.250,"0.06666666666666665"]}]}"#,
        ),
    ] {
        let expected = format!(r#"{{"status":"success","data":{data}}}"#);
        let answer = api.get(&format!("/api/v1/query?query={query}")).await;
        assert_eq!(answer, (200, expected), "{query}");
    }
    // What the query has sorted stays so.
    let sorted = api
        .data("/api/v1/query?query=sort_desc(util%20or%20up)")
        .await;
    let value = |index: usize| sorted["result"][index]["value"][1].clone();
    assert_eq!([0, 1, 2, 3].map(value), ["1e+21", "44", "1", "0"]);
}

#[tokio::test]
async fn a_query_ends_at_its_deadline() {
    let api = scraped();
    let asked = std::time::Instant::now();
    let heavy = "max_over_time(vector(1)%5B3h:1s%5D)";
    let path = format!(
        "/api/v1/query_range?query={heavy}&start={}&end={BASE}&step=1&timeout=50ms",
        BASE - 11_000
    );
    let (code, body) = api.get(&path).await;
    assert_eq!(code, 503, "{body}");
    let message = r#""errorType":"timeout","error":"query timed out in expression evaluation""#;
    assert!(body.contains(message), "{body}");
    let took = asked.elapsed();
    assert!(took < std::time::Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn ranges_have_a_value_for_each_step_with_data() {
    let api = scraped();
    let path = format!(
        "/api/v1/query_range?query=util%7Bpod%3D%22b%22%7D&start={}&end={}.5&step=20",
        BASE - 20,
        BASE + 60
    );
    let (_, body) = api.get(&path).await;
    assert_eq!(
        body,
        concat!(
            r#"{"status":"success","data":{"resultType":"matrix","result":["#,
            r#"{"metric":{"__name__":"util","instance":"10.0.0.7:9400","job":"dcgm","pod":"b"},"#,
            r#""values":[[1795464000,"NaN"],[1795464020,"NaN"],[1795464040,"+Inf"],[1795464060,"1e+21"]]}]}}"#,
        )
    );
}

#[tokio::test]
async fn a_form_is_as_good_as_a_query_and_counts_before_it() {
    let api = scraped();
    let asked = api
        .get("/api/v1/query?query=up%7Bjob%3D%22dcgm%22%7D&time=1795464030")
        .await;
    let form = "query=up%7Bjob%3D%22dcgm%22%7D&time=1795464030";
    assert_eq!(api.post("/api/v1/query", form).await, asked);
    let both = api.post("/api/v1/query?query=util", form).await;
    assert_eq!(both, asked);
    let (code, body) = api.post("/api/v1/series", "match[]=up&limit=1").await;
    assert_eq!((code, body.contains(r#""__name__":"up""#)), (200, true));
    let (code, _) = api.post("/api/v1/labels", "").await;
    assert_eq!(code, 200);
    let (code, _) = api.post("/api/v1/targets", "").await;
    assert_eq!(code, 405);
    let (code, _) = api.ask("DELETE", "/api/v1/query", "").await;
    assert_eq!(code, 405);
}

#[tokio::test]
async fn each_refusal_has_its_type_and_code() {
    let api = scraped();
    let range = "/api/v1/query_range?query=up&";
    let cases = [
        (
            "/api/v1/query",
            400,
            "bad_data",
            r#"invalid parameter "query""#,
        ),
        (
            "/api/v1/query?query=up%7B",
            400,
            "bad_data",
            r#"invalid parameter "query""#,
        ),
        ("/api/v1/query?query=nofunc(up)", 400, "bad_data", "nofunc"),
        (
            "/api/v1/query?query=up&time=now",
            400,
            "bad_data",
            r#"invalid parameter "time": invalid time value for 'time': cannot parse "now" to a valid timestamp"#,
        ),
        (
            "/api/v1/query?query=up&timeout=x",
            400,
            "bad_data",
            r#"invalid parameter "timeout": cannot parse "x" to a valid duration"#,
        ),
        (
            "/api/v1/query?query=up&limit=-1",
            400,
            "bad_data",
            r#"invalid parameter "limit": limit must be non-negative"#,
        ),
        (
            "/api/v1/query?query=up&limit=x",
            400,
            "bad_data",
            r#"invalid parameter "limit""#,
        ),
        (
            "/api/v1/query?query=util%20*%20on(job)%20util",
            422,
            "execution",
            "many-to-many matching not allowed",
        ),
        (
            "/api/v1/query?query=rate(up)",
            400,
            "bad_data",
            r#"invalid parameter "query": 1:"#,
        ),
        (
            "/api/v1/query_range?query=up%5B1m%5D&start=1&end=2&step=1",
            400,
            "bad_data",
            r#"invalid parameter "query": invalid expression type "range vector" for range query, must be Scalar or instant Vector"#,
        ),
        (
            "/api/v1/query?query=up&timeout=0",
            503,
            "timeout",
            "query timed out in query queue",
        ),
        (
            &format!("{range}end=1&step=1"),
            400,
            "bad_data",
            r#"invalid parameter "start": cannot parse "" to a valid timestamp"#,
        ),
        (
            &format!("{range}start=2&end=1&step=1"),
            400,
            "bad_data",
            r#"invalid parameter "end": end timestamp must not be before start time"#,
        ),
        (
            &format!("{range}start=1&end=2"),
            400,
            "bad_data",
            r#"invalid parameter "step": cannot parse "" to a valid duration"#,
        ),
        (
            &format!("{range}start=1&end=2&step=-5"),
            400,
            "bad_data",
            r#"invalid parameter "step": zero or negative query resolution step widths are not accepted. Try a positive integer"#,
        ),
        (
            &format!("{range}start=0&end=11001&step=1"),
            400,
            "bad_data",
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ),
        (
            "/api/v1/series",
            400,
            "bad_data",
            "no match[] parameter provided",
        ),
        (
            "/api/v1/series?match[]=up%7B",
            400,
            "bad_data",
            r#"invalid parameter "match[]""#,
        ),
        (
            "/api/v1/labels?match[]=%7Bpod!%3D%22a%22%7D",
            400,
            "bad_data",
            "must contain at least one non-empty matcher",
        ),
        (
            "/api/v1/series?match[]=up&match[]=%7Bpod%3D~%22.*%22%7D",
            400,
            "bad_data",
            "must contain at least one non-empty matcher",
        ),
        (
            "/api/v1/labels?start=x",
            400,
            "bad_data",
            "invalid time value for 'start'",
        ),
        (
            "/api/v1/label//values",
            400,
            "bad_data",
            "invalid label name",
        ),
        (
            "/api/v1/metadata?limit=x",
            400,
            "bad_data",
            r#"invalid parameter "limit""#,
        ),
        (
            "/api/v1/admin/tsdb/snapshot",
            404,
            "not_found",
            "not one of the paths",
        ),
    ];
    for (path, code, kind, message) in cases {
        let (actual, body) = api.get(path).await;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (actual, &body["status"], &body["errorType"]),
            (code, &json!("error"), &json!(kind)),
            "{path}: {body}"
        );
        let error = body["error"].as_str().unwrap();
        assert!(error.contains(message), "{path}: {error}");
    }
    // One step more would be too many.
    let (code, _) = api.get(&format!("{range}start=0&end=11000&step=1")).await;
    assert_eq!(code, 200);
}

#[tokio::test]
async fn series_and_labels_are_listed_by_what_matches_and_when() {
    let api = scraped();
    assert_eq!(
        api.data("/api/v1/labels").await,
        json!(["__name__", "instance", "job", "pod"])
    );
    assert_eq!(
        api.data("/api/v1/labels?match[]=up").await,
        json!(["__name__", "instance", "job"])
    );
    assert_eq!(
        api.data("/api/v1/label/pod/values").await,
        json!(["a", "b", "gone"])
    );
    assert_eq!(
        api.data("/api/v1/label/__name__/values?match[]=up&match[]=%7Bpod%3D%22a%22%7D")
            .await,
        json!(["up", "util"])
    );
    assert_eq!(api.data("/api/v1/label/nothing/values").await, json!([]));
    // `gone` was in the first scrape only.
    let later = format!("/api/v1/label/pod/values?start={}", BASE + 1);
    assert_eq!(api.data(&later).await, json!(["a", "b"]));
    let before = format!("/api/v1/label/pod/values?end={}", BASE - 1);
    assert_eq!(api.data(&before).await, json!([]));
    let of_grafana =
        "/api/v1/series?match[]=util&start=2026-11-23T20:00:15Z&end=2026-11-23T20:00:15Z";
    assert_eq!(
        api.data(of_grafana).await,
        json!([
            {"__name__": "util", "instance": "10.0.0.7:9400", "job": "dcgm", "pod": "a"},
            {"__name__": "util", "instance": "10.0.0.7:9400", "job": "dcgm", "pod": "b"},
        ])
    );
}

#[tokio::test]
async fn a_limit_cuts_and_says_so() {
    let api = scraped();
    let warned = |body: &str| body.ends_with(r#","warnings":["results truncated due to limit"]}"#);
    for (path, most) in [
        ("/api/v1/series?match[]=util&limit", 3),
        ("/api/v1/labels?limit", 4),
        ("/api/v1/label/pod/values?limit", 3),
        ("/api/v1/query?query=util&limit", 2),
        (
            "/api/v1/query_range?query=util&start=1795464000&end=1795464060&step=15&limit",
            3,
        ),
    ] {
        for (limit, expected) in [(0, most), (1, 1), (most, most), (most + 1, most)] {
            let (code, body) = api.get(&format!("{path}={limit}")).await;
            let value: serde_json::Value = serde_json::from_str(&body).unwrap();
            let data = &value["data"];
            let list = data.as_array().or(data["result"].as_array()).unwrap();
            assert_eq!((code, list.len()), (200, expected), "{path}={limit}");
            assert_eq!(warned(&body), expected < most, "{path}={limit}: {body}");
        }
    }
}

#[tokio::test]
async fn what_is_about_the_server_has_prometheus_form() {
    let api = scraped();
    let targets = api.data("/api/v1/targets").await;
    assert_eq!(
        targets,
        json!({
            "activeTargets": [
                {
                    "discoveredLabels": {},
                    "labels": {"instance": "10.0.0.7:9400", "job": "dcgm"},
                    "scrapePool": "dcgm",
                    "scrapeUrl": "http://10.0.0.7:9400/metrics",
                    "globalUrl": "http://10.0.0.7:9400/metrics",
                    "lastError": "",
                    "lastScrape": "2026-11-23T20:01:00Z",
                    "lastScrapeDuration": 0.025,
                    "health": "up",
                    "scrapeInterval": "15s",
                    "scrapeTimeout": ""
                },
                {
                    "discoveredLabels": {},
                    "labels": {"instance": "10.0.0.8:9400", "job": "down"},
                    "scrapePool": "down",
                    "scrapeUrl": "http://10.0.0.8:9400/metrics",
                    "globalUrl": "http://10.0.0.8:9400/metrics",
                    "lastError": "answered 503",
                    "lastScrape": "2026-11-23T20:00:00Z",
                    "lastScrapeDuration": 0.025,
                    "health": "down",
                    "scrapeInterval": "15s",
                    "scrapeTimeout": ""
                },
                {
                    "discoveredLabels": {},
                    "labels": {},
                    "scrapePool": "new",
                    "scrapeUrl": "http://10.0.0.9:9400/metrics",
                    "globalUrl": "http://10.0.0.9:9400/metrics",
                    "lastError": "",
                    "lastScrape": "0001-01-01T00:00:00Z",
                    "lastScrapeDuration": 0.0,
                    "health": "unknown",
                    "scrapeInterval": "15s",
                    "scrapeTimeout": ""
                }
            ],
            "droppedTargets": [],
            "droppedTargetCounts": {}
        })
    );
    let count = async |path| {
        let targets = api.data(path).await;
        targets["activeTargets"].as_array().unwrap().len()
    };
    assert_eq!(count("/api/v1/targets?state=dropped").await, 0);
    assert_eq!(
        count("/api/v1/targets?state=active&scrapePool=down").await,
        1
    );

    let gauge = json!([{"type": "gauge", "help": "How busy.", "unit": "percent"}]);
    assert_eq!(api.data("/api/v1/metadata").await, json!({"util": gauge}));
    for (question, answer) in [
        ("metric=util&limit=5", json!({"util": gauge})),
        ("metric=up", json!({})),
        // Its page says something of it, and has no sample of it.
        ("metric=gone", json!({})),
        ("limit=0", json!({})),
    ] {
        let path = format!("/api/v1/metadata?{question}");
        assert_eq!(api.data(&path).await, answer, "{question}");
    }
    assert_eq!(api.data("/api/v1/rules").await, json!({"groups": []}));
    assert_eq!(api.data("/api/v1/alerts").await, json!({"alerts": []}));
    let info = api.data("/api/v1/status/buildinfo").await;
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn what_would_take_too_much_is_refused() {
    let few_samples = Api::new(QueryLimits {
        samples: 1,
        ..QueryLimits::default()
    });
    let (code, body) = few_samples.get("/api/v1/query?query=util").await;
    assert_eq!(
        (code, body.as_str()),
        (
            422,
            concat!(
                r#"{"status":"error","errorType":"execution","#,
                r#""error":"query processing would load too many samples into memory in query execution"}"#
            )
        )
    );
    let busy = Api::new(QueryLimits {
        running: 0,
        waiting: 0,
        ..QueryLimits::default()
    });
    let (code, body) = busy.get("/api/v1/labels").await;
    assert_eq!(code, 503);
    assert!(body.contains(r#""errorType":"unavailable""#), "{body}");
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_turn_ends_with_the_time_that_was_given() {
    let busy = Api::new(QueryLimits {
        running: 0,
        waiting: 1,
        ..QueryLimits::default()
    });
    for path in [
        "/api/v1/query?query=up",
        "/api/v1/query?query=up&timeout=1s",
    ] {
        let asked = tokio::time::Instant::now();
        let (code, body) = busy.get(path).await;
        let waited = asked.elapsed().as_secs();
        assert_eq!(
            (code, waited),
            (503, if path.contains('&') { 1 } else { 25 })
        );
        assert!(body.contains("query timed out in query queue"), "{body}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_query_does_not_keep_others_from_being_answered() {
    let api = scraped();
    let order = parking_lot::Mutex::new(Vec::new());
    let range = "/api/v1/query_range?query=util&start=1795453060&end=1795464060&step=1";
    let query = async {
        let (code, _) = api.get(range).await;
        order.lock().push(("query", code));
    };
    let probe = async {
        let (code, _) = api.get("/livez").await;
        order.lock().push(("livez", code));
    };
    // The query is begun first; were it worked on here, it would end first.
    tokio::join!(query, probe);
    assert_eq!(order.into_inner(), [("livez", 200), ("query", 200)]);
}
