//! Query templates: Go's `text/template` with the delimiters `<<` and `>>` (prometheus-adapter
//! `pkg/naming/metrics_query.go`).
//!
//! The language is that of `gotmpl`, a port of Go's with delimiters of one's choice (the older `gtmpl` has `{{` built in).
//! Where it is more lenient than Go, or finds a fault only when it comes to it, a rule is refused when it is loaded:
//! [`check`]. Its functions that write text are replaced by bounded ones: [`functions`].

mod check;
mod functions;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use gotmpl::{MissingKey, Value};

pub(super) use check::Uses;

/// What the parsed text is called.
const NAME: &str = "query";

/// The longest query, in bytes: the names of 10,000 pods, several times.
const LONGEST: usize = 4 << 20;

/// The most rounds of all `range`s together.
const ROUNDS: u64 = 10_000;

/// A parsed template.
#[derive(Clone)]
pub(super) struct Template {
    parsed: Arc<gotmpl::Template>,
    uses: Uses,
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template")
            .field("uses", &self.uses)
            .finish_non_exhaustive()
    }
}

/// The values behind a template's fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values<'a> {
    /// `.Series`: the name of the series.
    pub(super) series: &'a str,
    /// `.LabelMatchers`: the matchers, joined by commas.
    pub(super) label_matchers: &'a str,
    /// `.LabelValuesByName`: the labels that are matched, each with its values, joined by `|`. The last of a label counts.
    pub(super) label_values: &'a [(String, String)],
    /// `.GroupBySlice`: the labels to group by. Joined by commas they are `.GroupBy`.
    pub(super) group_by: &'a [&'a str],
}

/// Why a template cannot be used. Lines and columns are those of the template's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The text does not follow the grammar.
    #[error("{message} (line {line}, column {column} of the template)")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// It cannot be filled in.
    #[error("the template cannot be filled in: {0}")]
    Fill(String),
    /// It becomes too long.
    #[error("the query is longer than {LONGEST} bytes")]
    TooLong,
}

impl Template {
    /// Parses a template, and fills it in once for each kind of request to see that it works for one of them.
    ///
    /// # Errors
    /// Where it is not Go's language, or uses what no request has.
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        let tree = check::parse(text)?;
        let uses = check::check(text, &tree)?;
        let parsed = functions::replace(gotmpl::Template::new(NAME))
            .missing_key(MissingKey::Error)
            .max_range_iters(ROUNDS)
            .add_parse_tree(NAME, check::without_comma_trap(tree));
        let template = Self {
            parsed: Arc::new(parsed),
            uses,
        };
        template.try_out()?;
        Ok(template)
    }

    /// What it makes of its values that matters for asking it for many objects at once.
    pub(super) fn uses(&self) -> &Uses {
        &self.uses
    }

    /// The text with these values in it.
    ///
    /// # Errors
    /// Where it uses what these values do not have, or becomes too long.
    pub(super) fn render(&self, values: Values<'_>) -> Result<String, TemplateError> {
        let labels = values.label_values.iter();
        let labels: BTreeMap<String, Value> = labels
            .map(|(label, values)| (label.clone(), values.as_str().into()))
            .collect();
        let group_by = values.group_by.iter().map(|label| Value::from(*label));
        let fields = BTreeMap::from([
            ("Series".to_owned(), values.series.into()),
            ("LabelMatchers".to_owned(), values.label_matchers.into()),
            ("LabelValuesByName".to_owned(), labels.into()),
            ("GroupBy".to_owned(), values.group_by.join(",").into()),
            (
                "GroupBySlice".to_owned(),
                group_by.collect::<Vec<_>>().into(),
            ),
        ]);
        let capacity = 128 + values.label_matchers.len();
        let mut query = Bounded(String::with_capacity(capacity));
        match self
            .parsed
            .execute_template_fmt(&mut query, NAME, &fields.into())
        {
            Ok(()) => Ok(query.0),
            Err(gotmpl::TemplateError::Write) => Err(TemplateError::TooLong),
            Err(error) => Err(TemplateError::Fill(error.to_string())),
        }
    }

    /// A template must work for a request for objects, one for containers, or an external one, which groups by nothing.
    fn try_out(&self) -> Result<(), TemplateError> {
        let labels = self.uses.labels.iter().map(String::as_str);
        let labels: Vec<(String, String)> = labels
            .chain(["label"])
            .map(|label| (label.to_owned(), "value".to_owned()))
            .collect();
        let requests: [&[&str]; 3] = [&["label"], &["label", "container"], &[]];
        let mut tried = requests.iter().map(|group_by| {
            self.render(Values {
                series: "series",
                label_matchers: "label=\"value\"",
                label_values: &labels,
                group_by,
            })
        });
        let first = tried.next().expect("there are three");
        match first {
            Err(error) if !tried.any(|tried| tried.is_ok()) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Takes text until it is too long.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > LONGEST {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
