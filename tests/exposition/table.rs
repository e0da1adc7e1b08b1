//! One input and what is read of it, row by row.

use gpu_metrics_adapter::exposition::Format;

use crate::edge_cases::EDGE_CASES;
use crate::render;

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
