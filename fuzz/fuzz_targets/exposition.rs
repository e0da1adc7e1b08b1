//! Any bytes are a page: no panic, and no sample or count from nowhere.
#![no_main]

use gpu_metrics_adapter::exposition::{Format, ParsedSample, Sink, parse};
use libfuzzer_sys::fuzz_target;

#[derive(Default)]
struct Counted(u64);

impl Sink for Counted {
    fn sample(&mut self, sample: &ParsedSample<'_>) {
        assert!(!sample.name.is_empty());
        assert!(sample.labels.iter().all(|(_, value)| !value.is_empty()));
        self.0 += 1;
    }
}

fuzz_target!(|page: &[u8]| {
    let lines = page.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
    for format in [Format::Text, Format::OpenMetrics] {
        let mut counted = Counted::default();
        let report = parse(page, format, &mut counted);
        assert_eq!(report.samples, counted.0);
        assert!(report.samples + report.skipped + report.dropped.total() <= lines);
    }
});
