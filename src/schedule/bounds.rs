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
    /// The bounds while a job of this size is the last one due, where these are the bounds that people gave the HPA.
    #[must_use]
    pub fn with_job(self, size: i32) -> Self {
        Self {
            min: size,
            max: self.max.max(size),
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
