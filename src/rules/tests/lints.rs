//! What `check` warns of.

use super::cluster::rules;
use super::*;

fn warnings(yaml: &str, asked_once: bool) -> Vec<(String, String)> {
    let warnings = lint(&rules(yaml), Duration::from_secs(15), |_| asked_once);
    let warnings = warnings.into_iter();
    warnings
        .map(|warning| (warning.path, warning.message))
        .collect()
}

/// The beginning of each rule's warning, by its query.
fn of_query(series: &str, query: &str) -> Vec<String> {
    let rule = format!(
        "[{{seriesQuery: {series:?}, resources: {{template: <<.Resource>>}}, metricsQuery: {query:?}}}]"
    );
    warnings(&rule, true)
        .into_iter()
        .map(|(_, message)| message)
        .collect()
}

#[test]
fn windows_that_hold_too_few_scrapes_are_told() {
    let short = of_query(
        "foo",
        "sum(rate(<<.Series>>{<<.LabelMatchers>>}[45s])) by (<<.GroupBy>>)",
    );
    assert!(
        short[0].starts_with("a window of 45s holds fewer than 4 scrapes"),
        "{short:?}"
    );
    for fine in [
        "rate(<<.Series>>[1m])",
        "avg_over_time(<<.Series>>[30s])",
        "max_over_time(rate(<<.Series>>[1m])[30s:10s])",
    ] {
        assert_eq!(of_query("foo", fine), Vec::<String>::new(), "{fine}");
    }
}

#[test]
fn shares_of_gpus_that_are_added_up_are_told() {
    let util = "DCGM_FI_DEV_GPU_UTIL";
    let pattern = "{__name__=~\"^DCGM_CUSTOM_PROCESS_(SM|MEM_COPY)_UTIL$\"}";
    let sum = "sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)";
    for (series, query) in [
        (util, sum),
        (pattern, sum),
        (util, "max(sum(<<.Series>>) without (gpu)) by (pod)"),
    ] {
        let told = of_query(series, query);
        assert!(
            told[0].starts_with("the shares of a pod's GPUs are added up"),
            "{query}: {told:?}"
        );
    }
    let fine = [
        ("DCGM_FI_DEV_FB_USED", sum),
        ("http_requests_util", sum),
        (
            util,
            "avg(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)",
        ),
        (
            pattern,
            "avg(sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>, gpu)) by (<<.GroupBy>>)",
        ),
        (
            util,
            "sum(avg(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)) by (<<.GroupBy>>)",
        ),
    ];
    for (series, query) in fine {
        assert_eq!(
            of_query(series, query),
            Vec::<String>::new(),
            "{series} {query}"
        );
    }
}

#[test]
fn rules_that_offer_one_metric_twice_are_told() {
    let rule = |series: &str, resource: &str, rest: &str| {
        format!(
            "- {{seriesQuery: {series:?}, resources: {{overrides: {{x: {{resource: {resource}}}}}}}, metricsQuery: '<<.Series>>'{rest}}}\n"
        )
    };
    let table = [
        (
            rule("foo{a=\"b\"}", "pod", ""),
            rule("foo", "pod", ""),
            true,
        ),
        (
            rule("foo", "pod", ""),
            rule("{__name__=~\"^fo+$\"}", "pod", ""),
            true,
        ),
        (
            rule("{__name__=~\"^f\"}", "pod", ""),
            rule("{__name__=~\"^f\"}", "pod", ""),
            true,
        ),
        // The same, otherwise written.
        (
            rule("{__name__=~\"^f.*$\",a!=\"\"}", "pod", ""),
            rule("{ a != '', __name__ =~ 'f.*' }", "pod", ""),
            true,
        ),
        // All of the one are series of the other.
        (
            rule("{__name__=~\"f.*\"}", "pod", ""),
            rule("{__name__=~\"f.*\",a=\"b\"}", "pod", ""),
            true,
        ),
        (
            rule("{__name__=~\"f.*\",a=\"c\"}", "pod", ""),
            rule("{__name__=~\"f.*\",a=\"b\"}", "pod", ""),
            false,
        ),
        (rule("foo", "pod", ""), rule("bar", "pod", ""), false),
        (
            rule("foo", "pod", ""),
            rule("foo", "pod", ", name: {as: bar}"),
            false,
        ),
        (rule("foo", "pod", ""), rule("foo", "node", ""), false),
        (
            rule("foo", "pod", ""),
            rule(
                "{__name__=~\"^f\"}",
                "pod",
                ", seriesFilters: [{isNot: ^foo$}]",
            ),
            false,
        ),
    ];
    for (first, second, overlap) in table {
        let told = warnings(&format!("{first}{second}"), true);
        assert_eq!(!told.is_empty(), overlap, "{first}{second}{told:?}");
        assert!(told.iter().all(|(path, _)| path == "rules.seriesQuery"));
    }
}

#[test]
fn queries_that_are_asked_for_each_hpa_are_told() {
    let told = warnings(
        "[{seriesQuery: foo, metricsQuery: sum(<<.Series>>)}]",
        false,
    );
    assert!(
        told[0]
            .1
            .starts_with("the query is asked anew for each HPA"),
        "{told:?}"
    );
}
