//! What a job's size means for the bounds of a HorizontalPodAutoscaler.
//!
//! The table of kubernetes-cronhpa-controller (`cronjob.go`, `ScaleHPA`) without two of its flaws: the floor is installed also
//! where there are more replicas than that at the time, and a maximum that was raised for one job comes down with the next.

use serde::{Deserialize, Serialize};

/// The bounds of an HPA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// `spec.minReplicas`.
    pub min: i32,
    /// `spec.maxReplicas`.
    pub max: i32,
}

impl Bounds {
    /// The bounds that hold this many replicas at least, where these are the bounds that people gave the HPA.
    ///
    /// A minimum of 0 is what the API server takes only with the feature gate HPAScaleToZero: it is set where people have set
    /// it before, else it is 1.
    #[must_use]
    pub fn with_job(self, size: i32) -> Self {
        let least = self.min.min(1);
        Self {
            min: size.max(least),
            max: self.max.max(size),
        }
    }

    /// These bounds, and a floor under them.
    #[must_use]
    pub fn with_floor(self, floor: i32) -> Self {
        Self {
            min: self.min.max(floor),
            max: self.max.max(floor),
        }
    }

    /// The bounds that people gave, where `known` are those believed so far, `applied` those that a job set for them, and
    /// `self` those that are there: what somebody else has changed since is what people want now.
    #[must_use]
    pub fn given(self, known: Self, applied: Self) -> Self {
        let newer = |is: i32, set: i32, known: i32| if is == set { known } else { is };
        Self {
            min: newer(self.min, applied.min, known.min),
            max: newer(self.max, applied.max, known.max),
        }
    }
}

/// What is remembered at an HPA whose bounds were changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The name of the object that changed them, in the same namespace.
    pub by: String,
    /// The bounds that people gave.
    pub given: Bounds,
    /// The bounds that were set.
    pub applied: Bounds,
    /// The size of the job that was due last, once there was one.
    #[serde(default)]
    pub job: Option<i32>,
}

impl Kept {
    /// What is to be set at, and remembered of, an HPA with the bounds `current` of which `known` is remembered, when a job of
    /// this size is due (`None`: no job) and the windows of the object `by` have this floor.
    pub fn next(
        by: &str,
        current: Bounds,
        known: Option<&Self>,
        job: Option<i32>,
        floor: i32,
    ) -> Self {
        let given = known.map_or(current, |it| current.given(it.given, it.applied));
        let job = job.or(known.and_then(|it| it.job));
        let with_job = job.map_or(given, |size| given.with_job(size));
        Self {
            by: by.to_owned(),
            given,
            applied: with_job.with_floor(floor),
            job,
        }
    }
}
