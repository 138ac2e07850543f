//! The JSON stream of pull, push, load, import and build: one object per line.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One line; which fields are set tells what it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stream: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<ProgressDetail>,
    /// The bar drawn by the engine, for old clients.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub progress: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressDetail {
    #[serde(skip_serializing_if = "is_zero")]
    pub current: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub total: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start: i64,
    #[serde(rename = "hidecounts", skip_serializing_if = "std::ops::Not::not")]
    pub hide_counts: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub units: String,
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    #[serde(skip_serializing_if = "is_zero")]
    pub code: i64,
    pub message: String,
}

impl Progress {
    /// A line that only says something.
    pub fn status(text: impl Into<String>) -> Self {
        Progress { status: text.into(), ..Default::default() }
    }

    /// A line about one thing (a layer, a tag).
    pub fn about(id: impl Into<String>, status: impl Into<String>) -> Self {
        Progress { id: id.into(), status: status.into(), ..Default::default() }
    }

    /// Plain text, as builds and loads print.
    pub fn text(text: impl Into<String>) -> Self {
        Progress { stream: text.into(), ..Default::default() }
    }

    /// The last line of a stream that failed.
    pub fn failure(code: i64, message: impl Into<String>) -> Self {
        let message = message.into();
        let detail = ErrorDetail { code, message: message.clone() };
        Progress { error_detail: Some(detail), error: message, ..Default::default() }
    }
}
