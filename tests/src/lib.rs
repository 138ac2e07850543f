//! The harness of the black-box tests: a private engine per test, driven through the real binary and the stock
//! docker client, with its own data root, run root and socket, so that tests run side by side and leave nothing.
//!
//! - [`bundle`]: OCI bundles and runtimes to run them.
//! - [`engine`]: starts and ends an engine, runs `ferry` and `docker` against it.
//! - [`outcome`]: what a command printed, with assertions that show all of it when they fail.
//! - [`registry`]: Debian's docker-registry as a peer; [`faulty`]: a registry that misbehaves as told.
//! - [`schema`]: the schema of the Engine API, which every answer that a test asks for must fit.
//! - [`images`]: the base images that the image factory made.

#![forbid(unsafe_code)]

pub mod browser;
pub mod bundle;
pub mod engine;
pub mod faulty;
pub mod host;
pub mod http;
pub mod images;
pub mod moto;
pub mod outcome;
pub mod own_registry;
pub mod registry;
pub mod schema;
pub mod traces;

pub use bundle::Bundle;
pub use engine::Engine;
pub use outcome::Outcome;
pub use registry::Registry;
