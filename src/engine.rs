//! Where queries are answered.
