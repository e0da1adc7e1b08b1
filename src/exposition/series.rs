//! The series of a line: metric name and label set.

use std::borrow::Cow;

use crate::model::labels::METRIC_NAME;

use super::near::first_of;
use super::{DropReason, FamilyKind, bounds};

/// Most labels that a sample may have.
pub const MAX_LABELS: usize = 128;

pub(super) type Label<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Where labels are put, those of one line after the other's; made once for a page.
pub(super) struct Slots<'a> {
    /// The labels of the line.
    pub(super) labels: [Label<'a>; MAX_LABELS],
    /// How the labels began on an earlier line. Lines of a metric mostly have the same names in the same order, and comparing
    /// is faster than finding the end of a name.
    heads: [Head<'a>; HEADS],
    /// How many of `heads` are known to name different labels, none of them `__name__`. A line whose labels begin like
    /// these needs no look at whether a name stands there twice.
    distinct: usize,
}

/// How many labels of a line are remembered for the next one.
const HEADS: usize = 32;

/// How a label begins: `name="`.
#[derive(Clone, Copy)]
struct Head<'a> {
    text: &'a str,
    /// The text's first bytes, and which of these bits are some.
    start: u128,
    mask: u128,
    /// The name's [`signature`].
    signature: u64,
}

impl<'a> Head<'a> {
    const NONE: Self = Self {
        text: "",
        start: 0,
        mask: 0,
        signature: 0,
    };

    fn new(text: &'a str, signature: u64) -> Self {
        let mut start = [0; 16];
        let mut mask = [0; 16];
        for (index, byte) in text.bytes().take(16).enumerate() {
            (start[index], mask[index]) = (byte, u8::MAX);
        }
        let (start, mask) = (u128::from_le_bytes(start), u128::from_le_bytes(mask));
        Self {
            text,
            start,
            mask,
            signature,
        }
    }

    /// Whether `line` begins with it.
    #[inline]
    fn begins(&self, line: &[u8]) -> bool {
        match line.first_chunk() {
            Some(start) if (u128::from_le_bytes(*start) ^ self.start) & self.mask != 0 => false,
            Some(_) if self.text.len() <= 16 => true,
            _ => line.starts_with(self.text.as_bytes()),
        }
    }
}

impl Default for Slots<'_> {
    fn default() -> Self {
        Self {
            labels: [const { (Cow::Borrowed(""), Cow::Borrowed("")) }; MAX_LABELS],
            heads: [Head::NONE; HEADS],
            distinct: 0,
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
    #[inline]
    fn read(&mut self, mut at: usize) -> Result<usize, DropReason> {
        let bytes = self.line.as_bytes();
        loop {
            let value = match self.known_name(at) {
                Some(value) => value,
                None => {
                    at = skip_blanks(bytes, at);
                    if bytes.get(at) == Some(&b'}') {
                        break;
                    }
                    match self.name(at)? {
                        Name::Label(value) => value,
                        Name::Metric(end) => {
                            at = end + usize::from(bytes[end] == b',');
                            continue;
                        }
                    }
                }
            };
            at = self.value(value)?;
            at = match bytes.get(at) {
                Some(b',') => at + 1,
                Some(b'}') => break,
                // Prometheus takes a blank for a comma.
                Some(b' ' | b'\t') => {
                    let next = skip_blanks(bytes, at);
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

    /// Takes the label name at `at` if the same one stood in this place on the line before, and says where its value begins.
    #[inline]
    fn known_name(&mut self, at: usize) -> Option<usize> {
        if self.filled >= self.slots.distinct {
            return None;
        }
        let head = &self.slots.heads[self.filled];
        if !head.begins(self.line.as_bytes().get(at..)?) {
            return None;
        }
        self.slots.labels[self.filled].0 = Cow::Borrowed(&head.text[..head.text.len() - 2]);
        self.seen |= head.signature;
        Some(at + head.text.len())
    }

    /// Reads any name at `at`, the metric's or a label's.
    #[inline(never)]
    fn name(&mut self, at: usize) -> Result<Name, DropReason> {
        let bytes = self.line.as_bytes();
        let quoted = bytes.get(at) == Some(&b'"');
        let (name, after) = if quoted {
            let (text, after) = string(self.line, at + 1, closing(self.line, at + 1)?)?;
            let after = skip_blanks(bytes, after);
            if let Some(b',' | b'}') = bytes.get(after) {
                self.set_name(text)?;
                return Ok(Name::Metric(after));
            }
            (text, after)
        } else if at < bytes.len() {
            let end = name_end(bytes, at, LABEL_START, LABEL);
            (Cow::Borrowed(&self.line[at..end]), skip_blanks(bytes, end))
        } else {
            return Err(DropReason::Separator);
        };
        if name.is_empty() || bytes.get(after) != Some(&b'=') {
            return Err(DropReason::LabelName);
        }
        let quote = skip_blanks(bytes, after + 1);
        if bytes.get(quote) != Some(&b'"') {
            return Err(DropReason::LabelValue);
        }
        // What comes of the value is told before what is wrong with the name.
        string(self.line, quote + 1, closing(self.line, quote + 1)?)?;
        let signature = self.check(&name)?;
        let (index, length) = (self.filled, name.len());
        self.slots.labels[index].0 = name;
        self.seen |= signature;
        self.slots.distinct = self.slots.distinct.min(index);
        if !quoted
            && quote == at + length + 1
            && self.slots.distinct == index
            && let Some(head) = self.slots.heads.get_mut(index)
        {
            *head = Head::new(&self.line[at..=quote], signature);
            self.slots.distinct = index + 1;
        }
        Ok(Name::Label(quote + 1))
    }

    /// Whether the label of this name may be the next one; its signature.
    fn check(&self, name: &str) -> Result<u64, DropReason> {
        // Prometheus finds no metric name where only this label gives it, and two where another gives it too.
        if name == METRIC_NAME {
            return Err(DropReason::MetricName);
        }
        let before = &self.slots.labels[..self.filled];
        let signature = signature(name.as_bytes());
        if self.seen & signature != 0 && before.iter().any(|(other, _)| *other == name) {
            return Err(DropReason::DuplicateLabel);
        }
        if self.filled == MAX_LABELS {
            return Err(DropReason::TooManyLabels);
        }
        Ok(signature)
    }

    /// Takes the value that begins at `at`, behind its quote, for the label whose name was taken last, and says where it
    /// has ended.
    #[inline]
    fn value(&mut self, at: usize) -> Result<usize, DropReason> {
        let end = closing(self.line, at)?;
        let label = &mut self.slots.labels[self.filled];
        self.filled += 1;
        if self.line.as_bytes()[end] == b'"' && (self.bound.is_empty() || label.0 != self.bound) {
            self.empty |= end == at;
            label.1 = Cow::Borrowed(&self.line[at..end]);
            return Ok(end + 1);
        }
        let (mut value, end) = string(self.line, at, end)?;
        if label.0 == self.bound {
            value = bounds::normalise(value);
        }
        self.empty |= value.is_empty();
        label.1 = value;
        Ok(end)
    }

    #[cold]
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
}

/// What a name in braces was.
enum Name {
    /// A label's; its value begins here, behind the quote.
    Label(usize),
    /// The metric's; it has ended here.
    Metric(usize),
}

/// One of 64 bits, by length and ends of the name, which is not empty.
#[inline]
fn signature(name: &[u8]) -> u64 {
    let ends = usize::from(name[0]) * 3 + usize::from(name[name.len() - 1]) * 7;
    1 << ((ends + name.len()) % 64)
}

/// Where the quoted text that begins at `start`, behind its quote, ends or has its first backslash.
#[inline]
fn closing(line: &str, start: usize) -> Result<usize, DropReason> {
    first_of(b'"', b'\\', line.as_bytes(), start).ok_or(DropReason::UnclosedQuote)
}

/// The quoted text that begins at `start`, and what follows it; at `at` it ends or has its first backslash.
fn string(line: &str, start: usize, mut at: usize) -> Result<(Cow<'_, str>, usize), DropReason> {
    let bytes = line.as_bytes();
    if bytes[at] == b'"' {
        return Ok((Cow::Borrowed(&line[start..at]), at + 1));
    }
    while bytes[at] == b'\\' {
        at = closing(line, at + 2)?;
    }
    Ok((Cow::Owned(unescape(&line[start..at])), at + 1))
}

/// What is meant. An unknown escape stays as it is written.
pub(super) fn unescape(raw: &str) -> String {
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
