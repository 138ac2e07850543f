//! Open files that a client hands over with the first byte of its connection.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{Interest, ReadBuf};
use tokio::net::UnixStream;

/// Most descriptors of one call; what goes beyond is closed by the kernel.
const MAX_DESCRIPTORS: usize = 32;

/// What came with a connection, until a request takes it.
#[derive(Debug, Clone, Default)]
pub struct Carried(Arc<Mutex<Vec<OwnedFd>>>);

impl Carried {
    /// Takes the descriptors.
    pub fn take(&self) -> Vec<OwnedFd> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads bytes with the descriptors that belong to them.
    pub(super) fn poll_read(
        &self,
        stream: &UnixStream,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(stream.poll_read_ready(cx))?;
            let target = buf.initialize_unfilled();
            match stream.try_io(Interest::READABLE, || receive(stream.as_fd(), target)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok((count, descriptors)) => {
                    buf.advance(count);
                    self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(descriptors);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

fn receive(socket: BorrowedFd<'_>, target: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(socket, &mut [IoSliceMut::new(target)], &mut ancillary, flags)?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok((received.bytes, descriptors))
}
