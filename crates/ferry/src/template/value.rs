//! The values templates work on: JSON, plus what Go knows of a value and JSON does not (is it a struct or
//! a map, a nil list or a nil pointer), plus methods.

use std::collections::BTreeMap;
use std::rc::Rc;

/// A method of a value: called with the arguments after its name.
pub type Method = Rc<dyn Fn(&[Value]) -> Result<Value, String>>;

/// A value.
#[derive(Clone)]
pub enum Value {
    /// Nothing: JSON's null, a key that a map lacks; prints as `<no value>`.
    Nil,
    /// A pointer to nothing; prints as `<nil>`.
    NilPointer,
    /// A list that was never made; prints as `[]`.
    NilList,
    /// A map that was never made; prints as `map[]`.
    NilMap,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number beyond the signed ones.
    Uint(u64),
    /// A number with a fraction.
    Float(f64),
    /// Text.
    Text(Rc<str>),
    /// A list.
    List(Rc<Vec<Value>>),
    /// A map; prints its keys in order.
    Map(Rc<BTreeMap<String, Value>>),
    /// Named fields in their order; prints values only.
    Struct(Rc<Vec<Field>>),
    /// A method.
    Method(Method),
}

/// A field of a struct.
#[derive(Clone)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: Value,
    /// Left out of JSON because it is empty.
    pub omitted: bool,
}

impl std::fmt::Debug for Value {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.to_json() {
            Some(json) => write!(out, "{json}"),
            None => out.write_str("<method>"),
        }
    }
}

impl Value {
    /// Text.
    pub fn text(text: impl Into<Rc<str>>) -> Value {
        Value::Text(text.into())
    }

    /// A map of these entries.
    pub fn map<K: Into<String>>(entries: impl IntoIterator<Item = (K, Value)>) -> Value {
        Value::Map(Rc::new(entries.into_iter().map(|(key, value)| (key.into(), value)).collect()))
    }

    /// The JSON of this value, keys of structs in their order; None for a method.
    pub fn to_json(&self) -> Option<serde_json::Value> {
        use serde_json::Value as Json;
        Some(match self {
            Value::Nil | Value::NilPointer | Value::NilList | Value::NilMap => Json::Null,
            Value::Bool(value) => (*value).into(),
            Value::Int(value) => (*value).into(),
            Value::Uint(value) => (*value).into(),
            Value::Float(value) => (*value).into(),
            Value::Text(text) => text.as_ref().into(),
            Value::List(items) => items.iter().filter_map(Value::to_json).collect(),
            Value::Map(map) => Json::Object(
                map.iter().filter_map(|(key, value)| Some((key.clone(), value.to_json()?))).collect(),
            ),
            Value::Struct(fields) => Json::Object(
                fields
                    .iter()
                    .filter(|field| !field.omitted)
                    .filter_map(|field| Some((field.name.to_owned(), field.value.to_json()?)))
                    .collect(),
            ),
            Value::Method(_) => return None,
        })
    }

    /// Go's notion of true: neither zero nor empty.
    pub fn is_true(&self) -> bool {
        match self {
            Value::Nil | Value::NilPointer | Value::NilList | Value::NilMap => false,
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::Uint(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::List(items) => !items.is_empty(),
            Value::Map(map) => !map.is_empty(),
            Value::Struct(_) | Value::Method(_) => true,
        }
    }

    /// Go's name for the type, as its errors have it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Nil | Value::NilPointer => "nil",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint64",
            Value::Float(_) => "float64",
            Value::Text(_) => "string",
            Value::NilList | Value::List(_) => "[]interface {}",
            Value::NilMap | Value::Map(_) => "map[string]interface {}",
            Value::Struct(_) => "struct",
            Value::Method(_) => "func",
        }
    }
}

impl From<&serde_json::Value> for Value {
    fn from(json: &serde_json::Value) -> Value {
        use serde_json::Value as Json;
        match json {
            Json::Null => Value::Nil,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => Value::Int(value),
                (None, Some(value)) => Value::Uint(value),
                (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::text(text.as_str()),
            Json::Array(items) => Value::List(Rc::new(items.iter().map(Value::from).collect())),
            Json::Object(map) => Value::map(map.iter().map(|(key, value)| (key.as_str(), value.into()))),
        }
    }
}
