use super::*;
use crate::model::objects::GroupResource;

/// Pods, namespaces and one resource of a group with dots.
struct Mapper;

impl ResourceMapper for Mapper {
    fn resolve(&self, name: &GroupResource) -> Option<ResourceKind> {
        let (group, version, plural, kind, namespaced) = match name.resource.as_str() {
            "pod" | "pods" => ("", "v1", "pods", "Pod", true),
            "namespace" | "namespaces" => ("", "v1", "namespaces", "Namespace", false),
            "ingress" | "ingresses" => ("networking.k8s.io", "v1", "ingresses", "Ingress", true),
            _ => return None,
        };
        Some(ResourceKind {
            resource: GroupResource {
                group: group.into(),
                resource: plural.into(),
            },
            version: version.into(),
            kind: kind.into(),
            namespaced,
        })
    }
}

fn rule(yaml: &str) -> Result<Rule, Vec<Fault>> {
    let config: DiscoveryRule = serde_saphyr::from_str(yaml).expect("the rule's form is right");
    Rule::compile("rules[0]", &config)
}

fn labels(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

#[test]
fn the_preset_rules_are_valid_and_serve_what_they_promise() {
    let configs: Vec<DiscoveryRule> =
        serde_saphyr::from_str(DCGM_EXPORTER_PRESET).expect("valid YAML");
    let rules: Vec<Rule> = configs
        .iter()
        .map(|config| Rule::compile("preset", config).expect("valid"))
        .collect();
    assert_eq!(rules.len(), 2);
    let kinds = rules[0].resources(
        &labels(&["NamespaceName", "NodeName", "PodName", "gpu"]),
        &Mapper,
    );
    let named: Vec<(&str, &str)> = kinds
        .iter()
        .map(|(kind, label)| (kind.resource.resource.as_str(), label.as_str()))
        .collect();
    assert_eq!(
        named,
        [("namespaces", "NamespaceName"), ("pods", "PodName")]
    );
}

#[test]
fn the_presets_of_kubelets_and_inference_servers_offer_these_names() {
    let table = [
        (
            KUBELET_PRESET,
            "container_cpu_usage_seconds_total",
            Some("container_cpu_usage"),
        ),
        (
            INFERENCE_PODS_PRESET,
            "vllm:num_requests_waiting",
            Some("vllm_num_requests_waiting"),
        ),
        (
            INFERENCE_PODS_PRESET,
            "vllm:gpu_cache_usage_perc",
            Some("vllm_kv_cache_usage_perc"),
        ),
        (
            INFERENCE_PODS_PRESET,
            "sglang:num_queue_reqs",
            Some("sglang_num_queue_reqs"),
        ),
        (
            INFERENCE_PODS_PRESET,
            "tgi_queue_size",
            Some("tgi_queue_size"),
        ),
        (
            INFERENCE_PODS_PRESET,
            "vllm:num_requests_waiting_by_reason",
            None,
        ),
    ];
    for (preset, series, expected) in table {
        let configs: Vec<DiscoveryRule> = serde_saphyr::from_str(preset).expect("valid YAML");
        let rules = configs
            .iter()
            .map(|config| Rule::compile("preset", config).expect("valid"));
        // The selector is `{__name__=~"^…$",…}`, or begins with the name.
        let meant = |rule: &Rule| {
            let query = &rule.series_query;
            let name = query.strip_prefix("{__name__").unwrap_or(query);
            let (name, exact) = match name.strip_prefix("=~") {
                Some(pattern) => (pattern, false),
                None => (name.trim_start_matches('='), true),
            };
            let name = name.trim_start_matches('"').split(['"', '{']).next();
            let name = name.expect("a name");
            if exact {
                name == series
            } else {
                regex::Regex::new(name).expect("valid").is_match(series)
            }
        };
        let names: Vec<String> = rules
            .filter(meant)
            .filter_map(|rule| rule.metric_name(series))
            .collect();
        let expected: Vec<&str> = expected.into_iter().collect();
        assert_eq!(names, expected, "{series}");
    }
}

#[test]
fn a_request_becomes_the_query_that_prometheus_adapter_would_send() {
    let rule = rule(
        r#"
seriesQuery: 'foo{namespace!="",pod!=""}'
resources: {overrides: {namespace: {resource: namespace}, pod: {resource: pod}}}
metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
"#,
    )
    .expect("valid");
    let query = |selector: &str, objects: &[&str]| {
        rule.query(&QueryRequest {
            series: "foo",
            namespace: Some(("namespace", "default")),
            objects,
            object_label: "pod",
            selector: &Selector::parse(selector).expect("a selector"),
        })
    };
    let cases = [
        (
            "",
            &["a"][..],
            r#"sum(foo{namespace="default",pod="a"}) by (pod)"#,
        ),
        (
            "",
            &["a", "b.1"],
            r#"sum(foo{namespace="default",pod=~"a|b\\.1"}) by (pod)"#,
        ),
        ("", &[], r#"sum(foo{namespace="default"}) by (pod)"#),
        (
            "z=1,a=2",
            &["a"],
            r#"sum(foo{a="2",z="1",namespace="default",pod="a"}) by (pod)"#,
        ),
        (
            "verb in (POST,GET)",
            &[],
            r#"sum(foo{verb=~"GET|POST",namespace="default"}) by (pod)"#,
        ),
        (
            "k notin (b,a),!x,y,k!=v",
            &[],
            r#"sum(foo{k!~"a|b",k!="v",x="",y!="",namespace="default"}) by (pod)"#,
        ),
    ];
    for (selector, objects, expected) in cases {
        assert_eq!(
            query(selector, objects).expect("a query"),
            expected,
            "{selector}"
        );
    }
    assert!(matches!(
        query("k>5", &[]),
        Err(RequestError::Comparison(_))
    ));
    let foreign = query("app.kubernetes.io/name=x", &[]);
    assert!(matches!(foreign, Err(RequestError::Key(_))), "{foreign:?}");
}

#[test]
fn labels_name_resources_by_override_or_template() {
    let rule = rule(
        r#"
seriesQuery: foo
resources: {template: "kube_<<.Group>>_<<.Resource>>", overrides: {ns: {resource: Namespaces}}}
metricsQuery: foo
"#,
    )
    .expect("valid");
    let found = rule.resources(
        &labels(&["kube_networking_ingress", "ns", "other", "kube__pod"]),
        &Mapper,
    );
    let found: Vec<(String, &str)> = found
        .iter()
        .map(|(kind, label)| (kind.resource.to_string(), label.as_str()))
        .collect();
    let ingresses = (
        "ingresses.networking.k8s.io".to_owned(),
        "kube_networking_ingress",
    );
    assert_eq!(
        found,
        [ingresses, ("namespaces".to_owned(), "ns")],
        "the core group has no name to match"
    );
}

#[test]
fn a_faulty_rule_tells_all_its_faults() {
    let faults = rule(
        r#"
seriesFilters: [{}]
resources: {template: "kube", overrides: {pod: {}}}
metricsQuery: <<.Nope>>
maxAge: 0s
"#,
    )
    .expect_err("faulty");
    let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "rules[0].seriesQuery",
            "rules[0].maxAge",
            "rules[0].seriesFilters[0]",
            "rules[0].resources.overrides.pod.resource",
            "rules[0].resources.template",
            "rules[0].metricsQuery"
        ]
    );
}
