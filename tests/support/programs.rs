//! Real programs that tests run, and the Prometheus that they compare with.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the server must say that it is, lest another one is compared with.
pub(crate) const VERSION: &str = "3.14.0";

/// The folder of the Prometheus and the promtool.
pub(crate) fn programs() -> PathBuf {
    built("tests/prometheus/build.sh")
}

/// The folder that a script prints whose programs are built now if they are not there yet (which takes minutes, and says so).
pub(crate) fn built(script: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let output = Command::new(path).stderr(Stdio::inherit()).output();
    let output = output.expect(script);
    assert!(output.status.success(), "{script}: {}", output.status);
    let text = String::from_utf8(output.stdout).expect("a UTF-8 path");
    PathBuf::from(text.trim())
}
