use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::rules::DiscoveryRule;
use crate::model::labels::Labels;
use crate::model::matcher::{Matcher, all_match};
use crate::model::sample::Sample;
use crate::model::selector::Selector;
use crate::model::time::Timestamp;
use crate::promql::{EvalError, Query, SeriesReader, Wanted};
use crate::rules::QueryRequest;

/// Templates whose query is asked for all objects at once.
const SAFE: &[&str] = &[
    "<<.Series>>{<<.LabelMatchers>>}",
    "avg(sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>, gpu)) by (<<.GroupBy>>)",
    "sum by (pod) (<<.Series>>{<<.LabelMatchers>>})",
    "max(<<.Series>>{<<.LabelMatchers>>}) without (gpu, le)",
    "sum(rate(<<.Series>>{<<.LabelMatchers>>}[1m])) by (<<.GroupBy>>)",
    "-ceil(abs(100 * sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>) / 7))",
    "clamp_max(round(avg(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>), 0.5), 3)",
    "sum(a{<<.LabelMatchers>>}) by (<<.GroupBy>>) / sum(b{<<.LabelMatchers>>}) by (<<.GroupBy>>)",
    "sum(a{<<.LabelMatchers>>}) by (<<.GroupBy>>) / on (<<.GroupBy>>) sum(b) by (<<.GroupBy>>)",
    "sum(a{<<.LabelMatchers>>}) by (<<.GroupBy>>, gpu) / ignoring (gpu) group_left sum(b) by (<<.GroupBy>>)",
    "sum(a{<<.LabelMatchers>>}) by (<<.GroupBy>>) / on () group_left sum(b)",
    "sum(a{<<.LabelMatchers>>}) by (<<.GroupBy>>) / scalar(sum(b))",
    "sum(a{<<.LabelMatchers>>}) by (<<.GroupBy>>) > bool 2",
    "a{<<.LabelMatchers>>} > 2",
    "quantile(0.9, a{<<.LabelMatchers>>}) by (<<.GroupBy>>)",
    "sum(topk(1, a{<<.LabelMatchers>>}) by (<<.GroupBy>>)) by (<<.GroupBy>>)",
    "histogram_quantile(0.9, sum(rate(h{<<.LabelMatchers>>}[1m])) by (le, <<.GroupBy>>))",
    "sum(a{<<.LabelMatchers>>}) by (<<.GroupBy>>) and sum(b{<<.LabelMatchers>>}) by (<<.GroupBy>>) > 1",
    "sum(a{<<.LabelMatchers>>}) by (<<.GroupBy>>) unless on (<<.GroupBy>>) b > 3",
    "a{<<.LabelMatchers>>} and on () sum(b) > 1",
    "sum(a{<<.LabelMatchers>>}) by (<<.GroupBy>>) or sum(b{<<.LabelMatchers>>}) by (<<.GroupBy>>)",
    "avg_over_time(sum(a{<<.LabelMatchers>>}) by (<<.GroupBy>>)[1m:10s])",
    "max_over_time(a{<<.LabelMatchers>>}[1m] offset 10s)",
    "sum({<<.LabelMatchers>>}) by (<<.GroupBy>>)",
    "sum(a{<<.LabelMatchers>>}) by (<<.GroupBy>>) + on (<<.GroupBy>>) count(b{ns=\"<<index .LabelValuesByName \"ns\">>\"}) by (<<.GroupBy>>)",
];

/// Templates whose query is asked for the named objects only, and why.
const UNSAFE: &[(&str, &str)] = &[
    ("sum(a{<<.LabelMatchers>>})", "the sum is of all"),
    ("sum(a{<<.LabelMatchers>>}) by (gpu)", "objects share a GPU"),
    (
        "sum(a{<<.LabelMatchers>>}) without (pod)",
        "the object's label is gone",
    ),
    ("topk(1, a{<<.LabelMatchers>>})", "the first among all"),
    (
        "count_values(\"pod\", a{<<.LabelMatchers>>}) by (<<.GroupBy>>)",
        "a value becomes an object",
    ),
    (
        "label_replace(a{<<.LabelMatchers>>}, \"pod\", \"p1\", \"pod\", \".*\")",
        "objects change",
    ),
    ("absent(a{<<.LabelMatchers>>})", "whether any is there"),
    (
        "sum(a{<<.LabelMatchers>>}) by (<<.GroupBy>>) / scalar(sum(b{<<.LabelMatchers>>}))",
        "a number of all",
    ),
    (
        "sum(a{<<.LabelMatchers>>}) by (<<.GroupBy>>) / on () group_left sum(b{<<.LabelMatchers>>})",
        "a sum of all",
    ),
    (
        "sum(a{<<.LabelMatchers>>}) by (<<.GroupBy>>) / on () sum(b)",
        "fails with two objects",
    ),
    (
        "sum(a{<<.LabelMatchers>>}) by (<<.GroupBy>>) / on (pod) b",
        "fails where another has two",
    ),
    (
        "sum(b) or on () sum(a{<<.LabelMatchers>>}) by (<<.GroupBy>>) or a{<<.LabelMatchers>>} and on () a{<<.LabelMatchers>>}",
        "any of them",
    ),
    (
        "a{<<.LabelMatchers>>} or on () sum(b)",
        "there where no object is",
    ),
    (
        "rate({<<.LabelMatchers>>}[1m])",
        "fails where another has two names",
    ),
    (
        "abs({__name__=~\"a|b\",<<.LabelMatchers>>})",
        "fails where another has two names",
    ),
    (
        "sum(a{<<.LabelMatchers>>,pod=~\"<<index .LabelValuesByName \"pod\">>\"}) by (<<.GroupBy>>)",
        "names the objects",
    ),
    (
        "sum(a{<<.LabelMatchers>>}) by (<<.GroupBy>>) <<if index .LabelValuesByName \"ns\">>* 2<<end>>",
        "depends on a value",
    ),
    (
        "sum(a{<<.LabelMatchers>>}) by (<<.GroupBy>>) + <<index .LabelValuesByName \"ns\">>",
        "a value is a query",
    ),
    (
        "<<if .LabelMatchers>>sum(a{<<.LabelMatchers>>}) by (<<.GroupBy>>)<<end>>",
        "asks whether there are names",
    ),
    ("sum(a{", "no query"),
];

fn rule(template: &str) -> Rule {
    let config = DiscoveryRule {
        series_query: "a".into(),
        metrics_query: template.into(),
        ..DiscoveryRule::default()
    };
    Rule::compile("rules[0]", &config).expect(template)
}

#[test]
fn what_keeps_objects_apart_is_asked_once_for_all() {
    for template in SAFE {
        assert!(is_batchable(&rule(template), "a", "pod"), "{template}");
    }
}

#[test]
fn what_might_not_is_asked_literally() {
    for (template, why) in UNSAFE {
        assert!(
            !is_batchable(&rule(template), "a", "pod"),
            "{why}: {template}"
        );
    }
    assert!(!is_batchable(
        &rule("a{or=\"1\"} / sum({<<.LabelMatchers>> or x=\"1\"})"),
        "a",
        "pod"
    ));
    let buckets = "histogram_quantile(0.9, h{<<.LabelMatchers>>})";
    assert!(
        !is_batchable(&rule(buckets), "h", "le"),
        "the object is a bucket"
    );
}

/// Series of two counters and a histogram, of three pods and of none.
struct Given(BTreeMap<Labels, Vec<Sample>>);

impl SeriesReader for Given {
    fn select(
        &self,
        matchers: &[Matcher],
        wanted: Wanted,
        visit: &mut dyn FnMut(&Labels, &[Sample]),
    ) {
        for (labels, samples) in &self.0 {
            if all_match(matchers, labels) {
                visit(labels, wanted.of(samples));
            }
        }
    }
}

fn series() -> impl Strategy<Value = (Labels, Vec<Sample>)> {
    let labels = (
        prop::sample::select(vec!["a", "b", "h"]),
        prop::sample::select(vec!["", "p1", "p2", "p3"]),
        prop::sample::select(vec!["", "0", "1"]),
        prop::sample::select(vec!["1", "2", "+Inf"]),
    );
    let values = prop::collection::vec(prop::option::weighted(0.9, 0_u8..6), 8);
    (labels, values).prop_map(|((name, pod, gpu, le), values)| {
        let le = if name == "h" { le } else { "" };
        let labels = [
            (METRIC_NAME, name),
            ("ns", "n"),
            ("pod", pod),
            ("gpu", gpu),
            ("le", le),
        ];
        let labels = Labels::new(labels.into_iter().filter(|(_, value)| !value.is_empty()));
        let samples = (0..).zip(values).filter_map(|(index, value)| {
            let at = Timestamp::from_millis(index * 10_000);
            value.map(|value| Sample::new(at, f64::from(value)))
        });
        (labels, samples.collect())
    })
}

/// The elements of these objects, as text, since a NaN is no equal of itself.
fn answer(
    rule: &Rule,
    given: &Given,
    asked: &[&str],
    objects: &[&str],
) -> Result<Vec<String>, EvalError> {
    let request = QueryRequest {
        series: "a",
        namespace: Some(("ns", "n")),
        objects: asked,
        object_label: "pod",
        selector: &Selector::default(),
    };
    let text = rule.query(&request).expect("a query");
    let query = Query::compile(&text).expect("PromQL");
    let at = Timestamp::from_millis(75_000);
    let points = query.instant(given, at, Duration::from_secs(30))?;
    let of_objects = points
        .iter()
        .filter(|point| objects.contains(&point.labels.value("pod")));
    let mut of_objects: Vec<String> = of_objects.map(|point| format!("{point:?}")).collect();
    of_objects.sort();
    Ok(of_objects)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn asked_for_all_or_for_the_named_the_answers_are_identical(
        series in prop::collection::btree_map(series().prop_map(|(labels, _)| labels), series().prop_map(|(_, samples)| samples), 0..24),
        objects in prop::sample::subsequence(vec!["p1", "p2", "p3", "p4"], 1..4),
    ) {
        let given = Given(series);
        for template in SAFE {
            let rule = rule(template);
            let batched = answer(&rule, &given, &[], &objects);
            let literal = answer(&rule, &given, &objects, &objects);
            // It must not fail because of what other pods have.
            prop_assert!(batched.is_ok(), "{}: {:?}", template, batched);
            prop_assert_eq!(batched, literal, "{}", template);
        }
    }
}
