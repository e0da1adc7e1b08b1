//! What Linux tells of a process: how much CPU and memory it takes.

use std::fmt::Display;
use std::time::Duration;

/// What a process, by its number or `self`, has used.
pub(crate) fn cpu_time(process: impl Display) -> Duration {
    // proc_pid_stat(5): the name stands in parentheses, and hundredths of a second in user and in kernel mode after eleven more fields.
    let stat = read(process, "stat");
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest);
    let ticks = fields.map(|rest| {
        let numbers = rest.split_whitespace().skip(11).take(2);
        numbers.filter_map(|it| it.parse::<u64>().ok()).sum::<u64>()
    });
    Duration::from_millis(ticks.expect("two numbers") * 10)
}

/// A size in bytes from a process's `status`: `VmRSS`, what is resident, or `VmHWM`, the most that ever was.
pub(crate) fn memory(process: impl Display, field: &str) -> usize {
    let status = read(process, "status");
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok());
    kib.expect("a number of kB") << 10
}

fn read(process: impl Display, file: &str) -> String {
    std::fs::read_to_string(format!("/proc/{process}/{file}")).expect("Linux, and it runs")
}
