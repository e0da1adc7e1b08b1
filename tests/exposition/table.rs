//! One input and what is read of it, row by row.

use gpu_metrics_adapter::exposition::Format;

use crate::render;

/// Inputs that Prometheus's two parsers and VictoriaMetrics read in different ways; each with what is read here, in text
/// and, where it differs, in OpenMetrics.
const EDGE_CASES: &[(&[u8], &str, Option<&str>)] = &[
    // Lines.
    (b"", "", None),
    (b"a 1", "a 1", None),
    (b"a 1\r\nb 2\r\n", "a 1; b 2", None),
    (b"a 1 123\r\n", "a 1 @123", Some("a 1 @123000")),
    (b"# TYPE a gauge\r\na 1\n", "a 1", None),
    (
        b"# TYPE a histogram\r\na_bucket{le=\"1\"} 1\r\n",
        "a_bucket{le=\"1.0\"} 1",
        None,
    ),
    (b"a 1\n\n\nb 2\n", "a 1; b 2", None),
    (b" a 1\n", "a 1", None),
    (b"\ta{x=\"1\"} 1\n", "a{x=\"1\"} 1", None),
    (b"a  \t 1\n", "a 1", None),
    (b"a{x=\"1\"} 1 \n", "a{x=\"1\"} 1", None),
    (b"a{x=\"1\"}1\n", "a{x=\"1\"} 1", None),
    (
        b"a{x=\"1\"}\t1\t5\n",
        "a{x=\"1\"} 1 @5",
        Some("a{x=\"1\"} 1 @5000"),
    ),
    (b"a {x=\"1\"} 1\n", "a{x=\"1\"} 1", None),
    (b"\xef\xbb\xbfa 1\n", "a 1", None),
    (b"a 1\n\xef\xbb\xbfb 1\n", "a 1; !metric_name", None),
    (b"a 1\x00\nb 2\n", "b 2; !value", None),
    (b"\x00a 1\nb 2\n", "b 2; !metric_name", None),
    (b"a 1\n\x00b 2\nc 3\n", "a 1; c 3; !metric_name", None),
    // Timestamps, exemplars, comments and other tails.
    (b"a 1 -5\n", "a 1 @-5", Some("a 1 @-5000")),
    (b"a 1 1.5\n", "!timestamp", Some("a 1 @1500")),
    (b"a 1 123 \n", "a 1 @123", Some("a 1 @123000")),
    (b"a 1 123 # c\n", "a 1 @123", Some("a 1 @123000")),
    (b"a 1 9223372036854775808\n", "!timestamp", None),
    (b"a 1 99999999999999999999\n", "!timestamp", None),
    (b"a 1 # {t=\"x\"} 1\n", "a 1", None),
    (
        b"a_bucket{le=\"2.0\"} 7 # {trace=\"x}\"} 0.5 1.25\n",
        "a_bucket{le=\"2.0\"} 7",
        None,
    ),
    (b"a 1 # comment\n", "a 1", None),
    (b"a 1 2 3\n", "!trailing", None),
    // Values.
    (b"a NaN\n", "a NaN", None),
    (b"a nan\n", "a NaN", None),
    (b"a +Inf\n", "a inf", None),
    (b"a -inf\n", "a -inf", None),
    (b"a Infinity\n", "a inf", None),
    (b"a 1e999\n", "!value", None),
    (b"a 1e-999\n", "a 0", None),
    (b"a 0x10\n", "!value", None),
    (b"a 0x1p-3\n", "!value", None),
    (b"a 1_000\n", "!value", None),
    (b"a 1,5\n", "!value", None),
    (b"a true\n", "!value", None),
    (b"a .5\n", "a 0.5", None),
    (b"a 5.\n", "a 5", None),
    (b"a +5\n", "a 5", None),
    (b"a -0\n", "a -0", None),
    (b"a 0123\n", "a 123", None),
    (b"a \n", "!value", None),
    (b"a\n", "!value", None),
    (
        b"a{x=\"1\"} ERROR - FAILED TO CONVERT TO STRING\n",
        "!value",
        None,
    ),
    // Label sets.
    (b"a{} 1\n", "a 1", None),
    (b"a{,} 1\n", "!label_name", None),
    (b"a{x=\"1\",} 1\n", "a{x=\"1\"} 1", None),
    (b"a{x=\"1\",,} 1\n", "!label_name", None),
    (
        b"a{ x = \"1\" , y=\"2\" } 1\n",
        "a{x=\"1\",y=\"2\"} 1",
        None,
    ),
    (b"a{x=\"1\" y=\"2\"} 1\n", "a{x=\"1\",y=\"2\"} 1", None),
    (b"a{x=\"1\"y=\"2\"} 1\n", "!separator", None),
    (b"a{x=\"1\"\n", "!separator", None),
    (b"a{x=\"1\" 1\n", "!label_name", None),
    (b"a{\n", "!separator", None),
    (b"a{x=\"1\",x=\"2\"} 1\n", "!duplicate_label", None),
    (b"a{x=\"\",x=\"2\"} 1\n", "!duplicate_label", None),
    (b"a{x=\"\"} 1\n", "a 1", None),
    (b"a{x=\"\",y=\"1\",z=\"\"} 1\n", "a{y=\"1\"} 1", None),
    (b"a{x='1'} 1\n", "!label_value", None),
    (b"a{x=1} 1\n", "!label_value", None),
    (b"a{1x=\"1\"} 1\n", "!label_name", None),
    (b"a{x:y=\"1\"} 1\n", "!label_name", None),
    (b"a{x} 1\n", "!label_name", None),
    (b"a{=\"1\"} 1\n", "!label_name", None),
    // Label values.
    (b"a{x=\"l1\nl2\"} 1\nb 2\n", "b 2; !unclosed_quote", None),
    (
        b"a{x=\"l1\nb 2\nl3\",y=\"1\"} 1\nc 3\n",
        "c 3; !unclosed_quote",
        None,
    ),
    (
        b"a{x=\"l1 1\nb{y=\"2\"} 2\n",
        "b{y=\"2\"} 2; !unclosed_quote",
        None,
    ),
    (b"a{x=\"\\\n\"} 1\nb 2\n", "b 2; !unclosed_quote", None),
    (b"a{x=\"\\q\"} 1\n", "a{x=\"\\\\q\"} 1", None),
    (b"a{x=\"\\\\\"} 1\n", "a{x=\"\\\\\"} 1", None),
    (b"a{x=\"a\\nb\\\"c\"} 1\n", "a{x=\"a\\nb\\\"c\"} 1", None),
    (b"a{x=\"}\"} 1\n", "a{x=\"}\"} 1", None),
    (b"a{x=\"a,b=c\"} 1\n", "a{x=\"a,b=c\"} 1", None),
    (b"a{x=\"#\"} 1\n", "a{x=\"#\"} 1", None),
    (b"a{x=\"caf\xc3\xa9\"} 1\n", "a{x=\"caf\u{e9}\"} 1", None),
    (b"a{x=\"\xff\"} 1\nb 2\n", "b 2; !encoding", None),
    (b"a{x=\"\x00\"} 1\n", "a{x=\"\\0\"} 1", None),
    (b"a{job=\"train \"big\" model\"} 1\n", "!separator", None),
    (b"a{le=\"1\"} 1\n", "a{le=\"1\"} 1", None),
    (
        b"# TYPE a histogram\na_bucket{le=\"1\"} 1\n",
        "a_bucket{le=\"1.0\"} 1",
        None,
    ),
    (
        b"# TYPE a summary\na{quantile=\"1\"} 1\n",
        "a{quantile=\"1.0\"} 1",
        None,
    ),
    (
        b"# TYPE a summary\na{le=\"1\"} 1\n# TYPE b gauge\nb{quantile=\"1\"} 1\n",
        "a{le=\"1\"} 1; b{quantile=\"1\"} 1",
        None,
    ),
    // Metric names.
    (b"1a 1\n", "!metric_name", None),
    (b"a-b 1\n", "!metric_name", None),
    (b"a-5 1\n", "!metric_name", None),
    (b"a.b 1\n", "!metric_name", None),
    (b"a.5 1\n", "!metric_name", None),
    (b"ab 1\na 2\nab 3\n", "ab 1; a 2; ab 3", None),
    (
        b"vllm:x{engine=\"0\"} 1.0\n",
        "vllm:x{engine=\"0\"} 1",
        None,
    ),
    (b"{\"a.b\",x=\"1\"} 1\n", "a.b{x=\"1\"} 1", None),
    (b"{x=\"1\",\"a.b\"} 1\n", "a.b{x=\"1\"} 1", None),
    (b"{\"a.b\"} 1\n", "a.b 1", None),
    (b"{\"a.b\"} 1\na.b 2\n", "a.b 1; !metric_name", None),
    (b"{\"a\\\"b\"} 1\n", "a\"b 1", None),
    (b"{\"\"} 1\n", "!metric_name", None),
    (b"a{\"b\"} 1\n", "!metric_name", None),
    (b"{\"a\",\"b\"} 1\n", "!metric_name", None),
    (b"a{\"x.y\"=\"1\"} 1\n", "a{x.y=\"1\"} 1", None),
    (b"a{\"x\"=\"1\",x=\"2\"} 1\n", "!duplicate_label", None),
    (b"{__name__=\"a\"} 1\n", "!metric_name", None),
    (b"a{__name__=\"b\"} 1\n", "!metric_name", None),
    (b"{x=\"1\"} 1\n", "!metric_name", None),
    (b"{} 1\n", "!metric_name", None),
    (
        b"a{x=\"1\"} 1\na{x=\"1\"} 2\n",
        "a{x=\"1\"} 1; a{x=\"1\"} 2",
        None,
    ),
    // Comments.
    (b"#\n# foo\n#HELP a b\n#TYPE a gauge\na 1\n", "a 1", None),
    (b"# TYPE a bogus\na 1\n", "a 1", None),
    (b"# TYPE a\na 1\n", "a 1", None),
    (b"# TYPE a Gauge\na 1\n", "a 1", None),
    (
        b"#  TYPE  a  histogram \na{le=\"1\"} 1\n",
        "a{le=\"1.0\"} 1",
        None,
    ),
    (b"#TYPE a histogram\na{le=\"1\"} 1\n", "a{le=\"1\"} 1", None),
    (
        b"# TYPE \"a b\" histogram\n{\"a b\",le=\"1\"} 1\n",
        "a b{le=\"1.0\"} 1",
        None,
    ),
    (
        b"# TYPE a histogram\n# HELP a h\na{le=\"1\"} 1\n# TYPE a gauge\na{le=\"1\"} 2\n",
        "a{le=\"1.0\"} 1; a{le=\"1\"} 2",
        None,
    ),
    (
        b"# HELP a\n# TYPE a counter\na 1\n# TYPE a counter\na 2\n",
        "a 1; a 2",
        None,
    ),
    (
        b"# TYPE a unknown\na 1\n# TYPE b untyped\nb 1\n",
        "a 1; b 1",
        None,
    ),
    (
        b"# UNIT a_seconds seconds\na_seconds 1\n",
        "a_seconds 1",
        None,
    ),
    (b"# HELP a \xff\x00\na 1\n", "a 1", None),
    (b"a 1\n# EOF\nb 1\n", "a 1; b 1", Some("a 1")),
    (b"# EOF is not yet\na 1\n", "a 1", None),
    (b"# EOF\r\na 1\n", "a 1", Some("")),
    // What DCGM prints for "no value" is one only where DCGM prints it.
    (
        b"DCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} 2147483632\n",
        "!dcgm_blank",
        None,
    ),
    (
        b"DCGM_FI_DEV_FB_USED{gpu=\"0\"} 9223372036854775794 5\n",
        "!dcgm_blank",
        None,
    ),
    (
        b"DCGM_FI_PROF_SM_ACTIVE{gpu=\"0\"} 140737488355328.000000\n",
        "!dcgm_blank",
        None,
    ),
    (
        b"{\"DCGM_FI_DEV_GPU_UTIL\",gpu=\"0\"} 2147483633\n",
        "!dcgm_blank",
        None,
    ),
    (
        b"DCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} 2147483636\n",
        "DCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} 2147483636",
        None,
    ),
    (b"bytes_total 2147483632\n", "bytes_total 2147483632", None),
];

#[test]
fn edge_cases_are_read_as_prometheus_reads_them_or_dropped_alone() {
    for (input, text, openmetrics) in EDGE_CASES {
        let shown = String::from_utf8_lossy(input);
        assert_eq!(render(input, Format::Text), *text, "{shown:?} as text");
        assert_eq!(
            render(input, Format::OpenMetrics),
            openmetrics.unwrap_or(text),
            "{shown:?} as OpenMetrics"
        );
    }
}

#[test]
fn no_edge_case_harms_the_lines_around_it() {
    for (input, ..) in EDGE_CASES
        .iter()
        .filter(|(input, ..)| !input.starts_with(b"\xef") && !input.is_empty())
    {
        let page = [
            b"before 1\n# TYPE x gauge\n",
            *input,
            b"\nafter{x=\"1\"} 2\n",
        ]
        .concat();
        let read = render(&page, Format::Text);
        let shown = String::from_utf8_lossy(input);
        assert!(
            read.starts_with("before 1") && read.contains("after{x=\"1\"} 2"),
            "{shown:?}: {read}"
        );
    }
}

/// A page as Prometheus's Python client and the OpenMetrics specification write them, with every type.
const OPENMETRICS: &str = r#"# HELP requests Requests.
# TYPE requests counter
# UNIT requests seconds
requests_total{path="/"} 17.0 1520879607.789 # {trace_id="KOO5S4vxi0o"} 0.67 1520879606.0
requests_created{path="/"} 1520430000.123
# TYPE build info
build_info{version="1.2"} 1
# TYPE state stateset
state{state="on"} 1
state{state="off"} 0
# TYPE sizes gaugehistogram
sizes_bucket{le="1"} 3
sizes_bucket{le="+Inf"} 4
sizes_gcount 4
sizes_gsum 5.5
# TYPE seconds histogram
seconds_bucket{le="0.5"} 1 # {trace_id="oHg5SJYRHA0"} 0.3
seconds_bucket{le="1"} 2
seconds_bucket{le="+Inf"} 2
seconds_count 2
seconds_sum 1.25
# TYPE ages summary
ages{quantile="0"} 1
# TYPE odd unknown
odd -1e3 -1
{"with.dots",l="v"} 1
# EOF
requests_total{path="/late"} 1
"#;

#[test]
fn openmetrics_has_times_in_seconds_exemplars_and_an_end() {
    let expected = [
        r#"requests_total{path="/"} 17 @1520879607789"#,
        r#"requests_created{path="/"} 1520430000.123"#,
        r#"build_info{version="1.2"} 1"#,
        r#"state{state="on"} 1"#,
        r#"state{state="off"} 0"#,
        // As Prometheus has it: only a histogram's bounds are brought into one form.
        r#"sizes_bucket{le="1"} 3"#,
        r#"sizes_bucket{le="+Inf"} 4"#,
        "sizes_gcount 4",
        "sizes_gsum 5.5",
        r#"seconds_bucket{le="0.5"} 1"#,
        r#"seconds_bucket{le="1.0"} 2"#,
        r#"seconds_bucket{le="+Inf"} 2"#,
        "seconds_count 2",
        "seconds_sum 1.25",
        r#"ages{quantile="0.0"} 1"#,
        "odd -1000 @-1000",
        r#"with.dots{l="v"} 1"#,
    ];
    assert_eq!(
        render(OPENMETRICS.as_bytes(), Format::OpenMetrics),
        expected.join("; ")
    );
    let text = render(OPENMETRICS.as_bytes(), Format::Text);
    assert!(
        text.contains("!timestamp") && text.contains(r#"{path="/late"} 1"#),
        "{text}"
    );
}
