//! Child processes: what they take, and how the bench speaks with its own.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde::de::DeserializeOwned;

/// Ticks of the kernel's clock a second, in `/proc/PID/stat`: 100 on every Linux that this is run on.
const TICKS: f64 = 100.0;

/// A child that ends with this value.
pub(crate) struct Running {
    child: Child,
    /// The two ends of a child that is this program in another role.
    pipes: Option<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Running {
    /// This program in another role; returns once it is ready.
    pub(crate) fn role(arguments: &[&str]) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("this program runs");
        let input = child.stdin.take().expect("it is piped");
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a pipe");
        assert_eq!(line, "ready\n", "{arguments:?} has not come up");
        Self {
            child,
            pipes: Some((input, output)),
        }
    }

    /// Another program; what it prints goes to `log`.
    pub(crate) fn program(command: &mut Command, log: &Path) -> Self {
        let output = fs::File::create(log).expect("a log file");
        let copy = output.try_clone().expect("a second handle");
        let command = command.stdin(Stdio::null()).stdout(output).stderr(copy);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, pipes: None }
    }

    /// Asks a child of this program.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self) -> T {
        let (input, output) = self
            .pipes
            .as_mut()
            .expect("only this program is asked by pipe");
        input.write_all(b"\n").expect("it runs");
        let mut line = String::new();
        output.read_line(&mut line).expect("it runs");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    /// CPU seconds so far.
    pub(crate) fn cpu(&self) -> f64 {
        let stat = self.read("stat");
        let (_, fields) = stat.rsplit_once(')').expect("the name stands in brackets");
        let ticks = fields.split_whitespace().skip(11).take(2);
        ticks
            .map(|it| it.parse::<f64>().expect("a number"))
            .sum::<f64>()
            / TICKS
    }

    pub(crate) fn memory(&self) -> Memory {
        let (status, rollup) = (self.read("status"), self.read("smaps_rollup"));
        let of = |text: &str, key: &str| {
            let line = text
                .lines()
                .find(|line| line.starts_with(key))
                .unwrap_or_default();
            line.split_whitespace()
                .nth(1)
                .and_then(|it| it.parse().ok())
                .unwrap_or(f64::NAN)
                * 1_024.0
        };
        Memory {
            resident: of(&status, "VmRSS:"),
            peak: of(&status, "VmHWM:"),
            proportional: of(&rollup, "Pss:"),
            anonymous: of(&rollup, "Anonymous:"),
        }
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("the process runs")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) resident: f64,
    pub(crate) peak: f64,
    pub(crate) proportional: f64,
    pub(crate) anonymous: f64,
}

/// A temporary folder that goes with this value.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!(
            "gpu-metrics-adapter-fleet-{}-{name}",
            std::process::id()
        ));
        fs::create_dir(&path).expect("a folder of our own");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The value of a metric without labels on a server's page, or the sum over its labels.
pub(crate) fn metric(address: SocketAddr, name: &str) -> Option<f64> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .ok()?;
    // HTTP/1.0: the body comes unchunked and ends with the connection.
    stream
        .write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    let values = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = rest
            .strip_prefix(' ')
            .or_else(|| rest.strip_prefix('{')?.rsplit_once("} ").map(|it| it.1))?;
        value.trim().parse::<f64>().ok()
    });
    values.reduce(|a, b| a + b)
}
