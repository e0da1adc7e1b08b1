//! Made-up pages: promises that hold for any bytes, and another parser's reading where that can be trusted.

use std::fmt::Write as _;

use gpu_metrics_adapter::exposition::{FamilyKind, Format, parse};
use proptest::prelude::*;

use crate::known::Knowing;
use crate::{DCGM, RESOURCE, lines, read};

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
    fn recognising_series_changes_nothing_of_what_is_read(
        first in pages(), second in pages(), format in formats(), expecting in any::<bool>(),
    ) {
        let mut sink = Knowing::new(expecting);
        // The joined page has known series, in their order and with new ones between, and lines that break where they did not.
        let joined = [&second[..], &first, &second[second.len() / 2..]].concat();
        for page in [&first, &second, &first, &joined] {
            sink.begin();
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
