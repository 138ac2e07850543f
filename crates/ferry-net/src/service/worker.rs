//! The thread that carries out requests, one after another, and repairs the
//! firewall between them.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use ferry_sys::channel::{self, Channel};
use ferry_sys::netlink::Family;
use ferry_sys::network_namespace::NetworkNamespace;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::dns::DnsServer;
use crate::kernel::host_view;
use crate::legacy;
use crate::netlink::Connection;
use crate::nft::{Firewall, Monitor, Noticed};
use crate::plan::{NetworkPlan, SandboxPlan};
use crate::protocol::{HostFacts, Listed, Reply, Request, VERSION};
use crate::proxy::Proxy;

use super::endpoints::{attached, namespace_path};
use super::janitor::Janitor;
use super::pool::Pool;
use super::sandbox::Sandbox;
use super::state::StateDirectory;
use super::{ServiceError, ServiceOptions, adopt, forwarding, network, socket_path};

/// Only root may ask the service for anything.
const SOCKET_MODE: u32 = 0o600;
/// Engines and their tools; more connections are refused by being closed.
const MOST_CLIENTS: usize = 64;
/// Between two repairs, so that two programs that undo each other's work do not
/// take the whole processor.
const REPAIR_INTERVAL: Duration = Duration::from_millis(200);
/// How often the older packet filter is looked at, which tells nobody when it changes.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
const NETWORKS: &str = "networks";
pub(super) const SANDBOXES: &str = "sandboxes";

/// Everything the service holds.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) state: StateDirectory,
    pub(super) home: NetworkNamespace,
    pub(super) route: Connection,
    pub(super) firewall: Firewall,
    pub(super) dns: DnsServer,
    pub(super) proxy: Proxy,
    pub(super) networks: BTreeMap<String, NetworkPlan>,
    pub(super) sandboxes: HashMap<String, Sandbox>,
    pub(super) janitor: Janitor,
    pub(super) pool: Pool,
    monitor: Monitor,
    listener: OwnedFd,
    clients: Vec<Channel>,
    foreign_chains: Vec<String>,
    older_chains: Vec<String>,
    pub(super) mtu: u32,
    overdue: Noticed,
    repaired: Instant,
    looked: Instant,
    /// What was last said of the older filter, so that it is said once.
    refused: Option<Errno>,
}

impl Worker {
    /// Opens everything, adopts what an earlier service left, starts listening.
    pub(super) fn start(options: ServiceOptions) -> io::Result<Self> {
        let failed = |error: ServiceError| io::Error::other(error.to_string());
        raise_descriptor_limit();
        std::fs::create_dir_all(&options.run_root)?;
        let monitor = Monitor::open(&options.table).map_err(io::Error::other)?;
        let mut worker = Self {
            state: StateDirectory::open(&options.run_root)?,
            home: NetworkNamespace::current()?,
            route: Connection::open(Family::Route).map_err(io::Error::other)?,
            firewall: Firewall::open(&options.table).map_err(io::Error::other)?,
            dns: DnsServer::start(&options.resolv_conf)?,
            proxy: Proxy::start()?,
            networks: BTreeMap::new(),
            sandboxes: HashMap::new(),
            janitor: Janitor::start()?,
            pool: Pool::start().map_err(failed)?,
            monitor,
            listener: listen(&socket_path(&options.run_root))?,
            clients: Vec::new(),
            foreign_chains: Vec::new(),
            older_chains: Vec::new(),
            mtu: host_view().map_err(io::Error::other)?.mtu,
            overdue: Noticed::default(),
            repaired: Instant::now(),
            looked: Instant::now(),
            refused: None,
        };
        adopt::adopt(&mut worker).map_err(failed)?;
        worker.pass_foreign_chains();
        Ok(worker)
    }

    /// Serves for ever.
    pub(super) fn run(mut self) {
        make_way();
        loop {
            let (mut listening, mut noticed, mut readable) = (false, false, Vec::new());
            {
                let mut waiting = vec![
                    PollFd::new(&self.listener, PollFlags::IN),
                    PollFd::new(&self.monitor, PollFlags::IN),
                ];
                waiting.extend(self.clients.iter().map(|client| PollFd::new(client, PollFlags::IN)));
                // An interrupted wait is looked at as an empty one.
                if rustix::event::poll(&mut waiting, self.patience().as_ref()).is_ok() {
                    listening = !waiting[0].revents().is_empty();
                    noticed = !waiting[1].revents().is_empty();
                    readable = waiting[2..].iter().map(|one| !one.revents().is_empty()).collect();
                }
            }
            for index in (0..readable.len()).rev().filter(|index| readable[*index]) {
                if !self.serve(index) {
                    self.clients.swap_remove(index);
                }
            }
            if listening {
                self.accept();
            }
            if noticed {
                let heard = self.monitor.drain(self.firewall.port());
                self.overdue.own_table |= heard.own_table;
                self.overdue.other_tables |= heard.other_tables;
            }
            self.repair();
            if !self.networks.is_empty() && self.looked.elapsed() >= LOOK_INTERVAL {
                self.pass_older_filter();
            }
        }
    }

    /// How long to wait for requests before the host's firewall is to be looked at.
    fn patience(&self) -> Option<Timespec> {
        let pause = match (self.overdue == Noticed::default(), self.networks.is_empty()) {
            (false, _) => REPAIR_INTERVAL,
            (true, false) => LOOK_INTERVAL,
            (true, true) => return None,
        };
        let seconds = pause.as_secs().cast_signed();
        Some(Timespec { tv_sec: seconds, tv_nsec: pause.subsec_nanos().into() })
    }

    fn accept(&mut self) {
        // One per readiness, because accepting may wait; the next is due right after.
        if let Ok(Some(stream)) = channel::accept(self.listener.as_fd())
            && self.clients.len() < MOST_CLIENTS
        {
            self.clients.push(Channel::from(stream));
        }
    }

    /// Answers what a client sent; `false` when it is gone.
    fn serve(&mut self, index: usize) -> bool {
        loop {
            let frame = match self.clients[index].try_recv() {
                Ok(Some((frame, _))) => frame,
                Ok(None) => return true,
                Err(_) => return false,
            };
            let result = match serde_json::from_slice::<Request>(&frame) {
                Ok(Request::AttachAhead(plan)) => self.attach_ahead(index, *plan),
                Ok(request) => self.handle(request),
                // Not this protocol: there is nothing to answer in.
                Err(_) => return false,
            };
            let reply = result.unwrap_or_else(|error| Reply::Failed(error.to_failure()));
            if !self.answer(index, &reply) {
                return false;
            }
        }
    }

    /// Sends an answer; `false` when there is nobody to take it.
    fn answer(&mut self, index: usize, reply: &Reply) -> bool {
        serde_json::to_vec(reply).is_ok_and(|bytes| self.clients[index].send(&bytes, &[]).is_ok())
    }

    fn attach_ahead(&mut self, index: usize, plan: SandboxPlan) -> Result<Reply, ServiceError> {
        self.check_attachable(&plan)?;
        let ready = self.pool.take()?;
        // A client that is gone is noticed with the second answer, which takes all back at the engine's end.
        let _ = self.answer(index, &Reply::Namespace(namespace_path(&ready.namespace)));
        // Whoever was woken by that is as a rule to run on this very processor, and has the longer way to go.
        std::thread::yield_now();
        self.attach(plan, ready)
    }

    fn handle(&mut self, request: Request) -> Result<Reply, ServiceError> {
        match request {
            Request::Hello => Ok(Reply::Hello { version: VERSION }),
            Request::NetworkUp(plan) => self.network_up(*plan),
            Request::NetworkDown { id } => self.network_down(&id),
            Request::Attach(plan) | Request::AttachAhead(plan) => {
                self.check_attachable(&plan)?;
                let ready = self.pool.take()?;
                self.attach(*plan, ready)
            }
            Request::Detach { sandbox } => self.detach(&sandbox),
            Request::Connect { sandbox, endpoint, gateways } => self.connect(&sandbox, *endpoint, &gateways),
            Request::Disconnect { sandbox, network, gateways } => {
                self.disconnect(&sandbox, &network, &gateways)
            }
            Request::Publish { sandbox, publish } => self.publish(&sandbox, publish),
            Request::HandOver { from, to, publish } => self.hand_over(&from, &to, publish),
            Request::Rename { sandbox, name, names, dns } => {
                let known = self.sandbox(&sandbox)?;
                known.plan.name = name;
                known.plan.dns = dns;
                for (network, names) in names {
                    for endpoint in &mut known.plan.endpoints {
                        if endpoint.network_id == network {
                            endpoint.names.clone_from(&names);
                        }
                    }
                }
                self.remember(&sandbox)?;
                Ok(Reply::Done)
            }
            Request::Retire => self.retire(),
            Request::List => Ok(Reply::Listed(self.list())),
            Request::Host => {
                let view = host_view()?;
                self.mtu = view.mtu;
                self.pass_older_filter();
                let foreign_chains = [&self.foreign_chains[..], &self.older_chains].concat();
                let older_filter_refused = self.refused.map(|errno| errno.to_string());
                let (routes, mtu) = (view.routes, view.mtu);
                Ok(Reply::Host(HostFacts { routes, mtu, foreign_chains, older_filter_refused }))
            }
        }
    }

    pub(super) fn sandbox(&mut self, id: &str) -> Result<&mut Sandbox, ServiceError> {
        self.sandboxes.get_mut(id).ok_or_else(|| ServiceError::UnknownSandbox { id: id.to_owned() })
    }

    fn network_up(&mut self, plan: NetworkPlan) -> Result<Reply, ServiceError> {
        network::bring_up(&mut self.route, &plan)?;
        let result = self.admit_network(&plan);
        if result.is_err() && !self.networks.contains_key(&plan.id) {
            // Back to nothing; the first error is the one to tell.
            let _ = self.firewall.set_network(&plan.id, None);
            let _ = network::take_down(&mut self.route, &plan);
        }
        result?;
        self.dns.edit_names(|names| names.set_network(&plan));
        self.networks.insert(plan.id.clone(), plan);
        self.pass_foreign_chains();
        Ok(Reply::Done)
    }

    fn admit_network(&mut self, plan: &NetworkPlan) -> Result<(), ServiceError> {
        if let Some(rules) = network::firewall_rules(plan) {
            self.firewall.set_network(&plan.id, Some(rules))?;
            forwarding::enable(false, &mut self.route, &self.state, &mut self.firewall)?;
            if plan.has_ipv6() {
                forwarding::enable(true, &mut self.route, &self.state, &mut self.firewall)?;
            }
        }
        self.state.write(NETWORKS, &plan.id, plan).map_err(ServiceError::io("write the network's record"))
    }

    fn network_down(&mut self, id: &str) -> Result<Reply, ServiceError> {
        let Some(plan) = self.networks.get(id).cloned() else { return Ok(Reply::Done) };
        let used =
            self.sandboxes.values().flat_map(|one| &one.plan.endpoints).any(|one| one.network_id == id);
        if used {
            return Err(ServiceError::NetworkInUse { id: id.to_owned() });
        }
        self.firewall.set_network(id, None)?;
        self.pass_foreign_chains();
        network::take_down(&mut self.route, &plan)?;
        self.dns.edit_names(|names| names.remove_network(id));
        self.state.remove(NETWORKS, id).map_err(ServiceError::io("remove the network's record"))?;
        self.networks.remove(id);
        Ok(Reply::Done)
    }

    /// Leaves the host as it was found, unless containers still run: then all stays.
    fn retire(&mut self) -> Result<Reply, ServiceError> {
        if !self.sandboxes.is_empty() {
            return Ok(Reply::Done);
        }
        self.janitor.finish();
        let ids: Vec<String> = self.networks.keys().cloned().collect();
        for id in ids {
            self.network_down(&id)?;
        }
        self.firewall.remove()?;
        self.state.remove_empty();
        Ok(Reply::Done)
    }

    fn list(&self) -> Listed {
        Listed {
            networks: self.networks.values().cloned().collect(),
            sandboxes: self.sandboxes.values().map(|one| (one.plan.clone(), attached(one))).collect(),
        }
    }

    /// Undoes what others did to ferry's table, and follows what they did to theirs.
    fn repair(&mut self) {
        if self.overdue == Noticed::default() || self.repaired.elapsed() < REPAIR_INTERVAL {
            return;
        }
        let due = std::mem::take(&mut self.overdue);
        self.repaired = Instant::now();
        if due.own_table && !self.networks.is_empty() {
            match self.firewall.install() {
                Ok(()) => tracing::info!("the firewall rules were changed by someone else and are restored"),
                Err(error) => {
                    tracing::error!(%error, "cannot restore the firewall rules");
                    self.overdue = due;
                }
            }
        }
        if due.other_tables {
            self.pass_foreign_chains();
        }
    }

    fn pass_foreign_chains(&mut self) {
        match self.firewall.pass_foreign_chains() {
            Ok(chains) => self.foreign_chains = chains,
            // Only hosts with another firewall are concerned, and `doctor` shows it.
            Err(error) => tracing::warn!(%error, "cannot look after other programs' FORWARD rules"),
        }
        self.pass_older_filter();
    }
}

impl Worker {
    /// The same for the tables of `iptables-legacy`.
    fn pass_older_filter(&mut self) {
        self.looked = Instant::now();
        match legacy::sync(self.firewall.table(), &self.firewall.bridges()) {
            Ok(chains) => {
                self.refused = None;
                self.older_chains = chains;
            }
            // Another program is at it; the next look is soon.
            Err(Errno::AGAIN) => {}
            Err(error) if self.refused == Some(error) => {}
            Err(error) => {
                self.refused = Some(error);
                tracing::warn!(%error, "cannot put rules into the FORWARD chain of iptables-legacy");
            }
        }
    }
}

/// Listens where a dead service may have left its socket; a living one is refused.
fn listen(path: &Path) -> io::Result<OwnedFd> {
    if channel::connect(path).is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    channel::listen(path, SOCKET_MODE)
}

/// A container is set up while its network is made, and that takes longer: on few processors it goes first.
fn make_way() {
    const NICENESS: i32 = 4;
    // Counts for this thread alone. A refusal costs a little time and nothing else.
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

/// Every published port takes descriptors; the soft limit many hosts start with is 1024.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // A refusal leaves the limit as it is, and a full table is an error where it happens.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
