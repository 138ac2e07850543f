//! Pure types: reference, digest, manifest, image config, runtime spec.

pub use oci_spec::runtime;
