//! The tasks that run beside the server. Each has a name, ends when told, and is missed when it ends by itself: a process
//! that no longer learns whom to trust, or what its targets are, must not go on looking healthy.

use std::future::Future;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, error, error_span};

/// The tasks; clones are the same ones.
#[derive(Clone, Debug)]
pub struct Tasks {
    tracker: TaskTracker,
    cancel: CancellationToken,
    /// The first task that ended by itself.
    lost: watch::Sender<Option<&'static str>>,
}

impl Default for Tasks {
    fn default() -> Self {
        let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
        Self {
            tracker,
            cancel,
            lost: watch::Sender::new(None),
        }
    }
}

impl Tasks {
    /// What each task is to end with.
    pub fn token(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Runs a task that ends with [`Tasks::token`] and not before.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let (cancel, lost) = (self.cancel.clone(), self.lost.clone());
        let task = tokio::spawn(task.instrument(error_span!("task", name)));
        self.tracker.spawn(async move {
            let ended = task.await;
            if cancel.is_cancelled() && ended.is_ok() {
                return;
            }
            let panicked = ended.is_err();
            error!(name, panicked, "task has ended by itself");
            lost.send_if_modified(|lost| lost.replace(name).is_none());
        });
    }

    /// Waits until a task ends by itself, and gives its name.
    pub async fn lost(&self) -> &'static str {
        let mut lost = self.lost.subscribe();
        match lost.wait_for(Option::is_some).await {
            Ok(name) => name.unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Tells all tasks to end, and waits for them.
    pub async fn stop(&self) {
        self.cancel.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_by_itself_or_panics_is_missed() {
        for panics in [false, true] {
            let tasks = Tasks::default();
            let cancel = tasks.token();
            tasks.spawn("steady", async move { cancel.cancelled().await });
            assert!(
                timeout(Duration::from_secs(60), tasks.lost())
                    .await
                    .is_err()
            );
            tasks.spawn("brittle", async move {
                assert!(!panics, "as the test wants it")
            });
            assert_eq!(
                timeout(Duration::from_secs(60), tasks.lost()).await,
                Ok("brittle")
            );
            tasks.stop().await;
        }
    }

    #[tokio::test]
    async fn a_task_that_ends_when_told_is_not_missed() {
        let tasks = Tasks::default();
        let cancel = tasks.token();
        tasks.spawn("steady", async move { cancel.cancelled().await });
        tasks.stop().await;
        assert!(tasks.lost.borrow().is_none());
    }
}
