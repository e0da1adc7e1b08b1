//! What each function gives, computed by hand from its definition.

use super::given::{check, given};

#[test]
fn counters_are_extrapolated_to_their_range_and_survive_resets() {
    let given = given(
        "up 0 10 20 30 40 50 60
         reset 50 60 5 15 25 35 45
         late _ _ _ _ 10 20 30
         one _ _ _ _ _ _ 7",
    );
    check(
        &given,
        60,
        &[
            // (0, 60]: samples at 10…60, so 50 in 50 s, and 10 s to the start, which is within 1.1 intervals.
            ("rate(up[1m])", "{} 1"),
            ("increase(up[1m])", "{} 60"),
            // 5 - 60 + 60 … + 40 = 45 in 50 s; extrapolated by 10 s: the zero point is farther away.
            ("increase(reset[1m])", "{} 54"),
            ("delta(reset[1m])", "{} -18"),
            // 20 in 20 s from 40 on: half an interval is added at the start, and the zero point is 10 s away.
            ("increase(late[1m])", "{} 25"),
            ("irate(up[1m])", "{} 1"),
            ("irate(reset[45s])", "{} 1"),
            ("idelta(reset[1m])", "{} 10"),
            ("rate(one[1m])", ""),
            ("irate(one[1m])", ""),
            ("resets(reset[1m])", "{} 1"),
            ("changes(reset[1m])", "{} 5"),
        ],
    );
    check(
        &given,
        20,
        &[
            // (0, 20]: from 60 to 5 is a reset.
            ("irate(reset[20s])", "{} 0.5"),
            ("idelta(reset[20s])", "{} -55"),
        ],
    );
}

#[test]
fn a_range_is_open_at_its_start() {
    let given = given("x 1 2 3 4 5 6 7");
    check(
        &given,
        60,
        &[
            ("count_over_time(x[1m])", "{} 6"),
            ("count_over_time(x[59s])", "{} 6"),
            ("count_over_time(x[61s])", "{} 7"),
            ("x[25s]", "x{} 5@40 6@50 7@60"),
        ],
    );
}

#[test]
fn values_over_time_are_aggregated() {
    let given = given(
        "x 9 4 2 8 6
         holes NaN 3 NaN 1 NaN
         ended 1 2 stale",
    );
    check(
        &given,
        40,
        &[
            ("avg_over_time(x[40s])", "{} 5"),
            ("sum_over_time(x[40s])", "{} 20"),
            ("min_over_time(x[40s])", "{} 2"),
            ("max_over_time(x[40s])", "{} 8"),
            ("count_over_time(x[40s])", "{} 4"),
            ("stdvar_over_time(x[40s])", "{} 5"),
            ("stddev_over_time(x[40s]) ^ 2", "{} 5"),
            ("quantile_over_time(0.5, x[40s])", "{} 5"),
            ("quantile_over_time(2, x[40s])", "{} inf"),
            ("mad_over_time(x[40s])", "{} 2"),
            ("first_over_time(x[40s])", "x{} 4"),
            ("last_over_time(x[40s])", "x{} 6"),
            ("present_over_time(x[40s])", "{} 1"),
            ("absent_over_time(x[40s])", ""),
            ("absent_over_time(no{a=\"b\",c!=\"d\"}[40s])", "{a=\"b\"} 1"),
            ("ts_of_max_over_time(x[40s])", "{} 30"),
            ("min_over_time(holes[50s])", "{} 1"),
            ("max_over_time(holes[50s])", "{} 3"),
            ("avg_over_time(holes[50s])", "{} NaN"),
            // A stale marker is no value, and it does not end a range.
            ("count_over_time(ended[1m])", "{} 2"),
            ("ended", ""),
        ],
    );
}

#[test]
fn trends_are_least_squares_and_holts_smoothing() {
    let given = given("line 0 10 20 30 40\nflat 5 5 5 5 5\nbend 0 10 20 30 100");
    check(
        &given,
        40,
        &[
            ("deriv(line[1m])", "{} 1"),
            ("deriv(flat[1m])", "{} 0"),
            ("predict_linear(line[1m], 60)", "{} 100"),
            ("predict_linear(flat[1m] offset 10s, 60)", "{} 5"),
            ("double_exponential_smoothing(line[1m], 0.5, 0.5)", "{} 40"),
            ("double_exponential_smoothing(bend[1m], 0.5, 0.5)", "{} 70"),
            (
                "double_exponential_smoothing(line[1m], 1, 0.5)",
                "invalid smoothing factor. Expected: 0 < sf < 1, got: 1.000000",
            ),
        ],
    );
}

#[test]
fn functions_of_one_number_keep_labels_and_drop_names() {
    let given = given(r#"x{a="b"} -2.5"#);
    check(
        &given,
        0,
        &[
            ("abs(x)", r#"{a="b"} 2.5"#),
            ("-x", r#"{a="b"} 2.5"#),
            ("+x", r#"x{a="b"} -2.5"#),
            ("ceil(x)", r#"{a="b"} -2"#),
            ("floor(x)", r#"{a="b"} -3"#),
            ("round(x)", r#"{a="b"} -2"#),
            ("round(x, 0.2)", r#"{a="b"} -2.4"#),
            ("sgn(x)", r#"{a="b"} -1"#),
            ("sqrt(x)", r#"{a="b"} NaN"#),
            ("ln(x + 3.5)", r#"{a="b"} 0"#),
            ("log2(x + 10.5)", r#"{a="b"} 3"#),
            ("exp(x + 2.5)", r#"{a="b"} 1"#),
            ("clamp(x, -1, 1)", r#"{a="b"} -1"#),
            ("clamp(x, 1, -1)", ""),
            ("clamp_min(x, NaN)", r#"{a="b"} NaN"#),
            ("clamp_max(x, -3)", r#"{a="b"} -3"#),
            ("deg(vector(pi()))", "{} 180"),
            ("cos(vector(0))", "{} 1"),
            ("scalar(x)", "-2.5"),
            ("scalar(no)", "NaN"),
            ("absent(x)", ""),
            (r#"absent(no{a="b",c=~"d"})"#, r#"{a="b"} 1"#),
            ("absent(sum(no))", "{} 1"),
            ("vector(1)", "{} 1"),
            ("time()", "0"),
            ("year()", "{} 1970"),
            ("minute(x * -24 * 10)", r#"{a="b"} 10"#),
            (r#""text""#, "text"),
            (r"`a\d`", r"a\d"),
            ("1_000", "1000"),
        ],
    );
}

#[test]
fn a_samples_time_is_its_own_and_a_results_is_the_evaluations() {
    let given = given("x 1 2 3");
    check(
        &given,
        25,
        &[
            ("timestamp(x)", "{} 20"),
            ("timestamp((x))", "{} 20"),
            ("timestamp(x offset 10s)", "{} 10"),
            ("timestamp(x + 0)", "{} 25"),
        ],
    );
}

#[test]
fn labels_are_replaced_and_joined() {
    let given = given(
        r#"x{host="node-7",gpu="1"} 1
           x{host="other",gpu="2"} 2"#,
    );
    check(
        &given,
        0,
        &[
            (
                r#"label_replace(x{gpu="1"}, "n", "<$1>", "host", "node-(.*)")"#,
                r#"x{gpu="1", host="node-7", n="<7>"} 1"#,
            ),
            (
                r#"label_replace(x{gpu="2"}, "n", "$1", "host", "node-(.*)")"#,
                r#"x{gpu="2", host="other"} 2"#,
            ),
            (
                r#"label_replace(x{gpu="1"}, "gpu", "", "gpu", ".*")"#,
                r#"x{host="node-7"} 1"#,
            ),
            (
                r#"label_replace(label_replace(x, "gpu", "", "", ""), "host", "", "", "")"#,
                "vector cannot contain metrics with the same labelset",
            ),
            (
                r#"label_join(x{gpu="1"}, "at", "/", "host", "no", "gpu")"#,
                r#"x{at="node-7//1", gpu="1", host="node-7"} 1"#,
            ),
            (
                r#"label_replace(x, "n", "", "host", "(")"#,
                "invalid regular expression in label_replace(): (",
            ),
        ],
    );
}

#[test]
fn vectors_are_sorted_by_value_or_by_labels() {
    let given = given(
        r#"x{gpu="10"} 3
           x{gpu="2"} NaN
           x{gpu="1"} 7"#,
    );
    check(
        &given,
        0,
        &[
            ("sort(x)", r#"x{gpu="10"} 3; x{gpu="1"} 7; x{gpu="2"} NaN"#),
            (
                "sort_desc(x)",
                r#"x{gpu="1"} 7; x{gpu="10"} 3; x{gpu="2"} NaN"#,
            ),
            (
                r#"sort_by_label(x, "gpu")"#,
                r#"x{gpu="1"} 7; x{gpu="2"} NaN; x{gpu="10"} 3"#,
            ),
        ],
    );
}

#[test]
fn quantiles_of_histograms_are_made_per_histogram() {
    let given = given(
        r#"latency_bucket{pod="a",le="1"} 2
           latency_bucket{pod="a",le="2"} 6
           latency_bucket{pod="a",le="+Inf"} 10
           latency_bucket{pod="b",le="1"} 10
           latency_bucket{pod="b",le="+Inf"} 10
           latency_bucket{pod="c",le="none"} 10"#,
    );
    check(
        &given,
        0,
        &[
            (
                "histogram_quantile(0.4, latency_bucket)",
                r#"{pod="a"} 1.5; {pod="b"} 0.4"#,
            ),
            (
                "histogram_quantile(0.9, sum by (le) (latency_bucket))",
                "{} 2",
            ),
        ],
    );
}
