//! Child processes that cannot outlive the test binary, however it ends.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use crate::wait::eventually;

/// A private folder for keys, data and logs, and the guard that clears up after the test binary.
///
/// libtest ends the process without dropping statics. The guard is a shell that reads from a pipe which only this process
/// holds: when the pipe closes (a normal end, a panic, a kill), it kills what is still registered and removes the folder.
pub(crate) struct Workspace {
    folder: PathBuf,
    /// Ends when its standard input closes, that is with this process.
    _guard: Child,
}

const GUARD: &str = r#"
cat >/dev/null
cd "$1/running" && for pid in *; do kill -9 "$pid"; done
while [ -d "$1" ] && ! rm -rf "$1"; do sleep 0.1; done
"#;

impl Workspace {
    /// A new one, in the temporary folder of the machine; `kind` is part of its name.
    pub(crate) fn create(kind: &str) -> Self {
        let (pid, now) = (std::process::id(), jiff::Timestamp::now().as_millisecond());
        let name = format!("gpu-metrics-adapter-{kind}-{pid}-{now}");
        let folder = std::env::temp_dir().join(name);
        // Nobody else may read the keys in it.
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .expect("a new folder");
        fs::create_dir(folder.join("running")).expect("a new folder");
        let mut guard = Command::new("sh");
        guard
            .args(["-c", GUARD, "guard"])
            .arg(&folder)
            .current_dir("/");
        // In a process group of its own, so that an interrupt from the terminal does not end it first.
        guard.process_group(0).stdin(Stdio::piped());
        let guard = guard
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        Self {
            folder,
            _guard: guard,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a file and gives its path.
    pub(crate) fn write(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        fs::write(&path, content).expect("a file in the workspace");
        path.into_os_string().into_string().expect("a UTF-8 path")
    }

    /// Starts `program`; what it prints goes to a log file of its own.
    pub(crate) fn spawn(
        &self,
        name: &'static str,
        program: &Path,
        arguments: &[String],
    ) -> Process {
        let log = self.path(&format!("{name}.log"));
        let output = fs::File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("a log file");
        let child = Command::new(program)
            .args(arguments)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stderr(output.try_clone().expect("a second handle"))
            .stdout(output)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} at {}: {error}", program.display()));
        let registration = self.path("running").join(child.id().to_string());
        fs::write(&registration, name).expect("a registration");
        Process {
            name,
            log,
            registration,
            child: Mutex::new(child),
        }
    }
}

/// A running child with its log; killed when dropped.
pub(crate) struct Process {
    name: &'static str,
    log: PathBuf,
    registration: PathBuf,
    child: Mutex<Child>,
}

impl Process {
    /// The exit status, if the process has ended.
    pub(crate) fn ended(&self) -> Option<ExitStatus> {
        let mut child = self.child.lock().expect("no panic while waiting");
        child.try_wait().expect("a child of ours")
    }

    /// Panics with the end of the log if the process has ended, so that a wrong flag fails at once and not at a deadline.
    pub(crate) fn assert_running(&self) {
        if let Some(status) = self.ended() {
            panic!("{} ended: {status}\n{}", self.name, self.tail(40));
        }
    }

    /// Asks it to end, as a kubelet does, and waits.
    pub(crate) async fn terminate(&self, within: Duration) -> ExitStatus {
        let pid = self.id();
        let status = Command::new("kill")
            .args(["-TERM", &pid.to_string()])
            .status()
            .expect("kill");
        assert!(status.success(), "kill -TERM {}: {status}", self.name);
        eventually(&format!("the end of {}", self.name), within, async || {
            self.ended().ok_or_else(|| "still runs".to_owned())
        })
        .await
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.lock().expect("no panic while waiting").id()
    }

    /// The last `lines` of its log, under a heading.
    pub(crate) fn tail(&self, lines: usize) -> String {
        let mut text = Vec::new();
        if let Ok(mut log) = fs::File::open(&self.log) {
            let _ = log.read_to_end(&mut text);
        }
        let text = String::from_utf8_lossy(&text);
        let all: Vec<String> = text
            .lines()
            .map(|line| line.chars().take(400).collect())
            .collect();
        let end = all[all.len().saturating_sub(lines)..].join("\n");
        format!("--- {} ---\n{end}", self.name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(child) = self.child.get_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_file(&self.registration);
    }
}
