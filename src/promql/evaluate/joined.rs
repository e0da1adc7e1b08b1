//! Operators between two vectors, and between a vector and a number.

use std::collections::{HashMap, HashSet};

use crate::model::labels::Labels;
use crate::promql::EvalError;
use crate::promql::binary::{Many, Matching, Operator, SetOperator};
use crate::promql::grouping::{Grouping, is_metadata, with_label, written};

use super::{Cursor, Evaluation, Grid, Number, Reading, Row, merged, same_labels};

/// Each element with the number of its step. Names are left as they are.
pub(super) fn with_scalar(
    operator: Operator,
    mut rows: Vec<Row>,
    numbers: &[Number],
    swapped: bool,
    returns_bool: bool,
) -> Vec<Row> {
    for row in &mut rows {
        row.cells.retain_mut(|cell| {
            let number = numbers[cell.step];
            let (left, right) = if swapped {
                (number.value, cell.value)
            } else {
                (cell.value, number.value)
            };
            cell.oldest = cell.oldest.min(number.oldest);
            if operator.is_comparison() && !returns_bool {
                // The element's value stays, on whichever side it stands.
                return operator.holds(left, right);
            }
            cell.value = operator.between(left, right);
            true
        });
    }
    rows.retain(|row| !row.cells.is_empty());
    rows
}

/// Numbers the match groups that rows of both sides belong to.
fn signatures(grouping: &Grouping, left: &[Row], right: &[Row]) -> (Vec<usize>, Vec<usize>, usize) {
    let mut known: HashMap<Labels, usize> = HashMap::new();
    let mut number = |row: &Row| {
        let next = known.len();
        *known.entry(grouping.labels(&row.labels)).or_insert(next)
    };
    let left = left.iter().map(&mut number).collect();
    let right = right.iter().map(&mut number).collect();
    (left, right, known.len())
}

/// `and`, `or`, `unless`.
pub(super) fn set(
    operator: SetOperator,
    grouping: &Grouping,
    mut left: Vec<Row>,
    mut right: Vec<Row>,
) -> Result<Vec<Row>, EvalError> {
    let (left_groups, right_groups, groups) = signatures(grouping, &left, &right);
    let present = |rows: &[Row], numbers: &[usize]| {
        let mut present = HashSet::new();
        for (row, group) in rows.iter().zip(numbers) {
            present.extend(row.cells.iter().map(|cell| cell.step * groups + group));
        }
        present
    };
    let keep = |rows: &mut Vec<Row>, numbers: &[usize], others: &HashSet<usize>, wanted: bool| {
        for (row, group) in rows.iter_mut().zip(numbers) {
            row.cells
                .retain(|cell| others.contains(&(cell.step * groups + group)) == wanted);
        }
        rows.retain(|row| !row.cells.is_empty());
    };
    match operator {
        SetOperator::And => keep(
            &mut left,
            &left_groups,
            &present(&right, &right_groups),
            true,
        ),
        SetOperator::Unless => {
            keep(
                &mut left,
                &left_groups,
                &present(&right, &right_groups),
                false,
            );
        }
        SetOperator::Or => {
            keep(
                &mut right,
                &right_groups,
                &present(&left, &left_groups),
                false,
            );
            left.append(&mut right);
            return merged(left);
        }
    }
    Ok(left)
}

/// The rows that come out of an operation, by their labels.
#[derive(Default)]
struct Results {
    places: HashMap<Labels, usize>,
    rows: Vec<Row>,
}

impl Results {
    fn place(&mut self, labels: Labels) -> usize {
        let next = self.rows.len();
        let place = *self.places.entry(labels.clone()).or_insert(next);
        if place == next {
            self.rows.push(Row {
                labels,
                cells: Vec::new(),
            });
        }
        place
    }
}

impl Evaluation<'_> {
    /// An arithmetic or comparison operator between the elements that match.
    pub(super) fn matched(
        &self,
        operator: Operator,
        matching: &Matching,
        returns_bool: bool,
        left: &[Row],
        right: &[Row],
        grid: Grid,
    ) -> Result<Vec<Row>, EvalError> {
        // From here on `one` has one element per match, and `many` may have several.
        let swapped = matching.many == Many::Right;
        let (many, one) = if swapped {
            (right, left)
        } else {
            (left, right)
        };
        let (many_groups, one_groups, groups) = signatures(&matching.by, many, one);
        let drops_name = operator.makes_another_metric() || returns_bool;
        let mut results = Results::default();
        let mut pairs: HashMap<(usize, usize), usize> = HashMap::new();
        let (mut many_cursor, mut one_cursor) = (Cursor::new(many), Cursor::new(one));
        let (mut many_found, mut one_found) = (Vec::new(), Vec::new());
        let mut partner: Vec<Option<(usize, Reading)>> = vec![None; groups];
        let mut is_matched = vec![false; groups];
        let mut produced: HashSet<(usize, usize)> = HashSet::new();
        for (step, _) in grid.steps() {
            self.tick()?;
            many_cursor.at(step, &mut many_found);
            one_cursor.at(step, &mut one_found);
            if many_found.is_empty() || one_found.is_empty() {
                continue;
            }
            partner.fill(None);
            is_matched.fill(false);
            produced.clear();
            for (row, reading) in &one_found {
                let slot = &mut partner[one_groups[*row]];
                if let Some((other, _)) = slot {
                    let pair = [&one[*row].labels, &one[*other].labels];
                    return Err(ambiguous(matching, swapped, pair));
                }
                *slot = Some((*row, *reading));
            }
            for (row, reading) in &many_found {
                let group = many_groups[*row];
                let Some((other, other_reading)) = partner[group] else {
                    continue;
                };
                let place = *pairs.entry((*row, other)).or_insert_with(|| {
                    let labels =
                        result_labels(&many[*row].labels, &one[other].labels, matching, drops_name);
                    results.place(labels)
                });
                if matching.many == Many::Neither {
                    if std::mem::replace(&mut is_matched[group], true) {
                        return Err(EvalError::Execution(
                            "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
                                .to_owned(),
                        ));
                    }
                } else if !produced.insert((group, place)) {
                    return Err(EvalError::Execution(
                        "multiple matches for labels: grouping labels must ensure unique matches"
                            .to_owned(),
                    ));
                }
                let (left, right) = if swapped {
                    (other_reading.value, reading.value)
                } else {
                    (reading.value, other_reading.value)
                };
                let value = if !operator.is_comparison() || returns_bool {
                    operator.between(left, right)
                } else if operator.holds(left, right) {
                    left
                } else {
                    continue;
                };
                let cells = &mut results.rows[place].cells;
                if cells.last().is_some_and(|cell| cell.step == step) {
                    return Err(same_labels());
                }
                self.hold(1)?;
                cells.push(Reading {
                    step,
                    value,
                    oldest: reading.oldest.min(other_reading.oldest),
                });
            }
        }
        results.rows.retain(|row| !row.cells.is_empty());
        Ok(results.rows)
    }
}

/// The labels of the result for a pair.
fn result_labels(many: &Labels, one: &Labels, matching: &Matching, drops_name: bool) -> Labels {
    let is_pair = matching.many == Many::Neither;
    let mut labels = many.filtered(|name| {
        let is_named = match &matching.by {
            Grouping::By(names) => !is_pair || names.iter().any(|kept| kept == name),
            Grouping::Without(names) => !is_pair || !names.iter().any(|dropped| dropped == name),
        };
        is_named && !(drops_name && is_metadata(name))
    });
    for name in &matching.include {
        labels = with_label(&labels, name, one.value(name));
    }
    labels
}

fn ambiguous(matching: &Matching, swapped: bool, pair: [&Labels; 2]) -> EvalError {
    let side = if swapped { "left" } else { "right" };
    let [one, other] = pair;
    EvalError::Execution(format!(
        "found duplicate series for the match group {} on the {side} hand-side of the operation: [{}, {}]\
         ;many-to-many matching not allowed: matching labels must be unique on one side",
        written(&matching.by.labels(one)),
        written(one),
        written(other)
    ))
}
