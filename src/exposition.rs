//! The text and OpenMetrics parsers: bytes to borrowed samples. No I/O.
//!
//! One tolerant grammar reads Prometheus text 0.0.4, text 1.0.0 (quoted UTF-8 names) and OpenMetrics 1.0; the formats
//! differ here only in the unit of timestamps and in the meaning of `# EOF`. Each line stands alone: one that cannot be
//! read is dropped and counted with its reason, and costs neither the page nor any other line. A line is read as
//! Prometheus reads it or not at all, so that no exporter's mistake becomes a wrong value.

mod ahead;
mod bounds;
mod comment;
mod near;
mod number;
mod page;
mod report;
mod series;

use std::borrow::Cow;

use crate::model::time::Timestamp;

pub use page::parse;
pub use report::{DropReason, Dropped, Report};
pub use series::MAX_LABELS;

/// How a page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text: timestamps are whole milliseconds, `# EOF` is a comment.
    Text,
    /// OpenMetrics: timestamps are seconds with a fraction, `# EOF` ends the page.
    OpenMetrics,
}

impl Format {
    /// The format that a response's `Content-Type` announces. Exporters often say nothing, or something unfitting
    /// (dcgm-exporter leaves it to Go's sniffing), so that everything but OpenMetrics is text.
    pub fn from_content_type(value: Option<&str>) -> Self {
        let media_type = value
            .unwrap_or_default()
            .split(';')
            .next()
            .unwrap_or_default();
        if media_type
            .trim()
            .eq_ignore_ascii_case("application/openmetrics-text")
        {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }
}

/// What the latest `# TYPE` line above a sample means for its labels. As in Prometheus it is the latest one of the page,
/// whichever family it names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FamilyKind {
    /// Labels are as they are written.
    #[default]
    Plain,
    /// `le` is a number in OpenMetrics form: `1` reads as `1.0`.
    Histogram,
    /// `quantile` is a number in OpenMetrics form.
    Summary,
}

/// One sample, borrowed from its page.
#[derive(Debug)]
pub struct ParsedSample<'a> {
    /// The metric's name.
    pub name: &'a str,
    /// The labels in the page's order, each name once, without empty values and without `__name__`.
    pub labels: &'a [(Cow<'a, str>, Cow<'a, str>)],
    /// The value, as it is: NaN (always the ordinary one, never a stale marker) and infinities included.
    pub value: f64,
    /// The time on the page, if it gives one.
    pub timestamp: Option<Timestamp>,
    /// The raw bytes that name the series: metric name and label set as they are written. Equal bytes under an equal
    /// `kind` are the same series; other bytes may be the same series too (other order, other blanks).
    pub series_text: &'a [u8],
    /// What `# TYPE` made of `series_text`: name and labels are a pure function of the two.
    pub kind: FamilyKind,
}

/// What a page says of a metric family, in a comment. The family of a counter or histogram may be named without the ending
/// of its samples' names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Description<'a> {
    /// The type, in the words of Prometheus's API: `unknown` for `untyped`.
    Kind(&'static str),
    /// The help.
    Help(Cow<'a, str>),
    /// The unit.
    Unit(&'a str),
}

/// Where the samples of a page go.
pub trait Sink {
    /// Whether [`Sink::recognise`] is to be asked. A constant, so that not asking costs nothing.
    const RECOGNISES: bool = false;

    /// Whether samples of this metric are wanted; asked each time that the name changes from one line to the next, and for
    /// every line that has its name in quotes. Lines of an unwanted metric are passed over unread, except in that case.
    fn wants(&mut self, name: &[u8]) -> bool {
        let _ = name;
        true
    }

    /// How many bytes the series of the next line has, if the page goes on as an earlier one did; 0 where nothing is
    /// expected. With a good guess [`Sink::recognise`] is asked before anybody looks where the line ends.
    fn expects(&self) -> usize {
        0
    }

    /// Asked before the labels of a line are read: is this a series that an earlier sample, of this page or of another,
    /// had as `series_text` under this `kind`? `Some` of whatever number the sink knows it by spares reading the labels.
    ///
    /// The bytes are only a guess at where the series ends; but what was a whole series once is one wherever a line
    /// begins with it. So compare with nothing but texts taken from [`ParsedSample::series_text`].
    fn recognise(&mut self, series_text: &[u8], kind: FamilyKind) -> Option<usize> {
        let _ = (series_text, kind);
        None
    }

    /// Takes the sample of a series that [`Sink::recognise`] knew by this number.
    fn recognised(&mut self, series: usize, value: f64, timestamp: Option<Timestamp>) {
        let _ = (series, value, timestamp);
    }

    /// Whether [`Sink::describe`] is to be called: that takes time, and pages say the same again and again.
    fn describes(&self) -> bool {
        false
    }

    /// Takes what the page says of a metric family. Most pages say it before the family's samples; whether these are wanted
    /// has not been asked.
    fn describe(&mut self, family: &str, description: &Description<'_>) {
        let _ = (family, description);
    }

    /// Takes the next sample. A series that the page gives twice comes twice.
    fn sample(&mut self, sample: &ParsedSample<'_>);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_openmetrics_media_type_means_openmetrics() {
        for (value, format) in [
            (
                Some("application/openmetrics-text; version=1.0.0; charset=utf-8"),
                Format::OpenMetrics,
            ),
            (Some(" Application/OpenMetrics-Text"), Format::OpenMetrics),
            (
                Some("application/openmetrics-text; charset=UTF-8; charset=utf-8"),
                Format::OpenMetrics,
            ),
            (
                Some("application/openmetrics-text;version=0.0.1"),
                Format::OpenMetrics,
            ),
            (Some("application/openmetrics-text2"), Format::Text),
            (Some("application/vnd.google.protobuf"), Format::Text),
            (Some("text/plain"), Format::Text),
            (Some("invalid/invalid/invalid"), Format::Text),
            (Some("/"), Format::Text),
            (Some("text/plain; version=0.0.4"), Format::Text),
            (
                Some("text/plain; version=1.0.0; escaping=allow-utf-8"),
                Format::Text,
            ),
            (
                Some("text/html; note=application/openmetrics-text"),
                Format::Text,
            ),
            (Some(""), Format::Text),
            (None, Format::Text),
        ] {
            assert_eq!(Format::from_content_type(value), format, "{value:?}");
        }
    }
}
