use std::time::Duration;

use proptest::prelude::*;
use reqwest::Url;
use tokio::io::AsyncReadExt as _;

use super::*;

const PAGE: &str = "up 1\nload 0.25\n";

/// What an answer turned out to be.
#[derive(Clone, Debug, PartialEq)]
struct Answered {
    status: u16,
    body: String,
    is_kept: bool,
}

fn url() -> Url {
    "http://exporter:9400/metrics".parse().unwrap()
}

fn get(url: &Url) -> Get<'_> {
    Get {
        url,
        compression: true,
        timeout: Duration::from_secs(10),
        authorization: None,
    }
}

/// An exchange with an end that answers with `pieces`, one after the other was read, and then closes the stream if it is to.
async fn exchange(pieces: Vec<Vec<u8>>, closes: bool, whole: bool) -> Result<Answered, Fault> {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let buffers = Arc::new(Buffers::default());
    let answer = async {
        let mut request = vec![0; 1_000];
        let mut read = 0;
        while !request[..read].ends_with(b"\r\n\r\n") {
            read += far.read(&mut request[read..]).await.unwrap();
        }
        for piece in pieces {
            far.write_all(&piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        if !closes {
            // Open for longer than the exchange waits.
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        drop(far);
        std::future::pending::<()>().await;
    };
    let ask = async {
        let mut exchange = Exchange::new(Box::new(near), Arc::clone(&buffers));
        let response = exchange.send(&get(&url())).await?;
        let mut body = Vec::new();
        let page = if whole { exchange.whole().await? } else { None };
        body.extend(page.iter().flat_map(Whole::bytes));
        while let Some(piece) = exchange.next().await? {
            body.extend(piece);
        }
        Ok(Answered {
            status: response.status().as_u16(),
            body: String::from_utf8_lossy(&body).into_owned(),
            is_kept: exchange.end().is_some(),
        })
    };
    let ask = tokio::time::timeout(Duration::from_secs(10), ask);
    tokio::select! {
        answered = ask => answered.expect("an answer, or word that there is none"),
        () = answer => unreachable!(),
    }
}

/// The answer, in each way that it can come in two pieces, in one and byte by byte; read where it lies if it may be, and not.
async fn in_all_ways(answer: &[u8], closes: bool) -> Result<Answered, String> {
    let mut ways: Vec<Vec<Vec<u8>>> = (0..answer.len())
        .map(|place| vec![answer[..place].to_vec(), answer[place..].to_vec()])
        .collect();
    ways.push(answer.iter().map(|byte| vec![*byte]).collect());
    let mut all = Vec::new();
    for pieces in ways {
        for whole in [true, false] {
            let answered = exchange(pieces.clone(), closes, whole).await;
            all.push(answered.map_err(|fault| fault.to_string()));
        }
    }
    let first = all[0].clone();
    for other in all {
        assert_eq!(other, first, "{}", String::from_utf8_lossy(answer));
    }
    first
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_the_same_in_whatever_pieces_it_comes() {
    let (open, closed) = (false, true);
    for (head, body, closes, status, page, is_kept) in [
        (
            "1.1 200 OK\r\nContent-Length: 15",
            PAGE,
            open,
            200,
            PAGE,
            true,
        ),
        (
            "1.1 200\r\ncontent-length:15\r\nConnection: Keep-Alive",
            PAGE,
            open,
            200,
            PAGE,
            true,
        ),
        ("1.1 200 OK\r\nContent-Length: 0", "", open, 200, "", true),
        ("1.1 204 No Content", "", open, 204, "", true),
        (
            "1.1 503 Busy\r\nContent-Length: 5",
            "later",
            open,
            503,
            "later",
            true,
        ),
        (
            "1.1 200 OK\r\nTransfer-Encoding: chunked",
            "f\r\nup 1\nload 0.25\n\r\n0\r\n\r\n",
            open,
            200,
            PAGE,
            true,
        ),
        (
            "1.1 200 OK\r\nTransfer-Encoding: chunked",
            "5;name=value\r\nup 1\n\r\n000A\r\nload 0.25\n\r\n0\r\nExpires: 0\r\n\r\n",
            open,
            200,
            PAGE,
            true,
        ),
        // Others come before it.
        (
            "1.1 103 Early Hints\r\nLink: </>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 15",
            PAGE,
            open,
            200,
            PAGE,
            true,
        ),
        // It ends with the stream.
        ("1.1 200 OK", PAGE, closed, 200, PAGE, false),
        ("1.0 200 OK", PAGE, closed, 200, PAGE, false),
        // No other can follow.
        (
            "1.0 200 OK\r\nContent-Length: 15",
            PAGE,
            open,
            200,
            PAGE,
            false,
        ),
        (
            "1.1 200 OK\r\nContent-Length: 15\r\nConnection: foo, Close",
            PAGE,
            open,
            200,
            PAGE,
            false,
        ),
        // What comes behind it was not asked for, or it is not clear where it ends.
        (
            "1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked",
            "f\r\nup 1\nload 0.25\n\r\n0\r\n\r\n",
            open,
            200,
            PAGE,
            false,
        ),
    ] {
        let answer = format!("HTTP/{head}\r\n\r\n{body}");
        let expected = Answered {
            status,
            body: page.to_owned(),
            is_kept,
        };
        assert_eq!(
            in_all_ways(answer.as_bytes(), closes).await,
            Ok(expected),
            "{answer}"
        );
    }
    let more = format!("HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{PAGE}HTTP/1.1 200 OK\r\n");
    let answered = exchange(vec![more.into_bytes()], false, true)
        .await
        .unwrap();
    assert_eq!((answered.body.as_str(), answered.is_kept), (PAGE, false));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_whole_answer_is_none() {
    let half = "closed before its end";
    for (answer, expected) in [
        ("", "closed without an answer"),
        ("HTTP/1.1 200 OK\r\nContent-Le", half),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\nup 1\nload 0.25",
            half,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nf\r\nup 1\n",
            half,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nup 1\n\r\n",
            half,
        ),
        (
            "HTTP/1.1 103 Early Hints\r\n\r\n",
            "closed without an answer",
        ),
        (
            "SSH-2.0-OpenSSH_9.2\r\n",
            "it is no HTTP: http parse fail: invalid HTTP version",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nup 1\n",
            "it is no HTTP: conflicting content-length headers",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nup 1\n",
            "it is no HTTP: content-length header not a number",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nup\r\nup 1\n\r\n",
            "it is no HTTP: chunk length cannot be read as a number",
        ),
    ] {
        let answered = in_all_ways(answer.as_bytes(), true).await;
        assert_eq!(answered, Err(expected.to_owned()), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn lines_and_bodies_of_any_length_take_a_buffer_and_no_more() {
    let endless = "a line of it, outside its body, has more than 131072 bytes";
    let long = "x".repeat(2 * BUFFER);
    for answer in [
        format!("HTTP/1.1 200 OK\r\nServer: {long}"),
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nup 1\n\r\n0\r\nTrailer: {long}"
        ),
    ] {
        let fault = exchange(vec![answer.into_bytes()], false, true)
            .await
            .unwrap_err();
        assert_eq!(fault.to_string(), endless);
    }
    let chunks = format!("{:x}\r\n{long}\r\n0\r\n\r\n", long.len());
    for (head, body, closes) in [
        (format!("Content-Length: {}", long.len()), &long, false),
        ("Transfer-Encoding: chunked".to_owned(), &chunks, false),
        ("Server: s".to_owned(), &long, true),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}");
        let answered = exchange(vec![answer.into_bytes()], closes, true)
            .await
            .unwrap();
        assert!(
            answered.body == long,
            "{head}: {} bytes",
            answered.body.len()
        );
        assert_eq!(answered.is_kept, !closes, "{head}");
    }
}

#[tokio::test]
async fn who_waits_for_an_answer_holds_no_buffer() {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let buffers = Arc::new(Buffers::default());
    let held = || buffers.0.lock().len();
    let mut exchange = Exchange::new(Box::new(near), Arc::clone(&buffers));
    let mut sending = Box::pin(exchange.send(&get(&url())));
    assert!(futures_util::poll!(sending.as_mut()).is_pending());
    assert_eq!(held(), 1);
    far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n")
        .await
        .unwrap();
    sending.await.unwrap();
    {
        let mut reading = Box::pin(exchange.whole());
        assert!(futures_util::poll!(reading.as_mut()).is_pending());
        assert_eq!(held(), 1);
        far.write_all(PAGE.as_bytes()).await.unwrap();
        let whole = reading.await.unwrap().unwrap();
        assert_eq!((whole.bytes(), held()), (PAGE.as_bytes(), 0));
    }
    assert_eq!(held(), 1);
}

proptest! {
    #[test]
    fn any_bytes_are_an_answer_or_none(
        chunked in any::<bool>(),
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b'1')], 0..200),
        cut in 0..300_usize,
    ) {
        let head: &[u8] = if chunked { b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" } else { b"HTTP/1.1 200 OK\r\n" };
        let answer = [head, &bytes].concat();
        let (one, other) = answer.split_at(cut.min(answer.len()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let text = |answered: Result<Answered, Fault>| answered.map_err(|it| it.to_string());
        let at_once = text(runtime.block_on(exchange(vec![answer.clone()], true, false)));
        let cut = text(runtime.block_on(exchange(vec![one.to_vec(), other.to_vec()], true, false)));
        prop_assert_eq!(at_once, cut);
    }
}
