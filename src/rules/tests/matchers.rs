//! prometheus-adapter's own tests of queries (`pkg/naming/metrics_query_test.go`), and its table of operators.

use super::cluster::{external, query, rule};
use super::*;

const LABELS: &[&str] = &["namespace", "pod"];

fn templated(metrics_query: &str) -> Rule {
    let config = format!(
        "{{seriesQuery: foo, resources: {{template: <<.Resource>>}}, metricsQuery: {metrics_query:?}}}"
    );
    rule(&config).expect("valid")
}

#[test]
fn a_request_for_objects_is_written_as_prometheus_adapter_does() {
    let table = [
        ("series <<.Series>>", None, &["bar"][..], "", "series foo"),
        (
            "<<.LabelMatchers>>",
            None,
            &["bar", "baz"],
            "",
            r#"pod=~"bar|baz""#,
        ),
        ("<<.LabelMatchers>>", None, &["bar"], "", r#"pod="bar""#),
        (
            "<<.LabelMatchers>>",
            None,
            &["bar"],
            "metric1=value1",
            r#"metric1="value1",pod="bar""#,
        ),
        (
            "<<index .LabelValuesByName \"pod\">>",
            None,
            &["bar"],
            "",
            "bar",
        ),
        (
            "<<index .LabelValuesByName \"pod\">>",
            None,
            &["bar", "baz"],
            "",
            "bar|baz",
        ),
        (
            "<<index .LabelValuesByName \"namespace\">> <<index .LabelValuesByName \"pod\">>",
            Some("default"),
            &["bar", "baz"],
            "",
            "default bar|baz",
        ),
        ("<<.GroupBy>>", None, &["bar"], "", "pod"),
        ("<<.GroupBySlice>>", None, &["bar"], "", "[pod]"),
    ];
    for (template, namespace, objects, selector, expected) in table {
        let rule = templated(template);
        let query = query(
            (&rule, ("foo", LABELS)),
            "pods",
            namespace,
            objects,
            selector,
        );
        assert_eq!(query.as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn a_request_for_containers_groups_by_more() {
    let table = [
        ("<<.GroupBy>>", "resource,extra,groups"),
        ("<<.GroupBySlice>>", "[resource extra groups]"),
    ];
    for (template, expected) in table {
        let template = Template::parse(template).expect("valid");
        let values = Values {
            series: "",
            label_matchers: "",
            label_values: &[],
            group_by: &["resource", "extra", "groups"],
        };
        assert_eq!(template.render(values).as_deref(), Ok(expected));
    }
}

/// Upstream's tests hand its function labels to group by, which no request has: external metrics group by nothing.
#[test]
fn a_request_for_an_external_metric_is_written_as_prometheus_adapter_does() {
    let table = [
        ("series <<.Series>>", "", "series foo"),
        ("by (<<.GroupBy>>) <<.GroupBySlice>>", "", "by () []"),
        ("<<index .LabelValuesByName \"namespace\">>", "", "default"),
        (
            "<<.LabelMatchers>>",
            "foo=bar",
            r#"foo="bar",namespace="default""#,
        ),
        (
            "<<.LabelMatchers>>",
            "foo=bar,qux in (bar,baz)",
            r#"foo="bar",qux=~"bar|baz",namespace="default""#,
        ),
        (
            "<<.LabelValuesByName>>",
            "foo=bar",
            "map[foo:bar namespace:default]",
        ),
        (
            "<<.LabelValuesByName>>",
            "foo in (bar,baz)",
            "map[foo:bar|baz namespace:default]",
        ),
    ];
    for (template, selector, expected) in table {
        let query = external(&templated(template), "foo", "default", selector);
        assert_eq!(query.as_deref(), Ok(expected), "{template} {selector}");
    }
    let everywhere = "{seriesQuery: foo, resources: {namespaced: false}, metricsQuery: '<<index .LabelValuesByName \"namespaces\">> <<.LabelMatchers>>'}";
    let query = external(
        &rule(everywhere).expect("valid"),
        "foo",
        "default",
        "foo=bar",
    );
    assert_eq!(query.as_deref(), Ok(r#" foo="bar""#));
}

#[test]
fn each_operator_of_a_selector_has_its_matcher() {
    let rule = templated("<<.LabelMatchers>>");
    let table = [
        ("k=v", r#"k="v""#),
        ("k==v", r#"k="v""#),
        ("k!=v", r#"k!="v""#),
        ("k in (v)", r#"k=~"v""#),
        ("k in (b,a)", r#"k=~"a|b""#),
        ("k notin (v)", r#"k!~"v""#),
        ("k notin (a,b)", r#"k!~"a|b""#),
        ("k", r#"k!="""#),
        ("!k", r#"k="""#),
        ("k=", r#"k="""#),
        ("z=1,a=2", r#"a="2",z="1""#),
        // Never true, as in prometheus-adapter: the request's namespace is not given up.
        (
            "namespace=queue",
            r#"namespace="queue",namespace="default""#,
        ),
    ];
    for (selector, expected) in table {
        let query = query((&rule, ("foo", LABELS)), "namespaces", None, &[], selector);
        let expected = expected.trim_end_matches(r#",namespace="default""#);
        assert_eq!(query.as_deref(), Ok(expected), "{selector}");
    }
    for selector in ["k>1", "k<1"] {
        let query = query((&rule, ("foo", LABELS)), "pods", None, &[], selector);
        assert!(
            matches!(query, Err(RequestError::Comparison(_))),
            "{selector}"
        );
    }
    let clash = external(&rule, "foo", "default", "namespace=queue");
    assert_eq!(
        clash.as_deref(),
        Ok(r#"namespace="queue",namespace="default""#)
    );
}

#[test]
fn a_name_means_that_object_only() {
    let rule = templated("<<.LabelMatchers>>");
    let query = query((&rule, ("foo", LABELS)), "pods", None, &["p.1", "p2"], "");
    assert_eq!(
        query.as_deref(),
        Ok(r#"pod=~"p\\.1|p2""#),
        "differs: prometheus-adapter writes p.1"
    );
}

#[test]
fn a_key_that_no_label_has_is_refused_before_it_is_asked() {
    let query = external(
        &templated("<<.LabelMatchers>>"),
        "foo",
        "default",
        "app.kubernetes.io/name=x",
    );
    assert!(
        matches!(query, Err(RequestError::Key(_))),
        "differs: prometheus-adapter answers 500: {query:?}"
    );
}
