//! Who is called what: per network, names to addresses and back; per container,
//! which networks it sees and its private links.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::plan::{DnsPlan, NetworkPlan, SandboxPlan};

/// What a lookup found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The name is known; the addresses may be of the other family only.
    Addresses(Vec<IpAddr>),
    /// The address has this name.
    Name(String),
    /// Nothing here knows it.
    Unknown,
}

/// One container's view.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    networks: Vec<String>,
    pub(crate) dns: DnsPlan,
}

#[derive(Debug, Default)]
struct Network {
    name: String,
    by_name: HashMap<String, Vec<Member>>,
    by_address: HashMap<IpAddr, String>,
}

#[derive(Clone, Debug)]
struct Member {
    container: String,
    addresses: Vec<IpAddr>,
}

/// All names of all networks.
#[derive(Debug, Default)]
pub(crate) struct NameTable {
    networks: HashMap<String, Network>,
    views: HashMap<String, View>,
    turn: AtomicUsize,
}

impl NameTable {
    /// Makes a network known or renames it.
    pub(crate) fn set_network(&mut self, plan: &NetworkPlan) {
        if plan.dns {
            self.networks.entry(plan.id.clone()).or_default().name = plan.name.to_lowercase();
        }
    }

    /// Forgets a network.
    pub(crate) fn remove_network(&mut self, id: &str) {
        self.networks.remove(id);
    }

    /// Enters a container's names, replacing what was known of it.
    pub(crate) fn set_sandbox(&mut self, plan: &SandboxPlan) {
        self.remove_sandbox(&plan.id);
        let mut networks = Vec::new();
        for endpoint in &plan.endpoints {
            let Some(network) = self.networks.get_mut(&endpoint.network_id) else { continue };
            networks.push(endpoint.network_id.clone());
            let addresses: Vec<_> = endpoint.addresses.iter().map(|address| address.address).collect();
            if let Some(first) = endpoint.names.first() {
                let full = format!("{first}.{}", network.name);
                network.by_address.extend(addresses.iter().map(|address| (*address, full.clone())));
            }
            let member = Member { container: plan.id.clone(), addresses };
            for name in &endpoint.names {
                network.by_name.entry(name.to_lowercase()).or_default().push(member.clone());
            }
        }
        self.views.insert(plan.id.clone(), View { networks, dns: lower_links(&plan.dns) });
    }

    /// Forgets a container's names.
    pub(crate) fn remove_sandbox(&mut self, id: &str) {
        let Some(view) = self.views.remove(id) else { return };
        for network in &view.networks {
            let Some(network) = self.networks.get_mut(network) else { continue };
            let mut gone = Vec::new();
            network.by_name.retain(|_, members| {
                gone.extend(members.iter().filter(|member| member.container == id).cloned());
                members.retain(|member| member.container != id);
                !members.is_empty()
            });
            for address in gone.iter().flat_map(|member| &member.addresses) {
                network.by_address.remove(address);
            }
        }
    }

    /// A container's view.
    pub(crate) fn view(&self, sandbox: &str) -> Option<&View> {
        self.views.get(sandbox)
    }

    /// Looks a name up as this container sees it.
    pub(crate) fn resolve(&self, sandbox: &str, name: &str) -> Found {
        let Some(view) = self.views.get(sandbox) else { return Found::Unknown };
        let link = view.dns.links.get(name);
        for network in view.networks.iter().filter_map(|id| self.networks.get(id)) {
            let members = match link {
                Some(container) => network.of_container(container),
                None => network.find(name),
            };
            if !members.is_empty() {
                return Found::Addresses(self.take_turns(&members));
            }
        }
        Found::Unknown
    }

    /// Looks an address up as this container sees it.
    pub(crate) fn reverse(&self, sandbox: &str, address: IpAddr) -> Found {
        let view = self.views.get(sandbox);
        view.into_iter()
            .flat_map(|view| &view.networks)
            .filter_map(|id| self.networks.get(id)?.by_address.get(&address))
            .next()
            .map_or(Found::Unknown, |name| Found::Name(name.clone()))
    }

    /// Every answer starts with the next member, so that clients who take the
    /// first address spread over all.
    fn take_turns(&self, members: &[Member]) -> Vec<IpAddr> {
        let start = match members.len() {
            1 => 0,
            many => self.turn.fetch_add(1, Ordering::Relaxed) % many,
        };
        let (before, from) = members.split_at(start);
        from.iter().chain(before).flat_map(|member| member.addresses.clone()).collect()
    }
}

impl Network {
    /// Members called `name` or `name.network`.
    fn find(&self, name: &str) -> Vec<Member> {
        let short = || {
            let rest = name.strip_suffix(self.name.as_str())?.strip_suffix('.')?;
            self.by_name.get(rest)
        };
        self.by_name.get(name).or_else(short).cloned().unwrap_or_default()
    }

    fn of_container(&self, container: &str) -> Vec<Member> {
        let mut members = self.by_name.values().flatten();
        members.find(|member| member.container == container).cloned().into_iter().collect()
    }
}

fn lower_links(dns: &DnsPlan) -> DnsPlan {
    let links: BTreeMap<_, _> =
        dns.links.iter().map(|(alias, id)| (alias.to_lowercase(), id.clone())).collect();
    DnsPlan { links, ..dns.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{BridgeWiring, EndpointPlan, PublishPlan, Wiring};

    fn network(id: &str, name: &str) -> NetworkPlan {
        NetworkPlan {
            id: id.into(),
            name: name.into(),
            wiring: Wiring::Bridge(BridgeWiring::default()),
            gateways: vec![],
            subnets: vec![],
            internal: false,
            mtu: None,
            dns: true,
        }
    }

    fn sandbox(id: &str, network: &str, address: &str, names: &[&str]) -> SandboxPlan {
        let endpoint = EndpointPlan {
            id: format!("{id}-{network}"),
            network_id: network.into(),
            interface: "eth0".into(),
            mac: None,
            addresses: vec![address.parse().unwrap()],
            gateways: vec![],
            link_local: Vec::new(),
            default_device_route: false,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            sysctls: BTreeMap::new(),
        };
        SandboxPlan {
            id: id.into(),
            name: id.into(),
            endpoints: vec![endpoint],
            publish: PublishPlan::default(),
            dns: DnsPlan::default(),
        }
    }

    fn table() -> NameTable {
        let mut table = NameTable::default();
        table.set_network(&network("n1", "front"));
        table.set_network(&network("n2", "back"));
        table.set_sandbox(&sandbox("a", "n1", "10.1.0.2/24", &["Web", "app"]));
        table.set_sandbox(&sandbox("b", "n1", "10.1.0.3/24", &["web2", "app"]));
        table.set_sandbox(&sandbox("c", "n2", "10.2.0.2/24", &["db"]));
        table
    }

    fn addresses(found: Found) -> Vec<String> {
        match found {
            Found::Addresses(addresses) => addresses.iter().map(ToString::to_string).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_are_seen_on_shared_networks_only() {
        let table = table();
        assert_eq!(addresses(table.resolve("b", "web")), ["10.1.0.2"]);
        assert_eq!(addresses(table.resolve("b", "web.front")), ["10.1.0.2"]);
        assert_eq!(table.resolve("b", "web.back"), Found::Unknown);
        assert_eq!(table.resolve("b", "db"), Found::Unknown);
        assert_eq!(table.resolve("nobody", "web"), Found::Unknown);
        let address = "10.1.0.2".parse().unwrap();
        assert_eq!(table.reverse("b", address), Found::Name("Web.front".into()));
        assert_eq!(table.reverse("c", address), Found::Unknown);
    }

    #[test]
    fn a_shared_alias_takes_turns() {
        let table = table();
        let first = addresses(table.resolve("a", "app"));
        let second = addresses(table.resolve("a", "app"));
        assert_eq!(first.len(), 2);
        assert_eq!((&first[0], &first[1]), (&second[1], &second[0]));
    }

    #[test]
    fn links_are_private_and_removal_is_complete() {
        let mut table = table();
        let mut linking = sandbox("d", "n1", "10.1.0.4/24", &["d"]);
        linking.dns.links.insert("Backend".into(), "a".into());
        table.set_sandbox(&linking);
        assert_eq!(addresses(table.resolve("d", "backend")), ["10.1.0.2"]);
        assert_eq!(table.resolve("b", "backend"), Found::Unknown);
        table.remove_sandbox("a");
        assert_eq!(table.resolve("b", "web"), Found::Unknown);
        assert_eq!(addresses(table.resolve("b", "app")), ["10.1.0.3"]);
        assert_eq!(table.reverse("b", "10.1.0.2".parse().unwrap()), Found::Unknown);
    }
}
