//! Who may use whom: the table of rooms in `docs/design.md`, held against the `use crate::` lines of the source.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each room and the rooms it may use. `model` may be used by every room.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("exposition", &[]),
    ("store", &[]),
    ("promql", &[]),
    ("config", &[]),
    ("targets", &["config", "cluster"]),
    ("transport", &["config"]),
    (
        "scrape",
        &["exposition", "store", "targets", "config", "transport"],
    ),
    ("engine", &["promql", "store", "config", "transport"]),
    ("rules", &["config"]),
    ("provider", &["rules", "engine", "schedule"]),
    ("cluster", &["config"]),
    ("auth", &[]),
    ("fallback", &["auth", "config", "transport"]),
    ("api", &["provider", "engine", "auth", "fallback"]),
    ("server", &["api", "auth"]),
    ("hpa", &[]),
    ("schedule", &[]),
    ("cronhpa", &["schedule", "cluster"]),
    ("telemetry", &["provider", "scrape", "store"]),
    (
        "app",
        &[
            "api",
            "auth",
            "cluster",
            "config",
            "cronhpa",
            "engine",
            "fallback",
            "provider",
            "rules",
            "schedule",
            "scrape",
            "server",
            "store",
            "targets",
            "telemetry",
        ],
    ),
    (
        "demo",
        &["app", "auth", "cluster", "config", "hpa", "server"],
    ),
    (
        "cli",
        &[
            "api",
            "app",
            "cluster",
            "config",
            "demo",
            "engine",
            "exposition",
            "server",
            "telemetry",
        ],
    ),
];

/// Crates that a room must not reach for: I/O where there is to be none, Kubernetes where it is not known.
const FORBIDDEN_CRATES: &[(&str, &[&str])] = &[
    (
        "model",
        &["tokio", "kube", "k8s_openapi", "reqwest", "axum"],
    ),
    (
        "exposition",
        &["tokio", "kube", "k8s_openapi", "reqwest", "axum"],
    ),
    (
        "store",
        &["tokio", "kube", "k8s_openapi", "reqwest", "axum"],
    ),
    (
        "promql",
        &["tokio", "kube", "k8s_openapi", "reqwest", "axum"],
    ),
    (
        "rules",
        &["tokio", "kube", "k8s_openapi", "reqwest", "axum"],
    ),
    ("hpa", &["tokio", "kube", "k8s_openapi", "reqwest", "axum"]),
    (
        "schedule",
        &["tokio", "kube", "k8s_openapi", "reqwest", "axum"],
    ),
    (
        "config",
        &["tokio", "kube", "k8s_openapi", "reqwest", "axum"],
    ),
    (
        "provider",
        &["kube", "k8s_openapi", "reqwest", "axum", "hyper"],
    ),
    ("engine", &["kube", "k8s_openapi"]),
    ("auth", &["kube"]),
    ("api", &["kube", "reqwest", "axum_server"]),
];

/// Every source file, with the room it belongs to and its text without tests.
fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the source is there") {
            let path = entry.expect("the source is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let source = |path: PathBuf| {
        let inside = path.strip_prefix(&root).expect("below src");
        let first = inside.iter().next().expect("a name").to_string_lossy();
        let room = first.trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&path).expect("text");
        // What a test uses is its own affair.
        let text = text
            .split("#[cfg(test)]\nmod ")
            .next()
            .unwrap_or_default()
            .to_owned();
        let is_test = ["tests.rs", "fixture.rs", "fake_api.rs"]
            .iter()
            .any(|name| inside.ends_with(name))
            || inside
                .iter()
                .any(|part| part == "tests" || part == "fake_api");
        (room, path, if is_test { String::new() } else { text })
    };
    files
        .into_iter()
        .map(source)
        .filter(|(room, ..)| room != "lib" && room != "main")
        .collect()
}

/// The rooms that a text uses, by `crate::ROOM` in code.
fn used(text: &str) -> BTreeSet<String> {
    let code = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    let mut rooms = BTreeSet::new();
    for line in code {
        for after in line.split("crate::").skip(1) {
            let names = match after.strip_prefix('{') {
                Some(list) => list.split(',').map(str::trim).collect(),
                None => vec![after],
            };
            for name in names {
                let end = name
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .unwrap_or(name.len());
                rooms.insert(name[..end].to_owned());
            }
        }
    }
    rooms
}

#[test]
fn rooms_use_only_those_they_may() {
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (room, path, text) in sources() {
        let allowed = arrows
            .get(room.as_str())
            .unwrap_or_else(|| panic!("{room} is no room of the table"));
        for other in used(&text) {
            let known = arrows.contains_key(other.as_str());
            if known && other != room && other != "model" && !allowed.contains(&other.as_str()) {
                wrong.push(format!("{}: {room} may not use {other}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rooms_reach_for_no_crate_that_is_not_theirs() {
    let forbidden: BTreeMap<&str, &[&str]> = FORBIDDEN_CRATES.iter().copied().collect();
    let mut wrong = Vec::new();
    for (room, path, text) in sources() {
        for name in forbidden.get(room.as_str()).copied().unwrap_or_default() {
            let uses = |line: &str| {
                line.starts_with(&format!("use {name}::")) || line.contains(&format!(" {name}::"))
            };
            if text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .any(uses)
            {
                wrong.push(format!(
                    "{}: {room} may not use the crate {name}",
                    path.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_room_of_the_table_exists() {
    let rooms: BTreeSet<String> = sources().into_iter().map(|(room, ..)| room).collect();
    for (room, _) in ARROWS {
        assert!(
            rooms.contains(*room),
            "{room} is in the table and not in the source"
        );
    }
}

#[test]
fn arrows_are_found_where_they_are_written() {
    let text = "use crate::store::Store;\nfn f() { crate::api::x(); } // crate::demo\nuse crate::{auth, hpa::Spec};\n";
    let found: Vec<String> = used(text).into_iter().collect();
    assert_eq!(found, ["api", "auth", "hpa", "store"]);
}
