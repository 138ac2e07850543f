//! An answer: whole, as chunks, or as one JSON object after another.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::connection::Sender;
use super::{Call, ClientError, Shared};
use crate::ApiError;

/// Longest error body read: messages are short, and a peer that is no engine may send anything.
const MAX_ERROR_BODY: usize = 1024 * 1024;
/// Longest JSON object in a stream; a build's aux record or a container's stats are far below.
const MAX_JSON_OBJECT: usize = 16 * 1024 * 1024;

/// An answer whose head has come.
pub struct Response {
    head: http::response::Parts,
    body: Incoming,
    sender: Option<Sender>,
    shared: Arc<Shared>,
    /// An answer to HEAD has no body, whatever its head says.
    bodiless: bool,
    /// The path asked, for messages.
    path: String,
}

impl Response {
    pub(super) fn new(
        response: http::Response<Incoming>,
        sender: Sender,
        shared: Arc<Shared>,
        call: &Call,
    ) -> Self {
        let (head, body) = response.into_parts();
        let bodiless = call.method() == Method::HEAD;
        Response { head, body, sender: Some(sender), shared, bodiless, path: call.path().to_owned() }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.head.status
    }

    /// A header's value, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    /// Turns an error status into an error.
    pub async fn into_result(mut self) -> Result<Response, ClientError> {
        let status = self.head.status;
        if status.as_u16() < 400 {
            return Ok(self);
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if body.len() + chunk.len() > MAX_ERROR_BODY {
                break;
            }
            body.extend_from_slice(&chunk);
        }
        let mut error = ApiError::from_response(status.as_u16(), &body);
        if error.message.is_empty() {
            error.message = format!("the engine answered {status} without a reason");
        }
        Err(error.into())
    }

    /// The next piece of the body; None at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        if self.bodiless {
            self.give_back();
            return Ok(None);
        }
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame.map_err(ClientError::Body)?.into_data() {
                return Ok(Some(data));
            }
        }
        self.give_back();
        Ok(None)
    }

    /// The whole body.
    pub async fn bytes(mut self) -> Result<Bytes, ClientError> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// Reads the body to its end and drops it.
    pub async fn discard(mut self) -> Result<(), ClientError> {
        while self.chunk().await?.is_some() {}
        Ok(())
    }

    /// The whole body as JSON.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, ClientError> {
        let path = self.path.clone();
        let bytes = self.bytes().await?;
        crate::from_answer(&bytes).map_err(|source| ClientError::Decode { path, source })
    }

    /// The body as one JSON object after another, however they are separated.
    pub fn json_lines<T: DeserializeOwned>(self) -> JsonLines<T> {
        JsonLines { response: self, buffer: BytesMut::new(), kind: PhantomData }
    }

    pub(super) fn into_http(self) -> http::Response<Incoming> {
        http::Response::from_parts(self.head, self.body)
    }

    fn give_back(&mut self) {
        if let Some(sender) = self.sender.take() {
            self.shared.keep(sender);
        }
    }
}

/// JSON objects from a stream that goes on.
pub struct JsonLines<T> {
    response: Response,
    buffer: BytesMut,
    kind: PhantomData<T>,
}

impl<T: DeserializeOwned> JsonLines<T> {
    /// The next object; None at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(object) = self.take_object()? {
                return Ok(Some(object));
            }
            match self.response.chunk().await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None if self.buffer.iter().all(|byte| is_separator(*byte)) => return Ok(None),
                None => return Err(ClientError::protocol("a JSON stream ended within an object")),
            }
            if self.buffer.len() > MAX_JSON_OBJECT {
                return Err(ClientError::protocol(format!("a JSON object of over {MAX_JSON_OBJECT} bytes")));
            }
        }
    }

    fn take_object(&mut self) -> Result<Option<T>, ClientError> {
        let skip = self.buffer.iter().take_while(|byte| is_separator(**byte)).count();
        self.buffer.advance(skip);
        let mut objects = serde_json::Deserializer::from_slice(&self.buffer).into_iter::<T>();
        match objects.next() {
            Some(Ok(object)) => {
                let used = objects.byte_offset();
                self.buffer.advance(used);
                Ok(Some(object))
            }
            Some(Err(error)) if error.is_eof() => Ok(None),
            None => Ok(None),
            Some(Err(error)) => {
                Err(ClientError::Decode { path: self.response.path.clone(), source: error.into() })
            }
        }
    }
}

/// White space, and the record separator of JSON text sequences.
fn is_separator(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x1e
}
