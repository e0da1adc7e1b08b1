//! The configuration file: types, validation, defaults. Its field docs are the reference.

pub mod rules;
pub mod scrape;
