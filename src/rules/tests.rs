mod associations;
mod cluster;
mod lints;
mod matchers;
mod users;

use super::*;

use cluster::{Mapper, labels, rule};

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
        [
            ("namespaces", "NamespaceName"),
            ("nodes", "NodeName"),
            ("pods", "PodName")
        ]
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
