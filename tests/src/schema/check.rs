//! A value against a part of the schema.

use serde_json::{Map, Value};

/// Looks at values, with the document in which `$ref` points.
pub struct Check<'a> {
    /// The whole schema.
    pub document: &'a Value,
    /// Whether keys that are in no `properties` are breaches.
    pub unknown_keys: bool,
    /// Ends of places that may have what the schema does not: `.Key` that it forgets, or that may be null.
    pub known: &'a [&'a str],
}

/// What a value must be: the parts of `allOf` and the target of `$ref` in one.
struct Wanted<'a> {
    /// The last definition that was followed.
    name: &'a str,
    properties: Map<String, Value>,
    required: Vec<&'a str>,
    additional: Option<&'a Value>,
    nullable: bool,
    rest: &'a Value,
}

impl<'a> Check<'a> {
    /// All that does not fit, each with its place.
    pub fn run(&self, schema: &Value, value: &Value, place: &str) -> Vec<String> {
        let mut found = Vec::new();
        self.value(schema, value, place, &mut found);
        found
    }

    fn value(&self, schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
        let wanted = self.wanted(schema);
        let kind = match wanted.rest["type"].as_str() {
            Some(kind) => kind,
            None if wanted.properties.is_empty() => return,
            None => "object",
        };
        if value.is_null() {
            if !wanted.nullable && !matches!(kind, "array" | "object") && !self.is_known(place) {
                found.push(format!("{place}: is null and no {kind}"));
            }
            return;
        }
        let is = name_of(value);
        let fits = match kind {
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            kind => kind == is,
        };
        if !fits {
            found.push(format!("{place}: {} is {} and no {kind}", short(value), with_article(is)));
            return;
        }
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.value(&wanted.rest["items"], item, &format!("{place}[{index}]"), found);
                }
            }
            Value::Object(members) => self.object(&wanted, members, place, found),
            scalar => scalar_fits(wanted.rest, scalar, place, found),
        }
    }

    fn object(
        &self,
        wanted: &Wanted<'_>,
        members: &Map<String, Value>,
        place: &str,
        found: &mut Vec<String>,
    ) {
        // What is required and described nowhere is a slip of the schema's.
        let described = |name: &&&str| wanted.properties.is_empty() || wanted.properties.contains_key(**name);
        for name in wanted.required.iter().filter(|name| !members.contains_key(**name)).filter(described) {
            let inner = format!("{place}.{name}");
            if !self.is_known(&inner) {
                found.push(format!("{inner}: is missing"));
            }
        }
        // Without properties, every key is good.
        let closed = self.unknown_keys && !wanted.properties.is_empty() && wanted.additional.is_none();
        for (name, member) in members {
            let inner = format!("{place}.{name}");
            match (wanted.properties.get(name), wanted.additional) {
                (Some(schema), _) => self.value(schema, member, &inner, found),
                (None, Some(schema)) if schema.is_object() => self.value(schema, member, &inner, found),
                (None, _) if closed && !self.is_known(&inner) => {
                    found.push(format!("{inner}: a key that the schema does not know (of {})", wanted.name));
                }
                (None, _) => {}
            }
        }
    }

    fn is_known(&self, place: &str) -> bool {
        self.known.iter().any(|end| place.ends_with(end))
    }

    /// Follows `$ref` and joins `allOf`.
    fn wanted<'s>(&'s self, schema: &'s Value) -> Wanted<'s> {
        let nullable = schema["x-nullable"] == true || schema["nullable"] == true;
        if let Some(target) = schema["$ref"].as_str() {
            let name = target.trim_start_matches("#/definitions/");
            let inner = self.wanted(&self.document["definitions"][name]);
            return Wanted { nullable: nullable || inner.nullable, name, ..inner };
        }
        let mut wanted = Wanted {
            name: "",
            properties: schema["properties"].as_object().cloned().unwrap_or_default(),
            required: schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
            additional: schema.get("additionalProperties"),
            nullable,
            rest: schema,
        };
        for part in schema["allOf"].as_array().into_iter().flatten() {
            let part = self.wanted(part);
            wanted.properties.extend(part.properties);
            wanted.required.extend(part.required);
            wanted.nullable |= part.nullable;
            if wanted.rest["type"].is_null() {
                wanted.rest = part.rest;
            }
        }
        wanted
    }
}

fn scalar_fits(schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
    if let Some(choices) = schema["enum"].as_array()
        && !choices.iter().any(|choice| choice == value || choice.as_str() == Some(&value.to_string()))
    {
        found.push(format!("{place}: {value} is none of {}", short(&schema["enum"])));
    }
    if let (Some(least), Some(number)) = (schema["minimum"].as_f64(), value.as_f64())
        && number < least
    {
        found.push(format!("{place}: {value} is less than {least}"));
    }
    let Some(text) = value.as_str() else { return };
    if schema["pattern"] == "^[0-9a-fA-F]{64}$"
        && !(text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        found.push(format!("{place}: {value} is no id of 64 digits"));
    }
    let is_date = matches!(schema["format"].as_str(), Some("dateTime" | "date-time"));
    if is_date && !text.is_empty() && !is_time(text) {
        found.push(format!("{place}: {value} is no time of RFC 3339"));
    }
}

/// `2006-01-02T15:04:05[.999](Z|+01:00)`.
fn is_time(text: &str) -> bool {
    let shape = text.bytes().map(|byte| if byte.is_ascii_digit() { b'0' } else { byte }).collect::<Vec<_>>();
    let Some(rest) = shape.strip_prefix(b"0000-00-00T00:00:00") else { return false };
    let rest = match rest.strip_prefix(b".") {
        Some(fraction) => &fraction[fraction.iter().take_while(|byte| **byte == b'0').count()..],
        None => rest,
    };
    matches!(rest, b"Z" | b"+00:00" | b"-00:00")
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn with_article(kind: &str) -> String {
    let article = if matches!(kind, "array" | "object") { "an" } else { "a" };
    format!("{article} {kind}")
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    text[..text.floor_char_boundary(120)].to_owned()
}
