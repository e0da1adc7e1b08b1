//! What is refused, what is bounded, and where values say they come from.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::given::{Given, ask, given};
use crate::model::time::Timestamp;
use crate::promql::{EvalError, Options, Query, QueryError, Range, Value};

const NOW: Timestamp = Timestamp::from_millis(60_000);

fn evaluate(given: &Given, query: &str, options: &Options) -> Result<Value, EvalError> {
    Query::compile(query)
        .expect("PromQL")
        .evaluate(given, NOW, options)
}

#[test]
fn wrong_queries_are_refused_for_what_is_wrong() {
    let kind = |query: &str| match Query::compile(query) {
        Ok(_) => "none",
        Err(QueryError::Syntax { .. }) => "syntax",
        Err(QueryError::Type { .. }) => "type",
        Err(QueryError::Unsupported { .. }) => "unsupported",
    };
    for query in [
        "",
        "sum(x",
        "x{",
        "x{a=b}",
        "x[5m",
        "{}",
        r#"{a=~".*"}"#,
        "nope(x)",
        "x[1e99]",
        "`a\\",
    ] {
        assert_eq!(kind(query), "syntax", "{query}");
    }
    for query in [
        "ln(1)",
        "1 + \"a\"",
        "-\"a\"",
        "rate(rate(x[5m])[5m:1m]) and 1",
    ] {
        assert!(matches!(kind(query), "type" | "syntax"), "{query}");
    }
    for query in [
        "info(x)",
        "limit_ratio(0.1, x)",
        "x + fill(1) y",
        "histogram_avg(x)",
    ] {
        assert_eq!(kind(query), "unsupported", "{query}");
    }
    let error = Query::compile("sum(x) + nope(y)").expect_err("there is no such function");
    assert!(
        error
            .to_string()
            .contains("1:10: parse error: unknown function"),
        "{error}"
    );
}

#[test]
fn nesting_is_bounded_before_it_can_exhaust_the_stack() {
    for deep in [
        format!("{}x{}", "(".repeat(900), ")".repeat(900)),
        format!("{}x{}", "(".repeat(1_000_000), ")".repeat(1_000_000)),
        format!("{}x", "-".repeat(900)),
        format!("{}x", "-".repeat(1_000_000)),
        format!("x{}", "+x".repeat(900)),
        format!("x{}", " or x".repeat(100_000)),
        format!("{}x{}", "abs(".repeat(400), ")".repeat(400)),
    ] {
        let refused = Query::compile(&deep).expect_err("too deep");
        assert!(
            matches!(refused, QueryError::Unsupported { .. }),
            "{}",
            &deep[..20]
        );
    }
    // A long list of pods is no nesting.
    let pods: Vec<String> = (0..20_000).map(|pod| format!("pod-{pod}")).collect();
    let long = format!(r#"sum by (pod) (x{{pod=~"{}"}})"#, pods[..2_000].join("|"));
    assert!(Query::compile(&long).is_ok());
}

#[test]
fn an_evaluation_keeps_its_bounds() {
    let given = given("x 1 2 3 4 5 6 7\ny 1 2 3 4 5 6 7");
    let few = Options {
        max_samples: 5,
        ..Options::default()
    };
    assert!(evaluate(&given, "x", &few).is_ok());
    for query in [
        "x[2m]",
        "sum_over_time(x[2m])",
        "max_over_time(vector(1)[1h:1s])",
    ] {
        assert_eq!(
            evaluate(&given, query, &few),
            Err(EvalError::TooManySamples),
            "{query}"
        );
    }
    let range = Range {
        start: Timestamp::from_millis(0),
        end: Timestamp::from_millis(i64::MAX),
        step: Duration::from_millis(1),
    };
    let vector = Query::compile("vector(1)").expect("PromQL");
    let all = vector.evaluate_range(&given, range, &Options::default());
    assert_eq!(all, Err(EvalError::TooManySamples));
    let late = Options {
        deadline: Some(Instant::now()),
        ..Options::default()
    };
    assert_eq!(
        evaluate(&given, "sum(rate(x[2m]))", &late),
        Err(EvalError::Timeout)
    );
}

#[test]
fn every_value_knows_the_oldest_sample_behind_it() {
    let given = given(
        r#"x{a="1"} 1 2 3 4 5 _ _
           x{a="2"} _ _ 1 _ _ _ 2
           b_bucket{le="1"} 1 1 _
           b_bucket{le="+Inf"} 1 1 1"#,
    );
    for (query, expected) in [
        ("sum(x)", 40),
        ("x{a=\"2\"} * 2", 60),
        ("max(x) * scalar(x{a=\"1\"})", 40),
        ("sum(rate(x[1m]))", 10),
        ("rate(x{a=\"2\"}[1m])", 20),
        ("last_over_time(x{a=\"1\"}[1m])", 40),
        ("irate(x{a=\"1\"}[1m])", 30),
        ("max_over_time(sum(x)[30s:10s])", 20),
        ("vector(1)", 60),
        ("absent(no)", 60),
        ("histogram_quantile(0.5, b_bucket)", 10),
        ("x{a=\"1\"} + on () x{a=\"2\"}", 40),
        ("count_values(\"n\", x{a=\"1\"})", 40),
        ("topk(1, x)", 40),
    ] {
        let Ok(Value::Vector(points)) = evaluate(&given, query, &Options::default()) else {
            panic!("{query} is a vector");
        };
        let oldest: Vec<i64> = points
            .iter()
            .map(|point| point.oldest.as_seconds())
            .collect();
        assert_eq!(oldest, [expected], "{query}");
    }
}

#[test]
fn a_query_says_what_it_reads_and_how_far_back() {
    let reads = |query: &str| {
        let query = Query::compile(query).expect("PromQL");
        (query.selectors().len(), query.longest_range().as_secs())
    };
    assert_eq!(reads("1"), (0, 0));
    assert_eq!(reads("x"), (1, 0));
    assert_eq!(reads("x / rate(y[2m] offset 1m)"), (2, 180));
    assert_eq!(
        reads("max_over_time(rate(x[2m])[10m:1m] offset 5m)"),
        (1, 17 * 60)
    );
    assert_eq!(reads("topk(scalar(k), x offset -1m)"), (2, 0));
}

/// Expressions of every kind, right or wrong by their types.
fn expressions() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("x".to_owned()),
        Just("y{a=\"1\"}".to_owned()),
        Just("b_bucket".to_owned()),
        Just("NaN".to_owned()),
        Just("0".to_owned()),
        Just("-1e300".to_owned()),
        Just("time()".to_owned()),
        Just("\"a\"".to_owned()),
        Just("x[1m]".to_owned()),
        Just("x[30s] offset -10s".to_owned()),
        Just("x @ end()".to_owned()),
    ];
    let functions = [
        "abs",
        "rate",
        "irate",
        "delta",
        "deriv",
        "avg_over_time",
        "absent",
        "absent_over_time",
        "scalar",
        "vector",
        "timestamp",
        "sort",
        "hour",
        "round",
        "exp",
        "stddev_over_time",
        "mad_over_time",
        "changes",
        "sgn",
    ];
    leaf.prop_recursive(5, 40, 3, move |inner| {
        let operators = [
            "+",
            "-",
            "/",
            "%",
            "^",
            "==",
            "> bool",
            "and",
            "or",
            "unless",
            "atan2",
            "* on (a)",
            "+ on () group_left (b)",
            "- ignoring (a) group_right ()",
        ];
        let aggregations = [
            "sum",
            "avg",
            "stdvar",
            "count",
            "topk",
            "quantile",
            "bottomk",
            "limitk",
            "count_values",
        ];
        let several = proptest::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            (
                inner.clone(),
                proptest::sample::select(operators.to_vec()),
                inner.clone()
            )
                .prop_map(|(left, operator, right)| format!("({left}) {operator} ({right})")),
            (proptest::sample::select(functions.to_vec()), inner.clone())
                .prop_map(|(name, of)| format!("{name}({of})")),
            (proptest::sample::select(aggregations.to_vec()), several)
                .prop_map(|(name, all)| format!("{name} by (a) ({})", all.join(", "))),
            (inner.clone(), 1..90u32, 1..40u32)
                .prop_map(|(of, range, step)| format!("({of})[{range}s:{step}s]")),
            (inner.clone(), inner.clone())
                .prop_map(|(q, of)| format!("histogram_quantile({q}, {of})")),
            (inner.clone(), inner.clone())
                .prop_map(|(of, by)| format!("predict_linear({of}, {by})")),
            inner.prop_map(|of| format!("label_replace({of}, \"a\", \"$1\", \"b\", \"(.*)\")")),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_makes_the_compiler_panic(text in ".{0,80}") {
        let _ = Query::compile(&text);
    }

    #[test]
    fn no_text_of_query_tokens_makes_anything_panic(
        words in proptest::collection::vec(
            proptest::sample::select(vec![
                "x", "(", ")", "[", "]", "{", "}", "5m", "0s", "1e99", "-", "+", "^", "@", "offset", "by", "on", "bool",
                "sum", "rate", "topk", "group_left", "and", ":", ",", "=", "=~", "\"a\"", "`\\`", "1_0", "0x", "NaN",
                "start()", "inf", "'", "é", "\\", "#", "\n",
            ]),
            0..16,
        )
    ) {
        let given = given("x 1 2 3");
        let _ = ask(&given, &words.join(" "), 20);
        let _ = ask(&given, &words.concat(), 20);
    }

    #[test]
    fn no_query_over_any_samples_panics(
        query in expressions(),
        values in proptest::collection::vec(
            proptest::sample::select(vec![
                "_", "stale", "NaN", "inf", "-inf", "0", "-0", "1", "-7.5", "1e308", "5e-324", "3",
            ]),
            0..40,
        ),
        second in -30..400i64,
    ) {
        let names = ["x", "x{a=\"1\"}", "y{a=\"1\"}", "b_bucket{le=\"1\"}", "b_bucket{le=\"+Inf\"}"];
        let lines: Vec<String> = names
            .iter()
            .zip(values.chunks(8))
            .map(|(name, values)| format!("{name} {}", values.join(" ")))
            .collect();
        let given = given(&lines.join("\n"));
        let _ = ask(&given, &query, second);
        if let Ok(query) = Query::compile(&query) {
            let range = Range {
                start: Timestamp::from_millis(second * 1000),
                end: Timestamp::from_millis(second * 1000 + 100_000),
                step: Duration::from_secs(7),
            };
            let _ = query.evaluate_range(&given, range, &Options::default());
        }
    }
}
