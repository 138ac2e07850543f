//! Validation against the Compose schema, with the place of each finding and the nearest known name.
//!
//! Owns the interpreter of the JSON Schema subset the Compose schema uses; the rules themselves are
//! the data in `schema.json`. What a schema cannot say is checked in `check`.

use crate::diagnostic::{Diagnostic, Report, nearest};
use crate::tree::{Node, Value};
use serde_json::Value as Json;
use std::collections::HashSet;
use std::sync::LazyLock;

static SCHEMA: LazyLock<Json> =
    LazyLock::new(|| serde_json::from_str(include_str!("schema.json")).expect("the embedded schema is JSON"));

/// Names of all service attributes, for suggestions and the repair of flattened files.
pub fn service_attributes() -> Vec<&'static str> {
    property_names(&SCHEMA["definitions"]["service"])
}

fn property_names(schema: &'static Json) -> Vec<&'static str> {
    schema["properties"].as_object().map(|map| map.keys().map(String::as_str).collect()).unwrap_or_default()
}

/// Checks a whole file (or several, merged).
pub fn validate(root: &Node, report: &mut Report) {
    Validator { report }.check(root, &SCHEMA, &mut Vec::new());
}

struct Validator<'r> {
    report: &'r mut Report,
}

impl Validator<'_> {
    fn check(&mut self, node: &Node, schema: &'static Json, path: &mut Vec<String>) {
        let schema = resolve(schema);
        if let Some(alternatives) = schema.get("oneOf").and_then(Json::as_array) {
            return self.one_of(node, alternatives, path);
        }
        if !type_matches(node, schema) {
            return self.wrong_type(node, &type_names(schema), path);
        }
        match &node.value {
            Value::Mapping(_) => self.mapping(node, schema, path),
            Value::Sequence(items) => self.sequence(items, schema, path),
            _ => self.scalar(node, schema, path),
        }
    }

    /// The alternative with the node's type is the one meant; its errors are the useful ones.
    fn one_of(&mut self, node: &Node, alternatives: &'static [Json], path: &mut Vec<String>) {
        let fitting: Vec<&'static Json> =
            alternatives.iter().filter(|schema| type_matches(node, resolve(schema))).collect();
        match fitting.as_slice() {
            [] => {
                let names: Vec<&str> = alternatives.iter().flat_map(|s| type_names(resolve(s))).collect();
                self.wrong_type(node, &names, path);
            }
            [only] => self.check(node, only, path),
            [first, rest @ ..] => {
                let passes = |schema: &'static Json, path: &mut Vec<String>| {
                    let mut trial = Report::default();
                    Validator { report: &mut trial }.check(node, schema, path);
                    !trial.has_errors()
                };
                if !rest.iter().any(|schema| passes(schema, path)) {
                    self.check(node, first, path);
                }
            }
        }
    }

    fn mapping(&mut self, node: &Node, schema: &'static Json, path: &mut Vec<String>) {
        let Some(mapping) = node.as_mapping() else { return };
        let properties = schema.get("properties").and_then(Json::as_object);
        let patterns = schema.get("patternProperties").and_then(Json::as_object);
        let closed = schema.get("additionalProperties") == Some(&Json::Bool(false));
        for (key, child) in mapping {
            let rule = properties.and_then(|map| map.get(key)).or_else(|| {
                patterns?.iter().find(|(pattern, _)| matches(pattern, key)).map(|(_, rule)| rule)
            });
            match rule {
                Some(rule) => {
                    path.push(key.clone());
                    self.check(child, rule, path);
                    path.pop();
                }
                None if closed => self.unknown_key(key, child, schema, path),
                None => {}
            }
        }
        for required in schema.get("required").and_then(Json::as_array).into_iter().flatten() {
            let Some(name) = required.as_str() else { continue };
            if !mapping.contains_key(name) {
                let message = format!("{} needs a \"{name}\"", place(path));
                self.report.push(Diagnostic::error(message).at(node.key));
            }
        }
    }

    fn unknown_key(&mut self, key: &str, child: &Node, schema: &'static Json, path: &[String]) {
        let known = property_names(schema);
        let mut diagnostic = if known.is_empty() {
            let message = format!("\"{key}\" is not a valid name in {}", place(path));
            Diagnostic::error(message).help("names consist of letters, digits, '.', '_' and '-'")
        } else {
            Diagnostic::error(format!("unknown key \"{key}\" in {}", place(path)))
        };
        if let Some(name) = nearest(key, known.iter().copied()) {
            diagnostic = diagnostic.help(format!("did you mean \"{name}\"?"));
        } else if path.is_empty() && service_attributes().contains(&key) {
            diagnostic = diagnostic.help(format!("\"{key}\" belongs to a service: indent it below one"));
        } else if path.is_empty()
            && child.as_mapping().is_some_and(|m| m.contains_key("image") || m.contains_key("build"))
        {
            diagnostic =
                diagnostic.help(format!("\"{key}\" looks like a service: put it below \"services:\""));
        }
        self.report.push(diagnostic.at(child.key).width(key.chars().count()));
    }

    fn sequence(&mut self, items: &[Node], schema: &'static Json, path: &mut Vec<String>) {
        if let Some(rule) = schema.get("items") {
            for (index, item) in items.iter().enumerate() {
                path.push(format!("[{index}]"));
                self.check(item, rule, path);
                path.pop();
            }
        }
        if schema.get("uniqueItems") == Some(&Json::Bool(true)) {
            let mut seen = HashSet::new();
            for item in items {
                let text = item.scalar_text().unwrap_or_else(|| item.to_json().to_string());
                if !seen.insert(text.clone()) {
                    let message = format!("{} holds {text} twice", place(path));
                    self.report.push(Diagnostic::error(message).at(item.origin).width(text.chars().count()));
                }
            }
        }
    }

    fn scalar(&mut self, node: &Node, schema: &'static Json, path: &[String]) {
        if let (Some(allowed), Some(text)) = (schema.get("enum").and_then(Json::as_array), node.as_str()) {
            let allowed: Vec<&str> = allowed.iter().filter_map(Json::as_str).collect();
            if !allowed.contains(&text) {
                let mut diagnostic = Diagnostic::error(format!(
                    "{} is \"{text}\", but can only be {}",
                    place(path),
                    either(&allowed)
                ));
                if let Some(name) = nearest(text, allowed.iter().copied()) {
                    diagnostic = diagnostic.help(format!("did you mean \"{name}\"?"));
                }
                self.report.push(diagnostic.at(node.origin).width(text.chars().count()));
            }
        }
        if let (Some(pattern), Some(text)) = (schema.get("pattern").and_then(Json::as_str), node.as_str())
            && !matches(pattern, text)
        {
            let message = format!("{} is \"{text}\", which is not a valid value", place(path));
            self.report.push(Diagnostic::error(message).at(node.origin).width(text.chars().count()));
        }
        let number = match &node.value {
            Value::Integer(number) => *number as f64,
            Value::Float(number) => *number,
            _ => return,
        };
        let bound = |name: &str| schema.get(name).and_then(Json::as_f64);
        if bound("minimum").is_some_and(|least| number < least)
            || bound("maximum").is_some_and(|most| number > most)
        {
            let range = match (bound("minimum"), bound("maximum")) {
                (Some(least), Some(most)) => format!("between {least} and {most}"),
                (Some(least), None) => format!("at least {least}"),
                (_, most) => format!("at most {}", most.unwrap_or_default()),
            };
            let message = format!("{} is {number}, but must be {range}", place(path));
            self.report.push(Diagnostic::error(message).at(node.origin));
        }
    }

    fn wrong_type(&mut self, node: &Node, names: &[&str], path: &[String]) {
        let mut unique = Vec::new();
        for name in names {
            if !unique.contains(name) {
                unique.push(*name);
            }
        }
        let words: Vec<&str> = unique.iter().map(|name| type_word(name)).collect();
        let shown = node.scalar_text().unwrap_or_default();
        let what = if shown.is_empty() {
            node.type_name().to_owned()
        } else {
            format!("{} ({shown})", node.type_name())
        };
        let message = format!("{} must be {}, not {what}", place(path), either(&words));
        let mut diagnostic = Diagnostic::error(message).at(node.origin).width(shown.chars().count());
        if unique.contains(&"string") && !shown.is_empty() {
            diagnostic = diagnostic.help(format!("put it in quotes: \"{shown}\""));
        } else if unique.contains(&"array") && node.as_str().is_some() {
            diagnostic = diagnostic.help(format!("write it as a list:\n- {shown}"));
        }
        self.report.push(diagnostic);
    }
}

fn resolve(schema: &'static Json) -> &'static Json {
    match schema.get("$ref").and_then(Json::as_str).and_then(|name| name.strip_prefix("#/definitions/")) {
        Some(name) => resolve(&SCHEMA["definitions"][name]),
        None => schema,
    }
}

fn type_names(schema: &'static Json) -> Vec<&'static str> {
    match schema.get("type") {
        Some(Json::String(name)) => vec![name.as_str()],
        Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).collect(),
        _ => match schema.get("oneOf").and_then(Json::as_array) {
            Some(alternatives) => alternatives.iter().flat_map(|s| type_names(resolve(s))).collect(),
            None => Vec::new(),
        },
    }
}

fn type_matches(node: &Node, schema: &'static Json) -> bool {
    let names = type_names(schema);
    names.is_empty()
        || names.iter().any(|name| match &node.value {
            Value::Null => *name == "null",
            Value::Bool(_) => *name == "boolean",
            Value::Integer(_) => matches!(*name, "integer" | "number"),
            Value::Float(number) => *name == "number" || *name == "integer" && number.fract() == 0.0,
            Value::String(_) => *name == "string",
            Value::Sequence(_) => *name == "array",
            Value::Mapping(_) => *name == "object",
        })
}

fn type_word(name: &str) -> &str {
    match name {
        "string" => "a string",
        "integer" => "an integer",
        "number" => "a number",
        "boolean" => "a boolean",
        "array" => "a list",
        "object" => "a mapping",
        other => other,
    }
}

fn either(words: &[&str]) -> String {
    match words {
        [] => "something else".to_owned(),
        [only] => (*only).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

/// `services.web.ports[0]`; the whole file when the path is empty.
fn place(path: &[String]) -> String {
    let mut out = String::new();
    for segment in path {
        if !out.is_empty() && !segment.starts_with('[') {
            out.push('.');
        }
        out.push_str(segment);
    }
    if out.is_empty() { "the Compose file".to_owned() } else { out }
}

/// The few regular expressions the schema uses; a test fails when it grows another.
fn matches(pattern: &str, text: &str) -> bool {
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match pattern {
        "^x-" => text.starts_with("x-"),
        "^.+$" | ".+" => !text.is_empty(),
        "^[a-z]+$" => !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase()),
        "^[a-zA-Z0-9._-]+$" => !text.is_empty() && text.chars().all(name),
        // Written without anchors in the schema; Docker's engine anchors it.
        "[a-zA-Z0-9][a-zA-Z0-9_.-]+" => {
            text.len() > 1 && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(name)
        }
        PULL_POLICY_PATTERN => crate::units::is_pull_policy(text),
        _ => true,
    }
}

const PULL_POLICY_PATTERN: &str =
    "always|never|build|if_not_present|missing|refresh|daily|weekly|every_([0-9]+[wdhms])+";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Sources;

    fn errors(text: &str) -> String {
        let mut sources = Sources::default();
        let file = sources.add("compose.yaml", text);
        let mut report = Report::default();
        let documents = crate::yaml::parse(file, text, &mut report);
        validate(&documents[0], &mut report);
        report
            .diagnostics
            .iter()
            .map(|d| {
                format!(
                    "{}: {}{}\n",
                    d.origin.map_or(0, |o| o.line),
                    d.message,
                    d.help.as_deref().map(|h| format!(" [{h}]")).unwrap_or_default()
                )
            })
            .collect()
    }

    #[test]
    fn every_pattern_is_known() {
        fn walk(schema: &Json, found: &mut Vec<String>) {
            match schema {
                Json::Object(map) => {
                    for (key, value) in map {
                        if key == "patternProperties" {
                            found.extend(value.as_object().unwrap().keys().cloned());
                        }
                        if key == "pattern"
                            && let Some(text) = value.as_str()
                        {
                            found.push(text.to_owned());
                        }
                        walk(value, found);
                    }
                }
                Json::Array(items) => items.iter().for_each(|item| walk(item, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        walk(&SCHEMA, &mut found);
        for pattern in found {
            // The empty string matches none of the patterns known here.
            assert!(!matches(&pattern, ""), "unknown pattern {pattern}");
        }
    }

    #[test]
    fn findings() {
        for (text, expected) in [
            ("services: {web: {image: a}}", ""),
            (
                "services: {web: {imgae: a}}",
                "1: unknown key \"imgae\" in services.web [did you mean \"image\"?]\n",
            ),
            (
                "services: {web: {image: 3}}",
                "1: services.web.image must be a string, not an integer (3) [put it in quotes: \"3\"]\n",
            ),
            (
                "services: {web: {ports: x}}",
                "1: services.web.ports must be a list, not a string (x) [write it as a list:\n- x]\n",
            ),
            (
                "services: {web: {depends_on: {db: {condition: service_health}}}}",
                "1: services.web.depends_on.db.condition is \"service_health\", but can only be service_started, service_healthy or service_completed_successfully [did you mean \"service_healthy\"?]\n",
            ),
            (
                "services: {web: {depends_on: {db: {}}}}",
                "1: services.web.depends_on.db needs a \"condition\"\n",
            ),
            (
                "services: {'we b': {}}",
                "1: \"we b\" is not a valid name in services [names consist of letters, digits, '.', '_' and '-']\n",
            ),
            (
                "image: a",
                "1: unknown key \"image\" in the Compose file [\"image\" belongs to a service: indent it below one]\n",
            ),
            (
                "web: {image: a}",
                "1: unknown key \"web\" in the Compose file [\"web\" looks like a service: put it below \"services:\"]\n",
            ),
            (
                "services: {w: {oom_score_adj: 2000}}",
                "1: services.w.oom_score_adj is 2000, but must be between -1000 and 1000\n",
            ),
            ("services: {w: {cap_add: [A, A]}}", "1: services.w.cap_add holds A twice\n"),
            ("services: {w: {volumes: [{source: a}]}}", "1: services.w.volumes[0] needs a \"type\"\n"),
            (
                "services: {w: {build: {contxt: .}}}",
                "1: unknown key \"contxt\" in services.w.build [did you mean \"context\"?]\n",
            ),
            (
                "services: {w: {environment: {A: [1]}}}",
                "1: services.w.environment.A must be a string, a number, a boolean or null, not a list\n",
            ),
            ("version: 3", "1: version must be a string, not an integer (3) [put it in quotes: \"3\"]\n"),
            ("services: {w: {x-any: [1, {a: b}]}}\nx-top: 1", ""),
            (
                "services: {w: {container_name: a}}",
                "1: services.w.container_name is \"a\", which is not a valid value\n",
            ),
            (
                "services: {w: {pull_policy: sometimes}}",
                "1: services.w.pull_policy is \"sometimes\", which is not a valid value\n",
            ),
            ("services: {w: {pre_start: [{command: a, image: b}]}}", ""),
        ] {
            assert_eq!(errors(text), expected, "{text}");
        }
    }
}
