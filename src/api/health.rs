//! `/livez`, `/readyz` and `/healthz` (apiserver `pkg/server/healthz/healthz.go`).
//!
//! Readiness never depends on data: with every exporter dead the API must still answer, or no namespace in the cluster
//! could be deleted.

use std::fmt::Write as _;

use axum::response::Response;
use http::{HeaderValue, StatusCode};

use super::respond as reply;

/// Which of the three is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// The old name of `/livez`.
    Healthz,
    Livez,
    Readyz,
}

/// One condition of readiness.
pub struct Check {
    /// Its name in the detailed list, such as `pod-watch`.
    pub name: &'static str,
    /// Whether it holds; where not, the text says why.
    pub test: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

/// Something that is told with the detailed list of `/readyz`, and that readiness does not depend on.
pub struct Note {
    /// Its name in the list.
    pub name: &'static str,
    /// What there is to say, in one line.
    pub text: Box<dyn Fn() -> String + Send + Sync>,
}

/// What health is made of.
pub struct Health {
    checks: Vec<Check>,
    notes: Vec<Note>,
}

impl Health {
    /// Ready while all `checks` hold.
    pub fn new(checks: Vec<Check>) -> Self {
        let notes = Vec::new();
        Self { checks, notes }
    }

    /// The same, which tells these too.
    #[must_use]
    pub fn with_notes(mut self, notes: Vec<Note>) -> Self {
        self.notes = notes;
        self
    }

    fn run(&self, probe: Probe, excluded: &[String]) -> Vec<(&'static str, Result<(), String>)> {
        let mut results = vec![("ping", Ok(()))];
        if probe == Probe::Readyz {
            results.extend(self.checks.iter().map(|check| (check.name, (check.test)())));
        }
        results.retain(|(name, _)| !excluded.iter().any(|excluded| excluded == name));
        results
    }
}

pub(super) fn respond(health: &Health, probe: Probe, query: Option<&str>) -> Response {
    let parameters = || form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let verbose = parameters().any(|(key, _)| key == "verbose");
    let excluded: Vec<String> = parameters()
        .filter(|(key, _)| key == "exclude")
        .map(|(_, value)| value.into_owned())
        .collect();
    let results = health.run(probe, &excluded);
    let failed = results.iter().any(|(_, result)| result.is_err());
    let name = match probe {
        Probe::Healthz => "healthz",
        Probe::Livez => "livez",
        Probe::Readyz => "readyz",
    };
    let mut text = String::new();
    if verbose || failed {
        for (check, result) in &results {
            let _ = match result {
                Ok(()) => writeln!(text, "[+]{check} ok"),
                Err(reason) => writeln!(text, "[-]{check} failed: {reason}"),
            };
        }
        let notes = health.notes.iter().filter(|_| probe == Probe::Readyz);
        for Note { name, text: note } in notes {
            let _ = writeln!(text, "[+]{name} ok: {}", note());
        }
        let _ = writeln!(
            text,
            "{name} check {}",
            if failed { "failed" } else { "passed" }
        );
    } else {
        text.push_str("ok");
    }
    let code = if failed {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        StatusCode::OK
    };
    let mut response = reply(
        code,
        HeaderValue::from_static("text/plain; charset=utf-8"),
        text,
    );
    response.headers_mut().insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
    response
}
