//! Exporters that misbehave, each beside one that does not: that one's scrapes go on, on time.

use std::fmt::Write as _;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum_server::tls_rustls::RustlsConfig;
use gpu_metrics_adapter::config::scrape::ScrapeLimits;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::exporter::{Answer, Exporter};
use super::proc::memory;
use super::{Scraper, gzip, job, until};

/// Scrapes of the healthy target, one each 100 ms, that a fault is watched for.
const SCRAPES: usize = 8;

/// A target that is given up soon.
const QUICK: &str = "scrape_timeout: 90ms";

/// One that has time, on a busy machine too.
const PATIENT: &str = "scrape_interval: 300ms, scrape_timeout: 300ms";

/// An exporter that speaks for itself: `serve` has each connection, and its number.
pub(crate) struct Raw {
    pub(crate) address: String,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl Raw {
    async fn start<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(TcpStream, usize) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, count.fetch_add(1, Ordering::SeqCst)));
            }
        });
        Self {
            address,
            connections,
            requests: Arc::default(),
            server,
        }
    }

    /// Answers each request with these bytes and then `then`.
    pub(crate) async fn answering<F: Future<Output = TcpStream> + Send + 'static>(
        head: impl Into<Vec<u8>>,
        then: impl Fn(TcpStream) -> F + Clone + Send + Sync + 'static,
    ) -> Self {
        let head: Arc<[u8]> = head.into().into();
        let requests = Arc::new(AtomicUsize::new(0));
        let count = requests.clone();
        let mut serving = Self::start(move |mut stream, _| {
            let (head, then, count) = (head.clone(), then.clone(), count.clone());
            async move {
                while request(&mut stream).await {
                    count.fetch_add(1, Ordering::SeqCst);
                    if stream.write_all(&head).await.is_err() {
                        return;
                    }
                    stream = then(stream).await;
                }
            }
        })
        .await;
        serving.requests = requests;
        serving
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Reads a request; `false` at the end of the connection.
async fn request(stream: &mut TcpStream) -> bool {
    let (mut buffer, mut request) = ([0; 4096], Vec::new());
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return false,
            Ok(length) => request.extend_from_slice(&buffer[..length]),
        }
    }
    true
}

pub(crate) fn page(body: &[u8], headers: &str) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Writes `bytes` again and again until the other end has enough, and counts them.
async fn pour(mut stream: TcpStream, bytes: &'static [u8], poured: Arc<AtomicUsize>) -> TcpStream {
    while stream.write_all(bytes).await.is_ok() {
        poured.fetch_add(bytes.len(), Ordering::SeqCst);
    }
    stream
}

/// Scrapes `faulty` beside a healthy exporter: why the faulty one gives nothing; nothing where it gives a page.
async fn beside_a_healthy_one(faulty: &str, settings: &str) -> Option<String> {
    let healthy = Exporter::page("healthy 1\n").await;
    let jobs = format!(
        "- {{job_name: faulty, static_configs: [{{targets: ['{faulty}']}}], body_size_limit: 1MB, sample_limit: 1000, {settings}}}\n{}",
        job("healthy", &healthy, "")
    );
    let limits = ScrapeLimits {
        buffers: 4 << 20,
        ..ScrapeLimits::default()
    };
    let scraper = Scraper::within(limits, &jobs);
    let faulty = || {
        let targets = scraper.store.targets();
        let faulty = targets.into_iter().find(|it| it.info.job == "faulty")?;
        let health = faulty.health;
        (health.down.is_some() || health.last_success.is_some()).then_some(health)
    };
    until("the faulty target was scraped", faulty).await;
    let (begun, before) = (Instant::now(), healthy.requests());
    let enough = || (healthy.requests() >= before + SCRAPES).then_some(());
    until("scrapes of the healthy target", enough).await;
    // As many intervals, and what a busy machine adds.
    let took = begun.elapsed();
    assert!(
        took < Duration::from_millis(100) * 4 * u32::try_from(SCRAPES).unwrap(),
        "{took:?}"
    );
    let down = |job: &str| {
        let targets = scraper.store.targets();
        let of_job = targets.into_iter().find(|it| it.info.job == job);
        of_job.unwrap().health.down.map(|down| down.reason)
    };
    assert_eq!(down("healthy"), None);
    assert_eq!(scraper.value("healthy"), Some(1.0));
    let reason = down("faulty");
    scraper.stop().await;
    reason
}

#[tokio::test]
async fn a_fault_of_one_exporter_leaves_the_others_alone() {
    let quiet = |stream| async { stream };
    let endless = "HTTP/1.1 200 OK\r\nConnection: close\r\n";
    let many_labels: String = (0..50_000).map(|it| format!("l{it}=\"1\",")).collect();
    let many_series: String = (0..20_000)
        .map(|it| format!("m{{i=\"{it}\"}} 1\n"))
        .collect();
    let bomb = gzip(&vec![b'#'; 8 << 20]);
    let two = [gzip(b"one 1\n"), gzip(&vec![b'\n'; 8 << 20])].concat();
    let nested = gzip(&gzip(b"one 1\n"));
    let gzipped = "Content-Encoding: gzip\r\n";
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "500",
            b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_vec(),
            "answered 500",
        ),
        ("empty", page(b"", ""), "answered without any sample"),
        (
            "a gzip bomb",
            page(&bomb, gzipped),
            "passed the limit of 1048576 bytes",
        ),
        (
            "members of gzip",
            page(&two, gzipped),
            "passed the limit of 1048576 bytes",
        ),
        (
            "gzip in gzip",
            page(&nested, gzipped),
            "no line of the page is a sample",
        ),
        (
            "broken gzip",
            page(b"no gzip", gzipped),
            "body is not readable as gzip",
        ),
        (
            "10 GB",
            b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n".to_vec(),
            "passed the limit of 1048576 bytes",
        ),
        (
            "many labels",
            page(format!("m{{{many_labels}}} 1\n").as_bytes(), ""),
            "no line of the page is a sample",
        ),
        (
            "many series",
            page(many_series.as_bytes(), ""),
            "passed the limit of 1000 samples",
        ),
        (
            "HTML",
            page(
                b"<html>\n<body>busy</body>\n",
                "Content-Type: text/html\r\n",
            ),
            "no line of the page is a sample",
        ),
        (
            "half a page",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nm 1\n".to_vec(),
            "no answer within 90ms",
        ),
        (
            "no HTTP",
            b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec(),
            "broke off",
        ),
        (
            "a redirect",
            b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n"
                .to_vec(),
            "redirects to another host",
        ),
    ];
    for (what, answer, expected) in cases {
        let faulty = Raw::answering(answer, quiet).await;
        let settings = if expected.contains("no answer") {
            QUICK
        } else {
            PATIENT
        };
        let reason = beside_a_healthy_one(&faulty.address, settings).await;
        let reason = reason.unwrap_or_else(|| panic!("{what} is taken for a page"));
        assert!(reason.contains(expected), "{what}: {reason}");
    }
    let typed = page(b"m 1\n", "Content-Type: application/json\r\n");
    let faulty = Raw::answering(typed, quiet).await;
    let reason = beside_a_healthy_one(&faulty.address, PATIENT).await;
    assert_eq!(reason, None, "a wrong type is not held against a page");

    // What never ends is left as soon as it is too much or takes too long.
    for (what, head, more, expected) in [
        (
            "a line",
            format!("{endless}\r\n"),
            &[b'x'; 4096][..],
            "passed the limit",
        ),
        (
            "a header",
            format!("{endless}X-Long: "),
            &[b'x'; 4096],
            "broke off",
        ),
        (
            "series",
            format!("{endless}\r\n"),
            b"m{i=\"1\"} 1\nm{i=\"2\"} 1\n",
            "passed the limit",
        ),
    ] {
        let poured = Arc::new(AtomicUsize::new(0));
        let pouring = poured.clone();
        let faulty = Raw::answering(head, move |stream| pour(stream, more, pouring.clone())).await;
        let reason = beside_a_healthy_one(&faulty.address, QUICK)
            .await
            .expect(what);
        assert!(
            reason.contains(expected) || reason.contains("no answer within"),
            "{what}: {reason}"
        );
        // Of each connection no more than its limit was taken, and what lies in the sockets' buffers.
        let each = poured.load(Ordering::SeqCst) / faulty.connections.load(Ordering::SeqCst);
        assert!(each < 16 << 20, "{what}: {each} bytes of each connection");
    }
    let faulty = Raw::start(|stream, _| async {
        let _stream = stream;
        std::future::pending().await
    })
    .await;
    let reason = beside_a_healthy_one(&faulty.address, QUICK).await;
    assert_eq!(reason.as_deref(), Some("no answer within 90ms"));
    let faulty = Raw::answering("HTTP/1.1 200 OK\r\n\r\n", |mut stream| async {
        while stream.write_all(b"m").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        stream
    })
    .await;
    let reason = beside_a_healthy_one(&faulty.address, QUICK).await;
    assert_eq!(reason.as_deref(), Some("no answer within 90ms"), "dripping");
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nm 1\n";
    let faulty = Raw::start(move |mut stream, _| async move {
        if request(&mut stream).await && stream.write_all(half).await.is_ok() {
            // Closed so, a connection is reset.
            stream.set_zero_linger().unwrap();
        }
    })
    .await;
    let reason = beside_a_healthy_one(&faulty.address, PATIENT).await;
    let reset = "the answer broke off: connection reset";
    assert_eq!(reason.as_deref(), Some(reset), "in the middle of a body");
}

#[tokio::test]
async fn an_address_that_goes_away_keeps_its_samples_and_is_found_when_it_is_back() {
    let serve = |address: String| async move {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                if request(&mut stream).await {
                    let _ = stream
                        .write_all(&page(b"m 1\n", "Connection: close\r\n"))
                        .await;
                }
            }
        });
        (address, serving)
    };
    let (address, serving) = serve("127.0.0.1:0".to_owned()).await;
    let scraper = Scraper::start(&super::job_at("j", &address, ""));
    until("a sample", || scraper.value("m")).await;
    serving.abort();
    assert!(serving.await.is_err(), "its port is closed");
    assert_eq!(scraper.until_down().await, "connection refused");
    assert_eq!(scraper.value("m"), Some(1.0));
    let (_, serving) = serve(address).await;
    until("it is back", || scraper.down().is_none().then_some(())).await;
    scraper.stop().await;
    serving.abort();
}

#[tokio::test]
async fn a_million_labels_or_series_cost_a_page_and_no_more() {
    const MILLION: usize = 1_000_000;
    let mut labels = String::with_capacity(12 * MILLION);
    labels.push_str("m{");
    for index in 0..MILLION {
        write!(labels, "l{index}=\"\",").unwrap();
    }
    labels.push_str("} 1\n");
    let mut series = String::with_capacity(16 * MILLION);
    for index in 0..MILLION {
        writeln!(series, "m{{i=\"{index}\"}} 1").unwrap();
    }
    for (what, page, expected) in [
        ("labels", labels, "no line of the page is a sample"),
        ("series", series, "page passed the limit of 50000 samples"),
    ] {
        let size = page.len();
        let faulty = Exporter::page(&page).await;
        drop(page);
        let healthy = Exporter::page("healthy 1\n").await;
        let settings = "body_size_limit: 32MB, scrape_interval: 10s, scrape_timeout: 10s";
        let jobs = job("faulty", &faulty, settings) + &job("healthy", &healthy, "");
        let before = memory("self", "VmRSS");
        let scraper = Scraper::start(&jobs);
        let reason = until("the scrape has failed", || {
            let targets = scraper.store.targets();
            let faulty = targets.into_iter().find(|it| it.info.job == "faulty")?;
            Some(faulty.health.down?.reason)
        })
        .await;
        assert!(reason.contains(expected), "{what}: {reason}");
        // `up` and its like of both, and the one sample of the healthy target.
        assert_eq!(scraper.store.series_count(), 7, "{what}");
        // The page is there twice, as sent and as read; the rest is what other tests hold.
        let grown = memory("self", "VmRSS").saturating_sub(before);
        assert!(
            grown < 2 * size + (48 << 20),
            "{what}: {grown} bytes of memory"
        );
        let seen = healthy.requests();
        until("the healthy target goes on", || {
            (healthy.requests() > seen + 1).then_some(())
        })
        .await;
        scraper.stop().await;
    }
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_is_told_by_its_name() {
    let reason = beside_a_healthy_one("gone.invalid:80", PATIENT)
        .await
        .unwrap();
    assert!(reason.contains("the name gone.invalid "), "{reason}");
}

#[tokio::test]
async fn a_connection_is_kept_and_one_that_was_closed_meanwhile_costs_no_scrape() {
    let kept = Raw::answering(page(b"m 1\n", ""), |stream| async { stream }).await;
    assert_eq!(beside_a_healthy_one(&kept.address, PATIENT).await, None);
    assert_eq!(kept.connections.load(Ordering::SeqCst), 1);
    assert!(kept.requests.load(Ordering::SeqCst) > 1);
    // Answers as if the connection stayed, and closes it.
    let closing = Raw::start(|mut stream, _| async move {
        if request(&mut stream).await {
            let _ = stream.write_all(&page(b"m 1\n", "")).await;
        }
    })
    .await;
    assert_eq!(beside_a_healthy_one(&closing.address, PATIENT).await, None);
    assert!(closing.connections.load(Ordering::SeqCst) > 1);
}

#[tokio::test]
async fn a_target_that_says_it_closes_the_connection_loses_no_scrape() {
    // As it is answered in HTTP/1.0, which Python's simple servers speak.
    let once = |head: &'static str| async move {
        let serving = Raw::start(move |mut stream, _| async move {
            if request(&mut stream).await {
                let _ = stream
                    .write_all(format!("{head}\r\n\r\nm 1\n").as_bytes())
                    .await;
            }
        })
        .await;
        let scraper = Scraper::start(&super::job_at("j", &serving.address, PATIENT));
        let counts = || scraper.statistics.snapshot();
        until("some scrapes", || (counts().succeeded >= 4).then_some(())).await;
        assert_eq!(counts().failed, Default::default(), "{head}");
        scraper.stop().await;
    };
    once("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4").await;
    once("HTTP/1.0 200 OK\r\nContent-Length: 4").await;
    once("HTTP/1.0 200 OK").await;
}

/// A certificate of 127.0.0.1, or of another name, valid from and until so many days from now; and its server's settings.
fn certificate(name: &str, (from, until): (i64, i64)) -> (String, Arc<rustls::ServerConfig>) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let now = std::time::SystemTime::now();
    let day = |days: i64| {
        let by = Duration::from_secs(days.unsigned_abs() * 86_400);
        if days < 0 { now - by } else { now + by }
    };
    let mut parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    (parameters.not_before, parameters.not_after) = (day(from).into(), day(until).into());
    let key = rcgen::KeyPair::generate().unwrap();
    let signed = parameters.self_signed(&key).unwrap();
    let chain = vec![CertificateDer::from(signed.der().to_vec())];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    (signed.pem(), Arc::new(config))
}

#[tokio::test]
async fn a_certificate_that_does_not_count_is_told_and_a_renewed_one_counts_at_once() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (expired, config) = certificate("127.0.0.1", (-9, -1));
    let served = RustlsConfig::from_config(config);
    let app = axum::Router::new().fallback(|| async { "util 1\n" });
    let server = axum_server::from_tcp_rustls(listener, served.clone()).unwrap();
    let server = tokio::spawn(server.serve(app.into_make_service()));
    let (early, early_config) = certificate("127.0.0.1", (1, 9));
    let (other, other_config) = certificate("other.example", (-1, 9));
    let (good, good_config) = certificate("127.0.0.1", (-1, 9));
    let authorities = [&expired, &early, &other, &good]
        .map(String::as_str)
        .concat();
    let settings = format!(
        "scheme: https, scrape_interval: 2s, scrape_timeout: 2s, tls_config: {{ca: {authorities:?}}}"
    );
    for (what, config, expected) in [
        ("expired", None, "expired"),
        ("not yet valid", Some(early_config), "not valid yet"),
        (
            "of another name",
            Some(other_config.clone()),
            "for another name",
        ),
    ] {
        if let Some(config) = config {
            served.reload_from_config(config);
        }
        let reason = beside_a_healthy_one(&address, &settings.replace("scrape_timeout: 2s, ", ""))
            .await
            .unwrap_or_else(|| panic!("{what} is believed"));
        assert!(reason.contains(expected), "{what}: {reason}");
    }
    let named = settings.replace("tls_config: {", "tls_config: {server_name: other.example, ");
    let exporter = Exporter::start(Answer::Hang).await;
    let of = |settings: &str| {
        let job = job("j", &exporter, settings).replace(&exporter.address, &address);
        Scraper::start(&job)
    };
    let scraper = of(&named);
    until("the name that was asked for", || scraper.value("util")).await;
    scraper.stop().await;
    let scraper = of(&settings);
    scraper.until_down().await;
    served.reload_from_config(good_config);
    until("the renewed certificate", || scraper.value("util")).await;
    scraper.stop().await;
    server.abort();
}
