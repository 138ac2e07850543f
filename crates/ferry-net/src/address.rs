//! Subnets and interface addresses: parsing, containment, arithmetic.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A range of addresses with a common prefix, host bits zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subnet {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no subnet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    /// No `ADDRESS/LENGTH` at all.
    #[error("invalid CIDR address: {0}")]
    Syntax(String),
    /// The length does not fit the family.
    #[error("invalid CIDR address: {text}: a prefix length is at most {limit}")]
    Prefix {
        /// What was given.
        text: String,
        /// 32 or 128.
        limit: u8,
    },
}

impl Subnet {
    /// The subnet of `prefix` bits that holds `address`.
    ///
    /// # Panics
    /// When `prefix` passes the family's length.
    pub fn containing(address: IpAddr, prefix: u8) -> Self {
        assert!(prefix <= bits(address), "prefix {prefix} of {address}");
        let value = to_value(address) & mask(bits(address), prefix);
        Self { address: from_value(value, address.is_ipv6()), prefix }
    }

    /// The lowest address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The number of fixed bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether this is an IPv6 subnet.
    pub fn is_ipv6(&self) -> bool {
        self.address.is_ipv6()
    }

    /// The highest address.
    pub fn last(&self) -> IpAddr {
        from_value(self.last_value(), self.is_ipv6())
    }

    /// Whether `address` lies inside.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv6() == self.is_ipv6()
            && (self.first_value()..=self.last_value()).contains(&to_value(address))
    }

    /// Whether any address lies in both.
    pub fn overlaps(&self, other: &Subnet) -> bool {
        self.is_ipv6() == other.is_ipv6()
            && self.first_value() <= other.last_value()
            && other.first_value() <= self.last_value()
    }

    /// Whether all of `other` lies inside.
    pub fn covers(&self, other: &Subnet) -> bool {
        self.overlaps(other) && self.prefix <= other.prefix
    }

    pub(crate) fn first_value(&self) -> u128 {
        to_value(self.address)
    }

    pub(crate) fn last_value(&self) -> u128 {
        let family = bits(self.address);
        self.first_value() | (mask(family, family) & !mask(family, self.prefix))
    }

    /// The `index`-th subnet of `prefix` bits inside; `None` past the end.
    pub(crate) fn part(&self, prefix: u8, index: u128) -> Option<Subnet> {
        let step = 1u128.checked_shl(u32::from(bits(self.address) - prefix))?;
        let value = self.first_value().checked_add(index.checked_mul(step)?)?;
        (value <= self.last_value()).then(|| Subnet { address: from_value(value, self.is_ipv6()), prefix })
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv6() { 128 } else { 32 }
}

fn mask(family_bits: u8, prefix: u8) -> u128 {
    let all = u128::MAX >> (128 - u32::from(family_bits));
    let host = u32::from(family_bits - prefix);
    all & u128::MAX.checked_shl(host).unwrap_or(0)
}

pub(crate) fn to_value(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

pub(crate) fn from_value(value: u128, ipv6: bool) -> IpAddr {
    if ipv6 { IpAddr::V6(Ipv6Addr::from(value)) } else { IpAddr::V4(Ipv4Addr::from(value as u32)) }
}

impl FromStr for Subnet {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        let interface = InterfaceAddress::from_str(text)?;
        Ok(interface.subnet())
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Debug for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Subnet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subnet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// An address as an interface carries it: with the length of its subnet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InterfaceAddress {
    /// The address itself.
    pub address: IpAddr,
    /// The number of fixed bits of its subnet.
    pub prefix: u8,
}

impl InterfaceAddress {
    /// The subnet it lies in.
    pub fn subnet(&self) -> Subnet {
        Subnet::containing(self.address, self.prefix)
    }
}

impl FromStr for InterfaceAddress {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        let syntax = || SubnetError::Syntax(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(syntax)?;
        let address: IpAddr = address.parse().map_err(|_| syntax())?;
        let prefix: u8 = prefix.parse().map_err(|_| syntax())?;
        let limit = bits(address);
        if prefix > limit {
            return Err(SubnetError::Prefix { text: text.to_owned(), limit });
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Debug for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddress(pub [u8; 6]);

/// A text that is no Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid MAC address: {0}")]
pub struct MacAddressError(pub String);

impl MacAddress {
    /// The address of an endpoint that asked for none.
    pub fn from_address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::from_ipv4(address),
            IpAddr::V6(address) => Self::from_ipv6(address),
        }
    }

    /// A locally administered address made from an IPv4 address, so that a host
    /// that remembers the pair still reaches the next owner of the IP address.
    pub fn from_ipv4(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x42, a, b, c, d])
    }

    /// The same for an endpoint with IPv6 alone: the low 32 bits of the address.
    pub fn from_ipv6(address: Ipv6Addr) -> Self {
        let [.., a, b, c, d] = address.octets();
        Self([0x02, 0x46, a, b, c, d])
    }
}

impl FromStr for MacAddress {
    type Err = MacAddressError;

    fn from_str(text: &str) -> Result<Self, MacAddressError> {
        let fail = || MacAddressError(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(fail)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| fail())?;
        }
        // The lowest bit of the first octet marks a group, which no interface may carry.
        if parts.next().is_some() || octets[0] & 1 == 1 {
            return Err(fail());
        }
        Ok(Self(octets))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for MacAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().expect("a subnet")
    }

    #[test]
    fn parsing_clears_host_bits_and_names_bad_text() {
        assert_eq!(subnet("172.17.5.9/16").to_string(), "172.17.0.0/16");
        assert_eq!(subnet("fd00:1::5/64").to_string(), "fd00:1::/64");
        assert_eq!(subnet("0.0.0.0/0").last().to_string(), "255.255.255.255");
        for (text, message) in [
            ("10.0.0.0", "invalid CIDR address: 10.0.0.0"),
            ("10.0.0/8", "invalid CIDR address: 10.0.0/8"),
            ("10.0.0.0/33", "invalid CIDR address: 10.0.0.0/33: a prefix length is at most 32"),
        ] {
            assert_eq!(Subnet::from_str(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn overlap_and_containment() {
        for (one, two, overlaps, covers) in [
            ("10.0.0.0/8", "10.1.0.0/16", true, true),
            ("10.1.0.0/16", "10.0.0.0/8", true, false),
            ("10.0.0.0/24", "10.0.1.0/24", false, false),
            ("0.0.0.0/0", "::/0", false, false),
            ("fd00::/8", "fd12::/64", true, true),
        ] {
            assert_eq!(subnet(one).overlaps(&subnet(two)), overlaps, "{one} {two}");
            assert_eq!(subnet(one).covers(&subnet(two)), covers, "{one} {two}");
        }
        assert!(subnet("172.17.0.0/16").contains("172.17.255.255".parse().unwrap()));
        assert!(!subnet("172.17.0.0/16").contains("172.18.0.0".parse().unwrap()));
    }

    #[test]
    fn parts_of_a_range() {
        assert_eq!(subnet("172.16.0.0/12").part(16, 1), Some(subnet("172.17.0.0/16")));
        assert_eq!(subnet("192.168.0.0/16").part(24, 255), Some(subnet("192.168.255.0/24")));
        assert_eq!(subnet("192.168.0.0/16").part(24, 256), None);
    }

    #[test]
    fn mac_addresses() {
        let mac = MacAddress::from_ipv4(Ipv4Addr::new(172, 17, 0, 2));
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        assert_eq!("02:42:AC:11:00:02".parse(), Ok(mac));
        for bad in ["", "02:42", "03:42:ac:11:00:02", "02:42:ac:11:00:02:07", "zz:42:ac:11:00:02"] {
            assert!(bad.parse::<MacAddress>().is_err(), "{bad}");
        }
    }
}
