//! What is not read: metrics that nobody wants, and series that are known already.

use std::collections::HashMap;

use gpu_metrics_adapter::exposition::{DropReason, FamilyKind, Format, ParsedSample, Sink, parse};
use gpu_metrics_adapter::model::time::Timestamp;

use crate::{Collect, DCGM, Kept, RESOURCE, VLLM, lines};

/// Wants some metrics only, and remembers what it was asked.
struct Picky {
    wanted: &'static [u8],
    asked: Vec<String>,
    values: Vec<f64>,
}

impl Picky {
    fn new(wanted: &'static [u8]) -> Self {
        Self {
            wanted,
            asked: Vec::new(),
            values: Vec::new(),
        }
    }
}

impl Sink for Picky {
    fn wants(&mut self, name: &[u8]) -> bool {
        self.asked.push(String::from_utf8_lossy(name).into_owned());
        name == self.wanted
    }

    fn sample(&mut self, sample: &ParsedSample<'_>) {
        self.values.push(sample.value);
    }
}

#[test]
fn unwanted_metrics_are_asked_for_once_and_passed_over() {
    let page = b"a 1\na{x=\"1\"} 2\na 3\nab{broken} 4\nab 5\na 6\n{\"a\"} 7\n{\"q\"} 8\n-\na 9\n";
    let mut sink = Picky::new(b"a");
    let report = parse(page, Format::Text, &mut sink);
    assert_eq!(sink.asked, ["a", "ab", "a", "a", "q"]);
    assert_eq!(sink.values, [1.0, 2.0, 3.0, 6.0, 7.0, 9.0]);
    assert_eq!(
        (report.samples, report.skipped, report.dropped.total()),
        (6, 3, 1)
    );
}

#[test]
fn an_unwanted_line_is_passed_over_however_its_labels_end() {
    let far = "1".repeat(40);
    let lines = [
        "b{x=\"1\"} 1".to_owned(),
        format!("b{{x=\"{far}\"}} {far} {far}"),
        format!("b {far}"),
        format!("b{{x=\"}}{far}\"}} 1"),
    ];
    let page: String = lines
        .iter()
        .cycle()
        .take(100)
        .map(|line| line.clone() + "\n")
        .collect();
    // As short as nothing, and longer than what is asked for ahead.
    for length in 0..3_000 {
        let page = format!("{}\na 1\n", &page[..length]);
        let unwanted = page.lines().filter(|line| line.starts_with('b')).count() as u64;
        let mut sink = Picky::new(b"a");
        let report = parse(page.as_bytes(), Format::Text, &mut sink);
        assert_eq!(sink.values, [1.0], "{length} bytes");
        assert_eq!(
            report.skipped + report.dropped.total(),
            unwanted,
            "{length} bytes"
        );
    }
}

#[test]
fn no_sample_is_read_out_of_an_unwanted_metrics_label_value() {
    let page = b"b{x=\"a value of several lines, the first is this\na 5\nl3\"} 1\na 2\n";
    // The first line of its metric, and one that follows others.
    for page in [page.to_vec(), [b"b 1\n", &page[..]].concat()] {
        let mut sink = Picky::new(b"a");
        let report = parse(&page, Format::Text, &mut sink);
        assert_eq!(sink.values, [2.0]);
        assert_eq!(report.dropped.get(DropReason::UnclosedQuote), 1);
    }
}

/// Reads the labels of each series once, and knows the series by its text from then on.
#[derive(Default)]
pub(crate) struct Knowing {
    series: HashMap<(Vec<u8>, FamilyKind), usize>,
    first: Vec<Kept>,
    pub(crate) lines: Vec<String>,
    recognised: usize,
    /// What is expected next: the series after the last one, in the order of the first page.
    cursor: usize,
    /// Whether anything is.
    expecting: bool,
}

impl Knowing {
    pub(crate) fn new(expecting: bool) -> Self {
        Self {
            expecting,
            ..Self::default()
        }
    }

    /// Begins a page.
    pub(crate) fn begin(&mut self) {
        self.lines.clear();
        self.cursor = 0;
    }
}

impl Sink for Knowing {
    const RECOGNISES: bool = true;

    fn expects(&self) -> usize {
        let next = self.first.get(self.cursor).filter(|_| self.expecting);
        next.map_or(0, |series| series.series_text.len())
    }

    fn recognise(&mut self, series_text: &[u8], kind: FamilyKind) -> Option<usize> {
        self.series.get(&(series_text.to_owned(), kind)).copied()
    }

    fn recognised(&mut self, series: usize, value: f64, timestamp: Option<Timestamp>) {
        self.recognised += 1;
        self.cursor = series + 1;
        let again = Kept {
            value,
            timestamp: timestamp.map(Timestamp::as_millis),
            ..self.first[series].clone()
        };
        self.lines.push(again.line());
    }

    fn sample(&mut self, sample: &ParsedSample<'_>) {
        let mut collect = Collect::default();
        collect.sample(sample);
        let kept = collect.samples.remove(0);
        self.lines.push(kept.line());
        self.series
            .insert((kept.series_text.clone(), kept.kind), self.first.len());
        self.first.push(kept);
    }
}

#[test]
fn a_page_seen_before_is_recognised_without_reading_its_labels() {
    for (page, expecting) in [(DCGM, false), (DCGM, true), (RESOURCE, true), (VLLM, true)] {
        let mut sink = Knowing::new(expecting);
        let first = parse(page, Format::Text, &mut sink);
        assert_eq!(sink.recognised, 0);
        sink.begin();
        assert_eq!(parse(page, Format::Text, &mut sink), first);
        assert_eq!(sink.recognised as u64, first.samples);
        assert_eq!(sink.lines, lines(page, Format::Text));
    }
}

#[test]
fn a_known_series_whose_line_is_no_sample_now_is_dropped_as_it_would_be() {
    let first = b"a{x=\"1\"} 1\nb 1\nDCGM_X{gpu=\"0\"} 1\n";
    for second in [
        &b"a{x=\"1\"}\n"[..],
        b"a{x=\"1\"} one\n",
        b"a{x=\"1\"} 1 2 3\n",
        b"a{x=\"1\"} 1\r2\n",
        b"a{x=\"1\"} 1 # \xff\n",
        b"a{x=\"1\"} \xff\n",
        b"a{x=\"1\"} 1\r\nb 2\r\n",
        b"a{x=\"1\"}{y=\"2\"} 1\n",
        b"a{x=\"1\"} 1 # {t=\"}\"} 1\n",
        b"DCGM_X{gpu=\"0\"} 2147483632\n",
        b"b {x=\"1\"} 1\n",
        b"# TYPE a histogram\na{x=\"1\"} 1\n",
        b"a{x=\"1\"} 1",
        b"a{x=\"1\"}",
    ] {
        for expecting in [false, true] {
            let mut sink = Knowing::new(expecting);
            parse(first, Format::Text, &mut sink);
            sink.begin();
            let report = parse(second, Format::Text, &mut sink);
            let shown = String::from_utf8_lossy(second);
            assert_eq!(sink.lines, lines(second, Format::Text), "{shown:?}");
            assert_eq!(report, crate::read(second, Format::Text).1, "{shown:?}");
        }
    }
}
