//! The bytes of a blob that is pushed, from a file that may still grow while they are sent.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use bytes::Bytes;
use ferry_remote::transport;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::sync::{Notify, mpsc};

use crate::transfer::progress::Meter;

/// Bytes read from disk for one piece of a request body.
const PIECE: usize = 256 * 1024;
/// Pieces that wait for the network.
const PIECES: usize = 4;

/// A blob's file and how far it is written. Cheap to clone.
#[derive(Clone)]
pub struct Source {
    file: Arc<File>,
    growth: Arc<Growth>,
}

/// How far a file is written.
#[derive(Default)]
pub struct Growth {
    state: Mutex<State>,
    /// For threads that read.
    grown: Condvar,
    /// For tasks that wait for the end.
    ended: Notify,
}

#[derive(Default, Clone, Copy)]
struct State {
    written: u64,
    end: End,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum End {
    #[default]
    Growing,
    Whole,
    GivenUp,
}

impl Growth {
    /// The file has so many bytes now.
    pub fn reach(&self, written: u64) {
        self.change(|state| state.written = written);
    }

    /// No more will come.
    pub fn finish(&self) {
        self.change(|state| state.end = End::Whole);
    }

    /// The rest will never come, or nobody wants it.
    pub fn give_up(&self) {
        self.change(|state| state.end = End::GivenUp);
    }

    /// Whether more may come.
    pub fn is_growing(&self) -> bool {
        self.state().end == End::Growing
    }

    /// Whether nobody wants the rest.
    pub fn is_given_up(&self) -> bool {
        self.state().end == End::GivenUp
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.grown.notify_all();
        self.ended.notify_waiters();
    }

    fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something behind `offset`; 0 at the end.
    fn wait_beyond(&self, offset: u64) -> io::Result<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match state.end {
                End::GivenUp => return Err(io::Error::other("the layer was not packed to its end")),
                _ if state.written > offset => return Ok(state.written - offset),
                End::Whole => return Ok(0),
                End::Growing => state = self.grown.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Source {
    /// A file that grows.
    pub fn growing(file: File, growth: Arc<Growth>) -> Self {
        Self { file: Arc::new(file), growth }
    }

    /// A file that has all its bytes.
    pub fn whole(file: File, size: u64) -> Self {
        let growth = Growth::default();
        growth.reach(size);
        growth.finish();
        Self::growing(file, Arc::new(growth))
    }

    /// How many bytes it has in the end, where that is known.
    pub fn size(&self) -> Option<u64> {
        let state = self.growth.state();
        (state.end == End::Whole).then_some(state.written)
    }

    /// Waits until all bytes are there and tells how many.
    pub async fn whole_size(&self) -> io::Result<u64> {
        loop {
            let changed = self.growth.ended.notified();
            match self.growth.state() {
                State { end: End::Whole, written } => return Ok(written),
                State { end: End::GivenUp, .. } => {
                    return Err(io::Error::other("the layer was not packed to its end"));
                }
                State { end: End::Growing, .. } => changed.await,
            }
        }
    }

    /// The bytes from `offset` on as a request body, read piece by piece on a blocking thread.
    pub fn body(&self, mut offset: u64, meter: &Arc<Meter>) -> transport::Body {
        type Piece = Result<Frame<Bytes>, Box<dyn std::error::Error + Send + Sync>>;
        let (sender, mut pieces) = mpsc::channel::<Piece>(PIECES);
        let (source, meter) = (self.clone(), Arc::clone(meter));
        tokio::task::spawn_blocking(move || {
            loop {
                let piece = match source.piece(offset) {
                    Ok(piece) if piece.is_empty() => return,
                    Ok(piece) => piece,
                    // The request ends with it, where it still goes on.
                    Err(error) => return drop(sender.blocking_send(Err(error.into()))),
                };
                let count = piece.len() as u64;
                offset += count;
                meter.add(count);
                if sender.blocking_send(Ok(Frame::data(piece))).is_err() {
                    return;
                }
            }
        });
        StreamBody::new(stream::poll_fn(move |context| pieces.poll_recv(context))).boxed_unsync()
    }

    fn piece(&self, offset: u64) -> io::Result<Bytes> {
        let there = self.growth.wait_beyond(offset)?;
        let mut piece = vec![0; usize::try_from(there).unwrap_or(PIECE).min(PIECE)];
        let count = self.file.read_at(&mut piece, offset)?;
        if count == 0 && there > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        piece.truncate(count);
        Ok(piece.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn bytes_come_as_they_are_written() {
        let mut writer = tempfile::NamedTempFile::new().unwrap();
        let growth = Arc::new(Growth::default());
        let source = Source::growing(writer.reopen().unwrap(), Arc::clone(&growth));
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            loop {
                match source.piece(all.len() as u64) {
                    Ok(piece) if piece.is_empty() => return Ok((all, source.size())),
                    Ok(piece) => all.extend_from_slice(&piece),
                    Err(error) => return Err(error.to_string()),
                }
            }
        });
        for (at, piece) in [b"one", b"two"].into_iter().enumerate() {
            writer.write_all(piece).unwrap();
            growth.reach((at as u64 + 1) * 3);
        }
        growth.finish();
        assert_eq!(reader.join().unwrap(), Ok((b"onetwo".to_vec(), Some(6))));
    }

    #[test]
    fn what_is_given_up_ends() {
        let growth = Arc::new(Growth::default());
        let source = Source::growing(tempfile::tempfile().unwrap(), Arc::clone(&growth));
        growth.give_up();
        assert!(source.piece(0).unwrap_err().to_string().contains("not packed to its end"));
        assert_eq!(source.size(), None);
    }
}
