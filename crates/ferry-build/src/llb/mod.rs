//! The build graph's form: BuildKit's LLB messages, and a graph of them addressed by digest.
//! Knows neither Dockerfiles nor caches.

mod graph;
pub mod ops;

pub use graph::{Graph, GraphError, Vertex, VertexId, VertexInfo};
