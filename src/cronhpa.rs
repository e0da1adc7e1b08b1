//! The controller of CronHorizontalPodAutoscaler (`autoscaling.alibabacloud.com/v1beta1`), in the place of
//! kubernetes-cronhpa-controller: it follows the objects, does what the room `schedule` decides about them, and writes down what
//! became of it.
//!
//! It is driven by state and not by events: what is due is what the object's own status does not yet tell of. So it makes no
//! difference which replica acts, and a job that is run twice in a race is set to the same size twice.

mod acting;
mod controller;
mod object;
mod standing;
mod target;
#[cfg(test)]
mod tests;

use crate::cluster::custom::CustomKind;
use crate::schedule::status::Defaults;

pub use controller::Controller;
pub use standing::Standing;

/// The objects' kind.
const KIND: CustomKind = CustomKind {
    group: "autoscaling.alibabacloud.com",
    version: "v1beta1",
    kind: "CronHorizontalPodAutoscaler",
    plural: "cronhorizontalpodautoscalers",
};

/// The Lease of the replica that acts, in the adapter's namespace.
pub const LEASE: &str = "gpu-metrics-adapter-schedules";

/// How the controller is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The namespace of the Lease.
    pub namespace: String,
    /// This process, among the replicas.
    pub identity: String,
    /// What holds for objects that do not say otherwise.
    pub defaults: Defaults,
}
