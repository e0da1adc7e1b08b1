//! The parameters of a request, from its query and from its form, in the ways in which Prometheus lets them be written.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use http::header::CONTENT_TYPE;
use http::{Method, Request};

use crate::engine::query::{QueryService, Span, parse_duration};
use crate::model::matcher::Matcher;
use crate::model::time::Timestamp;

use super::answer::Refused;

/// Most bytes of a form. The server in front may allow less.
const FORM_BYTES: usize = 1 << 20;

/// The ends of time as Prometheus's clients write them (`web/api/v1/api.go`, `MinTime`, `MaxTime`).
const MIN_TIME: &str = "-292273086-05-16T16:47:06Z";
const MAX_TIME: &str = "292277025-08-18T07:12:54.999999999Z";

/// The ends of time here, in milliseconds: so near that no arithmetic on times overflows, and beyond any sample.
const ALL_TIME: Span = Span {
    start: Timestamp::from_millis(-9_000_000_000_000_000),
    end: Timestamp::from_millis(9_000_000_000_000_000),
};

/// All parameters, those of the form first, as Go's `FormValue` has them.
#[derive(Debug, Default)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(super) async fn read(request: Request<Body>) -> Result<Self, Refused> {
        let (parts, body) = request.into_parts();
        let mut pairs = Vec::new();
        let content_type = parts.headers.get(CONTENT_TYPE).map(|it| it.as_bytes());
        let is_form = content_type.is_some_and(|it| {
            let end = it.iter().position(|byte| *byte == b';').unwrap_or(it.len());
            it[..end]
                .trim_ascii()
                .eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
        });
        if parts.method == Method::POST && is_form {
            let form = to_bytes(body, FORM_BYTES)
                .await
                .map_err(|_| Refused::bad_data("error parsing form values: cannot be read"))?;
            pairs.extend(form_urlencoded::parse(&form).into_owned());
        }
        let query = parts.uri.query().unwrap_or_default();
        pairs.extend(form_urlencoded::parse(query.as_bytes()).into_owned());
        Ok(Self(pairs))
    }

    /// The first value; empty where there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or_default()
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// A point in time that may be left out.
    pub(super) fn time_or(&self, name: &str, default: Timestamp) -> Result<Timestamp, Refused> {
        match self.text(name) {
            "" => Ok(default),
            text => time(text).map_err(|error| {
                Refused::parameter(name, format!("invalid time value for '{name}': {error}"))
            }),
        }
    }

    /// A point in time that must be there.
    pub(super) fn time(&self, name: &str) -> Result<Timestamp, Refused> {
        time(self.text(name)).map_err(|error| Refused::parameter(name, error))
    }

    /// From `start` to `end`; all time where they are left out.
    pub(super) fn span(&self) -> Result<Span, Refused> {
        Ok(Span {
            start: self.time_or("start", ALL_TIME.start)?,
            end: self.time_or("end", ALL_TIME.end)?,
        })
    }

    /// A duration in milliseconds, which may be negative; `None` where it is left out.
    pub(super) fn milliseconds(&self, name: &str) -> Result<Option<i64>, Refused> {
        match self.text(name) {
            "" => Ok(None),
            text => milliseconds(text)
                .map(Some)
                .map_err(|error| Refused::parameter(name, error)),
        }
    }

    /// A duration that is none where it is negative.
    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, Refused> {
        let positive = |millis| Duration::from_millis(u64::try_from(millis).unwrap_or(0));
        Ok(self.milliseconds(name)?.map(positive))
    }

    /// The most items of the answer; 0 for all.
    pub(super) fn limit(&self) -> Result<usize, Refused> {
        let negative = || Refused::parameter("limit", "limit must be non-negative");
        match self.number("limit")? {
            None => Ok(0),
            Some(number) => usize::try_from(number).map_err(|_| negative()),
        }
    }

    /// A whole number that may be left out.
    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, Refused> {
        match self.text(name) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| Refused::parameter(name, format!("{text:?} is not a whole number"))),
        }
    }

    /// The selectors `match[]`. That none of them may match everything, the parser sees to.
    pub(super) fn selectors(&self) -> Result<Vec<Vec<Matcher>>, Refused> {
        let refuse = |error| Refused::compile("match[]", &error);
        self.all("match[]")
            .map(|text| QueryService::selector(text).map_err(refuse))
            .collect()
    }
}

/// Seconds since 1970, with a fraction or without, or RFC 3339 (`parseTime`).
fn time(text: &str) -> Result<Timestamp, String> {
    let cannot = || format!("cannot parse {text:?} to a valid timestamp");
    if let Ok(seconds) = text.parse::<f64>() {
        return rounded(seconds * 1000.0)
            .map(Timestamp::from_millis)
            .ok_or_else(cannot);
    }
    match text {
        MIN_TIME => Ok(ALL_TIME.start),
        MAX_TIME => Ok(ALL_TIME.end),
        _ => text
            .parse::<jiff::Timestamp>()
            .map(|time| Timestamp::from_millis(time.as_millisecond()))
            .map_err(|_| cannot()),
    }
}

/// Seconds with a fraction or without, or `1m30s` (`parseDuration`).
fn milliseconds(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return rounded((seconds * 1000.0).trunc()).ok_or_else(|| {
            format!("cannot parse {text:?} to a valid duration. It overflows int64")
        });
    }
    parse_duration(text)
        .and_then(|duration| i64::try_from(duration.as_millis()).ok())
        .ok_or_else(|| format!("cannot parse {text:?} to a valid duration"))
}

/// `None` for what is no number or beyond the ends of time.
fn rounded(value: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "the bound is checked")]
    let millis = (value.abs() < 9e15).then(|| value.round() as i64);
    millis
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_rfc_3339() {
        for (text, millis) in [
            ("0", 0),
            ("1435781451.781", 1_435_781_451_781),
            ("1.4357814517814e9", 1_435_781_451_781),
            ("-1.5", -1_500),
            ("2015-07-01T20:10:51.781Z", 1_435_781_451_781),
            ("2015-07-01T22:10:51+02:00", 1_435_781_451_000),
            (MIN_TIME, -9_000_000_000_000_000),
            (MAX_TIME, 9_000_000_000_000_000),
        ] {
            assert_eq!(time(text), Ok(Timestamp::from_millis(millis)), "{text}");
        }
        for text in ["", "now", "NaN", "inf", "1e300", "2015-07-01", "20:10:51Z"] {
            let expected = format!("cannot parse {text:?} to a valid timestamp");
            assert_eq!(time(text), Err(expected));
        }
    }

    #[test]
    fn durations_are_seconds_or_carry_units() {
        for (text, millis) in [
            ("15", 15_000),
            ("0.5", 500),
            ("-1", -1_000),
            ("0.0001", 0),
            ("1m30s", 90_000),
            ("250ms", 250),
        ] {
            assert_eq!(milliseconds(text), Ok(millis), "{text}");
        }
        for text in ["", "1q", "NaN", "1e300", "s"] {
            assert!(milliseconds(text).is_err(), "{text}");
        }
    }
}
