//! A framed channel (bytes and descriptors) driven by tokio.

use std::os::fd::OwnedFd;

use ferry_sys::channel::{Channel, ChannelError, Frame};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A channel registered with the reactor. Reading and writing are separate calls on one owner, so no lock
/// is needed; whoever owns it runs both in one loop.
pub struct AsyncChannel {
    channel: AsyncFd<Channel>,
}

/// What became possible.
#[derive(Debug)]
pub enum Ready {
    /// A whole frame arrived.
    Frame(Frame),
    /// Queued bytes moved, or may move now.
    Flushed,
}

impl AsyncChannel {
    /// Registers a channel. Must run inside the runtime.
    #[allow(
        deprecated,
        reason = "its replacement asks for a promise that `Channel` keeps: it owns one descriptor for life"
    )]
    pub fn new(channel: Channel) -> std::io::Result<Self> {
        AsyncFd::with_interest(channel, Interest::READABLE | Interest::WRITABLE)
            .map(|channel| Self { channel })
    }

    /// Queues a frame and sends what the kernel takes at once.
    pub fn queue(&mut self, payload: &[u8], fds: Vec<OwnedFd>) -> Result<(), ChannelError> {
        let channel = self.channel.get_mut();
        channel.queue(payload, fds)?;
        channel.flush().map(|_| ())
    }

    /// Waits for the next frame, sending queued bytes meanwhile. Safe to drop and call again.
    pub async fn next(&mut self) -> Result<Ready, ChannelError> {
        loop {
            if let Some(frame) = self.channel.get_mut().try_recv()? {
                return Ok(Ready::Frame(frame));
            }
            let interest = match self.channel.get_ref().wants_write() {
                true => Interest::READABLE | Interest::WRITABLE,
                false => Interest::READABLE,
            };
            let mut guard = self.channel.ready_mut(interest).await?;
            let channel = guard.get_inner_mut();
            if let Some(frame) = channel.try_recv()? {
                return Ok(Ready::Frame(frame));
            }
            let had_output = channel.wants_write();
            let drained = channel.flush()?;
            guard.clear_ready();
            if had_output && drained {
                return Ok(Ready::Flushed);
            }
        }
    }
}
