//! Taking over what an earlier service left: its records below the run root, its
//! rules in the kernel, and the namespaces that its containers still live in.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use ferry_sys::network_namespace::NetworkNamespace;

use crate::kernel::{Link, delete_link, link_names};
use crate::plan::{NetworkPlan, PortPlan, Wiring};

use super::endpoints::host_links;
use super::pool::ReadyNamespace;
use super::publish::rules_of;
use super::sandbox::{self, HeldPort, Sandbox, is_host_link_name};
use super::state::SandboxRecord;
use super::worker::Worker;
use super::{ServiceError, forwarding, network};

/// Brings a fresh worker to where the last one stood.
pub(super) fn adopt(worker: &mut Worker) -> Result<(), ServiceError> {
    let reading = || ServiceError::io("read the network records");
    let networks: Vec<NetworkPlan> = worker.state.read_all("networks").map_err(reading())?;
    let sandboxes: Vec<SandboxRecord> = worker.state.read_all("sandboxes").map_err(reading())?;
    forwarding::restore(&worker.state, &mut worker.firewall)?;
    for plan in networks {
        adopt_network(worker, plan);
    }
    let known: HashSet<String> =
        sandboxes.iter().flat_map(|record| host_links(&worker.networks, &record.plan)).collect();
    let wanted: HashSet<u64> = sandboxes.iter().map(|record| record.namespace).collect();
    let mut namespaces = if wanted.is_empty() { HashMap::new() } else { living_namespaces(&wanted) };
    for record in sandboxes {
        let id = record.plan.id.clone();
        if let Err(error) = adopt_sandbox(worker, record, &mut namespaces) {
            tracing::warn!(container = id, %error, "a container's network cannot be taken over");
        }
    }
    sweep_links(worker, &known)?;
    if !worker.networks.is_empty() {
        worker.firewall.install()?;
    }
    Ok(())
}

/// Removes what a service that died while it wired a container left on its bridges.
fn sweep_links(worker: &mut Worker, known: &HashSet<String>) -> Result<(), ServiceError> {
    let links = link_names(&mut worker.route)?;
    let is_bridge = |plan: &NetworkPlan, name: &str| match &plan.wiring {
        Wiring::Bridge(bridge) => bridge.bridge == name,
        Wiring::Macvlan { .. } | Wiring::Ipvlan { .. } => false,
    };
    let own = |link: &&Link| worker.networks.values().any(|plan| is_bridge(plan, &link.name));
    let bridges: HashSet<u32> = links.iter().filter(own).map(|link| link.index).collect();
    for link in &links {
        let of_ours = link.master.is_some_and(|master| bridges.contains(&master));
        if of_ours && is_host_link_name(&link.name) && !known.contains(&link.name) {
            tracing::info!(link = link.name, "a link that no container has is removed");
            delete_link(&mut worker.route, &link.name)?;
        }
    }
    Ok(())
}

fn adopt_network(worker: &mut Worker, plan: NetworkPlan) {
    if let Err(error) = network::bring_up(&mut worker.route, &plan) {
        // Its containers are adopted all the same; the next start on it reports.
        tracing::warn!(network = plan.name, %error, "a network cannot be brought up again");
    }
    if let Some(rules) = network::firewall_rules(&plan) {
        worker.firewall.restore(&plan.id, rules);
    }
    worker.dns.edit_names(|names| names.set_network(&plan));
    worker.networks.insert(plan.id.clone(), plan);
}

/// The namespaces among `wanted` that some process still lives in. Each is opened
/// while it is looked at: the process it was found by may end the next moment.
fn living_namespaces(wanted: &HashSet<u64>) -> HashMap<u64, NetworkNamespace> {
    let mut found = HashMap::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = process.file_name();
        let pid = name.to_string_lossy();
        if !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        if let Ok(namespace) = NetworkNamespace::open(&format!("/proc/{pid}/ns/net"))
            && wanted.contains(&namespace.inode())
        {
            found.entry(namespace.inode()).or_insert(namespace);
        }
    }
    found
}

fn adopt_sandbox(
    worker: &mut Worker,
    record: SandboxRecord,
    namespaces: &mut HashMap<u64, NetworkNamespace>,
) -> Result<(), ServiceError> {
    let id = record.plan.id.clone();
    let Some(namespace) = namespaces.remove(&record.namespace) else {
        // Its last process ended while no service was there to hear of it.
        worker.janitor.clean(host_links(&worker.networks, &record.plan));
        return worker.state.remove("sandboxes", &id).map_err(ServiceError::io("remove a record"));
    };
    let ready = ReadyNamespace::adopt(namespace, &worker.home)?;
    let ports = hold_again(worker, &record);
    worker.firewall.restore_ports(rules_of(&ports));
    let held = ready.namespace.try_clone().map_err(ServiceError::errno("hold a network namespace"))?;
    worker.dns.add(&id, ready.dns, held).map_err(ServiceError::io("serve a container's DNS"))?;
    worker.dns.edit_names(|names| names.set_sandbox(&record.plan));
    let ReadyNamespace { namespace, route, .. } = ready;
    worker.sandboxes.insert(id, Sandbox { plan: record.plan, namespace, route, ports });
    Ok(())
}

/// Binds a container's host ports again, each exactly as it was.
fn hold_again(worker: &Worker, record: &SandboxRecord) -> Vec<HeldPort> {
    let mut held = Vec::new();
    for bound in &record.ports {
        let same_target =
            |wish: &&PortPlan| wish.container_port == bound.container_port && wish.protocol == bound.protocol;
        let Some(wish) = record.plan.publish.ports.iter().find(same_target) else { continue };
        let exact = PortPlan {
            host: Some(bound.host.ip()),
            host_ports: (bound.host.port(), bound.host.port()),
            ..wish.clone()
        };
        let nobody = |_, _: SocketAddr| None;
        match sandbox::hold_ports(&record.plan.publish, &[exact], &worker.proxy, nobody) {
            Ok(ports) => held.extend(ports.into_iter().map(|mut port| {
                port.wish = wish.clone();
                port
            })),
            Err(error) => tracing::warn!(port = %bound.host, %error, "a published port cannot be held again"),
        }
    }
    held
}
