//! Which subnet a network gets and which address an endpoint.
//!
//! Pure: what the host routes and what is in use comes in as arguments, so that
//! the engine can keep it beside its records and tests need no kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::address::{InterfaceAddress, Subnet, from_value, to_value};

/// Where networks without a subnet of their own get one: each a /24, thousands of them.
const POOLS: [&str; 3] = ["172.18.0.0/15", "172.20.0.0/14", "172.24.0.0/13"];
/// Taken when everything above clashes with routes of the host.
const LAST_POOLS: [&str; 2] = ["192.168.0.0/16", "10.128.0.0/9"];
const POOL_PREFIX: u8 = 24;
/// The default network's, as everyone knows it.
const DEFAULT_NETWORK: &str = "172.17.0.0/16";
/// Of an automatic IPv6 subnet.
const IPV6_PREFIX: u8 = 64;
/// Address candidates looked at in one subnet before it counts as full; more than
/// any bridge has ports.
const MOST_CANDIDATES: u128 = 1 << 20;

/// One subnet of a network with its rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The whole subnet.
    pub subnet: Subnet,
    /// The part addresses are given from; all of it when absent.
    pub range: Option<Subnet>,
    /// The gateway's address.
    pub gateway: IpAddr,
    /// Addresses other machines have, by name.
    pub auxiliary: BTreeMap<String, IpAddr>,
}

/// What cannot be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IpamError {
    /// All default pools clash.
    #[error(
        "could not find an available, non-overlapping {family} address pool among the defaults to assign to the network"
    )]
    PoolsExhausted {
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// A subnet that another network has.
    #[error(
        "invalid pool request: Pool overlaps with other one on this address space: {subnet} is part of {other}"
    )]
    Overlap {
        /// What was asked for.
        subnet: Subnet,
        /// What is there.
        other: Subnet,
    },
    /// A range, gateway or auxiliary address outside its subnet.
    #[error("{what} {value} is not in the subnet {subnet}")]
    Outside {
        /// Which of them.
        what: &'static str,
        /// Its value.
        value: String,
        /// The subnet.
        subnet: Subnet,
    },
    /// A subnet too small for a gateway and one endpoint.
    #[error("the subnet {0} has no room for a gateway and an endpoint")]
    TooSmall(Subnet),
    /// Every address is in use.
    #[error("no available {family} addresses on this network's address pools")]
    Full {
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// The address asked for is in use.
    #[error("Address already in use: {0}")]
    InUse(IpAddr),
    /// The address asked for is in no subnet of the network.
    #[error("invalid endpoint settings: no configured subnet or ip-range contain the IP address {0}")]
    NotInNetwork(IpAddr),
}

fn family(ipv6: bool) -> &'static str {
    if ipv6 { "IPv6" } else { "IPv4" }
}

impl Pool {
    /// A pool over a subnet; the gateway is the first address unless given.
    pub fn new(
        subnet: Subnet,
        range: Option<Subnet>,
        gateway: Option<IpAddr>,
        auxiliary: BTreeMap<String, IpAddr>,
    ) -> Result<Self, IpamError> {
        let host_bits = if subnet.is_ipv6() { 128 } else { 32 } - subnet.prefix();
        if host_bits < 1 {
            return Err(IpamError::TooSmall(subnet));
        }
        let outside = |what, value: String| IpamError::Outside { what, value, subnet };
        if let Some(range) = range.filter(|range| !subnet.covers(range)) {
            return Err(outside("the ip-range", range.to_string()));
        }
        if let Some(address) = auxiliary.values().find(|address| !subnet.contains(**address)) {
            return Err(outside("the auxiliary address", address.to_string()));
        }
        let gateway = match gateway {
            Some(gateway) if !subnet.contains(gateway) => {
                return Err(outside("the gateway", gateway.to_string()));
            }
            Some(gateway) => gateway,
            None => first_free(subnet, range, &auxiliary).ok_or(IpamError::TooSmall(subnet))?,
        };
        Ok(Self { subnet, range, gateway, auxiliary })
    }

    /// The gateway as the host carries it.
    pub fn gateway_address(&self) -> InterfaceAddress {
        InterfaceAddress { address: self.gateway, prefix: self.subnet.prefix() }
    }

    fn is_reserved(&self, value: u128) -> bool {
        let broadcast = !self.subnet.is_ipv6() && self.subnet.prefix() < 31;
        value == to_value(self.gateway)
            || (self.subnet.prefix() < 31 || self.subnet.is_ipv6()) && value == self.subnet.first_value()
            || broadcast && value == self.subnet.last_value()
            || self.auxiliary.values().any(|address| to_value(*address) == value)
    }
}

fn first_free(subnet: Subnet, range: Option<Subnet>, auxiliary: &BTreeMap<String, IpAddr>) -> Option<IpAddr> {
    // Docker puts the gateway into the range when there is one.
    let within = range.unwrap_or(subnet);
    let taken = |value: &u128| auxiliary.values().any(|address| to_value(*address) == *value);
    let first =
        within.first_value().max(subnet.first_value() + u128::from(subnet.prefix() < 31 || subnet.is_ipv6()));
    (first..=within.last_value()).find(|value| !taken(value)).map(|value| from_value(value, subnet.is_ipv6()))
}

/// A free IPv4 subnet: for the default network Docker's well-known one where the
/// host has no use for it, else one of the pools: the operator's (with the length of the prefix of their parts), where
/// there are some.
pub fn choose_ipv4(
    default_network: bool,
    pools: &[(Subnet, u8)],
    taken: &[Subnet],
) -> Result<Subnet, IpamError> {
    let free = |subnet: &Subnet| !taken.iter().any(|other| other.overlaps(subnet));
    let parse = |text: &str| text.parse::<Subnet>().expect("the pools are well-formed");
    if default_network && pools.is_empty() {
        let known = parse(DEFAULT_NETWORK);
        if free(&known) {
            return Ok(known);
        }
    }
    let own = POOLS.into_iter().chain(LAST_POOLS).map(|text| (parse(text), POOL_PREFIX));
    let pools = if pools.is_empty() { own.collect() } else { pools.to_vec() };
    for (pool, size) in pools {
        let mut candidates = (0..).map_while(|index| pool.part(size, index));
        if let Some(found) = candidates.find(&free) {
            return Ok(found);
        }
    }
    Err(IpamError::PoolsExhausted { family: "IPv4" })
}

/// A free unique-local IPv6 subnet; `seed` makes those of one installation alike
/// and those of different ones differ.
pub fn choose_ipv6(seed: u64, taken: &[Subnet]) -> Result<Subnet, IpamError> {
    const UNIQUE_LOCAL: u128 = 0xfd << 120;
    const GLOBAL_ID_BITS: u32 = 40;
    let global_id = u128::from(seed) & ((1 << GLOBAL_ID_BITS) - 1);
    let site = from_value(UNIQUE_LOCAL | global_id << 80, true);
    let site = Subnet::containing(site, 48);
    let mut candidates = (0..).map_while(|index| site.part(IPV6_PREFIX, index));
    candidates
        .find(|subnet| !taken.iter().any(|other| other.overlaps(subnet)))
        .ok_or(IpamError::PoolsExhausted { family: "IPv6" })
}

/// Refuses a subnet that overlaps with one in use.
pub fn refuse_overlap(subnet: Subnet, taken: &[Subnet]) -> Result<(), IpamError> {
    match taken.iter().find(|other| other.overlaps(&subnet)) {
        Some(other) => Err(IpamError::Overlap { subnet, other: *other }),
        None => Ok(()),
    }
}

/// The addresses of one network.
#[derive(Clone, Debug, Default)]
pub struct Allocator {
    pools: Vec<Pool>,
    used: BTreeSet<(bool, u128)>,
    /// Where the search goes on, so that an address just given back rests a while.
    next: BTreeMap<Subnet, u128>,
}

impl Allocator {
    /// An allocator over these pools, nothing in use.
    pub fn new(pools: Vec<Pool>) -> Self {
        Self { pools, ..Self::default() }
    }

    /// Whether the network has this family at all.
    pub fn has_family(&self, ipv6: bool) -> bool {
        self.pools.iter().any(|pool| pool.subnet.is_ipv6() == ipv6)
    }

    /// The pool an address belongs to.
    pub fn pool_of(&self, address: IpAddr) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.subnet.contains(address))
    }

    /// Gives the next free address of a family.
    pub fn allocate(&mut self, ipv6: bool) -> Result<InterfaceAddress, IpamError> {
        for pool in self.pools.iter().filter(|pool| pool.subnet.is_ipv6() == ipv6) {
            let within = pool.range.unwrap_or(pool.subnet);
            let (first, last) = (within.first_value(), within.last_value());
            let start = self.next.get(&pool.subnet).copied().filter(|next| (first..=last).contains(next));
            let start = start.unwrap_or(first);
            let mut candidates = (start..=last).chain(first..start).take(MOST_CANDIDATES as usize);
            let free =
                candidates.find(|value| !pool.is_reserved(*value) && !self.used.contains(&(ipv6, *value)));
            if let Some(value) = free {
                self.used.insert((ipv6, value));
                self.next.insert(pool.subnet, value.saturating_add(1));
                let address = from_value(value, ipv6);
                return Ok(InterfaceAddress { address, prefix: pool.subnet.prefix() });
            }
        }
        Err(IpamError::Full { family: family(ipv6) })
    }

    /// Gives exactly this address.
    pub fn allocate_exactly(&mut self, address: IpAddr) -> Result<InterfaceAddress, IpamError> {
        let pool = self.pool_of(address).ok_or(IpamError::NotInNetwork(address))?;
        let prefix = pool.subnet.prefix();
        let value = to_value(address);
        if pool.is_reserved(value) || !self.used.insert((address.is_ipv6(), value)) {
            return Err(IpamError::InUse(address));
        }
        Ok(InterfaceAddress { address, prefix })
    }

    /// Marks an address that is in use already.
    pub fn adopt(&mut self, address: IpAddr) {
        self.used.insert((address.is_ipv6(), to_value(address)));
    }

    /// Takes an address back.
    pub fn release(&mut self, address: IpAddr) {
        self.used.remove(&(address.is_ipv6(), to_value(address)));
    }

    /// How many addresses are in use.
    pub fn in_use(&self) -> usize {
        self.used.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    fn pool(text: &str) -> Pool {
        Pool::new(subnet(text), None, None, BTreeMap::new()).unwrap()
    }

    #[test]
    fn pools_avoid_what_is_routed() {
        assert_eq!(choose_ipv4(true, &[], &[]), Ok(subnet("172.17.0.0/16")));
        assert_eq!(choose_ipv4(true, &[], &[subnet("172.17.3.0/24")]), Ok(subnet("172.18.0.0/24")));
        assert_eq!(choose_ipv4(false, &[], &[subnet("172.18.0.0/23")]), Ok(subnet("172.18.2.0/24")));
        assert_eq!(choose_ipv4(false, &[], &[subnet("172.16.0.0/12")]), Ok(subnet("192.168.0.0/24")));
        assert!(choose_ipv4(false, &[], &[subnet("0.0.0.0/0")]).is_err());
        let own = [(subnet("10.7.0.0/16"), 20)];
        assert_eq!(choose_ipv4(true, &own, &[]), Ok(subnet("10.7.0.0/20")));
        assert_eq!(choose_ipv4(false, &own, &[subnet("10.7.0.0/24")]), Ok(subnet("10.7.16.0/20")));
        let first = choose_ipv6(7, &[]).unwrap();
        assert_eq!(first.to_string(), "fd00:0:7::/64");
        assert_eq!(choose_ipv6(7, &[first]).unwrap().to_string(), "fd00:0:7:1::/64");
    }

    #[test]
    fn no_address_twice_and_none_at_once_again() {
        let mut addresses = Allocator::new(vec![pool("10.0.0.0/29")]);
        let mut next = || addresses.allocate(false).map(|address| address.address.to_string());
        let given: Vec<_> = (0..5).map(|_| next().unwrap()).collect();
        assert_eq!(given, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        assert_eq!(next(), Err(IpamError::Full { family: "IPv4" }));
        addresses.release("10.0.0.3".parse().unwrap());
        assert_eq!(addresses.allocate(false).unwrap().address.to_string(), "10.0.0.3");
    }

    #[test]
    fn fixed_addresses_ranges_and_auxiliaries() {
        let auxiliary = BTreeMap::from([("router".to_owned(), "10.1.0.65".parse().unwrap())]);
        let gateway = Some("10.1.0.254".parse().unwrap());
        let range = Some(subnet("10.1.0.64/26"));
        let pool = Pool::new(subnet("10.1.0.0/24"), range, gateway, auxiliary).unwrap();
        let mut addresses = Allocator::new(vec![pool]);
        assert_eq!(addresses.allocate(false).unwrap().to_string(), "10.1.0.64/24");
        assert_eq!(addresses.allocate(false).unwrap().to_string(), "10.1.0.66/24");
        for (address, error) in [
            ("10.1.0.66", IpamError::InUse("10.1.0.66".parse().unwrap())),
            ("10.1.0.254", IpamError::InUse("10.1.0.254".parse().unwrap())),
            ("10.2.0.1", IpamError::NotInNetwork("10.2.0.1".parse().unwrap())),
        ] {
            assert_eq!(addresses.allocate_exactly(address.parse().unwrap()), Err(error));
        }
        assert!(addresses.allocate_exactly("10.1.0.5".parse().unwrap()).is_ok());
    }

    #[test]
    fn bad_pools_are_refused() {
        let none = BTreeMap::new;
        let text = |result: Result<Pool, IpamError>| result.unwrap_err().to_string();
        let small = subnet("10.0.0.0/24");
        assert_eq!(
            text(Pool::new(small, None, Some("10.0.1.1".parse().unwrap()), none())),
            "the gateway 10.0.1.1 is not in the subnet 10.0.0.0/24"
        );
        assert_eq!(
            text(Pool::new(small, Some(subnet("10.0.0.0/16")), None, none())),
            "the ip-range 10.0.0.0/16 is not in the subnet 10.0.0.0/24"
        );
        assert!(Pool::new(subnet("10.0.0.1/32"), None, None, none()).is_err());
        let message = refuse_overlap(subnet("10.0.0.0/8"), &[small]).unwrap_err().to_string();
        assert!(message.contains("Pool overlaps with other one on this address space"), "{message}");
    }
}
