//! Requests about containers: wired, joined to more networks, taken back.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};

use ferry_sys::network_namespace::NetworkNamespace;

use crate::plan::{EndpointPlan, NetworkPlan, SandboxPlan, Wiring};
use crate::protocol::{Attached, Gateways, Reply};

use super::ServiceError;
use super::pool::ReadyNamespace;
use super::publish::{forget_earlier_datagrams, forget_flows, rules_of};
use super::sandbox::{self, Sandbox, Site};
use super::state::SandboxRecord;
use super::worker::{SANDBOXES, Worker};

impl Worker {
    /// What an attachment needs to be there, and not to be there.
    pub(super) fn check_attachable(&self, plan: &SandboxPlan) -> Result<(), ServiceError> {
        if self.sandboxes.contains_key(&plan.id) {
            return Err(ServiceError::AlreadyAttached { id: plan.id.clone() });
        }
        for endpoint in &plan.endpoints {
            if !self.networks.contains_key(&endpoint.network_id) {
                return Err(ServiceError::UnknownNetwork { id: endpoint.network_id.clone() });
            }
        }
        Ok(())
    }

    pub(super) fn attach(&mut self, plan: SandboxPlan, ready: ReadyNamespace) -> Result<Reply, ServiceError> {
        let ports = self.hold(&plan.publish, &plan.publish.ports)?;
        let ReadyNamespace { namespace, route, dns } = ready;
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

    pub(super) fn wire_all(&mut self, sandbox: &mut Sandbox) -> Result<(), ServiceError> {
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

    pub(super) fn detach(&mut self, id: &str) -> Result<Reply, ServiceError> {
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

    pub(super) fn connect(
        &mut self,
        id: &str,
        endpoint: EndpointPlan,
        gateways: &Gateways,
    ) -> Result<Reply, ServiceError> {
        let unknown = || ServiceError::UnknownNetwork { id: endpoint.network_id.clone() };
        let network = self.networks.get(&endpoint.network_id).cloned().ok_or_else(unknown)?;
        let mut sandbox =
            self.sandboxes.remove(id).ok_or_else(|| ServiceError::UnknownSandbox { id: id.to_owned() })?;
        if sandbox.plan.endpoints.iter().any(|one| one.id == endpoint.id) {
            // Asked again, because the answer was lost.
            self.sandboxes.insert(id.to_owned(), sandbox);
            return Ok(Reply::Done);
        }
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

    pub(super) fn disconnect(
        &mut self,
        id: &str,
        network: &str,
        gateways: &Gateways,
    ) -> Result<Reply, ServiceError> {
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

    /// Writes a sandbox's record and enters its names.
    pub(super) fn remember(&mut self, id: &str) -> Result<(), ServiceError> {
        let sandbox = &self.sandboxes[id];
        self.dns.edit_names(|names| names.set_sandbox(&sandbox.plan));
        let record = SandboxRecord {
            plan: sandbox.plan.clone(),
            ports: sandbox.bound(),
            namespace: sandbox.namespace.inode(),
        };
        self.state.write(SANDBOXES, id, &record).map_err(ServiceError::io("write the container's record"))
    }
}

/// The path that opens a sandbox's namespace while this process lives.
pub(super) fn attached(sandbox: &Sandbox) -> Attached {
    Attached {
        sandbox: sandbox.plan.id.clone(),
        namespace: namespace_path(&sandbox.namespace),
        ports: sandbox.bound(),
    }
}

/// The path that opens a namespace held here while this process lives.
pub(super) fn namespace_path(namespace: &NetworkNamespace) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), namespace.as_fd().as_raw_fd())
}

pub(super) fn host_links(networks: &BTreeMap<String, NetworkPlan>, plan: &SandboxPlan) -> Vec<String> {
    let bridged = |id: &str| matches!(networks.get(id).map(|plan| &plan.wiring), Some(Wiring::Bridge(_)));
    plan.endpoints.iter().filter(|one| bridged(&one.network_id)).map(sandbox::host_link_name).collect()
}
