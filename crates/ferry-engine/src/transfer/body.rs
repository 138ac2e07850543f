//! A blob on its way in, as a blocking reader for the store.
//!
//! Where the connection breaks it goes on from the byte it had, a few times, with growing pauses, and then at the next
//! address that should have the blob. Bytes that are on disk from an earlier attempt are not asked for again.

use std::convert::Infallible;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use ferry_oci::Digest;
use ferry_remote::{Blob, RemoteError, Repository};
use futures_util::StreamExt;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::progress::Meter;
use super::ranges;

/// Pieces that wait between network and store. A piece is at most what one read of the connection gives (128 KiB),
/// so a layer in transit holds one or two MiB.
const PIECES: usize = 8;
/// Bytes for which the reader had to wait before further connections are tried.
const WAITED: u64 = 1 << 20;
/// Attempts at one address, counted anew whenever bytes have come.
const ATTEMPTS: u32 = 6;
/// Pause before the second attempt; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause that a registry may ask for; beyond that a person should decide.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What is to be fetched.
#[derive(Clone)]
pub struct Wanted {
    /// Where it should be, best first; never empty.
    pub repositories: Vec<Repository>,
    /// Which blob.
    pub digest: Digest,
    /// Its announced size; more bytes than that are an error.
    pub size: u64,
}

/// Ends the transfer when it is dropped.
pub struct Guard(#[allow(dead_code, reason = "held for its drop")] oneshot::Sender<Infallible>);

/// Hears of the guard's end.
pub struct Cancelled(oneshot::Receiver<Infallible>);

/// A guard and what hears of its end.
pub fn guard() -> (Guard, Cancelled) {
    let (sender, receiver) = oneshot::channel();
    (Guard(sender), Cancelled(receiver))
}

/// The reading end.
pub struct BlobReader {
    pieces: mpsc::Receiver<Result<Bytes, RemoteError>>,
    rest: Bytes,
    missing: u64,
}

/// Starts to fetch a blob from the byte `have` on.
pub fn fetch(
    wanted: Wanted,
    have: u64,
    meter: Arc<Meter>,
    ways: Arc<Semaphore>,
    cancelled: Cancelled,
) -> BlobReader {
    let (sender, pieces) = mpsc::channel(PIECES);
    let missing = wanted.size.saturating_sub(have);
    meter.start_at(have);
    tokio::spawn(async move {
        let mut fetching = Fetching { wanted, have, meter, sender, ways, waited: 0, alone: false };
        let outcome = tokio::select! {
            outcome = fetching.run() => outcome,
            _ = cancelled.0 => return,
        };
        if let Err(error) = outcome {
            // The reader may be gone; then nobody wants to know.
            let _ = fetching.sender.send(Err(error)).await;
        }
    });
    BlobReader { pieces, rest: Bytes::new(), missing }
}

/// A blob on its way, as the task that brings it sees it.
pub(super) struct Fetching {
    pub(super) wanted: Wanted,
    /// Bytes that were handed on.
    pub(super) have: u64,
    meter: Arc<Meter>,
    sender: mpsc::Sender<Result<Bytes, RemoteError>>,
    /// Further connections that may be opened.
    pub(super) ways: Arc<Semaphore>,
    /// Bytes that came one after the other while the reader waited for each.
    waited: u64,
    /// One request at a time: parts did not work.
    alone: bool,
}

/// How a request ended that did not fail.
pub(super) enum Ended {
    /// Its bytes have come; whether they are all is for the caller to see.
    Whole,
    /// Nobody wants them any more.
    ReaderGone,
}

impl Fetching {
    /// Tries the addresses in turn. Where all fail, the last one's reason is told: mirrors stand before it.
    async fn run(&mut self) -> Result<(), RemoteError> {
        let mut last = None;
        for repository in self.wanted.repositories.clone() {
            match self.at(&repository).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::debug!(%error, "blob {} from {}", self.wanted.digest, repository.endpoint().authority);
                    last = Some(error);
                }
            }
        }
        last.map_or(Ok(()), Err)
    }

    async fn at(&mut self, repository: &Repository) -> Result<(), RemoteError> {
        let mut attempt = 0;
        while self.have < self.wanted.size {
            let before = self.have;
            let outcome = self.once(repository).await;
            if self.have > before {
                attempt = 0;
            }
            attempt += 1;
            let pause = FIRST_PAUSE * 2_u32.pow(attempt - 1);
            let pause = match outcome {
                Ok(Ended::ReaderGone) => return Ok(()),
                Ok(Ended::Whole) if self.have >= self.wanted.size => return Ok(()),
                Ok(Ended::Whole) if attempt < ATTEMPTS => pause,
                Ok(Ended::Whole) => return Err(self.ends_early(repository)),
                Err(error) => match wait_before_retry(&error, pause).filter(|_| attempt < ATTEMPTS) {
                    Some(pause) => pause,
                    None => return Err(error),
                },
            };
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    fn ends_early(&self, repository: &Repository) -> RemoteError {
        let Wanted { digest, size, .. } = &self.wanted;
        RemoteError::Protocol {
            place: repository.endpoint().authority.clone(),
            reason: format!("blob {digest} ends after {} of {size} bytes", self.have),
        }
    }

    /// One request, from the byte that is wanted next.
    async fn once(&mut self, repository: &Repository) -> Result<Ended, RemoteError> {
        let Wanted { digest, size, .. } = &self.wanted.clone();
        let mut blob = repository.blob(digest, self.have).await?;
        let wrong =
            |reason: String| RemoteError::Protocol { place: repository.endpoint().authority.clone(), reason };
        if blob.offset > self.have {
            return Err(wrong(format!(
                "blob {digest} from byte {} where {} was asked for",
                blob.offset, self.have
            )));
        }
        if let Some(found) = blob.size.filter(|found| found != size) {
            return Err(wrong(format!(
                "blob {digest} has {found} bytes where its manifest announces {size}"
            )));
        }
        // A registry without ranges starts over; what we have is passed over.
        let mut skip = self.have - blob.offset;
        while let Some(piece) = blob.stream.next().await {
            let mut piece = piece?;
            let passed = skip.min(piece.len() as u64);
            piece.advance(passed as usize);
            skip -= passed;
            if piece.is_empty() {
                continue;
            }
            if self.have + piece.len() as u64 > *size {
                return Err(wrong(format!(
                    "blob {digest} is longer than the {size} bytes that its manifest announces"
                )));
            }
            if !self.hand_on(piece).await {
                return Ok(Ended::ReaderGone);
            }
            if blob.has_ranges && self.wants_parts() {
                return Ok(self.in_parts(repository, blob).await);
            }
        }
        Ok(Ended::Whole)
    }

    /// False where nobody wants the bytes any more.
    pub(super) async fn hand_on(&mut self, piece: Bytes) -> bool {
        let count = piece.len() as u64;
        self.have += count;
        self.meter.add(count);
        // A queue that is empty again means that the reader is faster than the network.
        self.waited = if self.sender.capacity() == PIECES { self.waited + count } else { 0 };
        self.sender.send(Ok(piece)).await.is_ok()
    }

    fn wants_parts(&self) -> bool {
        !self.alone && self.waited >= WAITED && self.have + 2 * ranges::STRETCH <= self.wanted.size
    }

    async fn in_parts(&mut self, repository: &Repository, first: Blob) -> Ended {
        ranges::go_on(self, repository, first).await.unwrap_or_else(|error| {
            let digest = &self.wanted.digest;
            tracing::debug!(%error, "blob {digest} goes on from byte {} with one request", self.have);
            self.alone = true;
            Ended::Whole
        })
    }
}

/// How long to wait before the next attempt, where one makes sense.
fn wait_before_retry(error: &RemoteError, pause: Duration) -> Option<Duration> {
    match error {
        RemoteError::TooManyRequests { retry_after: Some(asked), .. } if *asked <= LONGEST_PAUSE => {
            Some(*asked)
        }
        error => error.is_passing().then_some(pause),
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                None if self.missing == 0 => return Ok(0),
                None => return Err(io::Error::other("the transfer was given up")),
                Some(Err(error)) => return Err(io::Error::other(error)),
                Some(Ok(piece)) => self.rest = piece,
            }
        }
        let count = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..count]);
        self.missing = self.missing.saturating_sub(count as u64);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses() {
        let pause = Duration::from_millis(400);
        let busy = |seconds: Option<u64>| RemoteError::TooManyRequests {
            host: "r.example".into(),
            reason: String::new(),
            retry_after: seconds.map(Duration::from_secs),
        };
        let late = RemoteError::Timeout { place: "r.example".into(), after: pause };
        for (error, expected) in [
            (busy(Some(2)), Some(Duration::from_secs(2))),
            (busy(Some(3600)), None),
            (busy(None), None),
            (late, Some(pause)),
            (RemoteError::ManifestUnknown { reference: "x".into() }, None),
        ] {
            assert_eq!(wait_before_retry(&error, pause), expected, "{error}");
        }
    }
}
