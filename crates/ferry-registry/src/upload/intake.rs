//! Bytes of a body on their way into an upload's file.
//!
//! While a batch is written and hashed by threads that may block, the next one is collected; a slow body is
//! written as it comes, and holds no thread while it brings nothing. Large batches are hashed beside their write.
//! The disk is asked to begin with what it has, so that the sync at the end finds little left to do.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use ferry_oci::Hasher;
use futures_util::{Stream, StreamExt as _};
use tokio::task::spawn_blocking;

use crate::refusal::{Code, Refusal};

/// Bytes that are collected at most while others are written.
const BATCH: usize = 256 << 10;
/// Smaller batches are not worth a second thread.
const BESIDE: usize = 64 << 10;
/// The disk is asked to begin after each so many bytes.
const BEGIN: u64 = 8 << 20;
/// A body that brings nothing for so long is given up; what came is kept.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the bytes go.
pub struct Sink {
    /// The file, open for appending.
    pub file: File,
    /// The hash of what is in it; None where it has to be made from the file.
    pub hasher: Option<Hasher>,
    /// Bytes that are in the file.
    pub size: u64,
    /// Bytes with which the disk has been asked to begin.
    pub begun: u64,
}

#[derive(Default)]
struct Batch {
    pieces: Vec<Bytes>,
    bytes: usize,
}

type Put = Pin<Box<dyn Future<Output = Result<(Sink, io::Result<()>), Refusal>> + Send>>;

/// Takes in all pieces, `allowed` bytes at most, and tells after each write how many bytes are in the file. Gives
/// the sink back in any case but a panic, with what came before an error.
pub async fn take_in<S>(
    sink: Sink,
    mut pieces: S,
    allowed: u64,
    told: impl Fn(u64),
) -> Result<(Sink, Result<(), Refusal>), Refusal>
where
    S: Stream<Item = Result<Bytes, String>> + Unpin,
{
    let (mut free, mut busy): (Option<Sink>, Option<Put>) = (Some(sink), None);
    let (mut batch, mut received, mut ended) = (Batch::default(), 0u64, None);
    loop {
        if let Some(sink) = free.take() {
            match (batch.bytes, ended.take()) {
                (0, Some(end)) => return Ok((sink, end)),
                (0, None) => free = Some(sink),
                (_, end) => {
                    busy = Some(Box::pin(put(sink, std::mem::take(&mut batch))));
                    ended = end;
                }
            }
        }
        tokio::select! {
            done = work(&mut busy), if busy.is_some() => {
                let (sink, written) = done?;
                busy = None;
                if written.is_err() {
                    return Ok((sink, written.map_err(Refusal::from)));
                }
                told(sink.size);
                free = Some(sink);
            }
            next = next(&mut pieces), if ended.is_none() && batch.bytes < BATCH => match next {
                Ok(Some(piece)) => {
                    received += piece.len() as u64;
                    match received > allowed {
                        true => ended = Some(Err(too_large())),
                        false => batch.add(piece),
                    }
                }
                Ok(None) => ended = Some(Ok(())),
                Err(refusal) => ended = Some(Err(refusal)),
            }
        }
    }
}

impl Batch {
    fn add(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        // Nothing is to be done for an empty one.
        if !piece.is_empty() {
            self.pieces.push(piece);
        }
    }
}

/// Goes on with what is busy.
async fn work(busy: &mut Option<Put>) -> Result<(Sink, io::Result<()>), Refusal> {
    match busy {
        Some(put) => put.await,
        None => std::future::pending().await,
    }
}

/// The next piece; None at the end.
async fn next<S>(pieces: &mut S) -> Result<Option<Bytes>, Refusal>
where
    S: Stream<Item = Result<Bytes, String>> + Unpin,
{
    match tokio::time::timeout(PATIENCE, pieces.next()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(bytes))) => Ok(Some(bytes)),
        Ok(Some(Err(error))) => {
            Err(Refusal::new(Code::BlobUploadInvalid, format!("the body broke off: {error}")))
        }
        Err(_) => Err(Refusal::new(Code::BlobUploadInvalid, "the body stopped coming")
            .status(http::StatusCode::REQUEST_TIMEOUT)),
    }
}

fn too_large() -> Refusal {
    Refusal::new(Code::SizeInvalid, "the blob is larger than this registry takes")
        .status(http::StatusCode::PAYLOAD_TOO_LARGE)
}

/// Writes and hashes a batch.
async fn put(mut sink: Sink, batch: Batch) -> Result<(Sink, io::Result<()>), Refusal> {
    let beside = match sink.hasher.take() {
        Some(hasher) if batch.bytes > BESIDE => {
            let pieces = batch.pieces.clone();
            Some(spawn_blocking(move || hash(hasher, &pieces)))
        }
        hasher => {
            sink.hasher = hasher;
            None
        }
    };
    let writing = spawn_blocking(move || {
        let written = write(&mut sink, &batch.pieces);
        sink.hasher = sink.hasher.take().map(|hasher| hash(hasher, &batch.pieces));
        (sink, written)
    });
    let (mut sink, written) = writing.await.map_err(Refusal::fault)?;
    if let Some(beside) = beside {
        sink.hasher = Some(beside.await.map_err(Refusal::fault)?);
    }
    if written.is_err() {
        // It has seen more than the file has.
        sink.hasher = None;
    }
    Ok((sink, written))
}

fn hash(mut hasher: Hasher, pieces: &[Bytes]) -> Hasher {
    pieces.iter().for_each(|piece| hasher.update(piece));
    hasher
}

/// Writes pieces one after the other. Blocking.
fn write(sink: &mut Sink, pieces: &[Bytes]) -> io::Result<()> {
    for piece in pieces {
        sink.file.write_all(piece)?;
        sink.size += piece.len() as u64;
    }
    let new = sink.size.saturating_sub(sink.begun);
    if new >= BEGIN {
        // Only a hint: what is not written now is written by the sync.
        let _ = ferry_sys::descriptor::start_writing(sink.file.as_fd(), sink.begun, new);
        sink.begun = sink.size;
    }
    Ok(())
}
