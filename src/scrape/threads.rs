//! The threads that targets are scraped on: few, of their own, each with the same targets from their beginning to their end.
//!
//! A scrape is a few tens of microseconds of work between two waits. Where any thread of the process may go on with it, most of
//! them wake others to no purpose, and what it needs next lies in another core's caches: that took half as much again. And
//! whoever asks the API waits for no page that is being read.

use std::io;
use std::sync::mpsc;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::error;

/// One thread scrapes for so many cores: a core reads the pages of ten thousand nodes.
const CORES: usize = 8;

/// The threads, as long as this lives.
#[derive(Debug)]
pub(super) struct Threads {
    handles: Vec<Handle>,
    _end: DropGuard,
}

impl Threads {
    /// Starts them. Where the system gives none, the threads that all else runs on take their place.
    pub(super) fn start() -> Self {
        let end = CancellationToken::new();
        let count = available_parallelism().map_or(1, |it| it.get().div_ceil(CORES));
        let mut handles = Vec::with_capacity(count);
        for _ in 0..count {
            match thread(end.clone()) {
                Ok(handle) => handles.push(handle),
                Err(error) => error!(%error, "no thread to scrape on"),
            }
        }
        if handles.is_empty() {
            handles.push(Handle::current());
        }
        Self {
            handles,
            _end: end.drop_guard(),
        }
    }

    pub(super) fn handles(&self) -> &[Handle] {
        &self.handles
    }
}

/// A thread that runs what is spawned on it until `end`.
fn thread(end: CancellationToken) -> io::Result<Handle> {
    let (sender, receiver) = mpsc::sync_channel(1);
    // The runtime is made and dropped there: where tasks run, none may be dropped.
    let run = move || match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let _ = sender.send(Ok(runtime.handle().clone()));
            runtime.block_on(end.cancelled());
        }
        Err(error) => {
            let _ = sender.send(Err(error));
        }
    };
    std::thread::Builder::new()
        .name("scrape".to_owned())
        .spawn(run)?;
    receiver
        .recv()
        .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
}
