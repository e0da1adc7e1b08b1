//! The audit log: one line of JSON for each request.
//!
//! Requests never wait for it. Lines go over a short queue to a thread of its own, which may be blocked by a full pipe
//! or a slow disk; what finds the queue full, or cannot be written, is counted. A thread and not a task, as a blocked
//! one must not keep the process from ending.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tracing::{error, info};

use super::metrics::ServerMetrics;
use crate::auth::RequestAttributes;
use crate::model::time::Timestamp;

/// Most lines that wait to be written.
const QUEUE: usize = 4096;
/// Lines that wait are written together, up to about so many bytes: under load each would cost a call of the system otherwise.
const TOGETHER: usize = 64 << 10;
/// The longest text of a field, in bytes; clients choose most of them. Kubernetes' own names are shorter.
const LONGEST: usize = 256;

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditLog {
    /// Standard output; logs go to standard error.
    Stdout,
    /// The end of a file, which is made if it is not there, for the owner's eyes only.
    File(PathBuf),
}

/// The audit log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the audit log {path}")]
pub struct AuditError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The way into the log; clones lead into the same one.
#[derive(Clone, Debug)]
pub struct Audit {
    lines: Sender<String>,
    lost: Counter,
}

/// What there is to say of a request.
pub(super) struct Line<'a> {
    pub(super) time: Timestamp,
    pub(super) peer: Option<SocketAddr>,
    pub(super) user: Option<&'a str>,
    pub(super) groups: usize,
    pub(super) attributes: &'a RequestAttributes,
    pub(super) asked: &'a str,
    pub(super) code: Option<u16>,
    pub(super) answered: Option<&'a str>,
    pub(super) age: Option<Duration>,
    pub(super) duration: Duration,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    groups: usize,
    verb: &'a str,
    #[serde(flatten)]
    object: Object<'a>,
    asked: &'a str,
    /// Missing where the client did not wait for the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answered: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample_age_seconds: Option<f64>,
    duration_seconds: f64,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Object<'a> {
    Resource {
        group: &'a str,
        version: &'a str,
        resource: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        subresource: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        namespace: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        name: &'a str,
    },
    Path {
        path: &'a str,
    },
}

impl Audit {
    /// Opens the log and starts to write to it.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(log: &AuditLog, metrics: &ServerMetrics) -> Result<Self, AuditError> {
        let out: Box<dyn Write + Send> = match log {
            AuditLog::Stdout => Box::new(io::stdout()),
            AuditLog::File(path) => {
                let mut options = OpenOptions::new();
                let file = options.create(true).append(true).mode(0o600).open(path);
                Box::new(file.map_err(|source| AuditError {
                    path: path.clone(),
                    source,
                })?)
            }
        };
        Ok(Self::into(out, metrics))
    }

    fn into(out: Box<dyn Write + Send>, metrics: &ServerMetrics) -> Self {
        let (lines, queue) = channel(QUEUE);
        let lost = metrics.audit_lost.clone();
        let counter = lost.clone();
        thread::spawn(move || write_all(queue, out, &counter));
        Self { lines, lost }
    }

    pub(super) fn write(&self, line: &Line<'_>) {
        // A line that there is no room for is not made.
        match self.lines.try_reserve() {
            Ok(place) => place.send(line.text()),
            Err(_) => {
                self.lost.inc();
            }
        }
    }
}

/// Writes lines until nobody can send any more.
fn write_all(mut queue: Receiver<String>, mut out: impl Write, lost: &Counter) {
    let mut broken = false;
    while let Some(mut lines) = queue.blocking_recv() {
        let mut count = 1;
        while lines.len() < TOGETHER
            && let Ok(next) = queue.try_recv()
        {
            lines.push_str(&next);
            count += 1;
        }
        let written = out.write_all(lines.as_bytes()).and_then(|()| out.flush());
        match written {
            Ok(()) if broken => info!("audit log is written again"),
            Ok(()) => {}
            Err(ref error) => {
                lost.inc_by(count);
                if !broken {
                    error!(%error, "audit log cannot be written; what is lost is counted");
                }
            }
        }
        broken = written.is_err();
    }
}

impl Line<'_> {
    /// The line with its end.
    fn text(&self) -> String {
        let (verb, object) = match self.attributes {
            RequestAttributes::Resource {
                verb,
                group,
                version,
                namespace,
                resource,
                subresource,
                name,
            } => {
                let object = Object::Resource {
                    group: cut(group),
                    version: cut(version),
                    resource: cut(resource),
                    subresource: cut(subresource),
                    namespace: cut(namespace),
                    name: cut(name),
                };
                (verb, object)
            }
            RequestAttributes::NonResource { verb, path } => {
                (verb, Object::Path { path: cut(path) })
            }
        };
        let written = Written {
            time: self.time.to_string(),
            peer: self.peer,
            user: self.user.map(cut),
            groups: self.groups,
            verb: cut(verb),
            object,
            asked: cut(self.asked),
            code: self.code,
            answered: self.answered.map(cut),
            sample_age_seconds: self.age.map(|age| age.as_secs_f64()),
            duration_seconds: self.duration.as_secs_f64(),
        };
        let mut text = serde_json::to_string(&written).expect("texts and numbers are JSON");
        text.push('\n');
        text
    }
}

/// The text up to [`LONGEST`].
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST)]
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use serde_json::{Value, json};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn line(attributes: &RequestAttributes) -> Line<'_> {
        Line {
            time: Timestamp::from_millis(0),
            peer: None,
            user: Some("alice"),
            groups: 2,
            attributes,
            asked: "application/json",
            code: Some(200),
            answered: Some("application/json"),
            age: Some(Duration::from_millis(1500)),
            duration: Duration::from_millis(2),
        }
    }

    #[test]
    fn a_line_is_json_whatever_the_client_chose_and_no_longer_than_it_may_be() {
        let path = format!("/\n\"{}", "é".repeat(10_000));
        let attributes = RequestAttributes::NonResource {
            verb: "get".to_owned(),
            path,
        };
        let text = line(&attributes).text();
        assert_eq!(text.find('\n'), Some(text.len() - 1), "one line");
        assert!(text.len() < 1000, "{}", text.len());
        let read: Value = serde_json::from_str(&text).expect("JSON");
        let path = read["path"].as_str().expect("a path");
        assert!(
            path.starts_with("/\n\"é") && path.len() <= LONGEST,
            "{path}"
        );
        assert_eq!(read["sampleAgeSeconds"], json!(1.5));
    }

    /// Takes a byte only when it is let, and tells what it took.
    struct Blocked {
        entered: mpsc::Sender<()>,
        release: mpsc::Receiver<()>,
    }

    impl Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.entered.send(());
            let _ = self.release.recv_timeout(PATIENCE);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_takes_nothing_blocks_nobody_and_what_is_lost_is_counted() {
        let metrics = ServerMetrics::default();
        let (entered, has_entered) = mpsc::channel();
        let (_release, release) = mpsc::channel();
        let audit = Audit::into(Box::new(Blocked { entered, release }), &metrics);
        let attributes = RequestAttributes::NonResource {
            verb: "get".to_owned(),
            path: "/".to_owned(),
        };
        let line = line(&attributes);
        audit.write(&line);
        has_entered.recv_timeout(PATIENCE).expect("the first line");
        for _ in 0..QUEUE + 3 {
            audit.write(&line);
        }
        assert_eq!(metrics.audit_lost.get(), 3);
    }

    #[test]
    fn a_log_that_breaks_is_counted_line_by_line() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let lost = Counter::default();
        let (lines, queue) = channel(2);
        lines.try_send("a\n".to_owned()).expect("room");
        lines.try_send("b\n".to_owned()).expect("room");
        drop(lines);
        write_all(queue, Broken, &lost);
        assert_eq!(lost.get(), 2);
    }
}
