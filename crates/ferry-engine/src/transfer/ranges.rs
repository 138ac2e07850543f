//! Parts of one large blob side by side, where the network is slower than whoever unpacks.
//!
//! A blob begins with one request. While its reader waits for bytes and the registry gives ranges, further requests
//! fetch the stretches that come next. They are handed on in order, so that hashing, inflating and writing stay one
//! pass, and what is on disk is a prefix that the next attempt can go on from. What waits for its turn is in memory and
//! bounded: [`WAYS_AT_ONCE`] stretches for all pulls together.
//!
//! Whatever goes wrong here is no failure of the pull: the blob goes on with one request again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ferry_oci::Digest;
use ferry_remote::{Blob, RemoteError, Repository};
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use super::body::{Ended, Fetching};

/// Bytes of a stretch.
pub const STRETCH: u64 = 4 << 20;
/// Stretches that all pulls together keep in memory beside those being handed on.
pub const WAYS_AT_ONCE: usize = 4;
/// Most further stretches of one blob.
const WAYS: usize = 3;
/// Attempts at a stretch, and the pause between them.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);

/// A stretch on its way.
struct Stretch {
    end: u64,
    /// Never more than the stretch has bytes.
    pieces: mpsc::UnboundedReceiver<Result<Bytes, RemoteError>>,
    /// Given back when the last piece was handed on. The stretch whose turn it is needs none.
    _way: Option<OwnedSemaphorePermit>,
}

/// What comes after the bytes in hand.
struct Queue {
    repository: Repository,
    digest: Digest,
    size: u64,
    /// First byte that no stretch has.
    next: u64,
    ways: Arc<Semaphore>,
    stretches: VecDeque<Stretch>,
    /// Ends all of them when it is dropped.
    tasks: JoinSet<()>,
}

/// Goes on with a blob whose first request is under way, by several.
pub async fn go_on(
    fetching: &mut Fetching,
    repository: &Repository,
    mut first: Blob,
) -> Result<Ended, RemoteError> {
    let boundary = fetching.have + STRETCH;
    let mut queue = Queue {
        repository: repository.clone(),
        digest: fetching.wanted.digest.clone(),
        size: fetching.wanted.size,
        next: boundary,
        ways: Arc::clone(&fetching.ways),
        stretches: VecDeque::new(),
        tasks: JoinSet::new(),
    };
    queue.fill();
    while fetching.have < boundary {
        let Some(piece) = first.stream.next().await else { return Ok(Ended::Whole) };
        let mut piece = piece?;
        piece.truncate(usize::try_from(boundary - fetching.have).unwrap_or(usize::MAX));
        if !fetching.hand_on(piece).await {
            return Ok(Ended::ReaderGone);
        }
        queue.fill();
    }
    drop(first);
    while let Some(mut stretch) = queue.take() {
        queue.fill();
        while let Some(piece) = stretch.pieces.recv().await {
            if !fetching.hand_on(piece?).await {
                return Ok(Ended::ReaderGone);
            }
            queue.fill();
        }
        if fetching.have != stretch.end {
            return Err(ends_early(repository, &queue.digest, fetching.have));
        }
    }
    Ok(Ended::Whole)
}

impl Queue {
    /// Starts as many stretches as may be.
    fn fill(&mut self) {
        while self.stretches.len() < WAYS && self.next < self.size {
            let Ok(way) = Arc::clone(&self.ways).try_acquire_owned() else { return };
            self.start(Some(way));
        }
    }

    /// The stretch whose turn it is.
    fn take(&mut self) -> Option<Stretch> {
        if self.stretches.is_empty() && self.next < self.size {
            self.start(None);
        }
        self.stretches.pop_front()
    }

    fn start(&mut self, way: Option<OwnedSemaphorePermit>) {
        let (begin, end) = (self.next, self.size.min(self.next + STRETCH));
        self.next = end;
        let (sender, pieces) = mpsc::unbounded_channel();
        let (repository, digest) = (self.repository.clone(), self.digest.clone());
        self.tasks.spawn(async move {
            let mut part = Part { repository, digest, have: begin, end, sender };
            if let Err(error) = part.run().await {
                // Nobody may be there to hear it.
                let _ = part.sender.send(Err(error));
            }
        });
        self.stretches.push_back(Stretch { end, pieces, _way: way });
    }
}

/// One stretch as its task sees it.
struct Part {
    repository: Repository,
    digest: Digest,
    have: u64,
    end: u64,
    sender: mpsc::UnboundedSender<Result<Bytes, RemoteError>>,
}

impl Part {
    /// Goes on from the byte it had where the connection breaks.
    async fn run(&mut self) -> Result<(), RemoteError> {
        for attempt in 1.. {
            match self.once().await {
                Ok(()) if self.have == self.end => return Ok(()),
                Ok(()) if attempt < ATTEMPTS => {}
                Ok(()) => break,
                Err(error) if attempt < ATTEMPTS && error.is_passing() => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(ends_early(&self.repository, &self.digest, self.have))
    }

    async fn once(&mut self) -> Result<(), RemoteError> {
        let mut blob = self.repository.blob_range(&self.digest, self.have, Some(self.end)).await?;
        if blob.offset != self.have {
            return Err(RemoteError::Protocol {
                place: self.repository.endpoint().authority.clone(),
                reason: format!("bytes from {} where {} was asked for", blob.offset, self.have),
            });
        }
        while let Some(piece) = blob.stream.next().await {
            let mut piece = piece?;
            // A registry that does not stop where it should is stopped here.
            piece.truncate(usize::try_from(self.end - self.have).unwrap_or(usize::MAX));
            self.have += piece.len() as u64;
            if piece.is_empty() || self.sender.send(Ok(piece)).is_err() {
                break;
            }
        }
        Ok(())
    }
}

fn ends_early(repository: &Repository, digest: &Digest, at: u64) -> RemoteError {
    RemoteError::Protocol {
        place: repository.endpoint().authority.clone(),
        reason: format!("a part of blob {digest} ends at byte {at}"),
    }
}
