//! Query parameters with Docker's ideas of truth, repetition and numbers.

use std::convert::Infallible;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use ferry_api::Filters;

use crate::error::HttpError;

/// The query of a request: names may repeat, order is kept.
#[derive(Debug, Clone, Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Decodes `a=1&b=x%20y+z`.
    pub fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|part| !part.is_empty()).map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(name), decode(value))
        });
        Self(pairs.collect())
    }

    /// The first value of a parameter; an empty one counts as not given.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|v| !v.is_empty())
    }

    /// Every value of a parameter.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Docker's truth: everything but nothing, `0`, `no`, `false` and `none`.
    pub fn flag(&self, name: &str) -> bool {
        self.flag_or(name, false)
    }

    /// As `flag`, with another value where the parameter is not given.
    pub fn flag_or(&self, name: &str, default: bool) -> bool {
        match self.get(name) {
            None => default,
            Some(value) => {
                !matches!(value.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
            }
        }
    }

    /// A number, or a 400 that names it.
    pub fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, HttpError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(HttpError::bad_request(format!("invalid value {text:?} for {name}: not a number"))),
        }
    }

    /// The `filters` parameter, refusing keys that are not in `known`.
    pub fn filters(&self, known: &[&str]) -> Result<Filters, HttpError> {
        let filters = Filters::parse(self.get("filters").unwrap_or(""))?;
        filters.validate(known)?;
        Ok(filters)
    }
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let hex = (bytes[index] == b'%')
            .then(|| text.get(index + 1..index + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (bytes[index], hex) {
            (_, Some(byte)) => {
                out.push(byte);
                index += 3;
                continue;
            }
            (b'+', None) => out.push(b' '),
            (byte, None) => out.push(byte),
        }
        index += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut http::request::Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or("")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_decode() {
        let params = Params::parse("a=1&b=x%20y+z&b=%7B%22k%22%3A1%7D&c&d=%zz%4");
        assert_eq!(params.get("a"), Some("1"));
        assert_eq!(params.all("b").collect::<Vec<_>>(), ["x y z", "{\"k\":1}"]);
        assert_eq!(params.get("c"), None);
        assert_eq!(params.get("d"), Some("%zz%4"));
        assert_eq!(params.number::<i64>("a").unwrap(), Some(1));
        assert_eq!(
            params.number::<i64>("d").unwrap_err().message,
            "invalid value \"%zz%4\" for d: not a number"
        );
    }

    #[test]
    fn truth_is_dockers() {
        for (text, truth) in [
            ("1", true),
            ("true", true),
            ("yes", true),
            ("0", false),
            ("False", false),
            ("none", false),
            ("no", false),
        ] {
            assert_eq!(Params::parse(&format!("x={text}")).flag("x"), truth, "{text}");
        }
        assert!(!Params::parse("").flag("x"));
        assert!(Params::parse("").flag_or("x", true));
    }
}
