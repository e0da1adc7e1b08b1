//! Calls of functions: which plan a name and its arguments make.

use promql_parser::parser::{Call, Expr};

use crate::model::labels::{Labels, METRIC_NAME};
use crate::model::matcher::{MatchOp, Matcher};
use crate::promql::date::DatePart;
use crate::promql::plan::{MapFunction, Plan, RangeSource, Scalar, Selector, SortKey, Vector};
use crate::promql::range::Function as RangeFunction;
use crate::promql::{grouping, math};

use super::{Refusal, mismatch, plan, ranged, scalar, string, vector};

/// `-v`
pub(super) fn negated(of: Vector) -> Vector {
    Vector::Map {
        function: MapFunction::Math(|value| -value),
        of: Box::new(of),
        arguments: Vec::new(),
    }
}

/// A call's name and arguments, each asked for by its type.
struct Arguments<'a> {
    all: &'a [Box<Expr>],
    place: String,
    depth: usize,
}

impl<'a> Arguments<'a> {
    fn expr(&self, index: usize) -> Result<&'a Expr, Refusal> {
        let missing = || Refusal::Type(format!("expected more argument(s) in {}", self.place));
        self.all.get(index).map(Box::as_ref).ok_or_else(missing)
    }

    fn scalar(&self, index: usize) -> Result<Scalar, Refusal> {
        scalar(self.expr(index)?, self.depth, &self.place)
    }

    fn vector(&self, index: usize) -> Result<Box<Vector>, Refusal> {
        vector(self.expr(index)?, self.depth, &self.place)
    }

    fn string(&self, index: usize) -> Result<String, Refusal> {
        string(self.expr(index)?, self.depth, &self.place)
    }

    fn strings(&self, from: usize) -> Result<Vec<String>, Refusal> {
        (from..self.all.len())
            .map(|index| self.string(index))
            .collect()
    }

    fn scalars(&self, from: usize) -> Result<Vec<Scalar>, Refusal> {
        (from..self.all.len())
            .map(|index| self.scalar(index))
            .collect()
    }

    /// A function of each element of the first argument.
    fn map(&self, function: MapFunction) -> Result<Vector, Refusal> {
        Ok(Vector::Map {
            function,
            of: self.vector(0)?,
            arguments: self.scalars(1)?,
        })
    }

    fn sort(&self, by: SortKey, descending: bool) -> Result<Vector, Refusal> {
        Ok(Vector::Sort {
            of: self.vector(0)?,
            by,
            descending,
        })
    }
}

pub(super) fn call(call: &Call, depth: usize) -> Result<Plan, Refusal> {
    let name = call.func.name;
    let arguments = Arguments {
        all: &call.args.args,
        place: format!("call to function \"{name}\""),
        depth,
    };
    if let Some(scalar) = scalar_call(name, &arguments)? {
        return Ok(Plan::Scalar(scalar));
    }
    vector_call(name, &arguments).map(Plan::Vector)
}

fn scalar_call(name: &str, arguments: &Arguments<'_>) -> Result<Option<Scalar>, Refusal> {
    let both = || {
        Ok((
            Box::new(arguments.scalar(0)?),
            Box::new(arguments.scalar(1)?),
        ))
    };
    Ok(Some(match name {
        "time" => Scalar::Time,
        "pi" => Scalar::Number(std::f64::consts::PI),
        "scalar" => Scalar::Of(arguments.vector(0)?),
        "max_of" => both().map(|(left, right)| Scalar::Largest(left, right))?,
        "min_of" => both().map(|(left, right)| Scalar::Smallest(left, right))?,
        _ => return Ok(None),
    }))
}

fn vector_call(name: &str, arguments: &Arguments<'_>) -> Result<Vector, Refusal> {
    if let Some(function) = math::named(name) {
        return arguments.map(MapFunction::Math(function));
    }
    if let Some(part) = DatePart::named(name) {
        return if arguments.all.is_empty() {
            Ok(Vector::Today(part))
        } else {
            arguments.map(MapFunction::Date(part))
        };
    }
    if let Some(function) = RangeFunction::named(name) {
        return range_call(function, arguments);
    }
    match name {
        "clamp" => arguments.map(MapFunction::Clamp),
        "clamp_min" => arguments.map(MapFunction::ClampMin),
        "clamp_max" => arguments.map(MapFunction::ClampMax),
        "round" => {
            let mut scalars = arguments.scalars(1)?;
            if scalars.is_empty() {
                scalars.push(Scalar::Number(1.0));
            }
            Ok(Vector::Map {
                function: MapFunction::Round,
                of: arguments.vector(0)?,
                arguments: scalars,
            })
        }
        "vector" => Ok(Vector::Constant(Box::new(arguments.scalar(0)?))),
        "timestamp" => Ok(match *arguments.vector(0)? {
            Vector::Select(selector) => Vector::SampleTimes(selector),
            other => Vector::Times(Box::new(other)),
        }),
        "absent" => {
            let of = arguments.vector(0)?;
            let labels = match of.as_ref() {
                Vector::Select(Selector { matchers, .. }) => absent_labels(matchers),
                _ => Labels::default(),
            };
            Ok(Vector::Absent { of, labels })
        }
        "absent_over_time" => {
            let over = ranged(arguments.expr(0)?, arguments.depth, &arguments.place)?;
            let labels = match &over.source {
                RangeSource::Samples(matchers) => absent_labels(matchers),
                RangeSource::Subquery { .. } => Labels::default(),
            };
            Ok(Vector::AbsentOverTime { over, labels })
        }
        "histogram_quantile" => Ok(Vector::HistogramQuantile {
            quantile: arguments.scalar(0)?,
            of: arguments.vector(1)?,
        }),
        "label_replace" => label_replace(arguments),
        "label_join" => {
            let (target, sources) = (arguments.string(1)?, arguments.strings(3)?);
            if sources.iter().any(String::is_empty) {
                return Ok(no_label("source", name));
            }
            if target.is_empty() {
                return Ok(no_label("destination", name));
            }
            Ok(Vector::LabelJoin {
                of: arguments.vector(0)?,
                target,
                separator: arguments.string(2)?,
                sources,
            })
        }
        "sort" => arguments.sort(SortKey::Value, false),
        "sort_desc" => arguments.sort(SortKey::Value, true),
        "sort_by_label" => arguments.sort(SortKey::Labels(arguments.strings(1)?), false),
        "sort_by_label_desc" => arguments.sort(SortKey::Labels(arguments.strings(1)?), true),
        _ => Err(Refusal::Unsupported(if name.starts_with("histogram_") {
            format!("the function `{name}` of native histograms")
        } else {
            format!("the function `{name}`")
        })),
    }
}

fn range_call(function: RangeFunction, arguments: &Arguments<'_>) -> Result<Vector, Refusal> {
    // Only `quantile_over_time` has its number before the range.
    let is_first = function != RangeFunction::Quantile;
    let over = usize::from(!is_first);
    let others = (0..arguments.all.len()).filter(|index| *index != over);
    let over = match plan(arguments.expr(over)?, arguments.depth)? {
        Plan::Matrix(ranged) => ranged,
        other => return Err(mismatch("range vector", &other, &arguments.place)),
    };
    Ok(Vector::Range {
        function,
        over,
        arguments: others
            .map(|index| arguments.scalar(index))
            .collect::<Result<_, _>>()?,
    })
}

fn label_replace(arguments: &Arguments<'_>) -> Result<Vector, Refusal> {
    let (target, pattern) = (arguments.string(1)?, arguments.string(4)?);
    let Ok(compiled) = regex::Regex::new(&format!("^(?s:{pattern})$")) else {
        return Ok(Vector::Fault(format!(
            "invalid regular expression in label_replace(): {pattern}"
        )));
    };
    if target.is_empty() {
        return Ok(no_label("destination", "label_replace"));
    }
    Ok(Vector::LabelReplace {
        of: arguments.vector(0)?,
        target,
        replacement: arguments.string(2)?,
        source: arguments.string(3)?,
        pattern: compiled,
    })
}

/// Any text but the empty one is a label's name in Prometheus 3.
fn no_label(role: &str, function: &str) -> Vector {
    Vector::Fault(format!("invalid {role} label name in {function}(): "))
}

/// The labels that an absent series surely would have: those that are matched exactly, and once.
fn absent_labels(matchers: &[Matcher]) -> Labels {
    let mut labels = Labels::default();
    let mut seen: Vec<&str> = Vec::new();
    for matcher in matchers
        .iter()
        .filter(|matcher| matcher.name != METRIC_NAME)
    {
        let is_exact =
            matches!(matcher.op, MatchOp::Equal) && !seen.contains(&matcher.name.as_str());
        let value = if is_exact { matcher.value.as_str() } else { "" };
        labels = grouping::with_label(&labels, &matcher.name, value);
        if is_exact {
            seen.push(&matcher.name);
        }
    }
    labels
}
