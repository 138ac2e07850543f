//! Small artifacts on registries, of `/ferry/artifact`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An artifact: what it is and its files.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Artifact {
    /// Its kind, such as `application/vnd.docker.compose.project`.
    pub artifact_type: String,
    /// Its manifest's digest, where it comes from a registry.
    #[serde(default)]
    pub digest: String,
    /// Free text about the whole.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Its files, in order.
    pub files: Vec<ArtifactFile>,
    /// In the form of version 1.0 of OCI's specification: the kind is that of the configuration.
    #[serde(default)]
    pub old_form: bool,
    /// Images of the engine's that come into the same repository, and into an index that is about the artifact.
    #[serde(default)]
    pub images: Vec<String>,
}

/// One file of an artifact.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ArtifactFile {
    /// What it is.
    pub media_type: String,
    /// Free text, such as its name.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Its bytes, in base64.
    pub data: String,
}
