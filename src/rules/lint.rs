//! What is allowed in rules, and seldom meant.
//!
//! Judged by the text of rules alone: which series there are decides whether it matters.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{self, Expr, LabelModifier, VectorSelector, token};
use regex::Regex;

use crate::model::labels::METRIC_NAME;

use super::Rule;

/// How many intervals a window must hold: one lost scrape must leave two samples, wherever the window begins.
const INTERVALS: u32 = 4;

/// Functions that need two samples.
const OF_TWO: [&str; 6] = ["delta", "deriv", "idelta", "increase", "irate", "rate"];

/// Labels that tell one GPU, or one part of it, from another.
const OF_GPU: [&str; 6] = ["GPU_I_ID", "UUID", "device", "gpu", "minor_number", "uuid"];

/// What is a share or a degree of one GPU, of which two do not add up.
static SHARE_OF_GPU: LazyLock<Regex> = LazyLock::new(|| {
    let name = "(?i)(dcgm|gpu|nvidia|amd).*(util|_active|_occupancy|_perc|_ratio|_temp|_clock)";
    Regex::new(name).expect("it is written here")
});

/// What is seldom meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The rule.
    pub rule: Arc<str>,
    /// Where it says so, such as `rules[2].metricsQuery`.
    pub path: String,
    /// What it does, and what to do instead.
    pub message: String,
}

/// Looks through the rules of one API, in their order. `interval` is that of their targets; `asked_once` says whether a rule's
/// query is asked once for all objects.
pub fn lint<'a>(
    rules: impl IntoIterator<Item = &'a Rule>,
    interval: Duration,
    asked_once: impl Fn(&Rule) -> bool,
) -> Vec<Warning> {
    let rules: Vec<&Rule> = rules.into_iter().collect();
    let mut warnings = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let mut warn = |field: &str, message: String| {
            warnings.push(Warning {
                rule: Arc::clone(&rule.id),
                path: format!("{}.{field}", rule.id),
                message,
            });
        };
        let query = rule
            .render("series", "label=\"x\"", "label")
            .unwrap_or_default();
        if let Ok(expr) = parser::parse(&query) {
            if let Some(window) = shortest_window(&expr).filter(|it| *it < interval * INTERVALS) {
                warn(
                    "metricsQuery",
                    format!(
                        "a window of {window:?} holds fewer than {INTERVALS} scrapes at an interval of {interval:?}: one that is late leaves no value"
                    ),
                );
            }
            let selector = series_selector(rule);
            let name = selector.as_ref().and_then(name_of);
            if name.is_some_and(|name| SHARE_OF_GPU.is_match(&name)) && sums_gpus(&expr) {
                warn("metricsQuery", "the shares of a pod's GPUs are added up: two busy ones give 200 %. `avg` gives how busy they are".to_owned());
            }
        }
        if !asked_once(rule) {
            warn("metricsQuery", "the query is asked anew for each HPA, with the names of its objects: some part of it does not keep them apart by `<<.GroupBy>>`".to_owned());
        }
        let earlier = rules[..index].iter().find(|earlier| overlap(earlier, rule));
        if let Some(earlier) = earlier {
            warn(
                "seriesQuery",
                format!(
                    "offers a metric that {} offers as well, of the same objects; this one counts",
                    earlier.id
                ),
            );
        }
    }
    warnings
}

fn children(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::Aggregate(aggregate) => {
            let param = aggregate.param.as_deref();
            param.into_iter().chain([&*aggregate.expr]).collect()
        }
        Expr::Unary(unary) => vec![&unary.expr],
        Expr::Binary(binary) => vec![&binary.lhs, &binary.rhs],
        Expr::Paren(paren) => vec![&paren.expr],
        Expr::Subquery(subquery) => vec![&subquery.expr],
        Expr::Call(call) => call.args.args.iter().map(AsRef::as_ref).collect(),
        _ => Vec::new(),
    }
}

/// The shortest range of samples, of which two are needed.
fn shortest_window(expr: &Expr) -> Option<Duration> {
    let own = match expr {
        Expr::Call(call) if OF_TWO.contains(&call.func.name) => {
            let ranges = call.args.args.iter();
            let ranges = ranges.filter_map(|argument| match &**argument {
                Expr::MatrixSelector(matrix) => Some(matrix.range),
                _ => None,
            });
            ranges.min()
        }
        _ => None,
    };
    let inner = children(expr).into_iter().filter_map(shortest_window);
    inner.chain(own).min()
}

/// Whether elements are summed without telling GPUs apart, and were not put together before.
fn sums_gpus(expr: &Expr) -> bool {
    match expr {
        Expr::Aggregate(aggregate) => {
            let labels =
                |labels: &[String]| labels.iter().any(|label| OF_GPU.contains(&label.as_str()));
            let keeps_gpus = match &aggregate.modifier {
                Some(LabelModifier::Include(by)) => labels(&by.labels),
                Some(LabelModifier::Exclude(without)) => !labels(&without.labels),
                None => false,
            };
            let sums = aggregate.op.id() == token::T_SUM && !keeps_gpus;
            sums_gpus(&aggregate.expr) || (sums && !puts_gpus_together(&aggregate.expr))
        }
        other => children(other).into_iter().any(sums_gpus),
    }
}

/// Whether something below is an aggregation over GPUs already.
fn puts_gpus_together(expr: &Expr) -> bool {
    match expr {
        Expr::Aggregate(aggregate) => {
            let keeps = matches!(&aggregate.modifier, Some(LabelModifier::Include(by))
                if by.labels.iter().any(|label| OF_GPU.contains(&label.as_str())));
            !keeps || puts_gpus_together(&aggregate.expr)
        }
        other => children(other).into_iter().any(puts_gpus_together),
    }
}

fn series_selector(rule: &Rule) -> Option<VectorSelector> {
    match parser::parse(&rule.series_query) {
        Ok(Expr::VectorSelector(selector)) => Some(selector),
        _ => None,
    }
}

/// The name that a selector asks for, or the expression for it.
fn name_of(selector: &VectorSelector) -> Option<String> {
    let mut matchers = selector.matchers.matchers.iter();
    let mut matcher = || matchers.find(|matcher| matcher.name == METRIC_NAME);
    selector
        .name
        .clone()
        .or_else(|| matcher().map(|matcher| matcher.value.clone()))
}

/// The name that a selector asks for, where it is one.
fn exact_name(selector: &VectorSelector) -> Option<String> {
    let mut matchers = selector.matchers.matchers.iter();
    let mut is_exact = || {
        matchers.find(|matcher| matcher.name == METRIC_NAME && matches!(matcher.op, MatchOp::Equal))
    };
    selector
        .name
        .clone()
        .or_else(|| is_exact().map(|matcher| matcher.value.clone()))
}

/// The matchers of a selector, in whatever order and with whatever anchors they are written: an expression always has to match
/// a whole value.
fn conditions(selector: &VectorSelector) -> BTreeSet<(&str, String, &str)> {
    let matchers = selector.matchers.matchers.iter();
    let conditions = matchers.map(|Matcher { op, name, value }| {
        let value = match op {
            MatchOp::Equal | MatchOp::NotEqual => value,
            MatchOp::Re(_) | MatchOp::NotRe(_) => unanchored(value),
        };
        (name.as_str(), op.to_string(), value)
    });
    conditions.collect()
}

fn unanchored(pattern: &str) -> &str {
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    let end = pattern.strip_suffix('$');
    end.filter(|rest| !rest.ends_with('\\')).unwrap_or(pattern)
}

/// Whether both rules offer one metric for one resource, as far as that shows: they name the same series, or one names a
/// series that the other lets through, or one asks for what the other does and for nothing else.
fn overlap(a: &Rule, b: &Rule) -> bool {
    if !a.association.shares_resource(&b.association) {
        return false;
    }
    let (Some(first), Some(second)) = (series_selector(a), series_selector(b)) else {
        return false;
    };
    let takes = |selector: &VectorSelector, name: &str| match &selector.name {
        Some(own) => own == name,
        None => {
            let on_name = selector.matchers.matchers.iter();
            let mut on_name = on_name.filter(|matcher| matcher.name == METRIC_NAME);
            on_name.all(|matcher| matcher.is_match(name))
        }
    };
    match exact_name(&first).or_else(|| exact_name(&second)) {
        Some(name) => {
            let offered = a.metric_name(&name);
            takes(&first, &name)
                && takes(&second, &name)
                && offered.is_some()
                && offered == b.metric_name(&name)
        }
        None => {
            let (first_of, second_of) = (conditions(&first), conditions(&second));
            let within = first_of.is_subset(&second_of) || second_of.is_subset(&first_of);
            within
                && first.matchers.or_matchers == second.matchers.or_matchers
                && a.naming.is_same(&b.naming)
        }
    }
}
