//! One thread that answers the DNS queries of every container.
//!
//! It waits on one epoll set for all containers' sockets and for the answers of
//! outside servers. The network service adds and removes sockets and names while
//! it runs; nothing here ever asks the engine.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ferry_sys::network_namespace::NetworkNamespace;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::cache::Cache;
use super::message::{self, Code, Data, Parsed, Query, kind};
use super::names::{Found, NameTable};
use super::upstream::HostServers;
use super::{DNS_ADDRESS, tcp};

/// Queries that may wait for outside servers at once; more are refused.
const MOST_PENDING: usize = 1024;
/// How long one outside server may take before the next is asked.
const SERVER_PATIENCE: Duration = Duration::from_secs(2);
/// How often the whole list of servers is gone through.
const ROUNDS: usize = 2;
/// Datagrams taken from one socket before the others get their turn.
const DATAGRAMS_PER_TURN: usize = 64;
/// Larger queries do not exist; larger answers over UDP are truncated by their server.
pub(super) const DATAGRAM_BYTES: usize = 4096;
/// How often waiting queries are checked for lost answers.
const CHECK_INTERVAL_MS: i64 = 200;
const DNS_PORT: u16 = 53;
/// The thread only moves datagrams.
const STACK_BYTES: usize = 256 << 10;

/// The listening sockets of one container, made inside its network namespace.
#[derive(Debug)]
pub(crate) struct DnsSockets {
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
}

impl DnsSockets {
    /// Binds both in the calling thread's network namespace.
    pub(crate) fn bind() -> io::Result<Self> {
        let address = SocketAddr::from((DNS_ADDRESS, 0));
        let sockets = Self { udp: UdpSocket::bind(address)?, tcp: TcpListener::bind(address)? };
        sockets.udp.set_nonblocking(true)?;
        sockets.tcp.set_nonblocking(true)?;
        Ok(sockets)
    }

    /// The UDP and the TCP port.
    pub(crate) fn ports(&self) -> io::Result<(u16, u16)> {
        Ok((self.udp.local_addr()?.port(), self.tcp.local_addr()?.port()))
    }
}

/// A container as the server knows it.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) sandbox: String,
    sockets: DnsSockets,
    pub(super) namespace: NetworkNamespace,
}

/// A query that waits for an outside server.
#[derive(Debug)]
struct Pending {
    client: Arc<Client>,
    from: SocketAddr,
    query: Vec<u8>,
    scope: u64,
    servers: Vec<IpAddr>,
    attempt: usize,
    socket: UdpSocket,
    deadline: Instant,
}

#[derive(Debug)]
enum Source {
    Udp(Arc<Client>),
    Tcp(Arc<Client>),
    Upstream(Box<Pending>),
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    sources: HashMap<u64, Source>,
    pending: usize,
    cache: Cache,
}

/// What the server's thread, the TCP helpers and the network service share.
#[derive(Debug)]
pub(super) struct Shared {
    epoll: OwnedFd,
    home: NetworkNamespace,
    state: Mutex<State>,
    names: RwLock<NameTable>,
    host_servers: Mutex<HostServers>,
    pub(super) tcp_helpers: AtomicUsize,
}

/// A running DNS service.
#[derive(Clone, Debug)]
pub(crate) struct DnsServer {
    shared: Arc<Shared>,
}

/// A poisoned lock means that another thread panicked between two single steps;
/// each leaves the tables usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl DnsServer {
    /// Starts the thread in the calling thread's network namespace.
    pub(crate) fn start(resolv_conf: &Path) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            home: NetworkNamespace::current()?,
            state: Mutex::default(),
            names: RwLock::default(),
            host_servers: Mutex::new(HostServers::new(resolv_conf)),
            tcp_helpers: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("dns".into())
            .stack_size(STACK_BYTES)
            .spawn(move || serving.serve())?;
        Ok(Self { shared })
    }

    /// Changes the names everyone is answered from.
    pub(crate) fn edit_names(&self, edit: impl FnOnce(&mut NameTable)) {
        edit(&mut self.shared.names.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Serves a container's sockets from now on.
    pub(crate) fn add(
        &self,
        sandbox: &str,
        sockets: DnsSockets,
        namespace: NetworkNamespace,
    ) -> io::Result<()> {
        let client = Arc::new(Client { sandbox: sandbox.to_owned(), sockets, namespace });
        let mut state = lock(&self.shared.state);
        for (source, is_udp) in
            [(Source::Udp(Arc::clone(&client)), true), (Source::Tcp(Arc::clone(&client)), false)]
        {
            state.next += 1;
            let token = state.next;
            state.sources.insert(token, source);
            let data = EventData::new_u64(token);
            match is_udp {
                true => epoll::add(&self.shared.epoll, &client.sockets.udp, data, EventFlags::IN)?,
                false => epoll::add(&self.shared.epoll, &client.sockets.tcp, data, EventFlags::IN)?,
            }
        }
        Ok(())
    }

    /// Closes a container's sockets and drops what it still waits for.
    pub(crate) fn remove(&self, sandbox: &str) {
        let mut state = lock(&self.shared.state);
        // Closing the last descriptor of a socket takes it out of the epoll set.
        state.sources.retain(|_, source| match source {
            Source::Udp(client) | Source::Tcp(client) => client.sandbox != sandbox,
            Source::Upstream(pending) => pending.client.sandbox != sandbox,
        });
        state.pending = state.sources.values().filter(|one| matches!(one, Source::Upstream(_))).count();
    }
}

impl Shared {
    fn serve(self: &Arc<Self>) {
        let mut events = Vec::with_capacity(64);
        loop {
            let waiting = lock(&self.state).pending > 0;
            let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: CHECK_INTERVAL_MS * 1_000_000 };
            events.clear();
            let buffer = rustix::buffer::spare_capacity(&mut events);
            // The only lasting error would be a closed epoll set, which lives as long as `self`.
            if epoll::wait(&self.epoll, buffer, waiting.then_some(&timeout)).is_err() {
                continue;
            }
            for event in &events {
                let token = event.data.u64();
                self.handle(token);
            }
            if waiting {
                self.retry_overdue();
            }
        }
    }

    fn handle(self: &Arc<Self>, token: u64) {
        let mut state = lock(&self.state);
        let client = match state.sources.get(&token) {
            Some(Source::Udp(client)) => Arc::clone(client),
            Some(Source::Tcp(client)) => {
                let client = Arc::clone(client);
                drop(state);
                return tcp::accept(self, &client, &client.sockets.tcp);
            }
            Some(Source::Upstream(_)) => return self.take_answer(&mut state, token),
            None => return,
        };
        let mut buffer = [0; DATAGRAM_BYTES];
        for _ in 0..DATAGRAMS_PER_TURN {
            let Ok((length, from)) = client.sockets.udp.recv_from(&mut buffer) else { return };
            self.answer_datagram(&mut state, &client, &buffer[..length], from);
        }
    }

    fn answer_datagram(&self, state: &mut State, client: &Arc<Client>, query: &[u8], from: SocketAddr) {
        let reply = match message::parse(query) {
            Parsed::Ignored => return,
            Parsed::Refused(code) => Some(message::refusal(query, code)),
            Parsed::Query(parsed) => {
                let here = self.answer_here(&client.sandbox, query, &parsed, parsed.udp_size);
                here.or_else(|| self.ask_outside(state, client, query, &parsed, from))
            }
        };
        if let Some(reply) = reply {
            // A client that is gone, or whose queue is full, asks again.
            let _ = client.sockets.udp.send_to(&reply, from);
        }
    }

    /// Answers from the name table; `None` when outside servers must be asked.
    pub(super) fn answer_here(
        &self,
        sandbox: &str,
        bytes: &[u8],
        query: &Query,
        limit: usize,
    ) -> Option<Vec<u8>> {
        let reply = |code, records: &[Data]| Some(message::answer(bytes, query, code, records, limit));
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        if query.internet {
            let found = match message::reverse_address(&query.name).filter(|_| query.kind == kind::PTR) {
                Some(address) => names.reverse(sandbox, address),
                None => names.resolve(sandbox, &query.name),
            };
            match found {
                Found::Name(name) => return reply(Code::NoError, &[Data::Name(name)]),
                Found::Addresses(addresses) => {
                    let wanted = addresses.into_iter().filter(|address| match query.kind {
                        kind::A => address.is_ipv4(),
                        kind::AAAA => address.is_ipv6(),
                        kind::ANY => true,
                        _ => false,
                    });
                    return reply(Code::NoError, &wanted.map(Data::Address).collect::<Vec<_>>());
                }
                Found::Unknown => {}
            }
        }
        let dns = &names.view(sandbox)?.dns;
        // With ndots set, the client itself comes back with its search domains.
        if dns.ndots_set && !query.name.contains('.') && matches!(query.kind, kind::A | kind::AAAA) {
            return reply(Code::NoError, &[]);
        }
        if !dns.forward {
            return reply(Code::NameError, &[]);
        }
        None
    }

    /// The servers this container's outside names are asked from, and whether
    /// they are its own (`--dns`), so asked from inside its namespace.
    pub(super) fn servers(&self, sandbox: &str) -> (Vec<IpAddr>, bool) {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        match names.view(sandbox) {
            Some(view) if !view.dns.servers.is_empty() => (view.dns.servers.clone(), true),
            _ => (lock(&self.host_servers).get(Instant::now()).to_vec(), false),
        }
    }

    /// A cached answer, a refusal, or `None` when a server was asked.
    fn ask_outside(
        &self,
        state: &mut State,
        client: &Arc<Client>,
        query: &[u8],
        parsed: &Query,
        from: SocketAddr,
    ) -> Option<Vec<u8>> {
        let failure = || Some(message::answer(query, parsed, Code::ServerFailure, &[], parsed.udp_size));
        let bare = message::without_cookies(query);
        let query = bare.as_deref().unwrap_or(query);
        let (servers, own) = self.servers(&client.sandbox);
        let scope = scope_of(&servers, own.then_some(&client.namespace));
        let now = Instant::now();
        if let Some(cached) = state.cache.get(scope, query, now) {
            return Some(cached);
        }
        if servers.is_empty() || state.pending >= MOST_PENDING {
            return failure();
        }
        let inside = own.then_some(&client.namespace);
        let Some(socket) = self.ask(&servers, 0, inside, query) else { return failure() };
        state.next += 1;
        let token = state.next;
        if epoll::add(&self.epoll, &socket, EventData::new_u64(token), EventFlags::IN).is_err() {
            return failure();
        }
        let pending = Pending {
            client: Arc::clone(client),
            from,
            query: query.to_vec(),
            scope,
            servers,
            attempt: 0,
            socket,
            deadline: now + SERVER_PATIENCE,
        };
        state.sources.insert(token, Source::Upstream(Box::new(pending)));
        state.pending += 1;
        None
    }

    /// Sends a query from a fresh socket, whose random port keeps forgers out.
    fn ask(
        &self,
        servers: &[IpAddr],
        attempt: usize,
        inside: Option<&NetworkNamespace>,
        query: &[u8],
    ) -> Option<UdpSocket> {
        let server = servers[attempt % servers.len()];
        let any: SocketAddr = match server {
            IpAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            IpAddr::V6(_) => ([0u16; 8], 0).into(),
        };
        let open = || {
            let socket = UdpSocket::bind(any)?;
            socket.set_nonblocking(true)?;
            socket.connect((server, DNS_PORT))?;
            socket.send(query)?;
            io::Result::Ok(socket)
        };
        match inside.filter(|_| !server.is_loopback()) {
            Some(namespace) => namespace.run_inside(&self.home, open).ok()?.ok(),
            None => open().ok(),
        }
    }

    fn take_answer(&self, state: &mut State, token: u64) {
        let Some(Source::Upstream(pending)) = state.sources.get(&token) else { return };
        let mut buffer = [0; DATAGRAM_BYTES];
        let received = pending.socket.recv(&mut buffer).ok().map(|length| &buffer[..length]);
        let answer = match received {
            Some(answer) => match message::answer_code(&pending.query, answer) {
                Some(code) if code != Code::ServerFailure as u8 => answer,
                // A server in trouble: the next one may do better.
                Some(_) => return self.try_next(state, token),
                // Not the answer to this query: keep waiting for it.
                None => return,
            },
            // The server refuses or is not reachable.
            None => return self.try_next(state, token),
        };
        let Some(Source::Upstream(pending)) = state.sources.remove(&token) else { return };
        state.pending -= 1;
        state.cache.put(pending.scope, &pending.query, answer, Instant::now());
        let _ = pending.client.sockets.udp.send_to(answer, pending.from);
    }

    fn try_next(&self, state: &mut State, token: u64) {
        let Some(Source::Upstream(mut pending)) = state.sources.remove(&token) else { return };
        let own = self.servers(&pending.client.sandbox).1;
        while pending.attempt + 1 < pending.servers.len() * ROUNDS {
            pending.attempt += 1;
            let inside = own.then_some(&pending.client.namespace);
            let asked = self.ask(&pending.servers, pending.attempt, inside, &pending.query);
            let Some(socket) = asked else { continue };
            let data = EventData::new_u64(token);
            if epoll::add(&self.epoll, &socket, data, EventFlags::IN).is_ok() {
                pending.socket = socket;
                pending.deadline = Instant::now() + SERVER_PATIENCE;
                state.sources.insert(token, Source::Upstream(pending));
                return;
            }
        }
        state.pending -= 1;
        if let Parsed::Query(parsed) = message::parse(&pending.query) {
            let reply = message::answer(&pending.query, &parsed, Code::ServerFailure, &[], parsed.udp_size);
            let _ = pending.client.sockets.udp.send_to(&reply, pending.from);
        }
    }

    fn retry_overdue(&self) {
        let now = Instant::now();
        let mut state = lock(&self.state);
        let overdue: Vec<u64> = state
            .sources
            .iter()
            .filter(|(_, source)| matches!(source, Source::Upstream(pending) if pending.deadline <= now))
            .map(|(token, _)| *token)
            .collect();
        for token in overdue {
            self.try_next(&mut state, token);
        }
    }
}

/// Answers are shared between all who ask the same servers from the same place.
fn scope_of(servers: &[IpAddr], inside: Option<&NetworkNamespace>) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    servers.hash(&mut hasher);
    inside.map(NetworkNamespace::inode).hash(&mut hasher);
    hasher.finish()
}
