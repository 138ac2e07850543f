//! Signatures of requests to S3: AWS Signature Version 4, in headers.

use jiff::Timestamp;
use ring::{digest, hmac};

/// A payload whose digest is not said: it is protected by TLS alone.
pub const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// Who asks.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// The public half.
    pub id: String,
    /// The secret half.
    pub secret: String,
    /// Of a temporary login.
    pub session: Option<String>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Keys").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What of a request is signed.
#[derive(Debug)]
pub struct Subject<'a> {
    /// `PUT`.
    pub method: &'a str,
    /// As in the `Host` header.
    pub host: &'a str,
    /// The path, encoded.
    pub path: &'a str,
    /// The query, encoded and sorted.
    pub query: &'a str,
    /// The payload's digest in hex, or [`UNSIGNED`].
    pub payload: &'a str,
    /// When.
    pub time: Timestamp,
}

/// The digest of bytes as a signature has it.
pub fn hex_digest(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

/// Encodes a part of a path or a query; slashes stay where `slashes`.
pub fn encode(text: &str, slashes: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            b'/' if slashes => encoded.push('/'),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The headers that sign a request.
pub fn headers(keys: &Keys, region: &str, subject: &Subject<'_>) -> Vec<(&'static str, String)> {
    let time = subject.time.strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = &time[..8];
    let mut signed = vec![("x-amz-content-sha256", subject.payload.to_owned()), ("x-amz-date", time.clone())];
    signed.extend(keys.session.clone().map(|token| ("x-amz-security-token", token)));
    let listed: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let names: Vec<&str> = std::iter::once("host").chain(signed.iter().map(|(name, _)| *name)).collect();
    let names = names.join(";");
    let Subject { method, host, path, query, payload, .. } = subject;
    let request = format!("{method}\n{path}\n{query}\nhost:{host}\n{listed}\n{names}\n{payload}");
    let scope = format!("{day}/{region}/s3/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex_digest(request.as_bytes()));
    let mut key = mac(format!("AWS4{}", keys.secret).as_bytes(), day);
    for part in [region, "s3", "aws4_request"] {
        key = mac(key.as_ref(), part);
    }
    let signature = hex::encode(mac(key.as_ref(), &text));
    let id = &keys.id;
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential={id}/{scope},SignedHeaders={names},Signature={signature}");
    signed.push(("authorization", authorization));
    signed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_examples_of_the_documentation() {
        let keys = Keys {
            id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            session: None,
        };
        for (query, signature) in [
            ("lifecycle=", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
            ("max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
        ] {
            let subject = Subject {
                method: "GET",
                host: "examplebucket.s3.amazonaws.com",
                path: "/",
                query,
                payload: &hex_digest(b""),
                time: "2013-05-24T00:00:00Z".parse().unwrap(),
            };
            let headers = headers(&keys, "us-east-1", &subject);
            let (_, authorization) = headers.last().unwrap();
            assert!(authorization.ends_with(signature), "{query}: {authorization}");
        }
    }

    #[test]
    fn what_is_encoded() {
        assert_eq!(encode("a b/ü~", true), "a%20b/%C3%BC~");
        assert_eq!(encode("a/b", false), "a%2Fb");
    }
}
