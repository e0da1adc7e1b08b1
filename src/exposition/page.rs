//! The lines of a page, one after the other.

use memchr::memchr;

use super::ahead::Ahead;
use super::comment::{self, Comment};
use super::near::{first_of, is_in_end, last_of};
use super::number::Tail;
use super::series::{self, Slots};
use super::{DropReason, FamilyKind, Format, ParsedSample, Report, Sink, number};

/// How far a line break inside a label value is followed to where the value ends.
const BROKEN_VALUE_BYTES: usize = 4096;

/// Reads a page and hands its samples to `sink`, in the page's order.
pub fn parse(body: &[u8], format: Format, sink: &mut impl Sink) -> Report {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut page = Page {
        body,
        text: Text::Unread,
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
    text: Text<'a>,
    format: Format,
    sink: &'a mut S,
    family: Family<'a>,
    kind: FamilyKind,
    slots: Slots<'a>,
    report: Report,
}

/// The body as text. It is looked at whether it is UTF-8 when the labels of a line are read for the first time, which on
/// most pages happens only once: later the series are recognised.
#[derive(Clone, Copy)]
enum Text<'a> {
    /// Nobody has looked.
    Unread,
    /// It is UTF-8: no line needs to be checked by itself.
    Whole(&'a str),
    /// Some of it is not.
    Broken,
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
            if S::RECOGNISES
                && let Some((series, at)) = self.expected(start)
            {
                let line_end = first_of(b'\n', b'\n', self.body, at).unwrap_or(self.body.len());
                next = line_end + 1;
                let end = line_end - usize::from(self.body[at..line_end].ends_with(b"\r"));
                match self.known(at, end, series) {
                    Ok(_) => self.report.samples += 1,
                    Err(reason) => self.report.note(reason, &self.body[start..end]),
                }
                continue;
            }
            let line_end =
                memchr(b'\n', &self.body[start..]).map_or(self.body.len(), |length| start + length);
            next = line_end + 1;
            let end = line_end - usize::from(self.body[start..line_end].ends_with(b"\r"));
            match self.body[start..end].first() {
                None => {}
                Some(b'#') => {
                    match Comment::read(&self.body[start..end]) {
                        Comment::Type(kind) => self.kind = kind,
                        Comment::End if self.format == Format::OpenMetrics => return,
                        Comment::End | Comment::Other => {}
                    }
                    if self.sink.describes() {
                        self.describe(start, end);
                    }
                }
                Some(_) => match self.line(start, end) {
                    Ok(Outcome::Sample) => self.report.samples += 1,
                    Ok(Outcome::Skipped) => {
                        self.report.skipped += 1;
                        next = self.skip_family(next);
                    }
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
        if bare > 0
            && let Some(likely) = likely_series(bytes, bare)
        {
            // A label set that does not end here is read even so: what follows may be the rest of a value with a line
            // break.
            if !self.family.wanted {
                return Ok(Outcome::Skipped);
            }
            if S::RECOGNISES
                && let Some(series) = self.sink.recognise(&bytes[..likely], self.kind)
            {
                return self.known(start + likely, end, series);
            }
        }
        let line = self.text(start, end).ok_or(DropReason::Encoding)?;
        let series = series::read(line, bare, self.kind, &mut self.slots)?;
        let dcgm = if bare > 0 {
            self.family.dcgm
        } else if self.sink.wants(series.name.as_bytes()) {
            is_dcgm(series.name.as_bytes())
        } else {
            return Ok(Outcome::Skipped);
        };
        let tail = self.number(start + series.end, end, dcgm)?;
        self.sink.sample(&ParsedSample {
            name: &series.name,
            labels: &self.slots.labels[..series.labels],
            value: tail.value,
            timestamp: tail.timestamp,
            series_text: &bytes[..series.end],
            kind: self.kind,
        });
        Ok(Outcome::Sample)
    }

    #[cold]
    fn describe(&mut self, start: usize, end: usize) {
        if let Some(line) = self.text(start, end)
            && let Some((family, description)) = comment::description(line)
        {
            self.sink.describe(&family, &description);
        }
    }

    /// Passes over the lines of the unwanted family that follow, from `next` on; the first other line begins at the result.
    fn skip_family(&mut self, mut next: usize) -> usize {
        let name = self.family.name;
        let mut ahead = Ahead::new(self.body, next);
        while let Some(rest) = self.body.get(next..)
            && rest.starts_with(name)
            && matches!(rest.get(name.len()), Some(b'{' | b' ' | b'\t'))
        {
            ahead.reading(next);
            let length = memchr(b'\n', rest).unwrap_or(rest.len());
            if !closes(&rest[..length], name.len()) {
                break;
            }
            self.report.skipped += 1;
            next += length + 1;
        }
        next
    }

    /// The series that the sink expects, if it begins at `start`, and where it has ended.
    #[inline]
    fn expected(&mut self, start: usize) -> Option<(usize, usize)> {
        let length = self.sink.expects();
        let text = self.body.get(start..start.checked_add(length)?)?;
        let name = self.family.name;
        let is_whole =
            text.ends_with(b"}") && text.starts_with(name) && text.get(name.len()) == Some(&b'{');
        if !is_whole || !self.family.wanted {
            return None;
        }
        let series = self.sink.recognise(text, self.kind)?;
        Some((series, start + length))
    }

    /// Reads what follows a recognised series in `body[at..end]`.
    #[inline]
    fn known(&mut self, at: usize, end: usize, series: usize) -> Result<Outcome, DropReason> {
        let tail = self.number(at, end, self.family.dcgm);
        // A number has only ASCII in it; what is wrong, or a comment, may be no text at all.
        if tail.as_ref().map_or(at, |tail| tail.end) < end
            && std::str::from_utf8(&self.body[at..end]).is_err()
        {
            return Err(DropReason::Encoding);
        }
        let tail = tail?;
        self.sink.recognised(series, tail.value, tail.timestamp);
        Ok(Outcome::Sample)
    }

    /// `body[start..end]` as text, if it is text.
    #[inline]
    fn text(&mut self, start: usize, end: usize) -> Option<&'a str> {
        if let Text::Unread = self.text {
            self.text = std::str::from_utf8(self.body).map_or(Text::Broken, Text::Whole);
        }
        match self.text {
            Text::Whole(text) => Some(&text[start..end]),
            Text::Unread | Text::Broken => std::str::from_utf8(&self.body[start..end]).ok(),
        }
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
        self.change_family(line)
    }

    #[inline(never)]
    fn change_family(&mut self, line: &'a [u8]) -> Result<usize, DropReason> {
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
    fn number(&self, at: usize, end: usize, dcgm: bool) -> Result<Tail, DropReason> {
        let tail = number::tail(self.body, at, end, self.format)?;
        if dcgm && number::is_dcgm_blank(tail.value) {
            return Err(DropReason::DcgmBlank);
        }
        Ok(tail)
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
    if let Some(brace) = last_of(b'}', line, bare) {
        return Some(brace + 1);
    }
    let next = series::skip_blanks(line, bare);
    (line.get(next) != Some(&b'{')).then_some(bare)
}

/// Whether such a line has braces that close, or none.
#[inline]
fn closes(line: &[u8], bare: usize) -> bool {
    is_in_end(b'}', line) || likely_series(line, bare).is_some()
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
