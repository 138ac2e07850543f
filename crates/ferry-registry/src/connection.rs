//! A plain connection that sends files by itself.
//!
//! hyper writes slices; where one is a stand-in of [`crate::body`], the kernel is told to send as many bytes of
//! the file that is next in the outbox. A connection that takes or gives nothing for long is ended.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use crate::body::{Outbox, is_stand_in};

/// A client that takes nothing for so long has gone.
const WRITE_PATIENCE: Duration = Duration::from_secs(60);
/// Most bytes of a file per call, so that one quick reader does not keep a thread for itself.
const SEND_MAX: u64 = 1 << 20;

/// The connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    outbox: Outbox,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    /// Wraps an accepted socket.
    pub fn new(stream: TcpStream) -> Connection {
        Connection { stream, outbox: Outbox::default(), stalled: None }
    }

    /// Where bodies put what shall be sent.
    pub fn outbox(&self) -> Outbox {
        self.outbox.clone()
    }

    /// Notes whether a write got on; one that has not for long is an error.
    fn watched(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(WRITE_PATIENCE)));
        ready!(stalled.as_mut().poll(context));
        stalled.as_mut().reset(Instant::now() + WRITE_PATIENCE);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }

    fn poll_send_file(&mut self, context: &mut Context<'_>, length: usize) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            let stream = &self.stream;
            let sent = self.outbox.with_first(|extent| {
                let count = extent.length.min(length as u64).min(SEND_MAX);
                stream.try_io(Interest::WRITABLE, || {
                    let mut offset = extent.offset;
                    let sent = rustix::fs::sendfile(stream, &extent.file, Some(&mut offset), count as usize)?;
                    extent.offset += sent as u64;
                    extent.length -= sent as u64;
                    Ok(sent)
                })
            });
            match sent {
                Some(Ok(0)) | None => {
                    let text = "the blob's file is shorter than its record";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, text)));
                }
                Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                Some(result) => return Poll::Ready(result),
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let slices = match slices.iter().position(|slice| !slice.is_empty()) {
            Some(first) => &slices[first..],
            None => return Poll::Ready(Ok(0)),
        };
        let ordinary = slices.iter().take_while(|slice| !is_stand_in(slice)).count();
        let written = match ordinary {
            0 => this.poll_send_file(context, slices[0].len()),
            count => Pin::new(&mut this.stream).poll_write_vectored(context, &slices[..count]),
        };
        this.watched(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
