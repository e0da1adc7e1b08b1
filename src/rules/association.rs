//! Which label names which Kubernetes resource (prometheus-adapter `pkg/naming/resource_converter.go`).

use arcstr::ArcStr;
use regex::Regex;

use crate::config::Fault;
use crate::config::rules::ResourceMapping;
use crate::model::objects::{GroupResource, ResourceKind, ResourceMapper};

/// A rule's labels and the resources they name.
#[derive(Clone, Debug)]
pub(super) struct Association {
    overrides: Vec<(String, GroupResource)>,
    template: Option<LabelTemplate>,
    /// Whether an external query is kept inside the request's namespace.
    pub(super) namespaced: bool,
    /// Whether metrics of pods are answered on what controls them.
    pub(super) owners: bool,
}

/// A label name made from a resource: `kube_<<.Resource>>`.
#[derive(Clone, Debug)]
struct LabelTemplate {
    text: String,
    /// Finds the resource in a label name.
    pattern: Regex,
}

const GROUP: &str = "<<.Group>>";
const RESOURCE: &str = "<<.Resource>>";

impl Association {
    pub(super) fn compile(
        path: &str,
        config: &ResourceMapping,
        faults: &mut Vec<Fault>,
    ) -> Option<Self> {
        let before = faults.len();
        let mut overrides = Vec::new();
        for (label, target) in &config.overrides {
            if target.resource.is_empty() {
                let path = format!("{path}.overrides.{label}.resource");
                faults.push(Fault::new(
                    path,
                    "is needed: the resource that the label names, such as `pod`",
                ));
            }
            let resource = GroupResource {
                group: target.group.to_ascii_lowercase(),
                resource: target.resource.to_ascii_lowercase(),
            };
            overrides.push((label.clone(), resource));
        }
        let template = if config.template.is_empty() {
            None
        } else {
            LabelTemplate::parse(&format!("{path}.template"), &config.template, faults)
        };
        (faults.len() == before).then_some(Self {
            overrides,
            template,
            namespaced: config.namespaced.unwrap_or(true),
            owners: config.owners.unwrap_or(true),
        })
    }

    /// The label that names namespaces, whether or not any series has it.
    pub(super) fn namespace_label(&self, mapper: &dyn ResourceMapper) -> Option<String> {
        self.label("namespaces", "namespace", mapper)
    }

    /// Whether both may name objects of one resource. A rule that names none is about no objects, as another such is.
    pub(super) fn shares_resource(&self, other: &Self) -> bool {
        let names_any = |it: &Self| it.template.is_some() || !it.overrides.is_empty();
        let by_template = self.template.is_some() || other.template.is_some();
        match (names_any(self), names_any(other)) {
            (false, false) => true,
            (true, true) => {
                let mut own = self.overrides.iter();
                by_template || own.any(|(_, own)| other.overrides.iter().any(|(_, it)| it == own))
            }
            _ => false,
        }
    }

    /// The labels of overrides that name other objects than namespaces.
    pub(super) fn object_labels(&self) -> Vec<&str> {
        let is_namespace = |resource: &str| matches!(resource, "namespace" | "namespaces");
        let objects = self.overrides.iter();
        let objects = objects.filter(|(_, resource)| !is_namespace(&resource.resource));
        objects.map(|(label, _)| label.as_str()).collect()
    }

    /// The resources that these labels name, each with its label. A label that names nothing the cluster knows is skipped.
    pub(super) fn resources(
        &self,
        labels: &[ArcStr],
        mapper: &dyn ResourceMapper,
    ) -> Vec<(ResourceKind, String)> {
        // Of two labels for one resource the first override in the file counts, else the first label by name:
        // prometheus-adapter leaves it to chance.
        let mut found: Vec<(usize, ResourceKind, String)> = Vec::new();
        for label in labels {
            let mut overrides = self.overrides.iter();
            let rank = overrides.position(|(name, _)| name == label);
            let kind = match (rank, &self.template) {
                (Some(rank), _) => mapper.resolve(&self.overrides[rank].1),
                (None, Some(template)) => template.resource(label, mapper),
                (None, None) => None,
            };
            let Some(kind) = kind else {
                continue;
            };
            let rank = rank.unwrap_or(usize::MAX);
            let known = found
                .iter_mut()
                .find(|(_, known, _)| known.resource == kind.resource);
            match known {
                None => found.push((rank, kind, label.to_string())),
                Some(known) if rank < known.0 => *known = (rank, kind, label.to_string()),
                Some(_) => {}
            }
        }
        let without_rank = |(_, kind, label)| (kind, label);
        found.into_iter().map(without_rank).collect()
    }

    /// The label that names a resource of the core group, by an override, the first in the file of several, or by the template.
    pub(super) fn label(
        &self,
        plural: &str,
        singular: &str,
        mapper: &dyn ResourceMapper,
    ) -> Option<String> {
        let is_it = |(_, resource): &&(String, GroupResource)| {
            let kind = mapper.resolve(resource);
            kind.is_some_and(|kind| kind.resource == GroupResource::core(plural))
        };
        let named = self.overrides.iter().find(is_it);
        let template = || {
            let text = &self.template.as_ref()?.text;
            Some(text.replace(GROUP, "").replace(RESOURCE, singular))
        };
        named.map(|(label, _)| label.clone()).or_else(template)
    }
}

impl LabelTemplate {
    fn parse(path: &str, text: &str, faults: &mut Vec<Fault>) -> Option<Self> {
        let blanks = Regex::new(r"<<\s*(\.\w+)\s*>>").expect("it is written here");
        let text = blanks.replace_all(text, "<<$1>>").into_owned();
        if !text.contains(RESOURCE) {
            faults.push(Fault::new(path, format!("must contain {RESOURCE}")));
            return None;
        }
        if text.replace(GROUP, "").replace(RESOURCE, "").contains("<<") {
            faults.push(Fault::new(
                path,
                format!("may contain {GROUP} and {RESOURCE} and no other action"),
            ));
            return None;
        }
        // No resource has `_` in its name, so that a group may: it stands for its dots and dashes.
        let pattern = regex::escape(&text)
            .replace(&regex::escape(GROUP), "(?P<group>.+?)")
            .replace(&regex::escape(RESOURCE), "(?P<resource>[^_]+?)");
        let pattern = Regex::new(&format!("^{pattern}$"))
            .map_err(|error| faults.push(Fault::new(path, format!("cannot be matched: {error}"))))
            .ok()?;
        Some(Self { text, pattern })
    }

    /// The resource that a label names. In a label, the dots and dashes of a group are written as `_`.
    fn resource(&self, label: &str, mapper: &dyn ResourceMapper) -> Option<ResourceKind> {
        let captures = self.pattern.captures(label)?;
        let written = captures.name("group").map_or("", |group| group.as_str());
        let resolve = |group: &str| {
            mapper.resolve(&GroupResource {
                group: group.to_ascii_lowercase(),
                resource: captures["resource"].to_ascii_lowercase(),
            })
        };
        // A group with dashes is found by how it begins.
        resolve(&written.replace('_', ".")).or_else(|| {
            let (begin, _) = written.split_once('_')?;
            let kind = resolve(begin)?;
            let in_label = kind.resource.group.replace(['.', '-'], "_");
            (in_label == written).then_some(kind)
        })
    }
}
