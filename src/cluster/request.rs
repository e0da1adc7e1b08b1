//! One request to the API server on somebody's behalf: a deadline over all, a few retries, a readable error.

use std::collections::hash_map::RandomState;
use std::error::Error;
use std::fmt::Write;
use std::hash::BuildHasher;
use std::time::Duration;

use kube::core::Status;
use tokio::time::{Instant, sleep_until, timeout_at};

/// The time for one request, all its attempts together: what kube-apiserver's own libraries give one attempt
/// (`apiserver/pkg/server/options/authentication.go:251`). Nobody waits longer for an answer to a metrics request.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// How often a request is tried (`apiserver/pkg/util/webhook/webhook.go:63`).
const ATTEMPTS: u32 = 5;

/// The wait before the second attempt; each later one is half as long again, plus up to a fifth at random.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// Why a request to the API server has no answer. All but most refusals may be different a moment later.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The deadline passed, retries included.
    #[error("no answer from the API server within {0:?}")]
    Timeout(Duration),
    /// The API server answered with an error.
    #[error("the API server answered {}", refusal(.0))]
    Refused(Box<Status>),
    /// The request did not get there, or the answer did not make sense.
    #[error("the request to the API server failed")]
    Failed(#[source] Box<kube::Error>),
}

impl RequestError {
    /// The refusal, if the API server gave one.
    pub fn refusal(&self) -> Option<&Status> {
        match self {
            Self::Refused(status) => Some(status),
            Self::Timeout(_) | Self::Failed(_) => None,
        }
    }

    /// Whether the API server answered with this status of HTTP. kube's own tests look at the reason alone, which a path that is not
    /// there does not have.
    pub fn has_code(&self, code: u16) -> bool {
        self.refusal().is_some_and(|status| status.code == code)
    }
}

impl From<kube::Error> for RequestError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused(status),
            other => Self::Failed(Box::new(other)),
        }
    }
}

/// Runs `attempt` until it succeeds, fails for good, or [`DEADLINE`] has passed.
pub(super) async fn bounded<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, RequestError>
where
    F: Future<Output = kube::Result<T>>,
{
    let end = Instant::now() + DEADLINE;
    let mut wait = FIRST_WAIT;
    for left in (0..ATTEMPTS).rev() {
        let error = match timeout_at(end, attempt()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_) => return Err(RequestError::Timeout(DEADLINE)),
        };
        let Some(asked) = retry_after(&error).filter(|_| left > 0) else {
            return Err(error.into());
        };
        let next = Instant::now() + asked.max(wait + jitter(wait / 5));
        if next >= end {
            return Err(error.into());
        }
        sleep_until(next).await;
        wait = wait * 3 / 2;
    }
    Err(RequestError::Timeout(DEADLINE))
}

/// How long the API server wants to be left alone before another attempt; `None` if another attempt is of no use.
fn retry_after(error: &kube::Error) -> Option<Duration> {
    match error {
        kube::Error::Api(status) => {
            let asked = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
            let passing = matches!(status.code, 408 | 429 | 500 | 502 | 503 | 504);
            (passing || asked > 0).then(|| Duration::from_secs(asked.into()))
        }
        kube::Error::HyperError(_) | kube::Error::Service(_) => Some(Duration::ZERO),
        _ => None,
    }
}

/// A random duration below `limit`.
fn jitter(limit: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8) % 1024;
    limit.mul_f64(f64::from(u32::try_from(random).unwrap_or(0)) / 1024.0)
}

/// `403 Forbidden: pods is forbidden: …`, leaving out what is empty.
fn refusal(status: &Status) -> String {
    let mut text = status.code.to_string();
    if !status.reason.is_empty() {
        text.push(' ');
        text.push_str(&status.reason);
    }
    if !status.message.is_empty() {
        text.push_str(": ");
        text.push_str(status.message.trim_end());
    }
    text
}

/// The error and its causes on one line, without repeating what a cause already said.
///
/// kube's errors print their source inside themselves, some of them twice.
pub fn describe(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let part = match error.downcast_ref::<kube::Error>() {
            Some(kube::Error::Api(status)) => return joined(text, &refusal(status)),
            _ => error.to_string(),
        };
        // A watcher's error carries kube's, which prints the whole status in debugging form: prefer what lies below.
        let wraps_status = error
            .source()
            .and_then(|source| source.downcast_ref::<kube::Error>())
            .is_some_and(|source| matches!(source, kube::Error::Api(_)));
        if !wraps_status && !text.contains(&part) {
            text = joined(text, &part);
        }
        next = error.source();
    }
    text
}

fn joined(mut text: String, part: &str) -> String {
    let separator = if text.is_empty() { "" } else { ": " };
    let _ = write!(text, "{separator}{part}");
    text
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn status(code: u16, reason: &str) -> kube::Error {
        kube::Error::Api(Status::failure("told so", reason).with_code(code).boxed())
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_tried_again_five_times_in_all() {
        let tries = Cell::new(0);
        let started = Instant::now();
        let answer: Result<(), _> = bounded(|| {
            tries.set(tries.get() + 1);
            async { Err(status(500, "InternalError")) }
        })
        .await;
        assert_eq!(tries.get(), 5);
        assert!(answer.is_err_and(|error| error.refusal().is_some_and(|s| s.code == 500)));
        assert!(started.elapsed() >= Duration::from_millis(4060));
        assert!(started.elapsed() < Duration::from_millis(4900));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_not_tried_again() {
        let tries = Cell::new(0);
        let answer: Result<(), _> = bounded(|| {
            tries.set(tries.get() + 1);
            async { Err(status(403, "Forbidden")) }
        })
        .await;
        assert_eq!(tries.get(), 1);
        let text = answer.expect_err("refused").to_string();
        assert_eq!(text, "the API server answered 403 Forbidden: told so");
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_hangs_costs_ten_seconds() {
        let started = Instant::now();
        let answer: Result<(), _> = bounded(std::future::pending).await;
        assert!(matches!(answer, Err(RequestError::Timeout(_))));
        assert_eq!(started.elapsed(), DEADLINE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_past_the_deadline_is_not_begun() {
        let started = Instant::now();
        let answer: Result<(), _> = bounded(|| async {
            let details = serde_json::from_value(serde_json::json!({"retryAfterSeconds": 60}));
            let status = Status::failure("busy", "TooManyRequests")
                .with_code(429)
                .with_details(details.expect("details"));
            Err(kube::Error::Api(status.boxed()))
        })
        .await;
        assert!(answer.is_err_and(|error| error.refusal().is_some_and(|s| s.code == 429)));
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[test]
    fn a_watch_error_is_told_in_one_line() {
        let error = kube::runtime::watcher::Error::InitialListFailed(status(403, "Forbidden"));
        assert_eq!(describe(&error), "403 Forbidden: told so");
        let gone = std::io::Error::other("connection reset");
        let error = kube::runtime::watcher::Error::WatchFailed(kube::Error::ReadEvents(gone));
        assert_eq!(
            describe(&error),
            "watch stream failed: Error reading events stream: connection reset"
        );
    }
}
