//! Query templates: Go's `text/template` with the delimiters `<<` and `>>`.
//!
//! Of its language, fields and trim markers are known here. Everything else is refused by name when the rule is loaded.

use std::fmt::Write as _;

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Text(String),
    Field(Field),
}

/// What a template may ask for (prometheus-adapter `pkg/naming/metrics_query.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Series,
    LabelMatchers,
    GroupBy,
}

/// The values behind a template's fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values<'a> {
    /// `.Series`: the name of the series.
    pub(super) series: &'a str,
    /// `.LabelMatchers`: the matchers, joined by commas.
    pub(super) label_matchers: &'a str,
    /// `.GroupBy`: the labels to group by, joined by commas.
    pub(super) group_by: &'a str,
}

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `<<` without `>>`.
    #[error("the action that begins at character {0} is not closed: `>>` is missing")]
    Unclosed(usize),
    /// An action of Go's language that is not known here.
    #[error(
        "`<<{action}>>` at character {position} is not supported: this version knows <<.Series>>, <<.LabelMatchers>> and <<.GroupBy>>"
    )]
    Unsupported {
        /// What stands between the delimiters.
        action: String,
        /// Where the action begins.
        position: usize,
    },
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// Where an action is not closed or not known.
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut nodes = Vec::new();
        let (mut rest, mut offset, mut trim) = (text, 0, false);
        while let Some(start) = rest.find("<<") {
            let position = offset + start + 1;
            let inside = &rest[start + 2..];
            let end = inside.find(">>").ok_or(TemplateError::Unclosed(position))?;
            let (action, trim_before, trim_after) = trimmed(&inside[..end]);
            push_text(&mut nodes, &rest[..start], trim, trim_before);
            let unsupported = || TemplateError::Unsupported {
                action: action.to_owned(),
                position,
            };
            nodes.push(Node::Field(field(action).ok_or_else(unsupported)?));
            let consumed = start + 2 + end + 2;
            (rest, offset, trim) = (&rest[consumed..], offset + consumed, trim_after);
        }
        push_text(&mut nodes, rest, trim, false);
        Ok(Self { nodes })
    }

    /// The text with these values in it.
    pub(super) fn render(&self, values: Values<'_>) -> String {
        let mut text = String::with_capacity(128 + values.label_matchers.len());
        for node in &self.nodes {
            text.push_str(match node {
                Node::Text(text) => text,
                Node::Field(Field::Series) => values.series,
                Node::Field(Field::LabelMatchers) => values.label_matchers,
                Node::Field(Field::GroupBy) => values.group_by,
            });
        }
        text
    }
}

/// An action without its trim markers, and whether it has them: `<<- .X ->>` trims the text around it.
fn trimmed(action: &str) -> (&str, bool, bool) {
    let before = action.strip_prefix("- ");
    let action = before.unwrap_or(action);
    let after = action.strip_suffix(" -");
    (
        after.unwrap_or(action).trim(),
        before.is_some(),
        after.is_some(),
    )
}

fn push_text(nodes: &mut Vec<Node>, text: &str, trim_start: bool, trim_end: bool) {
    let text = if trim_start { text.trim_start() } else { text };
    let text = if trim_end { text.trim_end() } else { text };
    if !text.is_empty() {
        nodes.push(Node::Text(text.to_owned()));
    }
}

fn field(action: &str) -> Option<Field> {
    match action {
        ".Series" => Some(Field::Series),
        ".LabelMatchers" => Some(Field::LabelMatchers),
        ".GroupBy" => Some(Field::GroupBy),
        _ => None,
    }
}

/// A string in double quotes as Go's `%q` writes it, which is also how PromQL reads one.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_ascii_control() => {
                write!(quoted, "\\x{:02x}", u32::from(c)).expect("a String takes all")
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: Values<'_> = Values {
        series: "foo",
        label_matchers: r#"pod="a""#,
        group_by: "pod",
    };

    #[test]
    fn fields_are_filled_in() {
        let template = Template::parse("sum(<<.Series>>{<< .LabelMatchers >>}) by (<<.GroupBy>>)")
            .expect("valid");
        assert_eq!(template.render(VALUES), r#"sum(foo{pod="a"}) by (pod)"#);
    }

    #[test]
    fn trim_markers_eat_blanks() {
        let template = Template::parse("sum(\n  <<- .Series ->>  \n)").expect("valid");
        assert_eq!(template.render(VALUES), "sum(foo)");
    }

    #[test]
    fn what_is_not_known_is_refused_where_it_stands() {
        let error = Template::parse("<<.Series>> <<range .GroupBySlice>>")
            .expect_err("unknown")
            .to_string();
        assert!(
            error.starts_with("`<<range .GroupBySlice>>` at character 13 is not supported"),
            "{error}"
        );
        assert_eq!(
            Template::parse("a <<.Series"),
            Err(TemplateError::Unclosed(3))
        );
    }

    #[test]
    fn strings_are_quoted_as_go_does() {
        assert_eq!(quoted("x\"y\\z\n\u{0}\té"), r#""x\"y\\z\n\x00\té""#);
    }
}
