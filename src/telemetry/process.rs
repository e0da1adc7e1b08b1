//! Figures of the process, as the kernel has them, under the names that every client library of Prometheus gives them.

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::Encoder;

/// Ticks a second in `/proc/PID/stat` (`USER_HZ`, proc(5)): 100 on all that Rust's standard library runs on.
const TICKS: f64 = 100.0;

/// Reads `/proc/self` when it is asked. What cannot be read is left out.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut encoder = Encoder(&mut encoder);
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        if let Some((ticks, started)) = times(&stat) {
            let cpu = ConstCounter::new(ticks / TICKS);
            let help = "User and system CPU time spent";
            encoder.with_unit("process_cpu", help, Some(&Unit::Seconds), &cpu)?;
            if let Some(boot) = boot_time() {
                let start = ConstGauge::new(boot + started / TICKS);
                let help = "When the process started, since the Unix epoch";
                encoder.with_unit("process_start_time", help, Some(&Unit::Seconds), &start)?;
            }
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        for (key, name, help) in [
            ("VmRSS:", "process_resident_memory", "Resident memory"),
            ("VmSize:", "process_virtual_memory", "Virtual memory"),
        ] {
            if let Some(kilobytes) = after(&status, key) {
                let bytes = ConstGauge::new(kilobytes.saturating_mul(1024));
                encoder.with_unit(name, help, Some(&Unit::Bytes), &bytes)?;
            }
        }
        if let Some(threads) = after(&status, "Threads:") {
            encoder.with_unit(
                "process_threads",
                "Threads",
                None,
                &ConstGauge::new(threads),
            )?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // The one that reads them is among them.
            let open = i64::try_from(open.count()).unwrap_or(i64::MAX) - 1;
            encoder.with_unit(
                "process_open_fds",
                "Open files",
                None,
                &ConstGauge::new(open),
            )?;
        }
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        if let Some(most) = after(&limits, "Max open files") {
            let help = "Most files that may be open";
            encoder.with_unit("process_max_fds", help, None, &ConstGauge::new(most))?;
        }
        Ok(())
    }
}

/// CPU time, and when the process started after the machine did, in ticks: fields 14 and 15, and 22 (proc_pid_stat(5)).
fn times(stat: &str) -> Option<(f64, f64)> {
    // The name of the program, field 2, may hold anything; the last bracket ends it.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    Some((field(14)? + field(15)?, field(22)?))
}

/// When the machine started, in seconds since the Unix epoch.
fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    #[expect(clippy::cast_precision_loss, reason = "seconds of our time")]
    after(&stat, "btime").map(|seconds| seconds as f64)
}

/// The number behind `key`, which begins a line.
fn after(text: &str, key: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_be_called_anything() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 3 0 1234 9 9";
        assert_eq!(times(stat), Some((300.0, 1234.0)));
        assert_eq!(times("7 (short) S 1"), None);
        assert_eq!(
            after(
                "Max cpu time  9\nMax open files   1024  4096  files\n",
                "Max open files"
            ),
            Some(1024)
        );
        assert_eq!(after("Max open files   unlimited", "Max open files"), None);
    }
}
