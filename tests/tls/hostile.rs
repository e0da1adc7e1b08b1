//! Clients that mean harm: each costs little, and everyone else is served meanwhile.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use gpu_metrics_adapter::server::Admission;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use rustls::version::TLS13;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::connections::{Tls, connect, handshake};
use crate::proc::memory;
use crate::site::{HOST, PATIENCE, Site, client, eventually, tls};

const HALF_OPEN: usize = 300;
const SLOW: usize = 100;
const RESETS: usize = 3_000;

/// How long anyone else may wait for an answer: a hundred times what it takes.
const SERVED: Duration = Duration::from_secs(2);

/// What this process, which is the clients too, may take more at its peak.
const MOST_MEBIBYTES: f64 = 192.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_clients_are_cut_off_in_bounded_memory_and_everyone_else_is_served() {
    let site = Site::start_with(Admission {
        handshake: Duration::from_secs(3),
        first_request: Duration::from_secs(3),
        request_head: Duration::from_secs(3),
        ..Admission::default()
    })
    .await;
    let before = peak_mebibytes();
    let (stop, stopped) = watch::channel(false);
    let guest = site.client(None, true);
    let url = site.url("/readyz");
    let served = tokio::spawn(async move {
        let (mut count, mut slowest) = (0, Duration::ZERO);
        while !*stopped.borrow() {
            let asked = Instant::now();
            let answer = timeout(SERVED, guest.get(&url).send()).await;
            let answer = answer.expect("everyone else is answered in time").unwrap();
            assert_eq!(answer.status(), 200);
            slowest = slowest.max(asked.elapsed());
            count += 1;
            sleep(Duration::from_millis(20)).await;
        }
        (count, slowest)
    });

    // Half a handshake, and a head that comes byte by byte and never ends.
    let (address, config) = (site.address, tls(&site.serving_ca, &TLS13, None));
    let (half, mut slow): (Vec<TcpStream>, Vec<Tls>) = tokio::task::spawn_blocking(move || {
        let half = (0..HALF_OPEN).map(|_| {
            let mut stream = connect(address);
            // A record of a ClientHello of 512 bytes, of which there are five.
            stream
                .write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3])
                .unwrap();
            stream
        });
        let half = half.collect();
        let slow = (0..SLOW).map(|_| handshake(address, config.clone()).unwrap());
        (half, slow.collect())
    })
    .await
    .unwrap();
    let head = format!("GET /readyz HTTP/1.1\r\nHost: {HOST}\r\nX-Slow: ");
    let dripping = tokio::task::spawn_blocking(move || {
        let mut open = slow.len();
        let end = Instant::now() + PATIENCE;
        for byte in head.bytes().chain(std::iter::repeat(b'x')) {
            slow.retain_mut(|stream| {
                stream
                    .write_all(&[byte])
                    .and_then(|()| stream.flush())
                    .is_ok()
            });
            open = slow.len();
            if open == 0 || Instant::now() > end {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        open
    });

    // What is too long is refused, by a status or by the end of the connection.
    let stranger = site.client(None, false);
    for length in [40_000, 100_000, 1_000_000] {
        let long = site.url(&format!("/readyz?{}", "a".repeat(length)));
        let answer = stranger.get(long).send().await;
        assert!(
            answer.is_err() || answer.is_ok_and(|it| matches!(it.status().as_u16(), 414 | 431))
        );
    }
    for http2 in [false, true] {
        let mut flood = HeaderMap::new();
        for index in 0..20_000 {
            let name = HeaderName::try_from(format!("x-flood-{index}")).unwrap();
            flood.insert(name, HeaderValue::from_static("water"));
        }
        let request = site
            .client(None, http2)
            .get(site.url("/readyz"))
            .headers(flood);
        let answer = request.send().await;
        assert!(answer.is_err() || answer.is_ok_and(|it| it.status().is_client_error()));
    }

    // Streams that are opened and reset at once: what they asked for is not worked on any more.
    let alice = client(&site.cluster_ca, "alice", None);
    let resetting = site.client(Some(&alice), true);
    let gate = site.url("/gate");
    for _ in 0..RESETS {
        let _ = timeout(Duration::from_micros(100), resetting.get(&gate).send()).await;
    }

    assert_eq!(
        dripping.await.unwrap(),
        0,
        "heads that never end are not waited for"
    );
    drop(half);
    drop(resetting);
    drop(stranger);
    stop.send(true).unwrap();
    let (count, slowest) = served.await.unwrap();
    let grown = peak_mebibytes() - before;
    eprintln!(
        "{count} others were served, the slowest in {slowest:?}; {grown:.0} MiB more at the peak"
    );
    assert!(count > 50, "{count} others are no crowd");
    assert!(grown < MOST_MEBIBYTES, "{grown:.0} MiB more");
    eventually("every connection is closed", async || {
        site.running.as_ref().unwrap().connections() == 0
    })
    .await;
}

/// The most memory that this process ever had resident.
fn peak_mebibytes() -> f64 {
    let kibibytes = u32::try_from(memory("self", "VmHWM") >> 10).unwrap();
    f64::from(kibibytes) / 1024.0
}
