//! What may differ, each with its reason. A page that no longer differs fails the test: take it out.

/// Series about a target whose values are measured: no two scrapes take equally long.
pub(crate) const MEASURED: &str = "scrape_duration_seconds";

/// Series about a target that Prometheus writes and the adapter does not: its own metrics count the same for all targets.
pub(crate) const ABOUT_ONLY_THERE: &str =
    "scrape_samples_post_metric_relabeling|scrape_series_added";

/// The name of a case, or the text of an edge case after its format, and why it differs.
pub(crate) const EXCEPTIONS: &[(&str, &str)] = &[];
