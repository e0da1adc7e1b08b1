//! `query`, as a user runs it: the built program, its output, its exit code.

use std::path::{Path, PathBuf};
use std::process::Command;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/query")
}

/// Runs the program in the fixtures' folder; its output, standard error after standard output, and its exit code.
fn run(arguments: &[&str]) -> (String, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_gpu-metrics-adapter"))
        .args(arguments)
        .current_dir(fixtures())
        .output()
        .expect("the program runs");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let both = text(&output.stdout) + &text(&output.stderr);
    (both, output.status.code().expect("an exit code"))
}

/// A line as a shell takes it apart, with single quotes only.
fn words(line: &str) -> Vec<&str> {
    line.split('\'')
        .enumerate()
        .flat_map(|(index, part)| match index % 2 {
            0 => part.split_whitespace().collect(),
            _ => vec![part],
        })
        .collect()
}

#[test]
fn recordings_are_answered_as_the_golden_file_says() {
    let golden = std::fs::read_to_string(fixtures().join("golden.txt")).expect("the golden file");
    let mut wrong = Vec::new();
    let cases: Vec<&str> = golden.split("\n$ ").skip(1).collect();
    assert!(cases.len() > 5, "the golden file has its cases");
    for case in cases {
        let (command, expected) = case.split_once('\n').expect("a line");
        let (output, code) = run(&words(command));
        let status = if code == 0 {
            String::new()
        } else {
            format!("? {code}\n")
        };
        let actual = format!("{output}{status}");
        if actual.trim_end() != expected.trim_end() {
            wrong.push(format!("$ {command}\n{actual}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_faulty_command_line_is_told_from_a_query_that_fails() {
    for arguments in [
        &["query"][..],
        &["query", "x", "--start", "1"],
        &[
            "query", "x", "--time", "1", "--start", "1", "--end", "2", "--step", "1",
        ],
        &[
            "query",
            "x",
            "--from",
            "gpu.om",
            "--url",
            "http://127.0.0.1:1",
        ],
        &["query", "x", "--output", "yaml"],
        &["serve", "--debug-address", "0.0.0.0:9090"],
        &["serve", "--debug-address", "localhost"],
    ] {
        let (output, code) = run(arguments);
        assert_eq!(code, 64, "{arguments:?}: {output}");
    }
    // Port 1 is served by nobody.
    let (output, code) = run(&["query", "x", "--url", "http://127.0.0.1:1"]);
    assert_eq!(code, 1);
    assert!(output.contains("--debug-address"), "{output}");
}
