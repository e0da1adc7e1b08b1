//! How a rule's query is put to the engine: for all objects of a namespace at once where that gives the same values, else
//! for the named objects only.
//!
//! prometheus-adapter puts all names of a request into an expression. Where every templated selector sits under
//! aggregations `by (<<.GroupBy>>)`, the groups do not influence one another, so that one query without names answers for
//! everyone and the objects are picked afterwards.

use promql_parser::parser::{self, Expr, LabelModifier, token};

use crate::model::labels::METRIC_NAME;
use crate::rules::Rule;

/// A matcher and a label that no user writes, to be found again in the syntax tree.
const TEMPLATED: &str = "__templated_matchers__";
const GROUPED: &str = "__templated_group__";

/// Whether this rule's query gives each object the same value when it is asked for all objects.
pub(super) fn is_batchable(rule: &Rule, series: &str, object_label: &str) -> bool {
    let text = rule.render(series, &format!("{TEMPLATED}=\"1\""), GROUPED);
    rule.is_indifferent_to_names(object_label)
        && text.is_ok_and(|text| parser::parse(&text).is_ok_and(|expr| independent(&expr, false)))
}

/// Whether every templated selector of `expr` is grouped; `grouped`: all aggregations above group by the object's label,
/// and there is one.
fn independent(expr: &Expr, grouped: bool) -> bool {
    match expr {
        Expr::Paren(paren) => independent(&paren.expr, grouped),
        Expr::VectorSelector(selector) => {
            grouped
                || !selector
                    .matchers
                    .matchers
                    .iter()
                    .any(|matcher| matcher.name == TEMPLATED)
        }
        Expr::Aggregate(aggregate) => {
            let by_object = match &aggregate.modifier {
                Some(LabelModifier::Include(labels)) => {
                    labels.labels.iter().any(|label| label == GROUPED)
                }
                _ => false,
            };
            let separable = matches!(
                aggregate.op.id(),
                token::T_AVG
                    | token::T_SUM
                    | token::T_MIN
                    | token::T_MAX
                    | token::T_COUNT
                    | token::T_GROUP
                    | token::T_STDDEV
                    | token::T_STDVAR
            );
            separable && by_object && independent(&aggregate.expr, true)
        }
        // Functions and operators are asked literally until it is shown which of them keep objects apart.
        _ => false,
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
