//! Aggregations over groups of elements.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::BuildHasher;

use foldhash::quality::RandomState;

use crate::model::labels::Labels;
use crate::promql::EvalError;
use crate::promql::aggregate::{Group, Operator, Rank};
use crate::promql::grouping::{Grouping, is_metadata, with_label};
use crate::promql::plan::{RangeSource, Scalar, Selector, Vector};

use super::sampled::{Read, Visit};
use super::{Cursor, Evaluation, Grid, Number, Reading, Row, merged};

/// Numbers the groups that elements belong to, in the order in which they come up.
struct Groups<'g> {
    grouping: &'g Grouping,
    state: RandomState,
    places: HashMap<u64, usize, Hashed>,
    labels: Vec<Labels>,
}

/// For keys that are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct Hashed(u64);

impl BuildHasher for Hashed {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

impl std::hash::Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

impl<'g> Groups<'g> {
    fn new(grouping: &'g Grouping) -> Self {
        Self {
            grouping,
            state: RandomState::default(),
            places: HashMap::default(),
            labels: Vec::new(),
        }
    }

    fn place(&mut self, labels: &Labels) -> usize {
        let mut hash = self.grouping.hash(labels, self.state.build_hasher());
        loop {
            match self.places.get(&hash) {
                Some(place) if self.grouping.is_group(&self.labels[*place], labels) => {
                    return *place;
                }
                // Another group with the same hash.
                Some(_) => hash = hash.wrapping_add(1),
                None => {
                    let place = self.labels.len();
                    self.places.insert(hash, place);
                    self.labels.push(self.grouping.labels(labels));
                    return place;
                }
            }
        }
    }
}

impl Evaluation<'_> {
    /// Calls `visit` with each row of a vector that is to be grouped. What comes straight from samples is not made a
    /// vector before.
    fn each_row(
        &self,
        vector: &Vector,
        grouping: &Grouping,
        grid: Grid,
        visit: &mut Visit<'_>,
    ) -> Result<(), EvalError> {
        // A function's result has no name any more. That can be left out where nothing shows it.
        let hides_name =
            matches!(grouping, Grouping::By(names) if !names.iter().any(|name| is_metadata(name)));
        let repeats = grid.count > 1 && vector.is_invariant();
        match vector {
            Vector::Select(selector) if !repeats => {
                self.each_selected(selector, grid, Read::Value, visit)
            }
            Vector::Range {
                function,
                over,
                arguments,
            } if !repeats
                && hides_name
                && matches!(&over.source, RangeSource::Samples(matchers) if Selector::pins_name(matchers)) =>
            {
                self.each_ranged(*function, over, arguments, grid, visit)
            }
            _ => {
                let rows = self.vector(vector, grid)?;
                self.release(&rows);
                rows.iter()
                    .try_for_each(|row| visit(&row.labels, &row.cells))
            }
        }
    }

    pub(super) fn aggregate(
        &self,
        operator: Operator,
        grouping: &Grouping,
        parameter: Option<&Scalar>,
        of: &Vector,
        grid: Grid,
    ) -> Result<Vec<Row>, EvalError> {
        let parameters = parameter
            .map(|scalar| self.scalar(scalar, grid))
            .transpose()?;
        let mut groups = Groups::new(grouping);
        // One run of steps per group.
        let mut states: Vec<Option<Group>> = Vec::new();
        self.each_row(of, grouping, grid, &mut |labels, readings| {
            let start = groups.place(labels) * grid.count;
            if start == states.len() {
                self.hold(grid.count)?;
                states.extend(std::iter::repeat_with(|| None).take(grid.count));
            }
            for reading in readings {
                match &mut states[start + reading.step] {
                    Some(group) => group.add(reading.value, reading.oldest),
                    empty => *empty = Some(Group::new(operator, reading.value, reading.oldest)),
                }
            }
            Ok(())
        })?;
        let mut states = states.into_iter();
        let row = |labels: Labels| {
            let cell = |(step, state): (usize, Option<Group>)| {
                let number = parameters.as_ref().map(|numbers| numbers[step]);
                let (value, oldest) = state?.finish(number.map_or(f64::NAN, |number| number.value));
                Some(Reading {
                    step,
                    value,
                    oldest,
                })
            };
            Row {
                labels,
                cells: states
                    .by_ref()
                    .take(grid.count)
                    .enumerate()
                    .filter_map(cell)
                    .collect(),
            }
        };
        Ok(groups.labels.into_iter().map(row).collect())
    }

    pub(super) fn ranked(
        &self,
        rank: Rank,
        grouping: &Grouping,
        count: &Scalar,
        of: &Vector,
        grid: Grid,
    ) -> Result<Vec<Row>, EvalError> {
        let counts = self.scalar(count, grid)?;
        let mut rows = self.vector(of, grid)?;
        self.release(&rows);
        if !check_counts(&counts)? {
            return Ok(Vec::new());
        }
        // So that the choice among equals is always the same.
        rows.sort_by(|a, b| a.labels.cmp(&b.labels));
        let mut groups = Groups::new(grouping);
        let places: Vec<usize> = rows.iter().map(|row| groups.place(&row.labels)).collect();
        let mut kept: Vec<Row> = rows
            .iter()
            .map(|row| Row {
                labels: row.labels.clone(),
                cells: Vec::new(),
            })
            .collect();
        let mut order = Vec::new();
        let mut cursor = Cursor::new(&rows);
        let mut found = Vec::new();
        let mut members: Vec<Vec<(usize, Reading)>> = vec![Vec::new(); groups.labels.len()];
        for (step, _) in grid.steps() {
            self.tick()?;
            cursor.at(step, &mut found);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a count below one is zero, and one that is too large is cut"
            )]
            let limit = counts[step].value as usize;
            for (row, reading) in found.drain(..) {
                members[places[row]].push((row, reading));
            }
            for group in &mut members {
                if rank != Rank::Any {
                    group.sort_by(|a, b| ranking(rank, a.1.value, b.1.value));
                }
                for (row, reading) in group.drain(..).take(limit) {
                    if kept[row].cells.is_empty() {
                        order.push(row);
                    }
                    kept[row].cells.push(reading);
                }
            }
        }
        self.hold(kept.iter().map(|row| row.cells.len()).sum())?;
        // Best first within each group, which an instant query shows.
        let mut kept: Vec<Option<Row>> = kept.into_iter().map(Some).collect();
        Ok(order
            .into_iter()
            .filter_map(|row| kept[row].take())
            .collect())
    }

    pub(super) fn count_values(
        &self,
        label: &str,
        grouping: &Grouping,
        of: &Vector,
        grid: Grid,
    ) -> Result<Vec<Row>, EvalError> {
        let rows = self.vector(of, grid)?;
        self.release(&rows);
        let mut groups = Groups::new(grouping);
        let mut counted: Vec<Row> = Vec::new();
        let mut cursor = Cursor::new(&rows);
        let mut found = Vec::new();
        for (step, _) in grid.steps() {
            self.tick()?;
            cursor.at(step, &mut found);
            for (row, reading) in &found {
                let labels = with_label(&rows[*row].labels, label, &number_text(reading.value));
                let place = groups.place(&labels);
                if place == counted.len() {
                    counted.push(Row {
                        labels: groups.labels[place].clone(),
                        cells: Vec::new(),
                    });
                }
                let cells = &mut counted[place].cells;
                match cells.last_mut().filter(|cell| cell.step == step) {
                    Some(cell) => {
                        cell.value += 1.0;
                        cell.oldest = cell.oldest.min(reading.oldest);
                    }
                    None => {
                        self.hold(1)?;
                        cells.push(Reading {
                            step,
                            value: 1.0,
                            oldest: reading.oldest,
                        });
                    }
                }
            }
        }
        merged(counted)
    }
}

/// Best first; NaN last either way.
fn ranking(rank: Rank, a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) => {
            let ascending = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
            if rank == Rank::Top {
                ascending.reverse()
            } else {
                ascending
            }
        }
        (a, b) => a.cmp(&b),
    }
}

/// Whether any element is wanted at all.
fn check_counts(counts: &[Number]) -> Result<bool, EvalError> {
    let wanted = || counts.iter().map(|number| number.value);
    let (least, most) = (
        wanted().fold(f64::INFINITY, f64::min),
        wanted().fold(f64::NEG_INFINITY, f64::max),
    );
    #[expect(clippy::cast_precision_loss, reason = "the limits are Prometheus's")]
    let (lowest, highest) = (i64::MIN as f64, i64::MAX as f64);
    let refused = if wanted().any(f64::is_nan) {
        "Parameter value is NaN".to_owned()
    } else if most < 1.0 {
        return Ok(false);
    } else if least <= lowest {
        format!("Scalar value {least} underflows int64")
    } else if most >= highest {
        format!("Scalar value {most} overflows int64")
    } else {
        return Ok(true);
    };
    Err(EvalError::Execution(refused))
}

/// As Go writes a number without an exponent.
fn number_text(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    value.to_string()
}
