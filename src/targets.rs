//! What to scrape: static and Kubernetes targets, relabelling, presets.
//!
//! [`compile`] makes the configuration ready, [`assemble`] is the pure step from pods to targets, and [`run`] repeats it
//! whenever the cluster changes. Nothing here opens a connection to a target.

mod follow;
mod job;
mod pods;
mod presets;
pub mod relabel;
mod set;

pub use follow::run;
pub use job::{Job, Settings, Target, compile};
pub use set::{TargetFault, TargetSet, assemble};
