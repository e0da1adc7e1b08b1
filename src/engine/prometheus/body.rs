//! A body that is parsed while it arrives: the bytes come by way of a short queue to a thread that may wait.

use std::io::{self, BufReader, Read};

use bytes::{Buf as _, Bytes};
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::transport::SendFault;

use super::answer;
use super::error::Fault;

/// How many pieces of a body wait to be parsed.
const QUEUE: usize = 4;

const BUFFER: usize = 64 << 10;

/// Reads the data of an answer of at most `limit` bytes. Who drops the future ends the thread too.
pub(super) async fn read<T: DeserializeOwned + Send + 'static>(
    mut response: Response,
    limit: u64,
) -> Result<T, Fault> {
    let status = response.status().as_u16();
    let content_type = response.headers().get(CONTENT_TYPE);
    let content_type = content_type.and_then(|it| it.to_str().ok());
    let content_type = content_type.unwrap_or("without a content type").to_owned();
    let (sender, receiver) = mpsc::channel(QUEUE);
    let parser = tokio::task::spawn_blocking(move || {
        let pieces = Pieces {
            receiver,
            current: Bytes::new(),
        };
        answer::read(
            status,
            &content_type,
            BufReader::with_capacity(BUFFER, pieces),
        )
    });
    let feed = async move {
        let mut left = limit;
        loop {
            let piece = match response.chunk().await {
                Ok(None) => return,
                Ok(Some(piece)) => match left.checked_sub(piece.len() as u64) {
                    Some(rest) => {
                        left = rest;
                        Ok(piece)
                    }
                    None => Err(Fault::TooLarge(limit)),
                },
                Err(error) => Err(SendFault::from(error).into()),
            };
            let failed = piece.is_err();
            // The parser has had enough.
            if sender.send(piece).await.is_err() || failed {
                return;
            }
        }
    };
    let (parsed, ()) = tokio::join!(parser, feed);
    parsed.unwrap_or(Err(SendFault::Broken.into()))
}

struct Pieces {
    receiver: mpsc::Receiver<Result<Bytes, Fault>>,
    current: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                None => return Ok(0),
                Some(Ok(piece)) => self.current = piece,
                Some(Err(fault)) => return Err(io::Error::other(fault)),
            }
        }
        let length = into.len().min(self.current.len());
        self.current.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}
