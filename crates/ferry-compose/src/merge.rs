//! Merging: what an override file, an extending service or an including file does to what was there.
//!
//! Owns the rules by path. Both sides are canonical; `!reset` and `!override` act here.

use crate::tree::{Mapping, MergeTag, Node, Value};
use std::collections::HashMap;

/// What becomes of `!reset` and `!override` once they have acted.
#[derive(Clone, Copy, PartialEq)]
pub enum Tags {
    /// They stay, because another layer below is still to come (a service that extends one).
    Keep,
    /// They are done.
    Drop,
}

/// Lays `over` on `base`.
pub fn merge(base: Node, over: Node, tags: Tags) -> Node {
    merge_at(base, over, &mut Vec::new(), tags)
}

/// Lays one service on another, as `extends` does.
pub fn merge_service(base: Node, over: Node, tags: Tags) -> Node {
    merge_at(base, over, &mut vec!["services".to_owned(), "*".to_owned()], tags)
}

/// Takes out what `!reset` marks and forgets the tags.
pub fn strip_tags(node: &mut Node) {
    node.tag = None;
    match &mut node.value {
        Value::Mapping(mapping) => {
            mapping.retain(|_, child| child.tag != Some(MergeTag::Reset));
            mapping.values_mut().for_each(strip_tags);
        }
        Value::Sequence(items) => items.iter_mut().for_each(strip_tags),
        _ => {}
    }
}

fn merge_at(base: Node, mut over: Node, path: &mut Vec<String>, tags: Tags) -> Node {
    if over.tag == Some(MergeTag::Override) {
        if tags == Tags::Drop {
            strip_tags(&mut over);
        }
        return over;
    }
    if over.is_null() {
        return base;
    }
    let rule = rule(path);
    let (origin, key) = (over.origin, over.key);
    let value = match (base.value, over.value) {
        (Value::Mapping(base), Value::Mapping(over)) => match rule {
            Rule::Replace => Value::Mapping(over),
            Rule::Logging if drivers_differ(&base, &over) => Value::Mapping(over),
            _ => Value::Mapping(merge_mappings(base, over, path, tags)),
        },
        (Value::Sequence(base), Value::Sequence(over)) => {
            Value::Sequence(merge_sequences(base, over, rule, path, tags))
        }
        (_, over) => over,
    };
    let mut merged = Node { value, origin, key, tag: base.tag };
    if tags == Tags::Drop {
        merged.tag = None;
    }
    merged
}

fn merge_mappings(mut base: Mapping, over: Mapping, path: &mut Vec<String>, tags: Tags) -> Mapping {
    for (key, mut node) in over {
        if node.tag == Some(MergeTag::Reset) {
            match tags {
                Tags::Drop => drop(base.shift_remove(&key)),
                Tags::Keep => drop(base.insert(key, node)),
            }
            continue;
        }
        match base.get_mut(&key) {
            // What an inner layer reset is gone: nothing of it can be merged with.
            Some(slot) if slot.tag != Some(MergeTag::Reset) => {
                let below = std::mem::replace(slot, Node::derived(Value::Null));
                path.push(key);
                *slot = merge_at(below, node, path, tags);
                path.pop();
            }
            _ => {
                if tags == Tags::Drop {
                    strip_tags(&mut node);
                }
                base.insert(key, node);
            }
        }
    }
    base
}

fn merge_sequences(
    base: Vec<Node>,
    over: Vec<Node>,
    rule: Rule,
    path: &mut Vec<String>,
    tags: Tags,
) -> Vec<Node> {
    match rule {
        Rule::Replace => over,
        Rule::Append => base.into_iter().chain(over).collect(),
        Rule::MergeBy(identity) => {
            let mut merged = base;
            for item in over {
                let key = identity(&item);
                match merged.iter_mut().find(|known| key.is_some() && identity(known) == key) {
                    Some(slot) => {
                        let below = std::mem::replace(slot, Node::derived(Value::Null));
                        path.push("*".to_owned());
                        *slot = merge_at(below, item, path, tags);
                        path.pop();
                    }
                    None => merged.push(item),
                }
            }
            merged
        }
        Rule::UniqueBy(identity) => unique(base.into_iter().chain(over).collect(), identity),
        Rule::Default | Rule::Logging => unique(base.into_iter().chain(over).collect(), exact),
    }
}

/// Keeps one item per identity: the last one, at the place of the first.
fn unique(items: Vec<Node>, identity: Identity) -> Vec<Node> {
    let mut positions: HashMap<String, usize> = HashMap::new();
    let mut out: Vec<Node> = Vec::with_capacity(items.len());
    for item in items {
        match identity(&item) {
            None => out.push(item),
            Some(key) => match positions.get(&key) {
                Some(&position) => out[position] = item,
                None => {
                    positions.insert(key, out.len());
                    out.push(item);
                }
            },
        }
    }
    out
}

/// Removes double entries inside one file, in the lists where Compose does so silently.
pub fn deduplicate(root: &mut Node) {
    let services = root.get_mut("services").and_then(Node::as_mapping_mut);
    for service in services.into_iter().flat_map(|mapping| mapping.values_mut()) {
        let mut path = vec!["services".to_owned(), "*".to_owned()];
        deduplicate_at(service, &mut path);
    }
}

fn deduplicate_at(node: &mut Node, path: &mut Vec<String>) {
    match &mut node.value {
        Value::Mapping(mapping) => {
            for (key, child) in mapping {
                path.push(key.clone());
                deduplicate_at(child, path);
                path.pop();
            }
        }
        Value::Sequence(items) if items.len() > 1 => {
            if let Rule::UniqueBy(identity) = rule(path) {
                *items = unique(std::mem::take(items), identity);
            }
        }
        _ => {}
    }
}

type Identity = fn(&Node) -> Option<String>;

/// How values at a path are merged.
#[derive(Clone, Copy)]
enum Rule {
    /// Mappings deeply, lists appended without exact doubles.
    Default,
    /// The upper one wins whole.
    Replace,
    /// Appended, doubles and all.
    Append,
    /// Appended, one per identity.
    UniqueBy(Identity),
    /// Items of one identity are merged into each other.
    MergeBy(Identity),
    /// Options merge only for the same driver.
    Logging,
}

fn rule(path: &[String]) -> Rule {
    let mut names = [""; 6];
    if path.len() > names.len() {
        return Rule::Default;
    }
    for (slot, name) in names.iter_mut().zip(path) {
        *slot = name;
    }
    match &names[..path.len()] {
        ["services", _, rest @ ..] => match rest {
            ["command" | "entrypoint"] | ["healthcheck", "test"] | ["ulimits", _] => Rule::Replace,
            ["logging"] => Rule::Logging,
            ["ports"] => Rule::UniqueBy(port_identity),
            ["volumes" | "devices"] => Rule::UniqueBy(target_identity),
            ["secrets" | "configs"] | ["build", "secrets"] => Rule::UniqueBy(reference_identity),
            ["env_file"] => Rule::UniqueBy(path_identity),
            ["tmpfs"] => Rule::UniqueBy(before_colon),
            ["pre_start" | "post_start" | "pre_stop"] | ["develop", "watch"] => Rule::Append,
            [
                "cap_add" | "cap_drop" | "expose" | "links" | "profiles" | "dns" | "dns_search" | "dns_opt"
                | "label_file" | "extra_hosts",
            ]
            | ["build", "tags" | "extra_hosts"]
            | ["networks", _, "aliases" | "link_local_ips"] => Rule::UniqueBy(exact),
            [.., "command"] => Rule::Replace,
            _ => Rule::Default,
        },
        ["networks", _, "ipam", "config"] => Rule::MergeBy(subnet_identity),
        _ => Rule::Default,
    }
}

fn drivers_differ(base: &Mapping, over: &Mapping) -> bool {
    let driver = |mapping: &Mapping| mapping.get("driver").and_then(Node::as_str).map(str::to_owned);
    matches!((driver(base), driver(over)), (Some(base), Some(over)) if base != over)
}

fn exact(item: &Node) -> Option<String> {
    Some(item.to_json().to_string())
}

fn field(item: &Node, key: &str) -> String {
    item.get(key).and_then(Node::scalar_text).unwrap_or_default()
}

fn port_identity(item: &Node) -> Option<String> {
    item.as_mapping()?;
    let part = |key| field(item, key);
    Some(format!("{}:{}:{}/{}", part("host_ip"), part("published"), part("target"), part("protocol")))
}

fn target_identity(item: &Node) -> Option<String> {
    item.get("target").or_else(|| item.get("source"))?.scalar_text()
}

fn reference_identity(item: &Node) -> Option<String> {
    let source = item.get("source")?.scalar_text()?;
    Some(item.get("target").and_then(Node::scalar_text).unwrap_or(source))
}

fn path_identity(item: &Node) -> Option<String> {
    item.get("path")?.scalar_text()
}

fn before_colon(item: &Node) -> Option<String> {
    Some(item.as_str()?.split(':').next().unwrap_or_default().to_owned())
}

fn subnet_identity(item: &Node) -> Option<String> {
    item.get("subnet")?.scalar_text()
}
