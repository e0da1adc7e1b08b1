//! Any bytes are a page: no panic, no sample or count from nowhere, and what is recognised is what would have been read.
#![no_main]

use std::collections::HashMap;

use gpu_metrics_adapter::exposition::{FamilyKind, Format, ParsedSample, Sink, parse};
use gpu_metrics_adapter::model::time::Timestamp;
use libfuzzer_sys::fuzz_target;

type Labels = Vec<(String, String)>;

/// Reads every label, or knows the series from the page before; `rows` is the same either way.
#[derive(Default)]
struct Rows<const RECOGNISE: bool> {
    rows: Vec<(String, Labels, u64, Option<Timestamp>)>,
    series: Vec<(String, Labels, usize)>,
    by_text: HashMap<(Vec<u8>, FamilyKind), usize>,
    cursor: usize,
}

impl<const RECOGNISE: bool> Sink for Rows<RECOGNISE> {
    const RECOGNISES: bool = RECOGNISE;

    fn describes(&self) -> bool {
        !RECOGNISE
    }

    fn expects(&self) -> usize {
        self.series.get(self.cursor).map_or(0, |series| series.2)
    }

    fn recognise(&mut self, text: &[u8], kind: FamilyKind) -> Option<usize> {
        self.by_text.get(&(text.to_owned(), kind)).copied()
    }

    fn recognised(&mut self, series: usize, value: f64, timestamp: Option<Timestamp>) {
        let (name, labels, _) = self.series[series].clone();
        self.rows.push((name, labels, value.to_bits(), timestamp));
        self.cursor = series + 1;
    }

    fn sample(&mut self, sample: &ParsedSample<'_>) {
        assert!(!sample.name.is_empty());
        assert!(sample.labels.iter().all(|(_, value)| !value.is_empty()));
        let owned = sample.labels.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        let (name, labels): (_, Labels) = (sample.name.to_owned(), owned.collect());
        if RECOGNISE {
            let key = (sample.series_text.to_owned(), sample.kind);
            self.by_text.insert(key, self.series.len());
            self.series.push((name.clone(), labels.clone(), sample.series_text.len()));
        }
        self.rows.push((name, labels, sample.value.to_bits(), sample.timestamp));
    }
}

fuzz_target!(|page: &[u8]| {
    let lines = page.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
    for format in [Format::Text, Format::OpenMetrics] {
        let mut plain = Rows::<false>::default();
        let report = parse(page, format, &mut plain);
        assert_eq!(report.samples, plain.rows.len() as u64);
        assert!(report.samples + report.skipped + report.dropped.total() <= lines);
        let mut knowing = Rows::<true>::default();
        for _ in 0..2 {
            knowing.rows.clear();
            knowing.cursor = 0;
            assert_eq!(parse(page, format, &mut knowing), report);
            assert_eq!(knowing.rows, plain.rows);
        }
    }
});
