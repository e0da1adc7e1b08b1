//! The table's queries on both engines.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, stream};

use crate::engines::{Engines, When};
use crate::era::Era;
use crate::exceptions::EXCEPTIONS;
use crate::table::{Case, cases};

/// The very start of the data; between two samples; after the end, while the last samples still count. Then all of it, with
/// what is before and after, in steps that meet no rhythm; and at samples.
const TIMES: [When; 5] = [
    When::Instant(0),
    When::Instant(1_207_300),
    When::Instant(2_590_000),
    When::Range([-30_000, 2_760_000, 97_250]),
    When::Range([600_000, 900_000, 15_000]),
];
/// How many queries are under way at a time.
const AT_ONCE: usize = 4;
/// How many faults are printed.
const SHOWN: usize = 400;

/// How one query of the table fared.
#[derive(Default)]
struct Report {
    evaluations: usize,
    /// Prometheus gave a value at some time that is not empty.
    gave: bool,
    /// Prometheus refused it at some time.
    refused: Option<String>,
    /// The first difference.
    difference: Option<String>,
}

async fn report(engines: &Engines, case: &Case) -> Report {
    let mut report = Report::default();
    let asked = |when: &When| !case.group.instant || matches!(when, When::Instant(_));
    for era in Era::ALL {
        for when in TIMES.into_iter().filter(asked) {
            let (expected, difference) = engines
                .compare(&case.query, case.group.order, era, when)
                .await;
            report.evaluations += 1;
            match expected {
                Ok(answer) => report.gave |= !answer.is_empty(),
                Err(refusal) => report.refused = Some(format!("{refusal:?}")),
            }
            report.difference = report.difference.or(difference);
        }
    }
    report
}

/// Where the table is not what its headings say: then a query does not test what it seems to.
fn faults_of_the_table(reports: &[(&Case, Report)]) -> Vec<String> {
    let mut faults = Vec::new();
    for (case, report) in reports {
        match &report.refused {
            Some(refusal) if !case.group.refused => {
                faults.push(format!("{case}\n    Prometheus refuses it: {refusal}"));
            }
            None if case.group.refused => faults.push(format!("{case}\n    Prometheus answers it")),
            _ => {}
        }
        if case.group.empty && report.gave {
            faults.push(format!("{case}\n    is not always empty"));
        }
    }
    for line in reports.chunk_by(|(a, _), (b, _)| a.line == b.line) {
        let (case, _) = line[0];
        let expected = !case.group.empty && !case.group.refused;
        if expected && !line.iter().any(|(_, report)| report.gave) {
            faults.push(format!("{case}\n    never gives anything"));
        }
    }
    faults
}

#[test]
#[ignore = "needs Prometheus: make test"]
fn the_queries_of_the_table_mean_the_same_to_prometheus() {
    let engines = Engines::start();
    let cases = cases();
    let work = stream::iter(&cases).map(async |case| (case, report(&engines, case).await));
    let work = work.buffered(AT_ONCE).collect::<Vec<_>>();
    let reports = engines.prometheus.runtime.block_on(work);

    let mut faults = faults_of_the_table(&reports);
    let exceptions: BTreeSet<&str> = EXCEPTIONS.iter().map(|(query, _)| *query).collect();
    let mut unneeded = exceptions.clone();
    let mut by_feature: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    let (mut agreed, mut excepted, mut evaluations) = (0, 0, 0);
    for (case, report) in &reports {
        let [same, total] = by_feature.entry(case.group.feature).or_default();
        *total += 1;
        evaluations += report.evaluations;
        match &report.difference {
            None => {
                agreed += 1;
                *same += 1;
            }
            Some(_) if exceptions.contains(case.query.as_str()) => {
                excepted += 1;
                unneeded.remove(case.query.as_str());
            }
            Some(text) => faults.push(format!("{case}\n    {text}")),
        }
    }
    for query in unneeded {
        faults.push(format!("the exception `{query}` is not needed"));
    }

    let mut summary = format!(
        "{} queries, {evaluations} evaluations on each engine: {agreed} agree, {excepted} are excepted\n",
        reports.len()
    );
    for (feature, [same, total]) in by_feature {
        if same < total {
            summary.push_str(&format!("  {feature}: {same} of {total} agree\n"));
        }
    }
    for (query, reason) in EXCEPTIONS {
        summary.push_str(&format!("  excepted: {query}: {reason}\n"));
    }
    eprintln!("{summary}");
    let shown = &faults[..faults.len().min(SHOWN)];
    assert!(
        faults.is_empty(),
        "{} faults:\n{}\n{summary}",
        faults.len(),
        shown.join("\n")
    );
}
