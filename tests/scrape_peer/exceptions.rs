//! What may differ, each with its reason. A page that no longer differs fails the test: take it out.

/// Series about a target whose values are measured: no two scrapes take equally long.
pub(crate) const MEASURED: &str = "scrape_duration_seconds";

/// Series about a target that Prometheus writes and the adapter does not: its own metrics count the same for all targets.
pub(crate) const ABOUT_ONLY_THERE: &str =
    "scrape_samples_post_metric_relabeling|scrape_series_added";

/// The name of a case, or the text of an edge case after its format, and why it differs.
pub(crate) const EXCEPTIONS: &[(&str, &str)] = &[
    (
        r#"text "#,
        "dcgm-exporter answers 200 with an empty body while it reloads: that is a failed scrape here, and ends no series",
    ),
    (r#"openmetrics "#, "as above"),
    (r#"text  a 1\n"#, "the blank becomes part of the name there"),
    (
        r#"text \ta{x=\"1\"} 1\n"#,
        "the tab becomes part of the name there",
    ),
    (
        r#"text \x00a 1\nb 2\n"#,
        "a NUL ends the page there, unsaid",
    ),
    (
        r#"text a 1\n\x00b 2\nc 3\n"#,
        "a NUL ends the page there, unsaid",
    ),
    (
        r#"openmetrics a 1 9223372036854775808\n"#,
        "the time wraps around to the past there",
    ),
    (
        r#"openmetrics a 1 99999999999999999999\n"#,
        "the time wraps around to the past there",
    ),
    (
        r#"text a{x=\"1\"y=\"2\"} 1\n"#,
        "labels that nothing divides are more likely a line that broke",
    ),
    (
        r#"text a{x=\"1\",x=\"2\"} 1\n"#,
        "the bad line is not counted as a sample here",
    ),
    (
        r#"openmetrics a{x=\"1\",x=\"2\"} 1\n"#,
        "the bad line is not counted as a sample here",
    ),
    (
        r#"text a{x=\"\",x=\"2\"} 1\n"#,
        "one of two values of a label would be a guess",
    ),
    (
        r#"openmetrics a{x=\"\",x=\"2\"} 1\n"#,
        "one of two values of a label would be a guess",
    ),
    (
        r#"text a{x=\"l1\nl2\"} 1\nb 2\n"#,
        "a line break in a value would hide the lines that follow",
    ),
    (
        r#"text a{x=\"l1\nb 2\nl3\",y=\"1\"} 1\nc 3\n"#,
        "a line break in a value would hide the lines that follow",
    ),
    (
        r#"text a-5 1\n"#,
        "a name that runs into its value is not read as that value",
    ),
    (
        r#"text a.5 1\n"#,
        "a name that runs into its value is not read as that value",
    ),
    (
        r#"text {\"\"} 1\n"#,
        "the bad line is not counted as a sample here",
    ),
    (
        r#"openmetrics {\"\"} 1\n"#,
        "the bad line is not counted as a sample here",
    ),
    (
        r#"text a{\"x\"=\"1\",x=\"2\"} 1\n"#,
        "the bad line is not counted as a sample here",
    ),
    (
        r#"openmetrics a{\"x\"=\"1\",x=\"2\"} 1\n"#,
        "the bad line is not counted as a sample here",
    ),
    (
        r#"text a{__name__=\"b\"} 1\n"#,
        "the bad line is not counted as a sample here",
    ),
    (
        r#"openmetrics a{__name__=\"b\"} 1\n"#,
        "the bad line is not counted as a sample here",
    ),
    (
        r#"text # TYPE a histogram\n# HELP a h\na{le=\"1\"} 1\n# TYPE a gauge\na{le=\"1\"} 2\n"#,
        "its cache takes the second line for the first, whose `le` was a number",
    ),
    (
        r#"openmetrics # TYPE a histogram\n# HELP a h\na{le=\"1\"} 1\n# TYPE a gauge\na{le=\"1\"} 2\n"#,
        "its cache takes the second line for the first, whose `le` was a number",
    ),
    (
        r#"text DCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} 2147483632\n"#,
        "DCGM's number for no value is no value",
    ),
    (
        r#"openmetrics DCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} 2147483632\n"#,
        "DCGM's number for no value is no value",
    ),
    (
        r#"text DCGM_FI_DEV_FB_USED{gpu=\"0\"} 9223372036854775794 5\n"#,
        "DCGM's number for no value is no value",
    ),
    (
        r#"openmetrics DCGM_FI_DEV_FB_USED{gpu=\"0\"} 9223372036854775794 5\n"#,
        "DCGM's number for no value is no value",
    ),
    (
        r#"text DCGM_FI_PROF_SM_ACTIVE{gpu=\"0\"} 140737488355328.000000\n"#,
        "DCGM's number for no value is no value",
    ),
    (
        r#"openmetrics DCGM_FI_PROF_SM_ACTIVE{gpu=\"0\"} 140737488355328.000000\n"#,
        "DCGM's number for no value is no value",
    ),
    (
        r#"text {\"DCGM_FI_DEV_GPU_UTIL\",gpu=\"0\"} 2147483633\n"#,
        "DCGM's number for no value is no value",
    ),
    (
        r#"openmetrics {\"DCGM_FI_DEV_GPU_UTIL\",gpu=\"0\"} 2147483633\n"#,
        "DCGM's number for no value is no value",
    ),
    (
        r#"label-value-limit-passed"#,
        "the whole page is refused there and counted up to the bad sample; here that sample is dropped",
    ),
    (
        "label-limit-passed",
        "a sample with too many labels is dropped here, and costs the page there",
    ),
    (
        "label-name-limit-passed",
        "a sample with too long a name of a label is dropped here, and costs the page there",
    ),
    (
        "openmetrics-without-end",
        "a page that breaks off counts up to there",
    ),
    (
        "text-under-a-wrong-type",
        "Prometheus 3 refuses a page whose type it does not know; here it is text",
    ),
    (
        "text-without-a-type",
        "Prometheus 3 refuses a page whose type it does not know; here it is text",
    ),
];
