//! How busy the simulated service is: requests in flight that rise, stay and fall, and the GPU work they cause.

use std::time::Duration;

/// SM utilisation that one request in flight costs, in percent of one GPU.
const PERCENT_PER_REQUEST: f64 = 4.0;
/// Requests in flight before the rise and after the fall: 12 % of one GPU.
const QUIET: f64 = 3.0;
/// Requests in flight in between: 96 % of one GPU, 48 % of two.
const BUSY: f64 = 24.0;
/// How far a reading is from the truth at most, in percent of one GPU.
const NOISE: f64 = 1.5;

/// A load that rises and falls once over the demo's duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    duration: Duration,
}

impl Default for Load {
    fn default() -> Self {
        Self::new(Duration::from_secs(120))
    }
}

impl Load {
    /// A load that is quiet for the first eighth of `duration`, busy from a quarter to the half, and quiet again from five
    /// eighths on, so that there is time to scale down before the end.
    pub const fn new(duration: Duration) -> Self {
        Self { duration }
    }

    /// How long it lasts.
    pub const fn duration(&self) -> Duration {
        self.duration
    }

    /// Requests in flight after `elapsed`.
    pub fn requests(&self, elapsed: Duration) -> f64 {
        let part = elapsed.as_secs_f64() / self.duration.as_secs_f64().max(f64::MIN_POSITIVE);
        let busy = if part < 0.5 {
            ramp((part - 0.125) / 0.125)
        } else {
            1.0 - ramp((part - 0.5) / 0.125)
        };
        QUIET + (BUSY - QUIET) * busy
    }
}

/// From 0 to 1 without corners.
fn ramp(x: f64) -> f64 {
    let x = x.clamp(0.0, 1.0);
    x * x * (3.0 - 2.0 * x)
}

/// SM utilisation in percent of a GPU whose pod shares `requests` with `pods` - 1 others. The same `seed` and time give the
/// same reading.
pub fn sm_utilization(requests: f64, pods: usize, seed: u64, elapsed: Duration) -> f64 {
    let pods = u32::try_from(pods.max(1)).map_or(f64::INFINITY, f64::from);
    let noise = (unit(mixed(seed ^ mixed(elapsed.as_secs()))) * 2.0 - 1.0) * NOISE;
    let reading = requests * PERCENT_PER_REQUEST / pods + noise;
    reading.round().clamp(0.0, 100.0)
}

/// A number that looks random, from one that does not (the finalizer of SplitMix64).
pub(super) const fn mixed(seed: u64) -> u64 {
    let a = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let b = (a ^ (a >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let c = (b ^ (b >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    c ^ (c >> 31)
}

/// The top 32 bits as a fraction of 1.
fn unit(bits: u64) -> f64 {
    u32::try_from(bits >> 32).map_or(0.0, f64::from) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_rises_once_and_falls_once() {
        let load = Load::default();
        let at = |seconds| load.requests(Duration::from_secs(seconds));
        assert_eq!((at(0), at(15)), (QUIET, QUIET));
        assert_eq!((at(30), at(60)), (BUSY, BUSY));
        assert_eq!((at(75), at(120), at(10_000)), (QUIET, QUIET, QUIET));
        assert!((15..30).all(|second| at(second) < at(second + 1)));
        assert!((60..75).all(|second| at(second) > at(second + 1)));
    }

    #[test]
    fn one_pod_is_too_busy_and_two_are_within_the_tolerance_of_fifty() {
        for second in 30..60 {
            let elapsed = Duration::from_secs(second);
            let one = sm_utilization(BUSY, 1, second * 7, elapsed);
            let two = sm_utilization(BUSY, 2, second * 7, elapsed);
            assert!((93.0..=99.0).contains(&one), "{one}");
            assert!((46.0..=50.0).contains(&two), "{two}");
        }
        assert_eq!(sm_utilization(90.0, 1, 1, Duration::ZERO), 100.0);
        assert!(sm_utilization(0.0, 0, 1, Duration::ZERO) <= NOISE.ceil());
    }

    #[test]
    fn readings_differ_by_pod_and_second_but_not_by_run() {
        let read = |seed, second| sm_utilization(QUIET, 1, seed, Duration::from_secs(second));
        let by = |second: fn(u64) -> (u64, u64)| {
            let readings = (0..20)
                .map(second)
                .map(|(seed, at)| read(seed, at).to_bits());
            readings.collect::<std::collections::BTreeSet<_>>().len()
        };
        assert!(by(|n| (n, 1)) > 1 && by(|n| (1, n)) > 1);
        assert_eq!(by(|_| (1, 1)), 1);
    }
}
