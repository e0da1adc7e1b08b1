//! Operators, aggregations and modifiers, computed by hand.

use super::given::{Given, ask, check, given};
use crate::model::time::Timestamp;
use crate::promql::{Options, Query, Range};
use std::time::Duration;

fn pods() -> Given {
    given(
        r#"used{pod="a",gpu="0"} 1
           used{pod="a",gpu="1"} 3
           used{pod="b",gpu="0"} 8
           total{pod="a"} 4
           total{pod="b"} 16
           total{pod="c"} 32"#,
    )
}

#[test]
fn arithmetic_drops_the_name_and_comparison_filters() {
    check(
        &pods(),
        0,
        &[
            ("1 + 2 * 3 ^ 2", "19"),
            ("-2 ^ 2", "-4"),
            ("7 % 4", "3"),
            ("1 == bool 2", "0"),
            (r#"total{pod="a"} / 8"#, r#"{pod="a"} 0.5"#),
            (r#"total > 10 < 20"#, r#"total{pod="b"} 16"#),
            (r#"10 < total{pod="b"}"#, r#"total{pod="b"} 16"#),
            (r#"total{pod="a"} > bool 10"#, r#"{pod="a"} 0"#),
            (r#"total{pod="a"} atan2 0"#, r#"{pod="a"} 1.570796327"#),
        ],
    );
}

#[test]
fn elements_find_one_another_by_their_labels() {
    check(
        &pods(),
        0,
        &[
            (
                "sum by (pod) (used) / total",
                r#"{pod="a"} 1; {pod="b"} 0.5"#,
            ),
            (
                r#"used / on (pod) group_left () total{pod="a"}"#,
                r#"{gpu="0", pod="a"} 0.25; {gpu="1", pod="a"} 0.75"#,
            ),
            (
                r#"total{pod="b"} - ignoring (gpu) group_right () used"#,
                r#"{gpu="0", pod="b"} 8"#,
            ),
            (
                "used / ignoring (gpu) total",
                "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
            ),
            (
                "total / on (pod) used",
                "found duplicate series for the match group {pod=\"a\"} on the right hand-side of the operation: \
                 [{__name__=\"used\", gpu=\"1\", pod=\"a\"}, {__name__=\"used\", gpu=\"0\", pod=\"a\"}]\
                 ;many-to-many matching not allowed: matching labels must be unique on one side",
            ),
            (
                r#"total{pod="a"} == on () group_left () vector(4)"#,
                r#"total{pod="a"} 4"#,
            ),
        ],
    );
}

#[test]
fn sets_match_by_labels_too() {
    check(
        &pods(),
        0,
        &[
            (
                "total and on (pod) used",
                r#"total{pod="a"} 4; total{pod="b"} 16"#,
            ),
            ("total unless on (pod) used", r#"total{pod="c"} 32"#),
            (
                r#"total{pod="a"} or total{pod=~"a|b"}"#,
                r#"total{pod="a"} 4; total{pod="b"} 16"#,
            ),
            (
                "total or on (pod) no",
                r#"total{pod="a"} 4; total{pod="b"} 16; total{pod="c"} 32"#,
            ),
        ],
    );
}

#[test]
fn aggregations_group_and_choose() {
    check(
        &pods(),
        0,
        &[
            ("sum(used)", "{} 12"),
            ("sum by (gpu) (used)", r#"{gpu="0"} 9; {gpu="1"} 3"#),
            ("avg without (gpu) (used)", r#"{pod="a"} 2; {pod="b"} 8"#),
            ("count by (__name__) (total)", r"total{} 3"),
            ("count by (__name__) (-total)", r"{} 3"),
            (r#"stddev(used{pod="a"})"#, "{} 1"),
            ("quantile(0.5, used)", "{} 3"),
            (
                "topk(2, used)",
                r#"used{gpu="0", pod="b"} 8; used{gpu="1", pod="a"} 3"#,
            ),
            ("bottomk(1, used)", r#"used{gpu="0", pod="a"} 1"#),
            ("topk(0, used)", ""),
            ("topk(NaN, used)", "Parameter value is NaN"),
            ("count(limitk(2, total))", "{} 2"),
            (r#"count_values("n", used - used)"#, r#"{n="0"} 3"#),
            ("sum(no)", ""),
        ],
    );
}

#[test]
fn offset_and_at_move_the_time_that_is_looked_at() {
    let given = given("x 1 2 3 4 5 6 7");
    check(
        &given,
        60,
        &[
            ("x offset 20s", "x{} 5"),
            ("x offset -1m", "x{} 7"),
            ("x offset 0s", "x{} 7"),
            ("x @ 30", "x{} 4"),
            ("x @ 30 offset 10s", "x{} 3"),
            ("x @ start()", "x{} 7"),
            ("sum_over_time(x[20s] @ 30)", "{} 7"),
            ("x[1m:20s]", "x{} 3@20 5@40 7@60"),
            ("sum_over_time(x[1m:20s])", "{} 15"),
            ("max_over_time(sum(x)[1m:10s] offset 30s)", "{} 4"),
            ("max_over_time(x[5m:] @ 70)", "{} 7"),
        ],
    );
    assert_eq!(ask(&given, "x", 359), "x{} 7");
    assert_eq!(
        ask(&given, "x", 360),
        "",
        "the look-back is open at its start"
    );
}

#[test]
fn a_range_query_has_the_instant_queries_answers() {
    let given = given(
        r#"x{a="1"} 1 2 stale 4 _ _
           x{a="2"} _ _ _ 1 2 3"#,
    );
    let range = |query: &str| {
        let range = Range {
            start: Timestamp::from_millis(0),
            end: Timestamp::from_millis(55_000),
            step: Duration::from_secs(10),
        };
        let query = Query::compile(query).expect("PromQL");
        let series = query.evaluate_range(&given, range, &Options::default());
        let series = series.expect("an answer").into_iter();
        series
            .map(|series| {
                let values = series
                    .samples
                    .iter()
                    .map(|sample| format!(" {}@{}", sample.value, sample.timestamp.as_seconds()));
                format!("{}{}", series.labels, values.collect::<String>())
            })
            .collect::<Vec<String>>()
            .join("; ")
    };
    assert_eq!(
        range("x"),
        r#"x{a="1"} 1@0 2@10 4@30 4@40 4@50; x{a="2"} 1@30 2@40 3@50"#
    );
    assert_eq!(range("sum(x)"), "{} 1@0 2@10 5@30 6@40 7@50");
    assert_eq!(range("sum(x) > 5"), "{} 6@40 7@50");
    assert_eq!(range("topk(1, x)"), r#"x{a="1"} 1@0 2@10 4@30 4@40 4@50"#);
    assert_eq!(range("x @ 10"), r#"x{a="1"} 2@0 2@10 2@20 2@30 2@40 2@50"#);
    assert_eq!(range("absent(x)"), "{} 1@20");
    assert_eq!(range("time()"), "{} 0@0 10@10 20@20 30@30 40@40 50@50");
    assert_eq!(
        range("sum(count_over_time(x[20s]))"),
        "{} 1@0 2@10 1@20 2@30 3@40 2@50"
    );
}
