//! Where on the time line the data lies: once at the epoch, as recorded data, and once near today, as scraped data.

use gpu_metrics_adapter::model::sample::Sample;
use gpu_metrics_adapter::model::time::Timestamp;

use crate::data::Series;

/// One placement of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Era {
    /// From time 0 on, in a block that promtool made. Recorded data has no marks where a series ended.
    Recorded,
    /// In 2023, received sample by sample, with those marks.
    Received,
}

impl Era {
    pub(crate) const ALL: [Self; 2] = [Self::Recorded, Self::Received];

    /// Milliseconds since the epoch at which the data starts. Multiples of the steps that queries use (an hour), so that
    /// subqueries meet the same samples in both.
    pub(crate) const fn start(self) -> i64 {
        match self {
            Self::Recorded => 0,
            Self::Received => 1_700_000_000_000 / 3_600_000 * 3_600_000,
        }
    }

    /// A time, from milliseconds after the start of the data.
    pub(crate) fn at(self, offset: i64) -> Timestamp {
        Timestamp::from_millis(self.start() + offset)
    }

    /// The series as they are in this era, `all` being relative to their start.
    pub(crate) fn place(self, all: &[Series]) -> Vec<Series> {
        all.iter().map(|series| self.place_one(series)).collect()
    }

    fn place_one(self, series: &Series) -> Series {
        let sample = |sample: &Sample| {
            let kept = self == Self::Received || !sample.is_stale_marker();
            kept.then(|| Sample::new(self.at(sample.timestamp.as_millis()), sample.value))
        };
        Series {
            labels: series.labels.clone(),
            samples: series.samples.iter().filter_map(sample).collect(),
        }
    }

    /// One series with its samples of all eras.
    pub(crate) fn place_in_all(series: &Series) -> Series {
        let in_era = |era: Self| era.place_one(series).samples;
        Series {
            labels: series.labels.clone(),
            samples: Self::ALL.into_iter().flat_map(in_era).collect(),
        }
    }

    /// The query's text, with `{600}` made the time 600 seconds after the start, in seconds.
    pub(crate) fn text(self, template: &str) -> String {
        let mut text = String::new();
        let mut rest = template;
        while let Some(open) = rest.find('{') {
            let (before, after) = rest.split_at(open);
            text.push_str(before);
            let offset = after[1..].split_once('}').and_then(|(number, rest)| {
                let offset: i64 = number.parse().ok()?;
                Some((offset, rest))
            });
            if let Some((offset, after)) = offset {
                text.push_str(&(self.start() / 1_000 + offset).to_string());
                rest = after;
            } else {
                text.push('{');
                rest = &after[1..];
            }
        }
        text + rest
    }
}
