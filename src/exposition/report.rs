//! What became of a page's lines: counts, and one example of what was wrong.

use std::fmt;

/// Most bytes of a dropped line that a report quotes.
const EXAMPLE_BYTES: usize = 200;

/// Why a line gave no sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The line is not UTF-8.
    Encoding,
    /// There is no valid metric name, or more than one.
    MetricName,
    /// A label has no valid name.
    LabelName,
    /// A label's value is not in double quotes.
    LabelValue,
    /// A quote is still open at the end of the line, as where an exporter does not escape line breaks.
    UnclosedQuote,
    /// Neither a comma or blank nor the closing brace follows a label, as where an exporter does not escape quotes.
    Separator,
    /// A label name stands there twice.
    DuplicateLabel,
    /// There are more than [`MAX_LABELS`](super::MAX_LABELS) labels.
    TooManyLabels,
    /// The value is missing, no decimal number, or too large for one.
    Value,
    /// The timestamp is not one of the page's format.
    Timestamp,
    /// Something other than a comment follows the sample.
    Trailing,
    /// The value is one that DCGM prints for "no value": blank, not found, not supported, not permitted.
    DcgmBlank,
}

impl DropReason {
    /// Every reason, in the order of the declaration.
    pub const ALL: [Self; 12] = [
        Self::Encoding,
        Self::MetricName,
        Self::LabelName,
        Self::LabelValue,
        Self::UnclosedQuote,
        Self::Separator,
        Self::DuplicateLabel,
        Self::TooManyLabels,
        Self::Value,
        Self::Timestamp,
        Self::Trailing,
        Self::DcgmBlank,
    ];

    /// The reason as a metric's label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Encoding => "encoding",
            Self::MetricName => "metric_name",
            Self::LabelName => "label_name",
            Self::LabelValue => "label_value",
            Self::UnclosedQuote => "unclosed_quote",
            Self::Separator => "separator",
            Self::DuplicateLabel => "duplicate_label",
            Self::TooManyLabels => "too_many_labels",
            Self::Value => "value",
            Self::Timestamp => "timestamp",
            Self::Trailing => "trailing",
            Self::DcgmBlank => "dcgm_blank",
        }
    }
}

/// The reason in words, for people.
impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encoding => "not UTF-8",
            Self::MetricName => "not exactly one valid metric name",
            Self::LabelName => "invalid label name",
            Self::LabelValue => "label value not in double quotes",
            Self::UnclosedQuote => "unclosed quote",
            Self::Separator => "neither comma nor closing brace after a label",
            Self::DuplicateLabel => "label given twice",
            Self::TooManyLabels => "too many labels",
            Self::Value => "no valid value",
            Self::Timestamp => "no valid timestamp",
            Self::Trailing => "text after the sample",
            Self::DcgmBlank => "DCGM has no value",
        })
    }
}

/// How many lines were dropped for each reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped([u64; DropReason::ALL.len()]);

impl Dropped {
    /// Lines dropped for this reason.
    pub const fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// Lines dropped for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The reasons that occurred, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL
            .into_iter()
            .map(|reason| (reason, self.get(reason)))
            .filter(|(_, count)| *count > 0)
    }
}

/// What became of a page's lines. Blank lines and comments count nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Samples handed to the sink.
    pub samples: u64,
    /// Lines of metrics that the sink did not want. They are passed over unread, and may be malformed.
    pub skipped: u64,
    /// Lines that gave no sample.
    pub dropped: Dropped,
    /// One dropped line: the first malformed one; the first with a DCGM blank where none was malformed. Cut to
    /// 200 bytes, control characters escaped.
    pub example: Option<(DropReason, String)>,
}

impl Report {
    #[cold]
    pub(super) fn note(&mut self, reason: DropReason, line: &[u8]) {
        self.dropped.0[reason as usize] += 1;
        let better = match self.example {
            None => true,
            Some((shown, _)) => shown == DropReason::DcgmBlank && reason != shown,
        };
        if better {
            self.example = Some((reason, excerpt(line)));
        }
    }
}

fn excerpt(line: &[u8]) -> String {
    let mut text = String::with_capacity(EXAMPLE_BYTES + 4);
    for char in String::from_utf8_lossy(&line[..line.len().min(EXAMPLE_BYTES)]).chars() {
        if text.len() >= EXAMPLE_BYTES {
            break;
        }
        if char.is_control() {
            text.extend(char.escape_default());
        } else {
            text.push(char);
        }
    }
    if line.len() > EXAMPLE_BYTES {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter_and_name() {
        let mut report = Report::default();
        for reason in DropReason::ALL {
            report.note(reason, b"x");
        }
        for reason in DropReason::ALL {
            assert_eq!(report.dropped.get(reason), 1);
        }
        assert_eq!(report.dropped.total(), 12);
        assert_eq!(report.dropped.iter().count(), 12);
        let names: std::collections::HashSet<_> = DropReason::ALL.map(DropReason::as_str).into();
        assert_eq!(names.len(), 12);
    }

    #[test]
    fn the_example_is_short_and_printable() {
        let mut report = Report::default();
        report.note(DropReason::Value, &b"\x1b[31m\x00\xff".repeat(5_000));
        let (_, text) = report.example.expect("an example");
        assert!(text.len() < EXAMPLE_BYTES + 16, "{}", text.len());
        assert!(text.starts_with(r"\u{1b}[31m\u{0}"), "{text}");
        assert!(text.ends_with('…'));
    }

    #[test]
    fn a_malformed_line_is_a_better_example_than_a_blank_value() {
        let mut report = Report::default();
        report.note(DropReason::DcgmBlank, b"blank");
        report.note(DropReason::Value, b"first");
        report.note(DropReason::MetricName, b"second");
        report.note(DropReason::DcgmBlank, b"blank");
        assert_eq!(
            report.example,
            Some((DropReason::Value, "first".to_owned()))
        );
    }
}
