//! Showing a project: YAML and JSON of the canonical tree.
//!
//! Owns the order of keys and the quoting of scalars; reading the result again gives the same project.

mod order;
mod shape;

use crate::tree::{Mapping, Node, Value, format_float};
use serde_json::Value as Json;

/// Order of the top-level keys; extensions follow.
const TOP_LEVEL: [&str; 7] = ["name", "services", "networks", "volumes", "secrets", "configs", "models"];

/// The tree in the order it is shown: sections, services and resources by name, a service's keys by name.
/// With `escape` dollar signs are doubled, so that the text can be read as a Compose file again.
pub fn presentable(tree: &Node, escape: bool) -> Node {
    let empty = Mapping::new();
    let mapping = tree.as_mapping().unwrap_or(&empty);
    let mut out = Mapping::new();
    for key in TOP_LEVEL
        .iter()
        .copied()
        .chain(mapping.keys().map(String::as_str).filter(|key| !TOP_LEVEL.contains(key)))
    {
        let Some(node) = mapping.get(key) else { continue };
        if node.as_mapping().is_some_and(|section| section.is_empty()) && key != "services" {
            continue;
        }
        let shown = match key {
            "services" => node.with(sorted(node, sorted_service)),
            "networks" | "volumes" | "secrets" | "configs" | "models" => node.with(sorted(node, sorted_deep)),
            _ => node.clone(),
        };
        out.insert(key.to_owned(), shown);
    }
    let mut root = Node::derived(out);
    if escape {
        escape_dollars(&mut root);
    }
    root
}

fn sorted(node: &Node, child: fn(&Node) -> Node) -> Value {
    let Some(mapping) = node.as_mapping() else { return node.value.clone() };
    let mut entries: Vec<(&String, &Node)> = mapping.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    Value::Mapping(entries.into_iter().map(|(key, node)| (key.clone(), child(node))).collect())
}

fn sorted_service(service: &Node) -> Node {
    let mut value = sorted(service, sorted_attribute);
    if let Value::Mapping(mapping) = &mut value {
        shape::service(mapping);
        // Docker shows profiles first.
        if let Some(index) = mapping.get_index_of("profiles") {
            mapping.move_index(index, 0);
        }
    }
    service.with(value)
}

/// Maps whose keys users choose are shown by name; the others keep their order.
fn sorted_attribute(node: &Node) -> Node {
    match &node.value {
        Value::Mapping(_) => sorted_deep(node),
        _ => node.clone(),
    }
}

fn sorted_deep(node: &Node) -> Node {
    match &node.value {
        Value::Mapping(_) => node.with(sorted(node, sorted_deep)),
        Value::Sequence(items) => node.with(items.clone()),
        _ => node.clone(),
    }
}

fn escape_dollars(node: &mut Node) {
    match &mut node.value {
        Value::String(text) if text.contains('$') => *text = text.replace('$', "$$"),
        Value::Sequence(items) => items.iter_mut().for_each(escape_dollars),
        Value::Mapping(mapping) => mapping.values_mut().for_each(escape_dollars),
        _ => {}
    }
}

/// JSON with two spaces of indentation.
pub fn to_json(tree: &Node) -> String {
    let mut tree = tree.clone();
    shape::for_json(&mut tree);
    let json: Json = tree.to_json();
    serde_json::to_string_pretty(&json).expect("a tree of strings and numbers serialises")
}

/// Block-style YAML.
pub fn to_yaml(tree: &Node) -> String {
    let mut tree = tree.clone();
    order::arrange(&mut tree);
    let mut out = String::new();
    match &tree.value {
        Value::Mapping(mapping) if !mapping.is_empty() => write_mapping(&mut out, mapping, 0, false),
        _ => {
            write_scalar(&mut out, &tree.value, 0);
            out.push('\n');
        }
    }
    out
}

fn write_mapping(out: &mut String, mapping: &Mapping, indent: usize, inline_first: bool) {
    for (index, (key, node)) in mapping.iter().enumerate() {
        if !(inline_first && index == 0) {
            out.push_str(&" ".repeat(indent));
        }
        write_string(out, key, indent, true);
        out.push(':');
        match &node.value {
            Value::Mapping(inner) if !inner.is_empty() => {
                out.push('\n');
                write_mapping(out, inner, indent + 2, false);
            }
            Value::Sequence(items) if !items.is_empty() => {
                out.push('\n');
                write_sequence(out, items, indent + 2);
            }
            value => {
                out.push(' ');
                write_scalar(out, value, indent);
                out.push('\n');
            }
        }
    }
}

fn write_sequence(out: &mut String, items: &[Node], indent: usize) {
    for item in items {
        out.push_str(&" ".repeat(indent));
        out.push_str("- ");
        match &item.value {
            Value::Mapping(inner) if !inner.is_empty() => write_mapping(out, inner, indent + 2, true),
            Value::Sequence(inner) if !inner.is_empty() => {
                out.push('\n');
                write_sequence(out, inner, indent + 2);
            }
            value => {
                write_scalar(out, value, indent);
                out.push('\n');
            }
        }
    }
}

fn write_scalar(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Integer(number) => out.push_str(&number.to_string()),
        Value::Float(number) => out.push_str(&format_float(*number)),
        Value::String(text) => write_string(out, text, indent, false),
        Value::Sequence(_) => out.push_str("[]"),
        Value::Mapping(_) => out.push_str("{}"),
    }
}

fn write_string(out: &mut String, text: &str, indent: usize, is_key: bool) {
    let plain_text = text.chars().all(|c| !c.is_control() || c == '\n');
    if text.contains('\n') && plain_text && !is_key && !text.starts_with([' ', '\n']) {
        return write_block(out, text, indent);
    }
    if !plain_text || text.contains('\n') {
        return write_double_quoted(out, text);
    }
    if looks_like_other_type(text) {
        out.push_str(&format!("\"{text}\""));
    } else if needs_quotes(text) {
        out.push_str(&format!("'{}'", text.replace('\'', "''")));
    } else {
        out.push_str(text);
    }
}

/// `|` with the ending that gives back the same line ends.
fn write_block(out: &mut String, text: &str, indent: usize) {
    let body = text.trim_end_matches('\n');
    let endings = text.len() - body.len();
    out.push_str(match endings {
        0 => "|-",
        1 => "|",
        _ => "|+",
    });
    let margin = " ".repeat(indent + 2);
    for line in body.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            out.push_str(&margin);
            out.push_str(line);
        }
    }
    out.push_str(&"\n".repeat(endings.saturating_sub(1)));
}

fn write_double_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Text that would be read as null, a boolean or a number by some YAML reader.
fn looks_like_other_type(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    if text.is_empty()
        || matches!(lower.as_str(), "~" | "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n")
    {
        return true;
    }
    let number_like = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
    number_like
        && (lower.replace('_', "").parse::<f64>().is_ok()
            || ["0x", "0o", "0b"].iter().any(|prefix| lower.starts_with(prefix))
            || is_base_60(text))
}

/// `22:22` is a number in base 60 for YAML 1.1 readers; `1000:1000` is none.
fn is_base_60(text: &str) -> bool {
    let mut parts = text.split(':');
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let below_60 = |part: &str| part.len() <= 2 && part.parse().is_ok_and(|number: u8| number < 60);
    text.contains(':') && parts.next().is_some_and(digits) && parts.all(|part| digits(part) && below_60(part))
}

fn needs_quotes(text: &str) -> bool {
    text.starts_with([
        '-', '?', ':', ',', '[', ']', '{', '}', '#', '&', '*', '!', '|', '>', '\'', '"', '%', '@', '`', ' ',
        '=',
    ]) && !(text.starts_with(['-', '?', ':']) && text.len() > 1 && !text[1..].starts_with(' '))
        || text.ends_with([' ', ':'])
        || text.contains(": ")
        || text.contains(" #")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Report;
    use crate::source::Sources;

    #[test]
    fn strings_survive_a_round_trip() {
        for text in [
            "plain", "", "8080", "1.5", "true", "no", "null", "~", "22:22", "a: b", "a #b", "#x", "- a",
            "-a", "--x", "*x", "&x", "!x", "it's", "\"q\"", "'q'", "a\nb", "a\nb\n", "a\n\n", "\ta", " lead",
            "trail ", "key:", "{a}", "[a]", "%x", "@x", "a, b", "0x1f", "1e5", "é", "\u{1}", "a\\b", ".",
            "..", "=", "a\n b\n", "?x", "a\tb", "01", "+1",
        ] {
            let mut mapping = Mapping::new();
            mapping.insert("k".to_owned(), Node::derived(text));
            mapping.insert("l".to_owned(), Node::derived(vec![Node::derived(text)]));
            let tree = Node::derived(mapping);
            let yaml = to_yaml(&tree);
            let mut sources = Sources::default();
            let file = sources.add("f", yaml.clone());
            let mut report = Report::default();
            let documents = crate::yaml::parse(file, &yaml, &mut report);
            assert!(!report.has_errors(), "{text:?}: {}\n{yaml}", report.render(&sources));
            assert_eq!(documents[0], tree, "{text:?}: {yaml}");
        }
    }
}
