//! A graph of operations, each addressed by the digest of its message; equal operations are one.

use std::collections::{BTreeMap, HashMap};

use ferry_oci::Digest;
use prost::Message;

use super::ops::{Definition, Input, Kind, Op, OpMetadata};
use crate::dockerfile::Span;

/// Most vertices of one graph: no real build comes near, and it bounds what a client can make us hold.
const MAX_VERTICES: usize = 50_000;

/// The description's key under which BuildKit's clients look for a step's name.
const CUSTOM_NAME: &str = "llb.customname";

/// A vertex' place in its graph. Inputs always have lower places than what needs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VertexId(usize);

impl VertexId {
    /// The place as a number.
    pub fn index(self) -> usize {
        self.0
    }
}

/// What is known of a vertex beside its operation; no part of its digest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VertexInfo {
    /// What people read: `[build 2/4] RUN make`.
    pub name: String,
    /// No look-up in the cache.
    pub ignore_cache: bool,
    /// The instruction it comes from.
    pub span: Option<Span>,
}

/// One operation.
#[derive(Debug, Clone)]
pub struct Vertex {
    /// Digest of the message.
    pub digest: Digest,
    /// The operation.
    pub op: Op,
    /// What it needs, in the order of `op.inputs`.
    pub inputs: Vec<VertexId>,
    /// What people read.
    pub info: VertexInfo,
}

impl Vertex {
    /// What is done; an operation without any is refused when a graph is read.
    pub fn kind(&self) -> &Kind {
        self.op.kind.as_ref().expect("graphs hold no empty operations")
    }
}

/// Why a definition is no graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it is")]
pub enum GraphError {
    #[error("build graph has {0} operations, more than the limit of {MAX_VERTICES}")]
    TooLarge(usize),
    #[error("operation {index} of the build graph is no message: {reason}")]
    Malformed { index: usize, reason: String },
    #[error("operation {0} of the build graph is of a kind that is not supported")]
    Unsupported(usize),
    #[error("operation {operation} of the build graph needs {input}, which does not come before it")]
    MissingInput { operation: usize, input: String },
    #[error("the build graph has no result")]
    NoResult,
}

/// Operations in an order in which each comes after what it needs.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    vertices: Vec<Vertex>,
    by_digest: HashMap<Digest, VertexId>,
}

impl Graph {
    /// Adds an operation on inputs; one that exists already is not added again.
    pub fn add(&mut self, inputs: Vec<VertexId>, kind: Kind, info: VertexInfo) -> VertexId {
        let edges = inputs
            .iter()
            .map(|input| Input { digest: self.vertex(*input).digest.to_string(), index: 0 })
            .collect();
        let op = Op { inputs: edges, kind: Some(kind), platform: None };
        self.insert(op, inputs, info)
    }

    fn insert(&mut self, op: Op, inputs: Vec<VertexId>, info: VertexInfo) -> VertexId {
        let digest = Digest::sha256_of(&op.encode_to_vec());
        if let Some(&existing) = self.by_digest.get(&digest) {
            self.vertices[existing.0].info.ignore_cache |= info.ignore_cache;
            return existing;
        }
        let id = VertexId(self.vertices.len());
        self.by_digest.insert(digest.clone(), id);
        self.vertices.push(Vertex { digest, op, inputs, info });
        id
    }

    /// A vertex.
    pub fn vertex(&self, id: VertexId) -> &Vertex {
        &self.vertices[id.0]
    }

    /// All vertices with their places.
    pub fn iter(&self) -> impl Iterator<Item = (VertexId, &Vertex)> {
        self.vertices.iter().enumerate().map(|(index, vertex)| (VertexId(index), vertex))
    }

    /// How many vertices.
    pub fn len(&self) -> usize {
        self.vertices.len()
    }

    /// No vertex at all.
    pub fn is_empty(&self) -> bool {
        self.vertices.is_empty()
    }

    /// The vertices that a result needs, itself included, in order.
    pub fn reachable(&self, result: VertexId) -> Vec<VertexId> {
        let mut needed = vec![false; self.vertices.len()];
        needed[result.0] = true;
        for index in (0..=result.0).rev().filter(|index| *index < self.vertices.len()) {
            if needed[index] {
                for input in &self.vertices[index].inputs {
                    needed[input.0] = true;
                }
            }
        }
        (0..needed.len()).filter(|index| needed[*index]).map(VertexId).collect()
    }

    /// Marshals what a result needs.
    pub fn definition(&self, result: VertexId) -> Definition {
        let mut definition = Definition::default();
        for id in self.reachable(result) {
            let vertex = self.vertex(id);
            definition.def.push(vertex.op.encode_to_vec());
            let description = BTreeMap::from([(CUSTOM_NAME.to_owned(), vertex.info.name.clone())]);
            let metadata = OpMetadata { ignore_cache: vertex.info.ignore_cache, description };
            definition.metadata.insert(vertex.digest.to_string(), metadata);
        }
        let last = Input { digest: self.vertex(result).digest.to_string(), index: 0 };
        definition.def.push(Op { inputs: vec![last], kind: None, platform: None }.encode_to_vec());
        definition
    }

    /// Reads a marshalled graph; the second value is its result.
    pub fn from_definition(definition: &Definition) -> Result<(Self, VertexId), GraphError> {
        if definition.def.len() > MAX_VERTICES {
            return Err(GraphError::TooLarge(definition.def.len()));
        }
        let mut graph = Self::default();
        let mut result = None;
        for (index, bytes) in definition.def.iter().enumerate() {
            let op = Op::decode(bytes.as_slice())
                .map_err(|error| GraphError::Malformed { index, reason: error.to_string() })?;
            let inputs = op
                .inputs
                .iter()
                .map(|input| graph.find(&input.digest).ok_or_else(|| missing(index, &input.digest)))
                .collect::<Result<Vec<_>, _>>()?;
            if op.kind.is_none() {
                if index + 1 != definition.def.len() || inputs.len() != 1 {
                    return Err(GraphError::Unsupported(index));
                }
                result = Some(inputs[0]);
                continue;
            }
            let metadata = definition.metadata.get(&Digest::sha256_of(bytes).to_string());
            graph.insert(op, inputs, vertex_info(metadata));
        }
        result.map(|result| (graph, result)).ok_or(GraphError::NoResult)
    }

    fn find(&self, digest: &str) -> Option<VertexId> {
        self.by_digest.get(&Digest::parse(digest).ok()?).copied()
    }
}

fn missing(operation: usize, input: &str) -> GraphError {
    GraphError::MissingInput { operation, input: input.to_owned() }
}

fn vertex_info(metadata: Option<&OpMetadata>) -> VertexInfo {
    metadata.map_or_else(VertexInfo::default, |metadata| VertexInfo {
        name: metadata.description.get(CUSTOM_NAME).cloned().unwrap_or_default(),
        ignore_cache: metadata.ignore_cache,
        span: None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::ops::SourceOp;
    use super::*;

    fn source(name: &str) -> Kind {
        Kind::Source(SourceOp { identifier: name.to_owned(), attrs: BTreeMap::new() })
    }

    #[test]
    fn a_graph_survives_marshalling() {
        let mut graph = Graph::default();
        let first = graph.add(Vec::new(), source("docker-image://a"), VertexInfo::default());
        let info = VertexInfo { name: "step".into(), ignore_cache: true, span: None };
        let second = graph.add(vec![first], source("x"), info);
        let unused = graph.add(Vec::new(), source("unused"), VertexInfo::default());
        assert_eq!(graph.add(Vec::new(), source("unused"), VertexInfo::default()), unused);
        let (read, result) = Graph::from_definition(&graph.definition(second)).expect("valid");
        assert_eq!(read.len(), 2);
        assert_eq!(read.vertex(result).digest, graph.vertex(second).digest);
        assert_eq!(read.vertex(result).info.name, "step");
        assert!(read.vertex(result).info.ignore_cache);
    }

    #[test]
    fn broken_definitions_are_refused() {
        let definition = |def: Vec<Vec<u8>>| Definition { def, metadata: BTreeMap::new() };
        assert_eq!(Graph::from_definition(&definition(vec![])).err(), Some(GraphError::NoResult));
        assert!(matches!(
            Graph::from_definition(&definition(vec![vec![0xff]])).err(),
            Some(GraphError::Malformed { index: 0, .. })
        ));
        let dangling = Op {
            inputs: vec![Input { digest: "sha256:00".into(), index: 0 }],
            kind: Some(source("a")),
            platform: None,
        };
        assert!(matches!(
            Graph::from_definition(&definition(vec![dangling.encode_to_vec()])).err(),
            Some(GraphError::MissingInput { .. })
        ));
    }
}
