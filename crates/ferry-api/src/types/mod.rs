//! Wire types, one file per area. Field names are the schema's, in Rust's spelling.
#![allow(missing_docs, reason = "fields carry the names of the published schema, which documents them")]

pub mod artifact;
pub mod container;
pub mod event;
pub mod exec;
pub mod host_config;
pub mod image;
pub mod network;
pub mod progress;
pub mod run;
pub mod stats;
pub mod system;
pub mod vault;
pub mod volume;
