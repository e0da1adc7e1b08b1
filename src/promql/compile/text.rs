//! From text to promql-parser's syntax tree, without trusting the parser with any text.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

use promql_parser::parser::{self, Expr};
use regex::Regex;

use super::Refusal;

/// The most words and signs outside of strings. The parser's work and the depth of its tree
/// grow with them; long lists of pods are inside of strings and do not count.
const MAX_OPERATORS: usize = 2_000;

/// What is said of a text that promql-parser panics on.
const PARSER_FAILED: &str = "parse error: the parser failed on it";

/// The longest text that is looked at.
const MAX_BYTES: usize = 4 << 20;

pub(super) fn parse(query: &str) -> Result<Expr, Refusal> {
    if query.len() > MAX_BYTES {
        return Err(Refusal::Unsupported(format!(
            "more than {MAX_BYTES} bytes of text"
        )));
    }
    let Scan {
        text,
        operators,
        out_of_range,
    } = scan(query);
    if operators > MAX_OPERATORS {
        return Err(Refusal::Unsupported(format!(
            "more than {MAX_OPERATORS} operators"
        )));
    }
    if let Some(place) = out_of_range {
        let (line, column) = position(query, place);
        return Err(Refusal::Syntax(format!(
            "{line}:{column}: parse error: duration out of range"
        )));
    }
    // No text is known that it panics on; if it does, nothing of it outlives the call.
    match catch_unwind(AssertUnwindSafe(|| parser::parse(&text))) {
        Ok(Ok(expr)) => Ok(expr),
        Ok(Err(reason)) => Err(Refusal::Syntax(located(query, &reason))),
        Err(_) => Err(Refusal::Syntax(PARSER_FAILED.to_owned())),
    }
}

/// A query as the parser gets it.
struct Scan {
    text: String,
    /// How many characters outside of strings and comments there are that make trees deeper.
    operators: usize,
    /// Where the first duration stands that the parser would panic on (`x[1e99]`) or read as another one.
    out_of_range: Option<usize>,
}

/// Counts operators, and writes in another way what PromQL has and promql-parser does not understand: backslashes in
/// raw strings, underscores in numbers, and an offset of zero.
fn scan(query: &str) -> Scan {
    let mut text = String::with_capacity(query.len());
    let mut operators = 0;
    let mut out_of_range = None;
    let mut bracketed = 0;
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
                    let place = query.len() - rest.len();
                    out_of_range = out_of_range.or(too_many_units(token).map(|at| place + at));
                    text.extend(token.chars().filter(|c| *c != '_'));
                    rest = &rest[token.len()..];
                    continue;
                }
                // A word may be an operator, such as `and`.
                operators += 1;
                // A point begins a number (`offset.5`).
                let word = token.split('.').next().unwrap_or_default();
                if word.eq_ignore_ascii_case("offset") {
                    let after = query.len() - rest.len() + word.len();
                    out_of_range = out_of_range.or(too_long(query, after, Until::FirstNumber).1);
                }
                if let Some(skipped) = zero_offset(rest, token) {
                    rest = &rest[skipped..];
                    continue;
                }
                token
            }
            _ => {
                operators += usize::from(!character.is_whitespace());
                let inside = query.len() - rest.len() + 1;
                // Not again what stands in brackets within brackets.
                if character == '[' && inside > bracketed {
                    let (end, place) = too_long(query, inside, Until::Bracket);
                    bracketed = end;
                    out_of_range = out_of_range.or(place);
                }
                &rest[..character.len_utf8()]
            }
        };
        text.push_str(token);
        rest = &rest[token.len()..];
    }
    Scan {
        text,
        operators,
        out_of_range,
    }
}

/// The most seconds that a duration may have (`promql/parser`, `durationLiteralOutOfRange`): as many nanoseconds as an i64
/// holds.
const MAX_SECONDS: f64 = 9_223_372_036.0;

static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
    let pattern =
        r"^(?i:0x[0-9a-f_]+|(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:e[+-]?[0-9_]+)?|inf|nan)";
    Regex::new(pattern).expect("a constant that the tests use")
});

/// How far numbers are durations.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// To the closing bracket, as in a range or subquery.
    Bracket,
    /// Only the first, as behind `offset`.
    FirstNumber,
}

/// How far was looked from `from` on, and the place of the first number that is no duration, being too large or none at all.
fn too_long(query: &str, from: usize, until: Until) -> (usize, Option<usize>) {
    let mut at = from;
    while let Some(character) = query[at..].chars().next() {
        let rest = &query[at..];
        let number = NUMBER.find(rest).map(|it| it.as_str());
        at += match (character, number, until) {
            ('#', ..) => rest.find('\n').unwrap_or(rest.len()),
            (']', ..) => break,
            (_, Some(number), _) if !seconds(number).is_some_and(|it| it <= MAX_SECONDS) => {
                return (at, Some(at));
            }
            (_, Some(_), Until::FirstNumber) => break,
            (_, Some(number), Until::Bracket) => number.len(),
            (_, None, Until::FirstNumber)
                if !character.is_whitespace() && !"+-(".contains(character) =>
            {
                break;
            }
            _ => character.len_utf8(),
        };
    }
    (at, None)
}

/// A number as PromQL writes it; `None` where it is not finite.
fn seconds(number: &str) -> Option<f64> {
    let number = number.replace('_', "").to_ascii_lowercase();
    let value = match number.strip_prefix("0x") {
        // More digits than fit are too many in any case.
        #[expect(clippy::cast_precision_loss, reason = "compared with a bound")]
        Some(digits) => u64::from_str_radix(digits, 16).map_or(f64::INFINITY, |it| it as f64),
        None => number.parse().unwrap_or(f64::INFINITY),
    };
    value.is_finite().then_some(value)
}

/// The place in `token`, such as `1h30m`, of a count of units that the parser leaves out since it does not fit an u32.
fn too_many_units(token: &str) -> Option<usize> {
    let mut at = 0;
    while let Some(start) = token[at..].find(|c: char| c.is_ascii_digit()) {
        let start = at + start;
        let digits = token[start..].find(|c: char| !c.is_ascii_digit())?;
        let unit = token[start + digits..].starts_with(['y', 'w', 'd', 'h', 'm', 's']);
        if unit && token[start..start + digits].parse::<u32>().is_err() {
            return Some(start);
        }
        at = start + digits;
    }
    None
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
    let (line, column) = position(query, place);
    format!("{line}:{column}: parse error: {reason}")
}

/// Line and column of a place, counted from 1.
fn position(query: &str, place: usize) -> (usize, usize) {
    let before = &query[..place];
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .map_or(0, |text| text.chars().count());
    (line, column + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_that_the_parser_panics_on_never_reach_it() {
        for (query, place) in [
            ("x[1e99]", Some(2)),
            ("x[1e+99]", Some(2)),
            ("x[1_0e9_9]", Some(2)),
            ("x[ # 5m\n Inf ]", Some(9)),
            ("x[nan:]", Some(2)),
            ("x[5m:1e99]", Some(5)),
            ("x[0xffffffffffffffffff]", Some(2)),
            ("x[.9e99]", Some(2)),
            ("x offset 1e99", Some(9)),
            ("x offset -\t1e99", Some(11)),
            ("x offset.9e99", Some(8)),
            ("x OFFSET # why\n +inf", Some(17)),
            ("x[9223372037]", Some(2)),
            ("x[9223372036]", None),
            ("x[5m] offset 1h", None),
            ("x offset 5m > 1e99", None),
            ("x[5m] > 1e99 or y{a=\"[1e99]\"}", None),
            ("1e99 # [1e99]", None),
            ("x[99999999999y5s]", Some(2)),
            ("99999999999y5s", Some(0)),
            ("x[4294967295ms]", None),
        ] {
            assert_eq!(scan(query).out_of_range, place, "{query}");
        }
        let refused = parse("x[1e99]").map_err(|refusal| format!("{refusal:?}"));
        assert!(refused.is_err_and(|it| it.contains("1:3: parse error: duration out of range")));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_text_makes_the_parser_panic(
            words in proptest::collection::vec(
                proptest::sample::select(vec![
                    "x", "[", "]", ":", "1e99", "1e+99", "-", "+", "5m", "inf", "nan", "0xffffffffffffffffff", "offset", "# y\n", "(", ")",
                    " ", "@", "{", "}", "'", "\"", "9999999999s", "1_0", ".9e99", "[5m]", "y", "start()",
                ]),
                0..12,
            )
        ) {
            for query in [words.concat(), words.join(" ")] {
                let failed = matches!(parse(&query), Err(Refusal::Syntax(reason)) if reason == PARSER_FAILED);
                prop_assert!(!failed, "{query}");
            }
        }
    }
}
