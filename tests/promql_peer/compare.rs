//! The table's queries on both engines.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use crate::answer::{Answer, Outcome, difference};
use crate::data;
use crate::embedded::Reader;
use crate::era::Era;
use crate::exceptions::EXCEPTIONS;
use crate::prometheus::{PROMETHEUS, Prometheus, Range};
use crate::table::{Case, cases};

/// Instants, in milliseconds from the start of the data: its very start, between two samples, after the end.
const INSTANTS: [i64; 3] = [0, 1_207_300, 2_590_000];
/// Ranges as start, end and step: all of it and what is before and after with a step that meets no rhythm; and at samples.
const RANGES: [[i64; 3]; 2] = [[-30_000, 2_760_000, 97_250], [600_000, 900_000, 15_000]];
/// How many queries are under way at a time.
const AT_ONCE: usize = 4;
/// How many differences are printed.
const SHOWN: usize = 400;

/// When a query is evaluated.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    Instant(i64),
    Range([i64; 3]),
}

impl When {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        INSTANTS
            .map(Self::Instant)
            .into_iter()
            .chain(RANGES.map(Self::Range))
    }

    fn range(era: Era, [start, end, step]: [i64; 3]) -> Range {
        Range {
            start: era.at(start),
            end: era.at(end),
            step: Duration::from_millis(step.unsigned_abs()),
        }
    }
}

/// Both engines with the data of both eras.
pub(crate) struct Engines {
    pub(crate) prometheus: &'static Prometheus,
    readers: [(Era, Reader); 2],
}

impl Engines {
    pub(crate) fn start() -> Self {
        let all = data::generate();
        Self {
            prometheus: &PROMETHEUS,
            readers: Era::ALL.map(|era| (era, Reader(era.place(&all)))),
        }
    }

    /// What Prometheus answers, and what we do.
    pub(crate) async fn ask(&self, query: &str, era: Era, when: When) -> [Outcome; 2] {
        let query = era.text(query);
        let (_, reader) = &self.readers[usize::from(era == Era::Received)];
        match when {
            When::Instant(offset) => {
                let at = era.at(offset);
                [
                    self.prometheus.instant(&query, at).await,
                    reader.instant(&query, at),
                ]
            }
            When::Range(range) => {
                let range = When::range(era, range);
                [
                    self.prometheus.range(&query, range).await,
                    reader.range(&query, range),
                ]
            }
        }
    }
}

/// How one query of the table fared.
#[derive(Default)]
struct Report {
    /// Faults of the table itself.
    table: Vec<String>,
    /// The first difference.
    difference: Option<String>,
    evaluations: usize,
}

async fn report(engines: &Engines, case: &Case) -> Report {
    let mut report = Report::default();
    let (mut gave, mut refused) = (false, false);
    for era in Era::ALL {
        for when in When::all() {
            if case.group.instant && matches!(when, When::Range(_)) {
                continue;
            }
            let [expected, ours] = engines.ask(&case.query, era, when).await;
            report.evaluations += 1;
            match &expected {
                Err(refusal) if !case.group.refused => {
                    report
                        .table
                        .push(format!("Prometheus refuses it: {refusal:?}"));
                }
                Ok(answer) => gave |= !is_empty(answer),
                Err(_) => refused = true,
            }
            if report.difference.is_none() {
                let found = difference(&expected, &ours, case.group.order);
                report.difference = found.map(|text| format!("{era:?} {when:?}: {text}"));
            }
        }
    }
    if case.group.refused && !refused {
        report.table.push("Prometheus answers it".to_owned());
    }
    if !gave && !case.group.refused && !case.group.empty {
        report.table.push("it never gives anything".to_owned());
    }
    report
}

fn is_empty(answer: &Answer) -> bool {
    match answer {
        Answer::Vector(points) => points.is_empty(),
        Answer::Matrix(series) => series.is_empty(),
        Answer::Scalar(_) | Answer::String(_) => false,
    }
}

#[test]
#[ignore = "needs Prometheus: make test"]
fn the_queries_of_the_table_mean_the_same_to_prometheus() {
    let engines = Engines::start();
    let cases = cases();
    let work = stream::iter(&cases).map(async |case| (case, report(&engines, case).await));
    let work = work.buffered(AT_ONCE).collect::<Vec<_>>();
    let reports = engines.prometheus.runtime.block_on(work);

    let exceptions: BTreeMap<&str, &str> = EXCEPTIONS.iter().copied().collect();
    let mut unused: BTreeSet<&str> = exceptions.keys().copied().collect();
    let (mut table_faults, mut faults) = (Vec::new(), Vec::new());
    let mut by_feature: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    let (mut agreed, mut excepted, mut evaluations) = (0, 0, 0);
    for (case, report) in &reports {
        let place = format!(
            "queries.txt:{} [{}] {}",
            case.line, case.group.feature, case.query
        );
        evaluations += report.evaluations;
        let count = by_feature.entry(case.group.feature).or_default();
        count[1] += 1;
        let fault = report
            .table
            .first()
            .map(|text| format!("{place}\n    a fault of the table: {text}"));
        table_faults.extend(fault);
        match (&report.difference, exceptions.get(case.query.as_str())) {
            (Some(_), Some(_)) => {
                excepted += 1;
                unused.remove(case.query.as_str());
            }
            (Some(text), None) => faults.push(format!("{place}\n    {text}")),
            (None, _) => {
                agreed += 1;
                count[0] += 1;
            }
        }
    }
    faults.splice(0..0, table_faults);
    faults.extend(
        unused
            .iter()
            .map(|query| format!("the exception `{query}` is not needed")),
    );
    let total = reports.len();
    let mut summary = format!(
        "{total} queries, {evaluations} evaluations on each engine: {agreed} agree, {excepted} are excepted\n"
    );
    for (feature, [agreed, total]) in by_feature
        .iter()
        .filter(|(_, [agreed, total])| agreed < total)
    {
        summary.push_str(&format!("  {feature}: {agreed} of {total} agree\n"));
    }
    for (query, reason) in EXCEPTIONS {
        summary.push_str(&format!("  excepted: {query}: {reason}\n"));
    }
    eprintln!("{summary}");
    let shown = faults
        .iter()
        .take(SHOWN)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join("\n");
    assert!(
        faults.is_empty(),
        "{} faults:\n{shown}\n{summary}",
        faults.len()
    );
}
