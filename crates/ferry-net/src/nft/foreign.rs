//! Other programs that drop forwarded packets: Docker, ufw, firewalld.
//!
//! A packet must pass every base chain of a hook, so an accept in ferry's own
//! table does not help where another table drops. There, and only there, ferry
//! puts two tagged accept rules per bridge first in their chain; what may really
//! pass is still decided by ferry's own table.

use rustix::io::Errno;

use crate::netlink::{Batch, Connection, NetlinkError, attributes, flags, string};

use super::expression::{Expression, Meta, Register, Verdict, interface_name};
use super::message::{
    GET_CHAIN, GET_GENERATION, GET_RULE, SUBSYSTEM, TableFamily, Transaction, header, hook,
};

/// Another program may change the ruleset between look and edit; this often the
/// edit is tried anew before giving up.
const ATTEMPTS: usize = 5;
/// firewalld's chain ends in a reject rule instead of a policy.
const FIREWALLD_TABLE: &str = "firewalld";
/// Docker calls this chain before its own and never empties it.
const DOCKER_USER_CHAIN: &str = "DOCKER-USER";

/// A chain that forwarded packets do not survive by default.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Obstacle {
    family: TableFamily,
    table: String,
    chain: String,
}

/// Brings the tagged rules in other programs' chains to exactly two per bridge;
/// the chains that hold them, for people to see.
pub(crate) fn sync(
    connection: &mut Connection,
    tag: &str,
    bridges: &[String],
) -> Result<Vec<String>, NetlinkError> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match sync_once(connection, tag, bridges) {
            Err(error) if error.errno == Errno::from_raw_os_error(ERESTART) => last = Some(error),
            result => return result,
        }
    }
    Err(last.expect("at least one attempt was made"))
}

/// The kernel's answer to a transaction over an outdated generation.
const ERESTART: i32 = 85;

fn sync_once(
    connection: &mut Connection,
    tag: &str,
    bridges: &[String],
) -> Result<Vec<String>, NetlinkError> {
    let generation = generation(connection)?;
    let mut edited = Vec::new();
    for obstacle in obstacles(connection, tag, bridges.is_empty())? {
        let found = tagged_rules(connection, &obstacle, tag)?;
        let wanted: Vec<_> = bridges.iter().flat_map(|bridge| rules_for(tag, bridge)).collect();
        let mut transaction = Transaction::begin(obstacle.family, &obstacle.table, Some(generation));
        let mut changes = 0;
        for (comment, handle) in &found {
            if !wanted.iter().any(|(wanted, _)| wanted == comment) {
                transaction.delete_rule(&obstacle.chain, *handle);
                changes += 1;
            }
        }
        for (comment, rule) in &wanted {
            if !found.iter().any(|(found, _)| found == comment) {
                transaction.add_rule(&obstacle.chain, rule, Some(comment), true);
                changes += 1;
            }
        }
        if changes > 0 {
            connection.execute(&transaction.finish())?;
        }
        edited.push(format!("{} {}", obstacle.table, obstacle.chain));
        if changes > 0 {
            // Each commit is a new generation, so the rest is looked at anew.
            return sync(connection, tag, bridges);
        }
    }
    Ok(edited)
}

fn rules_for(tag: &str, bridge: &str) -> [(String, Vec<Expression>); 2] {
    let rule = |key| {
        vec![
            Expression::Meta { key, into: Register(0) },
            Expression::Compare { register: Register(0), equal: true, value: interface_name(bridge) },
            Expression::Counter,
            Expression::Verdict(Verdict::Accept),
        ]
    };
    [
        (format!("{tag} from {bridge}"), rule(Meta::InputName)),
        (format!("{tag} to {bridge}"), rule(Meta::OutputName)),
    ]
}

fn generation(connection: &mut Connection) -> Result<u32, NetlinkError> {
    let mut batch = Batch::new();
    let kind = SUBSYSTEM | GET_GENERATION;
    batch.message("read the ruleset's generation", kind, flags::ACK, &header(0, 0), |_| {});
    let mut generation = 0;
    connection.dump(&batch, |_, payload| {
        let found = payload.get(4..).and_then(|rest| attributes(rest).find(|a| a.kind == 1)?.be32());
        generation = found.unwrap_or(generation);
    })?;
    Ok(generation)
}

/// A chain as the kernel lists it.
#[derive(Clone, Debug, Default)]
struct Chain {
    family: u8,
    table: String,
    name: String,
    hook: Option<u32>,
    policy: Option<u32>,
    kind: String,
}

fn obstacles(
    connection: &mut Connection,
    own_table: &str,
    clearing: bool,
) -> Result<Vec<Obstacle>, NetlinkError> {
    let chains = list_chains(connection)?;
    // Where nothing is wanted any more, rules of a policy that has since become
    // "accept" are looked for as well.
    let drops = |chain: &Chain| clearing || chain.policy == Some(0) || chain.table == FIREWALLD_TABLE;
    let blocking = chains.iter().filter(|chain| {
        chain.hook == Some(hook::FORWARD)
            && chain.kind == "filter"
            && chain.table != own_table
            && drops(chain)
    });
    Ok(blocking
        .filter_map(|chain| {
            let family = match chain.family {
                1 => TableFamily::Inet,
                2 => TableFamily::Ipv4,
                10 => TableFamily::Ipv6,
                _ => return None,
            };
            let has_docker_user = chains.iter().any(|other| {
                other.family == chain.family && other.table == chain.table && other.name == DOCKER_USER_CHAIN
            });
            let name = if has_docker_user { DOCKER_USER_CHAIN } else { &chain.name };
            Some(Obstacle { family, table: chain.table.clone(), chain: name.to_owned() })
        })
        .collect())
}

fn list_chains(connection: &mut Connection) -> Result<Vec<Chain>, NetlinkError> {
    let mut batch = Batch::new();
    batch.message("list the nftables chains", SUBSYSTEM | GET_CHAIN, flags::DUMP, &header(0, 0), |_| {});
    let mut chains = Vec::new();
    connection.dump(&batch, |_, payload| chains.extend(parse_chain(payload)))?;
    Ok(chains)
}

fn parse_chain(payload: &[u8]) -> Option<Chain> {
    let mut chain = Chain { family: *payload.first()?, ..Chain::default() };
    for attribute in attributes(payload.get(4..)?) {
        match attribute.kind {
            1 => chain.table = string(attribute.payload),
            3 => chain.name = string(attribute.payload),
            4 => chain.hook = attributes(attribute.payload).find(|a| a.kind == 1)?.be32(),
            5 => chain.policy = attribute.be32(),
            7 => chain.kind = string(attribute.payload),
            _ => {}
        }
    }
    Some(chain)
}

/// Comment and handle of ferry's rules in a chain.
fn tagged_rules(
    connection: &mut Connection,
    obstacle: &Obstacle,
    tag: &str,
) -> Result<Vec<(String, u64)>, NetlinkError> {
    let mut batch = Batch::new();
    let kind = SUBSYSTEM | GET_RULE;
    let label = format!("list the rules of {} {}", obstacle.table, obstacle.chain);
    batch.message(label, kind, flags::DUMP, &header(obstacle.family as u8, 0), |a| {
        a.string(1, &obstacle.table);
        a.string(2, &obstacle.chain);
    });
    let mut rules = Vec::new();
    connection.dump(&batch, |_, payload| rules.extend(parse_tagged(payload, tag)))?;
    Ok(rules)
}

fn parse_tagged(payload: &[u8], tag: &str) -> Option<(String, u64)> {
    let (mut handle, mut comment) = (None, None);
    for attribute in attributes(payload.get(4..)?) {
        match attribute.kind {
            3 => handle = Some(u64::from_be_bytes(attribute.payload.try_into().ok()?)),
            7 => comment = attribute.payload.get(2..).map(string),
            _ => {}
        }
    }
    let comment = comment.filter(|comment| comment.starts_with(tag))?;
    Some((comment, handle?))
}
