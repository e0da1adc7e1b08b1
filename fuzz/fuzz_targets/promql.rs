//! Any text is a query: it is refused or evaluated, within bounds and without a panic.
#![no_main]

use gpu_metrics_adapter::model::labels::{Labels, METRIC_NAME};
use gpu_metrics_adapter::model::matcher::{Matcher, all_match};
use gpu_metrics_adapter::model::sample::Sample;
use gpu_metrics_adapter::model::time::Timestamp;
use gpu_metrics_adapter::promql::{Options, Query, SeriesReader, Wanted};
use libfuzzer_sys::fuzz_target;

const NOW: i64 = 1_000_000;

/// A few series with gaps, resets, NaN and an end.
struct Few(Vec<(Labels, Vec<Sample>)>);

impl Few {
    fn new() -> Self {
        let values = [1.0, 2.0, f64::NAN, 0.5, f64::INFINITY, -3.0, 1e300, 7.0];
        let series = |index: usize| {
            let labels = Labels::new([
                (METRIC_NAME, ["x", "y", "x_bucket"][index % 3].to_owned()),
                ("pod", format!("p{}", index % 4)),
                ("le", ["0.1", "1", "+Inf"][index % 3].to_owned()),
            ]);
            let sample = |step: usize| {
                let time = Timestamp::from_millis(NOW - 15_000 * (20 - step as i64));
                Sample::new(time, values[(step + index) % values.len()] + step as f64)
            };
            (labels, (0..20).map(sample).collect())
        };
        Self((0..12).map(series).collect())
    }
}

impl SeriesReader for Few {
    fn select(
        &self,
        matchers: &[Matcher],
        wanted: Wanted,
        visit: &mut dyn FnMut(&Labels, &[Sample]),
    ) {
        for (labels, samples) in &self.0 {
            if all_match(matchers, labels) {
                visit(labels, wanted.of(samples));
            }
        }
    }
}

fuzz_target!(|text: &str| {
    let Ok(query) = Query::compile(text) else { return };
    let options = Options { max_samples: 100_000, ..Options::default() };
    let _ = query.evaluate(&Few::new(), Timestamp::from_millis(NOW), &options);
});
