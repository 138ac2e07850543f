//! Lists and maps that Compose accepts in both shapes, and the texts inside them.

use crate::tree::{Mapping, Node, Value};

/// What a key without `=` in a list of assignments means.
#[derive(Clone, Copy, PartialEq)]
pub enum BareKey {
    /// Taken from the environment later.
    Null,
    /// An empty value.
    Empty,
}

/// `[K=V, K]` or `{K: V}` to `{K: "V"}`.
pub fn to_map(node: &mut Node, bare: BareKey) {
    match &mut node.value {
        Value::Sequence(items) => {
            if !items.iter().all(|item| item.as_str().is_some()) {
                return;
            }
            let mut mapping = Mapping::new();
            for item in items.iter() {
                let text = item.as_str().unwrap_or_default();
                let (key, value) = match text.split_once('=') {
                    Some((key, value)) => (key, Value::from(value)),
                    None if bare == BareKey::Null => (text, Value::Null),
                    None => (text, Value::from("")),
                };
                mapping.insert(key.to_owned(), Node::new(value, item.origin));
            }
            node.value = Value::Mapping(mapping);
        }
        Value::Mapping(mapping) => {
            for value in mapping.values_mut() {
                if let Some(text) = value.scalar_text() {
                    value.value = Value::String(text);
                } else if value.is_null() && bare == BareKey::Empty {
                    value.value = Value::from("");
                }
            }
        }
        _ => {}
    }
}

/// A text alone becomes a list of one.
pub fn to_list(node: &mut Node) {
    if node.as_str().is_some() {
        let mut item = node.clone();
        item.tag = None;
        node.value = Value::Sequence(vec![item]);
    }
}

/// Numbers and booleans of a list or a map as text.
pub fn scalars_to_text(node: &mut Node) {
    let convert = |child: &mut Node| {
        if let Some(text) = child.scalar_text() {
            child.value = Value::String(text);
        }
    };
    match &mut node.value {
        Value::Sequence(items) => items.iter_mut().for_each(convert),
        Value::Mapping(mapping) => mapping.values_mut().for_each(convert),
        _ => {}
    }
}

/// Items given as a text become `{key: text}`.
pub fn to_long_items(node: &mut Node, key: &str) {
    for item in node.as_sequence_mut().into_iter().flatten() {
        if item.as_str().is_some() {
            let text = item.clone();
            item.value = Value::Mapping(Mapping::from([(key.to_owned(), text)]));
        }
    }
}

/// `host=ip`, `host:ip` and `{host: ip | [ips]}` to a list of `host=ip`.
pub fn canonical_hosts(node: &mut Node) {
    let mut out = Vec::new();
    match &node.value {
        Value::Sequence(items) => {
            for item in items {
                match item.as_str().and_then(split_host) {
                    Some((host, addresses)) => {
                        out.extend(
                            addresses
                                .iter()
                                .map(|ip| Node::new(Value::String(format!("{host}={ip}")), item.origin)),
                        );
                    }
                    None => out.push(item.clone()),
                }
            }
        }
        Value::Mapping(mapping) => {
            for (host, value) in mapping {
                let single = std::slice::from_ref(value);
                for address in value.as_sequence().unwrap_or(single) {
                    let Some(text) = address.as_str() else { return };
                    let ip = strip_brackets(text);
                    out.push(Node::new(Value::String(format!("{host}={ip}")), address.origin));
                }
            }
        }
        _ => return,
    }
    node.value = Value::Sequence(out);
}

/// Takes `host=ip[,ip]` or `host:ip` apart; an IPv6 address may stand in brackets.
pub fn split_host(text: &str) -> Option<(&str, Vec<&str>)> {
    let (host, addresses) = text.split_once('=').or_else(|| text.split_once(':'))?;
    Some((host, addresses.split(',').map(strip_brackets).collect()))
}

fn strip_brackets(text: &str) -> &str {
    text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text)
}

/// A device: source, target, permissions.
pub type Device = (String, String, String);

/// `SRC[:DST[:rwm]]`, or a CDI name `vendor.com/class=name`.
pub fn parse_device(text: &str) -> Result<Device, String> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [cdi] if !cdi.starts_with('/') && cdi.contains('=') => {
            Ok(((*cdi).to_owned(), (*cdi).to_owned(), String::new()))
        }
        [source] => Ok(((*source).to_owned(), (*source).to_owned(), "rwm".to_owned())),
        [source, target] if is_permissions(target) => {
            Ok(((*source).to_owned(), (*source).to_owned(), (*target).to_owned()))
        }
        [source, target] => Ok(((*source).to_owned(), (*target).to_owned(), "rwm".to_owned())),
        [source, target, permissions] if is_permissions(permissions) => {
            Ok(((*source).to_owned(), (*target).to_owned(), (*permissions).to_owned()))
        }
        _ => Err(format!("invalid device \"{text}\": expected SOURCE[:TARGET[:rwm]]")),
    }
}

fn is_permissions(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| matches!(c, 'r' | 'w' | 'm'))
}

/// The long form of a device.
pub fn device_node((source, target, permissions): Device, at: &Node) -> Value {
    let mut mapping = Mapping::new();
    for (key, text) in [("source", source), ("target", target), ("permissions", permissions)] {
        if !text.is_empty() {
            mapping.insert(key.to_owned(), Node::new(Value::String(text), at.origin));
        }
    }
    Value::Mapping(mapping)
}

/// Fills in what a long device leaves out.
pub fn complete_device(item: &mut Node) {
    let Some(source) = item.get("source").cloned() else { return };
    let origin = item.origin;
    let Some(mapping) = item.as_mapping_mut() else { return };
    let is_cdi = source.as_str().is_some_and(|s| !s.starts_with('/') && s.contains('='));
    mapping.entry("target".to_owned()).or_insert(source);
    if !is_cdi {
        mapping.entry("permissions".to_owned()).or_insert(Node { origin, ..Node::derived("rwm") });
    }
}

/// Splits a command line into words as a shell would, without running one.
pub fn shell_words(text: &str) -> Result<Vec<String>, String> {
    shell_words::split(text).map_err(|_| format!("a quote in \"{text}\" is never closed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (text, expected) in [
            ("h=1.2.3.4", Some(("h", vec!["1.2.3.4"]))),
            ("h:1.2.3.4", Some(("h", vec!["1.2.3.4"]))),
            ("h:::1", Some(("h", vec!["::1"]))),
            ("h=[::1]", Some(("h", vec!["::1"]))),
            ("h=1.1.1.1,2.2.2.2", Some(("h", vec!["1.1.1.1", "2.2.2.2"]))),
            ("h=host-gateway", Some(("h", vec!["host-gateway"]))),
            ("h", None),
        ] {
            assert_eq!(split_host(text), expected, "{text}");
        }
    }

    #[test]
    fn devices() {
        let show =
            |text: &str| parse_device(text).map(|(s, t, p)| format!("{s} {t} {p}")).unwrap_or_else(|e| e);
        for (text, expected) in [
            ("/dev/a", "/dev/a /dev/a rwm"),
            ("/dev/a:/dev/b", "/dev/a /dev/b rwm"),
            ("/dev/a:/dev/b:r", "/dev/a /dev/b r"),
            ("/dev/a:r", "/dev/a /dev/a r"),
            ("vendor.com/gpu=0", "vendor.com/gpu=0 vendor.com/gpu=0 "),
            ("/a:/b:x", "invalid device \"/a:/b:x\": expected SOURCE[:TARGET[:rwm]]"),
        ] {
            assert_eq!(show(text), expected, "{text}");
        }
    }

    #[test]
    fn commands() {
        for (text, expected) in [
            ("", vec![]),
            ("a b", vec!["a", "b"]),
            ("sh -c 'a b'", vec!["sh", "-c", "a b"]),
            ("a \"b c\" d\\ e", vec!["a", "b c", "d e"]),
            ("a ''", vec!["a", ""]),
        ] {
            assert_eq!(shell_words(text).unwrap(), expected, "{text}");
        }
        assert!(shell_words("a 'b").is_err());
    }
}
