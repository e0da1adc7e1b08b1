//! Logs and the process's own metrics.
