//! nf_tables objects as netlink messages: tables, chains, rules, sets, elements.

use crate::netlink::{Attributes, Batch, flags};

use super::expression::{Expression, write_expressions};

pub(crate) const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

pub(crate) const NEW_TABLE: u16 = 0;
pub(crate) const DELETE_TABLE: u16 = 2;
pub(crate) const NEW_CHAIN: u16 = 3;
pub(crate) const GET_CHAIN: u16 = 4;
pub(crate) const NEW_RULE: u16 = 6;
pub(crate) const GET_RULE: u16 = 7;
pub(crate) const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
pub(crate) const NEW_ELEMENTS: u16 = 12;
pub(crate) const DELETE_ELEMENTS: u16 = 14;
pub(crate) const NEW_GENERATION: u16 = 15;
pub(crate) const GET_GENERATION: u16 = 16;

/// Elements per message: 64 KiB is the most one attribute list can hold and an
/// element takes at most about 90 bytes.
const ELEMENTS_PER_MESSAGE: usize = 500;

/// Protocol family of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableFamily {
    Inet = 1,
    Ipv4 = 2,
    Ipv6 = 10,
}

/// The 4-byte header behind netlink's own; `resource` is big-endian on the wire.
pub(crate) fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// A hook a chain is called from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    pub(crate) kind: &'static str,
    pub(crate) number: u32,
    pub(crate) priority: i32,
}

/// Hook numbers of the inet families.
pub(crate) mod hook {
    pub(crate) const PREROUTING: u32 = 0;
    pub(crate) const FORWARD: u32 = 2;
    pub(crate) const OUTPUT: u32 = 3;
    pub(crate) const POSTROUTING: u32 = 4;
}

/// What a part of a set's key or data is, with nft's own numbers so that
/// `nft list` prints it well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Ipv4 = 7,
    Ipv6 = 8,
    Protocol = 12,
    Port = 13,
    InterfaceName = 41,
}

impl Type {
    fn length(self) -> u32 {
        match self {
            Self::Ipv4 => 4,
            Self::Ipv6 | Self::InterfaceName => 16,
            Self::Protocol => 1,
            Self::Port => 2,
        }
    }
}

/// A set or, with data, a map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) key: &'static [Type],
    pub(crate) data: &'static [Type],
    pub(crate) interval: bool,
}

/// One member of a set; `end` is the inclusive end of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) key: Vec<u8>,
    pub(crate) end: Option<Vec<u8>>,
    pub(crate) data: Vec<u8>,
}

/// A transaction of nf_tables changes: all of it happens or nothing.
#[derive(Debug)]
pub(crate) struct Transaction {
    batch: Batch,
    family: TableFamily,
    table: String,
    set_number: u32,
}

impl Transaction {
    /// Starts one; with a `generation` it is refused when the ruleset changed since.
    pub(crate) fn begin(family: TableFamily, table: &str, generation: Option<u32>) -> Self {
        const ATTRIBUTE_GENERATION: u16 = 1;
        const NFTABLES: u16 = 10;
        let mut batch = Batch::new();
        batch.message("begin a ruleset change", BATCH_BEGIN, 0, &header(0, NFTABLES), |a| {
            if let Some(generation) = generation {
                a.be32(ATTRIBUTE_GENERATION, generation);
            }
        });
        Self { batch, family, table: table.to_owned(), set_number: 0 }
    }

    /// The finished batch.
    pub(crate) fn finish(mut self) -> Batch {
        self.batch.acknowledge_last();
        self.batch.message("end a ruleset change", BATCH_END, 0, &header(0, 10), |_| {});
        self.batch
    }

    fn message(&mut self, label: String, kind: u16, flags: u16, body: impl FnOnce(&mut Attributes<'_>)) {
        let table = self.table.clone();
        let header = header(self.family as u8, 0);
        self.batch.message(label, SUBSYSTEM | kind, flags, &header, |a| {
            a.string(1, &table);
            body(a);
        });
    }

    pub(crate) fn add_table(&mut self) {
        let label = format!("add the nftables table {}", self.table);
        self.message(label, NEW_TABLE, flags::CREATE, |_| {});
    }

    pub(crate) fn delete_table(&mut self) {
        let label = format!("delete the nftables table {}", self.table);
        self.message(label, DELETE_TABLE, 0, |_| {});
    }

    pub(crate) fn add_chain(&mut self, name: &str, hook: Option<Hook>) {
        const NFTA_CHAIN_NAME: u16 = 3;
        const NFTA_CHAIN_HOOK: u16 = 4;
        const NFTA_CHAIN_TYPE: u16 = 7;
        let label = format!("add the nftables chain {name}");
        self.message(label, NEW_CHAIN, flags::CREATE, |a| {
            a.string(NFTA_CHAIN_NAME, name);
            if let Some(hook) = hook {
                a.nest(NFTA_CHAIN_HOOK, |a| {
                    a.be32(1, hook.number);
                    a.be32(2, hook.priority.cast_unsigned());
                });
                a.string(NFTA_CHAIN_TYPE, hook.kind);
            }
        });
    }

    /// Adds a rule at the end of a chain, or `first` at its beginning.
    pub(crate) fn add_rule(&mut self, chain: &str, rule: &[Expression], comment: Option<&str>, first: bool) {
        let place = if first { 0 } else { flags::APPEND };
        let label = format!("add a rule to the nftables chain {chain}");
        self.message(label, NEW_RULE, flags::CREATE | place, |a| {
            a.string(2, chain);
            a.nest(4, |a| write_expressions(a, rule));
            if let Some(comment) = comment {
                a.put(7, &comment_data(comment));
            }
        });
    }

    pub(crate) fn delete_rule(&mut self, chain: &str, handle: u64) {
        let label = format!("delete a rule of the nftables chain {chain}");
        self.message(label, DELETE_RULE, 0, |a| {
            a.string(2, chain);
            a.put(3, &handle.to_be_bytes());
        });
    }

    pub(crate) fn add_set(&mut self, set: &Set) {
        self.set_number += 1;
        let number = self.set_number;
        let label = format!("add the nftables set {}", set.name);
        self.message(label, NEW_SET, flags::CREATE, |a| {
            a.string(2, set.name);
            a.be32(3, set_flags(set));
            a.be32(4, type_number(set.key));
            a.be32(5, width(set.key));
            if !set.data.is_empty() {
                a.be32(6, type_number(set.data));
                a.be32(7, width(set.data));
            }
            if set.interval && set.key.len() > 1 {
                describe_fields(a, set.key);
            }
            a.be32(10, number);
            a.put(13, &byte_order_data(set.key));
        });
    }

    pub(crate) fn add_elements(&mut self, set: &Set, elements: &[Element]) {
        self.elements("add elements to", NEW_ELEMENTS, flags::CREATE, set, elements);
    }

    pub(crate) fn delete_elements(&mut self, set: &Set, elements: &[Element]) {
        self.elements("delete elements of", DELETE_ELEMENTS, 0, set, elements);
    }

    fn elements(&mut self, verb: &str, kind: u16, flags: u16, set: &Set, elements: &[Element]) {
        const NFTA_ELEMENT_LIST: u16 = 3;
        for chunk in elements.chunks(ELEMENTS_PER_MESSAGE) {
            let label = format!("{verb} the nftables set {}", set.name);
            self.message(label, kind, flags, |a| {
                a.string(2, set.name);
                a.nest(NFTA_ELEMENT_LIST, |a| chunk.iter().for_each(|one| write_element(a, set, one)));
            });
        }
    }
}

fn set_flags(set: &Set) -> u32 {
    const INTERVAL: u32 = 0x4;
    const MAP: u32 = 0x8;
    const CONCATENATION: u32 = 0x80;
    let interval = if set.interval { INTERVAL } else { 0 };
    let map = if set.data.is_empty() { 0 } else { MAP };
    // The flag selects the ranged-concatenation backend; without ranges a hash serves.
    let concatenation = if set.interval && set.key.len() > 1 { CONCATENATION } else { 0 };
    interval | map | concatenation
}

/// nft packs the types of a concatenation into one number, six bits each.
fn type_number(types: &[Type]) -> u32 {
    types.iter().fold(0, |number, part| number << 6 | *part as u32)
}

/// Every part of a concatenation is padded to a register.
fn width(types: &[Type]) -> u32 {
    match types {
        [one] => one.length(),
        many => many.iter().map(|part| part.length().next_multiple_of(4)).sum(),
    }
}

fn describe_fields(a: &mut Attributes<'_>, key: &[Type]) {
    const NFTA_SET_DESC: u16 = 9;
    const NFTA_SET_DESC_CONCAT: u16 = 2;
    a.nest(NFTA_SET_DESC, |a| {
        a.nest(NFTA_SET_DESC_CONCAT, |a| {
            for part in key {
                a.nest(1, |a| a.be32(1, part.length()));
            }
        });
    });
}

/// nft's note to itself on how to print keys: names as the host orders them, all else big-endian.
fn byte_order_data(key: &[Type]) -> [u8; 6] {
    const KEY_BYTE_ORDER: u8 = 0;
    const HOST_ENDIAN: u32 = 1;
    const BIG_ENDIAN: u32 = 2;
    let order = if key == [Type::InterfaceName] { HOST_ENDIAN } else { BIG_ENDIAN };
    let [a, b, c, d] = order.to_ne_bytes();
    [KEY_BYTE_ORDER, 4, a, b, c, d]
}

/// A rule's comment as nft and iptables store it.
fn comment_data(comment: &str) -> Vec<u8> {
    const RULE_COMMENT: u8 = 0;
    /// One length byte, of which nft uses half the range.
    const LONGEST: usize = 127;
    let text = &comment.as_bytes()[..comment.len().min(LONGEST)];
    let mut data = vec![RULE_COMMENT, text.len() as u8 + 1];
    data.extend_from_slice(text);
    data.push(0);
    data
}

fn write_element(a: &mut Attributes<'_>, set: &Set, element: &Element) {
    const KEY: u16 = 1;
    const DATA: u16 = 2;
    const FLAGS: u16 = 3;
    const KEY_END: u16 = 10;
    const INTERVAL_END: u32 = 1;
    const VALUE: u16 = 1;
    a.nest(1, |a| {
        a.nest(KEY, |a| a.put(VALUE, &element.key));
        if !element.data.is_empty() {
            a.nest(DATA, |a| a.put(VALUE, &element.data));
        }
        if let Some(end) = element.end.as_ref().filter(|_| set.key.len() > 1) {
            a.nest(KEY_END, |a| a.put(VALUE, end));
        }
    });
    // A range over a plain key is two elements, the second the first address behind it.
    if let Some(after) = element.end.as_ref().filter(|_| set.key.len() == 1).and_then(|end| successor(end)) {
        a.nest(1, |a| {
            a.be32(FLAGS, INTERVAL_END);
            a.nest(KEY, |a| a.put(VALUE, &after));
        });
    }
}

/// The next number of a big-endian key; `None` behind the highest.
fn successor(key: &[u8]) -> Option<Vec<u8>> {
    let mut next = key.to_vec();
    for byte in next.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(next);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_numbers_and_widths_are_nfts() {
        let key = &[Type::Ipv4, Type::Protocol, Type::Port];
        assert_eq!((type_number(key), width(key)), (7 << 12 | 12 << 6 | 13, 12));
        assert_eq!((type_number(&[Type::Port]), width(&[Type::Port])), (13, 2));
    }

    #[test]
    fn the_successor_of_a_key() {
        assert_eq!(successor(&[10, 0, 0, 255]), Some(vec![10, 0, 1, 0]));
        assert_eq!(successor(&[255, 255]), None);
    }
}
