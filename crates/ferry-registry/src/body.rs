//! Bodies of answers: bytes, or a part of a blob's file.
//!
//! Bytes of a file do not pass through this program where the connection is a plain socket: the body gives
//! pieces of a fixed region as stand-ins, and the connection sends the file's own bytes (`sendfile`) where it
//! meets one. See [`crate::connection`].

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use http_body_util::Full;
use hyper::body::{Frame, SizeHint};

/// Bytes of a file that one piece stands for.
const PIECE: usize = 1 << 20;
/// Bytes read at once where they must pass through memory.
const READ: usize = 256 << 10;

/// What stand-ins point into. Its bytes are never sent.
static STAND_IN: [u8; PIECE] = [0; PIECE];

/// Whether a slice is a stand-in for bytes of a file.
pub fn is_stand_in(slice: &[u8]) -> bool {
    let region = STAND_IN.as_ptr_range();
    region.contains(&slice.as_ptr())
}

/// A part of a file that shall be sent.
#[derive(Debug)]
pub struct Extent {
    /// The file.
    pub file: Arc<File>,
    /// Where in it.
    pub offset: u64,
    /// How much of it.
    pub length: u64,
}

/// Parts of files that a connection has yet to send, in the order of their stand-ins.
#[derive(Clone, Debug, Default)]
pub struct Outbox(Arc<Mutex<VecDeque<Extent>>>);

impl Outbox {
    fn push(&self, extent: Extent) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(extent);
    }

    /// Works on the first part; removed once nothing of it is left.
    pub fn with_first<T>(&self, act: impl FnOnce(&mut Extent) -> T) -> Option<T> {
        let mut extents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = extents.front_mut()?;
        let result = act(first);
        if first.length == 0 {
            extents.pop_front();
        }
        Some(result)
    }
}

/// The body of an answer.
pub enum Body {
    /// These bytes.
    Bytes(Full<Bytes>),
    /// A part of a file.
    File {
        /// What is left of it.
        extent: Extent,
        /// The connection's outbox, where it sends files by itself.
        outbox: Option<Outbox>,
    },
    /// Bytes that are still coming.
    Coming {
        /// The bytes.
        stream: Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>,
        /// How many are left.
        length: u64,
    },
}

impl std::fmt::Debug for Body {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Body").field("size", &hyper::body::Body::size_hint(self)).finish()
    }
}

impl Body {
    /// No bytes.
    pub fn empty() -> Body {
        Body::Bytes(Full::default())
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Body {
        Body::Bytes(Full::new(bytes.into()))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match self.get_mut() {
            Body::Bytes(bytes) => Pin::new(bytes).poll_frame(context).map_err(|never| match never {}),
            Body::Coming { stream, length } => {
                let next = std::task::ready!(stream.as_mut().poll_next(context));
                Poll::Ready(next.map(|piece| {
                    piece.map(|bytes| {
                        *length -= bytes.len() as u64;
                        Frame::data(bytes)
                    })
                }))
            }
            Body::File { extent, .. } if extent.length == 0 => Poll::Ready(None),
            Body::File { extent, outbox } => {
                let bytes = match outbox {
                    Some(outbox) => stand_in(extent, outbox),
                    None => match read(extent) {
                        Ok(bytes) => bytes,
                        Err(error) => return Poll::Ready(Some(Err(error))),
                    },
                };
                extent.offset += bytes.len() as u64;
                extent.length -= bytes.len() as u64;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Bytes(bytes) => bytes.size_hint(),
            Body::File { extent, .. } => SizeHint::with_exact(extent.length),
            Body::Coming { length, .. } => SizeHint::with_exact(*length),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Bytes(bytes) => bytes.is_end_stream(),
            Body::File { extent, .. } => extent.length == 0,
            Body::Coming { length, .. } => *length == 0,
        }
    }
}

fn stand_in(extent: &Extent, outbox: &Outbox) -> Bytes {
    let length = extent.length.min(PIECE as u64);
    outbox.push(Extent { file: Arc::clone(&extent.file), offset: extent.offset, length });
    Bytes::from_static(&STAND_IN[..length as usize])
}

// Blobs are mostly in the page cache, where a read takes less time than handing it to another thread; others
// of this thread's connections are taken over by the runtime meanwhile.
fn read(extent: &Extent) -> std::io::Result<Bytes> {
    let mut buffer = vec![0; extent.length.min(READ as u64) as usize];
    tokio::task::block_in_place(|| extent.file.read_exact_at(&mut buffer, extent.offset))?;
    Ok(buffer.into())
}
