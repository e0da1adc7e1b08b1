//! The functions of templates that differ from the crate's: bounded in what they write, and `index` with Go's zero value.

use gotmpl::{Result, Template, TemplateError, Value};

use super::LONGEST;
use crate::rules::quoted::quoted;

/// The functions a template may call. Of Go's, those that escape for other languages and call values are left out.
pub(super) const KNOWN: [&str; 14] = [
    "and", "eq", "ge", "gt", "index", "le", "len", "lt", "ne", "not", "or", "print", "printf",
    "slice",
];

/// The template with these functions in the place of the crate's.
pub(super) fn replace(template: Template) -> Template {
    template
        .func("index", index)
        .func("print", |values| bounded(print(values)))
        .func("printf", |values| bounded(printf(values)?))
}

fn error(message: impl Into<String>) -> TemplateError {
    TemplateError::Exec(message.into())
}

fn bounded(text: String) -> Result<Value> {
    if text.len() > LONGEST {
        return Err(TemplateError::Write);
    }
    Ok(text.into())
}

/// `index MAP KEY`, `index SLICE NUMBER`. A key that a map of strings does not have gives an empty string.
fn index(values: &[Value]) -> Result<Value> {
    match values {
        [Value::Map(map), Value::String(key)] => {
            Ok(map.get(key).cloned().unwrap_or_else(|| "".into()))
        }
        [Value::List(list), Value::Int(at)] => {
            let value = usize::try_from(*at).ok().and_then(|at| list.get(at));
            value
                .cloned()
                .ok_or(TemplateError::IndexOutOfRange { index: *at })
        }
        _ => Err(error(
            "index takes a map and a key, or a slice and a number",
        )),
    }
}

/// All values; between two that are no strings comes a space.
fn print(values: &[Value]) -> String {
    let mut text = String::new();
    let mut after_string = true;
    for value in values {
        let is_string = matches!(value, Value::String(_));
        if !after_string && !is_string {
            text.push(' ');
        }
        text.push_str(&value.to_string());
        after_string = is_string;
    }
    text
}

/// `%s`, `%q`, `%v`, `%d` and `%%`, without widths. What Go would write into the text as `%!d(…)` is an error.
fn printf(values: &[Value]) -> Result<String> {
    let [Value::String(format), values @ ..] = values else {
        return Err(error("printf needs a format in quotes"));
    };
    let mut values = values.iter();
    let mut text = String::new();
    let mut parts = format.split('%');
    text.push_str(parts.next().unwrap_or_default());
    while let Some(part) = parts.next() {
        let Some(verb) = part.chars().next() else {
            // `%%`: an empty part, and then what follows.
            text.push('%');
            text.push_str(
                parts
                    .next()
                    .ok_or_else(|| error("printf: `%` at the end"))?,
            );
            continue;
        };
        let value = values
            .next()
            .ok_or_else(|| error(format!("printf: no value for `%{verb}`")))?;
        text.push_str(&formatted(verb, value)?);
        text.push_str(&part[verb.len_utf8()..]);
        if text.len() > LONGEST {
            return Err(TemplateError::Write);
        }
    }
    match values.next() {
        None => Ok(text),
        Some(value) => Err(error(format!("printf: no verb for `{value}`"))),
    }
}

fn formatted(verb: char, value: &Value) -> Result<String> {
    match (verb, value) {
        ('v', value) => Ok(value.to_string()),
        ('s' | 'q', Value::List(list)) => {
            let list = list.iter().map(|value| formatted(verb, value));
            Ok(format!("[{}]", list.collect::<Result<Vec<_>>>()?.join(" ")))
        }
        ('s', Value::String(_)) | ('d', Value::Int(_)) => Ok(value.to_string()),
        ('q', Value::String(text)) => Ok(quoted(text)),
        ('s' | 'q' | 'd', value) => Err(error(format!("printf: `%{verb}` cannot show `{value}`"))),
        _ => Err(error(format!(
            "printf: `%{verb}` is not known: %s, %q, %v and %d are, without a width"
        ))),
    }
}
