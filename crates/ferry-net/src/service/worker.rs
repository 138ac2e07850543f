//! The thread that carries out requests, one after another, and repairs the
//! firewall between them.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use ferry_sys::channel::{self, Channel};
use ferry_sys::netlink::Family;
use ferry_sys::network_namespace::NetworkNamespace;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::dns::DnsServer;
use crate::kernel::host_view;
use crate::netlink::Connection;
use crate::nft::{Firewall, Monitor, Noticed, PortRule, conntrack};
use crate::plan::{NetworkPlan, PortPlan, PublishPlan, SandboxPlan, Wiring};
use crate::port::Protocol;
use crate::protocol::{Attached, Gateways, HostFacts, Listed, Reply, Request, VERSION};
use crate::proxy::Proxy;

use super::janitor::Janitor;
use super::pool::{Pool, ReadyNamespace};
use super::sandbox::{self, HeldPort, Sandbox, Site};
use super::state::{SandboxRecord, StateDirectory};
use super::{ServiceError, ServiceOptions, adopt, forwarding, network, socket_path};

/// Only root may ask the service for anything.
const SOCKET_MODE: u32 = 0o600;
/// Engines and their tools; more connections are refused by being closed.
const MOST_CLIENTS: usize = 64;
/// Between two repairs, so that two programs that undo each other's work do not
/// take the whole processor.
const REPAIR_INTERVAL: Duration = Duration::from_millis(200);
const NETWORKS: &str = "networks";
const SANDBOXES: &str = "sandboxes";

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
    pool: Pool,
    monitor: Monitor,
    listener: OwnedFd,
    clients: Vec<Channel>,
    foreign_chains: Vec<String>,
    mtu: u32,
    overdue: Noticed,
    repaired: Instant,
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
            mtu: host_view().map_err(io::Error::other)?.mtu,
            overdue: Noticed::default(),
            repaired: Instant::now(),
        };
        adopt::adopt(&mut worker).map_err(failed)?;
        worker.pass_foreign_chains();
        Ok(worker)
    }

    /// Serves for ever.
    pub(super) fn run(mut self) {
        loop {
            let (mut listening, mut noticed, mut readable) = (false, false, Vec::new());
            {
                let mut waiting = vec![
                    PollFd::new(&self.listener, PollFlags::IN),
                    PollFd::new(&self.monitor, PollFlags::IN),
                ];
                waiting.extend(self.clients.iter().map(|client| PollFd::new(client, PollFlags::IN)));
                let pause = Timespec { tv_sec: 0, tv_nsec: REPAIR_INTERVAL.subsec_nanos().into() };
                let timeout = (self.overdue != Noticed::default()).then_some(&pause);
                // An interrupted wait is looked at as an empty one.
                if rustix::event::poll(&mut waiting, timeout).is_ok() {
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
        }
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
            let reply = match serde_json::from_slice::<Request>(&frame) {
                Ok(request) => self.handle(request).unwrap_or_else(|error| Reply::Failed(error.to_failure())),
                // Not this protocol: there is nothing to answer in.
                Err(_) => return false,
            };
            let Ok(bytes) = serde_json::to_vec(&reply) else { return false };
            if self.clients[index].send(&bytes, &[]).is_err() {
                return false;
            }
        }
    }

    fn handle(&mut self, request: Request) -> Result<Reply, ServiceError> {
        match request {
            Request::Hello => Ok(Reply::Hello { version: VERSION }),
            Request::NetworkUp(plan) => self.network_up(*plan),
            Request::NetworkDown { id } => self.network_down(&id),
            Request::Attach(plan) => self.attach(*plan),
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
                let foreign_chains = self.foreign_chains.clone();
                Ok(Reply::Host(HostFacts { routes: view.routes, mtu: view.mtu, foreign_chains }))
            }
        }
    }

    fn sandbox(&mut self, id: &str) -> Result<&mut Sandbox, ServiceError> {
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

    fn attach(&mut self, plan: SandboxPlan) -> Result<Reply, ServiceError> {
        if self.sandboxes.contains_key(&plan.id) {
            return Err(ServiceError::AlreadyAttached { id: plan.id });
        }
        for endpoint in &plan.endpoints {
            if !self.networks.contains_key(&endpoint.network_id) {
                return Err(ServiceError::UnknownNetwork { id: endpoint.network_id.clone() });
            }
        }
        let ports = self.hold(&plan.publish, &plan.publish.ports)?;
        let ReadyNamespace { namespace, route, dns } = self.pool.take()?;
        let mut sandbox = Sandbox { plan, namespace, route, ports };
        let id = sandbox.plan.id.clone();
        if let Err(error) = self.wire_all(&mut sandbox) {
            self.janitor.clean(host_links(&self.networks, &sandbox.plan));
            return Err(error);
        }
        let rules = rules_of(&sandbox.ports);
        if let Err(error) = self.firewall.publish(&rules) {
            self.janitor.clean(host_links(&self.networks, &sandbox.plan));
            return Err(error.into());
        }
        forget_earlier_datagrams(&sandbox.ports);
        let namespace = sandbox.namespace.try_clone();
        self.sandboxes.insert(id.clone(), sandbox);
        let result = namespace
            .map_err(ServiceError::errno("hold the network namespace"))
            .and_then(|namespace| {
                self.dns.add(&id, dns, namespace).map_err(ServiceError::io("serve the container's DNS"))
            })
            .and_then(|()| self.remember(&id));
        if let Err(error) = result {
            let _ = self.detach(&id);
            return Err(error);
        }
        Ok(Reply::Attached(attached(&self.sandboxes[&id])))
    }

    fn wire_all(&mut self, sandbox: &mut Sandbox) -> Result<(), ServiceError> {
        let mut site = Site {
            home: &self.home,
            host: &mut self.route,
            namespace: &sandbox.namespace,
            inside: &mut sandbox.route,
            mtu: self.mtu,
        };
        for endpoint in &sandbox.plan.endpoints {
            sandbox::wire(&mut site, &self.networks[&endpoint.network_id], endpoint)?;
        }
        Ok(())
    }

    fn hold(&self, publish: &PublishPlan, wishes: &[PortPlan]) -> Result<Vec<HeldPort>, ServiceError> {
        let owner = |protocol: Protocol, address: SocketAddr| {
            let has = |one: &&Sandbox| one.ports.iter().any(|port| conflicts(port, protocol, address));
            self.sandboxes.values().find(has).map(|one| one.plan.name.clone())
        };
        sandbox::hold_ports(publish, wishes, &self.proxy, owner)
    }

    fn detach(&mut self, id: &str) -> Result<Reply, ServiceError> {
        let Some(sandbox) = self.sandboxes.remove(id) else {
            // A record that could not be taken over ends here too.
            self.state.remove(SANDBOXES, id).map_err(ServiceError::io("remove the container's record"))?;
            return Ok(Reply::Done);
        };
        self.dns.remove(id);
        self.dns.edit_names(|names| names.remove_sandbox(id));
        // The namespace ends with its last process and takes its links along; the
        // janitor looks after the rare one that something keeps alive.
        self.janitor.clean(host_links(&self.networks, &sandbox.plan));
        let unpublished = self.firewall.unpublish(&rules_of(&sandbox.ports));
        forget_flows(&sandbox.ports);
        let removed = self.state.remove(SANDBOXES, id);
        drop(sandbox);
        unpublished?;
        removed.map_err(ServiceError::io("remove the container's record"))?;
        Ok(Reply::Done)
    }

    fn connect(
        &mut self,
        id: &str,
        endpoint: crate::plan::EndpointPlan,
        gateways: &Gateways,
    ) -> Result<Reply, ServiceError> {
        let unknown = || ServiceError::UnknownNetwork { id: endpoint.network_id.clone() };
        let network = self.networks.get(&endpoint.network_id).cloned().ok_or_else(unknown)?;
        let mut sandbox =
            self.sandboxes.remove(id).ok_or_else(|| ServiceError::UnknownSandbox { id: id.to_owned() })?;
        let mut site = Site {
            home: &self.home,
            host: &mut self.route,
            namespace: &sandbox.namespace,
            inside: &mut sandbox.route,
            mtu: self.mtu,
        };
        let wired = sandbox::wire(&mut site, &network, &endpoint);
        let result = wired.and_then(|()| {
            sandbox.plan.endpoints.push(endpoint.clone());
            sandbox::set_gateways(&mut sandbox, gateways)
        });
        if result.is_err() {
            sandbox.plan.endpoints.retain(|one| one.id != endpoint.id);
            let _ = sandbox::unwire(&mut self.route, &mut sandbox.route, &network, &endpoint);
        }
        self.sandboxes.insert(id.to_owned(), sandbox);
        result?;
        self.remember(id)?;
        Ok(Reply::Done)
    }

    fn disconnect(&mut self, id: &str, network: &str, gateways: &Gateways) -> Result<Reply, ServiceError> {
        let unknown = || ServiceError::UnknownNetwork { id: network.to_owned() };
        let plan = self.networks.get(network).cloned().ok_or_else(unknown)?;
        let mut sandbox =
            self.sandboxes.remove(id).ok_or_else(|| ServiceError::UnknownSandbox { id: id.to_owned() })?;
        let mut result = Ok(());
        if let Some(at) = sandbox.plan.endpoints.iter().position(|one| one.network_id == network) {
            let endpoint = sandbox.plan.endpoints.remove(at);
            result = sandbox::unwire(&mut self.route, &mut sandbox.route, &plan, &endpoint)
                .and_then(|()| sandbox::set_gateways(&mut sandbox, gateways));
        }
        self.sandboxes.insert(id.to_owned(), sandbox);
        self.remember(id)?;
        result?;
        Ok(Reply::Done)
    }

    fn publish(&mut self, id: &str, publish: PublishPlan) -> Result<Reply, ServiceError> {
        let sandbox = self.sandbox(id)?;
        let same_target = {
            let before = &sandbox.plan.publish;
            (before.ipv4, before.ipv6, before.routed, before.proxy_only)
                == (publish.ipv4, publish.ipv6, publish.routed, publish.proxy_only)
        };
        let stays = |port: &HeldPort| same_target && publish.ports.contains(&port.wish);
        let before = std::mem::take(&mut sandbox.ports);
        let (kept, gone): (Vec<_>, Vec<_>) = before.into_iter().partition(stays);
        let new: Vec<PortPlan> = publish
            .ports
            .iter()
            .filter(|wish| !kept.iter().any(|port| port.wish == **wish))
            .map(|wish| keep_host_port(wish, &gone))
            .collect();
        sandbox.ports = kept;
        self.firewall.unpublish(&rules_of(&gone))?;
        forget_flows(&gone);
        let former = gone.iter().map(|port| port.wish.clone()).collect::<Vec<_>>();
        drop(gone);
        let held = match self.hold(&publish, &new) {
            Ok(held) => held,
            Err(error) => {
                self.restore_ports(id, &former)?;
                return Err(error);
            }
        };
        self.firewall.publish(&rules_of(&held))?;
        forget_earlier_datagrams(&held);
        let sandbox = self.sandbox(id)?;
        sandbox.ports.extend(held);
        sandbox.plan.publish = publish;
        let bound = sandbox.bound();
        self.remember(id)?;
        Ok(Reply::Published(bound))
    }

    /// Ports that `from` holds lead to `to` from now on; their sockets on the host never close.
    fn hand_over(&mut self, from: &str, to: &str, publish: PublishPlan) -> Result<Reply, ServiceError> {
        self.sandbox(to)?;
        let giver = self.sandbox(from)?;
        let wanted = |port: &HeldPort| !publish.routed && publish.ports.contains(&port.wish);
        let (mut given, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut giver.ports).into_iter().partition(wanted);
        giver.ports = kept;
        giver.plan.publish.ports.retain(|wish| !given.iter().any(|port| port.wish == *wish));
        let mut former = Vec::new();
        for port in &mut given {
            former.extend(port.lead_to(&publish)?);
        }
        // Between the two the proxy answers.
        self.firewall.unpublish(&former)?;
        self.firewall.publish(&rules_of(&given))?;
        forget_earlier_datagrams(&given);
        let taker = self.sandbox(to)?;
        taker.plan.publish =
            PublishPlan { ports: given.iter().map(|port| port.wish.clone()).collect(), ..publish.clone() };
        taker.plan.publish.ports.dedup();
        taker.ports.extend(given);
        self.remember(from)?;
        self.remember(to)?;
        // What the giver did not hold is published anew.
        self.publish(to, publish)
    }

    /// After a refused change: the ports that were given up for it come back.
    fn restore_ports(&mut self, id: &str, wishes: &[PortPlan]) -> Result<(), ServiceError> {
        let publish = self.sandbox(id)?.plan.publish.clone();
        let mut wishes = wishes.to_vec();
        wishes.dedup();
        let held = self.hold(&publish, &wishes)?;
        self.firewall.publish(&rules_of(&held))?;
        self.sandbox(id)?.ports.extend(held);
        Ok(())
    }

    /// Writes a sandbox's record and enters its names.
    fn remember(&mut self, id: &str) -> Result<(), ServiceError> {
        let sandbox = &self.sandboxes[id];
        self.dns.edit_names(|names| names.set_sandbox(&sandbox.plan));
        let record = SandboxRecord {
            plan: sandbox.plan.clone(),
            ports: sandbox.bound(),
            namespace: sandbox.namespace.inode(),
        };
        self.state.write(SANDBOXES, id, &record).map_err(ServiceError::io("write the container's record"))
    }

    /// Leaves the host as it was found, unless containers still run: then all stays.
    fn retire(&mut self) -> Result<Reply, ServiceError> {
        if !self.sandboxes.is_empty() {
            return Ok(Reply::Done);
        }
        let ids: Vec<String> = self.networks.keys().cloned().collect();
        for id in ids {
            self.network_down(&id)?;
        }
        self.firewall.remove()?;
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

/// The path that opens a sandbox's namespace while this process lives.
fn attached(sandbox: &Sandbox) -> Attached {
    let descriptor = sandbox.namespace.as_fd().as_raw_fd();
    Attached {
        sandbox: sandbox.plan.id.clone(),
        namespace: format!("/proc/{}/fd/{descriptor}", std::process::id()),
        ports: sandbox.bound(),
    }
}

pub(super) fn rules_of(ports: &[HeldPort]) -> Vec<PortRule> {
    ports.iter().flat_map(|port| port.rules.clone()).collect()
}

pub(super) fn host_links(networks: &BTreeMap<String, NetworkPlan>, plan: &SandboxPlan) -> Vec<String> {
    let bridged = |id: &str| matches!(networks.get(id).map(|plan| &plan.wiring), Some(Wiring::Bridge(_)));
    plan.endpoints.iter().filter(|one| bridged(&one.network_id)).map(sandbox::host_link_name).collect()
}

fn conflicts(port: &HeldPort, protocol: Protocol, address: SocketAddr) -> bool {
    let held = port.bound.host;
    let same_address = held.ip() == address.ip()
        || (held.is_ipv4() == address.is_ipv4()
            && (held.ip().is_unspecified() || address.ip().is_unspecified()));
    port.bound.protocol == protocol && held.port() == address.port() && same_address
}

/// A port published anew after a change of the container's address keeps the host
/// port it was given before.
fn keep_host_port(wish: &PortPlan, gone: &[HeldPort]) -> PortPlan {
    match gone.iter().find(|port| port.wish == *wish) {
        Some(port) => {
            PortPlan { host_ports: (port.bound.host.port(), port.bound.host.port()), ..wish.clone() }
        }
        None => wish.clone(),
    }
}

/// Datagrams that flowed before a port was published would go on passing it by.
fn forget_earlier_datagrams(ports: &[HeldPort]) {
    let published: Vec<u16> = ports
        .iter()
        .filter(|port| port.bound.protocol == Protocol::Udp && !port.rules.is_empty())
        .map(|port| port.bound.host.port())
        .collect();
    if !published.is_empty() {
        let udp = Protocol::Udp.number();
        forget_in_background(move |flow| {
            flow.protocol == udp && published.contains(&flow.addressed.1) && flow.addressed == flow.answering
        });
    }
}

/// Connections through ports that are taken back end with them.
fn forget_flows(ports: &[HeldPort]) {
    let rules = rules_of(ports);
    if !rules.is_empty() {
        forget_in_background(move |flow| {
            rules.iter().any(|rule| {
                flow.protocol == rule.protocol.number()
                    && flow.answering == (rule.container, rule.container_port)
            })
        });
    }
}

fn forget_in_background(gone: impl Fn(&conntrack::Flow) -> bool + Send + 'static) {
    // On a host with many connections the walk takes longer than a start should.
    let spawned = std::thread::Builder::new().name("conntrack".into()).spawn(move || {
        if let Err(error) = conntrack::forget(gone) {
            tracing::warn!(%error, "cannot forget tracked connections");
        }
    });
    if let Err(error) = spawned {
        tracing::warn!(%error, "cannot start the conntrack thread");
    }
}

/// Every published port takes descriptors; the soft limit many hosts start with is 1024.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // A refusal leaves the limit as it is, and a full table is an error where it happens.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
