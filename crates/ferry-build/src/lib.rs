//! Dockerfile to build graph to solver with content cache to image.
//!
//! Owns the Dockerfile language, `.dockerignore`, the lint rules, the build graph (BuildKit's LLB
//! messages), the solver with its cache records, and file operations on directories.
//! Never starts a process: RUN steps go through [`solve::Executor`], which the engine implements.
//! Never builds a path under the data root: bytes at rest are `ferry-store`'s.
//!
//! Start reading at [`dockerfile`], then [`lower`], then [`solve`].

pub mod build;
pub mod diagnostic;
pub mod dockerfile;
pub mod fileop;
pub mod git;
pub mod ignore;
pub mod image;
pub mod lint;
pub mod llb;
pub mod lower;
pub mod outline;
pub mod path;
pub mod sbom;
pub mod solve;
