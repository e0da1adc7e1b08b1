//! The metric APIs, discovery, health, and their errors, as an axum router.
