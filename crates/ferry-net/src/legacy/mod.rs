//! Another program's FORWARD rules in the older packet filter, by `iptables-legacy`.
//!
//! Its tables are no nftables tables: a packet that they drop is lost whatever nftables says. Where they drop what
//! is forwarded, and only there, ferry puts a chain of its own before FORWARD's rules, as Docker does with
//! DOCKER-USER. The chain lets packets of ferry's bridges pass; what of them may really pass is still decided by
//! ferry's own nftables table. [`table`] knows what a table's bytes mean; this file brings the kernel's in step.

mod table;

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;

use ferry_sys::xtables;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use table::{IPV4, IPV6, Layout, Rules};

const TABLE: &str = "filter";
/// What all programs that change these tables lock.
const LOCK: &str = "/run/xtables.lock";
/// Longest chain name that `iptables` takes.
const LONGEST_CHAIN: usize = 28;

const FAMILIES: [(bool, &str, &Layout); 2] =
    [(false, "iptables-legacy", &IPV4), (true, "ip6tables-legacy", &IPV6)];

/// The commands that let packets to and from these bridges pass, where the older filter drops what is
/// forwarded; empty where it does not, or ferry's own chain lets them pass.
pub(crate) fn remedies(bridges: &[String]) -> Vec<String> {
    let mut remedies = Vec::new();
    for (ipv6, program, layout) in FAMILIES {
        let Some(rules) = read(ipv6, layout) else { continue };
        for bridge in bridges.iter().filter(|bridge| rules.stops(bridge)) {
            remedies.push(format!(
                "{program} -I FORWARD -o {bridge} -j ACCEPT; {program} -I FORWARD -i {bridge} -j ACCEPT"
            ));
        }
    }
    remedies
}

/// Brings the own chain, of this name, in step with the bridges there are; the tables it stands in.
pub(crate) fn sync(chain: &str, bridges: &[String]) -> Result<Vec<String>, Errno> {
    let chain = &chain[..chain.floor_char_boundary(LONGEST_CHAIN)];
    let mut edited = Vec::new();
    for (ipv6, program, layout) in FAMILIES {
        if read(ipv6, layout).is_some_and(|rules| rules.with_own_chain(chain, bridges).is_some()) {
            change(ipv6, layout, chain, bridges)?;
        }
        if read(ipv6, layout).is_some_and(|rules| rules.has_chain(chain)) {
            edited.push(format!("{program} {chain}"));
        }
    }
    Ok(edited)
}

/// Changes the table under the lock that all its editors take; "would block" where another has it just now.
fn change(ipv6: bool, layout: &'static Layout, chain: &str, bridges: &[String]) -> Result<(), Errno> {
    let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(LOCK);
    let lock = lock.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    let Some(rules) = read(ipv6, layout) else { return Ok(()) };
    let Some(wanted) = rules.with_own_chain(chain, bridges) else { return Ok(()) };
    let former = xtables::replace(ipv6, TABLE, &wanted.to_table(), rules.count())?;
    xtables::add_counters(ipv6, TABLE, &wanted.counters(&former))
}

/// The table; `None` where there is none, or none that could be understood: then nothing of it is touched.
fn read(ipv6: bool, layout: &'static Layout) -> Option<Rules> {
    exists(ipv6)
        .then(|| xtables::read(ipv6, TABLE).ok())
        .flatten()
        .and_then(|table| Rules::parse(&table, layout))
}

/// Whether the table is there: asking for it otherwise would make it.
fn exists(ipv6: bool) -> bool {
    let path =
        if ipv6 { "/proc/thread-self/net/ip6_tables_names" } else { "/proc/thread-self/net/ip_tables_names" };
    std::fs::read_to_string(path).is_ok_and(|names| names.lines().any(|name| name == TABLE))
}
