//! What to scrape: targets that are written, in files and in Kubernetes; relabelling, presets.
//!
//! [`compile`] makes the configuration ready, [`assemble`] is the pure step from what is found to targets, and [`run`] repeats it
//! whenever the cluster or a file changes. Nothing here opens a connection to a target.

mod files;
mod follow;
mod job;
mod meta;
mod nodes;
mod pods;
mod presets;
pub mod relabel;
mod set;
mod slices;

pub use follow::run;
pub use job::{Job, Settings, Target, compile};
pub use set::{TargetFault, TargetSet, assemble};
