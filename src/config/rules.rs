//! The `rules:` sections of the configuration.
