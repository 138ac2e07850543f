//! Keys of operations.

use std::collections::HashMap;

use prost::Message;

use crate::fileop::{self, ContentKey, FileHashes, Selection};
use crate::llb::ops::{Action, ExecOp, FileActionCopy, Kind, MountType, Op, Platform};
use crate::llb::{Graph, Vertex, VertexId};
use crate::lower::CONTEXT;

use super::download::is_fetched_first;
use super::error::{SolveError, StepFailure};
use super::inputs::{BuildInputs, Folder};

/// A key under which a result is kept.
pub type StepKey = ContentKey;

/// Raised when the meaning of keys changes, so that old records are not found.
const KEY_VERSION: &[u8] = b"ferry build key 1";

/// Most files of a step that are remembered one by one, for `--why-miss`.
const MAX_FILES_TOLD: usize = 512;

/// The prefix of context folders' identifiers.
const LOCAL: &str = "local://";

/// What is known of a vertex before anything is done.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The definition key.
    pub key: StepKey,
    /// What went into it, for `--why-miss`: name and value of each part.
    pub parts: Vec<(String, String)>,
    /// The digest of the operation alone.
    pub op: StepKey,
    /// The digests of single files, as far as they are few.
    pub files: Vec<(String, String)>,
}

/// Keys of all vertices, and the selections of files that were made on the way.
#[derive(Debug, Default)]
pub struct Keys {
    /// By vertex; sources of folders have none.
    pub prepared: HashMap<VertexId, Prepared>,
    /// What copies take from context folders, by vertex and action.
    pub selections: HashMap<(VertexId, usize), Selection>,
    /// What bind mounts take from context folders, by vertex and mount.
    pub mounts: HashMap<(VertexId, usize), Selection>,
    /// The key of each of those selections.
    pub folder_keys: HashMap<(VertexId, usize), ContentKey>,
}

/// The context folder that a vertex stands for.
pub fn folder_of<'a>(
    vertex: &Vertex,
    inputs: &'a BuildInputs,
) -> Result<Option<&'a std::sync::Arc<Folder>>, SolveError> {
    let Kind::Source(source) = vertex.kind() else { return Ok(None) };
    let name = match source.identifier.strip_prefix(LOCAL) {
        Some(name) => name,
        None if is_fetched_first(source) => &source.identifier,
        None => return Ok(None),
    };
    inputs.folders.get(name).map(Some).ok_or_else(|| SolveError::NoFolder(name.to_owned()))
}

/// Computes the definition keys of vertices in the order of the graph. Reads context files that
/// are not known yet; does nothing else.
pub fn prepare(
    graph: &Graph,
    vertices: &[VertexId],
    inputs: &BuildInputs,
    hashes: &FileHashes,
    epoch: Option<i64>,
) -> Result<Keys, StepFailure> {
    let mut keys = Keys::default();
    for id in vertices {
        let vertex = graph.vertex(*id);
        let failed = |error: SolveError| StepFailure { vertex: *id, error: std::sync::Arc::new(error) };
        if folder_of(vertex, inputs).map_err(failed)?.is_some() {
            continue;
        }
        let prepared = prepare_vertex(graph, *id, inputs, hashes, epoch, &mut keys).map_err(failed)?;
        keys.prepared.insert(*id, prepared);
    }
    Ok(keys)
}

fn prepare_vertex(
    graph: &Graph,
    id: VertexId,
    inputs: &BuildInputs,
    hashes: &FileHashes,
    epoch: Option<i64>,
    keys: &mut Keys,
) -> Result<Prepared, SolveError> {
    let vertex = graph.vertex(id);
    let op = op_key(vertex, false, epoch);
    let mut parts = instruction_parts(vertex, &op, epoch);
    let mut files = Vec::new();
    for (input, input_id) in vertex.inputs.iter().enumerate() {
        if let Some(prepared) = keys.prepared.get(input_id) {
            parts.push((format!("input {input}"), prepared.key.to_string()));
        }
    }
    for (slot, action) in copies(vertex) {
        let Some(folder) = secondary_folder(graph, vertex, slot, inputs)? else { continue };
        let selection = fileop::select(&folder.tree, action)?;
        let key = fileop::selection_key(&folder.tree, &selection, hashes)?;
        parts.push((format!("files of {}", action.src), key.to_string()));
        files.extend(fileop::file_keys(&folder.tree, &selection, hashes, MAX_FILES_TOLD)?);
        keys.folder_keys.insert((id, slot), key);
        keys.selections.insert((id, slot), selection);
    }
    refuse_empty_copies(vertex, id, keys)?;
    for (slot, selector) in folder_mounts(graph, vertex, inputs)? {
        let folder = mount_folder(graph, vertex, slot, inputs)?;
        let selection = fileop::select(&folder.tree, &whole(&selector))?;
        let key = fileop::selection_key(&folder.tree, &selection, hashes)?;
        parts.push((format!("mounted files of {selector}"), key.to_string()));
        files.extend(fileop::file_keys(&folder.tree, &selection, hashes, MAX_FILES_TOLD)?);
        keys.folder_keys.insert((id, slot), key);
        keys.mounts.insert((id, slot), selection);
    }
    Ok(Prepared { key: combine(&parts), parts, op, files })
}

/// The operation, with the variables of a command apart, so that it can be said which of them changed.
fn instruction_parts(vertex: &Vertex, op: &StepKey, epoch: Option<i64>) -> Vec<(String, String)> {
    let Kind::Exec(exec) = vertex.kind() else { return vec![("instruction".to_owned(), op.to_string())] };
    let mut bare = exec.clone();
    let variables = bare.meta.as_mut().map(|meta| std::mem::take(&mut meta.env)).unwrap_or_default();
    let kind = Kind::Exec(bare);
    let mut parts = vec![(
        "instruction".to_owned(),
        kind_key(kind, vertex.op.platform.clone(), false, epoch).to_string(),
    )];
    for variable in variables {
        let (name, value) = variable.split_once('=').unwrap_or((&variable, ""));
        // Only a digest is kept: values may be secrets, against all advice.
        parts.push((format!("variable {name}"), blake3::hash(value.as_bytes()).to_hex()[..32].to_owned()));
    }
    parts
}

/// A copy whose patterns all match nothing is a mistake; one empty pattern among others is not.
fn refuse_empty_copies(vertex: &Vertex, id: VertexId, keys: &Keys) -> Result<(), SolveError> {
    let actions: Vec<_> = copies(vertex).collect();
    let selected: Vec<_> = actions.iter().filter_map(|(slot, _)| keys.selections.get(&(id, *slot))).collect();
    let all_from_folders = !actions.is_empty() && selected.len() == actions.len();
    if all_from_folders && selected.iter().all(|selection| selection.roots.is_empty()) {
        let patterns: Vec<&str> =
            actions.iter().map(|(_, action)| action.src.trim_start_matches('/')).collect();
        return Err(fileop::FileError::NothingMatches(patterns.join(" ")).into());
    }
    Ok(())
}

/// The content key: the operation, and the digests of what it works on.
pub fn content_key(vertex: &Vertex, contents: &[(String, ContentKey)], epoch: Option<i64>) -> StepKey {
    let mut parts = vec![("content".to_owned(), op_key(vertex, true, epoch).to_string())];
    parts.extend(contents.iter().map(|(name, key)| (name.clone(), key.to_string())));
    combine(&parts)
}

/// Joins named parts into a key.
pub fn combine(parts: &[(String, String)]) -> StepKey {
    let mut hasher = blake3::Hasher::new();
    hasher.update(KEY_VERSION);
    for (name, value) in parts {
        for text in [name, value] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
    }
    ContentKey(*hasher.finalize().as_bytes())
}

/// The digest of an operation without its inputs and without what changes no result.
fn op_key(vertex: &Vertex, by_content: bool, epoch: Option<i64>) -> StepKey {
    kind_key(vertex.kind().clone(), vertex.op.platform.clone(), by_content, epoch)
}

fn kind_key(kind: Kind, platform: Option<Platform>, by_content: bool, epoch: Option<i64>) -> StepKey {
    let mut op = Op { inputs: Vec::new(), kind: Some(kind), platform };
    match &mut op.kind {
        Some(Kind::Exec(exec)) => strip_exec(exec),
        Some(Kind::File(file)) => {
            for action in &mut file.actions {
                if let Some(Action::Copy(copy)) = &mut action.action
                    && by_content
                {
                    copy.src.clear();
                    copy.include_patterns.clear();
                    copy.exclude_patterns.clear();
                }
            }
        }
        // An image is what its id says, whatever it was called.
        Some(Kind::Source(source)) if source.attrs.contains_key(crate::lower::IMAGE_ID_ATTRIBUTE) => {
            source.identifier.clear();
        }
        _ => {}
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&op.encode_to_vec());
    if let Some(epoch) = epoch {
        hasher.update(&epoch.to_le_bytes());
    }
    ContentKey(*hasher.finalize().as_bytes())
}

fn strip_exec(exec: &mut ExecOp) {
    if let Some(meta) = &mut exec.meta {
        meta.proxy_env = None;
        meta.ulimits.clear();
        meta.cgroup_parent.clear();
    }
}

/// The copies of a file operation with their places.
pub fn copies(vertex: &Vertex) -> impl Iterator<Item = (usize, &FileActionCopy)> {
    let actions = match vertex.kind() {
        Kind::File(file) => file.actions.as_slice(),
        _ => &[],
    };
    actions.iter().enumerate().filter_map(|(slot, action)| match &action.action {
        Some(Action::Copy(copy)) => Some((slot, copy)),
        _ => None,
    })
}

/// The vertex that a copy takes from; `None` for an empty tree.
pub fn copy_source(vertex: &Vertex, slot: usize) -> Option<VertexId> {
    let Kind::File(file) = vertex.kind() else { return None };
    usize::try_from(file.actions[slot].secondary_input)
        .ok()
        .and_then(|index| vertex.inputs.get(index).copied())
}

fn secondary_folder<'a>(
    graph: &Graph,
    vertex: &Vertex,
    slot: usize,
    inputs: &'a BuildInputs,
) -> Result<Option<&'a std::sync::Arc<Folder>>, SolveError> {
    match copy_source(vertex, slot) {
        Some(source) => folder_of(graph.vertex(source), inputs),
        None => Ok(None),
    }
}

/// The bind mounts of context folders: place and path.
fn folder_mounts(
    graph: &Graph,
    vertex: &Vertex,
    inputs: &BuildInputs,
) -> Result<Vec<(usize, String)>, SolveError> {
    let Kind::Exec(exec) = vertex.kind() else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (slot, mount) in exec.mounts.iter().enumerate() {
        let bind = mount.mount_type == MountType::Bind as i32 && mount.dest != "/";
        let source = usize::try_from(mount.input).ok().and_then(|index| vertex.inputs.get(index));
        if let (true, Some(source)) = (bind, source)
            && folder_of(graph.vertex(*source), inputs)?.is_some()
        {
            found.push((slot, mount.selector.clone()));
        }
    }
    Ok(found)
}

fn mount_folder<'a>(
    graph: &Graph,
    vertex: &Vertex,
    slot: usize,
    inputs: &'a BuildInputs,
) -> Result<&'a std::sync::Arc<Folder>, SolveError> {
    let Kind::Exec(exec) = vertex.kind() else { return Err(SolveError::NoFolder(CONTEXT.to_owned())) };
    let source = usize::try_from(exec.mounts[slot].input).ok().and_then(|index| vertex.inputs.get(index));
    let folder = source.map(|source| folder_of(graph.vertex(*source), inputs)).transpose()?.flatten();
    folder.ok_or_else(|| SolveError::NoFolder(CONTEXT.to_owned()))
}

/// A copy action that takes one path as it is.
pub fn whole(selector: &str) -> FileActionCopy {
    FileActionCopy {
        src: selector.to_owned(),
        mode: -1,
        timestamp: -1,
        dir_copy_contents: true,
        ..FileActionCopy::default()
    }
}
