//! The rules of an older filter's table as a list, and back to the kernel's bytes.
//!
//! In the kernel's form a jump is a byte offset into the same table. Here it is an index, so that entries can be
//! put in and taken out; everything else of an entry stays the bytes that it was.

use ferry_sys::xtables::{Counters, HOOKS, Table};

const FORWARD: usize = 2;
/// What a verdict's number says, where it is no offset.
const DROP: i32 = -1;
const ACCEPT: i32 = -2;
const RETURN: i32 = -5;
const INTERFACE_BYTES: usize = 16;
const TARGET_HEADER: usize = 32;
const TARGET_NAME_BYTES: usize = 29;
/// Sizes of the two kinds of target that are in every kernel.
const STANDARD_TARGET: usize = 40;
const ERROR_TARGET: usize = 64;
const ERROR: &str = "ERROR";
/// Longer walks are loops or somebody's mistake.
const MOST_STEPS: usize = 100_000;
const DEEPEST: usize = 32;

/// Where an entry keeps what; the parts of both families are the same, at other places.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    input_interface: usize,
    output_interface: usize,
    input_mask: usize,
    output_mask: usize,
    /// Protocol, type of service and flags stand from here to `notes`.
    protocol: usize,
    /// Where the kernel notes what it likes; the conditions end here.
    notes: usize,
    target_offset: usize,
    bytes: usize,
}

pub(super) const IPV4: Layout = Layout {
    input_interface: 16,
    output_interface: 32,
    input_mask: 48,
    output_mask: 64,
    protocol: 80,
    notes: 84,
    target_offset: 88,
    bytes: 112,
};
pub(super) const IPV6: Layout = Layout {
    input_interface: 64,
    output_interface: 80,
    input_mask: 96,
    output_mask: 112,
    protocol: 128,
    notes: 136,
    target_offset: 140,
    bytes: 168,
};

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    bytes: Vec<u8>,
    jump: Option<usize>,
    /// Its place in the table that was read; `None` for a new one.
    former: Option<usize>,
}

/// What becomes of a packet that no condition meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Passes,
    Stopped,
    Returned,
}

/// A table as a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    layout: &'static Layout,
    entries: Vec<Entry>,
    valid_hooks: u32,
    /// First rule and policy of each hook that calls the table.
    hooks: [Option<(usize, usize)>; HOOKS],
}

impl Rules {
    /// Reads a table; `None` where it is not made as tables are.
    pub(super) fn parse(table: &Table, layout: &'static Layout) -> Option<Self> {
        let (mut entries, mut offsets, mut at) = (Vec::new(), Vec::new(), 0);
        while at < table.entries.len() {
            let next =
                half(&table.entries, at + layout.target_offset + 2).filter(|next| *next >= layout.bytes)?;
            let bytes = table.entries.get(at..at + next)?.to_vec();
            offsets.push(at);
            entries.push(Entry { bytes, jump: None, former: Some(entries.len()) });
            at += next;
        }
        let index = |offset: usize| offsets.binary_search(&offset).ok();
        for entry in &mut entries {
            if let Some(offset) = verdict(entry, layout).and_then(|verdict| usize::try_from(verdict).ok()) {
                entry.jump = Some(index(offset)?);
            }
        }
        let mut hooks = [None; HOOKS];
        for (number, hook) in hooks.iter_mut().enumerate() {
            if table.valid_hooks & 1 << number != 0 {
                let (first, policy) = (table.hook_entry[number], table.underflow[number]);
                *hook = Some((index(first as usize)?, index(policy as usize)?));
            }
        }
        (entries.len() == table.count as usize && hooks[FORWARD].is_some()).then_some(())?;
        Some(Self { layout, entries, valid_hooks: table.valid_hooks, hooks })
    }

    /// The kernel's form.
    pub(super) fn to_table(&self) -> Table {
        let mut offsets = Vec::with_capacity(self.entries.len());
        let mut end = 0;
        for entry in &self.entries {
            offsets.push(end);
            end += entry.bytes.len();
        }
        let offset = |index: usize| u32::try_from(offsets[index]).expect("a table is at most 64 MiB");
        let mut bytes = Vec::with_capacity(end);
        for entry in &self.entries {
            let start = bytes.len();
            bytes.extend_from_slice(&entry.bytes);
            if let (Some(jump), Some(target)) = (entry.jump, target(entry, self.layout)) {
                let verdict = start + target + TARGET_HEADER;
                bytes[verdict..verdict + 4].copy_from_slice(&offset(jump).to_ne_bytes());
            }
        }
        let places = |pick: fn((usize, usize)) -> usize| {
            self.hooks.map(|hook| hook.map_or(0, |hook| offset(pick(hook))))
        };
        Table {
            valid_hooks: self.valid_hooks,
            count: self.count(),
            hook_entry: places(|hook| hook.0),
            underflow: places(|hook| hook.1),
            entries: bytes,
        }
    }

    /// How many entries there are.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.entries.len()).expect("a table is at most 64 MiB")
    }

    /// What each entry has counted, by what those of the table that was read had.
    pub(super) fn counters(&self, former: &[Counters]) -> Vec<Counters> {
        let of =
            |entry: &Entry| entry.former.and_then(|index| former.get(index).copied()).unwrap_or_default();
        self.entries.iter().map(of).collect()
    }

    /// Whether new packets to this bridge are lost.
    pub(super) fn stops(&self, bridge: &str) -> bool {
        self.hooks[FORWARD].is_some_and(|(first, _)| self.walk(first, bridge, 0, &mut 0) == Fate::Stopped)
    }

    /// Follows a packet that meets no condition but that of going to this bridge.
    fn walk(&self, mut at: usize, bridge: &str, depth: usize, steps: &mut usize) -> Fate {
        while let Some(entry) = self.entries.get(at) {
            *steps += 1;
            if *steps > MOST_STEPS || depth > DEEPEST {
                return Fate::Passes;
            }
            at += 1;
            if !concerns(entry, self.layout, bridge) {
                continue;
            }
            let fate = match (entry.jump, verdict(entry, self.layout)) {
                // The next one is where a rule without a target goes on.
                (Some(next), _) if next == at => continue,
                (Some(chain), _) => self.walk(chain, bridge, depth + 1, steps),
                (None, Some(ACCEPT)) => Fate::Passes,
                (None, Some(DROP)) => Fate::Stopped,
                (None, Some(RETURN)) => return Fate::Returned,
                (None, _) => match target_name(entry, self.layout) {
                    Some("REJECT" | "DROP") => Fate::Stopped,
                    _ => continue,
                },
            };
            if fate != Fate::Returned {
                return fate;
            }
        }
        Fate::Returned
    }

    /// Whether there is a chain of this name.
    pub(super) fn has_chain(&self, name: &str) -> bool {
        self.head_of(name).is_some()
    }

    fn head_of(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|entry| chain_name(entry, self.layout) == Some(name))
    }

    /// The table with exactly the own chain that is needed; `None` where it is so already.
    pub(super) fn with_own_chain(&self, chain: &str, bridges: &[String]) -> Option<Self> {
        let mut bare = self.clone();
        bare.remove_chain(chain);
        let stopped: Vec<&String> = bridges.iter().filter(|bridge| bare.stops(bridge)).collect();
        if stopped.is_empty() {
            return self.has_chain(chain).then_some(bare);
        }
        bare.add_chain(chain, &stopped);
        (self.own(chain) != bare.own(chain)).then_some(bare)
    }

    /// The own chain's rules and how often FORWARD goes there. Its place among FORWARD's rules is not looked at:
    /// who puts rules before it means them.
    fn own(&self, name: &str) -> Option<(Vec<Vec<u8>>, usize)> {
        let head = self.head_of(name)?;
        let conditions = |entry: &Entry| entry.bytes[..self.layout.notes].to_vec();
        let rules = self.entries[head + 1..self.end_of(head)].iter().map(conditions).collect();
        let (first, policy) = self.hooks[FORWARD]?;
        let jumps = self.entries[first..policy].iter().filter(|entry| entry.jump == Some(head + 1));
        Some((rules, jumps.count()))
    }

    /// Where the chain with this head ends: at the next one's head, or at the table's last entry, which looks
    /// like one.
    fn end_of(&self, head: usize) -> usize {
        let after = head + 1;
        let next = self.entries[after..].iter().position(|entry| is_head(entry, self.layout));
        next.map_or(self.entries.len(), |next| after + next)
    }

    fn remove_chain(&mut self, name: &str) {
        let Some(head) = self.head_of(name) else { return };
        let chain = head..self.end_of(head);
        let gone = |index: usize, entry: &Entry| chain.contains(&index) || entry.jump == Some(head + 1);
        let stays: Vec<bool> =
            self.entries.iter().enumerate().map(|(index, entry)| !gone(index, entry)).collect();
        // Where an entry goes, the next that stays takes its place.
        let place = |index: usize| stays[..index].iter().filter(|stays| **stays).count();
        let mut kept = Vec::with_capacity(self.entries.len());
        for (entry, _) in self.entries.iter().zip(&stays).filter(|(_, stays)| **stays) {
            kept.push(Entry { jump: entry.jump.map(place), ..entry.clone() });
        }
        self.hooks = self.hooks.map(|hook| hook.map(|(first, policy)| (place(first), place(policy))));
        self.entries = kept;
    }

    fn add_chain(&mut self, name: &str, bridges: &[&String]) {
        let Some((first, _)) = self.hooks[FORWARD] else { return };
        let mut end = self.entries.len() - 1;
        let rule = |input: &str, output: &str, verdict| Entry {
            bytes: rule(self.layout, input, output, verdict),
            jump: None,
            former: None,
        };
        let mut chain = vec![Entry { bytes: head(self.layout, name), jump: None, former: None }];
        for bridge in bridges {
            chain.push(rule(bridge, "", ACCEPT));
            chain.push(rule("", bridge, ACCEPT));
        }
        chain.push(rule("", "", RETURN));
        let mut jump = rule("", "", 0);
        self.insert(first, &[jump.clone()]);
        end += 1;
        self.insert(end, &chain);
        jump.jump = Some(end + 1);
        self.entries[first] = jump;
        if let Some(hook) = &mut self.hooks[FORWARD] {
            hook.0 = first;
        }
    }

    fn insert(&mut self, at: usize, new: &[Entry]) {
        let moved = |index: usize| if index >= at { index + new.len() } else { index };
        for entry in &mut self.entries {
            entry.jump = entry.jump.map(moved);
        }
        self.hooks = self.hooks.map(|hook| hook.map(|(first, policy)| (moved(first), moved(policy))));
        self.entries.splice(at..at, new.iter().cloned());
    }
}

/// A rule with no condition but interfaces, and a verdict.
fn rule(layout: &Layout, input: &str, output: &str, verdict: i32) -> Vec<u8> {
    let mut bytes = entry(layout, STANDARD_TARGET, "");
    for (name, place, mask) in [
        (input, layout.input_interface, layout.input_mask),
        (output, layout.output_interface, layout.output_mask),
    ] {
        if !name.is_empty() {
            bytes[place..place + name.len()].copy_from_slice(name.as_bytes());
            // With the closing zero: the whole name, and not what begins so.
            bytes[mask..=mask + name.len()].fill(0xff);
        }
    }
    let at = layout.bytes + TARGET_HEADER;
    bytes[at..at + 4].copy_from_slice(&verdict.to_ne_bytes());
    bytes
}

/// What a chain begins with.
fn head(layout: &Layout, name: &str) -> Vec<u8> {
    let mut bytes = entry(layout, ERROR_TARGET, ERROR);
    let at = layout.bytes + TARGET_HEADER;
    bytes[at..at + name.len()].copy_from_slice(name.as_bytes());
    bytes
}

fn entry(layout: &Layout, target_size: usize, target_name: &str) -> Vec<u8> {
    let mut bytes = vec![0; layout.bytes + target_size];
    let mut put = |at: usize, number: usize| {
        let number = u16::try_from(number).expect("entries made here are small");
        bytes[at..at + 2].copy_from_slice(&number.to_ne_bytes());
    };
    put(layout.target_offset, layout.bytes);
    put(layout.target_offset + 2, layout.bytes + target_size);
    put(layout.bytes, target_size);
    let at = layout.bytes + 2;
    bytes[at..at + target_name.len()].copy_from_slice(target_name.as_bytes());
    bytes
}

fn target(entry: &Entry, layout: &Layout) -> Option<usize> {
    half(&entry.bytes, layout.target_offset)
}

fn target_name<'a>(entry: &'a Entry, layout: &Layout) -> Option<&'a str> {
    let at = target(entry, layout)? + 2;
    text(entry.bytes.get(at..at + TARGET_NAME_BYTES)?)
}

/// The number of a target without a name: a verdict, or where to jump.
fn verdict(entry: &Entry, layout: &Layout) -> Option<i32> {
    if !target_name(entry, layout)?.is_empty() {
        return None;
    }
    let at = target(entry, layout)? + TARGET_HEADER;
    let number = entry.bytes.get(at..at + 4)?;
    Some(i32::from_ne_bytes([number[0], number[1], number[2], number[3]]))
}

fn is_head(entry: &Entry, layout: &Layout) -> bool {
    target_name(entry, layout) == Some(ERROR)
}

fn chain_name<'a>(entry: &'a Entry, layout: &Layout) -> Option<&'a str> {
    let at = target(entry, layout)? + TARGET_HEADER;
    text(entry.bytes.get(at..)?).filter(|_| is_head(entry, layout))
}

/// Whether a rule is about every packet, or every packet to this bridge.
fn concerns(entry: &Entry, layout: &Layout, bridge: &str) -> bool {
    if target(entry, layout) != Some(layout.bytes) {
        // It has further conditions.
        return false;
    }
    let zero = |from: usize, to: usize| entry.bytes[from..to].iter().all(|byte| *byte == 0);
    let name = &entry.bytes[layout.output_interface..layout.output_interface + INTERFACE_BYTES];
    let to_bridge = text(name).is_some_and(|name| name.is_empty() || name == bridge);
    zero(0, layout.output_interface)
        && zero(layout.input_mask, layout.output_mask)
        && zero(layout.protocol, layout.notes)
        && to_bridge
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes.split(|byte| *byte == 0).next()?).ok()
}

fn half(entries: &[u8], at: usize) -> Option<usize> {
    let bytes = entries.get(at..at + 2)?;
    Some(usize::from(u16::from_ne_bytes([bytes[0], bytes[1]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of FORWARD alone, the last of the rules being its policy, and of chains behind it.
    fn table(layout: &'static Layout, rules: &[Vec<u8>], behind: &[Vec<u8>]) -> Table {
        let mut entries = rules.concat();
        let policy = entries.len() - rules.last().unwrap().len();
        entries.extend(behind.concat());
        entries.extend(head(layout, ERROR));
        let policy = u32::try_from(policy).unwrap();
        let count = u32::try_from(rules.len() + behind.len() + 1).unwrap();
        Table {
            valid_hooks: 1 << FORWARD,
            count,
            hook_entry: [0; HOOKS],
            underflow: [0, 0, policy, 0, 0],
            entries,
        }
    }

    fn rejecting(layout: &Layout) -> Vec<u8> {
        entry(layout, STANDARD_TARGET, "REJECT")
    }

    #[test]
    fn what_stops_packets_to_a_bridge() {
        for layout in [&IPV4, &IPV6] {
            let rule = |input, output, verdict| rule(layout, input, output, verdict);
            let drop = rule("", "", DROP);
            let accept = rule("", "", ACCEPT);
            let mut of_one_protocol = accept.clone();
            of_one_protocol[layout.protocol] = 6;
            for (rules, stopped) in [
                (vec![accept.clone()], false),
                (vec![drop.clone()], true),
                (vec![rule("", "br0", ACCEPT), drop.clone()], false),
                (vec![rule("", "br1", ACCEPT), drop.clone()], true),
                (vec![rule("br0", "", ACCEPT), drop.clone()], true),
                (vec![of_one_protocol, drop.clone()], true),
                (vec![accept.clone(), drop.clone()], false),
                (vec![rejecting(layout), accept.clone()], true),
                (vec![rule("", "br1", DROP), accept.clone()], false),
                (vec![rule("", "", RETURN), accept.clone()], false),
            ] {
                let rules = Rules::parse(&table(layout, &rules, &[]), layout).unwrap();
                assert_eq!(rules.stops("br0"), stopped, "{rules:?}");
            }
        }
    }

    #[test]
    fn chains_are_followed() {
        let layout = &IPV4;
        let drop = rule(layout, "", "", DROP);
        let jump = |to: usize| rule(layout, "", "", i32::try_from(to).unwrap());
        // FORWARD: jump, policy accept; a chain that drops.
        let chain = STANDARD_TARGET * 2 + layout.bytes * 2 + layout.bytes + ERROR_TARGET;
        let rules = [jump(chain), rule(layout, "", "", ACCEPT)];
        let found = table(layout, &rules, &[head(layout, "other"), drop, rule(layout, "", "", RETURN)]);
        let rules = Rules::parse(&found, layout).unwrap();
        assert!(rules.stops("br0"));
        assert_eq!(rules.to_table(), found, "there and back");
    }

    #[test]
    fn the_own_chain_comes_and_goes() {
        for layout in [&IPV4, &IPV6] {
            let found = table(layout, &[rejecting(layout), rule(layout, "", "", DROP)], &[]);
            let before = Rules::parse(&found, layout).unwrap();
            let bridges = ["br0".to_owned(), "br1".to_owned()];
            let after = before.with_own_chain("ferry-1", &bridges).expect("a chain is needed");
            let after = Rules::parse(&after.to_table(), layout).expect("a good table");
            assert!(after.has_chain("ferry-1") && !after.stops("br0") && !after.stops("br1"));
            assert!(after.stops("br2"), "others as before");
            assert_eq!(after.with_own_chain("ferry-1", &bridges), None, "nothing is left to do");
            let fewer = after.with_own_chain("ferry-1", &bridges[..1]).expect("one less");
            assert!(!fewer.stops("br0") && fewer.stops("br1"));
            let two = after.with_own_chain("ferry-2", &["br9".to_owned()]).expect("another engine's");
            assert!(two.has_chain("ferry-1") && two.has_chain("ferry-2") && !two.stops("br9"));
            let none = after.with_own_chain("ferry-1", &[]).expect("it goes");
            assert_eq!(none.to_table(), found, "as it was");
        }
    }

    #[test]
    fn counters_stay_with_their_rules() {
        let found = table(&IPV4, &[rejecting(&IPV4), rule(&IPV4, "", "", DROP)], &[]);
        let rules = Rules::parse(&found, &IPV4).unwrap();
        let after = rules.with_own_chain("own", &["br0".to_owned()]).unwrap();
        let counted = after.counters(&[[1, 10], [2, 20], [3, 30]]);
        assert_eq!(counted, [[0, 0], [1, 10], [2, 20], [0, 0], [0, 0], [0, 0], [0, 0], [3, 30]]);
    }

    #[test]
    fn tables_that_make_no_sense_are_left_alone() {
        let good = table(&IPV4, &[rule(&IPV4, "", "", DROP)], &[]);
        for cut in 1..good.entries.len() {
            let cut = Table { entries: good.entries[..cut].to_vec(), ..good.clone() };
            assert_eq!(Rules::parse(&cut, &IPV4), None);
        }
        let elsewhere = Table { hook_entry: [0, 0, 8, 0, 0], ..good.clone() };
        assert_eq!(Rules::parse(&elsewhere, &IPV4), None);
        let lost = table(&IPV4, &[rule(&IPV4, "", "", 4), rule(&IPV4, "", "", DROP)], &[]);
        assert_eq!(Rules::parse(&lost, &IPV4), None);
    }
}
