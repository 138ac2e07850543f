//! OCI runtime: bundle in, namespaced process out.
