//! The vocabulary every room shares: labels, samples, time, quantities, Kubernetes objects and selectors.
//!
//! Plain values without I/O. This module knows no other module of this crate.

pub mod freshness;
pub mod labels;
pub mod lookups;
pub mod matcher;
pub mod names;
pub mod objects;
pub mod quantity;
pub mod sample;
pub mod selector;
pub mod time;
