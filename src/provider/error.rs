//! Why there is no value. The texts end up in the HPA's conditions and events: they name the rule, the source, and since
//! when, and they stay the same as long as the situation does, so that events are counted and not multiplied.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::{Diagnosis, EngineError, Source};
use crate::model::objects::{GroupResource, ListError, ResourceKind};
use crate::model::selector::Selector;
use crate::rules::RequestError;

use super::catalog::{Catalog, ExternalOffer, Offer};
use super::{ExternalQuestion, MetricQuestion, Objects, UnusablePoints};

/// The most metrics that are named as those that are offered instead.
const NAMED_METRICS: usize = 5;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The path names a resource that is not known.
    #[error(
        "the server could not find the resource {0}: metrics are offered for pods and namespaces"
    )]
    UnknownResource(GroupResource),
    /// The path names objects that live in namespaces, and no namespace.
    #[error("{0} are asked for in one namespace: /namespaces/NAMESPACE/{0}/NAME/METRIC")]
    NoNamespace(GroupResource),
    /// No rule offers the metric for the resource.
    #[error("{0}")]
    UnknownMetric(String),
    /// No object matches.
    #[error("{0}")]
    NoObjects(String),
    /// The metric is known, and no object asked about has a value.
    #[error("{0}")]
    Missing(String),
    /// The rule that offers the metric cannot be evaluated.
    #[error("{rule} offers this metric and cannot be evaluated: {reason}")]
    Unusable {
        /// The rule.
        rule: Arc<str>,
        /// Why not.
        reason: Arc<str>,
    },
    /// The metric selector cannot be put as a query.
    #[error(transparent)]
    Selector(#[from] RequestError),
    /// The objects are not known.
    #[error(transparent)]
    Objects(#[from] ListError),
    /// The engine failed.
    #[error("{rule} has no answer: {reason}")]
    Engine {
        /// The rule.
        rule: Arc<str>,
        /// Why not.
        reason: EngineError,
    },
    /// It took too long.
    #[error("no answer for {metric} within {deadline:?}")]
    Deadline {
        /// The metric.
        metric: String,
        /// The limit.
        deadline: Duration,
    },
}

impl ProviderError {
    pub(super) fn no_objects(
        question: &MetricQuestion,
        kind: &ResourceKind,
        selector: &Selector,
    ) -> Self {
        let (metric, resource) = (&question.metric, &kind.resource);
        let labels = if selector.is_everything() {
            String::new()
        } else {
            format!(" with {selector}")
        };
        let place = place(question);
        Self::NoObjects(format!(
            "the server could not find the metric {metric} for {resource}: there are no {resource}{labels}{place}"
        ))
    }

    pub(super) fn no_pods(question: &MetricQuestion, kind: &ResourceKind) -> Self {
        let (metric, asked) = (&question.metric, asked(question, kind));
        Self::NoObjects(format!(
            "no value of {metric} for {asked}: no label of its series names {}, and no pod is controlled by them",
            kind.resource
        ))
    }

    /// `known` are the objects of the namespace that have floors.
    pub(super) fn no_floors(question: &ExternalQuestion, known: &[&str]) -> Self {
        let ExternalQuestion {
            namespace,
            metric,
            selector,
        } = question;
        let known = if known.is_empty() {
            "no CronHorizontalPodAutoscaler there has windows".to_owned()
        } else {
            let known = known[..known.len().min(NAMED_METRICS)].join(", ");
            format!("the CronHorizontalPodAutoscalers with windows there are {known}")
        };
        Self::Missing(format!(
            "no value of {metric} in namespace {namespace} with {selector}: {known}"
        ))
    }

    pub(super) fn missing(
        question: &MetricQuestion,
        kind: &ResourceKind,
        offer: &Offer,
        max_age: Duration,
        unusable: UnusablePoints,
        diagnosis: &Diagnosis,
    ) -> Self {
        let (metric, series, label) = (&question.metric, &offer.series, &offer.object_label);
        let mut text = format!("no value of {metric} for {}: ", asked(question, kind));
        if unusable.ambiguous > 0 {
            let ambiguous = unusable.ambiguous;
            let _ = write!(
                text,
                "{ambiguous} with several values for one {label}, so that the query must aggregate; "
            );
        }
        let stale =
            format!("{series} is there, but without a fresh sample whose label {label} names them");
        describe_missing(&mut text, series, &stale, unusable, diagnosis);
        let _ = write!(
            text,
            "{} takes samples up to {max_age:?} old",
            offer.rule.id
        );
        Self::Missing(text)
    }

    pub(super) fn missing_external(
        question: &ExternalQuestion,
        offer: &ExternalOffer,
        max_age: Duration,
        unusable: UnusablePoints,
        diagnosis: &Diagnosis,
    ) -> Self {
        let (metric, series) = (&offer.metric, &offer.series);
        let mut text = format!("no value of {metric}");
        if offer.namespace_label.is_some() {
            let _ = write!(text, " in namespace {}", question.namespace);
        }
        if !question.selector.is_everything() {
            let _ = write!(text, " with {}", question.selector);
        }
        text.push_str(": ");
        let stale = format!("{series} is there, but without a fresh sample");
        describe_missing(&mut text, series, &stale, unusable, diagnosis);
        let _ = write!(
            text,
            "{} takes samples up to {max_age:?} old",
            offer.rule.id
        );
        Self::Missing(text)
    }

    pub(super) fn unknown(
        question: &MetricQuestion,
        kind: &ResourceKind,
        catalog: &Catalog,
        candidate: Option<(Arc<str>, Diagnosis)>,
        rules: usize,
    ) -> Self {
        let resource = &kind.resource;
        let mut text = format!(
            "the server could not find the metric {} for {resource}: ",
            question.metric
        );
        match candidate {
            Some((rule, diagnosis)) if !diagnosis.matched => {
                describe_waiting(&mut text, &rule, &diagnosis);
            }
            Some((rule, _)) => {
                let _ = write!(
                    text,
                    "{rule} has series for it, and none with a label that names {resource}"
                );
            }
            None => {
                let offered = some_of(catalog.metrics(resource));
                let _ = write!(
                    text,
                    "none of the {rules} rules offers it; offered for {resource}: {offered}"
                );
            }
        }
        Self::UnknownMetric(text)
    }

    pub(super) fn unknown_external(
        metric: &str,
        catalog: &Catalog,
        candidate: Option<(Arc<str>, Diagnosis)>,
        rules: usize,
    ) -> Self {
        let mut text = format!("the server could not find the external metric {metric}: ");
        match candidate {
            Some((rule, diagnosis)) => describe_waiting(&mut text, &rule, &diagnosis),
            None if rules == 0 => {
                text.push_str("there are no `externalRules` in the configuration")
            }
            None => {
                let offered = some_of(catalog.external_metrics());
                let _ = write!(
                    text,
                    "none of the {rules} externalRules offers it; offered: {offered}"
                );
            }
        }
        Self::UnknownMetric(text)
    }
}

/// The first of these names, and how many more there are.
fn some_of<'a>(mut names: impl Iterator<Item = &'a Arc<str>>) -> String {
    let first: Vec<&str> = names
        .by_ref()
        .take(NAMED_METRICS)
        .map(AsRef::as_ref)
        .collect();
    match (first.is_empty(), names.count()) {
        (true, _) => "nothing yet".to_owned(),
        (false, 0) => first.join(", "),
        (false, others) => format!("{} and {others} more", first.join(", ")),
    }
}

/// That a rule waits for its first series, and for whom.
fn describe_waiting(text: &mut String, rule: &str, diagnosis: &Diagnosis) {
    let _ = write!(
        text,
        "{rule} would offer it and none of its series is there; "
    );
    describe_none(text, diagnosis);
    text.truncate(text.trim_end_matches("; ").len());
}

/// Why a metric that is known gives no value. `stale` is what there is to say where its sources are well.
fn describe_missing(
    text: &mut String,
    series: &str,
    stale: &str,
    unusable: UnusablePoints,
    diagnosis: &Diagnosis,
) {
    let UnusablePoints {
        not_finite,
        ambiguous,
    } = unusable;
    if not_finite > 0 {
        let _ = write!(text, "{not_finite} without a finite value; ");
    }
    let is_down = |source: &&Source| source.down.is_some();
    if !diagnosis.matched {
        let _ = write!(text, "no series of {series} is there; ");
        describe_none(text, diagnosis);
    } else if diagnosis.sources.iter().any(|source| source.down.is_some()) {
        describe_sources(text, diagnosis.sources.iter().filter(is_down));
    } else if not_finite + ambiguous == 0 {
        let _ = write!(text, "{stale}; ");
        describe_sources(text, diagnosis.sources.iter());
    }
}

/// ` in namespace x`, where there is one.
fn place(question: &MetricQuestion) -> String {
    question
        .namespace
        .as_ref()
        .map(|namespace| format!(" in namespace {namespace}"))
        .unwrap_or_default()
}

fn asked(question: &MetricQuestion, kind: &ResourceKind) -> String {
    let resource = &kind.resource;
    let place = place(question);
    match &question.objects {
        Objects::Named(name) => format!("{resource} {name}{place}"),
        Objects::Matching(selector) if selector.is_everything() => {
            format!("any of the {resource}{place}")
        }
        Objects::Matching(selector) => format!("any of the {resource} with {selector}{place}"),
    }
}

/// What there is to say where no series matches: who is down, or that nobody is there.
fn describe_none(text: &mut String, diagnosis: &Diagnosis) {
    if diagnosis.known_sources == 0 {
        text.push_str("there is no scrape target at all; ");
    } else if diagnosis.sources.is_empty() {
        let _ = write!(
            text,
            "all {} scrape targets answer and none shows it; ",
            diagnosis.known_sources
        );
    } else {
        describe_sources(text, diagnosis.sources.iter());
    }
}

fn describe_sources<'a>(text: &mut String, sources: impl Iterator<Item = &'a Source>) {
    for source in sources {
        text.push_str(&source.description);
        match &source.down {
            Some((since, reason)) => {
                let _ = write!(text, " is down since {since} ({reason})");
                if let Some(newest) = source.newest {
                    let _ = write!(text, ", last sample {newest}");
                }
            }
            None => text.push_str(" answers"),
        }
        text.push_str("; ");
    }
}
