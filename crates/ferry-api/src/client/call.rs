//! One call as it is put together: method, path, query, headers, body.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http::Method;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use serde::Serialize;

/// What a call sends.
#[derive(Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// Bytes known beforehand.
    Bytes(Bytes),
    /// Bytes as they come.
    Stream(UnsyncBoxBody<Bytes, io::Error>),
    /// A stream that has been sent.
    Sent,
}

/// A call under construction.
pub struct Call {
    method: Method,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    content_type: Option<&'static str>,
    body: Body,
    versioned: bool,
    descriptors: Arc<Vec<OwnedFd>>,
}

impl Call {
    fn new(method: Method, path: impl Into<String>) -> Call {
        Call {
            method,
            path: path.into(),
            query: String::new(),
            headers: Vec::new(),
            content_type: None,
            body: Body::Empty,
            versioned: true,
            descriptors: Arc::default(),
        }
    }

    /// A GET of `path` (put names into it with [`segment`](Self::segment)).
    pub fn get(path: impl Into<String>) -> Call {
        Call::new(Method::GET, path)
    }

    /// A HEAD.
    pub fn head(path: impl Into<String>) -> Call {
        Call::new(Method::HEAD, path)
    }

    /// A POST.
    pub fn post(path: impl Into<String>) -> Call {
        Call::new(Method::POST, path)
    }

    /// A PUT.
    pub fn put(path: impl Into<String>) -> Call {
        Call::new(Method::PUT, path)
    }

    /// A DELETE.
    pub fn delete(path: impl Into<String>) -> Call {
        Call::new(Method::DELETE, path)
    }

    /// `text` with everything escaped that would end or split a path segment. Slashes stay, as image
    /// names have them and the engine's routes take them.
    pub fn segment(text: &str) -> String {
        escape(text, b"-._~!$&'()*+,;=:@/")
    }

    /// Leaves the version prefix away.
    pub fn unversioned(mut self) -> Call {
        self.versioned = false;
        self
    }

    /// Adds a query parameter.
    pub fn query(mut self, name: &str, value: impl AsRef<str>) -> Call {
        if !self.query.is_empty() {
            self.query.push('&');
        }
        self.query.push_str(&escape(name, b"-._~"));
        self.query.push('=');
        self.query.push_str(&escape(value.as_ref(), b"-._~"));
        self
    }

    /// Adds a query parameter when it is true.
    pub fn query_if(self, name: &str, on: bool) -> Call {
        if on { self.query(name, "1") } else { self }
    }

    /// Adds a query parameter when it is not empty.
    pub fn query_text(self, name: &str, value: &str) -> Call {
        if value.is_empty() { self } else { self.query(name, value) }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Call {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Hands open files over beside the call; only over a unix socket, and only to whoever listens there itself.
    pub fn descriptors(mut self, descriptors: Arc<Vec<OwnedFd>>) -> Call {
        self.descriptors = descriptors;
        self
    }

    pub(super) fn carried(&self) -> &Arc<Vec<OwnedFd>> {
        &self.descriptors
    }

    /// Sends `value` as JSON.
    pub fn json<T: Serialize>(mut self, value: &T) -> Call {
        let bytes = serde_json::to_vec(value).expect("wire types have string keys and no failing fields");
        self.content_type = Some("application/json");
        self.body = Body::Bytes(bytes.into());
        self
    }

    /// Sends bytes as they come.
    pub fn stream<S>(mut self, content_type: &'static str, stream: S) -> Call
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        self.content_type = Some(content_type);
        self.body = Body::Stream(StreamBody::new(stream.map_ok(Frame::data)).boxed_unsync());
        self
    }

    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    pub(super) fn content_type(&self) -> Option<&'static str> {
        self.content_type
    }

    pub(super) fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// The request target: version, path, query.
    pub(super) fn target(&self, version: &str) -> String {
        let prefix = if self.versioned { format!("/v{version}") } else { String::new() };
        let mark = if self.query.is_empty() { "" } else { "?" };
        format!("{prefix}{}{mark}{}", self.path, self.query)
    }

    pub(super) fn has_stream_body(&self) -> bool {
        matches!(self.body, Body::Stream(_) | Body::Sent)
    }

    pub(super) fn body_is_repeatable(&self) -> bool {
        !self.has_stream_body()
    }

    pub(super) fn take_body(&mut self) -> UnsyncBoxBody<Bytes, io::Error> {
        match std::mem::replace(&mut self.body, Body::Sent) {
            Body::Empty => {
                self.body = Body::Empty;
                Empty::new().map_err(|never| match never {}).boxed_unsync()
            }
            Body::Bytes(bytes) => {
                self.body = Body::Bytes(bytes.clone());
                Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
            }
            Body::Stream(stream) => stream,
            Body::Sent => Empty::new().map_err(|never| match never {}).boxed_unsync(),
        }
    }
}

/// Percent-encodes every byte that is neither a letter, a digit nor among `safe`.
fn escape(text: &str, safe: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || safe.contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let call = Call::get(format!("/images/{}/json", Call::segment("a/b:1?x")))
            .query("filters", "{\"a\":1}")
            .query_if("all", true)
            .query_if("no", false)
            .query_text("empty", "");
        assert_eq!(call.target("1.55"), "/v1.55/images/a/b:1%3Fx/json?filters=%7B%22a%22%3A1%7D&all=1");
        assert_eq!(Call::head("/_ping").unversioned().target("1.55"), "/_ping");
    }
}
