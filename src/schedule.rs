//! What a schedule means: cron expressions, when they are next due and were last due, what is to be done about that, and
//! windows with a floor.
//!
//! Pure: the clock and the time zone are passed in, and nothing here knows a cluster.

pub mod bounds;
mod day;
pub mod decision;
pub mod due;
pub mod expression;
pub mod object;
pub mod status;
pub mod window;

#[cfg(test)]
mod tests;

pub use due::{Excluded, Schedule};
pub use expression::{Expression, ExpressionError};
pub use window::{Edge, Floors, Window};
