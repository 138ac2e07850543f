//! Is a registry: distribution-spec server over the store.
