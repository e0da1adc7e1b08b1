//! What a line that begins with `#` says.

use std::borrow::Cow;

use super::series::{is_blank, skip_blanks};
use super::{Description, FamilyKind};

/// What a comment means for the lines after it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Comment {
    /// `# TYPE`: how labels are read.
    Type(FamilyKind),
    /// `# EOF`.
    End,
    /// Nothing.
    Other,
}

impl Comment {
    pub(super) fn read(line: &[u8]) -> Self {
        let start = skip_blanks(line, 1);
        // Most comments are HELP lines, and long.
        if !matches!(line.get(start), Some(b'T' | b'E')) {
            return Self::Other;
        }
        let text = line[start..].trim_ascii_end();
        match text.strip_prefix(b"TYPE") {
            _ if start == 1 => Self::Other,
            Some(rest) if rest.first().is_none_or(|byte| is_blank(*byte)) => {
                Self::Type(declared_kind(rest))
            }
            None if text == b"EOF" => Self::End,
            _ => Self::Other,
        }
    }
}

/// The kind in `NAME TYPE`; plain where that is not what stands there. The name does not matter.
fn declared_kind(text: &[u8]) -> FamilyKind {
    let text = text.trim_ascii();
    let type_at = text.iter().rposition(|byte| is_blank(*byte));
    match type_at.map(|blank| &text[blank + 1..]) {
        Some(b"histogram") => FamilyKind::Histogram,
        Some(b"summary") => FamilyKind::Summary,
        _ => FamilyKind::Plain,
    }
}

/// The family that a comment describes, and how. `None` for other comments, and for a type that there is not.
pub(super) fn description(line: &str) -> Option<(Cow<'_, str>, Description<'_>)> {
    let blanks = [' ', '\t'];
    let text = line.strip_prefix('#')?;
    let text = text.strip_prefix(blanks)?.trim_matches(blanks);
    let (keyword, rest) = text.split_once(blanks)?;
    let (family, rest) = name(rest.trim_start_matches(blanks))?;
    let description = match keyword {
        "TYPE" => Description::Kind(kind(rest.trim_matches(blanks))?),
        "HELP" => Description::Help(unescaped(rest.strip_prefix(blanks).unwrap_or(rest))),
        "UNIT" => Description::Unit(rest.trim_matches(blanks)),
        _ => return None,
    };
    Some((family, description))
}

/// The name that `text` begins with, quoted or not, and what follows it.
fn name(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t']).unwrap_or(text.len());
        return Some((Cow::Borrowed(&text[..end]), &text[end..]));
    };
    let mut escaped = false;
    let end = quoted.find(|char| {
        let ends = char == '"' && !escaped;
        escaped = char == '\\' && !escaped;
        ends
    })?;
    Some((unescaped(&quoted[..end]), &quoted[end + 1..]))
}

/// The type in the words of Prometheus's API.
fn kind(word: &str) -> Option<&'static str> {
    Some(match word {
        "counter" => "counter",
        "gauge" => "gauge",
        "histogram" => "histogram",
        "gaugehistogram" => "gaugehistogram",
        "summary" => "summary",
        "info" => "info",
        "stateset" => "stateset",
        "untyped" | "unknown" => "unknown",
        _ => return None,
    })
}

fn unescaped(text: &str) -> Cow<'_, str> {
    if text.contains('\\') {
        Cow::Owned(super::series::unescape(text))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_describe_families() {
        for (line, expected) in [
            ("# TYPE a gauge", Some(("a", Description::Kind("gauge")))),
            (
                "#\tTYPE  a  untyped ",
                Some(("a", Description::Kind("unknown"))),
            ),
            (
                "# TYPE a stateset",
                Some(("a", Description::Kind("stateset"))),
            ),
            ("# TYPE a Gauge", None),
            ("# TYPE a", None),
            ("# HELP a", Some(("a", Description::Help("".into())))),
            (
                r"# HELP a two  \\ \n \q",
                Some(("a", Description::Help("two  \\ \n \\q".into()))),
            ),
            (
                r#"# HELP "a \"b" c"#,
                Some(("a \"b", Description::Help("c".into()))),
            ),
            ("# HELP \"a b", None),
            (
                "# UNIT a_seconds seconds",
                Some(("a_seconds", Description::Unit("seconds"))),
            ),
            ("#TYPE a gauge", None),
            ("# EOF", None),
            ("# some words", None),
            ("#", None),
        ] {
            let expected = expected.map(|(family, what)| (Cow::Borrowed(family), what));
            assert_eq!(description(line), expected, "{line}");
        }
    }
}
