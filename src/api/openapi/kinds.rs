//! The kinds that are served, and what is asked to get them.

use serde_json::{Value, json};

use crate::api::discovery::{CUSTOM_LIST, EXTERNAL_LIST};
use crate::api::path::Version;

use super::SCHEMAS;

/// A GET.
pub(super) struct Operation {
    pub(super) path: String,
    pub(super) description: &'static str,
    /// The kind of the resource.
    pub(super) kind: (Version, &'static str),
    /// `get` or `list`.
    pub(super) action: &'static str,
    /// The kind of the answer; `None` where there is none.
    pub(super) answer: Option<&'static str>,
    pub(super) query: &'static [&'static str],
}

/// What can be asked of a version, and the schemas of its kinds.
type Described = (Vec<Operation>, Vec<(&'static str, Value)>);

pub(super) fn of(version: Version, external_metrics: &[&str]) -> Described {
    match version {
        Version::CustomV1Beta1 | Version::CustomV1Beta2 => custom(version),
        Version::ExternalV1Beta1 => external(version, external_metrics),
        Version::ResourceV1Beta1 | Version::ResourceV1 => resource(version),
    }
}

fn custom(version: Version) -> Described {
    const OBJECTS: &str = "The metric's value on the object of this name, or, where the name is *, on each that labelSelector selects.";
    let operation = |path: &str, description, answer, query| Operation {
        path: path.to_owned(),
        description,
        kind: (version, CUSTOM_LIST),
        action: "get",
        answer,
        query,
    };
    let selectors = &["labelSelector", "metricLabelSelector"];
    let answer = Some(CUSTOM_LIST);
    let operations = vec![
        operation(
            "/namespaces/{namespace}/{resource}/{name}/{metric}",
            OBJECTS,
            answer,
            selectors,
        ),
        operation("/{resource}/{name}/{metric}", OBJECTS, answer, selectors),
        operation(
            "/namespaces/{name}/metrics/{metric}",
            "The metric's value on the namespace.",
            answer,
            &["metricLabelSelector"],
        ),
        // kubectl looks for a kind at the path of a resource, and nowhere else.
        operation(
            "/namespaces/{namespace}/pods/{name}",
            "Refused: the name of a metric is missing behind it.",
            None,
            &[],
        ),
    ];
    let selector = json!({
        "type": "object",
        "description": "The metricLabelSelector of the request, null where it had none.",
        "properties": {
            "matchLabels": texts("Labels and the values that they must have."),
            "matchExpressions": {
                "type": "array",
                "description": "Conditions on labels.",
                "items": object("A condition on a label.", &["key", "operator"], json!({
                    "key": text("The label."),
                    "operator": text("In, NotIn, Exists or DoesNotExist."),
                    "values": {"type": "array", "description": "For In and NotIn.", "items": {"type": "string"}},
                })),
            },
        },
    });
    let name = text("The metric's name.");
    let mut fields = json!({
        "describedObject": object("The object that the value is of.", &["kind", "name", "apiVersion"], json!({
            "kind": text("Its kind."),
            "namespace": text("Its namespace, if it is in one."),
            "name": text("Its name."),
            "apiVersion": text("Group and version of its kind; of the core group, /v1."),
        })),
        "timestamp": timestamp(),
        "value": quantity("The value."),
    });
    let required: &[&str] = if version == Version::CustomV1Beta1 {
        fields["metricName"] = name;
        fields["selector"] = selector;
        &["describedObject", "metricName", "timestamp", "value"]
    } else {
        fields["metric"] = object(
            "The metric.",
            &["name"],
            json!({"name": name, "selector": selector}),
        );
        &["describedObject", "metric", "timestamp", "value"]
    };
    let value = object("A metric's value on an object.", required, fields);
    let list = list(version, "MetricValue", "A metric's values on objects.");
    (
        operations,
        vec![(CUSTOM_LIST, list), ("MetricValue", value)],
    )
}

fn external(version: Version, metrics: &[&str]) -> Described {
    let operation = |metric: &str| Operation {
        path: format!("/namespaces/{{namespace}}/{metric}"),
        description: "The metric's values, under the labels that tell them apart.",
        kind: (version, EXTERNAL_LIST),
        action: "list",
        answer: Some(EXTERNAL_LIST),
        query: &["labelSelector"],
    };
    // A brace would make a parameter of the name.
    let named = metrics.iter().filter(|it| !it.contains(['{', '}']));
    let operations = named.chain([&"{metric}"]).map(|it| operation(it));
    let value = object(
        "A value of an external metric.",
        &["metricName", "metricLabels", "timestamp", "value"],
        json!({
            "metricName": text("The metric's name."),
            "metricLabels": texts("The labels that tell this value from the metric's others."),
            "timestamp": timestamp(),
            "value": quantity("The value."),
        }),
    );
    let list = list(
        version,
        "ExternalMetricValue",
        "Values of a metric that is of no object.",
    );
    let kinds = vec![(EXTERNAL_LIST, list), ("ExternalMetricValue", value)];
    (operations.collect(), kinds)
}

fn resource(version: Version) -> Described {
    const PODS: &str = "CPU and memory of pods that run.";
    const NODES: &str = "CPU and memory of nodes.";
    let operation = |path: &str, description, kind, list| Operation {
        path: path.to_owned(),
        description,
        kind: (version, kind),
        action: if path.ends_with("{name}") {
            "get"
        } else {
            "list"
        },
        answer: Some(if path.ends_with("{name}") { kind } else { list }),
        query: if path.ends_with("{name}") {
            &[]
        } else {
            &["labelSelector", "fieldSelector"]
        },
    };
    let pods = |path| operation(path, PODS, "PodMetrics", "PodMetricsList");
    let nodes = |path| operation(path, NODES, "NodeMetrics", "NodeMetricsList");
    let operations = vec![
        nodes("/nodes"),
        nodes("/nodes/{name}"),
        pods("/pods"),
        pods("/namespaces/{namespace}/pods"),
        pods("/namespaces/{namespace}/pods/{name}"),
    ];
    let usage = json!({
        "type": "object",
        "description": "cpu in cores, as the mean over the window; memory in bytes, as the working set; swap in bytes, where there is some.",
        "additionalProperties": {"type": "string"},
    });
    let kind = |description, field: &str, what: Value| {
        let mut fields = json!({
            "apiVersion": text("The version of this form."),
            "kind": text("What this is."),
            "metadata": object("What it is of.", &["name", "creationTimestamp"], json!({
                "name": text("Its name."),
                "namespace": text("Its namespace, if it is in one."),
                "creationTimestamp": time("When this was answered."),
                "labels": texts("Its labels."),
            })),
            "timestamp": time("The end of the window."),
            "window": text("How long the window is, such as 15s."),
        });
        fields[field] = what;
        object(
            description,
            &["metadata", "timestamp", "window", field],
            fields,
        )
    };
    let container = object(
        "A container.",
        &["name", "usage"],
        json!({
            "name": text("Its name."),
            "usage": usage,
        }),
    );
    let containers =
        json!({"type": "array", "description": "Each container that runs.", "items": container});
    let kinds = vec![
        (
            "PodMetrics",
            kind(
                "CPU and memory of a pod's containers.",
                "containers",
                containers,
            ),
        ),
        ("PodMetricsList", list(version, "PodMetrics", PODS)),
        (
            "NodeMetrics",
            kind("CPU and memory of a node.", "usage", usage),
        ),
        ("NodeMetricsList", list(version, "NodeMetrics", NODES)),
    ];
    (operations, kinds)
}

fn list(version: Version, item: &str, description: &str) -> Value {
    object(
        description,
        &["metadata", "items"],
        json!({
            "apiVersion": text("The version of this form."),
            "kind": text("What this is."),
            "metadata": {"type": "object", "description": "Of a list, nothing."},
            "items": {"type": "array", "description": "One for each.", "items": reference(version, item)},
        }),
    )
}

fn object(description: &str, required: &[&str], properties: Value) -> Value {
    json!({"type": "object", "description": description, "required": required, "properties": properties})
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn time(description: &str) -> Value {
    json!({"type": "string", "format": "date-time", "description": description})
}

fn timestamp() -> Value {
    time("The time of the oldest sample that went into the value.")
}

fn quantity(description: &str) -> Value {
    let description = format!("{description} A quantity, such as 42, 40500m or 1k.");
    text(&description)
}

fn texts(description: &str) -> Value {
    json!({"type": "object", "description": description, "additionalProperties": {"type": "string"}})
}

pub(super) fn gvk(version: Version, kind: &str) -> Value {
    json!({"group": version.group(), "version": version.name(), "kind": kind})
}

/// The name under which Kubernetes' own documents have a kind of `k8s.io/metrics`.
pub(super) fn definition(version: Version, kind: &str) -> String {
    let package = match version {
        Version::CustomV1Beta1 | Version::CustomV1Beta2 => "custom_metrics",
        Version::ExternalV1Beta1 => "external_metrics",
        Version::ResourceV1Beta1 | Version::ResourceV1 => "metrics",
    };
    let version = version.name();
    format!("io.k8s.metrics.pkg.apis.{package}.{version}.{kind}")
}

pub(super) fn reference(version: Version, kind: &str) -> Value {
    json!({"$ref": format!("{SCHEMAS}{}", definition(version, kind))})
}
