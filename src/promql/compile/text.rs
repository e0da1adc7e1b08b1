//! From text to promql-parser's syntax tree, without trusting the parser with any text.

use std::panic::{AssertUnwindSafe, catch_unwind};

use promql_parser::parser::{self, Expr};

use super::Refusal;

/// The most characters outside of strings that can open or join expressions. The parser's work and the depth of its tree
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
    if operators(query) > MAX_OPERATORS {
        return Err(Refusal::Unsupported(format!(
            "more than {MAX_OPERATORS} operators"
        )));
    }
    // promql-parser panics on some durations (`x[1e99]`). Nothing of it outlives the call.
    match catch_unwind(AssertUnwindSafe(|| parser::parse(query))) {
        Ok(Ok(expr)) => Ok(expr),
        Ok(Err(reason)) => Err(Refusal::Syntax(located(query, &reason))),
        Err(_) => Err(Refusal::Syntax(
            "a number in it is out of bounds".to_owned(),
        )),
    }
}

/// How many characters outside of strings and comments there are that make trees deeper.
fn operators(query: &str) -> usize {
    let mut found = 0;
    let mut word = 0;
    let mut characters = query.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' | '\'' | '`' => {
                while let Some(inside) = characters.next() {
                    if inside == character {
                        break;
                    }
                    if inside == '\\' && character != '`' {
                        characters.next();
                    }
                }
            }
            '#' => {
                characters.by_ref().find(|character| *character == '\n');
            }
            '(' | '[' | '{' | '+' | '-' | '*' | '/' | '%' | '^' | '=' | '<' | '>' | '!' | '@'
            | ',' => found += 1,
            // `and`, `or`, `unless`, `offset`: a word may be an operator.
            character if character.is_whitespace() => {
                if word > 0 {
                    found += 1;
                }
            }
            _ => {}
        }
        word = if character.is_alphanumeric() {
            word + 1
        } else {
            0
        };
    }
    found
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
