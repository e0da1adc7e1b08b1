//! The real Prometheus that tests compare with.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the server must say that it is, lest another one is compared with.
pub(crate) const VERSION: &str = "3.14.0";

/// The folder of the programs, built now if they are not there yet (which takes minutes, and says so).
pub(crate) fn programs() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/prometheus/build.sh");
    let output = Command::new(&script).stderr(Stdio::inherit()).output();
    let output = output.expect("tests/prometheus/build.sh");
    assert!(
        output.status.success(),
        "{}: {}",
        script.display(),
        output.status
    );
    let text = String::from_utf8(output.stdout).expect("a UTF-8 path");
    PathBuf::from(text.trim())
}
