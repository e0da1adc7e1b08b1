//! Wiring and the order of starting and stopping.
