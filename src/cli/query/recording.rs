//! A recording: OpenMetrics text in which every sample has its time, as `promtool tsdb create-blocks-from openmetrics`
//! reads it.

use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::engine::recorded::Recorded;
use crate::exposition::{DropReason, Format, ParsedSample, Sink, parse};
use crate::model::labels::{Labels, METRIC_NAME};
use crate::model::sample::Sample;

/// Reads the file, whole or not at all: half a recording would give wrong answers.
pub(super) fn read(path: &Path) -> anyhow::Result<Recorded> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    recorded(&text).with_context(|| format!("{} is no recording", path.display()))
}

fn recorded(text: &[u8]) -> anyhow::Result<Recorded> {
    ensure!(
        text.trim_ascii_end().ends_with(b"# EOF"),
        "it does not end with `# EOF`, and so may be cut off"
    );
    let mut lines = Lines::default();
    let report = parse(text, Format::OpenMetrics, &mut lines);
    let unread = report.dropped.total() - report.dropped.get(DropReason::DcgmBlank);
    if let (true, Some((reason, line))) = (unread > 0, &report.example) {
        anyhow::bail!("{unread} lines are no samples, the first for this reason: {reason}: {line}");
    }
    if let Some(series) = lines.without_time {
        anyhow::bail!("a sample of {series} has no time");
    }
    Ok(Recorded::new(lines.samples))
}

#[derive(Default)]
struct Lines {
    samples: Vec<(Labels, Sample)>,
    /// The first series with a sample that has no time.
    without_time: Option<Labels>,
}

impl Sink for Lines {
    fn sample(&mut self, sample: &ParsedSample<'_>) {
        let labels = sample
            .labels
            .iter()
            .map(|(name, value)| (&**name, &**value));
        let labels = Labels::new(labels.chain([(METRIC_NAME, sample.name)]));
        match sample.timestamp {
            Some(time) => self.samples.push((labels, Sample::new(time, sample.value))),
            None => {
                self.without_time.get_or_insert(labels);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        recorded(text.as_bytes())
            .expect_err("a refusal")
            .to_string()
    }

    #[test]
    fn what_is_no_whole_recording_is_refused_with_its_reason() {
        assert!(recorded(b"x 1 1\nx 2 2.5\n# EOF\n").is_ok());
        assert!(refusal("x 1 1\n").contains("# EOF"));
        assert_eq!(
            refusal("x 1 1\ny{a=\"b\"} 1\n# EOF\n"),
            r#"a sample of y{a="b"} has no time"#
        );
        assert_eq!(
            refusal("x 1 1\nx one 2\n# EOF\n"),
            "1 lines are no samples, the first for this reason: no valid value: x one 2"
        );
    }
}
