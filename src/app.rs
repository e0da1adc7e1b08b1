//! Wiring and the order of starting and stopping.
//!
//! [`Core`] is what answers: scraping, samples, rules. [`Front`] is what listens. [`serve`] puts both into a cluster; the
//! demo puts them into a simulated one.

mod core;
mod front;
mod identity;
mod reload;
mod reviewer;
pub mod serve;
mod tasks;
pub mod trial;

pub use self::core::{BuildError, Core};
pub use front::{Front, Opened, open};
pub use tasks::Tasks;
