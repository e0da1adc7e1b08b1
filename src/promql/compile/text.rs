//! From text to promql-parser's syntax tree, without trusting the parser with any text.

use std::panic::{AssertUnwindSafe, catch_unwind};

use promql_parser::parser::{self, Expr};

use super::Refusal;

/// The most words and signs outside of strings. The parser's work and the depth of its tree
/// grow with them; long lists of pods are inside of strings and do not count.
const MAX_OPERATORS: usize = 2_000;

/// The longest text that is looked at.
const MAX_BYTES: usize = 4 << 20;

pub(super) fn parse(query: &str) -> Result<Expr, Refusal> {
    if query.len() > MAX_BYTES {
        return Err(Refusal::Unsupported(format!(
            "more than {MAX_BYTES} bytes of text"
        )));
    }
    let Scan { text, operators } = scan(query);
    if operators > MAX_OPERATORS {
        return Err(Refusal::Unsupported(format!(
            "more than {MAX_OPERATORS} operators"
        )));
    }
    // promql-parser panics on some durations (`x[1e99]`). Nothing of it outlives the call.
    match catch_unwind(AssertUnwindSafe(|| parser::parse(&text))) {
        Ok(Ok(expr)) => Ok(expr),
        Ok(Err(reason)) => Err(Refusal::Syntax(located(query, &reason))),
        Err(_) => Err(Refusal::Syntax(
            "parse error: a number in it is out of bounds".to_owned(),
        )),
    }
}

/// A query as the parser gets it.
struct Scan {
    text: String,
    /// How many characters outside of strings and comments there are that make trees deeper.
    operators: usize,
}

/// Counts operators, and writes in another way what PromQL has and promql-parser does not understand: backslashes in
/// raw strings, underscores in numbers, and an offset of zero.
fn scan(query: &str) -> Scan {
    let mut text = String::with_capacity(query.len());
    let mut operators = 0;
    let mut rest = query;
    while let Some(character) = rest.chars().next() {
        let token = match character {
            '"' | '\'' => quoted(rest, character),
            '`' => {
                let end = rest[1..].find('`').map_or(rest.len(), |end| end + 2);
                let token = &rest[..end];
                if let Some(inside) = raw_string(token)
                    && inside.contains('\\')
                {
                    let escaped = inside.replace('\\', "\\\\").replace('"', "\\\"");
                    text.push_str(&format!("\"{}\"", escaped.replace('\n', "\\n")));
                    rest = &rest[end..];
                    continue;
                }
                token
            }
            '#' => &rest[..rest.find('\n').unwrap_or(rest.len())],
            _ if is_word(character) => {
                let token = &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())];
                if character.is_ascii_digit() {
                    text.extend(token.chars().filter(|c| *c != '_'));
                    rest = &rest[token.len()..];
                    continue;
                }
                // A word may be an operator, such as `and`.
                operators += 1;
                if let Some(skipped) = zero_offset(rest, token) {
                    rest = &rest[skipped..];
                    continue;
                }
                token
            }
            _ => {
                operators += usize::from(!character.is_whitespace());
                &rest[..character.len_utf8()]
            }
        };
        text.push_str(token);
        rest = &rest[token.len()..];
    }
    Scan { text, operators }
}

fn raw_string(token: &str) -> Option<&str> {
    token.strip_prefix('`')?.strip_suffix('`')
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | ':' | '.')
}

/// The string that `text` begins with, quotes included.
fn quoted(text: &str, quote: char) -> &str {
    let mut characters = text.char_indices().skip(1);
    while let Some((index, character)) = characters.next() {
        if character == '\\' {
            characters.next();
        } else if character == quote {
            return &text[..=index];
        }
    }
    text
}

/// The length of `offset 0s` where `text` begins with it; `word` is its first word.
fn zero_offset(text: &str, word: &str) -> Option<usize> {
    if !word.eq_ignore_ascii_case("offset") {
        return None;
    }
    let after = text[word.len()..].trim_start();
    let duration = &after[..after.find(|c| !is_word(c)).unwrap_or(after.len())];
    let unit = duration.trim_start_matches('0');
    let is_zero =
        unit.len() < duration.len() && matches!(unit, "ms" | "s" | "m" | "h" | "d" | "w" | "y");
    is_zero.then(|| text.len() - after.len() + duration.len())
}

/// The parser's reason, with the place where it can be told from the reason, as Prometheus writes it.
fn located(query: &str, reason: &str) -> String {
    let quoted = reason.split(['\'', '"', '`']).nth(1).unwrap_or_default();
    let names_place = reason.starts_with("unknown function") || reason.contains("call to");
    let place = if names_place && !quoted.is_empty() {
        query.find(quoted)
    } else if reason.starts_with("unclosed") || reason.contains("end of input") {
        Some(query.len())
    } else {
        None
    };
    let Some(place) = place else {
        return format!("parse error: {reason}");
    };
    let before = &query[..place];
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .map_or(0, |text| text.chars().count())
        + 1;
    format!("{line}:{column}: parse error: {reason}")
}
