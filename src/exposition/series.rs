//! The series of a line: metric name and label set.

use std::borrow::Cow;

use memchr::memchr2;

use crate::model::labels::METRIC_NAME;

use super::{DropReason, FamilyKind, bounds};

/// Most labels that a sample may have.
pub const MAX_LABELS: usize = 128;

pub(super) type Label<'a> = (Cow<'a, str>, Cow<'a, str>);

/// What a line names.
pub(super) struct Series<'a> {
    /// The metric's name.
    pub(super) name: Cow<'a, str>,
    /// Where the series ends and the value may begin.
    pub(super) end: usize,
}

/// Reads the label set of `line` into `labels`, which must be empty. The line begins with the series; `bare` is how many
/// of its bytes are a metric name outside braces, 0 where the name stands inside them.
pub(super) fn read<'a>(
    line: &'a str,
    bare: usize,
    kind: FamilyKind,
    labels: &mut Vec<Label<'a>>,
) -> Result<Series<'a>, DropReason> {
    let bytes = line.as_bytes();
    let mut name = (bare > 0).then(|| Cow::Borrowed(&line[..bare]));
    let open = skip_blanks(bytes, bare);
    let end = if bytes.get(open) == Some(&b'{') {
        let mut set = LabelSet {
            line,
            labels,
            name: &mut name,
            bound: bound_label(kind),
            seen: 0,
            empty: false,
        };
        set.read(open + 1)?
    } else {
        bare
    };
    let name = name.ok_or(DropReason::MetricName)?;
    Ok(Series { name, end })
}

/// The label of such a family that holds a number.
const fn bound_label(kind: FamilyKind) -> &'static str {
    match kind {
        FamilyKind::Plain => "",
        FamilyKind::Histogram => "le",
        FamilyKind::Summary => "quantile",
    }
}

struct LabelSet<'a, 'l> {
    line: &'a str,
    labels: &'l mut Vec<Label<'a>>,
    name: &'l mut Option<Cow<'a, str>>,
    bound: &'static str,
    /// A bit for each label name so far, so that most names need no comparison with the others.
    seen: u64,
    /// Whether a value is empty; those labels stay until the end so that their names count as given.
    empty: bool,
}

impl<'a> LabelSet<'a, '_> {
    /// Reads from behind the opening brace to behind the closing one, and says where that is.
    fn read(&mut self, mut at: usize) -> Result<usize, DropReason> {
        let bytes = self.line.as_bytes();
        loop {
            at = skip_blanks(bytes, at);
            let (name, after) = match bytes.get(at) {
                Some(b'}') => break,
                Some(b'"') => {
                    let (text, after) = quoted(self.line, at)?;
                    let after = skip_blanks(bytes, after);
                    if let Some(b',' | b'}') = bytes.get(after) {
                        self.set_name(text)?;
                        at = after + usize::from(bytes[after] == b',');
                        continue;
                    }
                    (text, after)
                }
                Some(_) => {
                    let end = name_end(bytes, at, LABEL_START, LABEL);
                    (Cow::Borrowed(&self.line[at..end]), skip_blanks(bytes, end))
                }
                None => return Err(DropReason::Separator),
            };
            if name.is_empty() || bytes.get(after) != Some(&b'=') {
                return Err(DropReason::LabelName);
            }
            at = skip_blanks(bytes, after + 1);
            if bytes.get(at) != Some(&b'"') {
                return Err(DropReason::LabelValue);
            }
            let (value, after) = quoted(self.line, at)?;
            self.push(name, value)?;
            at = match bytes.get(after) {
                Some(b',') => after + 1,
                Some(b'}') => after,
                // Prometheus takes a blank for a comma.
                Some(b' ' | b'\t') => {
                    let next = skip_blanks(bytes, after);
                    next + usize::from(bytes.get(next) == Some(&b','))
                }
                _ => return Err(DropReason::Separator),
            };
        }
        if self.empty {
            self.labels.retain(|(_, value)| !value.is_empty());
        }
        Ok(at + 1)
    }

    fn set_name(&mut self, name: Cow<'a, str>) -> Result<(), DropReason> {
        if name.is_empty() || self.name.is_some() {
            return Err(DropReason::MetricName);
        }
        *self.name = Some(name);
        Ok(())
    }

    #[inline]
    fn push(&mut self, name: Cow<'a, str>, value: Cow<'a, str>) -> Result<(), DropReason> {
        // Prometheus ignores it where it stands alone, and refuses a second name where it does not.
        if name == METRIC_NAME {
            return Err(DropReason::MetricName);
        }
        let bit = signature(name.as_bytes());
        if self.seen & bit != 0 && self.labels.iter().any(|(other, _)| *other == name) {
            return Err(DropReason::DuplicateLabel);
        }
        self.seen |= bit;
        if self.labels.len() == MAX_LABELS {
            return Err(DropReason::TooManyLabels);
        }
        self.empty |= value.is_empty();
        let value = if name == self.bound {
            bounds::normalise(value)
        } else {
            value
        };
        self.labels.push((name, value));
        Ok(())
    }
}

/// One of 64 bits, by length and ends of the name, which is not empty.
#[inline]
fn signature(name: &[u8]) -> u64 {
    let ends = usize::from(name[0]) * 3 + usize::from(name[name.len() - 1]) * 7;
    1 << ((ends + name.len()) % 64)
}

/// The string whose opening quote is at `open`, without its escapes, and where it has ended.
#[inline]
fn quoted(line: &str, open: usize) -> Result<(Cow<'_, str>, usize), DropReason> {
    let start = open + 1;
    let length =
        memchr2(b'"', b'\\', &line.as_bytes()[start..]).ok_or(DropReason::UnclosedQuote)?;
    let end = start + length;
    if line.as_bytes()[end] == b'"' {
        return Ok((Cow::Borrowed(&line[start..end]), end + 1));
    }
    escaped(line, start, end)
}

/// The rest of [`quoted`] where the first backslash is at `backslash`. An unknown escape stays as it is written.
fn escaped(
    line: &str,
    start: usize,
    mut backslash: usize,
) -> Result<(Cow<'_, str>, usize), DropReason> {
    let bytes = line.as_bytes();
    let mut text = line[start..backslash].to_owned();
    loop {
        let known = match bytes.get(backslash + 1) {
            Some(b'n') => Some('\n'),
            Some(b'"') => Some('"'),
            Some(b'\\') => Some('\\'),
            _ => None,
        };
        text.push(known.unwrap_or('\\'));
        let plain = backslash + 1 + usize::from(known.is_some());
        let length = memchr2(b'"', b'\\', &bytes[plain..]).ok_or(DropReason::UnclosedQuote)?;
        let end = plain + length;
        text.push_str(&line[plain..end]);
        if bytes[end] == b'"' {
            return Ok((Cow::Owned(text), end + 1));
        }
        backslash = end;
    }
}

const METRIC_START: u8 = 1;
const METRIC: u8 = 2;
const LABEL_START: u8 = 4;
const LABEL: u8 = 8;

/// Which bytes may stand in a name without quotes.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        classes[byte as usize] = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => METRIC_START | METRIC | LABEL_START | LABEL,
            b'0'..=b'9' => METRIC | LABEL,
            b':' => METRIC_START | METRIC,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

/// Where the name that begins at `at` ends; `at` itself where none begins there.
#[inline]
fn name_end(bytes: &[u8], at: usize, first: u8, rest: u8) -> usize {
    let is = |byte: u8, class: u8| CLASSES[usize::from(byte)] & class != 0;
    if !bytes.get(at).is_some_and(|byte| is(*byte, first)) {
        return at;
    }
    let length = bytes[at..].iter().position(|byte| !is(*byte, rest));
    length.map_or(bytes.len(), |length| at + length)
}

/// How many bytes at the beginning of the line are a metric name.
#[inline]
pub(super) fn metric_name(line: &[u8]) -> usize {
    name_end(line, 0, METRIC_START, METRIC)
}

#[inline]
pub(super) const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The first position from `at` on that is no blank; the line's length where there is none.
#[inline]
pub(super) fn skip_blanks(line: &[u8], mut at: usize) -> usize {
    while at < line.len() && is_blank(line[at]) {
        at += 1;
    }
    at
}
