//! The series of a line: metric name and label set.

use std::borrow::Cow;

use memchr::memchr2;

use crate::model::labels::METRIC_NAME;

use super::{DropReason, FamilyKind, bounds};

/// Most labels that a sample may have.
pub const MAX_LABELS: usize = 128;

pub(super) type Label<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Where labels are put, those of one line after the other's; made once for a page.
pub(super) struct Slots<'a> {
    /// The labels of the line.
    pub(super) labels: [Label<'a>; MAX_LABELS],
    /// What was last found as an unquoted name in this place. Lines of a metric mostly have the same names in the same
    /// order, and comparing is faster than finding the end of a name.
    names: [&'a str; MAX_LABELS],
}

impl Default for Slots<'_> {
    fn default() -> Self {
        Self {
            labels: [const { (Cow::Borrowed(""), Cow::Borrowed("")) }; MAX_LABELS],
            names: [""; MAX_LABELS],
        }
    }
}

/// What a line names.
pub(super) struct Series<'a> {
    /// The metric's name.
    pub(super) name: Cow<'a, str>,
    /// How many labels it has.
    pub(super) labels: usize,
    /// Where the series ends and the value may begin.
    pub(super) end: usize,
}

/// Reads the label set of `line` into the first of `slots`. The line begins with the series; `bare` is how many of its
/// bytes are a metric name outside braces, 0 where the name stands inside them.
pub(super) fn read<'a>(
    line: &'a str,
    bare: usize,
    kind: FamilyKind,
    slots: &mut Slots<'a>,
) -> Result<Series<'a>, DropReason> {
    let bytes = line.as_bytes();
    let mut set = LabelSet {
        line,
        slots,
        filled: 0,
        name: (bare > 0).then(|| Cow::Borrowed(&line[..bare])),
        bound: bound_label(kind),
        seen: 0,
        empty: false,
    };
    let open = skip_blanks(bytes, bare);
    let end = if bytes.get(open) == Some(&b'{') {
        set.read(open + 1)?
    } else {
        bare
    };
    Ok(Series {
        name: set.name.ok_or(DropReason::MetricName)?,
        labels: set.filled,
        end,
    })
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
    slots: &'l mut Slots<'a>,
    filled: usize,
    name: Option<Cow<'a, str>>,
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
                    let (text, after) = Raw::quoted(self.line, at)?;
                    let after = skip_blanks(bytes, after);
                    if let Some(b',' | b'}') = bytes.get(after) {
                        self.set_name(text.decode())?;
                        at = after + usize::from(bytes[after] == b',');
                        continue;
                    }
                    (text, after)
                }
                Some(_) => {
                    let text = self.bare_name(at);
                    let name = Raw {
                        text,
                        escaped: false,
                    };
                    (name, skip_blanks(bytes, at + text.len()))
                }
                None => return Err(DropReason::Separator),
            };
            if name.text.is_empty() || bytes.get(after) != Some(&b'=') {
                return Err(DropReason::LabelName);
            }
            at = skip_blanks(bytes, after + 1);
            if bytes.get(at) != Some(&b'"') {
                return Err(DropReason::LabelValue);
            }
            let (value, after) = Raw::quoted(self.line, at)?;
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
            self.leave_out_empty();
        }
        Ok(at + 1)
    }

    /// The unquoted label name at `at`; empty where there is none.
    #[inline]
    fn bare_name(&mut self, at: usize) -> &'a str {
        let bytes = self.line.as_bytes();
        let Some(known) = self.slots.names.get_mut(self.filled) else {
            return &self.line[at..name_end(bytes, at, LABEL_START, LABEL)];
        };
        let ends = bytes.get(at + known.len()) == Some(&b'=');
        if !ends || !bytes[at..].starts_with(known.as_bytes()) {
            *known = &self.line[at..name_end(bytes, at, LABEL_START, LABEL)];
        }
        known
    }

    fn leave_out_empty(&mut self) {
        let mut kept = 0;
        for index in 0..self.filled {
            if !self.slots.labels[index].1.is_empty() {
                self.slots.labels.swap(kept, index);
                kept += 1;
            }
        }
        self.filled = kept;
    }

    fn set_name(&mut self, name: Cow<'a, str>) -> Result<(), DropReason> {
        if name.is_empty() || self.name.is_some() {
            return Err(DropReason::MetricName);
        }
        self.name = Some(name);
        Ok(())
    }

    #[inline]
    fn push(&mut self, name: Raw<'a>, value: Raw<'a>) -> Result<(), DropReason> {
        if name.escaped || value.escaped || name.text == self.bound {
            return self.push_changed(name.decode(), value.decode());
        }
        let slot = self.slot(name.text)?;
        slot.0 = Cow::Borrowed(name.text);
        slot.1 = Cow::Borrowed(value.text);
        self.empty |= value.text.is_empty();
        Ok(())
    }

    #[inline(never)]
    fn push_changed(
        &mut self,
        name: Cow<'a, str>,
        mut value: Cow<'a, str>,
    ) -> Result<(), DropReason> {
        if name == self.bound {
            value = bounds::normalise(value);
        }
        self.empty |= value.is_empty();
        let slot = self.slot(&name)?;
        *slot = (name, value);
        Ok(())
    }

    /// Where the label of this name goes, if there may be one.
    #[inline]
    fn slot(&mut self, name: &str) -> Result<&mut Label<'a>, DropReason> {
        // Prometheus finds no metric name where only this label gives it, and two where another gives it too.
        if name == METRIC_NAME {
            return Err(DropReason::MetricName);
        }
        let bit = signature(name.as_bytes());
        if self.seen & bit != 0 && self.has(name) {
            return Err(DropReason::DuplicateLabel);
        }
        self.seen |= bit;
        let slot = self
            .slots
            .labels
            .get_mut(self.filled)
            .ok_or(DropReason::TooManyLabels)?;
        self.filled += 1;
        Ok(slot)
    }

    fn has(&self, name: &str) -> bool {
        self.slots.labels[..self.filled]
            .iter()
            .any(|(other, _)| *other == name)
    }
}

/// One of 64 bits, by length and ends of the name, which is not empty.
#[inline]
fn signature(name: &[u8]) -> u64 {
    let ends = usize::from(name[0]) * 3 + usize::from(name[name.len() - 1]) * 7;
    1 << ((ends + name.len()) % 64)
}

/// A name or value as it is written, without its quotes. Two plain fields, so that it travels in registers.
#[derive(Clone, Copy)]
struct Raw<'a> {
    text: &'a str,
    escaped: bool,
}

impl<'a> Raw<'a> {
    /// The string whose opening quote is at `open`, and where it has ended.
    #[inline]
    fn quoted(line: &'a str, open: usize) -> Result<(Self, usize), DropReason> {
        let bytes = line.as_bytes();
        let start = open + 1;
        let mut from = start;
        loop {
            let rest = bytes.get(from..).unwrap_or_default();
            let end = from + memchr2(b'"', b'\\', rest).ok_or(DropReason::UnclosedQuote)?;
            if bytes[end] == b'"' {
                let raw = Self {
                    text: &line[start..end],
                    escaped: from > start,
                };
                return Ok((raw, end + 1));
            }
            from = end + 2;
        }
    }

    /// What is meant. An unknown escape stays as it is written.
    #[inline]
    fn decode(self) -> Cow<'a, str> {
        if self.escaped {
            Cow::Owned(unescape(self.text))
        } else {
            Cow::Borrowed(self.text)
        }
    }
}

fn unescape(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            text.push(char);
            continue;
        }
        match chars.next() {
            Some('n') => text.push('\n'),
            Some(same @ ('"' | '\\')) => text.push(same),
            other => {
                text.push('\\');
                text.extend(other);
            }
        }
    }
    text
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
