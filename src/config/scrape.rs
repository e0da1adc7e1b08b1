//! The `scrape:` section of the configuration.
