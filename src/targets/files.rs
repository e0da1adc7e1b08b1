//! Targets in files (`file_sd_configs`): what the files last said that could be used.
//!
//! Reads files and nothing else. A file that cannot be used, or is gone, keeps its last good targets and has a fault.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::scrape::{Fault, FileSd, StaticTargets};

use super::relabel::{LabelMap, set};

/// How often files are looked at, unless a `refresh_interval` is shorter. Prometheus is told of changes by the system and
/// has its `refresh_interval` as a second line only.
const LOOK: Duration = Duration::from_secs(5);

/// Largest file in bytes.
const LARGEST: u64 = 16 << 20;

/// Most files of one pattern; those beyond it, in the order of their paths, are left out.
const MOST_FILES: usize = 1_000;

/// What the files of all jobs say.
#[derive(Debug, Default)]
pub(super) struct Files {
    patterns: Vec<String>,
    every: Option<Duration>,
    known: BTreeMap<PathBuf, Known>,
    /// Faults of patterns, such as a folder that cannot be read.
    faults: BTreeMap<String, String>,
}

#[derive(Debug, Default, PartialEq)]
struct Known {
    content: Vec<u8>,
    groups: Vec<StaticTargets>,
    fault: Option<String>,
}

impl Files {
    /// The files of these discoveries, not read yet.
    pub(super) fn new<'a>(all: impl Iterator<Item = &'a FileSd>) -> Self {
        let mut files = Self::default();
        for sd in all {
            files.patterns.extend(sd.files.iter().cloned());
            let every = sd.refresh_interval.min(LOOK);
            files.every = Some(files.every.map_or(every, |it| it.min(every)));
        }
        files.patterns.sort();
        files.patterns.dedup();
        files
    }

    /// How often to read them; `None`: there are none.
    pub(super) fn every(&self) -> Option<Duration> {
        self.every
    }

    /// Reads all files; says whether anything changed. It waits for the disk.
    pub(super) fn read(&mut self) -> bool {
        let mut changed = false;
        let mut present = Vec::new();
        for pattern in &self.patterns {
            let (paths, fault) = match matching(pattern) {
                Ok(paths) => {
                    let more = paths.len().saturating_sub(MOST_FILES);
                    let fault = (more > 0).then(|| format!("{more} files too many match it"));
                    (paths, fault)
                }
                Err(error) => (Vec::new(), Some(error.to_string())),
            };
            present.extend(paths.into_iter().take(MOST_FILES));
            let before = match &fault {
                Some(fault) => self.faults.insert(pattern.clone(), fault.clone()),
                None => self.faults.remove(pattern),
            };
            changed |= before != fault;
        }
        let vanished = self.known.keys().filter(|path| !present.contains(path));
        let mut vanished: Vec<PathBuf> = vanished.cloned().collect();
        if vanished.len() > MOST_FILES {
            // Names that come and go for ever: their targets cannot all stay.
            for path in vanished.drain(..) {
                self.known.remove(&path);
            }
            changed = true;
        }
        for path in present.into_iter().chain(vanished) {
            let known = self.known.entry(path.clone()).or_default();
            changed |= known.update(&path);
        }
        changed
    }

    /// The candidates of a discovery's files.
    pub(super) fn candidates(&self, sd: &FileSd) -> Vec<LabelMap> {
        let mut found = Vec::new();
        for (path, known) in self.of(sd) {
            for group in &known.groups {
                for address in &group.targets {
                    let mut labels = LabelMap::new();
                    for (name, value) in &group.labels {
                        set(&mut labels, name, value);
                    }
                    set(&mut labels, "__meta_filepath", path.to_string_lossy());
                    set(&mut labels, "__address__", address);
                    found.push(labels);
                }
            }
        }
        found
    }

    /// What is wrong with a discovery's files: the file or pattern, and the reason.
    pub(super) fn faults(&self, sd: &FileSd) -> Vec<(String, String)> {
        let of_pattern = |pattern: &String| {
            let fault = self.faults.get(pattern)?;
            Some((pattern.clone(), fault.clone()))
        };
        let of_files = self
            .of(sd)
            .filter_map(|(path, known)| Some((path.display().to_string(), known.fault.clone()?)));
        let patterns = sd.files.iter().filter_map(of_pattern);
        patterns.chain(of_files).collect()
    }

    fn of<'a>(&'a self, sd: &'a FileSd) -> impl Iterator<Item = (&'a PathBuf, &'a Known)> {
        self.known
            .iter()
            .filter(|(path, _)| sd.files.iter().any(|pattern| matches(pattern, path)))
    }
}

impl Known {
    /// Takes in the file as it is now; says whether anything changed.
    fn update(&mut self, path: &Path) -> bool {
        let content = match read(path) {
            Ok(content) => content,
            Err(error) => {
                // What it says is read anew when it comes back.
                self.content.clear();
                return self.spoil(Some(format!("{error}; its last targets stay")));
            }
        };
        if content == self.content && !content.is_empty() {
            return false;
        }
        let groups = parse(path, &content);
        self.content = content;
        match groups {
            Ok(groups) => {
                let changed = groups != self.groups;
                self.groups = groups;
                self.spoil(None) || changed
            }
            Err(error) => self.spoil(Some(format!("{error}; its last targets stay"))),
        }
    }

    fn spoil(&mut self, fault: Option<String>) -> bool {
        let changed = fault != self.fault;
        self.fault = fault;
        changed
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?
        .take(LARGEST + 1)
        .read_to_end(&mut content)?;
    if content.len() as u64 > LARGEST {
        let message = format!("it is larger than {LARGEST} bytes");
        return Err(io::Error::other(message));
    }
    Ok(content)
}

fn parse(path: &Path, content: &[u8]) -> Result<Vec<StaticTargets>, String> {
    let json = path
        .extension()
        .is_some_and(|it| it.eq_ignore_ascii_case("json"));
    let groups: Vec<StaticTargets> = if json {
        serde_json::from_slice(content).map_err(|error| error.to_string())?
    } else {
        let text = std::str::from_utf8(content).map_err(|error| error.to_string())?;
        serde_saphyr::from_str(text).map_err(|error| error.to_string())?
    };
    let mut faults: Vec<Fault> = Vec::new();
    for (at, group) in groups.iter().enumerate() {
        group.validate(&format!("[{at}]"), &mut faults);
    }
    match faults.first() {
        Some(fault) => Err(fault.to_string()),
        None => Ok(groups),
    }
}

/// The files that there are for a pattern, in the order of their paths.
fn matching(pattern: &str) -> io::Result<Vec<PathBuf>> {
    if !pattern.contains('*') {
        // That it is not there is its own fault, not the pattern's.
        return Ok(vec![PathBuf::from(pattern)]);
    }
    let folder = Path::new(pattern).parent().unwrap_or(Path::new("/"));
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if matches(pattern, &path) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Whether a path meets a pattern. A `*` is any text without a slash.
fn matches(pattern: &str, path: &Path) -> bool {
    let Some(path) = path.to_str() else {
        return false;
    };
    let Some((before, after)) = pattern.split_once('*') else {
        return pattern == path;
    };
    path.strip_prefix(before)
        .and_then(|rest| rest.strip_suffix(after))
        .is_some_and(|middle| !middle.contains('/'))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = format!("gpu-metrics-adapter-{}-{name}", std::process::id());
            let folder = std::env::temp_dir().join(folder);
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.0.join(name), text).unwrap();
        }

        fn sd(&self, pattern: &str) -> FileSd {
            FileSd {
                files: vec![format!("{}/{pattern}", self.0.display())],
                refresh_interval: Duration::from_secs(300),
            }
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn addresses(files: &Files, sd: &FileSd) -> Vec<String> {
        let labels = files.candidates(sd).into_iter();
        labels.map(|it| it["__address__"].clone()).collect()
    }

    #[test]
    fn files_of_both_forms_are_found_by_a_pattern_and_followed() {
        let folder = Folder::new("followed");
        folder.write(
            "a.json",
            r#"[{"targets": ["a:1", "a:2"], "labels": {"rack": "r1"}}]"#,
        );
        folder.write("b.yml", "- targets: ['b:1']");
        let (json, all) = (folder.sd("*.json"), folder.sd("*.yml"));
        let mut files = Files::new([&json, &all].into_iter());
        assert_eq!(files.every(), Some(LOOK));
        assert!(files.read());
        assert!(!files.read(), "nothing changed");
        let found = files.candidates(&json);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0]["rack"], "r1");
        let path = folder.0.join("a.json").display().to_string();
        assert_eq!(found[0]["__meta_filepath"], path);
        assert_eq!(addresses(&files, &all), ["b:1"]);

        folder.write("a.json", "[]");
        folder.write("c.yml", "- targets: ['c:1']");
        assert!(files.read());
        assert_eq!(addresses(&files, &json), [""; 0]);
        assert_eq!(addresses(&files, &all), ["b:1", "c:1"]);
    }

    #[test]
    fn a_file_that_is_bad_or_gone_keeps_its_last_good_targets_and_says_so() {
        let folder = Folder::new("bad");
        let sd = folder.sd("a.yaml");
        let good = "- targets: ['a:1']";
        folder.write("a.yaml", good);
        let mut files = Files::new([&sd].into_iter());
        files.read();
        assert_eq!(files.faults(&sd), []);
        let large = format!("# {}", "x".repeat(usize::try_from(LARGEST).unwrap()));
        for (bad, reason) in [
            ("- targets: ['a:2'", "a.yaml"),
            ("- target: ['a:2']", "target"),
            ("- targets: ['http://a/m']", "not host:port"),
            ("- {targets: ['a:2'], labels: {a-b: c}}", "not a label name"),
            (&large, "larger than"),
        ] {
            folder.write("a.yaml", bad);
            files.read();
            assert_eq!(addresses(&files, &sd), ["a:1"], "{reason}");
            let faults = files.faults(&sd);
            let [(path, fault)] = faults.as_slice() else {
                panic!("{faults:?}")
            };
            assert!(path.ends_with("a.yaml"));
            assert!(reason == "a.yaml" || fault.contains(reason), "{fault}");
            assert!(!files.read(), "told once");
        }
        fs::remove_file(folder.0.join("a.yaml")).unwrap();
        assert!(files.read());
        assert_eq!(addresses(&files, &sd), ["a:1"]);
        assert_eq!(files.faults(&sd).len(), 1);
        folder.write("a.yaml", good);
        assert!(files.read());
        assert_eq!(files.faults(&sd), []);
    }

    #[test]
    fn a_star_is_a_part_of_one_name() {
        for (pattern, path, expected) in [
            ("/a/*.json", "/a/b.json", true),
            ("/a/x*.json", "/a/xy.json", true),
            ("/a/x*.json", "/a/y.json", false),
            ("/a/*.json", "/a/b/c.json", false),
            ("/a/b.json", "/a/b.json", true),
            ("/a/b.json", "/a/c.json", false),
        ] {
            assert_eq!(
                matches(pattern, Path::new(path)),
                expected,
                "{pattern} {path}"
            );
        }
    }
}
