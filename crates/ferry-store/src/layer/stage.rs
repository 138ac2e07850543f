//! Inflating on a thread of its own, so that one layer keeps two cores busy: here bytes arrive and are inflated, there
//! they are hashed, unpacked and written.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, Scope, ScopedJoinHandle};

use super::compression::Decoder;
use super::error::LayerError;

/// Bytes of a piece: large enough that handing it over costs nothing, small enough for the cache.
const PIECE: usize = 128 << 10;
/// Pieces between the two threads.
const PIECES: usize = 4;
/// Stack of the thread.
const STACK: usize = 256 << 10;

/// The reading end.
pub struct Inflated {
    pieces: Receiver<io::Result<Vec<u8>>>,
    /// Pieces go back to be filled again: new ones would be new pages each time.
    empty: SyncSender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

/// Starts to inflate; the thread gives the decoder back at the end.
pub fn inflate<'scope, R: BufRead + Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    mut decoder: Decoder<R>,
) -> Result<(Inflated, ScopedJoinHandle<'scope, Decoder<R>>), LayerError> {
    let (sender, pieces) = sync_channel(PIECES);
    let (empty, emptied) = sync_channel(PIECES + 2);
    let work = move || {
        loop {
            let mut piece: Vec<u8> = emptied.try_recv().unwrap_or_default();
            piece.resize(PIECE, 0);
            let filled = fill(&mut decoder, &mut piece);
            let ended = !matches!(filled, Ok(count) if count > 0);
            let message = filled.map(|count| {
                piece.truncate(count);
                piece
            });
            // Nobody reads any more where the unpacking failed.
            if sender.send(message).is_err() || ended {
                return decoder;
            }
        }
    };
    let builder = thread::Builder::new().name("ferry-inflate".into()).stack_size(STACK);
    let thread = builder.spawn_scoped(scope, work).map_err(LayerError::Source)?;
    Ok((Inflated { pieces, empty, piece: Vec::new(), at: 0 }, thread))
}

/// Fills the buffer, unless the stream ends before.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What came before it is still good, but nobody needs it: the whole layer is refused.
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl Read for Inflated {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            // Full when the other side is behind; then the piece is dropped.
            let _ = self.empty.try_send(std::mem::take(&mut self.piece));
            self.at = 0;
            // The thread is gone once it has said that the stream ended.
            self.piece = self.pieces.recv().unwrap_or_else(|_| Ok(Vec::new()))?;
        }
        let count = buffer.len().min(self.piece.len() - self.at);
        buffer[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
