//! Streams: each connection is two sockets and, while bytes wait, a pipe per
//! direction, through which the kernel moves pages without copying them here.

use std::collections::{HashMap, HashSet};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::pipe::{PipeFlags, SpliceFlags};

use super::STREAM;

/// Connections served at once; each takes up to six descriptors.
const MOST_CONNECTIONS: usize = 4096;
/// Connections accepted from one port before others get their turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Moves per connection and turn, so that a fast one does not starve the rest.
const MOVES_PER_TURN: usize = 16;
/// What one move asks for; the kernel gives what the pipe holds.
const MOVE_BYTES: usize = 1 << 20;
/// Pipes are this large where the system's limit allows, for fewer, longer moves.
const PIPE_BYTES: usize = 256 << 10;

/// One direction of a connection.
#[derive(Debug, Default)]
struct Direction {
    pipe: Option<(OwnedFd, OwnedFd)>,
    waiting: usize,
    ended: bool,
    closed: bool,
}

#[derive(Debug)]
struct Connection {
    client: TcpStream,
    backend: TcpStream,
    up: Direction,
    down: Direction,
}

/// What a round of moves came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Nothing moves until the next event.
    Idle,
    /// There is more to move.
    More,
    /// Both directions are done, or one broke.
    Finished,
}

/// All proxied connections.
#[derive(Debug, Default)]
pub(super) struct Streams {
    next: u64,
    connections: HashMap<u64, Connection>,
    ready: HashSet<u64>,
}

impl Streams {
    pub(super) fn has_work(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn ready(&mut self, id: u64) {
        if self.connections.contains_key(&id) {
            self.ready.insert(id);
        }
    }

    /// Accepts what is queued and starts connecting to the backend.
    pub(super) fn accept(&mut self, epoll: &OwnedFd, listener: &TcpListener, backend: SocketAddr) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Ok((client, _)) = listener.accept() else { return };
            if self.connections.len() >= MOST_CONNECTIONS {
                continue;
            }
            // A client whose backend cannot even be tried sees its connection close.
            let _ = self.open(epoll, client, backend);
        }
    }

    fn open(&mut self, epoll: &OwnedFd, client: TcpStream, address: SocketAddr) -> std::io::Result<()> {
        client.set_nonblocking(true)?;
        client.set_nodelay(true)?;
        let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let backend = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&backend, true)?;
        match rustix::net::connect(&backend, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.next += 1;
        let id = self.next;
        let data = EventData::new_u64(STREAM | id);
        let events = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(epoll, &client, data, events)?;
        epoll::add(epoll, &backend, data, events)?;
        let connection = Connection {
            client,
            backend: backend.into(),
            up: Direction::default(),
            down: Direction::default(),
        };
        self.connections.insert(id, connection);
        Ok(())
    }

    /// Moves bytes on every connection that an event made ready.
    pub(super) fn work(&mut self) {
        for id in std::mem::take(&mut self.ready) {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            match connection.turn() {
                Outcome::Idle => {}
                Outcome::More => drop(self.ready.insert(id)),
                Outcome::Finished => drop(self.connections.remove(&id)),
            }
        }
    }
}

impl Connection {
    fn turn(&mut self) -> Outcome {
        let up = self.up.pump(&self.client, &self.backend);
        let down = self.down.pump(&self.backend, &self.client);
        match (up, down) {
            (Ok(up), Ok(down)) if up == Outcome::Finished && down == Outcome::Finished => Outcome::Finished,
            (Ok(up), Ok(down)) if up == Outcome::More || down == Outcome::More => Outcome::More,
            (Ok(_), Ok(_)) => Outcome::Idle,
            _ => Outcome::Finished,
        }
    }
}

impl Direction {
    /// Moves bytes until one side has to wait or the turn is over.
    fn pump(&mut self, from: &TcpStream, to: &TcpStream) -> Result<Outcome, Errno> {
        if self.closed {
            return Ok(Outcome::Finished);
        }
        for _ in 0..MOVES_PER_TURN {
            let filled = self.fill(from)?;
            let drained = self.drain(to)?;
            if self.ended && self.waiting == 0 {
                // The other side may be gone already, which is what closing wants.
                let _ = to.shutdown(Shutdown::Write);
                self.closed = true;
                self.pipe = None;
                return Ok(Outcome::Finished);
            }
            if !filled && !drained {
                if self.waiting == 0 {
                    self.pipe = None;
                }
                return Ok(Outcome::Idle);
            }
        }
        Ok(Outcome::More)
    }

    /// Socket to pipe; whether anything moved.
    fn fill(&mut self, from: &TcpStream) -> Result<bool, Errno> {
        if self.ended {
            return Ok(false);
        }
        let pipe = match &self.pipe {
            Some(pipe) => pipe,
            None => {
                let pipe = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
                // A smaller pipe than wished only means more moves.
                let _ = rustix::pipe::fcntl_setpipe_size(&pipe.1, PIPE_BYTES);
                self.pipe.insert(pipe)
            }
        };
        match splice(from, &pipe.1) {
            Ok(0) => {
                self.ended = true;
                Ok(false)
            }
            Ok(moved) => {
                self.waiting += moved;
                Ok(true)
            }
            // An unconnected socket is one that is still connecting.
            Err(Errno::AGAIN | Errno::NOTCONN) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Pipe to socket; whether anything moved.
    fn drain(&mut self, to: &TcpStream) -> Result<bool, Errno> {
        let Some(pipe) = self.pipe.as_ref().filter(|_| self.waiting > 0) else { return Ok(false) };
        match splice(&pipe.0, to) {
            Ok(moved) => {
                self.waiting -= moved;
                Ok(moved > 0)
            }
            Err(Errno::AGAIN | Errno::NOTCONN) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

fn splice(from: impl AsFd, to: impl AsFd) -> Result<usize, Errno> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    rustix::pipe::splice(from.as_fd(), None, to.as_fd(), None, MOVE_BYTES, flags)
}
