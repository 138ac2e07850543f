//! The loopback proxy: what reaches a held host port without being translated.
//!
//! That is traffic to 127.0.0.0/8 and ::1 (which cannot be translated without
//! opening the host's loopback), IPv6 to a container without an IPv6 address, and
//! everything when the host's own input policy shall apply to published ports.
//! One thread serves all ports; bytes of streams are spliced inside the kernel.

mod datagram;
mod stream;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use datagram::Flows;
use stream::Streams;

/// Set in the tokens of streams' sockets.
const STREAM: u64 = 1 << 63;
/// Set in the tokens of datagram flows' sockets.
const FLOW: u64 = 1 << 62;
/// How often idle flows are looked for.
const SWEEP_SECONDS: i64 = 15;
const STACK_BYTES: usize = 256 << 10;

/// A socket whose traffic is passed on, and where to.
#[derive(Clone, Debug)]
enum Listener {
    Stream(Arc<TcpListener>, SocketAddr),
    Datagram(Arc<UdpSocket>, SocketAddr),
}

#[derive(Debug, Default)]
struct Listeners {
    next: u64,
    by_token: HashMap<u64, Listener>,
}

#[derive(Debug)]
struct Shared {
    epoll: OwnedFd,
    listeners: Mutex<Listeners>,
}

/// A running proxy.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    shared: Arc<Shared>,
}

/// A proxied port; it is closed when this is dropped.
#[derive(Debug)]
pub(crate) struct ProxiedPort {
    shared: Arc<Shared>,
    token: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Listeners> {
        // A panic elsewhere leaves the table whole: each change is one insert or remove.
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// Starts the proxy's thread.
    pub(crate) fn start() -> io::Result<Self> {
        let shared =
            Arc::new(Shared { epoll: epoll::create(CreateFlags::CLOEXEC)?, listeners: Mutex::default() });
        let serving = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("proxy".into())
            .stack_size(STACK_BYTES)
            .spawn(move || serve(&serving))?;
        Ok(Self { shared })
    }

    /// Passes connections to `listener` on to `backend`.
    pub(crate) fn add_stream(&self, listener: TcpListener, backend: SocketAddr) -> io::Result<ProxiedPort> {
        self.add(Listener::Stream(Arc::new(listener), backend))
    }

    /// Passes datagrams to `socket` on to `backend` and the answers back.
    pub(crate) fn add_datagram(&self, socket: UdpSocket, backend: SocketAddr) -> io::Result<ProxiedPort> {
        self.add(Listener::Datagram(Arc::new(socket), backend))
    }

    fn add(&self, listener: Listener) -> io::Result<ProxiedPort> {
        let mut listeners = self.shared.lock();
        listeners.next += 1;
        let token = listeners.next;
        let data = EventData::new_u64(token);
        match &listener {
            Listener::Stream(socket, _) => epoll::add(&self.shared.epoll, socket, data, EventFlags::IN)?,
            Listener::Datagram(socket, _) => epoll::add(&self.shared.epoll, socket, data, EventFlags::IN)?,
        }
        listeners.by_token.insert(token, listener);
        Ok(ProxiedPort { shared: Arc::clone(&self.shared), token })
    }
}

impl ProxiedPort {
    /// Passes everything that comes from now on to another backend. A new token keeps datagram flows that are
    /// there with the old one.
    pub(crate) fn lead_to(&mut self, backend: SocketAddr) -> io::Result<()> {
        let mut listeners = self.shared.lock();
        let token = listeners.next + 1;
        let data = EventData::new_u64(token);
        let listener = match listeners.by_token.get(&self.token) {
            Some(Listener::Stream(socket, _)) => {
                epoll::modify(&self.shared.epoll, socket, data, EventFlags::IN)?;
                Listener::Stream(Arc::clone(socket), backend)
            }
            Some(Listener::Datagram(socket, _)) => {
                epoll::modify(&self.shared.epoll, socket, data, EventFlags::IN)?;
                Listener::Datagram(Arc::clone(socket), backend)
            }
            None => return Ok(()),
        };
        listeners.next = token;
        listeners.by_token.remove(&self.token);
        listeners.by_token.insert(token, listener);
        self.token = token;
        Ok(())
    }
}

impl Drop for ProxiedPort {
    fn drop(&mut self) {
        // The proxy's thread may hold the socket for one more event, so it is
        // taken out of the set before it closes.
        match self.shared.lock().by_token.remove(&self.token) {
            Some(Listener::Stream(socket, _)) => drop(epoll::delete(&self.shared.epoll, &socket)),
            Some(Listener::Datagram(socket, _)) => drop(epoll::delete(&self.shared.epoll, &socket)),
            None => {}
        }
    }
}

fn serve(shared: &Shared) {
    let mut streams = Streams::default();
    let mut flows = Flows::default();
    let mut events = Vec::with_capacity(64);
    let mut swept = Instant::now();
    loop {
        let timeout = match (streams.has_work(), flows.is_empty()) {
            (true, _) => Some(Timespec { tv_sec: 0, tv_nsec: 0 }),
            (false, false) => Some(Timespec { tv_sec: SWEEP_SECONDS, tv_nsec: 0 }),
            (false, true) => None,
        };
        events.clear();
        let buffer = rustix::buffer::spare_capacity(&mut events);
        // The set lives as long as `shared`, so only interruptions fail.
        if epoll::wait(&shared.epoll, buffer, timeout.as_ref()).is_err() {
            continue;
        }
        for event in &events {
            let token = event.data.u64();
            if token & STREAM != 0 {
                streams.ready(token & !STREAM);
            } else if token & FLOW != 0 {
                flows.answer(token);
            } else {
                let listener = shared.lock().by_token.get(&token).cloned();
                match listener {
                    Some(Listener::Stream(socket, backend)) => {
                        streams.accept(&shared.epoll, &socket, backend)
                    }
                    Some(Listener::Datagram(socket, backend)) => {
                        flows.take(&shared.epoll, token, &socket, backend);
                    }
                    None => {}
                }
            }
        }
        streams.work();
        if swept.elapsed().as_secs() as i64 >= SWEEP_SECONDS {
            swept = Instant::now();
            flows.sweep(swept);
        }
    }
}
