//! Points in time as samples carry them: whole milliseconds since the Unix epoch.

use std::fmt;
use std::time::Duration;

/// A point in time, in milliseconds since the Unix epoch, as Prometheus keeps it.
///
/// It is always passed in; only the edges (the scrape loop, the request handlers) read the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Earlier than any other.
    pub const MIN: Self = Self(i64::MIN);

    /// Later than any other.
    pub const MAX: Self = Self(i64::MAX);

    /// The given number of milliseconds since the Unix epoch; negative is before it.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// The wall clock's time now. For edges only: logic takes a `Timestamp`.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_millisecond())
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down: what the metrics APIs carry.
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// How much later `self` is than `earlier`; zero if it is not later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// This time less `duration`.
    pub fn minus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// This time plus `duration`.
    pub fn plus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }
}

/// RFC 3339 in UTC with whole seconds (`2026-11-23T20:00:00Z`), as `metav1.Time` is written.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_second(self.as_seconds()) {
            Ok(time) => write!(f, "{time}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_kubernetes_writes_time() {
        assert_eq!(
            Timestamp::from_millis(1_795_464_000_999).to_string(),
            "2026-11-23T20:00:00Z"
        );
        assert_eq!(
            Timestamp::from_millis(0).to_string(),
            "1970-01-01T00:00:00Z"
        );
    }

    #[test]
    fn an_earlier_time_is_no_negative_age() {
        let now = Timestamp::from_millis(1_000);
        assert_eq!(now.since(Timestamp::from_millis(2_000)), Duration::ZERO);
        assert_eq!(
            now.since(Timestamp::from_millis(400)),
            Duration::from_millis(600)
        );
        assert_eq!(now.minus(Duration::from_secs(2)).as_millis(), -1_000);
    }
}
