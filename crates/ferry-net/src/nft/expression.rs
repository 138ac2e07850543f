//! Rules as data: the nf_tables expressions ferry uses and their netlink form.

use crate::netlink::Attributes;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;

const REGISTER_VERDICT: u32 = 0;
/// First of the sixteen 4-byte registers.
const REGISTER_32: u32 = 8;

/// A 4-byte register, counted from 0. Wider values take the following ones too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Register(pub(crate) u32);

impl Register {
    fn number(self) -> u32 {
        REGISTER_32 + self.0
    }
}

/// What `meta` reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meta {
    InputName = 6,
    OutputName = 7,
    NetworkProtocol = 15,
    TransportProtocol = 16,
}

/// What `ct` reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conntrack {
    State = 0,
    Status = 2,
}

/// Where `payload` reads from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    Network = 1,
    Transport = 2,
}

/// What happens to a packet that matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(&'static str),
}

/// One step of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expression {
    Meta {
        key: Meta,
        into: Register,
    },
    /// Puts a constant into a register.
    Load {
        value: Vec<u8>,
        into: Register,
    },
    Conntrack {
        key: Conntrack,
        into: Register,
    },
    Payload {
        base: Base,
        offset: u32,
        length: u32,
        into: Register,
    },
    /// Whether the destination is an address of this host, as a route type.
    DestinationType {
        into: Register,
    },
    Compare {
        register: Register,
        equal: bool,
        value: Vec<u8>,
    },
    /// Keeps the bits of `mask` of a 4-byte value.
    Mask {
        register: Register,
        mask: u32,
    },
    Lookup {
        set: &'static str,
        key: Register,
        inverted: bool,
    },
    Map {
        map: &'static str,
        key: Register,
        into: Register,
    },
    DestinationNat {
        ipv6: bool,
        address: Register,
        port: Register,
    },
    SourceNat {
        ipv6: bool,
        address: Register,
    },
    Masquerade,
    Counter,
    Verdict(Verdict),
}

impl Expression {
    fn name(&self) -> &'static str {
        match self {
            Self::Meta { .. } => "meta",
            Self::Conntrack { .. } => "ct",
            Self::Payload { .. } => "payload",
            Self::DestinationType { .. } => "fib",
            Self::Compare { .. } => "cmp",
            Self::Mask { .. } => "bitwise",
            Self::Lookup { .. } | Self::Map { .. } => "lookup",
            Self::DestinationNat { .. } | Self::SourceNat { .. } => "nat",
            Self::Masquerade => "masq",
            Self::Counter => "counter",
            Self::Verdict(_) | Self::Load { .. } => "immediate",
        }
    }

    fn data(&self, a: &mut Attributes<'_>) {
        match self {
            Self::Meta { key, into } => load(a, *key as u32, *into),
            Self::Load { value, into } => {
                a.be32(1, into.number());
                a.nest(2, |a| a.put(NFTA_DATA_VALUE, value));
            }
            Self::Conntrack { key, into } => load(a, *key as u32, *into),
            Self::Payload { base, offset, length, into } => {
                a.be32(1, into.number());
                a.be32(2, *base as u32);
                a.be32(3, *offset);
                a.be32(4, *length);
            }
            Self::DestinationType { into } => fib_destination_type(a, *into),
            Self::Compare { register, equal, value } => {
                a.be32(1, register.number());
                a.be32(2, u32::from(!equal));
                a.nest(3, |a| a.put(NFTA_DATA_VALUE, value));
            }
            Self::Mask { register, mask } => bitwise(a, *register, *mask),
            Self::Lookup { set, key, inverted } => {
                a.string(1, set);
                a.be32(2, key.number());
                if *inverted {
                    a.be32(5, 1);
                }
            }
            Self::Map { map, key, into } => {
                a.string(1, map);
                a.be32(2, key.number());
                a.be32(3, into.number());
            }
            Self::DestinationNat { ipv6, address, port } => {
                destination_nat(a, *ipv6, *address, *port);
            }
            Self::SourceNat { ipv6, address } => source_nat(a, *ipv6, *address),
            Self::Masquerade => {}
            Self::Counter => {
                a.put(1, &0u64.to_be_bytes());
                a.put(2, &0u64.to_be_bytes());
            }
            Self::Verdict(verdict) => {
                a.be32(1, REGISTER_VERDICT);
                a.nest(2, |a| write_verdict(a, verdict));
            }
        }
    }
}

fn load(a: &mut Attributes<'_>, key: u32, into: Register) {
    a.be32(1, into.number());
    a.be32(2, key);
}

fn fib_destination_type(a: &mut Attributes<'_>, into: Register) {
    const RESULT_ADDRESS_TYPE: u32 = 3;
    const FLAG_DESTINATION: u32 = 1 << 1;
    a.be32(1, into.number());
    a.be32(2, RESULT_ADDRESS_TYPE);
    a.be32(3, FLAG_DESTINATION);
}

fn bitwise(a: &mut Attributes<'_>, register: Register, mask: u32) {
    a.be32(1, register.number());
    a.be32(2, register.number());
    a.be32(3, 4);
    a.nest(4, |a| a.put(NFTA_DATA_VALUE, &mask.to_ne_bytes()));
    a.nest(5, |a| a.put(NFTA_DATA_VALUE, &[0; 4]));
}

fn destination_nat(a: &mut Attributes<'_>, ipv6: bool, address: Register, port: Register) {
    const NAT_DESTINATION: u32 = 1;
    a.be32(1, NAT_DESTINATION);
    a.be32(2, if ipv6 { 10 } else { 2 });
    a.be32(3, address.number());
    a.be32(5, port.number());
}

fn source_nat(a: &mut Attributes<'_>, ipv6: bool, address: Register) {
    const NAT_SOURCE: u32 = 0;
    a.be32(1, NAT_SOURCE);
    a.be32(2, if ipv6 { 10 } else { 2 });
    a.be32(3, address.number());
}

fn write_verdict(a: &mut Attributes<'_>, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Return => (-5, None),
    };
    a.nest(NFTA_DATA_VERDICT, |a| {
        a.be32(NFTA_VERDICT_CODE, i32::cast_unsigned(code));
        if let Some(chain) = chain {
            a.string(NFTA_VERDICT_CHAIN, chain);
        }
    });
}

/// Writes a rule's expression list.
pub(crate) fn write_expressions(a: &mut Attributes<'_>, expressions: &[Expression]) {
    for expression in expressions {
        a.nest(NFTA_LIST_ELEM, |a| {
            a.string(NFTA_EXPR_NAME, expression.name());
            a.nest(NFTA_EXPR_DATA, |a| expression.data(a));
        });
    }
}

/// An interface name as the kernel compares it: 16 bytes, zero filled.
pub(crate) fn interface_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}
