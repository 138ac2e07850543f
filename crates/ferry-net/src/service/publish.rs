//! Published ports of wired containers: held, changed, given up.

use std::net::SocketAddr;

use crate::nft::{PortRule, conntrack};
use crate::plan::{PortPlan, PublishPlan};
use crate::port::Protocol;
use crate::protocol::Reply;

use super::ServiceError;
use super::sandbox::{self, HeldPort, Sandbox};
use super::worker::Worker;

impl Worker {
    pub(super) fn hold(
        &self,
        publish: &PublishPlan,
        wishes: &[PortPlan],
    ) -> Result<Vec<HeldPort>, ServiceError> {
        let owner = |protocol: Protocol, address: SocketAddr| {
            let has = |one: &&Sandbox| one.ports.iter().any(|port| conflicts(port, protocol, address));
            self.sandboxes.values().find(has).map(|one| one.plan.name.clone())
        };
        sandbox::hold_ports(publish, wishes, &self.proxy, owner)
    }

    pub(super) fn publish(&mut self, id: &str, publish: PublishPlan) -> Result<Reply, ServiceError> {
        let sandbox = self.sandbox(id)?;
        let same_target = {
            let before = &sandbox.plan.publish;
            PublishPlan { ports: publish.ports.clone(), ..before.clone() } == publish
        };
        let stays = |port: &HeldPort| same_target && publish.ports.contains(&port.wish);
        let before = std::mem::take(&mut sandbox.ports);
        let (kept, gone): (Vec<_>, Vec<_>) = before.into_iter().partition(stays);
        let former = Former::of(&gone);
        let mut unclaimed = former.clone();
        let missing = publish.ports.iter().filter(|wish| !kept.iter().any(|port| port.wish == **wish));
        let new: Vec<(PortPlan, PortPlan)> =
            missing.map(|wish| (wish.clone(), unclaimed.claim(wish))).collect();
        sandbox.ports = kept;
        self.firewall.unpublish(&rules_of(&gone))?;
        // Whoever takes a port back counts on nobody being connected when the answer comes.
        let rules = rules_of(&gone);
        if !rules.is_empty()
            && let Err(error) = conntrack::forget(passes(rules))
        {
            tracing::warn!(%error, "cannot forget tracked connections");
        }
        drop(gone);
        let held = match self.hold_exactly(&publish, &new) {
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
    pub(super) fn hand_over(
        &mut self,
        from: &str,
        to: &str,
        publish: PublishPlan,
    ) -> Result<Reply, ServiceError> {
        self.sandbox(to)?;
        let giver = self.sandbox(from)?;
        let on_host = |plan: &PublishPlan| !plan.routed(false) && !plan.routed(true);
        let both = on_host(&publish) && on_host(&giver.plan.publish);
        let wanted = |port: &HeldPort| both && publish.ports.contains(&port.wish);
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

    /// Holds ports that are asked for one way and bound more exactly.
    fn hold_exactly(
        &self,
        publish: &PublishPlan,
        pairs: &[(PortPlan, PortPlan)],
    ) -> Result<Vec<HeldPort>, ServiceError> {
        let mut held = Vec::new();
        for (wish, exact) in pairs {
            let ports = self.hold(publish, std::slice::from_ref(exact))?;
            held.extend(ports.into_iter().map(|mut port| {
                port.wish = wish.clone();
                port
            }));
        }
        Ok(held)
    }

    /// After a refused change: the ports that were given up for it come back.
    fn restore_ports(&mut self, id: &str, former: &Former) -> Result<(), ServiceError> {
        let publish = self.sandbox(id)?.plan.publish.clone();
        let held = self.hold_exactly(&publish, &former.exact())?;
        self.firewall.publish(&rules_of(&held))?;
        self.sandbox(id)?.ports.extend(held);
        Ok(())
    }
}

/// Ports given up during a change, with the host ports they had: one published anew after
/// a change of the container's address keeps its host port.
#[derive(Clone, Debug, Default)]
struct Former(Vec<(PortPlan, Option<u16>)>);

impl Former {
    fn of(gone: &[HeldPort]) -> Self {
        let mut found: Vec<(PortPlan, Option<u16>)> = Vec::new();
        let (on_host, routed): (Vec<_>, Vec<_>) = gone.iter().partition(|port| port.takes_a_host_port());
        for port in on_host {
            // Both families of one wish have one port.
            let pair = (port.wish.clone(), Some(port.bound.host.port()));
            if !found.contains(&pair) {
                found.push(pair);
            }
        }
        for port in routed {
            if !found.iter().any(|(wish, _)| *wish == port.wish) {
                found.push((port.wish.clone(), None));
            }
        }
        Self(found)
    }

    /// The wish with the host port it had, or as it is.
    fn claim(&mut self, wish: &PortPlan) -> PortPlan {
        match self.0.iter().position(|(former, _)| former == wish) {
            Some(at) => exactly(wish, self.0.swap_remove(at).1),
            None => wish.clone(),
        }
    }

    fn exact(&self) -> Vec<(PortPlan, PortPlan)> {
        self.0.iter().map(|(wish, port)| (wish.clone(), exactly(wish, *port))).collect()
    }
}

fn exactly(wish: &PortPlan, port: Option<u16>) -> PortPlan {
    PortPlan { host_ports: port.map_or(wish.host_ports, |port| (port, port)), ..wish.clone() }
}

pub(super) fn rules_of(ports: &[HeldPort]) -> Vec<PortRule> {
    ports.iter().flat_map(|port| port.rules.clone()).collect()
}

fn conflicts(port: &HeldPort, protocol: Protocol, address: SocketAddr) -> bool {
    let held = port.bound.host;
    let same_address = held.ip() == address.ip()
        || (held.is_ipv4() == address.is_ipv4()
            && (held.ip().is_unspecified() || address.ip().is_unspecified()));
    port.bound.protocol == protocol && held.port() == address.port() && same_address
}

/// Datagrams that flowed before a port was published would go on passing it by.
pub(super) fn forget_earlier_datagrams(ports: &[HeldPort]) {
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
pub(super) fn forget_flows(ports: &[HeldPort]) {
    let rules = rules_of(ports);
    if !rules.is_empty() {
        forget_in_background(passes(rules));
    }
}

/// Whether a flow came through one of these ports.
fn passes(rules: Vec<PortRule>) -> impl Fn(&conntrack::Flow) -> bool + Send + 'static {
    move |flow| {
        rules.iter().any(|rule| {
            flow.protocol == rule.protocol.number()
                && flow.addressed.1 == rule.host_port
                && flow.answering == (rule.container, rule.container_port)
        })
    }
}

/// The least pressing of the kernel's priorities (setpriority(2)).
const LOWEST_PRIORITY: i32 = 19;

fn forget_in_background(gone: impl Fn(&conntrack::Flow) -> bool + Send + 'static) {
    // On a host with many connections the walk takes longer than a start should.
    let spawned = std::thread::Builder::new().name("conntrack".into()).spawn(move || {
        // Nor should it take the processor from the start that comes next. On Linux this is the thread's own
        // priority; where it cannot be lowered, it stays as it is.
        let _ = rustix::process::setpriority_process(None, LOWEST_PRIORITY);
        if let Err(error) = conntrack::forget(gone) {
            tracing::warn!(%error, "cannot forget tracked connections");
        }
    });
    if let Err(error) = spawned {
        tracing::warn!(%error, "cannot start the conntrack thread");
    }
}
