//! The evaluation itself: each part of a plan, at every step of a range or at one time.
//!
//! As in Prometheus, a part is evaluated for all steps at once, series by series; an instant query has one step.

mod aggregated;
mod joined;
mod mapped;
mod sampled;

use std::cell::Cell;
use std::collections::HashMap;
use std::time::Instant;

use crate::model::labels::Labels;
use crate::model::sample::Sample;
use crate::model::time::Timestamp;

use super::plan::{At, Plan, Scalar, Shift, Vector};
use super::range::seconds;
use super::{EvalError, Options, Point, Range, Series, SeriesReader, Value, grouping, sum};

/// The times of an evaluation: `count` of them, `step` milliseconds apart.
#[derive(Clone, Copy, Debug)]
struct Grid {
    start: i64,
    step: i64,
    count: usize,
}

impl Grid {
    fn once(at: i64) -> Self {
        Self {
            start: at,
            step: 1,
            count: 1,
        }
    }

    fn at(self, index: usize) -> i64 {
        let steps = i64::try_from(index).unwrap_or(i64::MAX);
        self.start.saturating_add(self.step.saturating_mul(steps))
    }

    fn last(self) -> i64 {
        self.at(self.count.saturating_sub(1))
    }

    fn steps(self) -> impl Iterator<Item = (usize, i64)> {
        (0..self.count).map(move |index| (index, self.at(index)))
    }
}

/// A value at one step.
#[derive(Clone, Copy, Debug)]
struct Reading {
    step: usize,
    value: f64,
    oldest: Timestamp,
}

/// A series of results: at most one value per step, in the order of the steps, at least one in all.
#[derive(Clone, Debug)]
struct Row {
    labels: Labels,
    cells: Vec<Reading>,
}

/// A number at one step.
#[derive(Clone, Copy, Debug)]
struct Number {
    value: f64,
    oldest: Timestamp,
}

/// What an evaluation reads, and what it may use up.
struct Evaluation<'a> {
    reader: &'a dyn SeriesReader,
    options: &'a Options,
    lookback: i64,
    /// The start and the end of the query, for `@ start()` and `@ end()`.
    span: (i64, i64),
    /// Samples held in memory now.
    held: Cell<usize>,
    ticks: Cell<u32>,
}

/// How often the clock is read: once per this many series or steps.
const TICKS: u32 = 64;

pub(super) fn instant(
    plan: &Plan,
    reader: &dyn SeriesReader,
    at: Timestamp,
    options: &Options,
) -> Result<Value, EvalError> {
    let at_millis = at.as_millis();
    let evaluation = Evaluation::new(reader, options, (at_millis, at_millis));
    let grid = Grid::once(at_millis);
    Ok(match plan {
        Plan::Scalar(scalar) => Value::Scalar(evaluation.scalar(scalar, grid)?[0].value),
        Plan::String(text) => Value::String(text.clone()),
        Plan::Vector(vector) => Value::Vector(
            evaluation
                .vector(vector, grid)?
                .into_iter()
                .map(Row::into_point)
                .collect(),
        ),
        Plan::Matrix(ranged) => {
            let mut series = Vec::new();
            evaluation.each_track(ranged, grid, &mut |labels, track| {
                let end = evaluation.look_at(&ranged.shift, at_millis);
                let samples = track.between(end.saturating_sub(ranged.range), end).samples;
                if !samples.is_empty() {
                    evaluation.hold(samples.len())?;
                    series.push(Series {
                        labels: labels.clone(),
                        samples: samples.to_vec(),
                    });
                }
                Ok(())
            })?;
            series.sort_by(|a: &Series, b| a.labels.cmp(&b.labels));
            Value::Matrix(series)
        }
    })
}

pub(super) fn range(
    plan: &Plan,
    reader: &dyn SeriesReader,
    range: Range,
    options: &Options,
) -> Result<Vec<Series>, EvalError> {
    let (start, end) = (range.start.as_millis(), range.end.as_millis());
    let step = i64::try_from(range.step.as_millis()).unwrap_or(i64::MAX);
    let evaluation = Evaluation::new(reader, options, (start, end));
    let grid = evaluation.grid(start, end, step)?;
    let mut rows = match plan {
        Plan::Scalar(scalar) => {
            let numbers = evaluation.scalar(scalar, grid)?;
            vec![Row::constant(&numbers)]
        }
        Plan::Vector(vector) => evaluation.vector(vector, grid)?,
        Plan::String(_) | Plan::Matrix(_) => {
            let found = if matches!(plan, Plan::String(_)) {
                "string"
            } else {
                "range vector"
            };
            return Err(EvalError::Execution(format!(
                "invalid expression type \"{found}\" for range query, must be Scalar or instant Vector"
            )));
        }
    };
    rows.retain(|row| !row.cells.is_empty());
    rows.sort_by(|a, b| a.labels.cmp(&b.labels));
    let sample =
        |cell: Reading| Sample::new(Timestamp::from_millis(grid.at(cell.step)), cell.value);
    let series = |row: Row| Series {
        labels: row.labels,
        samples: row.cells.into_iter().map(sample).collect(),
    };
    Ok(rows.into_iter().map(series).collect())
}

impl Row {
    fn into_point(self) -> Point {
        let cell = self.cells[0];
        Point {
            labels: self.labels,
            value: cell.value,
            oldest: cell.oldest,
        }
    }

    fn constant(numbers: &[Number]) -> Self {
        let cells = numbers.iter().enumerate();
        Self {
            labels: Labels::default(),
            cells: cells
                .map(|(step, number)| Reading {
                    step,
                    value: number.value,
                    oldest: number.oldest,
                })
                .collect(),
        }
    }
}

impl<'a> Evaluation<'a> {
    fn new(reader: &'a dyn SeriesReader, options: &'a Options, span: (i64, i64)) -> Self {
        Self {
            reader,
            options,
            lookback: i64::try_from(options.lookback.as_millis()).unwrap_or(i64::MAX),
            span,
            held: Cell::new(0),
            ticks: Cell::new(0),
        }
    }

    /// The steps from `start` to `end`.
    fn grid(&self, start: i64, end: i64, step: i64) -> Result<Grid, EvalError> {
        if step < 1 {
            return Err(EvalError::Execution(
                "zero or negative query resolution step widths are not accepted".to_owned(),
            ));
        }
        let count = match end.saturating_sub(start) {
            span if span < 0 => 0,
            span => usize::try_from(span / step)
                .unwrap_or(usize::MAX)
                .saturating_add(1),
        };
        if count > self.options.max_samples {
            return Err(EvalError::TooManySamples);
        }
        Ok(Grid { start, step, count })
    }

    /// Counts samples that are now in memory.
    fn hold(&self, samples: usize) -> Result<(), EvalError> {
        let held = self.held.get().saturating_add(samples);
        self.held.set(held);
        if held > self.options.max_samples {
            return Err(EvalError::TooManySamples);
        }
        Ok(())
    }

    /// Counts samples that no longer are.
    fn release(&self, rows: &[Row]) {
        let cells: usize = rows.iter().map(|row| row.cells.len()).sum();
        self.held.set(self.held.get().saturating_sub(cells));
    }

    /// Looks at the clock every so often.
    fn tick(&self) -> Result<(), EvalError> {
        let ticks = self.ticks.get().wrapping_add(1);
        self.ticks.set(ticks);
        match self.options.deadline {
            Some(deadline) if ticks % TICKS == 1 && Instant::now() >= deadline => {
                Err(EvalError::Timeout)
            }
            _ => Ok(()),
        }
    }

    /// The time that is looked at instead of `at`.
    fn look_at(&self, shift: &Shift, at: i64) -> i64 {
        let at = match shift.at {
            None => at,
            Some(At::Time(time)) => time.as_millis(),
            Some(At::Start) => self.span.0,
            Some(At::End) => self.span.1,
        };
        at.saturating_sub(shift.offset)
    }

    fn scalar(&self, scalar: &Scalar, grid: Grid) -> Result<Vec<Number>, EvalError> {
        let number = |value: f64, at: i64| Number {
            value,
            oldest: Timestamp::from_millis(at),
        };
        let both = |left: &Scalar, right: &Scalar, join: &dyn Fn(f64, f64) -> f64| {
            let mut numbers = self.scalar(left, grid)?;
            for (left, right) in numbers.iter_mut().zip(self.scalar(right, grid)?) {
                left.value = join(left.value, right.value);
                left.oldest = left.oldest.min(right.oldest);
            }
            Ok(numbers)
        };
        match scalar {
            Scalar::Number(value) => Ok(grid.steps().map(|(_, at)| number(*value, at)).collect()),
            Scalar::Time => Ok(grid
                .steps()
                .map(|(_, at)| number(seconds(at), at))
                .collect()),
            Scalar::Negate(of) => {
                let mut numbers = self.scalar(of, grid)?;
                for number in &mut numbers {
                    number.value = -number.value;
                }
                Ok(numbers)
            }
            Scalar::Binary(operator, left, right) => {
                both(left, right, &|left, right| operator.between(left, right))
            }
            Scalar::Largest(left, right) => both(left, right, &sum::max),
            Scalar::Smallest(left, right) => both(left, right, &sum::min),
            Scalar::Of(vector) => {
                let rows = self.vector(vector, grid)?;
                self.release(&rows);
                let mut found: Vec<Option<Number>> = vec![None; grid.count];
                for cell in rows.iter().flat_map(|row| &row.cells) {
                    let new = Number {
                        value: cell.value,
                        oldest: cell.oldest,
                    };
                    let slot = &mut found[cell.step];
                    *slot = Some(slot.map_or(new, |old| Number {
                        value: f64::NAN,
                        oldest: old.oldest.min(new.oldest),
                    }));
                }
                let filled = grid.steps().zip(found);
                Ok(filled
                    .map(|((_, at), found)| found.unwrap_or_else(|| number(f64::NAN, at)))
                    .collect())
            }
        }
    }

    fn scalars(&self, scalars: &[Scalar], grid: Grid) -> Result<Vec<Vec<Number>>, EvalError> {
        scalars
            .iter()
            .map(|scalar| self.scalar(scalar, grid))
            .collect()
    }

    fn vector(&self, vector: &Vector, grid: Grid) -> Result<Vec<Row>, EvalError> {
        if grid.count == 0 {
            return Ok(Vec::new());
        }
        if grid.count > 1 && vector.is_invariant() {
            return self.repeated(vector, grid);
        }
        let rows = match vector {
            Vector::Fault(reason) => return Err(EvalError::Execution(reason.clone())),
            Vector::Select(selector) => self.selected(selector, grid, sampled::Read::Value)?,
            Vector::SampleTimes(selector) => {
                let rows = self.selected(selector, grid, sampled::Read::Time)?;
                return unnamed(rows);
            }
            Vector::Range {
                function,
                over,
                arguments,
            } => self.ranged(*function, over, arguments, grid)?,
            Vector::AbsentOverTime { over, labels } => {
                let mut present = vec![false; grid.count];
                self.each_range_cell(over, grid, &mut |step| present[step] = true)?;
                absent(labels, grid, &present)
            }
            Vector::Absent { of, labels } => {
                let mut present = vec![false; grid.count];
                let rows = self.vector(of, grid)?;
                self.release(&rows);
                for cell in rows.iter().flat_map(|row| &row.cells) {
                    present[cell.step] = true;
                }
                absent(labels, grid, &present)
            }
            Vector::Aggregate {
                operator,
                grouping,
                parameter,
                of,
            } => self.aggregate(*operator, grouping, parameter.as_ref(), of, grid)?,
            Vector::Ranked {
                rank,
                grouping,
                count,
                of,
            } => self.ranked(*rank, grouping, count, of, grid)?,
            Vector::CountValues {
                label,
                grouping,
                of,
            } => self.count_values(label, grouping, of, grid)?,
            Vector::WithScalar {
                operator,
                vector,
                scalar,
                swapped,
                returns_bool,
            } => {
                let (rows, numbers) = (self.vector(vector, grid)?, self.scalar(scalar, grid)?);
                let rows = joined::with_scalar(*operator, rows, &numbers, *swapped, *returns_bool);
                if operator.makes_another_metric() || *returns_bool {
                    return unnamed(rows);
                }
                return Ok(rows);
            }
            Vector::Matched {
                operator,
                left,
                right,
                matching,
                returns_bool,
            } => {
                let (left, right) = (self.vector(left, grid)?, self.vector(right, grid)?);
                self.release(&left);
                self.release(&right);
                self.matched(*operator, matching, *returns_bool, &left, &right, grid)?
            }
            Vector::Set {
                operator,
                left,
                right,
                grouping,
            } => {
                let (left, right) = (self.vector(left, grid)?, self.vector(right, grid)?);
                self.release(&left);
                self.release(&right);
                joined::set(*operator, grouping, left, right)?
            }
            other => return self.mapped(other, grid),
        };
        Ok(rows)
    }

    /// Evaluates at the first step only, and repeats the result.
    fn repeated(&self, vector: &Vector, grid: Grid) -> Result<Vec<Row>, EvalError> {
        let mut rows = self.vector(vector, Grid::once(grid.start))?;
        self.hold(rows.len().saturating_mul(grid.count - 1))?;
        for row in &mut rows {
            let cell = row.cells[0];
            row.cells = (0..grid.count)
                .map(|step| Reading { step, ..cell })
                .collect();
        }
        Ok(rows)
    }
}

/// One element, at the steps where nothing is present.
fn absent(labels: &Labels, grid: Grid, present: &[bool]) -> Vec<Row> {
    let cells: Vec<Reading> = grid
        .steps()
        .filter(|(step, _)| !present[*step])
        .map(|(step, at)| Reading {
            step,
            value: 1.0,
            oldest: Timestamp::from_millis(at),
        })
        .collect();
    if cells.is_empty() {
        return Vec::new();
    }
    vec![Row {
        labels: labels.clone(),
        cells,
    }]
}

/// The rows without their metrics' names.
fn unnamed(mut rows: Vec<Row>) -> Result<Vec<Row>, EvalError> {
    for row in &mut rows {
        row.labels = grouping::without_name(&row.labels);
    }
    merged(rows)
}

/// Rows of the same labels made one, which they can be unless they have values at the same step.
fn merged(rows: Vec<Row>) -> Result<Vec<Row>, EvalError> {
    if rows.len() < 2 {
        return Ok(rows);
    }
    let mut places: HashMap<Labels, usize> = HashMap::with_capacity(rows.len());
    let mut merged: Vec<Row> = Vec::with_capacity(rows.len());
    for row in rows {
        match places.get(&row.labels) {
            None => {
                places.insert(row.labels.clone(), merged.len());
                merged.push(row);
            }
            Some(place) => {
                let cells = &mut merged[*place].cells;
                cells.extend(row.cells);
                cells.sort_by_key(|cell| cell.step);
                if cells.windows(2).any(|pair| pair[0].step == pair[1].step) {
                    return Err(same_labels());
                }
            }
        }
    }
    Ok(merged)
}

fn same_labels() -> EvalError {
    EvalError::Execution("vector cannot contain metrics with the same labelset".to_owned())
}

/// Walks rows step by step.
struct Cursor<'a> {
    rows: &'a [Row],
    next: Vec<usize>,
}

impl<'a> Cursor<'a> {
    fn new(rows: &'a [Row]) -> Self {
        Self {
            rows,
            next: vec![0; rows.len()],
        }
    }

    /// The rows that have a value at `step`, which must be later than in the call before.
    fn at(&mut self, step: usize, found: &mut Vec<(usize, Reading)>) {
        found.clear();
        for (index, (row, next)) in self.rows.iter().zip(&mut self.next).enumerate() {
            if let Some(cell) = row.cells.get(*next)
                && cell.step == step
            {
                *next += 1;
                found.push((index, *cell));
            }
        }
    }
}

/// The samples of one series, or the results of a subquery for one.
struct Track<'a> {
    samples: &'a [Sample],
    /// The oldest sample behind each, where it is not the sample itself.
    oldest: Option<&'a [Timestamp]>,
}

impl<'a> Track<'a> {
    /// Those in `(start, end]`.
    fn between(&self, start: i64, end: i64) -> Track<'a> {
        let place = |time: i64| {
            self.samples
                .partition_point(|sample| sample.timestamp.as_millis() <= time)
        };
        let (from, to) = (place(start), place(end));
        let to = to.max(from);
        Track {
            samples: &self.samples[from..to],
            oldest: self.oldest.map(|oldest| &oldest[from..to]),
        }
    }

    /// The oldest sample behind some of them.
    fn oldest(&self, of: std::ops::Range<usize>) -> Timestamp {
        match self.oldest {
            Some(oldest) => oldest[of].iter().min().copied().unwrap_or_default(),
            None => self.samples[of.start].timestamp,
        }
    }
}
