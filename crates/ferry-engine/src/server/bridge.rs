//! Bodies for blocking code: a request body as a `Read`, a response body as a `Write`.
//!
//! Both ends wait for each other through a short queue, so a slow disk slows the client down and a
//! slow client the disk, and neither fills the memory.

use std::io::{self, Read, Write};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::hijack::channel_body;

/// Chunks under way in one direction.
const QUEUE: usize = 16;
/// Bytes gathered before they are sent on.
const CHUNK: usize = 64 * 1024;

/// A request body, read by blocking code.
pub struct BodyReader {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl BodyReader {
    /// Begins to take the body in; must be called on the runtime.
    pub fn new(body: Body) -> BodyReader {
        let (sender, chunks) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            let mut stream = body.into_data_stream();
            while let Some(chunk) = stream.next().await {
                if sender.send(chunk.map_err(io::Error::other)).await.is_err() {
                    // The reader has seen enough.
                    return;
                }
            }
        });
        BodyReader { chunks, current: Bytes::new() }
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}

/// A response body, written by blocking code. Dropping it ends the body; an error sent with
/// [`BodyWriter::fail`] breaks the connection off, so that the client knows the body is not whole.
pub struct BodyWriter {
    chunks: mpsc::Sender<io::Result<Bytes>>,
    gathered: BytesMut,
}

impl BodyWriter {
    /// The writer and the body that it feeds.
    pub fn new() -> (BodyWriter, Body) {
        let (chunks, receiver) = mpsc::channel(QUEUE);
        (BodyWriter { chunks, gathered: BytesMut::new() }, channel_body(receiver))
    }

    /// Ends the body as broken.
    pub fn fail(self, error: io::Error) {
        // A client that is gone needs no error.
        let _ = self.chunks.blocking_send(Err(error));
    }

    fn send(&mut self) -> io::Result<()> {
        let chunk = self.gathered.split().freeze();
        self.chunks.blocking_send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= CHUNK {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() { Ok(()) } else { self.send() }
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        // What is left goes out with the end; a client that is gone needs none of it.
        let _ = self.flush();
    }
}
