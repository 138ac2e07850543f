//! Secrets and configs: the same shapes for both.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One secret or config.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VaultObject {
    #[serde(rename = "ID")]
    pub id: String,
    pub version: Version,
    pub created_at: String,
    pub updated_at: String,
    pub spec: Spec,
}

/// Counts changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Version {
    pub index: u64,
}

/// What it was made from; also the body of `POST /secrets/create` and `POST /configs/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Spec {
    pub name: String,
    pub labels: Option<BTreeMap<String, String>>,
    /// Base64. A secret's is never told.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub data: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub templating: Option<serde_json::Value>,
}

/// The answer of a creation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateResponse {
    #[serde(rename = "ID")]
    pub id: String,
}
