//! `--network`, plain (`web`) or with fields (`name=web,alias=db,ip=10.0.0.5`).

use std::collections::BTreeMap;

use ferry_api::container::{EndpointIpamConfig, EndpointSettings, NetworkingConfig};

use super::ContainerFlags;

/// What the flags say about networks.
pub struct Networks {
    /// The mode, which is the first network's name.
    pub mode: String,
    /// What is asked of each network; nothing where nothing is asked.
    pub config: Option<NetworkingConfig>,
}

/// Reads the flags.
pub fn networks(flags: &ContainerFlags) -> Result<Networks, String> {
    let mut wanted: Vec<(String, EndpointSettings)> = Vec::new();
    for spec in flags.network.iter().chain(&flags.net) {
        let entry = parse(spec)?;
        if wanted.iter().any(|(name, _)| *name == entry.0) {
            return Err(format!("network {:?} is specified multiple times", entry.0));
        }
        wanted.push(entry);
    }
    let mode = wanted.first().map_or_else(|| "default".to_owned(), |(name, _)| name.clone());
    let shared = mode == "host" || mode == "none" || mode.starts_with("container:");
    if wanted.len() > 1 && wanted.iter().any(|(name, _)| name == "host" || name.starts_with("container:")) {
        return Err(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes".into(),
        );
    }
    if wanted.is_empty() {
        wanted.push((mode.clone(), EndpointSettings::default()));
    }
    let first = &mut wanted[0].1;
    let asks = add_short_flags(first, flags);
    if asks && shared {
        return Err(format!(
            "conflicting options: addresses and aliases cannot be given with the network mode {mode:?}"
        ));
    }
    let plain = wanted.len() == 1 && wanted[0].1 == EndpointSettings::default();
    let endpoints: BTreeMap<_, _> =
        wanted.into_iter().map(|(name, settings)| (name, Some(settings))).collect();
    let config = (!plain).then_some(NetworkingConfig { endpoints_config: Some(endpoints) });
    Ok(Networks { mode, config })
}

/// Adds `--ip`, `--network-alias`, ... to the first network; true when there was one of them.
fn add_short_flags(first: &mut EndpointSettings, flags: &ContainerFlags) -> bool {
    let aliases: Vec<String> = flags.network_alias.iter().chain(&flags.net_alias).cloned().collect();
    let addresses = EndpointIpamConfig {
        ipv4_address: flags.ip.clone(),
        ipv6_address: flags.ip6.clone(),
        link_local_ips: flags.link_local_ip.clone(),
    };
    let mut asks = false;
    if !aliases.is_empty() {
        asks = true;
        first.aliases.get_or_insert_default().extend(aliases);
    }
    if addresses != EndpointIpamConfig::default() {
        asks = true;
        first.ipam_config = Some(addresses);
    }
    if !flags.mac_address.is_empty() {
        asks = true;
        flags.mac_address.clone_into(&mut first.mac_address);
    }
    if !flags.link.is_empty() {
        first.links = Some(flags.link.clone());
    }
    asks
}

fn parse(spec: &str) -> Result<(String, EndpointSettings), String> {
    let mut settings = EndpointSettings::default();
    if !spec.contains('=') {
        return match spec.is_empty() {
            true => Err("the network's name is empty (an unset variable?)".into()),
            false => Ok((spec.to_owned(), settings)),
        };
    }
    let mut name = String::new();
    for field in spec.split(',') {
        let (key, value) =
            field.split_once('=').ok_or_else(|| format!("invalid field {field} in the network {spec:?}"))?;
        let value = value.trim().to_owned();
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => name = value,
            "alias" => settings.aliases.get_or_insert_default().push(value),
            "ip" => settings.ipam_config.get_or_insert_default().ipv4_address = value,
            "ip6" => settings.ipam_config.get_or_insert_default().ipv6_address = value,
            "link-local-ip" => settings.ipam_config.get_or_insert_default().link_local_ips.push(value),
            "mac-address" => settings.mac_address = value,
            "gw-priority" => {
                settings.gw_priority = value.parse().map_err(|_| format!("invalid gw-priority ({value})"))?;
            }
            "driver-opt" => {
                let (option, value) =
                    value.split_once('=').ok_or("invalid key/value pair in driver options")?;
                settings.driver_opts.get_or_insert_default().insert(option.to_owned(), value.to_owned());
            }
            other => return Err(format!("invalid field key {other}")),
        }
    }
    match name.is_empty() {
        true => Err(format!("the network {spec:?} has no name")),
        false => Ok((name, settings)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_endpoints() {
        let flags = |network: &[&str], alias: &[&str]| ContainerFlags {
            network: network.iter().map(|s| (*s).to_owned()).collect(),
            network_alias: alias.iter().map(|s| (*s).to_owned()).collect(),
            ..Default::default()
        };
        let plain = networks(&flags(&[], &[])).unwrap();
        assert_eq!((plain.mode.as_str(), plain.config.is_none()), ("default", true));
        assert!(networks(&flags(&["none"], &[])).unwrap().config.is_none());
        let two = networks(&flags(&["a", "name=b,alias=x,ip=10.0.0.5"], &["y"])).unwrap();
        let endpoints = two.config.unwrap().endpoints_config.unwrap();
        assert_eq!(endpoints["a"].as_ref().unwrap().aliases.as_deref(), Some(&["y".to_owned()][..]));
        assert_eq!(endpoints["b"].as_ref().unwrap().ipam_config.as_ref().unwrap().ipv4_address, "10.0.0.5");
        for bad in [&["a", "a"][..], &["host", "a"], &["alias=x"], &["name=a,speed=1"], &[""]] {
            assert!(networks(&flags(bad, &[])).is_err(), "{bad:?}");
        }
        assert!(networks(&flags(&["host"], &["x"])).is_err());
    }
}
