//! Pure types: reference, digest, manifest, image config, runtime spec.
