//! Another program's FORWARD policy in the older packet filter, by `iptables-legacy`.
//!
//! Its tables are no nftables tables: no rule of ours can stand in them, and a packet that they drop is lost
//! whatever nftables says. So it is found out and said, with the command that helps.

use ferry_sys::xtables::{self, Table};

const TABLE: &str = "filter";
const FORWARD: usize = 2;
/// What a verdict's number says of drop and accept.
const DROP: i32 = -1;
const ACCEPT: i32 = -2;
const INTERFACE_BYTES: usize = 16;

/// Where an entry keeps what; the parts of both families are the same, at other places.
struct Layout {
    output_interface: usize,
    protocol: usize,
    target_offset: usize,
    bytes: usize,
}

const IPV4: Layout = Layout { output_interface: 32, protocol: 80, target_offset: 88, bytes: 112 };
const IPV6: Layout = Layout { output_interface: 80, protocol: 128, target_offset: 140, bytes: 168 };

/// The commands that let packets to and from these bridges pass, where the older filter drops what is
/// forwarded; empty where it does not.
pub(crate) fn remedies(bridges: &[String]) -> Vec<String> {
    let mut remedies = Vec::new();
    for (ipv6, program) in [(false, "iptables-legacy"), (true, "ip6tables-legacy")] {
        if !exists(ipv6) {
            continue;
        }
        // A table that vanishes or cannot be read now drops nothing we could name.
        let Ok(table) = xtables::read(ipv6, TABLE) else { continue };
        for bridge in bridges.iter().filter(|bridge| drops(&table, ipv6, bridge)) {
            remedies.push(format!(
                "{program} -I FORWARD -o {bridge} -j ACCEPT; {program} -I FORWARD -i {bridge} -j ACCEPT"
            ));
        }
    }
    remedies
}

/// Whether the table is there: asking for it otherwise would make it.
fn exists(ipv6: bool) -> bool {
    let path =
        if ipv6 { "/proc/thread-self/net/ip6_tables_names" } else { "/proc/thread-self/net/ip_tables_names" };
    std::fs::read_to_string(path).is_ok_and(|names| names.lines().any(|name| name == TABLE))
}

/// Whether a new packet to this bridge ends at a policy of drop.
fn drops(table: &Table, ipv6: bool, bridge: &str) -> bool {
    let layout = if ipv6 { IPV6 } else { IPV4 };
    let (start, end) = (table.hook_entry[FORWARD] as usize, table.underflow[FORWARD] as usize);
    if verdict(&table.entries, end, &layout) != Some(DROP) {
        return false;
    }
    let mut at = start;
    while at < end {
        let Some(next) = half(&table.entries, at + layout.target_offset + 2).filter(|next| *next > 0) else {
            return true;
        };
        let accepts = verdict(&table.entries, at, &layout) == Some(ACCEPT);
        if accepts
            && output_interface(&table.entries, at, &layout)
                .is_some_and(|name| name.is_empty() || name == bridge)
        {
            return false;
        }
        at += next;
    }
    true
}

/// The verdict of a rule without further conditions; rules with some tell nothing of every packet.
fn verdict(entries: &[u8], at: usize, layout: &Layout) -> Option<i32> {
    let target = half(entries, at + layout.target_offset)?;
    if target != layout.bytes {
        return None;
    }
    const TARGET_HEADER: usize = 32;
    let name = entries.get(at + target + 2)?;
    let number = entries.get(at + target + TARGET_HEADER..at + target + TARGET_HEADER + 4)?;
    (*name == 0).then(|| i32::from_ne_bytes([number[0], number[1], number[2], number[3]]))
}

fn output_interface<'a>(entries: &'a [u8], at: usize, layout: &Layout) -> Option<&'a str> {
    let start = at + layout.output_interface;
    // Addresses and the input interface come first: a rule that names any is not about every packet.
    // So is one for a single protocol.
    let specific =
        entries.get(at..start)?.iter().chain(entries.get(at + layout.protocol..at + layout.protocol + 2)?);
    if specific.copied().any(|byte| byte != 0) {
        return None;
    }
    let name = entries.get(start..start + INTERFACE_BYTES)?;
    std::str::from_utf8(name.split(|byte| *byte == 0).next()?).ok()
}

fn half(entries: &[u8], at: usize) -> Option<usize> {
    let bytes = entries.get(at..at + 2)?;
    Some(usize::from(u16::from_ne_bytes([bytes[0], bytes[1]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(output: &str, input: &str, verdict: i32) -> Vec<u8> {
        let mut entry = vec![0; IPV4.bytes + 40];
        entry[16..16 + input.len()].copy_from_slice(input.as_bytes());
        entry[32..32 + output.len()].copy_from_slice(output.as_bytes());
        entry[88..90].copy_from_slice(&112u16.to_ne_bytes());
        entry[90..92].copy_from_slice(&152u16.to_ne_bytes());
        entry[112..114].copy_from_slice(&40u16.to_ne_bytes());
        entry[144..148].copy_from_slice(&verdict.to_ne_bytes());
        entry
    }

    fn table(rules: &[Vec<u8>]) -> Table {
        let end = u32::try_from((rules.len() - 1) * 152).unwrap();
        Table { hook_entry: [0; 5], underflow: [0, 0, end, 0, 0], entries: rules.concat() }
    }

    #[test]
    fn a_policy_and_what_stands_before_it() {
        let policy = entry("", "", DROP);
        for (rules, dropped) in [
            (vec![entry("", "", ACCEPT)], false),
            (vec![policy.clone()], true),
            (vec![entry("br0", "", ACCEPT), policy.clone()], false),
            (vec![entry("br1", "", ACCEPT), policy.clone()], true),
            (vec![entry("", "br0", ACCEPT), policy.clone()], true),
            (vec![entry("", "", ACCEPT), policy], false),
        ] {
            assert_eq!(drops(&table(&rules), false, "br0"), dropped);
        }
    }
}
