//! Talks *to* registries: finds the host, proves who is asking, fetches and sends manifests and blobs.
//!
//! It owns the distribution protocol's client side (OCI distribution specification 1.1, and Docker's token
//! authentication). It never touches image data on disk: what it fetches it yields as streams, and what it sends
//! it is handed as streams; whoever calls it keeps the bytes.
//!
//! Start reading at [`registry::Registry`]:
//! [`settings`] → [`endpoint`] (which hosts to try) → [`transport`] (TCP, TLS, proxies) → [`authorization`] →
//! [`registry`] (one repository on one host) → [`resolve`] (reference and platform to one manifest).

#![forbid(unsafe_code)]

pub mod authorization;
pub mod challenge;
pub mod credentials;
pub mod endpoint;
pub mod error;
pub mod registry;
pub mod repository;
pub mod resolve;
pub mod search;
pub mod settings;
pub mod transport;

pub use credentials::Credentials;
pub use error::RemoteError;
pub use registry::Registry;
pub use repository::{Blob, FetchedManifest, Repository, UploadStart};
pub use settings::Settings;
pub use transport::look_up;
