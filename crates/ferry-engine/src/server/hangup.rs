//! Whether a client is still there while it is being answered.
//!
//! A client may end its half of a connection right after its request (`nc -N`, `socat`, a shell's pipe) and still wait for
//! the answer, so the end of its bytes is not the end of the client. On a unix socket the kernel knows the difference; over
//! a network both look alike, and then only builds and answers without an end (events, followed logs, waits) are given up,
//! as Docker does. Dropping the connection ends what feeds the answer.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{Interest, Ready};
use tokio::net::{TcpStream, UnixStream};

/// Between two looks at a client that has ended its half: there is no event to wait for.
const LOOK: Duration = Duration::from_millis(500);

/// What is known of the answer under way.
#[derive(Debug, Clone, Default)]
pub struct UnderWay(Arc<AtomicBool>);

impl UnderWay {
    /// Notes which request is answered now.
    pub fn note(&self, path: &str, query: Option<&str>) {
        self.0.store(is_for_listeners(path, query.unwrap_or("")), Ordering::Relaxed);
    }
}

/// Is the answer to this request worth nothing without a client that listens to its end?
fn is_for_listeners(path: &str, query: &str) -> bool {
    path.ends_with("/build")
        || path.ends_with("/events")
        || path.ends_with("/wait")
        || path.ends_with("/attach")
        || path.ends_with("/stats") && !query.contains("stream=0") && !query.contains("stream=false")
        || path.ends_with("/logs") && (query.contains("follow=1") || query.contains("follow=true"))
}

/// A second handle on a connection, to see its end.
pub enum Watch {
    /// Of a unix socket: the kernel tells a closed connection from one that was ended by half.
    Local(UnixStream),
    /// Over a network.
    Remote(TcpStream),
}

impl Watch {
    /// Watches a unix socket.
    pub fn local(socket: &impl AsFd) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixStream::from(socket.as_fd().try_clone_to_owned()?);
        UnixStream::from_std(socket).map(Self::Local)
    }

    /// Watches a connection over a network.
    pub fn remote(socket: &impl AsFd) -> io::Result<Self> {
        let socket = std::net::TcpStream::from(socket.as_fd().try_clone_to_owned()?);
        TcpStream::from_std(socket).map(Self::Remote)
    }

    /// Returns when nobody is there to read an answer.
    pub async fn client_is_gone(self, under_way: UnderWay) {
        while let Ok(ready) = self.ready().await
            && !ready.is_read_closed()
        {
            self.wait_for_more();
        }
        while !self.is_gone(&under_way) {
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn ready(&self) -> io::Result<Ready> {
        match self {
            Self::Local(socket) => socket.ready(Interest::READABLE).await,
            Self::Remote(socket) => socket.ready(Interest::READABLE).await,
        }
    }

    /// The bytes are somebody else's to read: the next look is at the next ones.
    fn wait_for_more(&self) {
        let nothing = || -> io::Result<()> { Err(io::ErrorKind::WouldBlock.into()) };
        let _ = match self {
            Self::Local(socket) => socket.try_io(Interest::READABLE, nothing),
            Self::Remote(socket) => socket.try_io(Interest::READABLE, nothing),
        };
    }

    fn is_gone(&self, under_way: &UnderWay) -> bool {
        let socket = match self {
            Self::Local(socket) => socket.as_fd(),
            Self::Remote(_) if under_way.0.load(Ordering::Relaxed) => return true,
            Self::Remote(socket) => socket.as_fd(),
        };
        let mut fds = [PollFd::new(&socket, PollFlags::empty())];
        let looked = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        looked.is_err() || fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_for_listeners() {
        for (path, query, wanted) in [
            ("/v1.44/build", "t=x", true),
            ("/v1.44/events", "", true),
            ("/containers/x/logs", "stdout=1&follow=1", true),
            ("/containers/x/logs", "stdout=1", false),
            ("/containers/x/stats", "", true),
            ("/containers/x/stats", "stream=0", false),
            ("/containers/x/wait", "", true),
            ("/images/create", "fromImage=busybox", false),
        ] {
            assert_eq!(is_for_listeners(path, query), wanted, "{path}?{query}");
        }
    }
}
