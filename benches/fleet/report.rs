//! The table of a run, and what it says of the bounds that are promised.

use std::time::Duration;

use crate::INTERVAL;
use crate::contestants::{Contestant, Reading};
use crate::processes::Memory;
use crate::simulator::Asked;

const MIB: f64 = 1_048_576.0;

/// One contestant's time on the fleet.
pub(crate) struct Row {
    pub(crate) contestant: Contestant,
    pub(crate) measured: Measured,
}

#[derive(Debug)]
pub(crate) struct Measured {
    /// What the fleet was asked.
    pub(crate) asked: Asked,
    pub(crate) before: Reading,
    pub(crate) after: Reading,
    pub(crate) idle: Option<Memory>,
    pub(crate) wall: Duration,
    /// CPU seconds of the fleet itself.
    pub(crate) fleet_cpu: f64,
}

impl Measured {
    fn cpu(&self) -> f64 {
        self.after.cpu - self.before.cpu
    }

    /// CPU seconds for a million samples that the fleet served.
    #[expect(clippy::cast_precision_loss, reason = "a count far below 2^53")]
    fn cost(&self) -> f64 {
        self.cpu() / (self.asked.samples as f64 / 1e6)
    }

    fn cores(&self) -> f64 {
        self.cpu() / self.wall.as_secs_f64()
    }

    fn bytes_per_series(&self) -> Option<f64> {
        Some((self.after.memory.resident - self.idle?.resident) / self.after.series)
    }
}

/// Prints the table of all rows, and each bound with what came out.
pub(crate) fn print(title: &str, rows: &[Row]) {
    println!("\n{title}, every {} s, plain HTTP\n", INTERVAL.as_secs());
    println!(
        "| scraper | CPU s / million samples | cores | resident MiB | peak | Pss | anonymous | samples served | samples taken | \
         series | bytes a series | scrapes | missed | early | failed | fleet's cores |"
    );
    println!("|{}", " --- |".repeat(16));
    for Row {
        contestant,
        measured,
    } in rows
    {
        let memory = measured.after.memory;
        println!(
            "| {} | {:.2} | {:.3} | {:.0} | {:.0} | {:.0} | {:.0} | {} | {} | {} | {} | {} | {} | {} | {} | {:.2} |",
            contestant.name(),
            measured.cost(),
            measured.cores(),
            memory.resident / MIB,
            memory.peak / MIB,
            memory.proportional / MIB,
            memory.anonymous / MIB,
            measured.asked.samples,
            measured.after.samples - measured.before.samples,
            measured.after.series,
            measured
                .bytes_per_series()
                .map_or("-".to_owned(), |it| format!("{it:.0}")),
            measured.asked.scrapes,
            measured.asked.missed,
            measured.asked.extra,
            measured.after.failed - measured.before.failed,
            measured.fleet_cpu / measured.wall.as_secs_f64(),
        );
    }
    println!();
    let of = |contestant| {
        rows.iter()
            .find(|row| row.contestant == contestant)
            .map(|row| &row.measured)
    };
    let (prometheus, victoria) = (of(Contestant::Prometheus), of(Contestant::VictoriaMetrics));
    let (all, needed) = (of(Contestant::Adapter), of(Contestant::AdapterNeeded));
    let memory = |it: &Measured| it.after.memory.resident;
    bound(
        "every series, CPU of Prometheus's",
        all,
        prometheus,
        Measured::cost,
        1.0 / 4.0,
    );
    bound(
        "every series, CPU of VictoriaMetrics's",
        all,
        victoria,
        Measured::cost,
        2.0 / 5.0,
    );
    bound(
        "every series, memory of VictoriaMetrics's",
        all,
        victoria,
        memory,
        1.0 / 2.0,
    );
    bound(
        "needed series, CPU of Prometheus's",
        needed,
        prometheus,
        Measured::cost,
        1.0 / 20.0,
    );
    bound(
        "needed series, memory of Prometheus's",
        needed,
        prometheus,
        memory,
        1.0 / 20.0,
    );
    if let Some(needed) = needed {
        println!(
            "needed series: {:.3} cores (at most 1), {:.0} MiB peak (at most 1024), {} scrapes missed (none)",
            needed.cores(),
            needed.after.memory.peak / MIB,
            needed.asked.missed
        );
    }
}

fn bound(
    what: &str,
    ours: Option<&Measured>,
    theirs: Option<&Measured>,
    of: impl Fn(&Measured) -> f64,
    most: f64,
) {
    if let (Some(ours), Some(theirs)) = (ours, theirs) {
        let share = of(ours) / of(theirs);
        let verdict = if share <= most {
            "holds"
        } else {
            "does not hold"
        };
        println!("{what}: {share:.3} (at most {most:.3}: {verdict})");
    }
}
