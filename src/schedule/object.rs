//! The specification of a CronHorizontalPodAutoscaler (`autoscaling.alibabacloud.com/v1beta1`), and what is wrong with one.
//!
//! Each fault is that of one job, or of the object; the jobs without a fault are good all the same.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::expression::go_duration;
use super::window::EdgeError;
use super::{Edge, Excluded, ExpressionError, Schedule, Window};

/// `spec`, as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// What is scaled.
    pub scale_target_ref: ScaleTargetRef,
    /// Days on which nothing is done, as cron expressions.
    #[serde(default)]
    pub exclude_dates: Vec<String>,
    /// What is done when.
    #[serde(default)]
    pub jobs: Vec<JobSpec>,
    /// The time zone of all expressions; without it, the one that the program runs in.
    pub time_zone: Option<String>,
    /// Whether nothing is to be done for now.
    #[serde(default)]
    pub suspend: bool,
    /// Times in which there are to be at least so many replicas.
    #[serde(default)]
    pub windows: Vec<WindowSpec>,
}

/// `spec.scaleTargetRef`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScaleTargetRef {
    /// `GROUP/VERSION`, or a version alone for the core group.
    pub api_version: String,
    /// Such as `Deployment`.
    pub kind: String,
    /// Its name, in the namespace of the object.
    pub name: String,
}

/// One of `spec.jobs`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobSpec {
    /// Its name, by which its condition is found.
    pub name: String,
    /// When.
    pub schedule: String,
    /// To how many replicas.
    pub target_size: i32,
    /// Whether only once.
    #[serde(default)]
    pub run_once: bool,
}

/// One of `spec.windows`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowSpec {
    /// Its name.
    pub name: String,
    /// When it begins: a schedule, as a job has one, or a time as RFC 3339 has it.
    pub start: String,
    /// When it ends, in the same forms.
    pub end: String,
    /// How many replicas there are to be at least.
    pub replicas: i32,
    /// How long before the beginning the floor begins to rise, as Go writes durations.
    pub ramp_up: Option<String>,
    /// How long the floor takes to sink after the end.
    pub ramp_down: Option<String>,
    /// Its own time zone; without it, the object's.
    pub time_zone: Option<String>,
}

/// Why an object, a job or a window of it, cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The time zone is not known.
    #[error("timeZone {0:?} is not known")]
    TimeZone(String),
    /// The target's `apiVersion` is none.
    #[error("apiVersion {0:?} of the target is neither GROUP/VERSION nor a version")]
    ApiVersion(String),
    /// An entry of `excludeDates` is no expression.
    #[error("excludeDates {text:?}: {error}")]
    ExcludeDate {
        /// The entry.
        text: String,
        /// What is wrong with it.
        error: ExpressionError,
    },
    /// A job's schedule is no expression.
    #[error(transparent)]
    Schedule(#[from] ExpressionError),
    /// A job has the name of one before it.
    #[error("another job has the name {0:?}")]
    SameName(String),
    /// A window has the name of one before it.
    #[error("another window has the name {0:?}")]
    SameWindow(String),
    /// A window begins or ends at no time.
    #[error("{field} {text:?} is {error}")]
    Edge {
        /// `start` or `end`.
        field: &'static str,
        /// What it says.
        text: String,
        /// What is wrong with it.
        error: EdgeError,
    },
    /// A window ends before it begins.
    #[error("end {end} is not after start {start}")]
    EndsFirst {
        /// Its beginning.
        start: Timestamp,
        /// Its end.
        end: Timestamp,
    },
    /// A window's replicas are below 0.
    #[error("replicas must not be negative: {0}")]
    NegativeReplicas(i32),
    /// A ramp is no duration.
    #[error("{field} {text:?} is no duration such as 10m or 1h30m")]
    Ramp {
        /// `rampUp` or `rampDown`.
        field: &'static str,
        /// What it says.
        text: String,
    },
    /// A job's size is below 0.
    #[error("targetSize must not be negative: {0}")]
    Negative(i32),
}

impl ScaleTargetRef {
    /// The target's group, empty for the core group, and version.
    ///
    /// # Errors
    /// Where `apiVersion` is neither.
    pub fn group_version(&self) -> Result<(&str, &str), SpecError> {
        let parts: Vec<&str> = self.api_version.split('/').collect();
        match parts[..] {
            [version] if !version.is_empty() => Ok(("", version)),
            [group, version] if !group.is_empty() && !version.is_empty() => Ok((group, version)),
            _ => Err(SpecError::ApiVersion(self.api_version.clone())),
        }
    }
}

impl Spec {
    /// The time zone of the expressions; `default` where the object names none.
    ///
    /// # Errors
    /// Where it is not known.
    pub fn zone(&self, default: &TimeZone) -> Result<TimeZone, SpecError> {
        match &self.time_zone {
            None => Ok(default.clone()),
            Some(name) => TimeZone::get(name).map_err(|_| SpecError::TimeZone(name.clone())),
        }
    }

    /// The days on which nothing is done.
    ///
    /// # Errors
    /// The first entry that is no expression: whoever excluded a day does not want the jobs run on it, so none can be.
    pub fn excluded(&self) -> Result<Vec<Excluded>, SpecError> {
        let days = self.exclude_dates.iter().map(|text| {
            Excluded::new(text).map_err(|error| SpecError::ExcludeDate {
                text: text.clone(),
                error,
            })
        });
        days.collect()
    }

    /// When each job is due, in the order of the jobs; `created` is when the object was made.
    pub fn schedules(
        &self,
        zone: &TimeZone,
        created: Timestamp,
    ) -> Vec<Result<Schedule, SpecError>> {
        let mut names = BTreeSet::new();
        let schedule = |job: &JobSpec| {
            if !names.insert(job.name.clone()) {
                return Err(SpecError::SameName(job.name.clone()));
            }
            if job.target_size < 0 {
                return Err(SpecError::Negative(job.target_size));
            }
            Ok(Schedule::new(&job.schedule, zone.clone(), created)?)
        };
        self.jobs.iter().map(schedule).collect()
    }

    /// The windows, in their order; `default` is the time zone where neither they nor the object name one, and `created` is
    /// when the object was made.
    pub fn windows(
        &self,
        default: &TimeZone,
        created: Timestamp,
    ) -> Vec<Result<Window, SpecError>> {
        if self.windows.is_empty() {
            return Vec::new();
        }
        let whole = self
            .zone(default)
            .and_then(|zone| Ok((zone, self.excluded()?)));
        let (zone, excluded) = match whole {
            Ok((zone, excluded)) => (zone, excluded.into()),
            Err(error) => return self.windows.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut names = BTreeSet::new();
        let window = |window: &WindowSpec| {
            if !names.insert(window.name.clone()) {
                return Err(SpecError::SameWindow(window.name.clone()));
            }
            window.compile(&zone, &excluded, created)
        };
        self.windows.iter().map(window).collect()
    }
}

impl WindowSpec {
    fn compile(
        &self,
        zone: &TimeZone,
        excluded: &Arc<[Excluded]>,
        created: Timestamp,
    ) -> Result<Window, SpecError> {
        let zone = match &self.time_zone {
            None => zone.clone(),
            Some(name) => TimeZone::get(name).map_err(|_| SpecError::TimeZone(name.clone()))?,
        };
        let edge = |field, text: &String| {
            Edge::parse(text, zone.clone(), created).map_err(|error| SpecError::Edge {
                field,
                text: text.clone(),
                error,
            })
        };
        let ramp = |field, text: &Option<String>| match text {
            None => Ok(Duration::ZERO),
            Some(text) => go_duration(text).ok_or_else(|| SpecError::Ramp {
                field,
                text: text.clone(),
            }),
        };
        let (start, end) = (edge("start", &self.start)?, edge("end", &self.end)?);
        if let (Edge::At(start), Edge::At(end)) = (&start, &end)
            && end <= start
        {
            let (start, end) = (*start, *end);
            return Err(SpecError::EndsFirst { start, end });
        }
        let replicas = u32::try_from(self.replicas);
        Ok(Window {
            start,
            end,
            replicas: replicas.map_err(|_| SpecError::NegativeReplicas(self.replicas))?,
            ramp_up: ramp("rampUp", &self.ramp_up)?,
            ramp_down: ramp("rampDown", &self.ramp_down)?,
            excluded: Arc::clone(excluded),
            zone,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(api_version: &str, rest: &str) -> Spec {
        let target = format!(
            r#""scaleTargetRef": {{"apiVersion": "{api_version}", "kind": "Deployment", "name": "qwen-cronhpa-predictor"}}"#
        );
        serde_json::from_str(&format!("{{{target}{rest}}}")).expect("the form of a specification")
    }

    fn faults(spec: &Spec) -> Vec<Option<String>> {
        let schedules = spec.schedules(&TimeZone::UTC, Timestamp::UNIX_EPOCH);
        let fault = |it: Result<Schedule, SpecError>| it.err().map(|error| error.to_string());
        schedules.into_iter().map(fault).collect()
    }

    #[test]
    fn the_object_of_the_old_controller_is_read_as_it_is() {
        let jobs = r#", "jobs": [{"name": "scale-up", "schedule": "1 7 21 * * *", "targetSize": 2},
            {"name": "scale-down", "schedule": "46 7 21 * * *", "targetSize": 0, "runOnce": true}]"#;
        let spec = spec("apps/v1", jobs);
        assert_eq!(spec.scale_target_ref.group_version(), Ok(("apps", "v1")));
        assert_eq!(faults(&spec), [None, None]);
        assert!(spec.jobs[1].run_once && !spec.suspend);
    }

    #[test]
    fn a_bad_job_says_why_and_leaves_the_others_good() {
        let jobs = r#", "jobs": [{"name": "a", "schedule": "0 0 9 * * *", "targetSize": 2},
            {"name": "a", "schedule": "0 0 10 * * *", "targetSize": 3},
            {"name": "b", "schedule": "0 0 25 * * *", "targetSize": 1},
            {"name": "c", "schedule": "0 0 11 * * *", "targetSize": -1},
            {"name": "d", "schedule": "0 0 12 * * *", "targetSize": 1}]"#;
        let told = [
            None,
            Some("another job has the name \"a\""),
            Some("hour \"25\": is out of range"),
            Some("targetSize must not be negative: -1"),
            None,
        ];
        assert_eq!(
            faults(&spec("apps/v1", jobs)),
            told.map(|it| it.map(str::to_owned))
        );
    }

    #[test]
    fn a_target_without_a_group_is_of_the_core_group_and_a_wrong_one_is_told() {
        let group_version = |text: &str| {
            let spec = spec(text, "");
            let of = spec.scale_target_ref.group_version();
            of.map(|(group, version)| format!("{group}|{version}")).ok()
        };
        assert_eq!(group_version("v1").as_deref(), Some("|v1"));
        for wrong in ["", "/", "apps/", "/v1", "a/b/c"] {
            assert_eq!(group_version(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_objects_time_zone_counts_and_an_unknown_one_is_told() {
        let zone = |rest: &str| spec("apps/v1", rest).zone(&TimeZone::UTC);
        assert_eq!(zone(""), Ok(TimeZone::UTC));
        let shanghai = zone(r#", "timeZone": "Asia/Shanghai""#);
        assert_eq!(shanghai.expect("known").iana_name(), Some("Asia/Shanghai"));
        let unknown = zone(r#", "timeZone": "Middle/Earth""#);
        assert_eq!(unknown, Err(SpecError::TimeZone("Middle/Earth".to_owned())));
    }

    #[test]
    fn an_excluded_date_that_is_none_is_told() {
        let excluded =
            spec("apps/v1", r#", "excludeDates": ["* * * 15 11 *", "15 11"]"#).excluded();
        let error = excluded.expect_err("faulty").to_string();
        assert!(
            error.starts_with("excludeDates \"15 11\": expected 5 to 6 fields"),
            "{error}"
        );
    }
}
