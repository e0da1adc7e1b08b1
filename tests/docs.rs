//! The documents say what the program does: no setting is missing from the reference, its examples are valid, the table of
//! rooms is the one that is held, and links lead somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a valid expression")
}

/// The words that stand in code spans and code blocks.
fn code_words(markdown: &str) -> BTreeSet<String> {
    let word = pattern("[A-Za-z_][A-Za-z0-9_-]*");
    let mut words = BTreeSet::new();
    for code in markdown.split('`').skip(1).step_by(2) {
        words.extend(word.find_iter(code).map(|word| word.as_str().to_owned()));
    }
    words
}

/// All Rust files of a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The keys that a source file lets a configuration have.
fn keys(source: &str) -> BTreeSet<String> {
    let structs = pattern(
        r"(?m)^#\[derive\([^)]*Deserialize[^)]*\)\]\n((?:#\[.*\]\n)*)pub struct \w+ \{\n((?s).*?)\n\}",
    );
    let field = pattern(r#"(?m)^    (?:#\[serde\(rename = "(\w+)"\)\]\n    )?pub (\w+): "#);
    let upper = pattern("_([a-z])");
    let mut keys = BTreeSet::new();
    for found in structs.captures_iter(source) {
        let camel = found[1].contains("camelCase");
        for field in field.captures_iter(&found[2]) {
            keys.insert(match field.get(1) {
                Some(renamed) => renamed.as_str().to_owned(),
                None if camel => upper
                    .replace_all(&field[2], |letter: &regex::Captures<'_>| {
                        letter[1].to_uppercase()
                    })
                    .into_owned(),
                None => field[2].to_owned(),
            });
        }
    }
    keys
}

#[test]
fn every_key_of_the_configuration_is_in_the_reference() {
    let documented = code_words(&read("docs/configuration.md"));
    let mut files = sources(&root().join("src/config"));
    files.push(root().join("src/config.rs"));
    let keys: BTreeSet<String> = files.iter().flat_map(|file| keys(&read(file))).collect();
    for known in [
        "scrape",
        "maxAge",
        "as",
        "isNot",
        "honor_labels",
        "label_value_length",
    ] {
        assert!(keys.contains(known), "{known} was not found in {keys:?}");
    }
    let missing: Vec<&String> = keys.difference(&documented).collect();
    assert!(
        missing.is_empty(),
        "not in docs/configuration.md: {missing:?}"
    );
}

#[test]
fn the_flags_of_the_reference_are_the_flags_of_the_program() {
    let help = Command::new(env!("CARGO_BIN_EXE_gpu-metrics-adapter"))
        .args(["serve", "--help"])
        .output()
        .expect("the program runs");
    let help = String::from_utf8(help.stdout).expect("text");
    let flags = |text: &str| -> BTreeSet<String> {
        let flag = pattern("(?m)^ *(?:-., )?(--[a-z-]+)");
        flag.captures_iter(text)
            .map(|flag| flag[1].to_owned())
            .collect()
    };
    let mut of_program = flags(&help);
    of_program.remove("--help");
    let reference = read("docs/configuration.md");
    let (_, section) = reference
        .split_once("## Flags of `serve`")
        .expect("the section");
    let (section, _) = section.split_once("\n## ").expect("another section");
    let table: String = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|line| {
            line.split('|')
                .next()
                .unwrap_or_default()
                .replace(", `", "\n")
                + "\n"
        })
        .collect();
    assert_eq!(flags(&table), of_program);
}

/// The blocks of one language.
fn blocks(markdown: &str, language: &str) -> Vec<String> {
    let start = format!("```{language}\n");
    let after = markdown.split(start.as_str()).skip(1);
    after
        .map(|rest| rest.split("```").next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn the_examples_of_the_reference_pass_check() {
    let examples = blocks(&read("docs/configuration.md"), "yaml");
    let of_kubernetes = |it: &&String| it.starts_with("apiVersion:") || it.starts_with("metrics:");
    let examples = examples.iter().filter(|it| !of_kubernetes(it));
    for (index, example) in examples.enumerate() {
        let name = format!("gpu-metrics-adapter-{}-{index}.yaml", std::process::id());
        let file = std::env::temp_dir().join(name);
        fs::write(&file, example).expect("a temporary file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-metrics-adapter"));
        command.arg("check");
        if example.starts_with("tests:") {
            command.args(["manifests/config.yaml", "--test"]);
            command.current_dir(env!("CARGO_MANIFEST_DIR"));
        }
        let output = command.arg(&file).output().expect("the program runs");
        fs::remove_file(&file).expect("removed");
        assert!(output.status.success(), "{output:?}\n{example}");
    }
}

#[test]
fn the_schedule_of_the_reference_works_and_so_do_the_metrics_of_its_autoscaler() {
    use gpu_metrics_adapter::schedule::object::Spec;
    use jiff::Timestamp;
    use jiff::tz::TimeZone;
    use k8s_openapi::api::autoscaling::v2::MetricSpec;
    let examples = blocks(&read("docs/configuration.md"), "yaml");
    let one = |start: &str| -> serde_json::Value {
        let example = examples.iter().find(|it| it.starts_with(start));
        serde_saphyr::from_str(example.expect(start)).expect("YAML")
    };
    let mut schedule = one("apiVersion: autoscaling.alibabacloud.com/v1beta1");
    let spec: Spec = serde_json::from_value(schedule["spec"].take()).expect("a specification");
    let zone = spec.zone(&TimeZone::UTC).expect("a time zone");
    let jobs = spec.schedules(&zone, Timestamp::UNIX_EPOCH);
    assert!(
        jobs.len() == 2 && jobs.iter().all(Result::is_ok),
        "{jobs:?}"
    );
    let metrics = one("metrics:")["metrics"].take();
    let typed: Vec<MetricSpec> = serde_json::from_value(metrics.clone()).expect("metrics");
    assert_eq!(serde_json::to_value(typed).expect("JSON"), metrics);
}

#[test]
fn the_autoscaler_of_the_readme_is_one() {
    use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
    let examples = blocks(&read("README.md"), "yaml");
    assert!(!examples.is_empty());
    for example in examples {
        let written: serde_json::Value = serde_saphyr::from_str(&example).expect("YAML");
        let typed: HorizontalPodAutoscaler =
            serde_json::from_value(written.clone()).expect("an autoscaler");
        assert_eq!(serde_json::to_value(typed).expect("JSON"), written);
    }
}

#[test]
fn the_table_of_rooms_is_the_one_that_is_held() {
    let test = read("tests/layers.rs");
    let (_, arrows) = test.split_once("const ARROWS").expect("the table");
    let (arrows, _) = arrows.split_once("];\n").expect("its end");
    let arrow = pattern(r#"\(\s*"(\w+)",\s*&\[([^\]]*)\]"#);
    let quoted = pattern(r#""(\w+)""#);
    let held: BTreeMap<String, BTreeSet<String>> = arrow
        .captures_iter(arrows)
        .map(|arrow| {
            let others = quoted
                .captures_iter(&arrow[2])
                .map(|other| other[1].to_owned());
            (arrow[1].to_owned(), others.collect())
        })
        .collect();
    assert!(held.len() > 10, "{held:?}");

    let span = pattern("`([a-z]+)`");
    let design = read("docs/design.md");
    let (_, section) = design.split_once("\n## Rooms").expect("the section");
    let (section, _) = section.split_once("\n## ").expect("another section");
    let written: BTreeMap<String, BTreeSet<String>> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.split(" | ").collect();
            let room = cells[0].trim_matches(['`', ' ']).to_owned();
            let others = span
                .captures_iter(cells[2])
                .map(|other| other[1].to_owned());
            (room, others.collect())
        })
        .collect();
    assert_eq!(written, held);
}

#[test]
fn the_tests_that_hold_the_differences_are_there() {
    let span = pattern("`([^`]+)`");
    let page = read("docs/differences.md");
    let tables: Vec<Vec<&str>> = page
        .split("| held by |\n")
        .skip(1)
        .map(|table| table.lines().skip(1))
        .map(|rows| rows.take_while(|line| line.starts_with('|')).collect())
        .collect();
    let lengths: Vec<usize> = tables.iter().map(Vec::len).collect();
    assert_eq!(lengths, [12, 13], "{tables:#?}");
    for row in tables.into_iter().flatten() {
        let cells: Vec<&str> = row.split(" | ").collect();
        let (mut file, mut tests) = (String::new(), 0);
        for named in span.captures_iter(cells[2]) {
            if named[1].ends_with(".rs") {
                file = read(&named[1]);
                continue;
            }
            let test = format!(
                r"(?m)^ *#\[(tokio::)?test.*\]\n(?: *#\[.*\]\n)? *(async )?fn {}\(",
                &named[1]
            );
            assert!(pattern(&test).is_match(&file), "no test {}", &named[1]);
            tests += 1;
        }
        assert!(tests > 0, "{row}");
    }
}

#[test]
fn links_between_documents_lead_to_files() {
    let link = pattern(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)");
    let mut documents: Vec<PathBuf> = [
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "certs/README.md",
    ]
    .map(PathBuf::from)
    .into();
    for folder in ["docs", "docs/adr"] {
        for entry in fs::read_dir(root().join(folder)).expect("a folder") {
            let path = entry.expect("readable").path();
            if path.extension().is_some_and(|extension| extension == "md") {
                documents.push(path);
            }
        }
    }
    let mut links = 0;
    for document in documents {
        let text = read(&document);
        let folder = root()
            .join(&document)
            .parent()
            .expect("a folder")
            .to_owned();
        for target in link
            .captures_iter(&text)
            .map(|found| folder.join(&found[1]))
        {
            assert!(
                target.exists(),
                "{}: {}",
                document.display(),
                target.display()
            );
            links += 1;
        }
    }
    assert!(links > 5, "{links}");
}
