//! Commands about networks.

use std::collections::BTreeMap;

use ferry_api::network::{
    ConfigReference, ConnectRequest, CreateRequest, CreateResponse, DisconnectRequest, EndpointIpamConfig,
    EndpointSettings, Ipam, IpamConfig, Network, PruneResponse,
};
use ferry_api::{Call, Filters};

use super::container::options::pairs;
use super::{confirm, each, filters};
use crate::cli::Command;
use crate::command;
use crate::failure::{Failure, Outcome};
use crate::output::format::{Choice, List, Row, label_method, labels_cell, short_id};
use crate::output::{self, time};
use crate::session::Session;
use crate::template::Value;

crate::flags! {
    /// Flags of `network create`.
    pub struct CreateFlags {
        attachable: bool = '-' "attachable" "Enable manual container attachment";
        aux_address: Vec<String> = '-' "aux-address" <map> "Auxiliary IPv4 or IPv6 addresses used by Network driver";
        config_from: String = '-' "config-from" <string> "The network from which to copy the configuration";
        config_only: bool = '-' "config-only" "Create a configuration only network";
        driver: String = 'd' "driver" <string> "Driver to manage the Network (default \"bridge\")";
        gateway: Vec<String> = '-' "gateway" <strings> "IPv4 or IPv6 Gateway for the master subnet";
        ingress: bool = '-' "ingress" "Create swarm routing-mesh network";
        internal: bool = '-' "internal" "Restrict external access to the network";
        ip_range: Vec<String> = '-' "ip-range" <strings> "Allocate container ip from a sub-range";
        ipam_driver: String = '-' "ipam-driver" <string> "IP Address Management Driver (default \"default\")";
        ipam_opt: Vec<String> = '-' "ipam-opt" <map> "Set IPAM driver specific options";
        ipv4: Option<bool> = '-' "ipv4" "Enable or disable IPv4 address assignment";
        ipv6: Option<bool> = '-' "ipv6" "Enable or disable IPv6 address assignment";
        label: Vec<String> = '-' "label" <list> "Set metadata on a network";
        opt: Vec<String> = 'o' "opt" <map> "Set driver specific options";
        scope: String = '-' "scope" <string> "Control the network's scope";
        subnet: Vec<String> = '-' "subnet" <strings> "Subnet in CIDR format that represents a network segment";
    }
}

crate::flags! {
    /// Flags of `network ls`.
    pub struct LsFlags {
        filter: Vec<String> = 'f' "filter" <filter> "Provide filter values (e.g. \"driver=bridge\")";
        format: String = '-' "format" <string> "Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'";
        no_trunc: bool = '-' "no-trunc" "Do not truncate the output";
        quiet: bool = 'q' "quiet" "Only display network IDs";
    }
}

crate::flags! {
    /// Flags of `network rm`.
    pub struct RmFlags {
        force: bool = 'f' "force" "Do not error if the network does not exist";
    }
}

crate::flags! {
    /// Flags of `network connect`.
    pub struct ConnectFlags {
        alias: Vec<String> = '-' "alias" <strings> "Add network-scoped alias for the container";
        driver_opt: Vec<String> = '-' "driver-opt" <strings> "driver options for the network";
        gw_priority: Option<i64> = '-' "gw-priority" <int> "Highest gw-priority provides the default gateway. Accepts positive and negative values";
        ip: String = '-' "ip" <string> "IPv4 address (e.g., \"172.30.100.104\")";
        ip6: String = '-' "ip6" <string> "IPv6 address (e.g., \"2001:db8::33\")";
        link: Vec<String> = '-' "link" <list> "Add link to another container";
        link_local_ip: Vec<String> = '-' "link-local-ip" <strings> "Add a link-local address for the container";
    }
}

crate::flags! {
    /// Flags of `network disconnect`.
    pub struct DisconnectFlags {
        force: bool = 'f' "force" "Force the container to disconnect from a network";
    }
}

crate::flags! {
    /// Flags of `network prune`.
    pub struct PruneFlags {
        filter: Vec<String> = '-' "filter" <filter> "Provide filter values (e.g. \"until=<timestamp>\")";
        force: bool = 'f' "force" "Do not prompt for confirmation";
    }
}

/// The table.
pub static COMMANDS: &[Command] = &[
    command!(["network create"], "[OPTIONS] NETWORK", "Create a network", Exactly(1), CreateFlags, create),
    command!(["network ls", "network list"], "[OPTIONS]", "List networks", None, LsFlags, ls),
    command!(
        ["network rm", "network remove"],
        "[OPTIONS] NETWORK [NETWORK...]",
        "Remove one or more networks",
        AtLeast(1),
        RmFlags,
        rm
    ),
    command!(
        ["network connect"],
        "[OPTIONS] NETWORK CONTAINER",
        "Connect a container to a network",
        Exactly(2),
        ConnectFlags,
        connect
    ),
    command!(
        ["network disconnect"],
        "[OPTIONS] NETWORK CONTAINER",
        "Disconnect a container from a network",
        Exactly(2),
        DisconnectFlags,
        disconnect
    ),
    command!(["network prune"], "[OPTIONS]", "Remove all unused networks", None, PruneFlags, prune),
];

const RAW: &str = "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n";

static LIST: List = List {
    columns: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
    default: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    quiet: "{{.ID}}",
};

/// Runs `network create`.
pub async fn create(session: &Session, flags: CreateFlags, arguments: Vec<String>) -> Outcome {
    let config = ipam(&flags).map_err(Failure::new)?;
    let request = CreateRequest {
        name: arguments[0].clone(),
        driver: if flags.driver.is_empty() { "bridge".into() } else { flags.driver.clone() },
        scope: flags.scope.clone(),
        enable_ipv4: flags.ipv4,
        enable_ipv6: flags.ipv6,
        ipam: Some(Ipam {
            driver: if flags.ipam_driver.is_empty() { "default".into() } else { flags.ipam_driver.clone() },
            options: Some(pairs(&flags.ipam_opt)),
            config: Some(config),
        }),
        internal: flags.internal,
        attachable: flags.attachable,
        ingress: flags.ingress,
        config_only: flags.config_only,
        config_from: (!flags.config_from.is_empty())
            .then(|| ConfigReference { network: flags.config_from.clone() }),
        options: Some(pairs(&flags.opt)),
        labels: Some(pairs(&flags.label)),
        ..Default::default()
    };
    let answer = session.engine().await?.call(Call::post("/networks/create").json(&request)).await?;
    let answer: CreateResponse = answer.json().await?;
    if !answer.warning.is_empty() {
        output::note(&format!("WARNING: {}", answer.warning));
    }
    output::line(&answer.id)?;
    Ok(0)
}

/// An address and how many leading bits of it name the network.
#[derive(Clone, Copy)]
struct Subnet {
    address: u128,
    prefix: u32,
    bits: u32,
}

impl Subnet {
    fn parse(text: &str) -> Option<Subnet> {
        let (address, prefix) = text.split_once('/')?;
        let (address, bits) = number(address)?;
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= bits)?;
        Some(Subnet { address, prefix, bits })
    }

    fn contains(self, (address, bits): (u128, u32)) -> bool {
        let shift = self.bits - self.prefix;
        bits == self.bits && (shift == 128 || address >> shift == self.address >> shift)
    }
}

fn number(text: &str) -> Option<(u128, u32)> {
    match text.parse().ok()? {
        std::net::IpAddr::V4(ip) => Some((u32::from(ip).into(), 32)),
        std::net::IpAddr::V6(ip) => Some((u128::from(ip), 128)),
    }
}

/// Gives each range, gateway and address to the subnet it lies in.
fn ipam(flags: &CreateFlags) -> Result<Vec<IpamConfig>, String> {
    let list = |values: &[String]| {
        values.iter().flat_map(|value| value.split(',')).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut configs: Vec<(Subnet, IpamConfig)> = Vec::new();
    for text in list(&flags.subnet) {
        let subnet = Subnet::parse(&text).ok_or_else(|| {
            format!("invalid subnet {text}: it is not an address with a prefix, as 10.1.0.0/16 is")
        })?;
        if configs.iter().any(|(known, _)| known.contains((subnet.address, subnet.bits))) {
            return Err("multiple overlapping subnet configuration is not supported".into());
        }
        configs.push((subnet, IpamConfig { subnet: text, ..Default::default() }));
    }
    let place = |text: &str, what: &str| {
        let address =
            number(text.split('/').next().unwrap_or(text)).ok_or_else(|| format!("invalid {what} {text}"))?;
        match configs.iter().position(|(subnet, _)| subnet.contains(address)) {
            Some(index) => Ok(index),
            None => Err(format!("no matching subnet for {what} {text}")),
        }
    };
    let mut ranges = Vec::new();
    for text in list(&flags.ip_range) {
        ranges.push((place(&text, "range")?, text));
    }
    let mut gateways = Vec::new();
    for text in list(&flags.gateway) {
        gateways.push((place(&text, "gateway")?, text));
    }
    let mut auxiliary = Vec::new();
    for (name, address) in pairs(&flags.aux_address) {
        auxiliary.push((place(&address, "aux-address")?, name, address));
    }
    for (index, range) in ranges {
        configs[index].1.ip_range = range;
    }
    for (index, gateway) in gateways {
        configs[index].1.gateway = gateway;
    }
    for (index, name, address) in auxiliary {
        configs[index].1.auxiliary_addresses.insert(name, address);
    }
    Ok(configs.into_iter().map(|(_, config)| config).collect())
}

/// Runs `network ls`.
pub async fn ls(session: &Session, flags: LsFlags, _arguments: Vec<String>) -> Outcome {
    let filters = filters(&flags.filter)?;
    let mut call = Call::get("/networks");
    if !filters.is_empty() {
        call = call.query("filters", filters.to_json());
    }
    let mut networks: Vec<Network> = session.engine().await?.call(call).await?.json().await?;
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    let choice = Choice {
        format: flags.format,
        configured: session.config().networks_format.clone(),
        quiet: flags.quiet,
        raw: if flags.quiet { "network_id: {{.ID}}" } else { RAW },
    };
    LIST.print(&choice, networks.iter().map(|network| row(network, !flags.no_trunc)).collect())?;
    Ok(0)
}

fn row(network: &Network, truncate: bool) -> Row {
    let created = time::local_with_fraction(&network.created).unwrap_or_default();
    vec![
        ("ID", Value::text(if truncate { short_id(&network.id) } else { &network.id })),
        ("Name", Value::text(network.name.as_str())),
        ("Driver", Value::text(network.driver.as_str())),
        ("Scope", Value::text(network.scope.as_str())),
        ("IPv4", Value::text(network.enable_ipv4.to_string())),
        ("IPv6", Value::text(network.enable_ipv6.to_string())),
        ("Internal", Value::text(network.internal.to_string())),
        ("Labels", Value::text(labels_cell(&network.labels))),
        ("Label", label_method(network.labels.clone())),
        ("CreatedAt", Value::text(created)),
    ]
}

/// Runs `network rm`.
pub async fn rm(session: &Session, flags: RmFlags, names: Vec<String>) -> Outcome {
    let client = session.engine().await?;
    let force = flags.force;
    each(&names, async |name: &str| {
        match client.call(Call::delete(format!("/networks/{}", Call::segment(name)))).await {
            Ok(done) => Ok(done.discard().await?),
            Err(error) if force && error.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    })
    .await
}

/// Runs `network connect`.
pub async fn connect(session: &Session, flags: ConnectFlags, arguments: Vec<String>) -> Outcome {
    let addresses = EndpointIpamConfig {
        ipv4_address: flags.ip,
        ipv6_address: flags.ip6,
        link_local_ips: flags.link_local_ip,
    };
    let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
    let options: BTreeMap<String, String> = pairs(&flags.driver_opt);
    let settings = EndpointSettings {
        ipam_config: (addresses != EndpointIpamConfig::default()).then_some(addresses),
        links: some(flags.link),
        aliases: some(flags.alias),
        driver_opts: (!options.is_empty()).then_some(options),
        gw_priority: flags.gw_priority.unwrap_or(0),
        ..Default::default()
    };
    let request = ConnectRequest { container: arguments[1].clone(), endpoint_config: Some(settings) };
    let call = Call::post(format!("/networks/{}/connect", Call::segment(&arguments[0]))).json(&request);
    session.engine().await?.call(call).await?.discard().await?;
    Ok(0)
}

/// Runs `network disconnect`.
pub async fn disconnect(session: &Session, flags: DisconnectFlags, arguments: Vec<String>) -> Outcome {
    let request = DisconnectRequest { container: arguments[1].clone(), force: flags.force };
    let call = Call::post(format!("/networks/{}/disconnect", Call::segment(&arguments[0]))).json(&request);
    session.engine().await?.call(call).await?.discard().await?;
    Ok(0)
}

/// Runs `network prune`.
pub async fn prune(session: &Session, flags: PruneFlags, _arguments: Vec<String>) -> Outcome {
    let question = "WARNING! This will remove all custom networks not used by at least one container.\n\
                    Are you sure you want to continue?";
    if !flags.force && !confirm(question)? {
        return Ok(0);
    }
    prune_all(session, &filters(&flags.filter)?).await?;
    Ok(0)
}

/// Removes unused networks and lists them.
pub async fn prune_all(session: &Session, filters: &Filters) -> Result<(), Failure> {
    let mut filters = filters.clone();
    session.config().filter_prune(&mut filters);
    let call = Call::post("/networks/prune").query("filters", filters.to_json());
    let pruned: PruneResponse = session.engine().await?.call(call).await?.json().await?;
    let deleted = pruned.networks_deleted.unwrap_or_default();
    if !deleted.is_empty() {
        output::line("Deleted Networks:")?;
        for name in &deleted {
            output::line(name)?;
        }
        output::line("")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_to_their_subnets() {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let flags = CreateFlags {
            subnet: texts(&["10.1.0.0/16,10.2.0.0/16", "fd00::/64"]),
            gateway: texts(&["10.2.0.1", "fd00::1"]),
            ip_range: texts(&["10.1.5.0/24"]),
            aux_address: texts(&["router=10.1.0.9"]),
            ..Default::default()
        };
        let configs = ipam(&flags).unwrap();
        assert_eq!((configs[0].ip_range.as_str(), configs[1].gateway.as_str()), ("10.1.5.0/24", "10.2.0.1"));
        assert_eq!(
            (configs[2].gateway.as_str(), configs[0].auxiliary_addresses["router"].as_str()),
            ("fd00::1", "10.1.0.9")
        );
        for (subnet, gateway) in
            [("10.1.0.0/16", "10.9.0.1"), ("10.1.0.0", ""), ("10.1.0.0/16,10.1.2.0/24", "")]
        {
            let flags = CreateFlags {
                subnet: texts(&[subnet]),
                gateway: texts(&[gateway]).into_iter().filter(|g| !g.is_empty()).collect(),
                ..Default::default()
            };
            assert!(ipam(&flags).is_err(), "{subnet} {gateway}");
        }
    }
}
