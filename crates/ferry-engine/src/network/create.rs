//! Creating, removing and pruning networks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ferry_api::network::{CreateRequest, Ipam, IpamConfig, Network};
use ferry_net::address::Subnet;
use ferry_net::client::ClientError;
use ferry_net::driver;
use ferry_net::ipam::{self, IpamError, Pool};
use ferry_net::plan::{NetworkPlan, Wiring};
use ferry_net::protocol::{FailureKind, Request};

use super::registry::{NetworkRecord, PREDEFINED, shown_pool};
use super::{NetworkError, template, users_of};
use crate::clock;
use crate::container::name::new_id;
use crate::engine::Engine;

/// How often another automatic subnet is tried when the host takes one meanwhile.
pub(super) const SUBNET_ATTEMPTS: usize = 8;
/// `br-` and twelve digits of the id make the fifteen bytes an interface name has.
const BRIDGE_DIGITS: usize = 12;

/// Creates a network; its id.
pub async fn create(engine: &Arc<Engine>, request: CreateRequest) -> Result<String, NetworkError> {
    let _turn = engine.networks.creating.lock().await;
    let name = check_name(&request.name)?;
    if let Ok(existing) = engine.networks.find(&name)
        && existing.network.name == name
    {
        return Err(NetworkError::NameTaken(name));
    }
    template::check_scope(&request)?;
    if request.config_only {
        return keep(engine, template::record(&request)?).await;
    }
    let request = template::apply(engine, request)?;
    if matches!(request.driver.as_str(), "host" | "null" | "none") {
        return Err(NetworkError::SecondPredefined(request.driver));
    }
    let mut last = None;
    for _ in 0..SUBNET_ATTEMPTS {
        let (planning, asked) = (Arc::clone(engine), request.clone());
        let planned = tokio::task::spawn_blocking(move || plan(&planning, &asked)).await;
        let record = planned.map_err(|error| NetworkError::Lost(error.to_string()))??;
        match bring_up(engine, &record).await {
            Ok(()) => return keep(engine, record).await,
            // Another program took the subnet between look and use.
            Err(error) if error.is_subnet_taken() && !asks_for_subnet(&request) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.expect("at least one attempt was made"))
}

fn asks_for_subnet(request: &CreateRequest) -> bool {
    configs(request).any(|config| !config.subnet.is_empty())
}

async fn bring_up(engine: &Arc<Engine>, record: &NetworkRecord) -> Result<(), NetworkError> {
    let Some(plan) = record.plan.clone() else { return Ok(()) };
    engine.networks.link.call(Request::NetworkUp(Box::new(plan))).await?;
    Ok(())
}

async fn keep(engine: &Arc<Engine>, record: NetworkRecord) -> Result<String, NetworkError> {
    let id = record.network.id.clone();
    let (keeping, kept) = (Arc::clone(engine), record.clone());
    let added = tokio::task::spawn_blocking(move || keeping.networks.add(kept)).await;
    if let Err(error) = added.map_err(|error| NetworkError::Lost(error.to_string()))? {
        // The first error is the one to tell.
        let _ = engine.networks.link.call(Request::NetworkDown { id }).await;
        return Err(error.into());
    }
    if let Some(entry) = engine.networks.lock().get_mut(&id) {
        entry.up = true;
    }
    emit(engine, "create", &record, None);
    Ok(id)
}

/// Tells that something happened to a network.
pub fn emit(engine: &Engine, action: &str, record: &NetworkRecord, container: Option<&str>) {
    let network = &record.network;
    let mut attributes = BTreeMap::from([
        ("name".to_owned(), network.name.clone()),
        ("type".to_owned(), network.driver.clone()),
    ]);
    if let Some(container) = container {
        attributes.insert("container".into(), container.to_owned());
    }
    engine.events.emit("network", action, &network.id, attributes);
}

fn check_name(name: &str) -> Result<String, NetworkError> {
    // Docker lets spaces stand within a name, and its clients' tests use them.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | ' ');
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !name.chars().all(plain) || !begins || name.ends_with(' ') {
        return Err(NetworkError::BadName(name.to_owned()));
    }
    if PREDEFINED.contains(&name) || name == "default" {
        return Err(NetworkError::Predefined(name.to_owned()));
    }
    Ok(name.to_owned())
}

fn configs(request: &CreateRequest) -> impl Iterator<Item = &IpamConfig> {
    request.ipam.iter().flat_map(|ipam| ipam.config.iter().flatten())
}

/// Everything is checked here; nothing has changed when it fails.
fn plan(engine: &Engine, request: &CreateRequest) -> Result<NetworkRecord, NetworkError> {
    let id = new_id().map_err(NetworkError::Random)?;
    let options = options(engine, request);
    let bridge_name = format!("br-{}", &id[..BRIDGE_DIGITS]);
    let driver = driver::parse(&request.driver, &options, &bridge_name, &id)?;
    if let Some(ipam) = &request.ipam
        && !matches!(ipam.driver.as_str(), "" | "default")
    {
        return Err(NetworkError::IpamDriver(ipam.driver.clone()));
    }
    let pools = plan_pools(engine, request)?;
    let dns = true;
    let plan = NetworkPlan {
        id: id.clone(),
        name: request.name.clone(),
        gateways: pools.iter().map(Pool::gateway_address).collect(),
        subnets: pools.iter().map(|pool| pool.subnet).collect(),
        internal: request.internal,
        mtu: driver.mtu,
        wiring: driver.wiring,
        dns,
    };
    refuse_taken_bridge(engine, &plan)?;
    let network = Network {
        name: request.name.clone(),
        id,
        created: clock::now(),
        scope: "local".into(),
        driver: if request.driver.is_empty() || request.driver == "default" {
            "bridge".into()
        } else {
            request.driver.clone()
        },
        enable_ipv4: pools.iter().any(|pool| !pool.subnet.is_ipv6()),
        enable_ipv6: pools.iter().any(|pool| pool.subnet.is_ipv6()),
        ipam: Ipam {
            driver: "default".into(),
            options: match &request.ipam {
                Some(ipam) => ipam.options.clone(),
                None => Some(BTreeMap::new()),
            },
            config: Some(pools.iter().map(shown_pool).collect()),
        },
        internal: request.internal,
        attachable: request.attachable,
        options,
        labels: request.labels.clone().unwrap_or_default(),
        config_from: request.config_from.clone().unwrap_or_default(),
        ..Network::default()
    };
    let mut record = NetworkRecord::new(network, Some(plan), pools);
    record.host_binding = driver.host_binding_ipv4;
    record.interface_prefix = driver.interface_prefix;
    Ok(record)
}

/// The options asked for, and those that every network of this driver gets.
fn options(engine: &Engine, request: &CreateRequest) -> BTreeMap<String, String> {
    let mut options = request.options.clone().unwrap_or_default();
    let driver = match request.driver.as_str() {
        "" | "default" => "bridge",
        driver => driver,
    };
    let defaults = engine.defaults();
    for (name, value) in defaults.network.default_network_opts.get(driver).into_iter().flatten() {
        options.entry(name.clone()).or_insert_with(|| value.clone());
    }
    options
}

/// Two networks on one interface would undo each other.
fn refuse_taken_bridge(engine: &Engine, plan: &NetworkPlan) -> Result<(), NetworkError> {
    let Wiring::Bridge(wanted) = &plan.wiring else { return Ok(()) };
    let same = |record: &NetworkRecord| match record.plan.as_ref().map(|plan| &plan.wiring) {
        Some(Wiring::Bridge(bridge)) => bridge.bridge == wanted.bridge,
        _ => false,
    };
    match engine.networks.all().into_iter().find(same) {
        Some(other) => {
            Err(NetworkError::BridgeTaken { bridge: wanted.bridge.clone(), network: other.network.name })
        }
        None => Ok(()),
    }
}

fn plan_pools(engine: &Engine, request: &CreateRequest) -> Result<Vec<Pool>, NetworkError> {
    let own = engine.networks.subnets();
    let mut pools = Vec::new();
    for config in configs(request).filter(|config| !config.subnet.is_empty()) {
        let pool = read_pool(config)?;
        let others: Vec<Subnet> =
            own.iter().copied().chain(pools.iter().map(|pool: &Pool| pool.subnet)).collect();
        ipam::refuse_overlap(pool.subnet, &others)?;
        pools.push(pool);
    }
    // Clients send them in any order; they are shown, and given to containers, IPv4 first.
    pools.sort_by_key(|pool| pool.subnet.is_ipv6());
    let has = |pools: &[Pool], ipv6| pools.iter().any(|pool| pool.subnet.is_ipv6() == ipv6);
    let wants_ipv4 = request.enable_ipv4.unwrap_or(true) && !has(&pools, false);
    let wants_ipv6 = request.enable_ipv6.unwrap_or(false) && !has(&pools, true);
    if wants_ipv4 || wants_ipv6 {
        let mut taken: Vec<Subnet> =
            engine.networks.host_facts().routes.into_iter().map(|(route, _)| route).collect();
        taken.extend(own.iter().chain(pools.iter().map(|pool| &pool.subnet)));
        if wants_ipv4 {
            // `--gateway` or `--ip-range` without a subnet cannot be honoured.
            if let Some(config) =
                configs(request).find(|config| config.subnet.is_empty() && !config.gateway.is_empty())
            {
                return Err(NetworkError::GatewayWithoutSubnet(config.gateway.clone()));
            }
            pools.insert(
                0,
                Pool::new(
                    ipam::choose_ipv4(false, &engine.defaults().network.pools(), &taken)?,
                    None,
                    None,
                    BTreeMap::new(),
                )?,
            );
        }
        if wants_ipv6 {
            pools.push(Pool::new(
                ipam::choose_ipv6(engine.networks.seed(), &taken)?,
                None,
                None,
                BTreeMap::new(),
            )?);
        }
    }
    if pools.is_empty() {
        return Err(NetworkError::NoFamily);
    }
    Ok(pools)
}

fn read_pool(config: &IpamConfig) -> Result<Pool, NetworkError> {
    let address = |text: &str| -> Result<IpAddr, NetworkError> {
        text.parse().map_err(|_| NetworkError::BadAddress(text.to_owned()))
    };
    let range = match config.ip_range.as_str() {
        "" => None,
        text => Some(text.parse::<Subnet>()?),
    };
    let gateway = match config.gateway.as_str() {
        "" => None,
        text => Some(address(text)?),
    };
    let auxiliary = config
        .auxiliary_addresses
        .iter()
        .map(|(name, text)| Ok((name.clone(), address(text)?)))
        .collect::<Result<_, NetworkError>>()?;
    Ok(Pool::new(config.subnet.parse()?, range, gateway, auxiliary)?)
}

/// Removes a network nobody uses.
pub async fn remove(engine: &Arc<Engine>, text: &str) -> Result<(), NetworkError> {
    let _turn = engine.networks.creating.lock().await;
    let record = engine.networks.find(text)?;
    if record.is_predefined() {
        return Err(NetworkError::RemovePredefined(record.network.name));
    }
    template::refuse_used(engine, &record.network)?;
    let users = users_of(engine, &record.network.id);
    if !users.is_empty() {
        let list = users
            .iter()
            .map(|(name, id)| format!("name:{name:?} id:{:?}", &id[..BRIDGE_DIGITS.min(id.len())]));
        return Err(NetworkError::InUse {
            name: record.network.name.clone(),
            id: record.network.id.clone(),
            users: list.collect::<Vec<_>>().join(", "),
        });
    }
    // The last container's record is gone before the kernel is done with its endpoint.
    drop(engine.networks.detaching.write().await);
    let id = record.network.id.clone();
    engine.networks.link.call(Request::NetworkDown { id: id.clone() }).await?;
    let removing = Arc::clone(engine);
    let removed = tokio::task::spawn_blocking(move || removing.networks.remove(&id)).await;
    removed.map_err(|error| NetworkError::Lost(error.to_string()))??;
    emit(engine, "destroy", &record, None);
    Ok(())
}

impl NetworkError {
    /// Whether the host had the subnet already.
    pub fn is_subnet_taken(&self) -> bool {
        match self {
            Self::Service(ClientError::Refused(failure)) => failure.kind == FailureKind::SubnetTaken,
            Self::Ipam(IpamError::Overlap { .. }) => true,
            _ => false,
        }
    }

    /// Whether the network service ended in mid-call. The next one takes up all that was recorded, and may be asked again.
    pub fn is_lost_service(&self) -> bool {
        matches!(self, Self::Service(ClientError::Channel(_)))
    }
}
