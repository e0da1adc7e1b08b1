//! Which labels name which resources, where prometheus-adapter does well and where it does not.

use super::cluster::{named, rule};

#[test]
fn labels_name_resources_by_template() {
    let by = |resources: &str, names: &[&str]| {
        let rule = format!("{{seriesQuery: foo, metricsQuery: foo, resources: {resources}}}");
        named(&rule_of(&rule), names)
    };
    // The label `job` of every series names jobs there as well.
    assert_eq!(
        by(
            "{template: <<.Resource>>}",
            &["namespace", "pod", "deployment", "instance", "job"]
        ),
        [
            "deployments.apps deployment",
            "jobs.batch job",
            "namespaces namespace",
            "pods pod"
        ]
    );
    assert_eq!(
        by(
            "{template: kube_<<.Resource>>, overrides: {ns: {resource: Namespaces}}}",
            &["kube_deployment", "ns"]
        ),
        ["deployments.apps kube_deployment", "namespaces ns"]
    );
    let groups = "{template: 'kube_<< .Group >>_<< .Resource >>'}";
    assert_eq!(
        by(
            groups,
            &[
                "kube_cheese_io_brand",
                "kube_networking_ingress",
                "kube_rabbit_mq_example_com_queue",
                "kube__pod"
            ]
        ),
        [
            "brands.cheese.io kube_cheese_io_brand",
            "ingresses.networking.k8s.io kube_networking_ingress",
            "queues.rabbit-mq.example.com kube_rabbit_mq_example_com_queue"
        ],
        "differs: prometheus-adapter finds no group with a dot. In both the core group has no name to match"
    );
}

#[test]
fn of_two_labels_for_one_resource_the_first_in_the_file_counts() {
    let rule = "{seriesQuery: foo, metricsQuery: foo, resources: {template: <<.Resource>>, overrides: {node_name: {resource: node}, instance: {resource: nodes}}}}";
    let rule = rule_of(rule);
    assert_eq!(
        named(&rule, &["instance", "node_name"]),
        ["nodes node_name"],
        "differs: prometheus-adapter leaves it to chance"
    );
    assert_eq!(
        named(&rule, &["instance", "node"]),
        ["nodes instance"],
        "an override before the template"
    );
    assert_eq!(named(&rule, &["node"]), ["nodes node"]);
}

#[test]
fn what_the_cluster_says_decides_whether_a_resource_lives_in_namespaces() {
    let rule = rule_of(
        "{seriesQuery: foo, metricsQuery: foo, resources: {overrides: {queue: {group: rabbit-mq.example.com, resource: queue}}}}",
    );
    let labels = super::cluster::labels(&["queue", "other"]);
    let kinds = rule.resources(&labels, &super::cluster::Mapper);
    assert!(
        !kinds[0].0.namespaced,
        "differs: prometheus-adapter takes it for namespaced"
    );
}

fn rule_of(yaml: &str) -> super::Rule {
    rule(yaml).expect("valid")
}
