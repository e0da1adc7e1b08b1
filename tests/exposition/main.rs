//! What the exposition parser makes of pages: real ones, broken ones, and made-up ones.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod compared;
#[path = "../support/edge_cases.rs"]
mod edge_cases;
mod generated;
mod known;
mod table;

use std::fmt::Write as _;
use std::io::Read as _;

use gpu_metrics_adapter::exposition::{
    Description, DropReason, FamilyKind, Format, MAX_LABELS, ParsedSample, Report, Sink, parse,
};
use gpu_metrics_adapter::model::time::Timestamp;

const DCGM: &[u8] = include_bytes!("../fixtures/pages/dcgm8.txt");
const RESOURCE: &[u8] = include_bytes!("../fixtures/pages/resource.txt");
const VLLM: &[u8] = include_bytes!("../fixtures/pages/vllm.txt");
const CADVISOR_GZ: &[u8] = include_bytes!("../fixtures/pages/cadvisor.txt.gz");

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
    described: Vec<String>,
}

impl Sink for Collect {
    fn describes(&self) -> bool {
        true
    }

    fn describe(&mut self, family: &str, description: &Description<'_>) {
        self.described.push(format!("{family}: {description:?}"));
    }

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

fn lines(body: &[u8], format: Format) -> Vec<String> {
    read(body, format).0.iter().map(Kept::line).collect()
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

#[test]
fn what_a_page_says_of_its_metrics_is_told_where_it_is_asked_for() {
    let page = b"# HELP a Two\\nlines.\r\n# TYPE a counter\n# HELP b \xff\n# UNIT a seconds\na_total 1\n# EOF\n# TYPE c gauge\n";
    let told = |format| {
        let mut sink = Collect::default();
        parse(page, format, &mut sink);
        sink.described
    };
    let mut expected = vec![
        "a: Help(\"Two\\nlines.\")".to_owned(),
        "a: Kind(\"counter\")".to_owned(),
        "a: Unit(\"seconds\")".to_owned(),
    ];
    assert_eq!(told(Format::OpenMetrics), expected);
    expected.push("c: Kind(\"gauge\")".to_owned());
    assert_eq!(told(Format::Text), expected);
}
