//! What a backend's JSON means. It is read as it comes; nothing holds a whole document.

use std::collections::HashSet;
use std::fmt;
use std::io::Read;

use arcstr::ArcStr;
use serde::Deserialize;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};
use serde_json::error::Category;

use crate::engine::{Point, SeriesShape};
use crate::model::labels::{Labels, METRIC_NAME};
use crate::model::time::Timestamp;
use crate::transport::SendFault;

use super::error::{Fault, cut};

/// The most kinds of series, by name and label names, that one selector may find.
const MOST_SHAPES: usize = 100_000;

/// The most bytes of different names among them.
const MOST_NAMES: usize = 16 << 20;

/// What all answers have in common (`web/api/v1/api.go`, `Response`; `isPartial` is VictoriaMetrics's).
#[derive(Deserialize)]
struct Document<T> {
    status: String,
    data: Option<T>,
    #[serde(default, rename = "errorType")]
    error_type: String,
    #[serde(default)]
    error: String,
    #[serde(default, rename = "isPartial")]
    is_partial: bool,
}

/// Reads the data of an answer with this status.
pub(super) fn read<T: DeserializeOwned>(
    status: u16,
    content_type: &str,
    body: impl Read,
) -> Result<T, Fault> {
    let mut json = serde_json::Deserializer::from_reader(body);
    let read = Document::<T>::deserialize(&mut json).and_then(|it| json.end().map(|()| it));
    let is_good = (200..300).contains(&status);
    let document = match read {
        Ok(document) => document,
        // What stands in a page of an error is nobody's data.
        Err(error) if !is_good => {
            return Err(transport_fault(error).unwrap_or(Fault::Status(status)));
        }
        Err(error) => return Err(fault(error, content_type)),
    };
    if document.status == "success" && is_good {
        return match document.data {
            _ if document.is_partial => Err(Fault::Partial),
            Some(data) => Ok(data),
            None => Err(Fault::NoData),
        };
    }
    let (kind, message) = (cut(&document.error_type), cut(&document.error));
    Err(match kind.as_str() {
        // VictoriaMetrics numbers its errors.
        "bad_data" | "execution" | "400" | "422" => Fault::Query { kind, message },
        _ => Fault::Failed {
            status,
            kind,
            message,
        },
    })
}

/// What a reader that ran dry had to say.
fn transport_fault(error: serde_json::Error) -> Option<Fault> {
    if error.classify() != Category::Io {
        return None;
    }
    let fault = std::io::Error::from(error).into_inner()?;
    fault.downcast::<Fault>().ok().map(|fault| *fault)
}

fn fault(error: serde_json::Error, content_type: &str) -> Fault {
    match error.classify() {
        Category::Eof => Fault::HalfJson,
        Category::Syntax if !content_type.contains("json") => Fault::NotJson(cut(content_type)),
        Category::Syntax | Category::Data => {
            let text = error.to_string();
            // The place differs from answer to answer.
            let (reason, _) = text.rsplit_once(" at line").unwrap_or((&text, ""));
            Fault::Form(cut(reason))
        }
        Category::Io => transport_fault(error).unwrap_or_else(|| SendFault::Broken.into()),
    }
}

/// The data of an instant query's answer.
#[derive(Deserialize)]
pub(super) struct QueryData {
    #[serde(rename = "resultType")]
    result_type: ResultType,
    result: Vec<Element>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ResultType {
    Vector,
    Scalar,
    String,
    Matrix,
}

/// A series of a vector, or one of the two parts of a number.
enum Element {
    /// Without a value where it is a native histogram.
    Series(Labels, Option<f64>),
    Time,
    Text(f64),
}

impl QueryData {
    /// The points of an answer that was asked for `at`.
    pub(super) fn points(self, at: Timestamp) -> Result<Vec<Point>, Fault> {
        let point = |labels, value| Point {
            labels,
            value,
            oldest: at,
        };
        match self.result_type {
            ResultType::String => Err(Fault::Type("string")),
            ResultType::Matrix => Err(Fault::Type("range vector")),
            ResultType::Vector => Ok(self
                .result
                .into_iter()
                .filter_map(|element| match element {
                    Element::Series(labels, value) => Some(point(labels, value?)),
                    Element::Time | Element::Text(_) => None,
                })
                .collect()),
            ResultType::Scalar => match self.result[..] {
                [Element::Time, Element::Text(value)] => Ok(vec![point(Labels::default(), value)]),
                _ => Err(Fault::Form("a number without one".to_owned())),
            },
        }
    }
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ElementVisitor)
    }
}

struct ElementVisitor;

impl<'de> Visitor<'de> for ElementVisitor {
    type Value = Element;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a series, or a number")
    }

    fn visit_f64<E>(self, _: f64) -> Result<Element, E> {
        Ok(Element::Time)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Element, E> {
        Ok(Element::Time)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Element, E> {
        Ok(Element::Time)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Element, E> {
        // The text of a string is not looked at: that type is refused whole.
        Ok(Element::Text(text.parse().unwrap_or(f64::NAN)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Element, A::Error> {
        let (mut labels, mut value) = (Labels::default(), None);
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Metric => labels = map.next_value::<Metric>()?.0,
                Key::Value => {
                    let (_, text) = map.next_value::<(f64, String)>()?;
                    let number = text.parse().map_err(|_| {
                        A::Error::custom(format!("{:?} is not a number", cut(&text)))
                    })?;
                    value = Some(number);
                }
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Element::Series(labels, value))
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Key {
    Metric,
    Value,
    #[serde(other)]
    Other,
}

struct Metric(Labels);

impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Metric;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metric, A::Error> {
                let mut pairs: Vec<(String, String)> = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Metric(Labels::new(pairs)))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// The data of an answer to `/api/v1/series`, of which only the kinds of series are kept, while it is read.
#[derive(Debug)]
pub(super) struct Shapes(pub(super) Vec<SeriesShape>);

impl<'de> Deserialize<'de> for Shapes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ShapesVisitor)
    }
}

struct ShapesVisitor;

impl<'de> Visitor<'de> for ShapesVisitor {
    type Value = Shapes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of series")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shapes, A::Error> {
        let mut kinds = Kinds::default();
        while seq.next_element_seed(OneSeries(&mut kinds))?.is_some() {
            if kinds.shapes.len() > MOST_SHAPES || kinds.bytes > MOST_NAMES {
                let message = "too many kinds of series; the rule's seriesQuery must say which";
                return Err(A::Error::custom(message));
            }
        }
        let mut shapes: Vec<SeriesShape> = kinds.shapes.into_iter().collect();
        shapes.sort();
        Ok(Shapes(shapes))
    }
}

/// The kinds of series seen so far.
#[derive(Default)]
struct Kinds {
    shapes: HashSet<SeriesShape>,
    /// All names in them, once.
    names: HashSet<ArcStr>,
    /// Their length together.
    bytes: usize,
    /// The label names of the series being read; kept for its memory.
    labels: Vec<ArcStr>,
}

impl Kinds {
    fn name(&mut self, name: &str) -> ArcStr {
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        let new = ArcStr::from(name);
        self.bytes += name.len();
        self.names.insert(new.clone());
        new
    }
}

struct OneSeries<'a>(&'a mut Kinds);

impl<'de> DeserializeSeed<'de> for OneSeries<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OneSeries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the labels of a series")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(kinds) = self;
        let mut metric = None;
        let mut labels = std::mem::take(&mut kinds.labels);
        labels.clear();
        while let Some(name) = map.next_key_seed(Name(kinds))? {
            let is_metric = &*name == METRIC_NAME;
            let value = map.next_value_seed(Value(is_metric.then_some(&mut *kinds)))?;
            match value {
                Given::Name(value) => metric = Some(value),
                Given::Some => labels.push(name),
                Given::Empty => {}
            }
        }
        labels.sort_unstable();
        labels.dedup();
        let Some(metric) = metric else {
            kinds.labels = labels;
            return Ok(());
        };
        let shape = SeriesShape { metric, labels };
        if kinds.shapes.contains(&shape) {
            kinds.labels = shape.labels;
        } else {
            kinds.shapes.insert(shape);
        }
        Ok(())
    }
}

/// A label's name, shared with the series before.
struct Name<'a>(&'a mut Kinds);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = ArcStr;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ArcStr, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = ArcStr;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a label's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<ArcStr, E> {
        Ok(self.0.name(name))
    }
}

/// What matters of a label's value.
enum Given {
    Name(ArcStr),
    Some,
    /// As Prometheus has it: no such label.
    Empty,
}

/// A label's value; of the metric's name, with where to keep it.
struct Value<'a>(Option<&'a mut Kinds>);

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Given;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Given, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Value<'_> {
    type Value = Given;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a label's value")
    }

    fn visit_str<E>(self, value: &str) -> Result<Given, E> {
        Ok(match self.0 {
            _ if value.is_empty() => Given::Empty,
            Some(kinds) => Given::Name(kinds.name(value)),
            None => Given::Some,
        })
    }
}

#[cfg(test)]
mod tests;
