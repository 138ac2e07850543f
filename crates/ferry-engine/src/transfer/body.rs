//! A blob on its way in, as a blocking reader for the store. Where the connection breaks it goes on from the byte
//! it had, a few times, with growing pauses.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use ferry_oci::Digest;
use ferry_remote::{RemoteError, Repository};
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::progress::Meter;

/// Pieces that wait between network and store. A piece is at most what one read of the connection gives (some
/// hundred KiB), so a layer in transit holds a few MiB at the most.
const PIECES: usize = 8;
/// Attempts at one blob, counted anew whenever bytes have come.
const ATTEMPTS: u32 = 6;
/// Pause before the second attempt; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The reading end.
pub struct BlobReader {
    pieces: mpsc::Receiver<Result<Bytes, RemoteError>>,
    rest: Bytes,
}

/// Starts to fetch a blob whose size is announced; more bytes than that are an error.
pub fn fetch(repository: Repository, digest: Digest, size: u64, meter: Arc<Meter>) -> BlobReader {
    let (sender, pieces) = mpsc::channel(PIECES);
    tokio::spawn(async move {
        if let Err(error) = forward(&repository, &digest, size, &meter, &sender).await {
            // The reader may be gone; then nobody wants to know.
            let _ = sender.send(Err(error)).await;
        }
    });
    BlobReader { pieces, rest: Bytes::new() }
}

async fn forward(
    repository: &Repository,
    digest: &Digest,
    size: u64,
    meter: &Meter,
    sender: &mpsc::Sender<Result<Bytes, RemoteError>>,
) -> Result<(), RemoteError> {
    let mut have = 0;
    let mut attempt = 0;
    while have < size {
        let before = have;
        match once(repository, digest, size, &mut have, meter, sender).await {
            Ok(Ended::ReaderGone) => return Ok(()),
            Ok(Ended::Whole) if have >= size => return Ok(()),
            Ok(Ended::Whole) => attempt += 1,
            Err(error) if error.is_passing() && attempt + 1 < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
        if have > before {
            attempt = 1;
        }
        if attempt >= ATTEMPTS {
            return Err(RemoteError::Protocol {
                place: repository.endpoint().authority.clone(),
                reason: format!("blob {digest} ends after {have} of {size} bytes"),
            });
        }
        tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(attempt - 1)).await;
    }
    Ok(())
}

enum Ended {
    Whole,
    ReaderGone,
}

async fn once(
    repository: &Repository,
    digest: &Digest,
    size: u64,
    have: &mut u64,
    meter: &Meter,
    sender: &mpsc::Sender<Result<Bytes, RemoteError>>,
) -> Result<Ended, RemoteError> {
    let mut blob = repository.blob(digest, *have).await?;
    // A registry without ranges starts over; what we have is passed over.
    let mut skip = have.saturating_sub(blob.offset);
    while let Some(piece) = blob.stream.next().await {
        let mut piece = piece?;
        let passed = skip.min(piece.len() as u64);
        piece.advance(passed as usize);
        skip -= passed;
        if piece.is_empty() {
            continue;
        }
        *have += piece.len() as u64;
        if *have > size {
            return Err(RemoteError::Protocol {
                place: repository.endpoint().authority.clone(),
                reason: format!("blob {digest} is longer than the {size} bytes that its manifest announces"),
            });
        }
        meter.add(piece.len() as u64);
        if sender.send(Ok(piece)).await.is_err() {
            return Ok(Ended::ReaderGone);
        }
    }
    Ok(Ended::Whole)
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(Err(error)) => return Err(io::Error::other(error)),
                Some(Ok(piece)) => self.rest = piece,
            }
        }
        let count = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
