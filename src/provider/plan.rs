//! How a rule's query is put to the engine: for all objects of a namespace at once where that gives the same values, else
//! for the named objects only.
//!
//! prometheus-adapter puts all names of a request into an expression. Where the query's syntax tree shows that no object's
//! value depends on another's ([`separable`]), one query without names answers for everyone, and the objects are picked
//! afterwards.

mod separable;

use promql_parser::parser::{self, Expr};

use crate::model::labels::METRIC_NAME;
use crate::rules::Rule;

/// Whether this rule's query gives each object the same value when it is asked for all objects.
pub(super) fn is_batchable(rule: &Rule, series: &str, object_label: &str) -> bool {
    let matchers = format!("{}=\"1\"", separable::TEMPLATED);
    let Ok(text) = rule.outline(series, &matchers, object_label, separable::VALUE) else {
        return false;
    };
    rule.is_indifferent_to_names(object_label)
        && separable::only_quoted(&text, separable::VALUE)
        && parser::parse(&text).is_ok_and(|expr| separable::is_separable(&expr, object_label))
}

/// Whether the rule's query is asked once for all objects, as far as the rule itself tells: for each label that it names, or
/// some label where it names none.
pub fn asks_once_for_all(rule: &Rule) -> bool {
    match rule.object_labels().as_slice() {
        [] => is_batchable(rule, "series", "label"),
        labels => labels
            .iter()
            .all(|label| is_batchable(rule, "series", label)),
    }
}

/// Whether `rule` would offer `metric` if its series were there: the selector names the metric, or lets it through. A name
/// in lower case is any that differs in case only.
pub(super) fn may_offer(rule: &Rule, metric: &str) -> bool {
    let Ok(Expr::VectorSelector(selector)) = parser::parse(&rule.series_query) else {
        return false;
    };
    if let Some(name) = &selector.name {
        let offered = rule.metric_name(name);
        return offered.is_some_and(|name| name == metric || name.to_lowercase() == metric);
    }
    // A rename cannot be undone, so only metrics that keep their name are recognised here.
    let mut on_the_name = selector
        .matchers
        .matchers
        .iter()
        .filter(|matcher| matcher.name == METRIC_NAME);
    rule.metric_name(metric).as_deref() == Some(metric)
        && on_the_name.all(|matcher| matcher.is_match(metric))
}

#[cfg(test)]
mod tests;
