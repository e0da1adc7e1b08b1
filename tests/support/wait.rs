//! Waiting for what another process does: always with a deadline, and with the last refusal in the failure.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// Long enough for anything the control plane does on a busy machine with two cores.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45);

/// Tries until `attempt` succeeds.
///
/// # Panics
/// After `within`, saying `what` did not come and why not.
pub(crate) async fn eventually<T, E: Display>(
    what: &str,
    within: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + within;
    let mut refusal = "the first attempt hung".to_owned();
    loop {
        match timeout_at(deadline, attempt()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(error)) => refusal = error.to_string(),
            Err(_) => panic!("no {what} within {within:?}: {refusal}"),
        }
        if Instant::now() >= deadline {
            panic!("no {what} within {within:?}: {refusal}");
        }
        sleep(Duration::from_millis(100)).await;
    }
}
