//! What stands behind the `?` of a metric's path.

use crate::model::selector::Selector;

/// The longest metric selector, in bytes: its values become regular expressions, which are large where they are long.
const METRIC_SELECTOR_BYTES: usize = 4096;

/// The selector in this query parameter; without one, everything.
pub(super) fn selector(query: Option<&str>, name: &str) -> Result<Selector, String> {
    let Some(text) = first(query, name) else {
        return Ok(Selector::default());
    };
    Selector::parse(&text).map_err(|error| format!("unable to parse {name} {text:?}: {error}"))
}

/// A selector of series.
pub(super) fn metric_selector(query: Option<&str>, name: &str) -> Result<Selector, String> {
    match first(query, name) {
        Some(text) if text.len() > METRIC_SELECTOR_BYTES => Err(format!(
            "{name} is longer than {METRIC_SELECTOR_BYTES} bytes"
        )),
        _ => selector(query, name),
    }
}

/// The first value of a query parameter, decoded.
pub(super) fn first(query: Option<&str>, name: &str) -> Option<String> {
    let mut parameters = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let (_, text) = parameters.find(|(key, _)| key == name)?;
    Some(text.into_owned())
}
