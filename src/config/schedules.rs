//! `schedules`: CronHorizontalPodAutoscalers.

use std::time::Duration;

use jiff::tz::TimeZone;
use serde::Deserialize;

use super::Fault;
use super::scrape::units;

/// Whether CronHorizontalPodAutoscalers are run, in place of kubernetes-cronhpa-controller, and how.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Schedules {
    /// Whether they are run. One of the replicas does it. Default `false`.
    pub enabled: bool,
    /// The time zone of objects that name none, such as `Asia/Shanghai`. Default: that of the process (`$TZ`), which is UTC in a
    /// container that does not say otherwise.
    pub time_zone: Option<String>,
    /// How long after its time a job that was missed, or failed, is still run. Default `10m`.
    #[serde(deserialize_with = "units::duration")]
    pub catch_up: Duration,
}

impl Default for Schedules {
    fn default() -> Self {
        Self {
            enabled: false,
            time_zone: None,
            catch_up: Duration::from_secs(600),
        }
    }
}

impl Schedules {
    /// The time zone of objects that name none.
    ///
    /// # Errors
    /// Where it is not known.
    pub fn zone(&self) -> Result<TimeZone, Fault> {
        match &self.time_zone {
            None => Ok(TimeZone::system()),
            Some(name) => TimeZone::get(name).map_err(|_| {
                let message = format!("{name:?} is no time zone such as Asia/Shanghai or UTC");
                Fault::new("schedules.timeZone", message)
            }),
        }
    }
}
