//! Interpolation: `$VAR`, `${VAR:-default}` and the other modifiers in values, and the casts after it.
//!
//! Owns the template grammar and the list of paths whose text becomes a number or a boolean.
//! Looks variables up through a function; never reads the environment itself.

use crate::diagnostic::{Diagnostic, Report};
use crate::tree::{Node, Value};
use crate::units;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Defaults inside defaults; deeper nesting is not written by people.
const MAX_NESTING: usize = 32;

/// Finds a variable's value.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why a template could not be filled in.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TemplateError {
    /// `${…}` that is no template.
    #[error("invalid template \"{template}\"")]
    Invalid {
        /// The text that was read.
        template: String,
    },
    /// `${VAR:?message}` without a value.
    #[error("required variable {name} is missing a value{}", if message.is_empty() { String::new() } else { format!(": {message}") })]
    Required {
        /// The variable.
        name: String,
        /// The text after the question mark.
        message: String,
    },
    /// Nested too deep.
    #[error("defaults are nested more than {MAX_NESTING} levels deep in \"{template}\"")]
    TooDeep {
        /// The text that was read.
        template: String,
    },
}

/// A variable as a template mentions it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Whether `?` makes it required.
    pub required: bool,
    /// The default after `-`.
    pub default: Option<String>,
    /// The alternative after `+`.
    pub alternative: Option<String>,
}

/// Fills a text in. `missing` hears the name of each variable that became an empty string.
pub fn substitute(
    text: &str,
    lookup: Lookup,
    missing: &mut dyn FnMut(&str),
) -> Result<String, TemplateError> {
    expand(text, lookup, missing, 0)
}

fn expand(
    text: &str,
    lookup: Lookup,
    missing: &mut dyn FnMut(&str),
    depth: usize,
) -> Result<String, TemplateError> {
    if depth > MAX_NESTING {
        return Err(TemplateError::TooDeep { template: text.to_owned() });
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if after.starts_with('{') {
            let close = closing_brace(after)
                .ok_or_else(|| TemplateError::Invalid { template: rest[at..].to_owned() })?;
            out.push_str(&braced(&after[1..close], lookup, missing, depth)?);
            rest = &after[close + 1..];
        } else {
            let length = name_length(after);
            if length == 0 {
                out.push('$');
            } else {
                out.push_str(&value_or_empty(&after[..length], lookup, missing));
            }
            rest = &after[length..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn value_or_empty(name: &str, lookup: Lookup, missing: &mut dyn FnMut(&str)) -> String {
    lookup(name).unwrap_or_else(|| {
        missing(name);
        String::new()
    })
}

fn braced(
    body: &str,
    lookup: Lookup,
    missing: &mut dyn FnMut(&str),
    depth: usize,
) -> Result<String, TemplateError> {
    let (name, operator, operand) = split_operator(body)?;
    let value = lookup(name);
    let set = match operator {
        Some(operator) if operator.starts_with(':') => value.as_deref().is_some_and(|v| !v.is_empty()),
        _ => value.is_some(),
    };
    let mut operand_text = || expand(operand, lookup, missing, depth + 1);
    match operator.map(|operator| operator.trim_start_matches(':')) {
        None => Ok(value_or_empty(name, lookup, missing)),
        Some("-") if set => Ok(value.unwrap_or_default()),
        Some("-") => operand_text(),
        Some("+") if set => operand_text(),
        Some("+") => Ok(String::new()),
        _ if set => Ok(value.unwrap_or_default()),
        _ => Err(TemplateError::Required { name: name.to_owned(), message: operand_text()? }),
    }
}

/// `NAME`, `NAME-x`, `NAME:-x`: the name, the operator, the operand.
fn split_operator(body: &str) -> Result<(&str, Option<&str>, &str), TemplateError> {
    let invalid = || TemplateError::Invalid { template: format!("${{{body}}}") };
    let length = name_length(body);
    if length == 0 {
        return Err(invalid());
    }
    let (name, rest) = body.split_at(length);
    let operator_length = match rest.as_bytes() {
        [] => return Ok((name, None, "")),
        [b':', b'-' | b'+' | b'?', ..] => 2,
        [b'-' | b'+' | b'?', ..] => 1,
        _ => return Err(invalid()),
    };
    Ok((name, Some(&rest[..operator_length]), &rest[operator_length..]))
}

fn name_length(text: &str) -> usize {
    if !text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return 0;
    }
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len())
}

/// Where the brace that opens the text closes.
fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 0usize;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => open += 1,
            b'}' => {
                open -= 1;
                if open == 0 {
                    return Some(index);
                }
            }
            _ => {}
        }
    }
    None
}

/// Every variable a text mentions, nested ones included.
pub fn variables(text: &str, found: &mut BTreeSet<Variable>) {
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            rest = tail;
        } else if after.starts_with('{') {
            let Some(close) = closing_brace(after) else { return };
            if let Ok((name, operator, operand)) = split_operator(&after[1..close]) {
                let kind = operator.map(|o| o.trim_start_matches(':'));
                found.insert(Variable {
                    name: name.to_owned(),
                    required: kind == Some("?"),
                    default: (kind == Some("-")).then(|| operand.to_owned()),
                    alternative: (kind == Some("+")).then(|| operand.to_owned()),
                });
                variables(operand, found);
            }
            rest = &after[close + 1..];
        } else {
            let length = name_length(after);
            if length > 0 {
                let name = after[..length].to_owned();
                found.insert(Variable { name, required: false, default: None, alternative: None });
            }
            rest = &after[length..];
        }
    }
}

/// Every variable the values of a tree mention.
pub fn tree_variables(node: &Node, found: &mut BTreeSet<Variable>) {
    match &node.value {
        Value::String(text) => variables(text, found),
        Value::Sequence(items) => items.iter().for_each(|item| tree_variables(item, found)),
        Value::Mapping(mapping) => mapping.values().for_each(|child| tree_variables(child, found)),
        _ => {}
    }
}

/// Fills in and casts all values of a file.
pub fn interpolate(root: &mut Node, lookup: Lookup, report: &mut Report) {
    let missing = RefCell::new(Vec::new());
    walk(root, &mut Vec::new(), lookup, &missing, report);
    for (name, origin) in missing.into_inner() {
        report.push(
            Diagnostic::warning(format!("the \"{name}\" variable is not set, it becomes an empty string"))
                .at(origin),
        );
    }
}

type Missing = RefCell<Vec<(String, crate::source::Origin)>>;

fn walk(node: &mut Node, path: &mut Vec<String>, lookup: Lookup, missing: &Missing, report: &mut Report) {
    match &mut node.value {
        Value::String(text) => {
            if text.contains('$') {
                let origin = node.origin;
                let mut note = |name: &str| {
                    let mut missing = missing.borrow_mut();
                    if !missing.iter().any(|(known, _)| known == name) {
                        missing.push((name.to_owned(), origin));
                    }
                };
                match substitute(text, lookup, &mut note) {
                    Ok(filled) => *text = filled,
                    Err(error) => {
                        let diagnostic = Diagnostic::error(format!("{}: {error}", path.join(".")));
                        let diagnostic = match error {
                            TemplateError::Invalid { .. } => {
                                diagnostic.help("a literal dollar sign is written \"$$\"")
                            }
                            TemplateError::Required { .. } | TemplateError::TooDeep { .. } => diagnostic,
                        };
                        report.push(diagnostic.at(node.origin).width(text.chars().count()));
                        return;
                    }
                }
            }
            cast(node, path, report);
        }
        Value::Sequence(items) => {
            for item in items {
                path.push("*".to_owned());
                walk(item, path, lookup, missing, report);
                path.pop();
            }
        }
        Value::Mapping(mapping) => {
            for (key, child) in mapping {
                path.push(key.clone());
                walk(child, path, lookup, missing, report);
                path.pop();
            }
        }
        _ => {}
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Cast {
    Integer,
    Float,
    Boolean,
}

/// What the text at a path becomes.
fn cast_of(path: &[String]) -> Option<Cast> {
    use Cast::{Boolean, Float, Integer};
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["services", _, rest @ ..] => match rest {
            [
                "cpu_count" | "cpu_period" | "cpu_quota" | "cpu_shares" | "oom_score_adj" | "pids_limit"
                | "scale" | "mem_swappiness",
            ] => Some(Integer),
            ["cpus" | "cpu_percent"] => Some(Float),
            [
                "init" | "oom_kill_disable" | "privileged" | "read_only" | "stdin_open" | "tty" | "attach"
                | "use_api_socket",
            ] => Some(Boolean),
            ["depends_on", _, "required" | "restart"] => Some(Boolean),
            ["deploy", "replicas"]
            | ["deploy", "update_config" | "rollback_config", "parallelism"]
            | ["deploy", "restart_policy", "max_attempts"]
            | ["deploy", "resources", "limits", "pids"]
            | ["deploy", "placement", "max_replicas_per_node"]
            | ["healthcheck", "retries"]
            | ["ports", _, "target"]
            | ["ulimits", _]
            | ["ulimits", _, "hard" | "soft"]
            | ["networks", _, "priority" | "gw_priority"]
            | ["blkio_config", "weight"]
            | ["blkio_config", "weight_device", _, "weight"] => Some(Integer),
            ["deploy", "update_config" | "rollback_config", "max_failure_ratio"]
            | ["deploy", "resources", "limits" | "reservations", "cpus"] => Some(Float),
            ["healthcheck", "disable"]
            | ["volumes", _, "read_only"]
            | ["volumes", _, "bind", "create_host_path"]
            | ["volumes", _, "volume", "nocopy"]
            | ["env_file", _, "required"]
            | ["build", "no_cache" | "pull" | "privileged"]
            | ["develop", "watch", _, "initial_sync"]
            | ["pre_start" | "post_start" | "pre_stop", _, "privileged" | "per_replica"] => Some(Boolean),
            _ => None,
        },
        ["networks", _, "external" | "internal" | "attachable" | "enable_ipv4" | "enable_ipv6"]
        | ["volumes" | "secrets" | "configs", _, "external"] => Some(Boolean),
        ["models", _, "context_size"] => Some(Integer),
        _ => None,
    }
}

fn cast(node: &mut Node, path: &[String], report: &mut Report) {
    let Some(cast) = cast_of(path) else { return };
    let Value::String(text) = &node.value else { return };
    let value = match cast {
        Cast::Integer => text.trim().parse::<i64>().ok().map(Value::Integer),
        Cast::Float => text.trim().parse::<f64>().ok().map(Value::Float),
        Cast::Boolean => units::parse_boolean(text).map(|(value, deprecated)| {
            if deprecated {
                report.push(
                    Diagnostic::warning(format!("{}: \"{text}\" is not a YAML 1.2 boolean", path.join(".")))
                        .at(node.origin)
                        .width(text.chars().count())
                        .help(format!("write {value}")),
                );
            }
            Value::Bool(value)
        }),
    };
    match value {
        Some(value) => node.value = value,
        None => {
            let wanted = match cast {
                Cast::Integer => "an integer",
                Cast::Float => "a number",
                Cast::Boolean => "a boolean",
            };
            report.push(
                Diagnostic::error(format!("{} must be {wanted}, not \"{text}\"", path.join(".")))
                    .at(node.origin)
                    .width(text.chars().count()),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "A" => Some("a".to_owned()),
            "B" => Some("b".to_owned()),
            "EMPTY" => Some(String::new()),
            "lower" => Some("low".to_owned()),
            _ => None,
        }
    }

    fn fill(text: &str) -> String {
        substitute(text, &env, &mut |_| {}).unwrap_or_else(|error| format!("! {error}"))
    }

    #[test]
    fn templates() {
        for (text, expected) in [
            ("plain", "plain"),
            ("$A", "a"),
            ("${A}", "a"),
            ("$A$B", "ab"),
            ("$lower", "low"),
            ("x${A}y", "xay"),
            ("$A-x", "a-x"),
            ("$A_B", ""),
            ("$$A", "$A"),
            ("$$$A", "$a"),
            ("$${A}", "${A}"),
            ("$", "$"),
            ("a $ b", "a $ b"),
            ("$1", "$1"),
            ("${UNSET}", ""),
            ("${UNSET:-d}", "d"),
            ("${UNSET-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${A:-d}", "a"),
            ("${A-d}", "a"),
            ("${UNSET:-}", ""),
            ("${A:+x}", "x"),
            ("${A+x}", "x"),
            ("${EMPTY:+x}", ""),
            ("${EMPTY+x}", "x"),
            ("${UNSET:+x}", ""),
            ("${A:?no}", "a"),
            ("${EMPTY?no}", ""),
            ("${UNSET:?no}", "! required variable UNSET is missing a value: no"),
            ("${UNSET?}", "! required variable UNSET is missing a value"),
            ("${EMPTY:?no $A}", "! required variable EMPTY is missing a value: no a"),
            ("${UNSET:-${A}}", "a"),
            ("${UNSET:-${ALSO:-x}}", "x"),
            ("${UNSET:-x${A}y${B}z}", "xaybz"),
            ("${UNSET:-$A}", "a"),
            ("${UNSET:-$$A}", "$A"),
            ("${UNSET:-b?c}", "b?c"),
            ("${UNSET-b:-c}", "b:-c"),
            ("${UNSET:-a:b:c}", "a:b:c"),
            ("${UNSET:-{\"a\": 1}}", "{\"a\": 1}"),
            ("${}", "! invalid template \"${}\""),
            ("${1}", "! invalid template \"${1}\""),
            ("${A", "! invalid template \"${A\""),
            ("${A b}", "! invalid template \"${A b}\""),
            ("${A:x}", "! invalid template \"${A:x}\""),
            ("${A-${B}", "! invalid template \"${A-${B}\""),
            ("${ A }", "! invalid template \"${ A }\""),
        ] {
            assert_eq!(fill(text), expected, "{text}");
        }
    }

    #[test]
    fn missing_variables_are_named() {
        let mut names = Vec::new();
        let _ = substitute("$X ${Y} ${Z:-d} ${W:-$V}", &env, &mut |name| names.push(name.to_owned()));
        assert_eq!(names, ["X", "Y", "V"]);
    }

    #[test]
    fn variables_of_a_text() {
        let mut found = BTreeSet::new();
        variables("$A ${B:-${C}} ${D?e} $$F", &mut found);
        let names: Vec<&str> = found.iter().map(|v| v.name.as_str()).collect();
        assert_eq!(names, ["A", "B", "C", "D"]);
    }

    #[test]
    fn casts_by_path() {
        let path = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        for (text, expected) in [
            ("services.web.privileged", Some(Cast::Boolean)),
            ("services.web.scale", Some(Cast::Integer)),
            ("services.web.cpus", Some(Cast::Float)),
            ("services.web.ports.*.target", Some(Cast::Integer)),
            ("services.web.ulimits.nofile", Some(Cast::Integer)),
            ("services.web.environment.A", None),
            ("networks.n.internal", Some(Cast::Boolean)),
            ("volumes.v.external", Some(Cast::Boolean)),
        ] {
            assert_eq!(cast_of(&path(text)), expected, "{text}");
        }
    }
}
