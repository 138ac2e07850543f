//! The Docker Engine API as Rust types: what travels over the engine's socket, and the client.
//!
//! Owns the JSON shapes (exactly as Docker's Go types print and accept them), the error body, the
//! stream framing, the decoding rules Go's decoder has (keys in any case, null as zero, a string where
//! a list is wanted), and the HTTP client. Never decides anything: no defaults of containers, no state.
//!
//! Start reading at [`container`] for the types or [`Client`] for the client.

pub mod client;
pub mod decode;
pub mod error;
pub mod filters;
pub mod multiplex;
mod types;

pub use client::{Call, Client, ClientError, Hijacked, Host, TlsError, TlsOptions};
pub use decode::{DecodeError, from_answer, from_slice, from_value};
pub use error::{ApiError, ErrorBody};
pub use filters::Filters;
pub use types::{
    artifact, container, event, exec, host_config, image, network, progress, run, stats, system, vault,
    volume,
};

/// The newest API version spoken.
pub const API_VERSION: &str = "1.55";
/// The oldest API version accepted.
pub const MIN_API_VERSION: &str = "1.24";
/// What Go prints for a time that was never set.
pub const ZERO_TIME: &str = "0001-01-01T00:00:00Z";
