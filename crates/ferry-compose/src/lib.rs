//! Compose files to running containers: model, plan, and the calls that carry the plan out.
//!
//! Owns everything between a Compose file and the engine's API: the loader (a pure function from files and
//! environment to a project or to diagnostics), the plan (a pure difference between what is wanted and what is
//! found), and its execution over [`ferry_api::Client`]. Has no power the API lacks and prints nothing.
//!
//! ```
//! use ferry_compose::{files::MemoryFiles, loader::{load, Request}};
//! let files = MemoryFiles([("/app/compose.yaml".into(), b"services: {web: {image: nginx}}".to_vec())].into());
//! let request = Request { working_dir: "/app".into(), ..Request::default() };
//! let project = load(&request, &files).unwrap().project;
//! assert_eq!(project.name, "app");
//! ```
//!
//! Start reading at [`loader`].

// Loading, in the order of its steps.
pub mod canonical;
pub mod check;
pub mod diagnostic;
pub mod dotenv;
pub mod environment;
pub mod files;
pub mod interpolate;
pub mod loader;
pub mod merge;
pub mod project_name;
pub mod repair;
pub mod schema;
pub mod source;
pub mod tree;
pub mod units;
pub mod yaml;

// The project and its faces.
pub mod docker_hash;
pub mod explain;
pub mod hash;
pub mod model;
pub mod output;
pub mod project;

// What the engine is asked for, and the way there.
pub mod apply;
pub mod container;
pub mod found;
pub mod labels;
pub mod plan;
pub mod target;
