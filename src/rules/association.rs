//! Which label names which Kubernetes resource (prometheus-adapter `pkg/naming/resource_converter.go`).

use std::sync::Arc;

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
        let names_namespaces = |resource: &GroupResource| {
            let kind = mapper.resolve(resource);
            kind.is_some_and(|kind| kind.resource == GroupResource::core("namespaces"))
        };
        let overridden = self.overrides.iter();
        let mut overridden = overridden.filter(|(_, resource)| names_namespaces(resource));
        match overridden.next() {
            Some((label, _)) => Some(label.clone()),
            None => {
                let template = self.template.as_ref()?;
                let label = template.text.replace(GROUP, "");
                Some(label.replace(RESOURCE, "namespace"))
            }
        }
    }

    /// The resources that these labels name, each with its label. A label that names nothing the cluster knows is skipped.
    pub(super) fn resources(
        &self,
        labels: &[Arc<str>],
        mapper: &dyn ResourceMapper,
    ) -> Vec<(ResourceKind, String)> {
        let mut found: Vec<(ResourceKind, String)> = Vec::new();
        for label in labels {
            let named = self
                .overrides
                .iter()
                .find(|(name, _)| name.as_str() == label.as_ref());
            let name = match named {
                Some((_, resource)) => Some(resource.clone()),
                None => self
                    .template
                    .as_ref()
                    .and_then(|template| template.resource(label)),
            };
            let Some(kind) = name.and_then(|name| mapper.resolve(&name)) else {
                continue;
            };
            // Of two labels for one resource the first by name counts, always: prometheus-adapter leaves it to chance.
            if !found
                .iter()
                .any(|(known, _)| known.resource == kind.resource)
            {
                found.push((kind, label.to_string()));
            }
        }
        found
    }

    /// The label that names a resource of the core group, by an override or by the template; the first by name of several.
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
        let pattern = regex::escape(text)
            .replace(&regex::escape(GROUP), "(?P<group>.+?)")
            .replace(&regex::escape(RESOURCE), "(?P<resource>.+?)");
        let pattern = Regex::new(&format!("^{pattern}$"))
            .map_err(|error| faults.push(Fault::new(path, format!("cannot be matched: {error}"))))
            .ok()?;
        Some(Self {
            text: text.to_owned(),
            pattern,
        })
    }

    fn resource(&self, label: &str) -> Option<GroupResource> {
        let captures = self.pattern.captures(label)?;
        let group = captures.name("group").map_or("", |group| group.as_str());
        Some(GroupResource {
            group: group.to_owned(),
            resource: captures["resource"].to_owned(),
        })
    }
}
