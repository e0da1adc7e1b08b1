//! The addresses of names.
//!
//! The system looks names up, in threads that nothing can interrupt, and a name server that is gone makes each of them wait for
//! ten seconds and more. So a name that is being looked up is not looked up a second time, and only some are at a time: threads are
//! shared with all who read files.

use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;

use crate::transport::root_cause;

/// Most names that are looked up at a time; the others wait.
const AT_ONCE: usize = 64;

/// The addresses of a name, or why there are none.
type Found = Result<Arc<[IpAddr]>, Arc<str>>;

/// Looks names up.
#[derive(Debug)]
pub(super) struct Names {
    turns: Arc<Semaphore>,
    /// No more than there are names of targets.
    running: Arc<Mutex<HashMap<String, watch::Receiver<Option<Found>>>>>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            running: Arc::default(),
        }
    }
}

impl Names {
    /// The addresses of `host`, which may be one. Whoever does not wait for them leaves the lookup to those who ask next.
    ///
    /// # Errors
    /// In words, where it has none.
    pub(super) async fn addresses(&self, host: &str) -> Found {
        if let Ok(address) = host.parse() {
            return Ok([address].into());
        }
        let mut done = self.lookup(host, system);
        let found = done.wait_for(Option::is_some).await;
        let found = found.ok().and_then(|found| found.clone());
        found.unwrap_or_else(|| Err("the lookup ended without a result".into()))
    }

    /// The lookup of `host` that is running, or a new one, by `look_up`.
    fn lookup(
        &self,
        host: &str,
        look_up: impl FnOnce(&str) -> Found + Send + 'static,
    ) -> watch::Receiver<Option<Found>> {
        let mut running = self.running.lock();
        if let Some(lookup) = running.get(host) {
            return lookup.clone();
        }
        let (sender, receiver) = watch::channel(None);
        running.insert(host.to_owned(), receiver.clone());
        let (turns, running) = (Arc::clone(&self.turns), Arc::clone(&self.running));
        let host = host.to_owned();
        tokio::spawn(async move {
            let turn = turns.acquire_owned().await;
            let name = host.clone();
            let looked_up = spawn_blocking(move || {
                // Held until the lookup has ended, whoever still waits for it.
                let _turn = turn;
                look_up(&name)
            });
            let found = looked_up.await.ok();
            running.lock().remove(&host);
            sender.send_replace(found);
        });
        receiver
    }
}

/// By the system's own resolver (getaddrinfo), so as every other program here.
fn system(host: &str) -> Found {
    match (host, 0).to_socket_addrs() {
        Ok(addresses) => Ok(addresses.map(|it| it.ip()).collect()),
        Err(error) => Err(root_cause(&error).into()),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A lookup that ends when it is let, and is counted.
    fn slow(
        release: Receiver<()>,
        count: &Arc<AtomicUsize>,
    ) -> impl FnOnce(&str) -> Found + Send + 'static {
        let count = Arc::clone(count);
        move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            release.recv_timeout(PATIENCE).unwrap();
            Ok([IpAddr::from([127, 0, 0, 1])].into())
        }
    }

    #[tokio::test]
    async fn a_name_that_hangs_is_looked_up_once_and_few_names_at_a_time() {
        let names = Names {
            turns: Arc::new(Semaphore::new(2)),
            ..Names::default()
        };
        let count = Arc::new(AtomicUsize::new(0));
        let mut releases = Vec::new();
        let mut waiting = Vec::new();
        for name in ["a", "b", "a", "c", "a", "b"] {
            let (release, released) = channel();
            waiting.push(names.lookup(name, slow(released, &count)));
            releases.push(release);
        }
        tokio::time::timeout(PATIENCE, async {
            while count.load(Ordering::SeqCst) < 2 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        assert_eq!(names.turns.available_permits(), 0);
        assert_eq!(names.running.lock().len(), 3);
        for release in releases {
            // Nobody listens where the lookup was another's.
            let _ = release.send(());
        }
        for mut done in waiting {
            let found = tokio::time::timeout(PATIENCE, done.wait_for(Option::is_some)).await;
            assert!(found.unwrap().unwrap().as_ref().unwrap().is_ok());
        }
        assert_eq!(count.load(Ordering::SeqCst), 3);
        assert!(names.running.lock().is_empty());
    }

    #[tokio::test]
    async fn addresses_are_their_own_and_names_those_of_the_system() {
        let names = Names::default();
        let address = IpAddr::from([10, 0, 0, 7]);
        assert_eq!(names.addresses("10.0.0.7").await.unwrap()[..], [address]);
        let local = names.addresses("localhost").await.unwrap();
        assert!(local.iter().all(IpAddr::is_loopback) && !local.is_empty());
    }
}
