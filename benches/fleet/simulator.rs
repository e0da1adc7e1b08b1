//! The simulated exporters of one kind: a process of its own, one thread, plain HTTP/1.1 with keep-alive.
//!
//! It does as little as it can, so that what is measured is the scraper. It counts what it was asked: a target that is not
//! asked in time shows as a gap.

use std::cell::RefCell;
use std::io::BufRead as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::INTERVAL;
use crate::pages::{Dice, Kind, Template};

/// The longest request head.
const HEAD: usize = 4_096;

/// The address of a node: one of loopback's sixteen million.
pub(crate) fn address(node: u32, kind: Kind) -> SocketAddrV4 {
    let base = u32::from(Ipv4Addr::new(127, 1, 0, 1));
    SocketAddrV4::new(Ipv4Addr::from(base + node), kind.port())
}

/// What one target was asked since the last mark.
#[derive(Clone, Copy)]
struct Seen {
    last: Instant,
    scrapes: u32,
    missed: u32,
    extra: u32,
}

/// What all targets were asked since the last mark.
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Asked {
    pub(crate) scrapes: u64,
    pub(crate) samples: u64,
    pub(crate) bytes: u64,
    /// Scrapes that did not come: a gap of two intervals is one.
    pub(crate) missed: u64,
    /// Scrapes that came within half an interval of the one before.
    pub(crate) extra: u64,
}

struct Fleet {
    template: Template,
    kind: Kind,
    state: RefCell<State>,
}

struct State {
    seen: Vec<Seen>,
    bytes: u64,
    dice: Dice,
    page: Vec<u8>,
}

/// Serves until standard input closes; answers every line there with what was asked since the line before.
pub(crate) fn run(kind: Kind, nodes: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let begun = Seen {
        last: Instant::now(),
        scrapes: 0,
        missed: 0,
        extra: 0,
    };
    let fleet = Rc::new(Fleet {
        template: Template::new(kind),
        kind,
        state: RefCell::new(State {
            seen: vec![begun; nodes as usize],
            bytes: 0,
            dice: Dice(0x5eed),
            page: Vec::new(),
        }),
    });
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        for node in 0..nodes {
            let listener = TcpListener::bind(address(node, kind))
                .await
                .expect("an address of loopback");
            let fleet = Rc::clone(&fleet);
            tokio::task::spawn_local(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let fleet = Rc::clone(&fleet);
                    tokio::task::spawn_local(async move {
                        // The other side may close whenever it likes.
                        let _ = fleet.serve(node, stream).await;
                    });
                }
            });
        }
        // Standard input is read by a thread of its own; the channel closes with it.
        let (sender, mut marks) = tokio::sync::mpsc::channel(1);
        std::thread::spawn(move || {
            for _ in std::io::stdin().lock().lines() {
                if sender.blocking_send(()).is_err() {
                    return;
                }
            }
        });
        println!("ready");
        while marks.recv().await.is_some() {
            println!("{}", serde_json::to_string(&fleet.mark()).expect("numbers"));
        }
    });
}

impl Fleet {
    async fn serve(&self, node: u32, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut request = [0; HEAD];
        let mut filled = 0;
        loop {
            let read = stream.read(&mut request[filled..]).await?;
            filled += read;
            if read == 0 {
                return Ok(());
            }
            if !request[..filled].ends_with(b"\r\n\r\n") {
                continue;
            }
            filled = 0;
            let mut page = self.page(node);
            let sent = stream.write_all(&page).await;
            page.clear();
            self.state.borrow_mut().page = page;
            sent?;
        }
    }

    /// The answer to a scrape, counted.
    fn page(&self, node: u32) -> Vec<u8> {
        let state = &mut *self.state.borrow_mut();
        let seen = &mut state.seen[node as usize];
        let now = Instant::now();
        let gap = now.duration_since(seen.last);
        if seen.scrapes > 0 {
            seen.missed += missed(gap);
            seen.extra += u32::from(gap < INTERVAL / 2);
        }
        seen.scrapes += 1;
        seen.last = now;

        let mut page = std::mem::take(&mut state.page);
        page.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: ");
        page.extend_from_slice(self.kind.content_type().as_bytes());
        page.extend_from_slice(b"\r\nContent-Length: ");
        let length = page.len();
        page.extend_from_slice(b"       \r\n\r\n");
        let start = page.len();
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let millis = u64::try_from(wall.as_millis()).unwrap_or(0);
        self.template
            .render(node, millis, &mut state.dice, &mut page);
        let size = format!("{:>7}", page.len() - start);
        page[length..length + 7].copy_from_slice(size.as_bytes());
        state.bytes += (page.len() - start) as u64;
        page
    }

    /// What was asked since the last time, and begins to count anew. The time of the last scrape stays, so that a gap across
    /// the mark counts too.
    fn mark(&self) -> Asked {
        let state = &mut *self.state.borrow_mut();
        let mut asked = Asked {
            bytes: std::mem::take(&mut state.bytes),
            ..Asked::default()
        };
        for seen in &mut state.seen {
            asked.scrapes += u64::from(seen.scrapes);
            // One that is late now is not counted by a scrape to come.
            asked.missed += u64::from(seen.missed + missed(seen.last.elapsed()));
            asked.extra += u64::from(seen.extra);
            (seen.scrapes, seen.missed, seen.extra) = (0, 0, 0);
        }
        asked.samples = asked.scrapes * self.template.samples() as u64;
        asked
    }
}

/// How many scrapes a gap lacks.
fn missed(gap: Duration) -> u32 {
    let intervals = gap.as_secs_f64() / INTERVAL.as_secs_f64();
    if intervals < 1.5 {
        return 0;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few intervals"
    )]
    let whole = (intervals.round() as u32) - 1;
    whole
}
