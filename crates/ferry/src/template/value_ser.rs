//! Wire types to values, keeping what is a struct and what is a map.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::ser::{self, Serialize};

use super::value::{Field, Value};

/// Fields that are pointers in Go: absent ones print as `<nil>`.
const POINTERS: [&str; 8] = [
    "Health",
    "Healthcheck",
    "IPAMConfig",
    "Init",
    "MemorySwappiness",
    "OomKillDisable",
    "PidsLimit",
    "StopTimeout",
];
/// Fields that are maps in Go: absent ones print as `map[]`. All others are lists.
const MAPS: [&str; 10] = [
    "Annotations",
    "DriverOpts",
    "ExposedPorts",
    "Labels",
    "Options",
    "PortBindings",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

impl Value {
    /// The value of a wire type.
    pub fn of<T: Serialize>(data: &T) -> Value {
        data.serialize(ToValue).expect("wire types have string keys and no failing fields")
    }
}

/// Fields that are texts and switches in Go, left out of JSON where they are empty.
const TEXTS: [&str; 12] = [
    "CreatedAt",
    "DockerVersion",
    "Driver",
    "HostIp",
    "MacAddress",
    "Name",
    "OsVersion",
    "Parent",
    "StopSignal",
    "Type",
    "User",
    "WorkingDir",
];
const SWITCHES: [&str; 2] = ["ArgsEscaped", "NetworkDisabled"];

fn nil_field(name: &str) -> Value {
    if TEXTS.contains(&name) {
        Value::text("")
    } else if SWITCHES.contains(&name) {
        Value::Bool(false)
    } else if POINTERS.contains(&name) {
        Value::NilPointer
    } else if MAPS.contains(&name) {
        Value::NilMap
    } else {
        Value::NilList
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotAValue(String);

impl ser::Error for NotAValue {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        NotAValue(message.to_string())
    }
}

struct ToValue;
struct ToList(Vec<Value>);
struct ToMap(BTreeMap<String, Value>, Option<String>);
struct ToStruct(Vec<Field>);

macro_rules! numbers {
    ($($method:ident($kind:ty) => $variant:ident),* $(,)?) => {
        $(fn $method(self, value: $kind) -> Result<Value, NotAValue> { Ok(Value::$variant(value.into())) })*
    };
}

impl ser::Serializer for ToValue {
    type Ok = Value;
    type Error = NotAValue;
    type SerializeSeq = ToList;
    type SerializeTuple = ToList;
    type SerializeTupleStruct = ToList;
    type SerializeTupleVariant = ToList;
    type SerializeMap = ToMap;
    type SerializeStruct = ToStruct;
    type SerializeStructVariant = ToStruct;

    numbers! {
        serialize_bool(bool) => Bool,
        serialize_i8(i8) => Int, serialize_i16(i16) => Int, serialize_i32(i32) => Int, serialize_i64(i64) => Int,
        serialize_u8(u8) => Int, serialize_u16(u16) => Int, serialize_u32(u32) => Int,
        serialize_f32(f32) => Float, serialize_f64(f64) => Float,
        serialize_str(&str) => Text,
    }

    fn serialize_u64(self, value: u64) -> Result<Value, NotAValue> {
        Ok(i64::try_from(value).map_or(Value::Uint(value), Value::Int))
    }

    fn serialize_char(self, value: char) -> Result<Value, NotAValue> {
        Ok(Value::text(value.to_string()))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<Value, NotAValue> {
        Ok(Value::List(Rc::new(value.iter().map(|byte| Value::Int((*byte).into())).collect())))
    }

    fn serialize_none(self) -> Result<Value, NotAValue> {
        Ok(Value::Nil)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, NotAValue> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value, NotAValue> {
        Ok(Value::Nil)
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<Value, NotAValue> {
        Ok(Value::Struct(Rc::default()))
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<Value, NotAValue> {
        Ok(Value::text(variant))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<Value, NotAValue> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value, NotAValue> {
        Ok(Value::map([(variant, value.serialize(self)?)]))
    }

    fn serialize_seq(self, _length: Option<usize>) -> Result<ToList, NotAValue> {
        Ok(ToList(Vec::new()))
    }

    fn serialize_tuple(self, _length: usize) -> Result<ToList, NotAValue> {
        Ok(ToList(Vec::new()))
    }

    fn serialize_tuple_struct(self, _name: &'static str, _length: usize) -> Result<ToList, NotAValue> {
        Ok(ToList(Vec::new()))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<ToList, NotAValue> {
        Ok(ToList(Vec::new()))
    }

    fn serialize_map(self, _length: Option<usize>) -> Result<ToMap, NotAValue> {
        Ok(ToMap(BTreeMap::new(), None))
    }

    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<ToStruct, NotAValue> {
        Ok(ToStruct(Vec::new()))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<ToStruct, NotAValue> {
        Ok(ToStruct(Vec::new()))
    }
}

macro_rules! list_of {
    ($($kind:ident :: $method:ident),* $(,)?) => {
        $(impl ser::$kind for ToList {
            type Ok = Value;
            type Error = NotAValue;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotAValue> {
                self.0.push(value.serialize(ToValue)?);
                Ok(())
            }

            fn end(self) -> Result<Value, NotAValue> {
                Ok(Value::List(Rc::new(self.0)))
            }
        })*
    };
}

list_of!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field,
);

impl ser::SerializeMap for ToMap {
    type Ok = Value;
    type Error = NotAValue;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), NotAValue> {
        self.1 = Some(match key.serialize(ToValue)? {
            Value::Text(text) => text.to_string(),
            other => return Err(NotAValue(format!("a {} as key of a map", other.type_name()))),
        });
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotAValue> {
        let key = self.1.take().ok_or_else(|| NotAValue("a value before its key".into()))?;
        // Where a map has empty values, they are lists (the bindings of a port).
        let value = match value.serialize(ToValue)? {
            Value::Nil => Value::NilList,
            value => value,
        };
        self.0.insert(key, value);
        Ok(())
    }

    fn end(self) -> Result<Value, NotAValue> {
        Ok(Value::Map(Rc::new(self.0)))
    }
}

macro_rules! struct_of {
    ($($kind:ident),*) => {
        $(impl ser::$kind for ToStruct {
            type Ok = Value;
            type Error = NotAValue;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), NotAValue> {
                let value = match value.serialize(ToValue)? {
                    Value::Nil => nil_field(name),
                    value => value,
                };
                self.0.push(Field { name, value, omitted: false });
                Ok(())
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), NotAValue> {
                self.0.push(Field { name, value: nil_field(name), omitted: true });
                Ok(())
            }

            fn end(self) -> Result<Value, NotAValue> {
                Ok(Value::Struct(Rc::new(self.0)))
            }
        })*
    };
}

struct_of!(SerializeStruct, SerializeStructVariant);
