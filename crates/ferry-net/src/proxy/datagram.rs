//! Datagrams: every client of a port gets its own socket towards the container,
//! so that answers find their way back; it is closed when it has been idle.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};

use super::FLOW;

/// Clients remembered at once over all ports; a newcomer beyond waits for idle ones to end.
const MOST_FLOWS: usize = 1024;
/// As long as the kernel remembers a UDP stream.
const IDLE: Duration = Duration::from_secs(120);
/// Datagrams taken from one socket before the others get their turn.
const DATAGRAMS_PER_TURN: usize = 64;
const LARGEST_DATAGRAM: usize = 64 << 10;

#[derive(Debug)]
struct Flow {
    /// The port's socket; gone when the port is taken back.
    listener: Weak<UdpSocket>,
    client: SocketAddr,
    port: u64,
    backend: UdpSocket,
    used: Instant,
}

/// All flows of all ports.
#[derive(Debug, Default)]
pub(super) struct Flows {
    next: u64,
    by_token: HashMap<u64, Flow>,
    by_client: HashMap<(u64, SocketAddr), u64>,
    buffer: Vec<u8>,
}

impl Flows {
    pub(super) fn is_empty(&self) -> bool {
        self.by_token.is_empty()
    }

    /// Takes what clients sent to a port and passes it on.
    pub(super) fn take(
        &mut self,
        epoll: &OwnedFd,
        port: u64,
        listener: &Arc<UdpSocket>,
        backend: SocketAddr,
    ) {
        self.buffer.resize(LARGEST_DATAGRAM, 0);
        for _ in 0..DATAGRAMS_PER_TURN {
            let Ok((length, client)) = listener.recv_from(&mut self.buffer) else { return };
            let token = match self.by_client.get(&(port, client)) {
                Some(token) => *token,
                None => match self.open(epoll, port, listener, client, backend) {
                    Some(token) => token,
                    None => continue,
                },
            };
            if let Some(flow) = self.by_token.get_mut(&token) {
                flow.used = Instant::now();
                // A lost datagram is what UDP promises.
                let _ = flow.backend.send(&self.buffer[..length]);
            }
        }
    }

    fn open(
        &mut self,
        epoll: &OwnedFd,
        port: u64,
        listener: &Arc<UdpSocket>,
        client: SocketAddr,
        backend: SocketAddr,
    ) -> Option<u64> {
        if self.by_token.len() >= MOST_FLOWS {
            return None;
        }
        let any: SocketAddr =
            if backend.is_ipv6() { ([0u16; 8], 0).into() } else { ([0, 0, 0, 0], 0).into() };
        let socket = UdpSocket::bind(any).ok()?;
        socket.set_nonblocking(true).ok()?;
        socket.connect(backend).ok()?;
        self.next += 1;
        let token = FLOW | self.next;
        epoll::add(epoll, &socket, EventData::new_u64(token), EventFlags::IN).ok()?;
        let flow =
            Flow { listener: Arc::downgrade(listener), client, port, backend: socket, used: Instant::now() };
        self.by_token.insert(token, flow);
        self.by_client.insert((port, client), token);
        Some(token)
    }

    /// Passes the container's answers back to the flow's client.
    pub(super) fn answer(&mut self, token: u64) {
        self.buffer.resize(LARGEST_DATAGRAM, 0);
        let Some(flow) = self.by_token.get_mut(&token) else { return };
        for _ in 0..DATAGRAMS_PER_TURN {
            let Ok(length) = flow.backend.recv(&mut self.buffer) else { return };
            let Some(listener) = flow.listener.upgrade() else { return };
            flow.used = Instant::now();
            let _ = listener.send_to(&self.buffer[..length], flow.client);
        }
    }

    /// Closes flows that have been idle, and those of ports that are gone.
    pub(super) fn sweep(&mut self, now: Instant) {
        let by_client = &mut self.by_client;
        self.by_token.retain(|_, flow| {
            let alone = flow.listener.strong_count() == 0;
            let keep = !alone && now.duration_since(flow.used) < IDLE;
            if !keep {
                by_client.remove(&(flow.port, flow.client));
            }
            keep
        });
    }
}
