//! Is a registry: what docker, podman, skopeo, helm and ferry push to and pull from.
//!
//! Owns the server of the OCI distribution specification 1.1 and everything under its root: blobs as files,
//! metadata in an embedded database; or both in a bucket that several instances share. Knows nothing of the engine; `ferry registry serve` runs [`run`] in a
//! process of its own.
//!
//! Start reading at [`registry::Registry`] (what there is), then [`catalog`] (the metadata and how garbage is
//! found), [`upload`], and [`routes`] (the protocol).

pub mod access;
pub mod body;
pub mod bucket;
pub mod catalog;
pub mod connection;
pub mod database;
pub mod files;
pub mod log;
pub mod manifest;
pub mod metrics;
pub mod name;
pub mod pattern;
pub mod rate;
pub mod refusal;
pub mod registry;
pub mod retention;
pub mod routes;
pub mod scrub;
pub mod server;
pub mod settings;
pub mod shelf;
pub mod storage;
pub mod tls;
pub mod transaction;
pub mod upload;
pub mod upstream;
pub mod webhook;

pub use bucket::BucketSettings;
pub use bucket::sign::Keys;
pub use server::{ServeError, run};
pub use settings::{Access, Quota, Settings, Tls};
pub use upstream::Upstream;
