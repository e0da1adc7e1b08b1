//! The command `check`, as users run it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn file(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check_command");
    folder.join(name).to_str().expect("UTF-8").to_owned()
}

/// A temporary file that goes with the value.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str, text: &str) -> Self {
        let name = format!("gpu-metrics-adapter-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).expect("a temporary file");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn check(arguments: &[&str]) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_gpu-metrics-adapter"))
        .arg("check")
        .args(arguments)
        .output()
        .expect("the program runs");
    let text = [stdout, stderr].concat();
    (status.code(), String::from_utf8(text).expect("text"))
}

#[test]
fn tests_of_rules_pass_where_the_rules_do_what_is_expected() {
    let (code, output) = check(&[&file("rules.yaml"), "--test", &file("rules_test.yaml")]);
    assert_eq!(
        output,
        "rules[0]: ok\nrules[1]: ok\nexternalRules[0]: ok\n\
         the GPUs of a pod are averaged, and only selected pods answered: ok\n\
         a pod that is gone is missing, and one without samples never 0: ok\n\
         a rate, over a lost scrape too: ok\n\
         external metrics keep the labels of the query: ok\n"
    );
    assert_eq!(code, Some(0));
}

#[test]
fn a_test_that_fails_shows_what_came_instead() {
    let tests = Temporary::new(
        "failing.yaml",
        r#"
tests:
- input_series: [{series: 'gpu_util{namespace="demo",pod="a"}', values: "1.5"}]
  api_test:
  - eval_time: 0s
    path: /apis/custom.metrics.k8s.io/v1beta2/namespaces/demo/pods/a/gpu_util
    exp_values: [{name: a, value: 2}]
  - eval_time: 0s
    path: /apis/custom.metrics.k8s.io/v1beta2/namespaces/demo/pods/b/gpu_util
    exp_values: [{name: b, value: 2}]
"#,
    );
    let (code, output) = check(&[&file("rules.yaml"), "--test", tests.path()]);
    assert!(
        output.contains(
            "tests[0]: FAILED\n  /apis/custom.metrics.k8s.io/v1beta2/namespaces/demo/pods/a/gpu_util at 0ns\n    \
             expected:\n      a 2\n    got:\n      a 1500m\n"
        ),
        "{output}"
    );
    assert!(
        output.contains("got:\n      error: no value of gpu_util for pods b in namespace demo"),
        "{output}"
    );
    assert_eq!(code, Some(1));
}

#[test]
fn a_file_of_tests_that_cannot_be_understood_says_why() {
    for (text, reason) in [
        ("tests: [{api_test: [], inputs: []}]", "inputs"),
        (
            "tests: [{input_series: [{series: 'a{', values: '1'}], api_test: []}]",
            "`a{` is no series",
        ),
        (
            "tests: [{input_series: [{series: a, values: 1+x}], api_test: []}]",
            "`1+x` is no value",
        ),
        (
            "tests: [{api_test: [{eval_time: 0s, path: /apis}]}]",
            "needs one of `exp_values` and `exp_error`",
        ),
    ] {
        let tests = Temporary::new("bad.yaml", text);
        let (code, output) = check(&[&file("rules.yaml"), "--test", tests.path()]);
        assert!(output.contains(reason), "{text}: {output}");
        assert_eq!(code, Some(1), "{text}");
    }
}

#[test]
fn over_a_page_it_is_told_what_each_rule_offers() {
    let page = Temporary::new(
        "page.txt",
        "gpu_util{namespace=\"demo\",pod=\"a\",node=\"n\"} 1\nqueue_length 3\n",
    );
    let (code, output) = check(&[&file("rules.yaml"), "--from", page.path()]);
    assert_eq!(
        output,
        "rules[0]: ok\n  gpu_util: namespaces by namespace, nodes by node, pods by pod in namespace\n\
         rules[1]: ok\n  no series for it\n\
         externalRules[0]: ok\n  queue_length: external, the same for all namespaces\n"
    );
    assert_eq!(code, Some(0));
    let none = Temporary::new("none.txt", "<html>\n");
    let (code, output) = check(&[&file("rules.yaml"), "--from", none.path()]);
    assert!(output.contains("has no samples: "), "{output}");
    assert_eq!(code, Some(1));
}

/// The faults of `docs/sample-config.yaml` of prometheus-adapter: quotes within quotes, commas after the last brace of a line,
/// a key that is none.
#[test]
fn what_is_wrong_with_prometheus_adapters_sample_is_told_with_its_place() {
    for (text, place) in [
        (
            "rules:\n- seriesQuery: foo\n  metricsQuery: \"sum(rate(<<.Series>>{container!=\"POD\"}[2m])) by (<<.GroupBy>>)\"\n",
            "line 3",
        ),
        (
            "rules:\n- seriesQuery: foo\n  resources:\n    overrides:\n      namespace: {resource: \"namespace\"},\n      pod: {resource: \"pod\"},\n",
            "line 5",
        ),
        (
            "rules:\n- seriesQuery: foo\n  metricQuery: count(foo)\n",
            "unknown field `metricQuery`",
        ),
    ] {
        let file = Temporary::new("sample.yaml", text);
        let (code, output) = check(&[file.path()]);
        assert!(output.contains(place), "{text}{output}");
        assert_eq!(code, Some(78), "{text}{output}");
    }
}

/// And what is left when that is mended: its first external rule says nothing of namespaces, which nothing complains of there
/// before each request is answered with 500.
#[test]
fn an_external_rule_that_no_request_can_use_is_told_before_there_are_any() {
    let file = Temporary::new(
        "external.yaml",
        r#"
scrape: {presets: []}
externalRules:
- seriesQuery: '{__name__="queue_consumer_lag",name!=""}'
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (name)
- seriesQuery: '{__name__="queue_depth",topic!=""}'
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (name)
  resources: {namespaced: false}
"#,
    );
    let (code, output) = check(&[file.path()]);
    let (first, warnings) = output.split_once("externalRules[1]: ok\n").expect("both");
    assert_eq!(first, "externalRules[0]: ok\n");
    assert!(
        warnings.starts_with(
            "externalRules[0].resources: warning: it does not say which label names the namespace"
        ),
        "{warnings}"
    );
    assert_eq!((warnings.lines().count(), code), (1, Some(0)), "{warnings}");
}

#[test]
fn what_is_seldom_meant_is_warned_of() {
    let rules = Temporary::new(
        "lint.yaml",
        "scrape: {presets: []}\nrules:\n- {seriesQuery: 'x_total{pod!=\"\",namespace!=\"\"}', resources: {template: <<.Resource>>}, \
         metricsQuery: 'sum(rate(<<.Series>>{<<.LabelMatchers>>}[30s])) by (<<.GroupBy>>)'}\n",
    );
    let (code, output) = check(&[rules.path()]);
    assert!(
        output.starts_with("rules[0]: ok\nrules[0].metricsQuery: warning: "),
        "{output}"
    );
    assert_eq!(code, Some(0), "a warning is no fault");
}
