//! The keys by which steps are found whose inputs have other definitions but the same contents.

use super::*;

impl Solver {
    /// Works out the content key of a step that was just done, so that it is found by it later on.
    /// Nobody waits for this.
    pub(super) fn learn_content(
        self: &Arc<Self>,
        state: &Arc<State>,
        id: VertexId,
        inputs: Vec<Option<Tree>>,
    ) {
        let (solver, state) = (Arc::clone(self), Arc::clone(state));
        tokio::task::spawn_blocking(move || {
            let Some(prepared) = state.keys.prepared.get(&id) else { return };
            match solver.content_key(&state, id, &inputs) {
                Ok(key) => solver.cache.add_alias(prepared, &key),
                Err(error) => tracing::debug!(%error, "no content key for a build step"),
            }
        });
    }

    pub(super) async fn find_by_content(
        self: &Arc<Self>,
        state: &Arc<State>,
        id: VertexId,
        prepared: &Prepared,
        inputs: &[Option<Tree>],
    ) -> Result<Option<Tree>, Arc<SolveError>> {
        let (solver, this, inputs) = (Arc::clone(self), Arc::clone(state), inputs.to_vec());
        let key = blocking(move || solver.content_key(&this, id, &inputs)).await;
        let key = match key {
            Ok(key) => key,
            // What cannot be read here will fail, and say so, where the step is done.
            Err(_) => return Ok(None),
        };
        let found = self.cache.find(&key);
        Ok(found.map(|record| {
            self.cache.adopt(prepared, &state.job.graph.vertex(id).info.name, &record, &key);
            tree_of(record)
        }))
    }

    /// The operation and the digests of what it works on.
    fn content_key(
        &self,
        state: &State,
        id: VertexId,
        inputs: &[Option<Tree>],
    ) -> Result<StepKey, SolveError> {
        let vertex = state.job.graph.vertex(id);
        let mut contents = Vec::new();
        let base = base_of(vertex, inputs);
        contents.push(("base".to_owned(), self.chain_key(base)?));
        for (slot, copy) in key::copies(vertex) {
            let name = format!("copy {slot}");
            if let Some(key) = state.keys.folder_keys.get(&(id, slot)) {
                contents.push((name, *key));
                continue;
            }
            let source = key::copy_source(vertex, slot).and_then(|source| input_tree(vertex, inputs, source));
            if let Some(tree) = source {
                contents
                    .push((name, files::stage_selection_key(&self.store, &tree.layers, copy, &self.hashes)?));
            }
        }
        if let Kind::Exec(exec) = vertex.kind() {
            for (slot, mount) in exec.mounts.iter().enumerate().filter(|(_, mount)| mount.dest != "/") {
                let name = format!("mount {slot}");
                if let Some(key) = state.keys.folder_keys.get(&(id, slot)) {
                    contents.push((name, *key));
                } else if let Some(Some(tree)) =
                    usize::try_from(mount.input).ok().and_then(|input| inputs.get(input))
                {
                    contents.push((name, self.chain_key(&tree.layers)?));
                }
            }
        }
        Ok(key::content_key(vertex, &contents, state.job.epoch))
    }

    /// The digest of a chain of layers by what is in them.
    fn chain_key(&self, layers: &[Digest]) -> Result<ContentKey, SolveError> {
        let parts = layers
            .iter()
            .enumerate()
            .map(|(index, layer)| Ok((index.to_string(), self.layer_key(layer)?.to_string())))
            .collect::<Result<Vec<_>, SolveError>>()?;
        Ok(key::combine(&parts))
    }

    fn layer_key(&self, layer: &Digest) -> Result<ContentKey, SolveError> {
        if let Some(key) = lock(&self.contents).get(layer) {
            return Ok(*key);
        }
        let lowers = self.store.snapshots().lowers(std::slice::from_ref(layer))?;
        let tree = fileop::Tree::stage(super::super::overlay::view(&lowers)?);
        let key = fileop::tree_key(&tree, &*self.hashes, MAX_LAYER_ENTRIES)?;
        lock(&self.contents).insert(layer.clone(), key);
        Ok(key)
    }
}

/// The layers that a step changes: those of its first input, where it has one to change.
pub(super) fn base_of<'a>(vertex: &crate::llb::Vertex, inputs: &'a [Option<Tree>]) -> &'a [Digest] {
    let input = match vertex.kind() {
        Kind::File(file) => file.actions.first().map_or(-1, |action| action.input),
        Kind::Exec(exec) => {
            exec.mounts.iter().find(|mount| mount.dest == "/").map_or(-1, |mount| mount.input)
        }
        Kind::Source(_) => -1,
    };
    let tree = usize::try_from(input).ok().and_then(|index| inputs.get(index)).and_then(Option::as_ref);
    tree.map_or(&[], |tree| &tree.layers)
}

pub(super) fn input_tree<'a>(
    vertex: &crate::llb::Vertex,
    inputs: &'a [Option<Tree>],
    id: VertexId,
) -> Option<&'a Tree> {
    let index = vertex.inputs.iter().position(|input| *input == id)?;
    inputs.get(index)?.as_ref()
}
