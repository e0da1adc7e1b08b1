//! The least that scraping can take: a process of one thread that writes requests and reads pages, and does nothing with them.
//!
//! It asks as many targets at a time as begin with one of the adapter's ticks. What it takes is the kernel's, and what a
//! processor that slept needs to come back.

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use crate::INTERVAL;
use crate::adapter::Told;
use crate::contestants::Contestant;
use crate::pages::Kind;
use crate::simulator;

/// How many times in an interval it asks, as the adapter does where there are some thousand targets.
const TICKS: usize = 30;

/// As long as what the adapter sends.
const HEAD: &str = "Host: 127.1.0.1\r\nUser-Agent: gpu-metrics-adapter\r\nAccept-Encoding: gzip\r\n\
    Accept: text/plain;version=0.0.4;q=0.9,application/openmetrics-text;version=1.0.0;q=0.4,*/*;q=0.1\r\n\
    X-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n";

/// Reads the pages of all targets until standard input closes; every line there is answered, with nothing.
pub(crate) fn run(nodes: u32) {
    println!("ready");
    let mut lines = std::io::stdin().lock().lines();
    let answer = || {
        println!(
            "{}",
            serde_json::to_string(&Told::default()).expect("numbers")
        )
    };
    let Some(Ok(_)) = lines.next() else {
        return;
    };
    answer();
    // Ends with the process.
    std::thread::spawn(move || read(nodes));
    for _ in lines {
        answer();
    }
}

fn read(nodes: u32) {
    let kinds = Contestant::Reader.kinds();
    let targets = (0..nodes).flat_map(|node| kinds.iter().map(move |kind| (node, *kind)));
    let connect = |(node, kind): (u32, Kind)| {
        let stream = TcpStream::connect(simulator::address(node, kind)).expect("a simulator");
        stream.set_nodelay(true).expect("a socket");
        (stream, format!("GET {} HTTP/1.1\r\n{HEAD}", kind.path()))
    };
    let mut targets: Vec<(TcpStream, String)> = targets.map(connect).collect();
    let size = targets.len().div_ceil(TICKS);
    let mut page = vec![0; 1 << 20];
    let mut next = Instant::now();
    loop {
        for (count, batch) in (0..).zip(targets.chunks_mut(size)) {
            let tick = next + INTERVAL * count / u32::try_from(TICKS).unwrap_or(u32::MAX);
            std::thread::sleep(tick.saturating_duration_since(Instant::now()));
            for (stream, request) in &mut *batch {
                stream.write_all(request.as_bytes()).expect("a simulator");
            }
            for (stream, _) in batch {
                read_page(stream, &mut page);
            }
        }
        next += INTERVAL;
    }
}

/// Reads one answer, whose length its head tells.
fn read_page(stream: &mut TcpStream, page: &mut [u8]) {
    let (mut read, mut length) = (0, None);
    while length.is_none_or(|length| read < length) {
        match stream.read(&mut page[read..]) {
            Ok(more) if more > 0 => read += more,
            other => panic!("a simulator sent half a page: {other:?}"),
        }
        length = length.or_else(|| whole(&page[..read]));
    }
}

/// How long an answer is whose head has come.
fn whole(start: &[u8]) -> Option<usize> {
    let head = start.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&start[..head]).ok()?;
    let (_, length) = text.split_once("Content-Length:")?;
    let length: usize = length.lines().next()?.trim().parse().ok()?;
    Some(head + length)
}
