//! What a rule means: naming, association, templates. Pure.
//!
//! A [`Rule`] is compiled once from its configuration. It then says what a series is called in the API, which objects its
//! labels name, and which query answers a request. It knows no engine and no cluster.

mod association;
mod expression;
mod lint;
mod naming;
mod needed;
mod quoted;
mod request;
mod resources;
mod template;

use std::sync::Arc;
use std::time::Duration;

use arcstr::ArcStr;

use crate::config::Fault;
use crate::config::rules::DiscoveryRule;
use crate::model::objects::{ResourceKind, ResourceMapper};
use crate::model::selector::Selector;

use association::Association;
pub use lint::{Warning, lint};
use naming::Naming;
use request::Matchers;
pub use request::RequestError;
pub use resources::{ResourceRules, UsageError, UsageQueries, UsageQuery};
pub use template::TemplateError;
use template::{Template, Values};

/// The rules of the preset `dcgm-exporter`, as they would stand in a configuration file.
pub const DCGM_EXPORTER_PRESET: &str = include_str!("rules/presets/dcgm-exporter.yaml");

/// The rules of the preset `kubelet`.
pub const KUBELET_PRESET: &str = include_str!("rules/presets/kubelet.yaml");

/// The rules of the preset `inference-pods`.
pub const INFERENCE_PODS_PRESET: &str = include_str!("rules/presets/inference-pods.yaml");

/// A rule, ready for use.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What users call it, such as `rules[2]` or `preset dcgm-exporter[0]`.
    pub id: Arc<str>,
    /// The selector that finds its series.
    pub series_query: String,
    /// Its own age limit, where it has one.
    pub max_age: Option<Duration>,
    /// Who answers, where it says.
    pub engine: Option<Arc<str>>,
    naming: Naming,
    association: Association,
    template: Template,
    definition: DiscoveryRule,
}

/// What a query is asked for.
#[derive(Clone, Copy, Debug)]
pub struct QueryRequest<'a> {
    /// The series' name.
    pub series: &'a str,
    /// The namespace, with the label that names it.
    pub namespace: Option<(&'a str, &'a str)>,
    /// The objects by name; none means all of them.
    pub objects: &'a [&'a str],
    /// The label that names the objects; empty where a metric is asked for that is of no object.
    pub object_label: &'a str,
    /// The request's selector on the series' own labels.
    pub selector: &'a Selector,
}

/// What a query is asked for on an object that controls pods.
#[derive(Clone, Copy, Debug)]
pub struct OwnerRequest<'a> {
    /// The series' name.
    pub series: &'a str,
    /// The label that names the namespace, and the namespace.
    pub namespace: (&'a str, &'a str),
    /// The label that names the pods.
    pub pod_label: &'a str,
    /// The pods.
    pub pods: &'a [&'a str],
    /// The request's selector on the series' own labels.
    pub selector: &'a Selector,
}

impl Rule {
    /// Compiles a rule. `id` is also where faults are said to be.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn compile(id: &str, config: &DiscoveryRule) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        if config.series_query.is_empty() {
            let message = "is needed: the selector that finds the rule's series";
            faults.push(Fault::new(format!("{id}.seriesQuery"), message));
        }
        if config.metrics_query.is_empty() {
            let message = "is needed: the query that answers, such as `avg(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)`";
            faults.push(Fault::new(format!("{id}.metricsQuery"), message));
        }
        if config.max_age.is_some_and(|age| age.is_zero()) {
            faults.push(Fault::new(format!("{id}.maxAge"), "must be more than 0"));
        }
        let naming = Naming::compile(id, &config.series_filters, &config.name, &mut faults);
        let association =
            Association::compile(&format!("{id}.resources"), &config.resources, &mut faults);
        let template = Template::parse(&config.metrics_query)
            .map_err(|error| {
                faults.push(Fault::new(format!("{id}.metricsQuery"), error.to_string()))
            })
            .ok();
        match (naming, association, template) {
            (Some(naming), Some(association), Some(template)) if faults.is_empty() => Ok(Self {
                id: id.into(),
                series_query: config.series_query.clone(),
                max_age: config.max_age,
                engine: config.engine.as_deref().map(Arc::from),
                naming,
                association,
                template,
                definition: config.clone(),
            }),
            _ => Err(faults),
        }
    }

    /// Whether both stand in the configuration in the same words, wherever that is.
    pub fn is_defined_as(&self, other: &Self) -> bool {
        self.definition == other.definition
    }

    /// What the metric of this series is called; `None` where the rule leaves the series out.
    pub fn metric_name(&self, series: &str) -> Option<String> {
        self.naming.metric_name(series)
    }

    /// The resources that a series with these label names belongs to, each with the label that names its objects.
    pub fn resources(
        &self,
        labels: &[ArcStr],
        mapper: &dyn ResourceMapper,
    ) -> Vec<(ResourceKind, String)> {
        self.association.resources(labels, mapper)
    }

    /// The labels that the rule itself names for objects other than namespaces, in the order of the file.
    pub fn object_labels(&self) -> Vec<&str> {
        self.association.object_labels()
    }

    /// For an external rule: whether its queries are kept inside the request's namespace.
    pub fn is_namespaced(&self) -> bool {
        self.association.namespaced
    }

    /// For an external rule: the label that names the namespaces of its series.
    pub fn namespace_label(&self, mapper: &dyn ResourceMapper) -> Option<String> {
        self.association.namespace_label(mapper)
    }

    /// The query that answers `request`: the selector's matchers first, then the namespace's, then the objects'.
    ///
    /// # Errors
    /// Where the selector cannot be put as matchers, or the template has no query for them.
    pub fn query(&self, request: &QueryRequest<'_>) -> Result<String, RequestError> {
        let mut matchers = Matchers::within(request.selector, request.namespace)?;
        matchers.names(request.object_label, request.objects);
        Ok(self.fill(request.series, &matchers, &[request.object_label])?)
    }

    /// Whether a metric of pods is to be answered on what controls them, where no label names that.
    pub fn answers_for_owners(&self) -> bool {
        self.association.owners
    }

    /// The query over the pods that an object controls: as [`Rule::query`], grouped by the namespace, which is one.
    ///
    /// # Errors
    /// As [`Rule::query`].
    pub fn query_for_owner(&self, request: &OwnerRequest<'_>) -> Result<String, RequestError> {
        let mut matchers = Matchers::within(request.selector, Some(request.namespace))?;
        matchers.names(request.pod_label, request.pods);
        let (namespace_label, _) = request.namespace;
        Ok(self.fill(request.series, &matchers, &[namespace_label])?)
    }

    /// The query of an external metric: the selector's matchers first, then the namespace's, as its label and name. It
    /// groups by nothing.
    ///
    /// # Errors
    /// As [`Rule::query`].
    pub fn query_external(
        &self,
        series: &str,
        namespace: Option<(&str, &str)>,
        selector: &Selector,
    ) -> Result<String, RequestError> {
        let matchers = Matchers::within(selector, namespace)?;
        Ok(self.fill(series, &matchers, &[])?)
    }

    /// The query with these texts in it, for looking at its shape. An empty label to group by is none.
    ///
    /// # Errors
    /// Where the template has no query for such a request.
    pub fn render(
        &self,
        series: &str,
        label_matchers: &str,
        group_by: &str,
    ) -> Result<String, TemplateError> {
        self.outline(series, label_matchers, group_by, "")
    }

    /// As [`Rule::render`], with this value for each label whose value the template writes.
    ///
    /// # Errors
    /// As [`Rule::render`].
    pub fn outline(
        &self,
        series: &str,
        label_matchers: &str,
        group_by: &str,
        value: &str,
    ) -> Result<String, TemplateError> {
        let labels = self.template.uses().written.iter();
        let label_values: Vec<(String, String)> = labels
            .map(|label| (label.clone(), value.to_owned()))
            .collect();
        let group_by = [group_by];
        self.template.render(Values {
            series,
            label_matchers,
            label_values: &label_values,
            group_by: if group_by == [""] { &[] } else { &group_by },
        })
    }

    /// Whether the query says the same of an object, apart from the matcher of its name, however many others are asked
    /// about: the template looks at neither the names nor whether there are matchers, and other labels' values are only
    /// written, and decide nothing.
    pub fn is_indifferent_to_names(&self, object_label: &str) -> bool {
        let uses = self.template.uses();
        !uses.any_label
            && !uses.examines_matchers
            && uses.examined.is_empty()
            && !uses.written.contains(object_label)
    }

    fn fill(
        &self,
        series: &str,
        matchers: &Matchers,
        group_by: &[&str],
    ) -> Result<String, TemplateError> {
        self.template.render(Values {
            series,
            label_matchers: &matchers.text(),
            label_values: matchers.values(),
            group_by,
        })
    }
}

#[cfg(test)]
mod tests;
