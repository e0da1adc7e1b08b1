//! What the exposition parser makes of pages: real ones, broken ones, and made-up ones.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/edge_cases.rs"]
mod edge_cases;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Read as _;

use edge_cases::EDGE_CASES;
use gpu_metrics_adapter::exposition::{
    DropReason, FamilyKind, Format, MAX_LABELS, ParsedSample, Report, Sink, parse,
};
use gpu_metrics_adapter::model::time::Timestamp;
use proptest::prelude::*;

const DCGM: &[u8] = include_bytes!("fixtures/pages/dcgm8.txt");
const RESOURCE: &[u8] = include_bytes!("fixtures/pages/resource.txt");
const VLLM: &[u8] = include_bytes!("fixtures/pages/vllm.txt");
const CADVISOR_GZ: &[u8] = include_bytes!("fixtures/pages/cadvisor.txt.gz");

/// A sample that has outlived its page.
#[derive(Clone, Debug)]
struct Kept {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
    timestamp: Option<i64>,
    series_text: Vec<u8>,
    kind: FamilyKind,
}

impl Kept {
    fn line(&self) -> String {
        let mut line = self.name.clone();
        if !self.labels.is_empty() {
            let labels: Vec<String> = self
                .labels
                .iter()
                .map(|(name, value)| format!("{name}={value:?}"))
                .collect();
            write!(line, "{{{}}}", labels.join(",")).unwrap();
        }
        write!(line, " {}", self.value).unwrap();
        if let Some(millis) = self.timestamp {
            write!(line, " @{millis}").unwrap();
        }
        line
    }
}

#[derive(Default)]
struct Collect {
    samples: Vec<Kept>,
    borrowed_only: bool,
    owned: usize,
}

impl Sink for Collect {
    fn sample(&mut self, sample: &ParsedSample<'_>) {
        self.owned += sample
            .labels
            .iter()
            .filter(|(name, value)| {
                [name, value]
                    .iter()
                    .any(|text| matches!(text, std::borrow::Cow::Owned(_)))
            })
            .count();
        if self.borrowed_only {
            return;
        }
        self.samples.push(Kept {
            name: sample.name.to_owned(),
            labels: sample
                .labels
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            value: sample.value,
            timestamp: sample.timestamp.map(Timestamp::as_millis),
            series_text: sample.series_text.to_owned(),
            kind: sample.kind,
        });
    }
}

fn read(body: &[u8], format: Format) -> (Vec<Kept>, Report) {
    let mut sink = Collect::default();
    let report = parse(body, format, &mut sink);
    assert_eq!(report.samples, sink.samples.len() as u64);
    (sink.samples, report)
}

/// Samples as lines, then the reasons of the dropped lines: `a{x="1"} 1 @5; !value`.
fn render(body: &[u8], format: Format) -> String {
    let (samples, report) = read(body, format);
    let mut parts: Vec<String> = samples.iter().map(Kept::line).collect();
    for (reason, count) in report.dropped.iter() {
        parts.extend((0..count).map(|_| format!("!{}", reason.as_str())));
    }
    parts.join("; ")
}

fn cadvisor() -> Vec<u8> {
    let mut page = Vec::new();
    flate2::read::GzDecoder::new(CADVISOR_GZ)
        .read_to_end(&mut page)
        .unwrap();
    page
}

#[test]
fn edge_cases_are_read_as_prometheus_reads_them_or_dropped_alone() {
    for (input, text, openmetrics) in EDGE_CASES {
        let shown = String::from_utf8_lossy(input);
        assert_eq!(render(input, Format::Text), *text, "{shown:?} as text");
        assert_eq!(
            render(input, Format::OpenMetrics),
            openmetrics.unwrap_or(text),
            "{shown:?} as OpenMetrics"
        );
    }
}

#[test]
fn no_edge_case_harms_the_lines_around_it() {
    for (input, ..) in EDGE_CASES
        .iter()
        .filter(|(input, ..)| !input.starts_with(b"\xef") && !input.is_empty())
    {
        let page = [
            b"before 1\n# TYPE x gauge\n",
            *input,
            b"\nafter{x=\"1\"} 2\n",
        ]
        .concat();
        let read = render(&page, Format::Text);
        let shown = String::from_utf8_lossy(input);
        assert!(
            read.starts_with("before 1") && read.contains("after{x=\"1\"} 2"),
            "{shown:?}: {read}"
        );
    }
}

#[test]
fn whole_pages_are_read_to_the_last_sample() {
    let cadvisor = cadvisor();
    for (name, page, expected) in [
        ("dcgm8", DCGM, 216),
        ("resource", RESOURCE, 1_179),
        ("vllm", VLLM, 387),
        ("cadvisor", &cadvisor, 14_190),
    ] {
        let report = parse(page, Format::Text, &mut Collect::default());
        assert_eq!(
            report,
            Report {
                samples: expected,
                ..Report::default()
            },
            "{name}"
        );
    }
    let (samples, _) = read(DCGM, Format::Text);
    let clock = samples
        .iter()
        .find(|sample| sample.name == "DCGM_FI_DEV_SM_CLOCK")
        .unwrap();
    assert_eq!(clock.value, 1872.0);
    assert_eq!(clock.labels.len(), 10);
    assert_eq!(
        clock.labels[4],
        ("modelName".to_owned(), "NVIDIA H100 80GB HBM3".to_owned())
    );
}

#[test]
fn labels_of_ordinary_pages_are_borrowed() {
    for page in [DCGM, RESOURCE, VLLM] {
        let mut sink = Collect {
            borrowed_only: true,
            ..Collect::default()
        };
        parse(page, Format::Text, &mut sink);
        assert_eq!(sink.owned, 0);
    }
}

#[test]
fn more_labels_than_the_bound_cost_only_their_line() {
    let labels =
        |count: usize| -> String { (0..count).map(|index| format!("l{index}=\"v\",")).collect() };
    let page = format!(
        "a{{{}}} 1\nb{{{}}} 2\nc 3\n",
        labels(MAX_LABELS),
        labels(MAX_LABELS + 1)
    );
    let (samples, report) = read(page.as_bytes(), Format::Text);
    assert_eq!(samples.len(), 2);
    assert_eq!(samples[0].labels.len(), MAX_LABELS);
    assert_eq!(report.dropped.get(DropReason::TooManyLabels), 1);
    let (reason, example) = report.example.unwrap();
    assert_eq!(reason, DropReason::TooManyLabels);
    assert!(
        example.starts_with("b{l0=") && example.len() < 210,
        "{example}"
    );
}

#[test]
fn an_unclosed_quote_reaches_no_further_than_a_few_kilobytes() {
    let filler = "b 1\n".repeat(2_000);
    let page = format!("a{{x=\"open 1\n{filler}c{{y=\",\"}} 2\n");
    let (samples, report) = read(page.as_bytes(), Format::Text);
    assert_eq!((samples.len(), report.dropped.total()), (2_001, 1));
}

/// Wants some metrics only, and remembers what it was asked.
struct Picky {
    wanted: &'static [u8],
    asked: Vec<String>,
    values: Vec<f64>,
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
    let mut sink = Picky {
        wanted: b"a",
        asked: Vec::new(),
        values: Vec::new(),
    };
    let report = parse(page, Format::Text, &mut sink);
    assert_eq!(sink.asked, ["a", "ab", "a", "a", "q"]);
    assert_eq!(sink.values, [1.0, 2.0, 3.0, 6.0, 7.0, 9.0]);
    assert_eq!(
        (report.samples, report.skipped, report.dropped.total()),
        (6, 3, 1)
    );
}

#[test]
fn no_sample_is_read_out_of_an_unwanted_metrics_label_value() {
    let page = b"b{x=\"l1\na 5\nl3\"} 1\na 2\n";
    let mut sink = Picky {
        wanted: b"a",
        asked: Vec::new(),
        values: Vec::new(),
    };
    let report = parse(page, Format::Text, &mut sink);
    assert_eq!(sink.values, [2.0]);
    assert_eq!(report.dropped.get(DropReason::UnclosedQuote), 1);
}

/// Reads the labels of each series once, and knows the series by its text from then on.
#[derive(Default)]
struct Knowing {
    series: HashMap<(Vec<u8>, FamilyKind), usize>,
    first: Vec<Kept>,
    lines: Vec<String>,
    recognised: usize,
}

impl Sink for Knowing {
    const RECOGNISES: bool = true;

    fn recognise(&mut self, series_text: &[u8], kind: FamilyKind) -> Option<usize> {
        self.series.get(&(series_text.to_owned(), kind)).copied()
    }

    fn recognised(&mut self, series: usize, value: f64, timestamp: Option<Timestamp>) {
        self.recognised += 1;
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

fn lines(body: &[u8], format: Format) -> Vec<String> {
    read(body, format).0.iter().map(Kept::line).collect()
}

#[test]
fn a_page_seen_before_is_recognised_without_reading_its_labels() {
    for page in [DCGM, RESOURCE, VLLM] {
        let mut sink = Knowing::default();
        let first = parse(page, Format::Text, &mut sink);
        assert_eq!(sink.recognised, 0);
        sink.lines.clear();
        assert_eq!(parse(page, Format::Text, &mut sink), first);
        assert_eq!(sink.recognised as u64, first.samples);
        assert_eq!(sink.lines, lines(page, Format::Text));
    }
}

#[test]
fn prometheus_parse_reads_the_same_from_pages_it_can_read() {
    for page in [DCGM, RESOURCE] {
        assert_same_as_prometheus_parse(std::str::from_utf8(page).unwrap());
    }
}

/// Only for pages of gauges, counters and untyped samples without escapes, colons, or punctuation in values: the rest it
/// reads wrongly or not at all.
fn assert_same_as_prometheus_parse(page: &str) {
    type Row = (String, Vec<(String, String)>, u64, Option<i64>);
    let (samples, report) = read(page.as_bytes(), Format::Text);
    assert_eq!(report.dropped.total(), 0, "{:?}", report.example);
    let theirs =
        prometheus_parse::Scrape::parse(page.lines().map(|line| Ok(line.to_owned()))).unwrap();
    assert_eq!(samples.len(), theirs.samples.len());
    // It keeps the order of such samples, and gives its own time to those without one.
    for (ours, theirs) in samples.iter().zip(&theirs.samples) {
        let value = match theirs.value {
            prometheus_parse::Value::Counter(value)
            | prometheus_parse::Value::Gauge(value)
            | prometheus_parse::Value::Untyped(value) => value,
            ref other => panic!("not a plain sample: {other:?}"),
        };
        let mut labels = ours.labels.clone();
        labels.sort();
        let mut their_labels: Vec<_> = theirs
            .labels
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        their_labels.retain(|(_, value)| !value.is_empty());
        their_labels.sort();
        let timestamp = ours.timestamp.map(|_| theirs.timestamp.timestamp_millis());
        let our_row: Row = (
            ours.name.clone(),
            labels,
            ours.value.to_bits(),
            ours.timestamp,
        );
        let their_row: Row = (
            theirs.metric.clone(),
            their_labels,
            value.to_bits(),
            timestamp,
        );
        assert_eq!(our_row, their_row);
    }
}

/// Pieces of pages, in an order that often makes sense and often does not.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            &b"a"[..], b"a_bucket", b"DCGM_X", b"{", b"}", b"\"", b"\\", b"\\n", b",", b"=", b" ", b"\t", b"1", b"-2.5e3", b"NaN",
            b"2147483632", b"9", b"#", b" # ", b"# TYPE a histogram\n", b"# TYPE a gauge\n", b"# EOF\n", b"\r", b"\0", b"\xff",
            b"\xef\xbb\xbf", b"\xc3\xa9", b"__name__",
        ]),
        3 => prop::sample::select(vec![
            &b"a 1\n"[..], b"a{x=\"1\"} 1\n", b"a_bucket{le=\"1\",y=\"2\"}", b"{\"a.b\",x=\"1\"}", b" 1 2\n", b"x=\"1\"", b"le=\"1\",",
            b"a{x=\"open\n", b"a 1 # {t=\"x\"} 1\n", b"}", b"\n", b" 7\n",
        ]),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

fn pages() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![3 => pieces(), 1 => prop::collection::vec(any::<u8>(), 0..400)]
}

fn formats() -> impl Strategy<Value = Format> {
    prop::sample::select(vec![Format::Text, Format::OpenMetrics])
}

/// The declaration that puts a sample under this kind.
fn declaration(kind: FamilyKind) -> &'static str {
    match kind {
        FamilyKind::Plain => "",
        FamilyKind::Histogram => "# TYPE a histogram\n",
        FamilyKind::Summary => "# TYPE a summary\n",
    }
}

fn escape(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_page_breaks_the_parser_or_its_promises(page in pages(), format in formats()) {
        let (samples, report) = read(&page, format);
        let lines = page.split(|byte| *byte == b'\n').count() as u64;
        prop_assert!(report.samples + report.skipped + report.dropped.total() <= lines);
        prop_assert_eq!(report.example.is_some(), report.dropped.total() > 0);
        for sample in samples {
            prop_assert!(!sample.name.is_empty());
            let mut names: Vec<_> = sample.labels.iter().map(|(name, _)| name).collect();
            names.sort();
            names.dedup();
            prop_assert_eq!(names.len(), sample.labels.len());
            prop_assert!(sample.labels.iter().all(|(name, value)| name != "__name__" && !value.is_empty()));
        }
    }

    #[test]
    fn the_series_text_alone_gives_the_same_series(page in pages(), format in formats()) {
        for sample in read(&page, format).0 {
            let again = [declaration(sample.kind).as_bytes(), &sample.series_text, b" 1\n"].concat();
            let (read_again, _) = read(&again, format);
            prop_assert_eq!(read_again.len(), 1);
            prop_assert_eq!(&read_again[0].name, &sample.name);
            prop_assert_eq!(&read_again[0].labels, &sample.labels);
            prop_assert_eq!(&read_again[0].series_text, &sample.series_text);
        }
    }

    #[test]
    fn recognising_series_changes_nothing_of_what_is_read(first in pages(), second in pages(), format in formats()) {
        let mut sink = Knowing::default();
        for page in [&first, &second, &first] {
            sink.lines.clear();
            let report = parse(page, format, &mut sink);
            prop_assert_eq!(&sink.lines, &lines(page, format));
            prop_assert_eq!(report, read(page, format).1);
        }
    }

    #[test]
    fn any_label_value_survives_escaping(values in prop::collection::vec(any::<String>(), 1..6), utf8_name in "\\PC{1,12}") {
        let labels: Vec<String> = values.iter().enumerate().map(|(index, value)| format!("l{index}=\"{}\"", escape(value))).collect();
        let page = format!("{{\"{}\",{}}} 1\n", escape(&utf8_name), labels.join(","));
        let (samples, report) = read(page.as_bytes(), Format::Text);
        prop_assert_eq!(samples.len(), 1, "{:?}", report.example);
        prop_assert_eq!(&samples[0].name, &utf8_name);
        let expected: Vec<(String, String)> = values
            .into_iter()
            .enumerate()
            .filter(|(_, value)| !value.is_empty())
            .map(|(index, value)| (format!("l{index}"), value))
            .collect();
        prop_assert_eq!(&samples[0].labels, &expected);
    }

    #[test]
    fn plain_pages_are_read_as_prometheus_parse_reads_them(
        rows in prop::collection::vec(
            ("[a-z_][a-z0-9_]{0,8}", prop::collection::vec("[A-Za-z0-9_. /-]{1,10}", 0..4), any::<f64>(), prop::option::of(0..4_000_000_000_000_i64)),
            0..8,
        )
    ) {
        let mut page = String::new();
        for (name, values, value, timestamp) in rows {
            let labels: Vec<String> = values.iter().enumerate().map(|(index, value)| format!("l{index}=\"{value}\"")).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let timestamp = timestamp.map_or(String::new(), |millis| format!(" {millis}"));
            writeln!(page, "{name}{labels} {value:e}{timestamp}").unwrap();
        }
        assert_same_as_prometheus_parse(&page);
    }
}
