//! YAML to JSON, as far as the schema's file uses it: no anchors, one document.

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Value};

/// Reads a document.
///
/// # Errors
/// What is wrong with the text.
pub fn read(text: &str) -> Result<Value, String> {
    let text = indented(text);
    let mut parser = Parser::new_from_str(&text);
    loop {
        match next(&mut parser)? {
            Event::StreamStart | Event::DocumentStart(_) => {}
            event => return node(&mut parser, event),
        }
    }
}

/// With closing brackets deeper than the key that they belong to: the parser takes them for the next key's otherwise.
fn indented(text: &str) -> String {
    let closes =
        |line: &str| !line.trim().is_empty() && line.trim().chars().all(|c| matches!(c, ']' | '}' | ','));
    let lines =
        text.lines().map(|line| if closes(line) { format!("  {line}\n") } else { format!("{line}\n") });
    lines.collect()
}

fn next<'a>(parser: &mut Parser<'a, StrInput<'a>>) -> Result<Event<'a>, String> {
    let (event, _) =
        parser.next_event().ok_or("the text ends in a value")?.map_err(|error| error.to_string())?;
    Ok(event)
}

fn node<'a>(parser: &mut Parser<'a, StrInput<'a>>, event: Event<'a>) -> Result<Value, String> {
    match event {
        Event::Scalar(text, ScalarStyle::Plain, ..) => Ok(plain(&text)),
        Event::Scalar(text, ..) => Ok(Value::String(text.into_owned())),
        Event::SequenceStart(..) => {
            let mut items = Vec::new();
            loop {
                match next(parser)? {
                    Event::SequenceEnd => return Ok(Value::Array(items)),
                    event => items.push(node(parser, event)?),
                }
            }
        }
        Event::MappingStart(..) => {
            let mut members = Map::new();
            loop {
                let name = match next(parser)? {
                    Event::MappingEnd => return Ok(Value::Object(members)),
                    Event::Scalar(text, ..) => text.into_owned(),
                    other => return Err(format!("a key is {other:?}")),
                };
                let event = next(parser)?;
                members.insert(name, node(parser, event)?);
            }
        }
        other => Err(format!("{other:?} is no value")),
    }
}

/// A word without quotes: a truth, a number, nothing, or text.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        text => text.parse().map(Value::Number).unwrap_or_else(|_| Value::String(text.to_owned())),
    }
}
