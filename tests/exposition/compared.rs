//! What Prometheus's own two parsers made of the inputs in `fixtures/exposition/prometheus.txt`, and what is made of them
//! here: where Prometheus reads a page, it is read the same, but for the rows below.

use gpu_metrics_adapter::exposition::Format;

use crate::{Kept, read};

const PROMETHEUS: &str = include_str!("../fixtures/exposition/prometheus.txt");

/// Inputs that Prometheus's parsers take and that are read otherwise here, each with the reason.
const EXCEPTIONS: &[(&[u8], &str)] = &[
    (b" a 1\n", "the blank becomes part of the name there"),
    (
        b"\ta{x=\"1\"} 1\n",
        "the tab becomes part of the name there",
    ),
    (b"a{x=\"\"} 1\n", "an empty label is no label"),
    (
        b"a{x=\"1\",x=\"2\"} 1\n",
        "its storage refuses the sample, and the scrape with it",
    ),
    (
        b"a{__name__=\"b\"} 1\n",
        "its storage refuses the sample, and the scrape with it",
    ),
    (
        b"a{x=\"l1\nl2\"} 1\n",
        "a line break in a value would hide the lines that follow",
    ),
    (
        b"a 1\x00\nb 2\n",
        "OpenMetrics: the page fails there, but only behind the value",
    ),
    (b"\x00a 1\nb 2\n", "a NUL ends the page there, unsaid"),
    (b"a 1\n\x00b 2\nc 3\n", "a NUL ends the page there, unsaid"),
    (
        b"a 1 9223372036854775808\n",
        "OpenMetrics: the time wraps around to the past there",
    ),
    (
        b"a 1 99999999999999999999\n",
        "OpenMetrics: the time wraps around to the past there",
    ),
];

/// What one of its parsers made of an input.
struct Theirs {
    samples: Vec<String>,
    refused: bool,
}

#[test]
fn what_prometheus_reads_is_read_the_same_but_for_known_exceptions() {
    let mut rows = 0;
    let mut used = vec![false; EXCEPTIONS.len()];
    for (input, format, theirs) in fixture() {
        let shown = String::from_utf8_lossy(&input).into_owned();
        let ours: Vec<String> = read(&input, format).0.iter().map(shown_by_go).collect();
        let same = if theirs.refused {
            // The scrape fails there. Here it goes on, with what came before and perhaps more.
            ours.starts_with(&theirs.samples)
        } else {
            ours == theirs.samples
        };
        let exception = EXCEPTIONS.iter().position(|(other, _)| *other == input);
        match exception {
            Some(index) if !same => used[index] = true,
            _ => assert!(
                same,
                "{shown:?} as {format:?}: {ours:?}, not {:?}",
                theirs.samples
            ),
        }
        rows += 1;
    }
    assert_eq!(rows, 2 * 85);
    let unused: Vec<_> = EXCEPTIONS
        .iter()
        .zip(used)
        .filter(|(_, used)| !used)
        .collect();
    assert!(unused.is_empty(), "no exceptions: {unused:?}");
}

/// A line with the input as Go quotes it, then one for each parser.
fn fixture() -> Vec<(Vec<u8>, Format, Theirs)> {
    let mut rows = Vec::new();
    let mut input = Vec::new();
    for line in PROMETHEUS.lines() {
        if let Some(quoted) = line.strip_prefix('"') {
            input = unquoted(quoted.strip_suffix('"').unwrap());
            continue;
        }
        let (parser, read) = line.trim().split_once(": ").unwrap();
        let format = match parser {
            "prom" => Format::Text,
            "om" => Format::OpenMetrics,
            other => panic!("no parser: {other}"),
        };
        let before_error = read.split("ERR(").next().unwrap();
        let parts = before_error.split("S[").skip(1);
        let theirs = Theirs {
            samples: parts
                .map(|part| part[..part.rfind(']').unwrap()].to_owned())
                .map(|sample| without_metadata(&sample))
                .collect(),
            refused: read.contains("ERR("),
        };
        rows.push((input.clone(), format, theirs));
    }
    rows
}

/// A sample's text ends before the next entry's, such as `] T[a counter`.
fn without_metadata(sample: &str) -> String {
    sample.split("] T[").next().unwrap().to_owned()
}

/// What Go wrote with `%q`.
fn unquoted(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            bytes.extend(char.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        match chars.next().unwrap() {
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            'x' => bytes.push(u8::try_from(hexadecimal(&mut chars, 2)).unwrap()),
            'u' => {
                let char = char::from_u32(hexadecimal(&mut chars, 4)).unwrap();
                bytes.extend(char.encode_utf8(&mut [0; 4]).bytes());
            }
            same => bytes.push(u8::try_from(same).unwrap()),
        }
    }
    bytes
}

fn hexadecimal(chars: &mut std::str::Chars<'_>, digits: usize) -> u32 {
    let digits: String = chars.take(digits).collect();
    u32::from_str_radix(&digits, 16).unwrap()
}

fn shown_by_go(sample: &Kept) -> String {
    let mut labels = sample.labels.clone();
    labels.push(("__name__".to_owned(), sample.name.clone()));
    labels.sort();
    let plain = |name: &str| {
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let labels: Vec<String> = labels
        .iter()
        .map(|(name, value)| {
            if plain(name) {
                format!("{name}={value:?}")
            } else {
                format!("{name:?}={value:?}")
            }
        })
        .collect();
    let value = match sample.value {
        value if value.is_infinite() && value > 0.0 => "+Inf".to_owned(),
        value if value.is_infinite() => "-Inf".to_owned(),
        value => value.to_string(),
    };
    let timestamp = sample
        .timestamp
        .map_or(String::new(), |millis| format!(" ts={millis}"));
    format!("{{{}}} v={value}{timestamp}", labels.join(", "))
}
