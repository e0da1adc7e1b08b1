//! Rules that people run, as they wrote them.

use super::cluster::{Series, external, named, offers, query, rule, rules};
use super::*;

/// `cmd/config-gen/utils/default.go` with a rate interval of 1m and the label prefix `kube_`.
const DEFAULTS: &str = r#"
- seriesQuery: '{__name__=~"^container_.*",container!="POD",namespace!="",pod!=""}'
  seriesFilters: []
  resources: {overrides: {namespace: {resource: namespace}, pod: {resource: pod}}}
  name: {matches: ^container_(.*)_seconds_total$, as: ""}
  metricsQuery: sum(rate(<<.Series>>{<<.LabelMatchers>>,container!="POD"}[1m])) by (<<.GroupBy>>)
- seriesQuery: '{__name__=~"^container_.*",container!="POD",namespace!="",pod!=""}'
  seriesFilters: [{isNot: ^container_.*_seconds_total$}]
  resources: {overrides: {namespace: {resource: namespace}, pod: {resource: pod}}}
  name: {matches: ^container_(.*)_total$, as: ""}
  metricsQuery: sum(rate(<<.Series>>{<<.LabelMatchers>>,container!="POD"}[1m])) by (<<.GroupBy>>)
- seriesQuery: '{__name__=~"^container_.*",container!="POD",namespace!="",pod!=""}'
  seriesFilters: [{isNot: ^container_.*_total$}]
  resources: {overrides: {namespace: {resource: namespace}, pod: {resource: pod}}}
  name: {matches: ^container_(.*)$, as: ""}
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>,container!="POD"}) by (<<.GroupBy>>)
- seriesQuery: '{kube_namespace!="",__name__!~"^container_.*"}'
  seriesFilters: [{isNot: .*_total$}]
  resources: {template: kube_<<.Resource>>}
  name: {matches: "", as: ""}
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
- seriesQuery: '{kube_namespace!="",__name__!~"^container_.*"}'
  seriesFilters: [{isNot: .*_seconds_total}]
  resources: {template: kube_<<.Resource>>}
  name: {matches: ^(.*)_total$, as: ""}
  metricsQuery: sum(rate(<<.Series>>{<<.LabelMatchers>>}[1m])) by (<<.GroupBy>>)
- seriesQuery: '{kube_namespace!="",__name__!~"^container_.*"}'
  seriesFilters: []
  resources: {template: kube_<<.Resource>>}
  name: {matches: ^(.*)_seconds_total$, as: ""}
  metricsQuery: sum(rate(<<.Series>>{<<.LabelMatchers>>}[1m])) by (<<.GroupBy>>)
"#;

const CONTAINERS: &[Series] = &[
    (
        "container_some_time_seconds_total",
        &["pod", "namespace", "container"],
    ),
    (
        "container_some_count_total",
        &["pod", "namespace", "container"],
    ),
    ("container_some_usage", &["pod", "namespace", "container"]),
];

const OTHERS: &[Series] = &[
    ("node_gigawatts", &["kube_node"]),
    ("service_proxy_packets", &["kube_service", "kube_namespace"]),
    (
        "ingress_hits_total",
        &["kube_ingress", "kube_service", "kube_pod", "kube_namespace"],
    ),
    ("volume_claims_total", &["kube_persistentvolume"]),
    (
        "work_queue_wait_seconds_total",
        &["kube_deployment", "kube_namespace"],
    ),
    ("node_fan_seconds_total", &["kube_node"]),
];

/// `pkg/custom-provider/series_registry_test.go`. Its fake cluster has ingresses and deployments in `extensions` only; in
/// this one `apps` has deployments and comes first.
#[test]
fn prometheus_adapters_default_rules_offer_and_ask_what_they_do_there() {
    let rules = rules(DEFAULTS);
    let series = |index| if index < 3 { CONTAINERS } else { OTHERS };
    let rules: Vec<(&Rule, &[Series])> = rules
        .iter()
        .enumerate()
        .map(|(index, rule)| (rule, series(index)))
        .collect();
    let offered = offers(&rules);
    let names: Vec<&str> = offered.iter().map(|(offer, ..)| offer.as_str()).collect();
    assert_eq!(
        names,
        [
            "deployments.apps work_queue_wait",
            "ingresses.extensions ingress_hits",
            "namespaces ingress_hits (root)",
            "namespaces service_proxy_packets (root)",
            "namespaces some_count (root)",
            "namespaces some_time (root)",
            "namespaces some_usage (root)",
            "namespaces work_queue_wait (root)",
            "nodes node_fan (root)",
            "nodes node_gigawatts (root)",
            "persistentvolumes volume_claims (root)",
            "pods ingress_hits",
            "pods some_count",
            "pods some_time",
            "pods some_usage",
            "services ingress_hits",
            "services service_proxy_packets",
        ]
    );
    let two = &["somepod1", "somepod2"][..];
    let table = [
        (
            "pods some_usage",
            two,
            "",
            r#"sum(container_some_usage{namespace="somens",pod=~"somepod1|somepod2",container!="POD"}) by (pod)"#,
        ),
        (
            "pods some_count",
            two,
            "",
            r#"sum(rate(container_some_count_total{namespace="somens",pod=~"somepod1|somepod2",container!="POD"}[1m])) by (pod)"#,
        ),
        (
            "pods some_time",
            two,
            "",
            r#"sum(rate(container_some_time_seconds_total{namespace="somens",pod=~"somepod1|somepod2",container!="POD"}[1m])) by (pod)"#,
        ),
        (
            "services ingress_hits",
            &["somesvc"],
            "",
            r#"sum(rate(ingress_hits_total{kube_namespace="somens",kube_service="somesvc"}[1m])) by (kube_service)"#,
        ),
        (
            "services ingress_hits",
            &["somesvc"],
            "param1=value1",
            r#"sum(rate(ingress_hits_total{param1="value1",kube_namespace="somens",kube_service="somesvc"}[1m])) by (kube_service)"#,
        ),
        (
            "ingresses.extensions ingress_hits",
            &["someingress"],
            "",
            r#"sum(rate(ingress_hits_total{kube_namespace="somens",kube_ingress="someingress"}[1m])) by (kube_ingress)"#,
        ),
        (
            "pods ingress_hits",
            &["somepod"],
            "",
            r#"sum(rate(ingress_hits_total{kube_namespace="somens",kube_pod="somepod"}[1m])) by (kube_pod)"#,
        ),
        (
            "services service_proxy_packets",
            &["somesvc"],
            "",
            r#"sum(service_proxy_packets{kube_namespace="somens",kube_service="somesvc"}) by (kube_service)"#,
        ),
        (
            "deployments.apps work_queue_wait",
            &["somedep"],
            "",
            r#"sum(rate(work_queue_wait_seconds_total{kube_namespace="somens",kube_deployment="somedep"}[1m])) by (kube_deployment)"#,
        ),
        (
            "nodes node_gigawatts (root)",
            &["somenode"],
            "",
            r#"sum(node_gigawatts{kube_node="somenode"}) by (kube_node)"#,
        ),
        (
            "persistentvolumes volume_claims (root)",
            &["somepv"],
            "",
            r#"sum(rate(volume_claims_total{kube_persistentvolume="somepv"}[1m])) by (kube_persistentvolume)"#,
        ),
        (
            "nodes node_fan (root)",
            &["somenode"],
            "",
            r#"sum(rate(node_fan_seconds_total{kube_node="somenode"}[1m])) by (kube_node)"#,
        ),
    ];
    for (offer, objects, selector, expected) in table {
        let found = offered.iter().find(|(known, ..)| known == offer);
        let (_, rule, series) = found.expect(offer);
        let resource = offer.split(' ').next().expect("a resource");
        let query = query((rule, *series), resource, Some("somens"), objects, selector);
        assert_eq!(query.as_deref(), Ok(expected), "{offer}");
    }
}

/// `pkg/resourceprovider/provider_test.go`.
#[test]
fn prometheus_adapters_resource_rules_ask_what_they_do_there() {
    let section = r#"
cpu:
  containerQuery: sum(rate(container_cpu_usage_seconds_total{<<.LabelMatchers>>}[1m])) by (<<.GroupBy>>)
  nodeQuery: sum(rate(container_cpu_usage_seconds_total{<<.LabelMatchers>>, id='/'}[1m])) by (<<.GroupBy>>)
  resources: {overrides: {namespace: {resource: namespace}, pod: {resource: pod}, instance: {resource: node}}}
  containerLabel: container
memory:
  containerQuery: sum(container_memory_working_set_bytes{<<.LabelMatchers>>}) by (<<.GroupBy>>)
  nodeQuery: sum(container_memory_working_set_bytes{<<.LabelMatchers>>,id='/'}) by (<<.GroupBy>>)
  resources: {overrides: {namespace: {resource: namespace}, pod: {resource: pod}, instance: {resource: node}}}
  containerLabel: container
window: 1m
"#;
    let config = serde_saphyr::from_str(section).expect("valid");
    let rules = ResourceRules::compile(&config, |_| Duration::ZERO).expect("valid");
    let containers = |queries: &UsageQueries| {
        let query = queries.of_containers("some-ns", &["pod1", "pod3"], &cluster::Mapper);
        query.expect("a query").text
    };
    let nodes = |queries: &UsageQueries| {
        queries
            .of_nodes(&["node1", "node2"], &cluster::Mapper)
            .expect("a query")
            .text
    };
    assert_eq!(
        containers(&rules.cpu),
        r#"sum(rate(container_cpu_usage_seconds_total{namespace="some-ns",pod=~"pod1|pod3"}[1m])) by (pod,container)"#
    );
    assert_eq!(
        nodes(&rules.cpu),
        r#"sum(rate(container_cpu_usage_seconds_total{instance=~"node1|node2", id='/'}[1m])) by (instance)"#
    );
    assert_eq!(
        containers(&rules.memory),
        r#"sum(container_memory_working_set_bytes{namespace="some-ns",pod=~"pod1|pod3"}) by (pod,container)"#
    );
    assert_eq!(
        nodes(&rules.memory),
        r#"sum(container_memory_working_set_bytes{instance=~"node1|node2",id='/'}) by (instance)"#
    );
}

#[test]
fn the_rules_of_prometheus_adapters_documents_ask_what_they_do_there() {
    let walkthrough = rule(r#"
seriesQuery: 'http_requests_total{kubernetes_namespace!="",kubernetes_pod_name!=""}'
resources: {overrides: {kubernetes_namespace: {resource: namespace}, kubernetes_pod_name: {resource: pod}}}
name: {matches: "^(.*)_total", as: "${1}_per_second"}
metricsQuery: 'sum(rate(<<.Series>>{<<.LabelMatchers>>}[2m])) by (<<.GroupBy>>)'
"#).expect("valid");
    let series = (
        "http_requests_total",
        &["kubernetes_namespace", "kubernetes_pod_name"][..],
    );
    assert_eq!(
        walkthrough.metric_name(series.0).as_deref(),
        Some("http_requests_per_second")
    );
    let pods = query(
        (&walkthrough, series),
        "pods",
        Some("production"),
        &["p1", "p2"],
        "",
    );
    assert_eq!(
        pods.as_deref(),
        Ok(
            r#"sum(rate(http_requests_total{kubernetes_namespace="production",kubernetes_pod_name=~"p1|p2"}[2m])) by (kubernetes_pod_name)"#
        )
    );
    let namespace = query(
        (&walkthrough, series),
        "namespaces",
        None,
        &["production"],
        "",
    );
    assert_eq!(
        namespace.as_deref(),
        Ok(
            r#"sum(rate(http_requests_total{kubernetes_namespace="production"}[2m])) by (kubernetes_namespace)"#
        )
    );

    let block = rule(
        "
seriesQuery: '{namespace!=\"\",__name__!~\"^container_.*\"}'
resources: {template: <<.Resource>>}
name: {matches: ^(.*)_total, as: ''}
metricsQuery: |
  sum by (<<.GroupBy>>) (
    irate (
      <<.Series>>{<<.LabelMatchers>>}[1m]
    )
  )
",
    )
    .expect("valid");
    let pods = query(
        (&block, ("http_requests_total", &["namespace", "pod"])),
        "pods",
        Some("default"),
        &["p1", "p2"],
        "",
    );
    assert_eq!(
        pods.as_deref(),
        Ok(
            "sum by (pod) (\n  irate (\n    http_requests_total{namespace=\"default\",pod=~\"p1|p2\"}[1m]\n  )\n)\n"
        )
    );

    let ratio = rule("
seriesQuery: foo_total
resources: {overrides: {system_name: {resource: node}}}
name: {matches: foo_total, as: foo}
metricsQuery: sum(foo_total{<<.LabelMatchers>>}) by (<<.GroupBy>>) / sum(foo_count{<<.LabelMatchers>>}) by (<<.GroupBy>>)
").expect("valid");
    assert_eq!(ratio.metric_name("foo_total").as_deref(), Some("foo"));
    let nodes = query(
        (&ratio, ("foo_total", &["system_name"])),
        "nodes",
        None,
        &["n1", "n2"],
        "",
    );
    assert_eq!(
        nodes.as_deref(),
        Ok(
            r#"sum(foo_total{system_name=~"n1|n2"}) by (system_name) / sum(foo_count{system_name=~"n1|n2"}) by (system_name)"#
        )
    );

    let constant = rule(
        r#"
seriesQuery: 'cheddar{sharp="true"}'
name: {as: cheesy_goodness}
resources: {overrides: {brand: {group: cheese.io, resource: brand}}}
metricsQuery: count(cheddar{sharp="true"})
"#,
    )
    .expect("valid");
    let name = constant.metric_name("cheddar");
    assert_eq!(name.as_deref(), Some("cheesy_goodness"));
    for objects in [&["gouda"][..], &["gouda", "brie"]] {
        let series = ("cheddar", &["brand", "sharp"][..]);
        let brands = query((&constant, series), "brands.cheese.io", None, objects, "");
        assert_eq!(brands.as_deref(), Ok(r#"count(cheddar{sharp="true"})"#));
    }

    let by_template = rule("{seriesQuery: foo, resources: {template: kube_<<.Resource>>, overrides: {ns: {resource: namespaces}}}, metricsQuery: '{<<.LabelMatchers>>}'}").expect("valid");
    let deployment = query(
        (&by_template, ("foo", &["ns", "kube_deployment"])),
        "deployments.apps",
        Some("n"),
        &["d1"],
        "",
    );
    assert_eq!(
        deployment.as_deref(),
        Ok(r#"{ns="n",kube_deployment="d1"}"#)
    );
}

#[test]
fn external_rules_of_the_documents_ask_what_they_do_there() {
    let lag = rule(
        r#"
seriesQuery: '{__name__="queue_consumer_lag",name!=""}'
resources: {overrides: {namespace: {resource: namespace}}}
metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (name)
"#,
    )
    .expect("valid");
    let depth = rule(
        "
seriesQuery: queue_depth
resources: {namespaced: false}
metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (name)
",
    )
    .expect("valid");
    let table = [
        (
            &lag,
            "queue_consumer_lag",
            "",
            r#"sum(queue_consumer_lag{namespace="default"}) by (name)"#,
        ),
        (
            &lag,
            "queue_consumer_lag",
            "a=b,c in (d,e)",
            r#"sum(queue_consumer_lag{a="b",c=~"d|e",namespace="default"}) by (name)"#,
        ),
        (
            &depth,
            "queue_depth",
            "namespace=queue,name=my-sample-queue",
            r#"sum(queue_depth{name="my-sample-queue",namespace="queue"}) by (name)"#,
        ),
        (&depth, "queue_depth", "", "sum(queue_depth{}) by (name)"),
    ];
    for (rule, series, selector, expected) in table {
        assert_eq!(
            external(rule, series, "default", selector).as_deref(),
            Ok(expected)
        );
    }
}

/// KServe's for the workload variant autoscaler (`hack/setup/infra/manage.prometheus-adapter-helm.sh`).
#[test]
fn the_rule_of_llm_inference_services_works_unchanged() {
    let wva = rule(
        r"
seriesQuery: wva_desired_replicas
resources: {overrides: {exported_namespace: {resource: namespace}}}
name: {matches: ^(.*), as: '${1}'}
metricsQuery: <<.Series>>{<<.LabelMatchers>>}
",
    )
    .expect("valid");
    assert_eq!(
        wva.metric_name("wva_desired_replicas").as_deref(),
        Some("wva_desired_replicas")
    );
    let query = external(
        &wva,
        "wva_desired_replicas",
        "llm",
        "variant_name=qwen-kserve-hpa",
    );
    assert_eq!(
        query.as_deref(),
        Ok(r#"wva_desired_replicas{variant_name="qwen-kserve-hpa",exported_namespace="llm"}"#)
    );
}

/// The chart's rules, and those of the page about scaling on GPU metrics.
#[test]
fn alibabas_rules_work_unchanged() {
    let pods = "{overrides: {namespace: {resource: namespace}, pod: {resource: pod}}}";
    let chart = rules(&format!(
        r#"
- seriesQuery: container_memory_working_set_bytes{{namespace!="",pod!=""}}
  resources: {pods}
  name: {{matches: ^(.*)_bytes, as: "${{1}}_bytes_per_second"}}
  metricsQuery: sum(<<.Series>>{{<<.LabelMatchers>>}}) by (<<.GroupBy>>)
- seriesQuery: container_cpu_usage_seconds_total{{namespace!="",pod!=""}}
  resources: {pods}
  name: {{matches: ^(.*)_seconds_total, as: "${{1}}_core_per_second"}}
  metricsQuery: sum(rate(<<.Series>>{{<<.LabelMatchers>>}}[1m])) by (<<.GroupBy>>)
"#
    ));
    let cpu = (
        "container_cpu_usage_seconds_total",
        &["namespace", "pod"][..],
    );
    assert_eq!(
        chart[0]
            .metric_name("container_memory_working_set_bytes")
            .as_deref(),
        Some("container_memory_working_set_bytes_per_second")
    );
    assert_eq!(
        chart[1].metric_name(cpu.0).as_deref(),
        Some("container_cpu_usage_core_per_second")
    );
    let asked = query((&chart[1], cpu), "pods", Some("default"), &["a"], "");
    assert_eq!(
        asked.as_deref(),
        Ok(
            r#"sum(rate(container_cpu_usage_seconds_total{namespace="default",pod="a"}[1m])) by (pod)"#
        )
    );

    let gpus = rules(
        r#"
- seriesQuery: 'DCGM_FI_DEV_GPU_UTIL{}'
  resources: {overrides: {NodeName: {resource: node}}}
  metricsQuery: 'avg(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)'
- seriesQuery: 'DCGM_CUSTOM_PROCESS_SM_UTIL{}'
  resources: {overrides: {NamespaceName: {resource: namespace}, NodeName: {resource: node}, PodName: {resource: pod}}}
  metricsQuery: 'avg(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)'
- seriesQuery: 'DCGM_CUSTOM_PROCESS_MEM_USED{NamespaceName!="",PodName!=""}'
  name: {matches: '^(.*)_MEM_USED', as: '${1}_GPU_MEM_USED_RATIO'}
  resources: {overrides: {NamespaceName: {resource: namespace}, PodName: {resource: pod}}}
  metricsQuery: 'sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>) / sum(DCGM_CUSTOM_CONTAINER_MEM_ALLOCATED{}) by (<<.GroupBy>>)'
"#,
    );
    let labels: &[&str] = &[
        "NamespaceName",
        "NodeName",
        "PodName",
        "UUID",
        "device",
        "gpu",
    ];
    assert_eq!(named(&gpus[0], labels), ["nodes NodeName"]);
    assert_eq!(
        named(&gpus[1], labels),
        ["namespaces NamespaceName", "nodes NodeName", "pods PodName"]
    );
    let table = [
        (
            &gpus[1],
            "DCGM_CUSTOM_PROCESS_SM_UTIL",
            &["qwen-a"][..],
            r#"avg(DCGM_CUSTOM_PROCESS_SM_UTIL{NamespaceName="default",PodName="qwen-a"}) by (PodName)"#,
        ),
        (
            &gpus[1],
            "DCGM_CUSTOM_PROCESS_SM_UTIL",
            &["qwen-a", "qwen-b"],
            r#"avg(DCGM_CUSTOM_PROCESS_SM_UTIL{NamespaceName="default",PodName=~"qwen-a|qwen-b"}) by (PodName)"#,
        ),
        (
            &gpus[2],
            "DCGM_CUSTOM_PROCESS_MEM_USED",
            &["qwen-a"],
            r#"sum(DCGM_CUSTOM_PROCESS_MEM_USED{NamespaceName="default",PodName="qwen-a"}) by (PodName) / sum(DCGM_CUSTOM_CONTAINER_MEM_ALLOCATED{}) by (PodName)"#,
        ),
    ];
    for (rule, series, objects, expected) in table {
        let labels: &'static [&'static str] = &["NamespaceName", "PodName"];
        let query = query(
            (rule, (series, labels)),
            "pods",
            Some("default"),
            objects,
            "",
        );
        assert_eq!(query.as_deref(), Ok(expected));
    }
    assert_eq!(
        gpus[2]
            .metric_name("DCGM_CUSTOM_PROCESS_MEM_USED")
            .as_deref(),
        Some("DCGM_CUSTOM_PROCESS_GPU_MEM_USED_RATIO")
    );
}
