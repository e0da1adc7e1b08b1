//! Series as OpenMetrics text with timestamps, which promtool makes a block of.

use std::fmt::Write as _;

use gpu_metrics_adapter::model::labels::{Labels, METRIC_NAME};

use crate::data::Series;

/// All samples. Times must be multiples of an eighth of a second: promtool cuts off what a float of seconds cannot hold.
pub(crate) fn write(all: &[Series]) -> String {
    let mut text = String::new();
    for series in all {
        let name = series_name(&series.labels);
        for sample in &series.samples {
            let millis = sample.timestamp.as_millis();
            assert_eq!(millis % 125, 0, "{name} at {millis} ms");
            let (whole, rest) = (millis.div_euclid(1_000), millis.rem_euclid(1_000));
            writeln!(text, "{name} {} {whole}.{rest:03}", value(sample.value)).expect("a string");
        }
    }
    text + "# EOF\n"
}

fn series_name(labels: &Labels) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .filter(|(name, _)| *name != METRIC_NAME)
        .map(|(name, value)| {
            let value = value
                .replace('\\', r"\\")
                .replace('"', r#"\""#)
                .replace('\n', r"\n");
            format!("\"{name}\"=\"{value}\"")
        })
        .collect();
    // With the name inside and in quotes, it may have any letters.
    let name = labels.metric_name().expect("a name");
    format!("{{\"{name}\",{}}}", pairs.join(","))
}

fn value(value: f64) -> String {
    if value.is_infinite() {
        (if value > 0.0 { "+Inf" } else { "-Inf" }).to_owned()
    } else {
        format!("{value:e}")
    }
}
