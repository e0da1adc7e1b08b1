//! What `resourceRules` mean (prometheus-adapter `pkg/resourceprovider/provider.go`). Pure.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Fault;
use crate::config::rules::{self as config, ResourceRule};
use crate::model::objects::ResourceMapper;

use super::association::Association;
use super::request::Matchers;
use super::template::{Template, TemplateError, Values};

/// The queries behind `metrics.k8s.io`, ready for use.
#[derive(Clone, Debug)]
pub struct ResourceRules {
    /// CPU, in cores.
    pub cpu: UsageQueries,
    /// Memory, in bytes.
    pub memory: UsageQueries,
    /// The time that an answer's CPU is the mean of.
    pub window: Duration,
}

/// The queries for one of CPU and memory.
#[derive(Clone, Debug)]
pub struct UsageQueries {
    id: Arc<str>,
    container: Template,
    node: Template,
    container_label: String,
    association: Association,
}

/// A query, and the labels by which its answer is told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageQuery {
    /// What users call it.
    pub id: String,
    /// PromQL.
    pub text: String,
    /// The label that names the pod or the node.
    pub object_label: String,
    /// The label that names the container; empty for nodes.
    pub container_label: String,
}

/// Why there is no query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// A label that a rule does not name.
    #[error("{id}.resources names no label for {resource}")]
    NoLabel {
        /// The rule.
        id: Arc<str>,
        /// The resource, such as `pods`.
        resource: &'static str,
    },
    /// The template has no query for this request.
    #[error("{id}: {reason}")]
    Template {
        /// The template.
        id: String,
        /// Why not.
        reason: TemplateError,
    },
}

impl ResourceRules {
    /// Compiles the section; `range` says how far back a query looks. That of the CPU's query is the answers' window, whatever
    /// the section says; a query of recorded rates has none, and there `window` counts (default `1m`).
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn compile(
        section: &config::ResourceRules,
        range: impl Fn(&str) -> Duration,
    ) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let cpu = UsageQueries::compile("resourceRules.cpu", &section.cpu, &mut faults);
        let memory = UsageQueries::compile("resourceRules.memory", &section.memory, &mut faults);
        match (cpu, memory) {
            (Some(cpu), Some(memory)) if faults.is_empty() => {
                let written = section.window.unwrap_or(Duration::from_secs(60));
                let of_query = range(&cpu.container_example());
                let window = if of_query.is_zero() {
                    written
                } else {
                    of_query
                };
                Ok(Self {
                    cpu,
                    memory,
                    window,
                })
            }
            _ => Err(faults),
        }
    }

    /// All queries with example values in them, for looking at their shape.
    pub fn examples(&self) -> [(String, String); 4] {
        let of = |queries: &UsageQueries, kind, text| (format!("{}.{kind}", queries.id), text);
        let (cpu, memory) = (&self.cpu, &self.memory);
        [
            of(cpu, "containerQuery", cpu.container_example()),
            of(cpu, "nodeQuery", cpu.node_example()),
            of(memory, "containerQuery", memory.container_example()),
            of(memory, "nodeQuery", memory.node_example()),
        ]
    }
}

impl UsageQueries {
    fn compile(id: &str, rule: &ResourceRule, faults: &mut Vec<Fault>) -> Option<Self> {
        let mut template = |field: &str, text: &str| {
            let path = format!("{id}.{field}");
            if text.is_empty() {
                faults.push(Fault::new(path, "is needed"));
                return None;
            }
            Template::parse(text)
                .map_err(|error| faults.push(Fault::new(path, error.to_string())))
                .ok()
        };
        let container = template("containerQuery", &rule.container_query);
        let node = template("nodeQuery", &rule.node_query);
        if rule.container_label.is_empty() {
            let message = "is needed: the label that names the container";
            faults.push(Fault::new(format!("{id}.containerLabel"), message));
        }
        let association = Association::compile(&format!("{id}.resources"), &rule.resources, faults);
        Some(Self {
            id: id.into(),
            container: container?,
            node: node?,
            container_label: rule.container_label.clone(),
            association: association?,
        })
    }

    /// The query for the containers of the pods in `namespace`; of all of them where none is named.
    ///
    /// # Errors
    /// Where no label names pods or namespaces, or the template has no query.
    pub fn of_containers(
        &self,
        namespace: &str,
        pods: &[&str],
        mapper: &dyn ResourceMapper,
    ) -> Result<UsageQuery, UsageError> {
        let pod = self.label("pods", "pod", mapper)?;
        let mut matchers = Matchers::default();
        matchers.equal(&self.label("namespaces", "namespace", mapper)?, namespace);
        matchers.names(&pod, pods);
        let group_by = [pod.as_str(), &self.container_label];
        let id = format!("{}.containerQuery", self.id);
        Ok(UsageQuery {
            text: fill(&id, &self.container, &matchers, &group_by)?,
            id,
            object_label: pod,
            container_label: self.container_label.clone(),
        })
    }

    /// The query for these nodes; for all of them where none is named.
    ///
    /// # Errors
    /// Where no label names nodes, or the template has no query.
    pub fn of_nodes(
        &self,
        nodes: &[&str],
        mapper: &dyn ResourceMapper,
    ) -> Result<UsageQuery, UsageError> {
        let node = self.label("nodes", "node", mapper)?;
        let mut matchers = Matchers::default();
        if nodes.is_empty() {
            matchers.present(&node);
        }
        matchers.names(&node, nodes);
        let id = format!("{}.nodeQuery", self.id);
        Ok(UsageQuery {
            text: fill(&id, &self.node, &matchers, &[&node])?,
            id,
            object_label: node,
            container_label: String::new(),
        })
    }

    fn container_example(&self) -> String {
        example(&self.container, &["label", &self.container_label])
    }

    fn node_example(&self) -> String {
        example(&self.node, &["label"])
    }

    fn label(
        &self,
        plural: &'static str,
        singular: &str,
        mapper: &dyn ResourceMapper,
    ) -> Result<String, UsageError> {
        let label = self.association.label(plural, singular, mapper);
        label.ok_or_else(|| UsageError::NoLabel {
            id: Arc::clone(&self.id),
            resource: plural,
        })
    }
}

fn fill(
    id: &str,
    template: &Template,
    matchers: &Matchers,
    group_by: &[&str],
) -> Result<String, UsageError> {
    let values = Values {
        series: "",
        label_matchers: &matchers.text(),
        label_values: matchers.values(),
        group_by,
    };
    template
        .render(values)
        .map_err(|reason| UsageError::Template {
            id: id.to_owned(),
            reason,
        })
}

/// A query with example values; nothing where the template has none for them.
fn example(template: &Template, group_by: &[&str]) -> String {
    let values = Values {
        series: "",
        label_matchers: "label=\"x\"",
        label_values: &[],
        group_by,
    };
    template.render(values).unwrap_or_default()
}
