//! How Go prints values: `%v` of everything, and `printf`.

use super::value::Value;

/// Widest field that a format may ask for.
const MAX_WIDTH: usize = 10_000;

/// What an action on its own prints.
pub(super) fn top_level(value: &Value, out: &mut String) {
    match value {
        Value::Nil => out.push_str("<no value>"),
        value => write_v(value, out),
    }
}

/// `%v`.
pub(super) fn verb_v(value: &Value) -> String {
    let mut out = String::new();
    write_v(value, &mut out);
    out
}

fn write_v(value: &Value, out: &mut String) {
    match value {
        Value::Nil | Value::NilPointer => out.push_str("<nil>"),
        Value::NilList => out.push_str("[]"),
        Value::NilMap => out.push_str("map[]"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(value) => out.push_str(&value.to_string()),
        Value::Uint(value) => out.push_str(&value.to_string()),
        Value::Float(value) => out.push_str(&shortest(*value)),
        Value::Text(text) => out.push_str(text),
        Value::List(items) => {
            out.push('[');
            separated(items.iter(), out);
            out.push(']');
        }
        Value::Struct(fields) => {
            out.push('{');
            separated(fields.iter().map(|field| &field.value), out);
            out.push('}');
        }
        Value::Map(map) => {
            out.push_str("map[");
            for (index, (key, value)) in map.iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                out.push_str(key);
                out.push(':');
                write_v(value, out);
            }
            out.push(']');
        }
        Value::Method(_) => out.push_str("<func>"),
    }
}

fn separated<'a>(values: impl Iterator<Item = &'a Value>, out: &mut String) {
    for (index, value) in values.enumerate() {
        if index > 0 {
            out.push(' ');
        }
        write_v(value, out);
    }
}

/// Go's shortest form of a float: an exponent below 1e-4 and from 1e21 on.
fn shortest(value: f64) -> String {
    if value == 0.0 || (1e-4..1e21).contains(&value.abs()) {
        return format!("{value}");
    }
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    exponent(format!("{value:e}"))
}

/// `1.5e7` as Go writes it: `1.5e+07`.
fn exponent(text: String) -> String {
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(rest) => ('-', rest),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

/// `fmt.Sprint`: spaces between values of which neither is a text.
pub(super) fn sprint(values: &[Value]) -> String {
    let mut out = String::new();
    for (index, value) in values.iter().enumerate() {
        let texts =
            matches!(value, Value::Text(_)) || index > 0 && matches!(values[index - 1], Value::Text(_));
        if index > 0 && !texts {
            out.push(' ');
        }
        write_v(value, &mut out);
    }
    out
}

/// `fmt.Sprintln`.
pub(super) fn sprintln(values: &[Value]) -> String {
    let mut out = String::new();
    separated(values.iter(), &mut out);
    out.push('\n');
    out
}

#[derive(Default)]
struct Spec {
    minus: bool,
    plus: bool,
    zero: bool,
    space: bool,
    sharp: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// `fmt.Sprintf`.
pub(super) fn sprintf(format: &str, values: &[Value]) -> String {
    let mut out = String::new();
    let mut values = values.iter();
    let mut letters = format.chars().peekable();
    while let Some(c) = letters.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let spec = read_spec(&mut letters, &mut values);
        match letters.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match values.next() {
                Some(value) => out.push_str(&formatted(verb, &spec, value)),
                None => out.push_str(&format!("%!{verb}(MISSING)")),
            },
        }
    }
    let extra: Vec<String> = values.map(|value| format!("{}={}", value.type_name(), verb_v(value))).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn read_spec<'a>(
    letters: &mut std::iter::Peekable<std::str::Chars<'_>>,
    values: &mut impl Iterator<Item = &'a Value>,
) -> Spec {
    let mut spec = Spec::default();
    while let Some(c) = letters.peek() {
        match c {
            '-' => spec.minus = true,
            '+' => spec.plus = true,
            '0' => spec.zero = true,
            ' ' => spec.space = true,
            '#' => spec.sharp = true,
            _ => break,
        }
        letters.next();
    }
    spec.width = read_width(letters, values, &mut spec.minus);
    if letters.peek() == Some(&'.') {
        letters.next();
        spec.precision = Some(read_width(letters, values, &mut false).unwrap_or(0));
    }
    spec
}

fn read_width<'a>(
    letters: &mut std::iter::Peekable<std::str::Chars<'_>>,
    values: &mut impl Iterator<Item = &'a Value>,
    minus: &mut bool,
) -> Option<usize> {
    if letters.peek() == Some(&'*') {
        letters.next();
        return match values.next() {
            Some(Value::Int(width)) => {
                *minus |= *width < 0;
                Some((width.unsigned_abs() as usize).min(MAX_WIDTH))
            }
            _ => None,
        };
    }
    let mut width = None;
    while let Some(digit) = letters.peek().and_then(|c| c.to_digit(10)) {
        width = Some((width.unwrap_or(0) * 10 + digit as usize).min(MAX_WIDTH));
        letters.next();
    }
    width
}

fn formatted(verb: char, spec: &Spec, value: &Value) -> String {
    let text = match (verb, value) {
        ('v', Value::Text(text)) if spec.sharp => quoted(text),
        ('v' | 's', Value::Text(text)) => cut(text, spec.precision),
        ('v', Value::Int(_) | Value::Uint(_)) => whole(value, spec, 'd'),
        ('v', value) => verb_v(value),
        ('s', Value::List(_) | Value::NilList | Value::Map(_) | Value::NilMap | Value::Struct(_)) => {
            verb_v(value)
        }
        ('q', Value::Text(text)) => quoted(text),
        ('q', Value::List(items)) => {
            let items: Vec<String> =
                items.iter().map(|item| formatted('q', &Spec::default(), item)).collect();
            format!("[{}]", items.join(" "))
        }
        ('d' | 'b' | 'o' | 'x' | 'X', Value::Int(_) | Value::Uint(_)) => whole(value, spec, verb),
        ('c', Value::Int(code)) => {
            u32::try_from(*code).ok().and_then(char::from_u32).unwrap_or('\u{fffd}').to_string()
        }
        ('U', Value::Int(code)) => format!("U+{code:04X}"),
        ('x', Value::Text(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('X', Value::Text(text)) => text.bytes().map(|byte| format!("{byte:02X}")).collect(),
        ('t', Value::Bool(value)) => value.to_string(),
        ('f' | 'F', Value::Float(value)) => signed(format!("{value:.*}", spec.precision.unwrap_or(6)), spec),
        ('e', Value::Float(value)) => {
            signed(exponent(format!("{value:.*e}", spec.precision.unwrap_or(6))), spec)
        }
        ('g', Value::Float(value)) => signed(shortest(*value), spec),
        ('T', value) => value.type_name().to_owned(),
        (verb, Value::Nil | Value::NilPointer) => format!("%!{verb}(<nil>)"),
        (verb, value) => format!("%!{verb}({}={})", value.type_name(), verb_v(value)),
    };
    pad(text, spec, matches!(value, Value::Int(_) | Value::Uint(_) | Value::Float(_)))
}

fn whole(value: &Value, spec: &Spec, verb: char) -> String {
    let (negative, magnitude) = match value {
        Value::Int(value) => (*value < 0, value.unsigned_abs()),
        Value::Uint(value) => (false, *value),
        _ => (false, 0),
    };
    let digits = match verb {
        'b' => format!("{magnitude:b}"),
        'o' => format!("{magnitude:o}"),
        'x' if spec.sharp => format!("0x{magnitude:x}"),
        'X' if spec.sharp => format!("0X{magnitude:X}"),
        'x' => format!("{magnitude:x}"),
        'X' => format!("{magnitude:X}"),
        _ => magnitude.to_string(),
    };
    if negative { format!("-{digits}") } else { signed(digits, spec) }
}

fn signed(text: String, spec: &Spec) -> String {
    match (text.starts_with('-'), spec.plus, spec.space) {
        (false, true, _) => format!("+{text}"),
        (false, false, true) => format!(" {text}"),
        _ => text,
    }
}

fn cut(text: &str, precision: Option<usize>) -> String {
    match precision {
        Some(length) => text.chars().take(length).collect(),
        None => text.to_owned(),
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\x0b' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn pad(text: String, spec: &Spec, number: bool) -> String {
    let Some(missing) = spec.width.and_then(|width| width.checked_sub(text.chars().count())) else {
        return text;
    };
    if spec.minus {
        return format!("{text}{}", " ".repeat(missing));
    }
    if !(spec.zero && number) {
        return format!("{}{text}", " ".repeat(missing));
    }
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (&text[..1], digits),
        None => ("", text.as_str()),
    };
    format!("{sign}{}{digits}", "0".repeat(missing))
}
