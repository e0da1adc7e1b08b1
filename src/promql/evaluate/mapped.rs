//! Functions that take a vector's elements one by one, or only rename or order them.

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::model::labels::Labels;
use crate::model::time::Timestamp;
use crate::promql::EvalError;
use crate::promql::grouping::{is_metadata, with_label};
use crate::promql::histogram::{self, Bucket};
use crate::promql::math;
use crate::promql::natural;
use crate::promql::plan::{MapFunction, SortKey, Vector};
use crate::promql::range::seconds;
use crate::promql::sum::{max, min};

use super::{Cursor, Evaluation, Grid, Number, Reading, Row, merged, unnamed};

/// The label that holds a bucket's upper bound.
const BOUND: &str = "le";

impl Evaluation<'_> {
    pub(super) fn mapped(&self, vector: &Vector, grid: Grid) -> Result<Vec<Row>, EvalError> {
        match vector {
            Vector::Map {
                function,
                of,
                arguments,
            } => {
                let arguments = self.scalars(arguments, grid)?;
                let mut rows = self.vector(of, grid)?;
                for row in &mut rows {
                    row.cells.retain_mut(|cell| {
                        let argument =
                            |index: usize| arguments.get(index).map(|all| all[cell.step]);
                        map(*function, cell.value, argument).is_some_and(|value| {
                            cell.value = value;
                            true
                        })
                    });
                }
                rows.retain(|row| !row.cells.is_empty());
                unnamed(rows)
            }
            Vector::Times(of) => {
                let mut rows = self.vector(of, grid)?;
                for cell in rows.iter_mut().flat_map(|row| &mut row.cells) {
                    cell.value = seconds(grid.at(cell.step));
                }
                unnamed(rows)
            }
            Vector::Constant(scalar) => Ok(vec![Row::constant(&self.scalar(scalar, grid)?)]),
            Vector::Today(part) => {
                let now = |(_, at): (usize, i64)| Number {
                    value: part.of(seconds(at).floor()),
                    oldest: Timestamp::from_millis(at),
                };
                Ok(vec![Row::constant(
                    &grid.steps().map(now).collect::<Vec<Number>>(),
                )])
            }
            Vector::HistogramQuantile { quantile, of } => {
                let quantiles = self.scalar(quantile, grid)?;
                let rows = self.vector(of, grid)?;
                self.release(&rows);
                self.histogram_quantile(&quantiles, &rows, grid)
            }
            Vector::LabelReplace {
                of,
                target,
                replacement,
                source,
                pattern,
            } => {
                let mut rows = self.vector(of, grid)?;
                for row in &mut rows {
                    if let Some(captures) = pattern.captures(row.labels.value(source)) {
                        let mut value = String::new();
                        captures.expand(replacement, &mut value);
                        row.labels = with_label(&row.labels, target, &value);
                    }
                }
                merged(rows)
            }
            Vector::LabelJoin {
                of,
                target,
                separator,
                sources,
            } => {
                let mut rows = self.vector(of, grid)?;
                for row in &mut rows {
                    let values: Vec<&str> = sources
                        .iter()
                        .map(|source| row.labels.value(source))
                        .collect();
                    row.labels = with_label(&row.labels, target, &values.join(separator));
                }
                merged(rows)
            }
            Vector::Sort { of, by, descending } => {
                let mut rows = self.vector(of, grid)?;
                // A range's series come in the order of their labels, whatever the query says.
                if grid.count == 1 {
                    sort(&mut rows, by, *descending);
                }
                Ok(rows)
            }
            _ => Ok(Vec::new()),
        }
    }

    fn histogram_quantile(
        &self,
        quantiles: &[Number],
        rows: &[Row],
        grid: Grid,
    ) -> Result<Vec<Row>, EvalError> {
        let bound = |row: &Row| parse_bound(row.labels.value(BOUND));
        let bounds: Vec<Option<f64>> = rows.iter().map(bound).collect();
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut results: Vec<Row> = Vec::new();
        let place = |row: &Row| {
            let next = places.len();
            let of_histogram = row.labels.filtered(|name| name != BOUND);
            let place = *places.entry(of_histogram).or_insert(next);
            if place == results.len() {
                results.push(Row {
                    labels: row
                        .labels
                        .filtered(|name| name != BOUND && !is_metadata(name)),
                    cells: Vec::new(),
                });
            }
            place
        };
        let histograms: Vec<usize> = rows.iter().map(place).collect();
        let mut buckets: Vec<(Vec<Bucket>, Timestamp)> =
            vec![(Vec::new(), Timestamp::default()); results.len()];
        let (mut cursor, mut found) = (Cursor::new(rows), Vec::new());
        for (step, _) in grid.steps() {
            self.tick()?;
            cursor.at(step, &mut found);
            for (all, oldest) in &mut buckets {
                all.clear();
                *oldest = quantiles[step].oldest;
            }
            for (row, reading) in &found {
                if let Some(bound) = bounds[*row] {
                    let (all, oldest) = &mut buckets[histograms[*row]];
                    *oldest = reading.oldest.min(*oldest);
                    all.push(Bucket {
                        bound,
                        count: reading.value,
                    });
                }
            }
            for ((all, oldest), result) in buckets.iter_mut().zip(&mut results) {
                if !all.is_empty() {
                    self.hold(1)?;
                    result.cells.push(Reading {
                        step,
                        value: histogram::quantile(quantiles[step].value, all),
                        oldest: *oldest,
                    });
                }
            }
        }
        results.retain(|row| !row.cells.is_empty());
        merged(results)
    }
}

/// Go's `strconv.ParseFloat`, as far as bounds of buckets are concerned.
fn parse_bound(text: &str) -> Option<f64> {
    let bound: f64 = text.parse().ok()?;
    (!bound.is_nan()).then_some(bound)
}

/// The new value; `None` where the element goes.
fn map(
    function: MapFunction,
    value: f64,
    argument: impl Fn(usize) -> Option<Number>,
) -> Option<f64> {
    let argument = |index| argument(index).map_or(f64::NAN, |number| number.value);
    Some(match function {
        MapFunction::Math(function) => function(value),
        MapFunction::Date(part) => part.of(value.trunc()),
        MapFunction::Clamp => {
            let (least, most) = (argument(0), argument(1));
            if most < least {
                return None;
            }
            max(least, min(most, value))
        }
        MapFunction::ClampMin => max(argument(0), value),
        MapFunction::ClampMax => min(argument(0), value),
        MapFunction::Round => math::round(value, argument(0)),
    })
}

fn sort(rows: &mut [Row], by: &SortKey, descending: bool) {
    let directed = |order: Ordering| if descending { order.reverse() } else { order };
    match by {
        SortKey::Value => rows.sort_by(|a, b| {
            let (a, b) = (a.cells[0].value, b.cells[0].value);
            match (a.is_nan(), b.is_nan()) {
                (false, false) => directed(a.partial_cmp(&b).unwrap_or(Ordering::Equal)),
                // NaN last either way.
                (a, b) => a.cmp(&b),
            }
        }),
        SortKey::Labels(names) => rows.sort_by(|a, b| {
            let by_name = names
                .iter()
                .map(|name| natural::compare(a.labels.value(name), b.labels.value(name)))
                .find(|order| order.is_ne());
            directed(by_name.unwrap_or_else(|| a.labels.cmp(&b.labels)))
        }),
    }
}
