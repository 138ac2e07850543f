//! `POST /ferry/run`: Ferry's own. Makes a container, attaches to it, waits for its end and starts it, in one call
//! where Docker's API wants four.
//!
//! Query and body are those of `/containers/create`; `stdin`, `stdout` and `stderr` say what is attached. With an
//! attachment (containers without a terminal only) the answer is a stream of frames, whose last one, of
//! [`Stream::End`](crate::multiplex::Stream::End), is a [`RunEnd`]; its head carries [`CONTAINER`] and [`WARNINGS`]. Without
//! one the answer is a [`RunResponse`].

use serde::{Deserialize, Serialize};

use super::container::WaitResponse;

/// Header of the stream's head: the container's id.
pub const CONTAINER: &str = "ferry-container";
/// Header of the stream's head: the warnings of the creation, a JSON array in ASCII.
pub const WARNINGS: &str = "ferry-warnings";

/// A container that was made and, unless told otherwise, runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunResponse {
    pub id: String,
    pub warnings: Vec<String>,
    /// Why it was made but not started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_error: Option<String>,
}

/// How an attached run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunEnd {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<WaitResponse>,
    /// Why it was made but not started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_error: Option<String>,
}
