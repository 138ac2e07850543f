//! Decoding by the rules of Go's JSON decoder, which clients have come to rely on: keys match fields in
//! any case, null leaves a field at its zero value, unknown keys are ignored.

use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A JSON text that is not what the endpoint takes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(String);

impl From<serde_json::Error> for DecodeError {
    fn from(error: serde_json::Error) -> Self {
        DecodeError(error.to_string())
    }
}

impl de::Error for DecodeError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        DecodeError(message.to_string())
    }
}

/// Decodes a JSON text.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    from_value(serde_json::from_slice(bytes).map_err(|error| DecodeError(format!("invalid JSON: {error}")))?)
}

/// Decodes an engine's answer: by the letter, which is three times as fast, and by Go's rules where that
/// fails. Engines spell keys as the API does, so nothing is missed by the letter.
pub fn from_answer<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    serde_json::from_slice(bytes).or_else(|_| from_slice(bytes))
}

/// Decodes a JSON value.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, DecodeError> {
    T::deserialize(Lenient(value))
}

/// For `Cmd`, `Entrypoint`, `Shell` and `Test`: a list, or one string that stands for a list of one.
pub fn string_or_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        List(Option<Vec<String>>),
        One(String),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::List(list) => list,
        Either::One(word) => Some(vec![word]),
    })
}

struct Lenient(Value);

struct Entries {
    entries: std::vec::IntoIter<(String, Value)>,
    value: Option<(String, Value)>,
}

impl Entries {
    /// Adds the key to the path that the message starts with.
    fn within(key: &str, error: DecodeError) -> DecodeError {
        if error.0.starts_with('.') {
            return DecodeError(format!(".{key}{}", error.0));
        }
        DecodeError(format!(".{key}: {}", error.0))
    }
}

impl<'de> de::MapAccess<'de> for Entries {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        let read = seed.deserialize(IntoDeserializer::<DecodeError>::into_deserializer(key.as_str()))?;
        self.value = Some((key, value));
        Ok(Some(read))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DecodeError> {
        let (key, value) = self.value.take().ok_or_else(|| DecodeError("value without a key".into()))?;
        seed.deserialize(Lenient(value)).map_err(|error| Self::within(&key, error))
    }
}

struct Items(std::vec::IntoIter<Value>);

impl<'de> de::SeqAccess<'de> for Items {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        self.0.next().map(|item| seed.deserialize(Lenient(item))).transpose()
    }
}

/// Gives each key the spelling of the field it matches, drops nulls; of keys that match the same field the
/// last one counts, as in Go.
fn canonical(map: serde_json::Map<String, Value>, fields: &'static [&'static str]) -> Vec<(String, Value)> {
    let mut out: Vec<(String, Value)> = Vec::with_capacity(map.len());
    for (key, value) in map {
        if value.is_null() {
            continue;
        }
        let exact = fields.iter().find(|field| **field == key);
        let Some(field) = exact.or_else(|| fields.iter().find(|field| field.eq_ignore_ascii_case(&key)))
        else {
            continue;
        };
        match out.iter_mut().find(|(seen, _)| seen == field) {
            Some(entry) => entry.1 = value,
            None => out.push(((*field).to_owned(), value)),
        }
    }
    out
}

macro_rules! null_as {
    ($($method:ident => $visit:ident($zero:expr)),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            if self.0.is_null() { visitor.$visit($zero) } else { self.deserialize_any(visitor) }
        })*
    };
}

impl<'de> Deserializer<'de> for Lenient {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::String(text) => visitor.visit_string(text),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(value), _, _) => visitor.visit_u64(value),
                (_, Some(value), _) => visitor.visit_i64(value),
                (_, _, Some(value)) => visitor.visit_f64(value),
                _ => Err(DecodeError(format!("number {number} is out of range"))),
            },
            Value::Array(items) => visitor.visit_seq(Items(items.into_iter())),
            Value::Object(map) => {
                let entries: Vec<_> = map.into_iter().collect();
                visitor.visit_map(Entries { entries: entries.into_iter(), value: None })
            }
        }
    }

    null_as! {
        deserialize_bool => visit_bool(false),
        deserialize_i8 => visit_i64(0), deserialize_i16 => visit_i64(0),
        deserialize_i32 => visit_i64(0), deserialize_i64 => visit_i64(0),
        deserialize_u8 => visit_u64(0), deserialize_u16 => visit_u64(0),
        deserialize_u32 => visit_u64(0), deserialize_u64 => visit_u64(0),
        deserialize_f32 => visit_f64(0.0), deserialize_f64 => visit_f64(0.0),
        deserialize_str => visit_str(""), deserialize_string => visit_str(""),
        deserialize_seq => visit_seq(Items(Vec::new().into_iter())),
        deserialize_map => visit_map(Entries { entries: Vec::new().into_iter(), value: None }),
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let entries = match self.0 {
            Value::Object(map) => canonical(map, fields),
            Value::Null => Vec::new(),
            _ => return self.deserialize_any(visitor),
        };
        visitor.visit_map(Entries { entries: entries.into_iter(), value: None })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.0.deserialize_enum(name, variants, visitor).map_err(de::Error::custom)
    }

    serde::forward_to_deserialize_any! {
        char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::{Config, CreateRequest, HostConfig};

    #[test]
    fn answers_may_hold_what_go_writes() {
        for body in [
            &br#"{"Image":"box","Labels":{"a":"b"}}"#[..],
            br#"{"Image":"box","Labels":{"a":"b"},"Cmd":null,"Tty":null}"#,
        ] {
            let config: Config = from_answer(body).unwrap();
            assert_eq!((config.image.as_str(), config.tty), ("box", false));
            assert_eq!(config.labels.unwrap()["a"], "b");
        }
        assert!(from_answer::<Config>(b"{").unwrap_err().to_string().starts_with("invalid JSON: "));
    }

    #[test]
    fn keys_match_in_any_case_and_nulls_are_zero() {
        let body = br#"{"image":"busybox","CMD":"true","entryPoint":["a","b"],"Labels":null,"tty":null,
            "hostconfig":{"memory":5,"NETWORKMODE":"none","portBindings":{"80/tcp":[{"hostport":"8080"}]},
            "Mounts":null,"ConsoleSize":null},"unknown":{"x":1}}"#;
        let request = CreateRequest::from_slice(body).unwrap();
        assert_eq!(request.config.image, "busybox");
        assert_eq!(request.config.cmd, Some(vec!["true".to_owned()]));
        assert_eq!(request.config.entrypoint, Some(vec!["a".to_owned(), "b".to_owned()]));
        let host = request.host_config.unwrap();
        assert_eq!((host.memory, host.network_mode.as_str()), (5, "none"));
        let bindings = host.port_bindings.unwrap()["80/tcp"].clone().unwrap();
        assert_eq!(bindings[0].host_port, "8080");
        assert_eq!(request.networking_config, None);
    }

    #[test]
    fn what_is_written_reads_back() {
        let host_config = HostConfig { memory: 7, binds: Some(vec!["/a:/b".into()]), ..Default::default() };
        let config = Config { image: "x".into(), ..Default::default() };
        let request = CreateRequest { config, host_config: Some(host_config), networking_config: None };
        let bytes = serde_json::to_vec(&request).unwrap();
        assert_eq!(CreateRequest::from_slice(&bytes).unwrap(), request);
    }

    #[test]
    fn go_shapes() {
        let config = serde_json::to_value(Config::default()).unwrap();
        assert_eq!(config["Env"], Value::Null);
        assert!(config.get("Healthcheck").is_none() && config.get("ExposedPorts").is_none());
        let host = serde_json::to_value(HostConfig::default()).unwrap();
        for key in
            ["Binds", "IOMaximumIOps", "BlkioDeviceReadIOps", "UTSMode", "OomKillDisable", "CpusetCpus"]
        {
            assert!(host.get(key).is_some(), "{key}");
        }
        assert!(host.get("Mounts").is_none() && host.get("Init").is_none());
    }

    #[test]
    fn errors_name_the_place() {
        let error = CreateRequest::from_slice(br#"{"HostConfig":{"Memory":"5"}}"#).unwrap_err().to_string();
        assert!(error.starts_with(".HostConfig.Memory: "), "{error}");
        assert!(from_slice::<Config>(b"{").unwrap_err().to_string().starts_with("invalid JSON: "));
    }
}
