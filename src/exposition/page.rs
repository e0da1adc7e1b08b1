//! The lines of a page, one after the other.

use memchr::{memchr, memrchr};

use crate::model::time::Timestamp;

use super::series::{self, Slots};
use super::{DropReason, FamilyKind, Format, ParsedSample, Report, Sink, number};

/// How far a line break inside a label value is followed to where the value ends.
const BROKEN_VALUE_BYTES: usize = 4096;

/// Reads a page and hands its samples to `sink`, in the page's order.
pub fn parse(body: &[u8], format: Format, sink: &mut impl Sink) -> Report {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut page = Page {
        body,
        text: std::str::from_utf8(body).ok(),
        format,
        sink,
        family: Family::default(),
        kind: FamilyKind::Plain,
        slots: Slots::default(),
        report: Report::default(),
    };
    page.read();
    page.report
}

struct Page<'a, S> {
    body: &'a [u8],
    /// The whole body, if it is UTF-8: then no line needs to be checked by itself.
    text: Option<&'a str>,
    format: Format,
    sink: &'a mut S,
    family: Family<'a>,
    kind: FamilyKind,
    slots: Slots<'a>,
    report: Report,
}

/// The metric of the latest line that began with a name.
#[derive(Clone, Copy, Default)]
struct Family<'a> {
    name: &'a [u8],
    wanted: bool,
    dcgm: bool,
}

enum Outcome {
    Sample,
    Skipped,
}

impl<'a, S: Sink> Page<'a, S> {
    fn read(&mut self) {
        let mut next = 0;
        while next < self.body.len() {
            let start = series::skip_blanks(self.body, next);
            let line_end =
                memchr(b'\n', &self.body[start..]).map_or(self.body.len(), |length| start + length);
            next = line_end + 1;
            let end = line_end - usize::from(self.body[start..line_end].ends_with(b"\r"));
            match self.body[start..end].first() {
                None => {}
                Some(b'#') => match Comment::read(&self.body[start..end]) {
                    Comment::Type(kind) => self.kind = kind,
                    Comment::End if self.format == Format::OpenMetrics => return,
                    Comment::End | Comment::Other => {}
                },
                Some(_) => match self.line(start, end) {
                    Ok(Outcome::Sample) => self.report.samples += 1,
                    Ok(Outcome::Skipped) => self.report.skipped += 1,
                    Err(reason) => {
                        self.report.note(reason, &self.body[start..end]);
                        if reason == DropReason::UnclosedQuote {
                            next += broken_value(self.body.get(next..).unwrap_or_default());
                        }
                    }
                },
            }
        }
    }

    /// Reads the sample in `body[start..end]`, which is neither empty nor a comment.
    fn line(&mut self, start: usize, end: usize) -> Result<Outcome, DropReason> {
        let bytes = &self.body[start..end];
        let bare = self.enter_family(bytes)?;
        // A label set that does not end here is read even so: what follows may be the rest of a value with a line break.
        if bare > 0 && !self.family.wanted && likely_series(bytes, bare).is_some() {
            return Ok(Outcome::Skipped);
        }
        let line = match self.text {
            Some(text) => &text[start..end],
            None => std::str::from_utf8(bytes).map_err(|_| DropReason::Encoding)?,
        };
        if S::RECOGNISES
            && bare > 0
            && let Some(end) = likely_series(bytes, bare)
            && let Some(series) = self.sink.recognise(&bytes[..end], self.kind)
        {
            let (value, timestamp) = self.number(bytes, end, self.family.dcgm)?;
            self.sink.recognised(series, value, timestamp);
            return Ok(Outcome::Sample);
        }
        let series = series::read(line, bare, self.kind, &mut self.slots)?;
        let dcgm = if bare > 0 {
            self.family.dcgm
        } else if self.sink.wants(series.name.as_bytes()) {
            is_dcgm(series.name.as_bytes())
        } else {
            return Ok(Outcome::Skipped);
        };
        let (value, timestamp) = self.number(bytes, series.end, dcgm)?;
        self.sink.sample(&ParsedSample {
            name: &series.name,
            labels: &self.slots.labels[..series.labels],
            value,
            timestamp,
            series_text: &bytes[..series.end],
            kind: self.kind,
        });
        Ok(Outcome::Sample)
    }

    /// The length of the metric name before the braces, 0 where it is quoted inside them. A name other than the last
    /// line's becomes the family.
    #[inline]
    fn enter_family(&mut self, line: &'a [u8]) -> Result<usize, DropReason> {
        let known = self.family.name.len();
        if known > 0
            && line.starts_with(self.family.name)
            && matches!(line.get(known), Some(b'{' | b' ' | b'\t'))
        {
            return Ok(known);
        }
        let length = series::metric_name(line);
        match line.get(length) {
            Some(b'{') if length == 0 => return Ok(0),
            Some(b'{' | b' ' | b'\t') if length > 0 => {}
            None => return Err(DropReason::Value),
            Some(_) => return Err(DropReason::MetricName),
        }
        let name = &line[..length];
        self.family = Family {
            name,
            wanted: self.sink.wants(name),
            dcgm: is_dcgm(name),
        };
        Ok(length)
    }

    #[inline]
    fn number(
        &self,
        line: &[u8],
        at: usize,
        dcgm: bool,
    ) -> Result<(f64, Option<Timestamp>), DropReason> {
        let (value, timestamp) = number::tail(line, at, self.format)?;
        if dcgm && number::is_dcgm_blank(value) {
            return Err(DropReason::DcgmBlank);
        }
        Ok((value, timestamp))
    }
}

/// Whether DCGM's own exporter made it: only there do its numbers for "no value" mean that.
fn is_dcgm(name: &[u8]) -> bool {
    name.starts_with(b"DCGM_")
}

/// Where the series ends on most lines: at the last brace, or where there is none at the end of the name. `None` where
/// braces open and do not close.
#[inline]
fn likely_series(line: &[u8], bare: usize) -> Option<usize> {
    if let Some(brace) = memrchr(b'}', &line[bare..]) {
        return Some(bare + brace + 1);
    }
    let next = series::skip_blanks(line, bare);
    (line.get(next) != Some(&b'{')).then_some(bare)
}

/// How much of `rest`, which follows a line with an unclosed quote, belongs to that line: an exporter that does not
/// escape line breaks spreads a label value over lines, any of which may look like a sample. It is so where the next
/// quote closes a label; else 0.
#[cold]
fn broken_value(rest: &[u8]) -> usize {
    let window = &rest[..rest.len().min(BROKEN_VALUE_BYTES)];
    let Some(quote) = memchr(b'"', window) else {
        return 0;
    };
    let after = series::skip_blanks(rest, quote + 1);
    if !matches!(rest.get(after), Some(b',' | b'}')) {
        return 0;
    }
    memchr(b'\n', &rest[after..]).map_or(rest.len(), |length| after + length + 1)
}

/// What a line that begins with `#` says.
#[derive(Debug, PartialEq, Eq)]
enum Comment {
    Type(FamilyKind),
    End,
    Other,
}

impl Comment {
    fn read(line: &[u8]) -> Self {
        let start = series::skip_blanks(line, 1);
        let text = line[start..].trim_ascii_end();
        match text.strip_prefix(b"TYPE") {
            _ if start == 1 => Self::Other,
            Some(rest) if rest.first().is_none_or(|byte| series::is_blank(*byte)) => {
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
    let type_at = text.iter().rposition(|byte| series::is_blank(*byte));
    match type_at.map(|blank| &text[blank + 1..]) {
        Some(b"histogram") => FamilyKind::Histogram,
        Some(b"summary") => FamilyKind::Summary,
        _ => FamilyKind::Plain,
    }
}
