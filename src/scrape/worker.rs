//! The targets of one thread: when each is looked at, and the scrapes that run.
//!
//! A target that waits is a [`Scraper`] in a map and a time in a list; the runtime knows nothing of it. There are tens of thousands
//! of them and a few dozen that are being scraped, and those that begin with the same tick share its timer.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use super::pace::Turn;
use super::scraper::Scraper;

/// A timer of this length always runs. Where a runtime has none, each that is set has it wake itself, which is a system call for the
/// time-out of each scrape.
const BEAT: Duration = Duration::from_secs(1);

/// What a worker is told.
pub(super) enum Order {
    /// To scrape a target from now on.
    Start(Box<Scraper>),
    /// That the target of this id is to be scraped no more; its series go.
    End(u64),
}

/// Scrapes the targets of one thread.
pub(super) struct Worker {
    /// As many as targets come and go.
    orders: UnboundedReceiver<Order>,
    /// Targets whose time may have come sooner than they said; each at most once.
    woken: UnboundedReceiver<u64>,
    /// Who is told which target's scrape panicked.
    panicked: UnboundedSender<(u64, JoinError)>,
    waiting: HashMap<u64, Waiting>,
    /// When each of them is to be looked at.
    due: BTreeSet<(Instant, u64)>,
    scrapes: JoinSet<Box<Scraper>>,
    /// By target.
    running: HashMap<u64, AbortHandle>,
}

struct Waiting {
    scraper: Box<Scraper>,
    due: Instant,
}

impl Worker {
    pub(super) fn new(
        orders: UnboundedReceiver<Order>,
        woken: UnboundedReceiver<u64>,
        panicked: UnboundedSender<(u64, JoinError)>,
    ) -> Self {
        Self {
            orders,
            woken,
            panicked,
            waiting: HashMap::new(),
            due: BTreeSet::new(),
            scrapes: JoinSet::new(),
            running: HashMap::new(),
        }
    }

    /// Scrapes until nobody can give orders any more; then every scrape has ended.
    pub(super) async fn run(mut self) {
        let mut timer = pin!(sleep_until(Instant::now()));
        let mut beat = pin!(sleep(BEAT));
        loop {
            let first = self.due.first().map(|(due, _)| *due);
            if let Some(due) = first.filter(|due| *due != timer.deadline()) {
                timer.as_mut().reset(due);
            }
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(Order::Start(scraper)) => self.wait(scraper),
                    Some(Order::End(id)) => self.end(id),
                    None => break,
                },
                Some(id) = self.woken.recv() => self.look(id),
                Some(ended) = self.scrapes.join_next() => self.ended(ended),
                () = &mut timer, if first.is_some() => self.look_at_due(),
                () = &mut beat => beat.as_mut().reset(Instant::now() + BEAT),
            }
        }
        self.scrapes.shutdown().await;
    }

    /// Looks at every target whose time has come.
    fn look_at_due(&mut self) {
        let now = Instant::now();
        while let Some((due, id)) = self.due.first().copied()
            && due <= now
        {
            self.look(id);
        }
    }

    /// Looks at the time of a target, unless it is being scraped: then that is done when it has been.
    fn look(&mut self, id: u64) {
        if let Some(scraper) = self.take(id) {
            self.wait(scraper);
        }
    }

    /// Takes out a target that waits.
    fn take(&mut self, id: u64) -> Option<Box<Scraper>> {
        let Waiting { scraper, due } = self.waiting.remove(&id)?;
        self.due.remove(&(due, id));
        Some(scraper)
    }

    /// Has a target wait for its time, if that has not come.
    fn wait(&mut self, scraper: Box<Scraper>) {
        let id = scraper.id();
        match scraper.turn() {
            Ok(turn) => self.begin(scraper, turn),
            Err(due) => {
                self.due.insert((due, id));
                self.waiting.insert(id, Waiting { scraper, due });
            }
        }
    }

    fn begin(&mut self, scraper: Box<Scraper>, turn: Turn) {
        let id = scraper.id();
        let scrape = self.scrapes.spawn(scraper.run(turn));
        self.running.insert(id, scrape);
    }

    fn ended(&mut self, ended: Result<Box<Scraper>, JoinError>) {
        match ended {
            // Else it is to be scraped no more.
            Ok(scraper) => {
                if self.running.remove(&scraper.id()).is_some() {
                    self.wait(scraper);
                }
            }
            Err(error) => {
                let is_it = |(_, scrape): &(&u64, &AbortHandle)| scrape.id() == error.id();
                if let Some(id) = self.running.iter().find(is_it).map(|(id, _)| *id) {
                    self.running.remove(&id);
                    let _ = self.panicked.send((id, error));
                }
            }
        }
    }

    fn end(&mut self, id: u64) {
        if self.take(id).is_none()
            && let Some(scrape) = self.running.remove(&id)
        {
            scrape.abort();
        }
    }
}
