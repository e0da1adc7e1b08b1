//! What may differ: each with its reason, and exactly how. A page that differs in another way, or no longer, fails the test.

/// Series about a target whose values are measured: no two scrapes take equally long.
pub(crate) const MEASURED: &str = "scrape_duration_seconds";

/// Series about a target that Prometheus writes and the adapter does not: its own metrics count the same for all targets.
pub(crate) const ABOUT_ONLY_THERE: &str =
    "scrape_samples_post_metric_relabeling|scrape_series_added";

/// A page of which other series or values come out.
pub(crate) struct Exception {
    /// The name of a case, or the text of an edge case after its format.
    pub(crate) page: &'static str,
    /// Why it differs.
    #[expect(dead_code, reason = "for who reads this table")]
    pub(crate) why: &'static str,
    /// How: `-` is only there, `+` only here, `!` both with another value.
    pub(crate) differences: &'static [&'static str],
}

/// An [`Exception`].
const fn but(
    page: &'static str,
    why: &'static str,
    differences: &'static [&'static str],
) -> Exception {
    Exception {
        page,
        why,
        differences,
    }
}

/// All of them.
pub(crate) const EXCEPTIONS: &[Exception] = &[
    but(
        r#"text "#,
        "dcgm-exporter answers 200 with an empty body while it reloads: that is a failed scrape here, and ends no series",
        &["! up 0 instead of 1"],
    ),
    but(
        r#"openmetrics "#,
        "dcgm-exporter answers 200 with an empty body while it reloads: that is a failed scrape here, and ends no series",
        &["! up 0 instead of 1"],
    ),
    but(
        r#"text  a 1\n"#,
        "the blank becomes part of the name there",
        &["-  a 1", "+ a 1"],
    ),
    but(
        r#"text \ta{x=\"1\"} 1\n"#,
        "the tab becomes part of the name there",
        &["- \ta{x=\"1\"} 1", "+ a{x=\"1\"} 1"],
    ),
    but(
        r#"text \x00a 1\nb 2\n"#,
        "a NUL ends the page there, unsaid",
        &["! scrape_samples_scraped 1 instead of 0", "+ b 2"],
    ),
    but(
        r#"text a 1\n\x00b 2\nc 3\n"#,
        "a NUL ends the page there, unsaid",
        &["! scrape_samples_scraped 2 instead of 1", "+ c 3"],
    ),
    but(
        r#"openmetrics a 1 9223372036854775808\n"#,
        "the time wraps around to the past there",
        &[
            "- a 1",
            "! scrape_samples_scraped 0 instead of 1",
            "! up 0 instead of 1",
        ],
    ),
    but(
        r#"openmetrics a 1 99999999999999999999\n"#,
        "the time wraps around to the past there",
        &[
            "- a 1",
            "! scrape_samples_scraped 0 instead of 1",
            "! up 0 instead of 1",
        ],
    ),
    but(
        r#"text a{x=\"1\"y=\"2\"} 1\n"#,
        "labels that nothing divides are more likely a line that broke",
        &[
            "- a{x=\"1\",y=\"2\"} 1",
            "! scrape_samples_scraped 0 instead of 1",
            "! up 0 instead of 1",
        ],
    ),
    but(
        r#"text a{x=\"1\",x=\"2\"} 1\n"#,
        "the bad line is not counted as a sample here",
        &["! scrape_samples_scraped 0 instead of 1"],
    ),
    but(
        r#"openmetrics a{x=\"1\",x=\"2\"} 1\n"#,
        "the bad line is not counted as a sample here",
        &["! scrape_samples_scraped 0 instead of 1"],
    ),
    but(
        r#"text a{x=\"\",x=\"2\"} 1\n"#,
        "one of two values of a label would be a guess",
        &[
            "- a 1",
            "! scrape_samples_scraped 0 instead of 1",
            "! up 0 instead of 1",
        ],
    ),
    but(
        r#"openmetrics a{x=\"\",x=\"2\"} 1\n"#,
        "one of two values of a label would be a guess",
        &[
            "- a 1",
            "! scrape_samples_scraped 0 instead of 1",
            "! up 0 instead of 1",
        ],
    ),
    but(
        r#"text a{x=\"l1\nl2\"} 1\nb 2\n"#,
        "a line break in a value would hide the lines that follow",
        &[
            "- a{x=\"l1\\nl2\"} 1",
            "! scrape_samples_scraped 1 instead of 2",
        ],
    ),
    but(
        r#"text a{x=\"l1\nb 2\nl3\",y=\"1\"} 1\nc 3\n"#,
        "a line break in a value would hide the lines that follow",
        &[
            "- a{x=\"l1\\nb 2\\nl3\",y=\"1\"} 1",
            "! scrape_samples_scraped 1 instead of 2",
        ],
    ),
    but(
        r#"text a-5 1\n"#,
        "a name that runs into its value is not read as that value",
        &[
            "- a -5",
            "! scrape_samples_scraped 0 instead of 1",
            "! up 0 instead of 1",
        ],
    ),
    but(
        r#"text a.5 1\n"#,
        "a name that runs into its value is not read as that value",
        &[
            "- a 0.5",
            "! scrape_samples_scraped 0 instead of 1",
            "! up 0 instead of 1",
        ],
    ),
    but(
        r#"text {\"\"} 1\n"#,
        "the bad line is not counted as a sample here",
        &["! scrape_samples_scraped 0 instead of 1"],
    ),
    but(
        r#"openmetrics {\"\"} 1\n"#,
        "the bad line is not counted as a sample here",
        &["! scrape_samples_scraped 0 instead of 1"],
    ),
    but(
        r#"text a{\"x\"=\"1\",x=\"2\"} 1\n"#,
        "the bad line is not counted as a sample here",
        &["! scrape_samples_scraped 0 instead of 1"],
    ),
    but(
        r#"openmetrics a{\"x\"=\"1\",x=\"2\"} 1\n"#,
        "the bad line is not counted as a sample here",
        &["! scrape_samples_scraped 0 instead of 1"],
    ),
    but(
        r#"text a{__name__=\"b\"} 1\n"#,
        "the bad line is not counted as a sample here",
        &["! scrape_samples_scraped 0 instead of 1"],
    ),
    but(
        r#"openmetrics a{__name__=\"b\"} 1\n"#,
        "the bad line is not counted as a sample here",
        &["! scrape_samples_scraped 0 instead of 1"],
    ),
    but(
        r#"text # TYPE a histogram\n# HELP a h\na{le=\"1\"} 1\n# TYPE a gauge\na{le=\"1\"} 2\n"#,
        "its cache takes the second line for the first, whose `le` was a number",
        &["+ a{le=\"1\"} 2"],
    ),
    but(
        r#"openmetrics # TYPE a histogram\n# HELP a h\na{le=\"1\"} 1\n# TYPE a gauge\na{le=\"1\"} 2\n"#,
        "its cache takes the second line for the first, whose `le` was a number",
        &["+ a{le=\"1\"} 2"],
    ),
    but(
        r#"text DCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} 2147483632\n"#,
        "DCGM's number for no value is no value",
        &[
            "- DCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} 2147483632",
            "! scrape_samples_scraped 0 instead of 1",
            "! up 0 instead of 1",
        ],
    ),
    but(
        r#"openmetrics DCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} 2147483632\n"#,
        "DCGM's number for no value is no value",
        &[
            "- DCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} 2147483632",
            "! scrape_samples_scraped 0 instead of 1",
            "! up 0 instead of 1",
        ],
    ),
    but(
        r#"text DCGM_FI_DEV_FB_USED{gpu=\"0\"} 9223372036854775794 5\n"#,
        "DCGM's number for no value is no value",
        &[
            "- DCGM_FI_DEV_FB_USED{gpu=\"0\"} 9223372036854776000",
            "! scrape_samples_scraped 0 instead of 1",
            "! up 0 instead of 1",
        ],
    ),
    but(
        r#"openmetrics DCGM_FI_DEV_FB_USED{gpu=\"0\"} 9223372036854775794 5\n"#,
        "DCGM's number for no value is no value",
        &[
            "- DCGM_FI_DEV_FB_USED{gpu=\"0\"} 9223372036854776000",
            "! scrape_samples_scraped 0 instead of 1",
            "! up 0 instead of 1",
        ],
    ),
    but(
        r#"text DCGM_FI_PROF_SM_ACTIVE{gpu=\"0\"} 140737488355328.000000\n"#,
        "DCGM's number for no value is no value",
        &[
            "- DCGM_FI_PROF_SM_ACTIVE{gpu=\"0\"} 140737488355328",
            "! scrape_samples_scraped 0 instead of 1",
            "! up 0 instead of 1",
        ],
    ),
    but(
        r#"openmetrics DCGM_FI_PROF_SM_ACTIVE{gpu=\"0\"} 140737488355328.000000\n"#,
        "DCGM's number for no value is no value",
        &[
            "- DCGM_FI_PROF_SM_ACTIVE{gpu=\"0\"} 140737488355328",
            "! scrape_samples_scraped 0 instead of 1",
            "! up 0 instead of 1",
        ],
    ),
    but(
        r#"text {\"DCGM_FI_DEV_GPU_UTIL\",gpu=\"0\"} 2147483633\n"#,
        "DCGM's number for no value is no value",
        &[
            "- DCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} 2147483633",
            "! scrape_samples_scraped 0 instead of 1",
            "! up 0 instead of 1",
        ],
    ),
    but(
        r#"openmetrics {\"DCGM_FI_DEV_GPU_UTIL\",gpu=\"0\"} 2147483633\n"#,
        "DCGM's number for no value is no value",
        &[
            "- DCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} 2147483633",
            "! scrape_samples_scraped 0 instead of 1",
            "! up 0 instead of 1",
        ],
    ),
    but(
        r#"label-value-limit-passed"#,
        "the whole page is refused there and counted up to the bad sample; here that sample is dropped",
        &["! scrape_samples_scraped 4 instead of 1"],
    ),
    but(
        "label-limit-passed",
        "a sample with too many labels is dropped here, and costs the page there",
        &[
            "! scrape_samples_scraped 4 instead of 1",
            "! up 1 instead of 0",
            "+ plain 3",
            "+ requests_total{code=\"500\",pod=\"a-1\"} 7",
        ],
    ),
    but(
        "label-name-limit-passed",
        "a sample with too long a name of a label is dropped here, and costs the page there",
        &[
            "! scrape_samples_scraped 4 instead of 1",
            "! up 1 instead of 0",
            "+ util{Zone=\"us\",pod=\"b-2\",same=\"n2\"} 2",
            "+ plain 3",
            "+ requests_total{code=\"500\",pod=\"a-1\"} 7",
        ],
    ),
    but(
        "openmetrics-without-end",
        "a page that breaks off counts up to there",
        &["! up 1 instead of 0", "+ b 1.5"],
    ),
    but(
        "text-under-a-wrong-type",
        "Prometheus 3 refuses a page whose type it does not know; here it is text",
        &[
            "! scrape_samples_scraped 1 instead of 0",
            "! up 1 instead of 0",
            "+ a 1",
        ],
    ),
    but(
        "text-without-a-type",
        "Prometheus 3 refuses a page whose type it does not know; here it is text",
        &[
            "! scrape_samples_scraped 1 instead of 0",
            "! up 1 instead of 0",
            "+ a 1",
        ],
    ),
];
