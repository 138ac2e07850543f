//! Framed messages with file descriptors over a unix stream socket.
//!
//! Owns the frame format (a little-endian `u32` length, then that many bytes; descriptors travel with
//! the first byte of the header) and its limits. Never looks into a payload.
//!
//! The socket's own blocking mode does not matter: every call passes `MSG_DONTWAIT`, and the blocking
//! calls wait with poll. So one channel serves a blocking client, an epoll loop and tokio's `AsyncFd`
//! alike: `try_recv` and `flush` answer "not now" instead of waiting.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, recvmsg, sendmsg,
};

/// The largest payload accepted or sent: an OCI spec with thousands of mounts stays well below.
pub const MAX_FRAME: usize = 16 << 20;
/// The most descriptors one frame may carry (the kernel's own limit is 253).
pub const MAX_FDS: usize = 64;
/// The most bytes that may wait in a channel for a peer that does not read.
pub const MAX_QUEUED: usize = 32 << 20;

/// `sun_path` holds 108 bytes including the final NUL.
const SUN_PATH_MAX: usize = 107;
const HEADER: usize = 4;

/// Why a frame could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The peer closed its end between two frames.
    #[error("peer closed the connection")]
    Closed,
    /// The peer closed its end inside a frame.
    #[error("peer closed the connection {missing} bytes before the end of a frame")]
    Truncated {
        /// How many bytes of the frame never came.
        missing: usize,
    },
    /// The announced or offered payload is larger than [`MAX_FRAME`].
    #[error("frame of {size} bytes exceeds the limit of {MAX_FRAME}")]
    TooLarge {
        /// The announced payload length.
        size: usize,
    },
    /// More descriptors than [`MAX_FDS`].
    #[error("frame with {count} descriptors exceeds the limit of {MAX_FDS}")]
    TooManyFds {
        /// How many there were.
        count: usize,
    },
    /// The peer does not read and [`MAX_QUEUED`] bytes wait for it.
    #[error("peer does not read: {queued} bytes are waiting")]
    Backlog {
        /// The bytes waiting.
        queued: usize,
    },
    /// The socket itself failed.
    #[error("socket error")]
    Socket(#[from] io::Error),
}

impl From<Errno> for ChannelError {
    fn from(errno: Errno) -> Self {
        ChannelError::Socket(errno.into())
    }
}

/// A frame's payload and the descriptors that came with it.
pub type Frame = (Vec<u8>, Vec<OwnedFd>);

/// One end of a framed connection.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    incoming: Incoming,
    outgoing: VecDeque<Outgoing>,
    queued: usize,
}

#[derive(Debug, Default)]
struct Incoming {
    header: [u8; HEADER],
    header_filled: usize,
    payload: Vec<u8>,
    payload_filled: usize,
    fds: Vec<OwnedFd>,
}

#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
}

impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Self {
        Channel { socket, incoming: Incoming::default(), outgoing: VecDeque::new(), queued: 0 }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Channel {
    /// Two connected ends; both are close-on-exec.
    pub fn pair() -> io::Result<(Channel, Channel)> {
        let (one, other) = socketpair()?;
        Ok((one.into(), other.into()))
    }

    /// Connects to a listening unix socket; the path may be longer than `sun_path`.
    pub fn connect(path: &Path) -> io::Result<Channel> {
        connect(path).map(Channel::from)
    }

    /// Gives the socket back. Frames still queued are dropped.
    pub fn into_fd(self) -> OwnedFd {
        self.socket
    }

    /// Sends one frame, waiting until the kernel has taken all of it (and all queued before it).
    pub fn send(&mut self, payload: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        let mut owned = Vec::with_capacity(fds.len());
        for fd in fds {
            owned.push(fd.try_clone_to_owned()?);
        }
        self.queue(payload, owned)?;
        while !self.flush()? {
            wait(self.socket.as_fd(), PollFlags::OUT)?;
        }
        Ok(())
    }

    /// Receives one frame, waiting for it. [`ChannelError::Closed`] at the end of the stream.
    pub fn recv(&mut self) -> Result<Frame, ChannelError> {
        loop {
            if let Some(frame) = self.try_recv()? {
                return Ok(frame);
            }
            wait(self.socket.as_fd(), PollFlags::IN)?;
        }
    }

    /// Queues one frame; [`Channel::flush`] moves it to the kernel. The descriptors are closed once sent.
    pub fn queue(&mut self, payload: &[u8], fds: Vec<OwnedFd>) -> Result<(), ChannelError> {
        if payload.len() > MAX_FRAME {
            return Err(ChannelError::TooLarge { size: payload.len() });
        }
        if fds.len() > MAX_FDS {
            return Err(ChannelError::TooManyFds { count: fds.len() });
        }
        if self.queued + payload.len() > MAX_QUEUED {
            return Err(ChannelError::Backlog { queued: self.queued });
        }
        let mut bytes = Vec::with_capacity(HEADER + payload.len());
        bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        bytes.extend_from_slice(payload);
        self.queued += bytes.len();
        self.outgoing.push_back(Outgoing { bytes, sent: 0, fds });
        Ok(())
    }

    /// Sends what the kernel takes now. True when nothing is left to send.
    pub fn flush(&mut self) -> Result<bool, ChannelError> {
        while let Some(front) = self.outgoing.front_mut() {
            match send_some(self.socket.as_fd(), &front.bytes[front.sent..], &front.fds) {
                Ok(count) => {
                    front.sent += count;
                    front.fds.clear();
                    if front.sent == front.bytes.len() {
                        self.queued -= front.bytes.len();
                        self.outgoing.pop_front();
                    }
                }
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(ChannelError::Closed),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(true)
    }

    /// True while queued bytes wait for the peer to read.
    pub fn wants_write(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Receives one frame if all of it is there; `None` when more bytes must come first.
    pub fn try_recv(&mut self) -> Result<Option<Frame>, ChannelError> {
        let socket = self.socket.as_fd();
        match self.incoming.advance(socket) {
            Ok(frame) => Ok(Some(frame)),
            Err(ChannelError::Socket(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Incoming {
    /// Reads header and payload with separate calls: the kernel never lets one read cross from a
    /// message with descriptors into the next, so descriptors always belong to the frame being read.
    fn advance(&mut self, socket: BorrowedFd<'_>) -> Result<Frame, ChannelError> {
        while self.header_filled < HEADER {
            match recv_some(socket, &mut self.header[self.header_filled..], &mut self.fds)? {
                0 if self.header_filled == 0 => return Err(ChannelError::Closed),
                0 => return Err(ChannelError::Truncated { missing: HEADER - self.header_filled }),
                count => self.header_filled += count,
            }
            if self.header_filled == HEADER {
                let size = u32::from_le_bytes(self.header) as usize;
                if size > MAX_FRAME {
                    return Err(ChannelError::TooLarge { size });
                }
                self.payload = vec![0; size];
                self.payload_filled = 0;
            }
        }
        while self.payload_filled < self.payload.len() {
            match recv_some(socket, &mut self.payload[self.payload_filled..], &mut self.fds)? {
                0 => {
                    return Err(ChannelError::Truncated {
                        missing: self.payload.len() - self.payload_filled,
                    });
                }
                count => self.payload_filled += count,
            }
        }
        self.header_filled = 0;
        Ok((std::mem::take(&mut self.payload), std::mem::take(&mut self.fds)))
    }
}

/// A connected pair of close-on-exec unix stream sockets.
pub fn socketpair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Connects a close-on-exec unix stream socket to `path`.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = stream_socket()?;
    let (address, _directory) = address_of(path)?;
    rustix::io::retry_on_intr(|| rustix::net::connect(&socket, &address))?;
    Ok(socket)
}

/// Binds and listens on `path` with exactly these permission bits from its first moment on.
///
/// The path must not exist: who may remove a stale one is the caller's decision.
pub fn listen(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    let socket = stream_socket()?;
    // bind(2) creates the file with the socket inode's own mode and the umask.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode))?;
    let (address, _directory) = address_of(path)?;
    rustix::net::bind(&socket, &address)?;
    // The umask may have taken bits away; nobody can connect before listen(2).
    rustix::fs::chmod(path, Mode::from_raw_mode(mode))?;
    rustix::net::listen(&socket, LISTEN_BACKLOG)?;
    Ok(socket)
}

/// Clients queue here while no engine runs; the kernel caps it at `net.core.somaxconn`.
const LISTEN_BACKLOG: i32 = 4096;

/// Accepts one connection without waiting; `None` when there is none.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    match rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
        Ok(socket) => Ok(Some(socket)),
        Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn stream_socket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

/// The socket address of `path`; a path too long for `sun_path` goes through a directory descriptor,
/// which must live until the address was used.
fn address_of(path: &Path) -> io::Result<(SocketAddrUnix, Option<OwnedFd>)> {
    if path.as_os_str().len() <= SUN_PATH_MAX {
        return Ok((SocketAddrUnix::new(path)?, None));
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::NAMETOOLONG.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(parent, flags, Mode::empty())?;
    let mut short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    short.push(name);
    Ok((SocketAddrUnix::new(&short)?, Some(directory)))
}

fn wait(socket: BorrowedFd<'_>, flags: PollFlags) -> io::Result<()> {
    let mut fds = [PollFd::from_borrowed_fd(socket, flags)];
    rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
    Ok(())
}

fn send_some(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[OwnedFd]) -> Result<usize, Errno> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    if !borrowed.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(Errno::TOOMANYREFS);
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags)
}

fn recv_some(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> Result<usize, ChannelError> {
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = match recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags) {
            Ok(received) => received,
            Err(Errno::INTR) => continue,
            Err(Errno::CONNRESET) => return Err(ChannelError::Closed),
            Err(errno) => return Err(errno.into()),
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        if fds.len() > MAX_FDS || received.flags.contains(rustix::net::ReturnFlags::CTRUNC) {
            return Err(ChannelError::TooManyFds { count: fds.len().max(MAX_FDS + 1) });
        }
        return Ok(received.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn frames_and_descriptors_stay_together() {
        let (mut one, mut other) = Channel::pair().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        one.send(b"plain", &[]).unwrap();
        one.send(b"with", &[read.as_fd(), write.as_fd()]).unwrap();
        one.send(b"", &[]).unwrap();
        let (payload, fds) = other.recv().unwrap();
        assert_eq!((payload.as_slice(), fds.len()), (&b"plain"[..], 0));
        let (payload, fds) = other.recv().unwrap();
        assert_eq!((payload.as_slice(), fds.len()), (&b"with"[..], 2));
        let (payload, fds) = other.recv().unwrap();
        assert_eq!((payload.as_slice(), fds.len()), (&b""[..], 0));
        assert!(other.try_recv().unwrap().is_none());
        drop(one);
        assert!(matches!(other.recv(), Err(ChannelError::Closed)));
    }

    #[test]
    fn large_frames_pass_while_the_peer_reads_later() {
        let (mut one, mut other) = Channel::pair().unwrap();
        let payload = vec![7u8; 4 << 20];
        one.queue(&payload, Vec::new()).unwrap();
        assert!(!one.flush().unwrap());
        let reader = std::thread::spawn(move || other.recv().unwrap().0);
        while !one.flush().unwrap() {
            wait(one.as_fd(), PollFlags::OUT).unwrap();
        }
        assert!(reader.join().unwrap() == payload);
    }

    #[test]
    fn oversized_and_truncated_frames_are_refused() {
        let (one, mut other) = Channel::pair().unwrap();
        let mut raw = std::os::unix::net::UnixStream::from(one.into_fd());
        raw.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(matches!(other.recv(), Err(ChannelError::TooLarge { .. })));

        let (one, mut other) = Channel::pair().unwrap();
        let mut raw = std::os::unix::net::UnixStream::from(one.into_fd());
        raw.write_all(&[9, 0, 0, 0, b'x']).unwrap();
        drop(raw);
        assert!(matches!(other.recv(), Err(ChannelError::Truncated { missing: 8 })));
    }

    #[test]
    fn a_deaf_peer_does_not_fill_memory() {
        let (mut one, _other) = Channel::pair().unwrap();
        let payload = vec![0u8; MAX_FRAME];
        let mut refused = false;
        for _ in 0..4 {
            refused |= matches!(one.queue(&payload, Vec::new()), Err(ChannelError::Backlog { .. }));
        }
        assert!(refused);
    }

    #[test]
    fn long_paths_are_bound_through_their_directory() {
        let root = std::env::temp_dir().join(format!("ferry-channel-{}", std::process::id()));
        let directory = root.join("d".repeat(120));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("shim.sock");
        let listener = listen(&path, 0o600).unwrap();
        let mut client = Channel::connect(&path).unwrap();
        let mut server = Channel::from(accept(listener.as_fd()).unwrap().unwrap());
        client.send(b"hello", &[]).unwrap();
        assert_eq!(server.recv().unwrap().0, b"hello");
        std::fs::remove_dir_all(&root).unwrap();
    }
}
