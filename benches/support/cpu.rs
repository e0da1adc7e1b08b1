//! How much CPU a process takes.

use std::fmt::Display;
use std::time::Duration;

/// What a process, by its number or `self`, has used.
pub(crate) fn cpu_time(process: impl Display) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("Linux");
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest);
    let ticks = fields.map(|rest| {
        let numbers = rest.split_whitespace().skip(11).take(2);
        numbers.filter_map(|it| it.parse::<u64>().ok()).sum::<u64>()
    });
    Duration::from_millis(ticks.expect("two numbers") * 10)
}
