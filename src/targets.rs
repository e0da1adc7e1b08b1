//! What to scrape: static and Kubernetes targets, relabelling, presets.
