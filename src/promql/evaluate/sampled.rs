//! What comes from samples: selectors, ranges, subqueries.

use crate::model::labels::Labels;
use crate::model::matcher::Matcher;
use crate::model::sample::Sample;
use crate::model::time::Timestamp;
use crate::promql::grouping::without_name;
use crate::promql::plan::{RangeSource, Ranged, Scalar, Selector};
use crate::promql::range::{Function, Window, seconds};
use crate::promql::{EvalError, Wanted};

use super::{Evaluation, Grid, Reading, Row, Track, same_labels};

/// What of a sample becomes the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    Value,
    /// Its time, in seconds.
    Time,
}

/// Called with each series' labels and results.
pub(super) type Visit<'v> = dyn FnMut(&Labels, &[Reading]) -> Result<(), EvalError> + 'v;

/// Called with each series' labels and samples.
type VisitSamples<'v> = dyn FnMut(&Labels, &[Sample]) -> Result<(), EvalError> + 'v;

impl Evaluation<'_> {
    fn each_series(
        &self,
        matchers: &[Matcher],
        wanted: Wanted,
        visit: &mut VisitSamples<'_>,
    ) -> Result<(), EvalError> {
        let mut outcome = Ok(());
        self.reader
            .select(matchers, wanted, &mut |labels, samples| {
                if outcome.is_ok() {
                    outcome = self.tick().and_then(|()| visit(labels, samples));
                }
            });
        outcome
    }

    /// Calls `visit` with each series that has a value at any step, and with its values.
    pub(super) fn each_selected(
        &self,
        selector: &Selector,
        grid: Grid,
        read: Read,
        visit: &mut Visit<'_>,
    ) -> Result<(), EvalError> {
        let mut readings = Vec::with_capacity(grid.count.min(1024));
        let time = |at| Timestamp::from_millis(self.look_at(&selector.shift, at));
        let last = time(grid.last());
        let wanted = if grid.count == 1 {
            Wanted::Latest(last)
        } else {
            Wanted::Between {
                after: time(grid.start.saturating_sub(self.lookback)),
                until: last,
            }
        };
        self.each_series(&selector.matchers, wanted, &mut |labels, samples| {
            readings.clear();
            for (step, at) in grid.steps() {
                let at = self.look_at(&selector.shift, at);
                if let Some(sample) = latest(samples, at, self.lookback) {
                    readings.push(Reading {
                        step,
                        value: match read {
                            Read::Value => sample.value,
                            Read::Time => seconds(sample.timestamp.as_millis()),
                        },
                        oldest: sample.timestamp,
                    });
                }
            }
            if readings.is_empty() {
                return Ok(());
            }
            visit(labels, &readings)
        })
    }

    pub(super) fn selected(
        &self,
        selector: &Selector,
        grid: Grid,
        read: Read,
    ) -> Result<Vec<Row>, EvalError> {
        let mut rows = Vec::new();
        self.each_selected(selector, grid, read, &mut |labels, cells| {
            self.hold(cells.len())?;
            rows.push(Row {
                labels: labels.clone(),
                cells: cells.to_vec(),
            });
            Ok(())
        })?;
        Ok(rows)
    }

    /// Calls `visit` with each series that has samples in any step's range; those of all steps' ranges, as one run.
    pub(super) fn each_track(
        &self,
        ranged: &Ranged,
        grid: Grid,
        visit: &mut dyn FnMut(&Labels, &Track<'_>) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        let first = self.look_at(&ranged.shift, grid.start);
        let start = first.saturating_sub(ranged.range);
        let end = self.look_at(&ranged.shift, grid.last());
        match &ranged.source {
            RangeSource::Samples(matchers) => {
                let wanted = Wanted::Between {
                    after: Timestamp::from_millis(start),
                    until: Timestamp::from_millis(end),
                };
                let mut samples = Vec::new();
                self.each_series(matchers, wanted, &mut |labels, found| {
                    let values = wanted.of(found).iter();
                    samples.clear();
                    samples.extend(values.filter(|sample| !sample.is_stale_marker()));
                    if samples.is_empty() {
                        return Ok(());
                    }
                    if self.held.get().saturating_add(samples.len()) > self.options.max_samples {
                        return Err(EvalError::TooManySamples);
                    }
                    let track = Track {
                        samples: &samples,
                        oldest: None,
                    };
                    visit(labels, &track)
                })
            }
            RangeSource::Subquery { of, step } => {
                // Its times are multiples of its step, whatever the query's own times are.
                let aligned = start
                    .div_euclid(*step)
                    .saturating_add(1)
                    .saturating_mul(*step);
                let inner = self.grid(aligned, end, *step)?;
                let rows = self.vector(of, inner)?;
                for row in &rows {
                    self.tick()?;
                    let at = |cell: &Reading| Timestamp::from_millis(inner.at(cell.step));
                    let samples: Vec<Sample> = row
                        .cells
                        .iter()
                        .map(|cell| Sample::new(at(cell), cell.value))
                        .collect();
                    let oldest: Vec<Timestamp> = row.cells.iter().map(|cell| cell.oldest).collect();
                    let track = Track {
                        samples: &samples,
                        oldest: Some(&oldest),
                    };
                    visit(&row.labels, &track)?;
                }
                self.release(&rows);
                Ok(())
            }
        }
    }

    /// Calls `visit` with each step at which any series has samples in the range.
    pub(super) fn each_range_cell(
        &self,
        ranged: &Ranged,
        grid: Grid,
        visit: &mut dyn FnMut(usize),
    ) -> Result<(), EvalError> {
        self.each_track(ranged, grid, &mut |_, track| {
            for (step, at) in grid.steps() {
                let end = self.look_at(&ranged.shift, at);
                if !track
                    .between(end.saturating_sub(ranged.range), end)
                    .samples
                    .is_empty()
                {
                    visit(step);
                }
            }
            Ok(())
        })
    }

    /// Calls `visit` with each series, still with its name, and the function's values where it has any.
    pub(super) fn each_ranged(
        &self,
        function: Function,
        over: &Ranged,
        arguments: &[Scalar],
        grid: Grid,
        visit: &mut Visit<'_>,
    ) -> Result<(), EvalError> {
        let arguments = self.scalars(arguments, grid)?;
        let mut values = vec![0.0; arguments.len()];
        let mut readings = Vec::with_capacity(grid.count.min(1024));
        self.each_track(over, grid, &mut |labels, track| {
            readings.clear();
            for (step, at) in grid.steps() {
                // One step's window may be a subquery's, with as many samples as may be held.
                self.tick()?;
                let end = self.look_at(&over.shift, at);
                let start = end.saturating_sub(over.range);
                let part = track.between(start, end);
                if part.samples.is_empty() {
                    continue;
                }
                for (value, argument) in values.iter_mut().zip(&arguments) {
                    *value = argument[step].value;
                }
                let window = Window {
                    samples: part.samples,
                    start,
                    end,
                    at,
                    arguments: &values,
                };
                if let Some(value) = function.apply(&window)? {
                    readings.push(Reading {
                        step,
                        value,
                        oldest: part.oldest(function.uses(part.samples.len())),
                    });
                }
            }
            if readings.is_empty() {
                return Ok(());
            }
            visit(labels, &readings)
        })
    }

    pub(super) fn ranged(
        &self,
        function: Function,
        over: &Ranged,
        arguments: &[Scalar],
        grid: Grid,
    ) -> Result<Vec<Row>, EvalError> {
        let mut rows: Vec<Row> = Vec::new();
        self.each_ranged(function, over, arguments, grid, &mut |labels, cells| {
            self.hold(cells.len())?;
            rows.push(Row {
                labels: if function.keeps_name() {
                    labels.clone()
                } else {
                    without_name(labels)
                },
                cells: cells.to_vec(),
            });
            Ok(())
        })?;
        // Unlike other functions', its results must differ even where they have no step in common.
        let mut seen = std::collections::HashSet::with_capacity(rows.len());
        if rows.iter().all(|row| seen.insert(&row.labels)) {
            Ok(rows)
        } else {
            Err(same_labels())
        }
    }
}

/// The last sample in `(at - lookback, at]`, unless the series has ended with it.
fn latest(samples: &[Sample], at: i64, lookback: i64) -> Option<Sample> {
    // Most evaluations are for now, and nothing is newer than that.
    let sample = match samples.last() {
        Some(last) if last.timestamp.as_millis() <= at => *last,
        _ => {
            let later = samples.partition_point(|sample| sample.timestamp.as_millis() <= at);
            samples[later.checked_sub(1)?]
        }
    };
    let is_recent = sample.timestamp.as_millis() > at.saturating_sub(lookback);
    (is_recent && !sample.is_stale_marker()).then_some(sample)
}
