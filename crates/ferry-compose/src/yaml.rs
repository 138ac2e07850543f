//! YAML text to spanned trees: anchors, merge keys, several documents, `!reset` and `!override`.
//!
//! Owns the YAML rules Compose files rely on (the plain scalars of YAML 1.2 plus leading-zero octals,
//! duplicate keys as errors, a cap on what aliases may expand to). Knows no Compose attribute.

use crate::diagnostic::{Diagnostic, Report, nearest};
use crate::source::{FileId, Origin};
use crate::tree::{Mapping, MergeTag, Node, Value};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};
use std::borrow::Cow;
use std::collections::HashMap;

/// Nodes that aliases may add to a file; a file of nested aliases grows exponentially otherwise.
const MAX_ALIAS_NODES: usize = 100_000;
/// Nesting of lists and maps; deeper files are attacks on the stack, not apps.
const MAX_DEPTH: usize = 64;

type Events<'a> = Parser<'a, saphyr_parser::StrInput<'a>>;

/// Parses every document of a file. Documents that hold nothing are left out.
/// After an error the documents before it are returned, and the report says what is wrong.
pub fn parse(file: FileId, text: &str, report: &mut Report) -> Vec<Node> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder { file, events: Parser::new_from_str(text), alias_nodes: 0, report };
    let mut documents = Vec::new();
    loop {
        match builder.document() {
            Ok(Some(node)) if node.is_null() => {}
            Ok(Some(node)) => documents.push(node),
            Ok(None) => return documents,
            Err(diagnostic) => {
                builder.report.push(*diagnostic);
                return documents;
            }
        }
    }
}

type Built<T> = Result<T, Box<Diagnostic>>;

struct Builder<'a, 'r> {
    file: FileId,
    events: Events<'a>,
    alias_nodes: usize,
    report: &'r mut Report,
}

/// Finished anchors by number: the node and how many nodes it holds.
type Anchors = HashMap<usize, Option<(Node, usize)>>;

impl<'a> Builder<'a, '_> {
    fn next(&mut self) -> Built<(Event<'a>, Span)> {
        match self.events.next_event() {
            Some(Ok(pair)) => Ok(pair),
            Some(Err(error)) => Err(Box::new(scan_diagnostic(self.file, &error))),
            None => Err(Box::new(Diagnostic::error("the file ends in the middle of a value"))),
        }
    }

    fn document(&mut self) -> Built<Option<Node>> {
        loop {
            match self.next()?.0 {
                Event::StreamEnd => return Ok(None),
                Event::DocumentStart(_) => break,
                _ => {}
            }
        }
        // Anchors belong to one document.
        let mut anchors = Anchors::new();
        let (event, span) = self.next()?;
        let (node, _) = self.node(event, span, &mut anchors, 0)?;
        Ok(Some(node))
    }

    fn origin(&self, span: Span) -> Origin {
        Origin { file: self.file, line: span.start.line() as u32, column: span.start.col() as u32 + 1 }
    }

    /// Builds the node an event starts; the number is how many nodes it holds.
    fn node(
        &mut self,
        event: Event<'a>,
        span: Span,
        anchors: &mut Anchors,
        depth: usize,
    ) -> Built<(Node, usize)> {
        let origin = self.origin(span);
        if depth > MAX_DEPTH {
            return Err(Box::new(
                Diagnostic::error(format!("nested more than {MAX_DEPTH} levels deep")).at(origin),
            ));
        }
        let (built, anchor) = match event {
            Event::Alias(number) => return self.alias(number, origin, anchors),
            Event::Scalar(text, style, anchor, tag) => {
                (self.scalar(text, style, tag.as_deref(), origin)?, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(anchor, anchors);
                (self.sequence(origin, tag.as_deref(), anchors, depth)?, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                self.open(anchor, anchors);
                (self.mapping(origin, tag.as_deref(), anchors, depth)?, anchor)
            }
            other => {
                let message = format!("expected a value, found {other:?}");
                return Err(Box::new(Diagnostic::error(message).at(origin)));
            }
        };
        if anchor != 0 {
            anchors.insert(anchor, Some(built.clone()));
        }
        Ok(built)
    }

    /// Marks an anchor as unfinished, so that an alias inside its own value is seen.
    fn open(&self, anchor: usize, anchors: &mut Anchors) {
        if anchor != 0 {
            anchors.insert(anchor, None);
        }
    }

    fn alias(&mut self, number: usize, origin: Origin, anchors: &Anchors) -> Built<(Node, usize)> {
        match anchors.get(&number) {
            Some(Some((node, size))) => {
                self.alias_nodes += size;
                if self.alias_nodes > MAX_ALIAS_NODES {
                    let message = format!("aliases expand to more than {MAX_ALIAS_NODES} values");
                    return Err(Box::new(Diagnostic::error(message).at(origin)));
                }
                Ok((node.clone(), *size))
            }
            Some(None) => {
                Err(Box::new(Diagnostic::error("an alias stands inside its own anchor").at(origin)))
            }
            None => Err(Box::new(Diagnostic::error("unknown anchor").at(origin))),
        }
    }

    fn scalar(
        &mut self,
        text: Cow<'a, str>,
        style: ScalarStyle,
        tag: Option<&Tag>,
        origin: Origin,
    ) -> Built<(Node, usize)> {
        let plain = style == ScalarStyle::Plain;
        if plain && crate::repair::is_escaped_item(&text) {
            return Err(Box::new(crate::repair::escaped_markdown(&text, origin)));
        }
        let value = match tag {
            Some(tag) if tag.is_yaml_core_schema() => match tag.suffix.as_str() {
                "str" => Value::String(text.into_owned()),
                _ => resolve_plain(&text),
            },
            _ if plain => resolve_plain(&text),
            _ => Value::String(text.into_owned()),
        };
        let mut node = Node::new(value, origin);
        node.tag = self.merge_tag(tag, origin);
        Ok((node, 1))
    }

    fn sequence(
        &mut self,
        origin: Origin,
        tag: Option<&Tag>,
        anchors: &mut Anchors,
        depth: usize,
    ) -> Built<(Node, usize)> {
        let mut items = Vec::new();
        let mut size = 1;
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                break;
            }
            let (item, item_size) = self.node(event, span, anchors, depth + 1)?;
            size += item_size;
            // An item taken out with !reset has nothing it could take out in a list.
            if item.tag != Some(MergeTag::Reset) {
                items.push(item);
            }
        }
        let mut node = Node::new(Value::Sequence(items), origin);
        node.tag = self.merge_tag(tag, origin);
        Ok((node, size))
    }

    fn mapping(
        &mut self,
        origin: Origin,
        tag: Option<&Tag>,
        anchors: &mut Anchors,
        depth: usize,
    ) -> Built<(Node, usize)> {
        let mut mapping = Mapping::new();
        let mut merged = Vec::new();
        let mut size = 1;
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let key_origin = self.origin(span);
            let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = self.key(event, span, anchors, depth)?;
            let (event, span) = self.next()?;
            let (mut node, value_size) = self.node(event, span, anchors, depth + 1)?;
            size += value_size + 1;
            if is_merge {
                merged.push((key_origin, node));
                continue;
            }
            node.key = key_origin;
            if let Some(first) = mapping.get(&key) {
                self.report.push(duplicate_key(&key, first.key, key_origin));
                continue;
            }
            mapping.insert(key, node);
        }
        for (key_origin, node) in merged {
            merge_key(&mut mapping, node, key_origin)?;
        }
        let mut node = Node::new(Value::Mapping(mapping), origin);
        node.tag = self.merge_tag(tag, origin);
        Ok((node, size))
    }

    /// A key as text: `80: x` and `true: x` are the keys "80" and "true".
    fn key(&mut self, event: Event<'a>, span: Span, anchors: &mut Anchors, depth: usize) -> Built<String> {
        let origin = self.origin(span);
        if let Event::Scalar(text, style, anchor, _) = &event {
            if *style == ScalarStyle::Plain && crate::repair::is_escaped_key(text) {
                return Err(Box::new(crate::repair::escaped_markdown(text, origin)));
            }
            if *anchor == 0 {
                return Ok(text.clone().into_owned());
            }
        }
        let (node, _) = self.node(event, span, anchors, depth + 1)?;
        match node.scalar_text() {
            Some(text) => Ok(text),
            None => Err(Box::new(
                Diagnostic::error(format!("a key must be a string, this one is {}", node.type_name()))
                    .at(origin),
            )),
        }
    }

    fn merge_tag(&mut self, tag: Option<&Tag>, origin: Origin) -> Option<MergeTag> {
        let tag = tag.filter(|tag| !tag.is_yaml_core_schema())?;
        match tag.suffix.as_str() {
            "reset" => Some(MergeTag::Reset),
            "override" => Some(MergeTag::Override),
            other => {
                let mut warning = Diagnostic::warning(format!("unknown tag !{other} is ignored")).at(origin);
                if let Some(name) = nearest(other, ["reset", "override"]) {
                    warning = warning.help(format!("did you mean !{name}?"));
                }
                self.report.push(warning);
                None
            }
        }
    }
}

/// `<<`: keys of a map, or of each map of a list, that the mapping does not have itself.
fn merge_key(mapping: &mut Mapping, node: Node, key_origin: Origin) -> Built<()> {
    match node.value {
        Value::Mapping(from) => {
            for (key, value) in from {
                mapping.entry(key).or_insert(value);
            }
            Ok(())
        }
        Value::Sequence(items) => items.into_iter().try_for_each(|item| merge_key(mapping, item, key_origin)),
        Value::Null => Ok(()),
        _ => Err(Box::new(
            Diagnostic::error(format!("<< takes a mapping or a list of mappings, not {}", node.type_name()))
                .at(key_origin),
        )),
    }
}

fn duplicate_key(key: &str, first: Origin, second: Origin) -> Diagnostic {
    Diagnostic::error(format!("key \"{key}\" is already defined at line {}", first.line))
        .at(second)
        .width(key.chars().count())
        .related(first, "first defined here")
}

fn scan_diagnostic(file: FileId, error: &ScanError) -> Diagnostic {
    let origin = Origin { file, line: error.marker().line() as u32, column: error.marker().col() as u32 + 1 };
    Diagnostic::error(format!("not valid YAML: {}", error.info())).at(origin)
}

/// What an unquoted scalar means.
fn resolve_plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        _ => {}
    }
    let starts_like_number = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
    if !starts_like_number {
        return Value::String(text.to_owned());
    }
    if let Some(number) = parse_integer(text) {
        return Value::Integer(number);
    }
    if is_float(text)
        && let Ok(number) = text.parse::<f64>()
    {
        return Value::Float(number);
    }
    Value::String(text.to_owned())
}

/// Decimal, `0x`, `0b`, `0o` and, as Compose files write modes, a leading zero for octal.
fn parse_integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let digits = digits.replace('_', "");
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits.as_str()),
    };
    if digits.is_empty() || digits.starts_with(['+', '-']) {
        return None;
    }
    let magnitude = i128::from_str_radix(digits, radix).ok()?;
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

/// `[-+]? ( .digits | digits [. digits] ) ( e [-+]? digits )?`
fn is_float(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let mantissa_ok = match mantissa.split_once('.') {
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
        None => digits(mantissa),
    };
    mantissa_ok && exponent.is_none_or(|part| digits(part.strip_prefix(['-', '+']).unwrap_or(part)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Sources;

    fn load(text: &str) -> (Vec<Node>, String) {
        let mut sources = Sources::default();
        let file = sources.add("f.yaml", text);
        let mut report = Report::default();
        let documents = parse(file, text, &mut report);
        (documents, report.render(&sources))
    }

    fn json(text: &str) -> String {
        let (documents, errors) = load(text);
        assert_eq!(errors, "", "{text}");
        documents.iter().map(|d| d.to_json().to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn scalars_mean_what_compose_means() {
        for (text, expected) in [
            ("a: 22:22", r#"{"a":"22:22"}"#),
            ("a: 0644", r#"{"a":420}"#),
            ("a: 0o17", r#"{"a":15}"#),
            ("a: 08", r#"{"a":8.0}"#),
            ("a: 0x1F", r#"{"a":31}"#),
            ("a: yes", r#"{"a":"yes"}"#),
            ("a: no", r#"{"a":"no"}"#),
            ("a: True", r#"{"a":true}"#),
            ("a: ~", r#"{"a":null}"#),
            ("a:", r#"{"a":null}"#),
            ("a: []", r#"{"a":[]}"#),
            ("a: 1.5", r#"{"a":1.5}"#),
            ("a: .5", r#"{"a":0.5}"#),
            ("a: 1e3", r#"{"a":1000.0}"#),
            ("a: 1.2.3", r#"{"a":"1.2.3"}"#),
            ("a: '1'", r#"{"a":"1"}"#),
            ("a: !!str 1", r#"{"a":"1"}"#),
            ("a: -1", r#"{"a":-1}"#),
            ("a: - b", ""),
            ("80: x", r#"{"80":"x"}"#),
            ("a: |\n  x\n  y\n", r#"{"a":"x\ny\n"}"#),
            ("a: >-\n  x\n  y\n", r#"{"a":"x y"}"#),
            ("a: 1\n---\nb: 2", r#"{"a":1} {"b":2}"#),
            ("---\n", ""),
        ] {
            if text == "a: - b" {
                assert!(load(text).1.contains("not valid YAML"), "{text}");
                continue;
            }
            assert_eq!(json(text), expected, "{text}");
        }
    }

    #[test]
    fn anchors_and_merge_keys() {
        for (text, expected) in [
            ("x: &a {k: 1, l: 2}\ny: *a", r#"{"x":{"k":1,"l":2},"y":{"k":1,"l":2}}"#),
            ("x: &a {k: 1}\ny: {<<: *a, l: 2}", r#"{"x":{"k":1},"y":{"l":2,"k":1}}"#),
            ("x: &a {k: 1}\ny: {<<: *a, k: 2}", r#"{"x":{"k":1},"y":{"k":2}}"#),
            (
                "x: &a {k: 1}\nz: &b {k: 2, m: 3}\ny: {<<: [*a, *b]}",
                r#"{"x":{"k":1},"z":{"k":2,"m":3},"y":{"k":1,"m":3}}"#,
            ),
            ("x: &l [{k: 1}, {m: 2}]\ny: {<<: *l}", r#"{"x":[{"k":1},{"m":2}],"y":{"k":1,"m":2}}"#),
        ] {
            assert_eq!(json(text), expected, "{text}");
        }
    }

    #[test]
    fn errors_name_the_place() {
        for (text, expected) in [
            ("a: 1\nb: 2\na: 3", "key \"a\" is already defined at line 1"),
            ("a: *b", "not valid YAML"),
            ("a: &x [*x]", "inside its own anchor"),
            ("a: {<<: 3}", "<< takes a mapping"),
            ("a: {b: 1", "not valid YAML"),
            ("MYSQL\\_ROOT: 1", "MYSQL_ROOT"),
            ("a: !overide x", "did you mean !override?"),
        ] {
            let (_, errors) = load(text);
            assert!(errors.contains(expected), "{text}: {errors}");
        }
    }

    #[test]
    fn alias_bombs_and_deep_nesting_are_refused() {
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..9 {
            let item = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", vec![item; 10].join(","));
        }
        assert!(load(&bomb).1.contains("aliases expand to more than"));
        assert!(load(&format!("a: {}{}", "[".repeat(90), "]".repeat(90))).1.contains("levels deep"));
    }
}
