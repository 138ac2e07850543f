//! Pure types of the image and runtime world: digest, reference, platform, image documents.
//!
//! Owns the parsing and printing of what registries, archives and people write. Never does I/O.
//! Every parser takes untrusted text, has limits, and its error names the bad part.
//!
//! Start reading at [`Reference`] (Docker's image names) and [`image`] (manifests and configs).

pub mod digest;
pub mod image;
pub mod platform;
pub mod reference;

pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};

/// The OCI runtime specification's types (`config.json` of a bundle).
pub use oci_spec::runtime;
