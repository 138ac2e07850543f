//! The networks there are: records in the store, addresses in memory.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use ferry_api::network::{Ipam, IpamConfig, Network};
use ferry_net::address::{InterfaceAddress, Subnet};
use ferry_net::ipam::{self, Allocator, Pool};
use ferry_net::plan::NetworkPlan;
use ferry_net::protocol::{HostFacts, Reply, Request};
use ferry_store::{Store, Table};
use serde::{Deserialize, Serialize};

use super::NetworkError;
use super::link::ServiceLink;
use crate::clock;
use crate::container::name::new_id;
use crate::defaults::NetworkDefaults;
use crate::options::EngineOptions;

/// Version of the records; one of a newer ferry is refused at the start.
const VERSION: u32 = 1;
/// The table's name in the store.
const TABLE: &str = "networks";
/// The default network.
pub const BRIDGE: &str = "bridge";
/// Networks every engine has.
pub const PREDEFINED: [&str; 3] = [BRIDGE, "host", "none"];
/// The default network's interface in the default data root.
const DEFAULT_BRIDGE_INTERFACE: &str = "ferry0";

/// A network as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NetworkRecord {
    version: u32,
    /// What inspect shows, without containers.
    pub network: Network,
    /// What the kernel shall have; `None` for `host` and `none`.
    pub plan: Option<NetworkPlan>,
    /// Its subnets.
    pub pools: Vec<Pool>,
    /// Host address of ports published without one.
    pub host_binding: Option<IpAddr>,
    /// Start of interface names inside containers.
    pub interface_prefix: Option<String>,
    /// The operator's settings that the default bridge was made with.
    #[serde(default)]
    asked: NetworkDefaults,
}

impl NetworkRecord {
    /// A record of this version.
    pub fn new(network: Network, plan: Option<NetworkPlan>, pools: Vec<Pool>) -> Self {
        Self {
            version: VERSION,
            network,
            plan,
            pools,
            host_binding: None,
            interface_prefix: None,
            asked: NetworkDefaults::default(),
        }
    }

    /// Refuses a network that containers cannot be put on beside others.
    pub fn refuse_unusable(&self) -> Result<(), NetworkError> {
        let name = || self.network.name.clone();
        match &self.plan {
            Some(_) => Ok(()),
            None if self.network.config_only => Err(NetworkError::ContainerOnTemplate(name())),
            None => Err(NetworkError::NotCombinable(name())),
        }
    }

    /// Whether it is one of those every engine has.
    pub fn is_predefined(&self) -> bool {
        PREDEFINED.contains(&self.network.name.as_str())
    }
}

/// A network with what changes.
pub struct Entry {
    /// As it is kept.
    pub record: NetworkRecord,
    /// Which addresses are in use.
    pub addresses: Allocator,
    /// Whether the kernel is known to have it.
    pub up: bool,
}

/// All networks of this engine.
pub struct Networks {
    /// The way to the keeper.
    pub link: Arc<ServiceLink>,
    /// Creations take turns, so that two never choose the same subnet.
    pub creating: tokio::sync::Mutex<()>,
    /// Held while an ended container is taken off its networks; who wants to see them empty waits for it once.
    pub detaching: tokio::sync::RwLock<()>,
    table: Table<NetworkRecord>,
    entries: Mutex<BTreeMap<String, Entry>>,
    seed: u64,
    /// Whether a link was made to a container that was not there.
    waiting_links: AtomicBool,
}

impl Networks {
    /// A link names a container that may come later.
    pub fn link_waits(&self) {
        self.waiting_links.store(true, Ordering::Relaxed);
    }

    /// Whether any did.
    pub fn links_wait(&self) -> bool {
        self.waiting_links.load(Ordering::Relaxed)
    }

    /// Reads the records and makes the predefined networks at the first start.
    pub fn open(
        store: &Store,
        options: &EngineOptions,
        engine_id: &str,
        defaults: &NetworkDefaults,
    ) -> anyhow::Result<Self> {
        let mut hasher = DefaultHasher::new();
        engine_id.hash(&mut hasher);
        let networks = Self {
            link: Arc::new(ServiceLink::new(options.run_root.clone())),
            creating: tokio::sync::Mutex::default(),
            detaching: tokio::sync::RwLock::default(),
            table: store.kv(TABLE),
            entries: Mutex::default(),
            seed: hasher.finish(),
            waiting_links: AtomicBool::new(false),
        };
        for (id, record) in networks.table.list().context("read the networks")? {
            anyhow::ensure!(record.version <= VERSION, "network {id} was written by a newer ferry");
            networks.insert(record);
        }
        for (name, driver) in [("host", "host"), ("none", "null")] {
            if networks.find(name).is_err() {
                networks.add(NetworkRecord::new(predefined(name, driver)?, None, Vec::new()))?;
            }
        }
        if networks.find(BRIDGE).is_err() {
            networks.add(networks.default_bridge(options, defaults)?)?;
        }
        Ok(networks)
    }

    /// Looks at or changes the entries; for moments only.
    pub fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, record: NetworkRecord) {
        let addresses = Allocator::new(record.pools.clone());
        self.lock().insert(record.network.id.clone(), Entry { record, addresses, up: false });
    }

    /// Keeps a new or changed network.
    pub fn add(&self, record: NetworkRecord) -> Result<(), ferry_store::DatabaseError> {
        self.table.put(&record.network.id, &record)?;
        self.insert(record);
        Ok(())
    }

    /// Forgets a network.
    pub fn remove(&self, id: &str) -> Result<(), ferry_store::DatabaseError> {
        self.table.remove(id)?;
        self.lock().remove(id);
        Ok(())
    }

    /// Finds by name, then id, then the beginning of an id.
    pub fn find(&self, text: &str) -> Result<NetworkRecord, NetworkError> {
        let text = if text == "default" { BRIDGE } else { text };
        let entries = self.lock();
        let by_name = entries.values().find(|entry| entry.record.network.name == text);
        if let Some(entry) = by_name.or_else(|| entries.get(text)) {
            return Ok(entry.record.clone());
        }
        let not_found = || NetworkError::NotFound(text.to_owned());
        if text.is_empty() {
            return Err(not_found());
        }
        let mut matching = entries.range(text.to_owned()..).take_while(|(id, _)| id.starts_with(text));
        match (matching.next(), matching.next()) {
            (Some((_, entry)), None) => Ok(entry.record.clone()),
            (Some(_), Some(_)) => Err(NetworkError::Ambiguous(text.to_owned())),
            (None, _) => Err(not_found()),
        }
    }

    /// Every network, by id.
    pub fn all(&self) -> Vec<NetworkRecord> {
        self.lock().values().map(|entry| entry.record.clone()).collect()
    }

    /// The subnets of all networks.
    pub fn subnets(&self) -> Vec<Subnet> {
        self.lock().values().flat_map(|entry| &entry.record.pools).map(|pool| pool.subnet).collect()
    }

    /// What automatic IPv6 subnets of this installation are made of.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// What the host routes, other than to ferry's own bridges of this engine.
    pub fn host_facts(&self) -> HostFacts {
        match self.link.call_blocking(&Request::Host) {
            Ok(Reply::Host(facts)) => facts,
            other => {
                // A keeper without rights over the network: bridges fail when used, not before.
                tracing::warn!(answer = ?other.err().map(|error| error.to_string()), "no facts about the host's network");
                HostFacts::default()
            }
        }
    }

    fn default_bridge(
        &self,
        options: &EngineOptions,
        defaults: &NetworkDefaults,
    ) -> anyhow::Result<NetworkRecord> {
        let mut taken: Vec<Subnet> = self.host_facts().routes.into_iter().map(|(route, _)| route).collect();
        let entries = self.lock();
        let others = entries.values().filter(|entry| entry.record.network.name != BRIDGE);
        taken.extend(others.flat_map(|entry| &entry.record.pools).map(|pool| pool.subnet));
        drop(entries);
        let pool = default_pool(defaults, &taken)?;
        let interface = match options.data_root.to_str() {
            Some("/var/lib/ferry") => DEFAULT_BRIDGE_INTERFACE.to_owned(),
            _ => ferry_net::service::table_name(&options.data_root),
        };
        let mut network = predefined(BRIDGE, "bridge")?;
        let told = bridge_options(defaults);
        let driver = ferry_net::driver::parse("bridge", &told, &interface, &network.id)?;
        network.options = [
            ("com.docker.network.bridge.default_bridge", "true"),
            ("com.docker.network.bridge.enable_icc", "true"),
            ("com.docker.network.bridge.enable_ip_masquerade", "true"),
            ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0"),
            ("com.docker.network.bridge.name", interface.as_str()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        network.options.extend(told);
        let plan = NetworkPlan {
            id: network.id.clone(),
            name: network.name.clone(),
            wiring: driver.wiring,
            gateways: vec![pool.gateway_address()],
            subnets: vec![pool.subnet],
            internal: false,
            mtu: driver.mtu,
            dns: false,
        };
        network.ipam.config = Some(vec![shown_pool(&pool)]);
        let mut record = NetworkRecord::new(network, Some(plan), vec![pool]);
        record.asked = defaults.clone();
        Ok(record)
    }

    /// Gives the default bridge another subnet, for a host that took the first one
    /// before it was ever used.
    pub fn move_default_bridge(
        &self,
        options: &EngineOptions,
        defaults: &NetworkDefaults,
        id: &str,
    ) -> anyhow::Result<NetworkRecord> {
        let mut moved = self.default_bridge(options, defaults)?;
        id.clone_into(&mut moved.network.id);
        if let Some(plan) = &mut moved.plan {
            id.clone_into(&mut plan.id);
        }
        self.add(moved.clone())?;
        Ok(moved)
    }
}

impl NetworkRecord {
    /// Whether this is a default bridge that the operator now wants otherwise.
    pub fn is_wanted_otherwise(&self, defaults: &NetworkDefaults) -> bool {
        let of_bridge = |defaults: &NetworkDefaults| NetworkDefaults {
            ip: None,
            default_address_pools: Vec::new(),
            default_network_opts: BTreeMap::new(),
            ..defaults.clone()
        };
        self.network.name == BRIDGE && of_bridge(&self.asked) != of_bridge(defaults)
    }
}

/// The default bridge's subnet: the operator's, else a free one.
fn default_pool(defaults: &NetworkDefaults, taken: &[Subnet]) -> anyhow::Result<Pool> {
    let range = (!defaults.fixed_cidr.is_empty()).then(|| defaults.fixed_cidr.parse()).transpose()?;
    let asked: Option<InterfaceAddress> =
        (!defaults.bip.is_empty()).then(|| defaults.bip.parse()).transpose().context("bip")?;
    let subnet = match (&asked, range) {
        (Some(asked), _) => asked.subnet(),
        (None, Some(range)) => range,
        (None, None) => ipam::choose_ipv4(true, &defaults.pools(), taken)?,
    };
    let gateway = match defaults.default_gateway.as_str() {
        "" => asked.map(|asked| asked.address).filter(|address| *address != subnet.address()),
        text => Some(text.parse().with_context(|| format!("default-gateway {text}"))?),
    };
    Ok(Pool::new(subnet, range, gateway, BTreeMap::new())?)
}

/// What the operator says about the default bridge, as options of its driver.
fn bridge_options(defaults: &NetworkDefaults) -> BTreeMap<String, String> {
    [
        ("com.docker.network.bridge.enable_icc", defaults.icc.map(|on| on.to_string())),
        ("com.docker.network.bridge.enable_ip_masquerade", defaults.ip_masq.map(|on| on.to_string())),
        ("com.docker.network.driver.mtu", defaults.mtu.map(|mtu| mtu.to_string())),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}

/// A pool as inspect shows it.
pub fn shown_pool(pool: &Pool) -> IpamConfig {
    IpamConfig {
        subnet: pool.subnet.to_string(),
        ip_range: pool.range.map(|range| range.to_string()).unwrap_or_default(),
        gateway: pool.gateway.to_string(),
        auxiliary_addresses: pool
            .auxiliary
            .iter()
            .map(|(name, address)| (name.clone(), address.to_string()))
            .collect(),
    }
}

fn predefined(name: &str, driver: &str) -> anyhow::Result<Network> {
    Ok(Network {
        name: name.to_owned(),
        id: new_id().context("make a network's id")?,
        created: clock::now(),
        scope: "local".into(),
        driver: driver.to_owned(),
        enable_ipv4: true,
        ipam: Ipam { driver: "default".into(), options: None, config: (name != BRIDGE).then(Vec::new) },
        ..Network::default()
    })
}
