//! The functions of templates: Go's, and those Docker adds.

use std::cmp::Ordering;
use std::rc::Rc;

use super::print;
use super::value::Value;

/// Widest padding that a template may ask for.
const MAX_PADDING: i64 = 10_000;

const NAMES: [&str; 26] = [
    "and", "call", "eq", "ge", "gt", "html", "index", "join", "js", "json", "le", "len", "lower", "lt", "ne",
    "not", "or", "pad", "print", "printf", "println", "slice", "split", "title", "truncate", "upper",
];

/// Why a call gives nothing.
pub(super) enum CallError {
    /// The arguments do not fit; the whole reason.
    Arguments(String),
    /// The function itself; goes behind `error calling NAME: `.
    Failed(String),
}

use CallError::{Arguments, Failed};

type Called = Result<Value, CallError>;

/// Is there a function of this name?
pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name) || name == "urlquery"
}

/// Does this function shape values, so that a column's head passes through it unchanged?
pub(super) fn shapes_values(name: &str) -> bool {
    matches!(name, "json" | "split" | "join" | "title" | "lower" | "upper" | "pad" | "truncate")
}

/// What such a function gives for a column's head.
pub(super) fn header_argument(_name: &str, arguments: &[Value]) -> Value {
    arguments.iter().find(|value| matches!(value, Value::Text(_))).cloned().unwrap_or(Value::Nil)
}

/// Calls a function.
pub(super) fn call(name: &str, arguments: &[Value]) -> Called {
    let text = |index: usize| text_argument(name, arguments, index);
    match name {
        "not" => exactly(name, arguments, 1).map(|()| Value::Bool(!arguments[0].is_true())),
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" => compare(name, arguments),
        "len" => len(arguments),
        "index" => index(arguments),
        "slice" => slice(arguments),
        "print" => Ok(Value::text(print::sprint(arguments))),
        "println" => Ok(Value::text(print::sprintln(arguments))),
        "printf" => Ok(Value::text(print::sprintf(&text(0)?, &arguments[1..]))),
        "html" => Ok(Value::text(html(&print::sprint(arguments)))),
        "js" => Ok(Value::text(js(&print::sprint(arguments)))),
        "urlquery" => Ok(Value::text(url_query(&print::sprint(arguments)))),
        "call" => match arguments.split_first() {
            Some((Value::Method(method), rest)) => method(rest).map_err(Failed),
            _ => Err(Failed("non-function of type interface {}".into())),
        },
        "json" => {
            exactly(name, arguments, 1)?;
            let json = arguments[0].to_json().ok_or_else(|| Failed("a method has no JSON".into()))?;
            Ok(Value::text(json.to_string()))
        }
        "lower" => one_text(name, arguments).map(|text| Value::text(text.to_lowercase())),
        "upper" => one_text(name, arguments).map(|text| Value::text(text.to_uppercase())),
        "title" => one_text(name, arguments).map(|text| Value::text(title(&text))),
        "split" => {
            exactly(name, arguments, 2)?;
            let (whole, separator) = (text(0)?, text(1)?);
            let parts = if separator.is_empty() {
                whole.chars().map(|c| Value::text(c.to_string())).collect()
            } else {
                whole.split(separator.as_ref()).map(Value::text).collect()
            };
            Ok(Value::List(Rc::new(parts)))
        }
        "join" => {
            exactly(name, arguments, 2)?;
            let items = match &arguments[0] {
                Value::List(items) => items.iter().map(print::verb_v).collect::<Vec<_>>(),
                Value::Nil | Value::NilList => Vec::new(),
                other => return Err(wrong_type("[]string", other)),
            };
            Ok(Value::text(items.join(&text(1)?)))
        }
        "pad" => pad(arguments),
        "truncate" => {
            exactly(name, arguments, 2)?;
            let length = int_argument(arguments, 1)?.max(0) as usize;
            let whole = text(0)?;
            Ok(Value::text(whole.chars().take(length).collect::<String>()))
        }
        _ => Err(Arguments(format!("function {name:?} not defined"))),
    }
}

fn exactly(name: &str, arguments: &[Value], count: usize) -> Result<(), CallError> {
    if arguments.len() == count {
        return Ok(());
    }
    Err(Arguments(format!("wrong number of args for {name}: want {count} got {}", arguments.len())))
}

fn wrong_type(wanted: &str, found: &Value) -> CallError {
    Arguments(format!("wrong type for value; expected {wanted}; got {}", found.type_name()))
}

fn text_argument(name: &str, arguments: &[Value], index: usize) -> Result<Rc<str>, CallError> {
    match arguments.get(index) {
        Some(Value::Text(text)) => Ok(text.clone()),
        Some(other) => Err(wrong_type("string", other)),
        None => Err(Arguments(format!(
            "wrong number of args for {name}: want at least {} got {}",
            index + 1,
            arguments.len()
        ))),
    }
}

fn one_text(name: &str, arguments: &[Value]) -> Result<Rc<str>, CallError> {
    exactly(name, arguments, 1)?;
    text_argument(name, arguments, 0)
}

fn int_argument(arguments: &[Value], index: usize) -> Result<i64, CallError> {
    match arguments.get(index) {
        Some(Value::Int(value)) => Ok(*value),
        Some(other) => Err(wrong_type("int", other)),
        None => Err(Arguments(format!("wrong number of args: want {} got {}", index + 1, arguments.len()))),
    }
}

fn pad(arguments: &[Value]) -> Called {
    exactly("pad", arguments, 3)?;
    let text = text_argument("pad", arguments, 0)?;
    let side = |index| -> Result<String, CallError> {
        let width = int_argument(arguments, index)?;
        if width > MAX_PADDING {
            return Err(Failed(format!("padding of {width} is more than {MAX_PADDING}")));
        }
        Ok(" ".repeat(width.max(0) as usize))
    };
    if text.is_empty() {
        return Ok(Value::text(""));
    }
    Ok(Value::text(format!("{}{text}{}", side(1)?, side(2)?)))
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut starts = true;
    for c in text.chars() {
        if starts {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
        starts = !(c.is_alphanumeric() || c == '_' || c == '\'');
    }
    out
}

fn compare(name: &str, arguments: &[Value]) -> Called {
    let Some((first, rest)) = arguments.split_first() else {
        return Err(Arguments(format!("wrong number of args for {name}: want at least 1 got 0")));
    };
    if name == "eq" {
        if rest.is_empty() {
            return Err(Failed("missing argument for comparison".into()));
        }
        for other in rest {
            if equal(first, other)? {
                return Ok(Value::Bool(true));
            }
        }
        return Ok(Value::Bool(false));
    }
    exactly(name, arguments, 2)?;
    let other = &rest[0];
    if name == "ne" {
        return equal(first, other).map(|same| Value::Bool(!same));
    }
    let order = order(first, other)?;
    Ok(Value::Bool(match name {
        "lt" => order == Ordering::Less,
        "le" => order != Ordering::Greater,
        "gt" => order == Ordering::Greater,
        _ => order != Ordering::Less,
    }))
}

fn equal(a: &Value, b: &Value) -> Result<bool, CallError> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Nil | Value::NilPointer, Value::Nil | Value::NilPointer) => Ok(true),
        (Value::Nil | Value::NilPointer, _) | (_, Value::Nil | Value::NilPointer) => Ok(false),
        (Value::List(_) | Value::NilList | Value::Map(_) | Value::NilMap, _)
        | (_, Value::List(_) | Value::NilList | Value::Map(_) | Value::NilMap) => {
            Err(Failed("non-comparable type".into()))
        }
        _ => order(a, b).map(|order| order == Ordering::Equal),
    }
}

fn order(a: &Value, b: &Value) -> Result<Ordering, CallError> {
    let incomparable = || Failed("incompatible types for comparison".to_owned());
    Ok(match (a, b) {
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b).ok_or_else(incomparable)?,
        _ => whole(a).ok_or_else(incomparable)?.cmp(&whole(b).ok_or_else(incomparable)?),
    })
}

fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Int(value) => Some((*value).into()),
        Value::Uint(value) => Some((*value).into()),
        _ => None,
    }
}

fn len(arguments: &[Value]) -> Called {
    exactly("len", arguments, 1)?;
    let length = match &arguments[0] {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len(),
        Value::Map(map) => map.len(),
        Value::NilList | Value::NilMap => 0,
        Value::Nil | Value::NilPointer => return Err(Failed("len of nil pointer".into())),
        other => return Err(Failed(format!("len of type {}", other.type_name()))),
    };
    Ok(Value::Int(length as i64))
}

fn index(arguments: &[Value]) -> Called {
    let Some((first, keys)) = arguments.split_first() else {
        return Err(Arguments("wrong number of args for index: want at least 1 got 0".into()));
    };
    let mut value = first.clone();
    for key in keys {
        value = match (&value, key) {
            (Value::List(items), Value::Int(at)) => {
                let item = usize::try_from(*at).ok().and_then(|at| items.get(at));
                item.cloned().ok_or_else(|| Failed(format!("index out of range: {at}")))?
            }
            (Value::NilList, Value::Int(at)) => return Err(Failed(format!("index out of range: {at}"))),
            (Value::Map(map), Value::Text(key)) => map.get(key.as_ref()).cloned().unwrap_or(Value::Nil),
            (Value::NilMap, Value::Text(_)) => Value::Nil,
            (Value::Text(text), Value::Int(at)) => {
                let byte = usize::try_from(*at).ok().and_then(|at| text.as_bytes().get(at));
                let byte = byte.ok_or_else(|| Failed(format!("index out of range: {at}")))?;
                Value::Int((*byte).into())
            }
            (Value::Nil | Value::NilPointer, _) => return Err(Failed("index of untyped nil".into())),
            (Value::List(_) | Value::NilList | Value::Text(_), other) => {
                return Err(Failed(format!("cannot index slice/array with type {}", other.type_name())));
            }
            (Value::Map(_) | Value::NilMap, other) => {
                return Err(Failed(format!("value has type {}; should be string", other.type_name())));
            }
            (other, _) => return Err(Failed(format!("can't index item of type {}", other.type_name()))),
        };
    }
    Ok(value)
}

fn slice(arguments: &[Value]) -> Called {
    let Some((first, bounds)) = arguments.split_first() else {
        return Err(Arguments("wrong number of args for slice: want at least 1 got 0".into()));
    };
    let length = match first {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len(),
        Value::NilList => 0,
        other => return Err(Failed(format!("can't slice item of type {}", other.type_name()))),
    };
    let bound = |index: usize, default: usize| match bounds.get(index) {
        None => Ok(default),
        Some(Value::Int(at)) => usize::try_from(*at)
            .ok()
            .filter(|at| *at <= length)
            .ok_or_else(|| Failed(format!("index out of range: {at}"))),
        Some(other) => Err(Failed(format!("cannot index slice/array with type {}", other.type_name()))),
    };
    let (low, high) = (bound(0, 0)?, bound(1, length)?);
    if low > high {
        return Err(Failed(format!("invalid slice index: {low} > {high}")));
    }
    Ok(match first {
        Value::Text(text) => Value::text(String::from_utf8_lossy(&text.as_bytes()[low..high]).into_owned()),
        Value::List(items) => Value::List(Rc::new(items[low..high].to_vec())),
        _ => Value::NilList,
    })
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", c as u32)),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

fn url_query(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            byte if byte.is_ascii_alphanumeric() => out.push(byte as char),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
