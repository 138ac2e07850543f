//! Talks to registries: resolve, auth, mirrors, pull, push, resume.
