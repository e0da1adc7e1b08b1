//! Generated queries on both engines: a grammar of expressions over the metrics of [`crate::data`].
//!
//! Left out is what either engine may answer as it likes: which of several equal elements `topk` and `limitk` take; what
//! makes a last digit the first one (sine, cosine and tangent of huge numbers, the spread of what a hyperbolic tangent
//! makes nearly equal) or a label (`count_values`); and dates of what is no number (see [`crate::exceptions`]).

use std::cell::Cell;
use std::str::FromStr;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::answer::Order;
use crate::engines::{Engines, When};
use crate::era::Era;

/// How many queries are generated, and from what: they are the same in every run, unless the environment variables
/// `PEER_CASES` and `PEER_SEED` say otherwise.
const CASES: u32 = 500;
const SEED: u8 = 0;

const TIMES: [When; 3] = [
    When::Instant(1_207_300),
    When::Range([-30_000, 2_760_000, 155_000]),
    When::Range([600_000, 750_000, 15_000]),
];

const SELECTORS: &[&str] = &[
    "utilization",
    "utilization{gpu=~\"[0-3]\"}",
    "temperature",
    "temperature{host!=\"n1\"}",
    "requests_total",
    "requests_total{job=\"api\"}",
    "ramp",
    "switch",
    "ended",
    "returned",
    "sparse",
    "two",
    "partial",
    "host_cores",
    "host_info",
    "mixed",
    "special",
    "rank",
    "latency_seconds_bucket",
    "odd_bucket",
    "nothing_at_all",
    "{host=~\"n[12]\"}",
];
const SHIFTS: &[&str] = &[
    "",
    "",
    "",
    " offset 5m",
    " offset -20s",
    " @ {600}",
    " @ end()",
    " @ start() offset 1m",
];
const WINDOWS: &[&str] = &["15s", "31s", "1m", "2m", "5m", "11m"];
const STEPS: &[&str] = &["5m:1m", "2m:15s", "90s:7s", "10m:"];
const NUMBERS: &[&str] = &["0", "1", "-2.5", "50", "0.3", "NaN", "Inf", "1e3"];
const LABELS: &[&str] = &[
    "host",
    "gpu",
    "host, gpu",
    "job",
    "kind",
    "a",
    "",
    "__name__",
    "le",
];
const OVER_RANGES: &[&str] = &[
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "deriv",
    "changes",
    "resets",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "sum_over_time",
    "count_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "last_over_time",
    "present_over_time",
    "mad_over_time",
    "first_over_time",
    "absent_over_time",
];
const OVER_VECTORS: &[&str] = &[
    "abs",
    "ceil",
    "floor",
    "round",
    "sqrt",
    "exp",
    "ln",
    "log2",
    "log10",
    "sgn",
    "atan",
    "asinh",
    "deg",
    "rad",
    "timestamp",
    "absent",
    "sort",
    "sort_desc",
    "-",
    "+",
];
/// With a parameter, or one of another.
const AGGREGATIONS: &[&str] = &[
    "sum",
    "avg",
    "min",
    "max",
    "count",
    "group",
    "stddev",
    "stdvar",
    "quantile 0.3",
    "max of topk",
    "min of bottomk",
    "count of topk",
    "count of limitk",
];
const OPERATORS: &[&str] = &[
    "+", "-", "*", "/", "%", "^", "atan2", "==", "!=", ">", "<", ">=", "<=", "== bool", "> bool",
    "<= bool",
];
const SETS: &[&str] = &["and", "or", "unless"];

fn selector() -> impl Strategy<Value = String> {
    (select(SELECTORS), select(SHIFTS)).prop_map(|(selector, shift)| format!("{selector}{shift}"))
}

/// A matching clause, with its label list empty or not; sometimes none at all.
fn matching(groups: &'static [&'static str]) -> impl Strategy<Value = String> {
    let clause = (
        select(&["on", "ignoring"][..]),
        select(LABELS),
        select(groups),
    );
    prop_oneof![
        Just(String::new()),
        clause.prop_map(|(kind, labels, group)| format!("{kind}({labels}) {group}")),
    ]
}

fn range(inner: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let plain = (select(SELECTORS), select(WINDOWS), select(SHIFTS));
    let sub = (inner, select(STEPS), select(SHIFTS));
    prop_oneof![
        3 => plain.prop_map(|(selector, window, shift)| format!("{selector}[{window}]{shift}")),
        1 => sub.prop_map(|(inner, step, shift)| format!("({inner})[{step}]{shift}")),
    ]
}

/// An expression whose value is an instant vector.
fn vector() -> impl Strategy<Value = String> {
    selector().prop_recursive(4, 16, 2, |inner| {
        let call = (select(OVER_VECTORS), inner.clone());
        let over = (select(OVER_RANGES), range(inner.clone()));
        let by = prop_oneof![Just(""), Just("by"), Just("without")];
        let aggregate = (select(AGGREGATIONS), by, select(LABELS), inner.clone());
        let number = prop_oneof![
            select(NUMBERS).prop_map(str::to_owned),
            Just("time()".to_owned()),
            inner.clone().prop_map(|inner| format!("scalar({inner})")),
        ];
        let with_number = (
            inner.clone(),
            select(OPERATORS),
            number.clone(),
            any::<bool>(),
        );
        let groups = &[
            "",
            "",
            "group_left",
            "group_right(zone)",
            "group_left(model)",
        ];
        let binary = (
            inner.clone(),
            select(OPERATORS),
            matching(groups),
            inner.clone(),
        );
        let sets = (inner.clone(), select(SETS), matching(&[""]), inner.clone());
        let clamp = (inner.clone(), select(NUMBERS), select(NUMBERS));
        let quantile = (select(&["0", "0.5", "0.9", "1"][..]), inner.clone());
        prop_oneof![
            call.prop_map(|(function, inner)| format!("{function}({inner})")),
            over.prop_map(|(function, range)| format!("{function}({range})")),
            aggregate.prop_map(|(operator, by, labels, inner)| {
                let by = if by.is_empty() {
                    String::new()
                } else {
                    format!("{by} ({labels})")
                };
                match operator.split_once(" of ") {
                    Some((outer, operator)) => {
                        format!("{outer} {by} ({operator} {by} (2, {inner}))")
                    }
                    None => match operator.split_once(' ') {
                        Some((operator, parameter)) => {
                            format!("{operator} {by} ({parameter}, {inner})")
                        }
                        None => format!("{operator} {by} ({inner})"),
                    },
                }
            }),
            with_number.prop_map(|(inner, operator, number, first)| {
                let inner = format!("({inner})");
                let (left, right) = if first {
                    (number, inner)
                } else {
                    (inner, number)
                };
                format!("{left} {operator} {right}")
            }),
            binary.prop_map(|(left, operator, matching, right)| {
                format!("({left}) {operator} {matching} ({right})")
            }),
            sets.prop_map(|(left, operator, matching, right)| {
                format!("({left}) {operator} {matching} ({right})")
            }),
            clamp.prop_map(|(inner, low, high)| format!("clamp({inner}, {low}, {high})")),
            quantile.prop_map(|(q, inner)| format!("histogram_quantile({q}, {inner})")),
            number.prop_map(|number| format!("vector({number})")),
            inner.prop_map(|inner| {
                format!("label_replace({inner}, \"gpu\", \"g$1\", \"host\", \"n(.)\")")
            }),
        ]
    })
}

fn environment<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
#[ignore = "needs Prometheus: make test"]
fn generated_queries_mean_the_same_to_prometheus() {
    let engines = Engines::start();
    let config = Config {
        cases: environment("PEER_CASES").unwrap_or(CASES),
        failure_persistence: None,
        max_shrink_iters: 1_000,
        ..Config::default()
    };
    let seed = environment("PEER_SEED").unwrap_or(SEED);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    // How many evaluations gave something, gave nothing, and were refused.
    let counts = Cell::new([0_u32; 3]);
    let outcome = TestRunner::new_with_rng(config, rng).run(&vector(), |query| {
        engines.prometheus.runtime.block_on(async {
            for era in Era::ALL {
                for when in TIMES {
                    let (expected, difference) =
                        engines.compare(&query, Order::Any, era, when).await;
                    let [some, none, refused] = counts.get();
                    counts.set(match expected {
                        Ok(answer) if !answer.is_empty() => [some + 1, none, refused],
                        Ok(_) => [some, none + 1, refused],
                        Err(_) => [some, none, refused + 1],
                    });
                    if let Some(text) = difference {
                        return Err(TestCaseError::fail(format!("{query}\n    {text}")));
                    }
                }
            }
            Ok(())
        })
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    let [some, none, refused] = counts.get();
    eprintln!(
        "{some} evaluations agree on a value, {none} on an empty one, {refused} on a refusal"
    );
    assert!(
        some * 2 > none + refused,
        "fewer than a third give anything: the grammar makes too little sense"
    );
}
