//! One measured value and its time.

use super::time::Timestamp;

/// The bit pattern Prometheus uses to say "this series ended here" (`model/value/value.go`, `StaleNaN`).
const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// A value at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When it was measured: the exposed timestamp where there is one, else the start of the scrape.
    pub timestamp: Timestamp,
    /// What was measured. May be NaN or infinite; see [`Sample::is_stale_marker`].
    pub value: f64,
}

impl Sample {
    /// A sample with this value at this time.
    pub const fn new(timestamp: Timestamp, value: f64) -> Self {
        Self { timestamp, value }
    }

    /// The mark that a series ended at `timestamp`: no value is read from it afterwards.
    pub const fn stale_marker(timestamp: Timestamp) -> Self {
        Self {
            timestamp,
            value: f64::from_bits(STALE_BITS),
        }
    }

    /// Whether this is the end of its series rather than a value. An ordinary NaN is not.
    pub const fn is_stale_marker(&self) -> bool {
        self.value.to_bits() == STALE_BITS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_nan_is_no_stale_marker() {
        assert!(Sample::stale_marker(Timestamp::default()).is_stale_marker());
        assert!(Sample::stale_marker(Timestamp::default()).value.is_nan());
        assert!(!Sample::new(Timestamp::default(), f64::NAN).is_stale_marker());
    }
}
