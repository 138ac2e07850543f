//! Carries one step out: commands in containers, copies between trees.

use super::content::{base_of, input_tree};
use super::*;

impl Solver {
    pub(super) async fn step(
        self: &Arc<Self>,
        state: &Arc<State>,
        id: VertexId,
        inputs: &[Option<Tree>],
        time: StepTime,
        listeners: &Arc<Listeners>,
    ) -> Result<(Vec<Digest>, Option<Arc<LayerRecord>>), SolveError> {
        let vertex = state.job.graph.vertex(id);
        let canceled = Arc::new(AtomicBool::new(false));
        let _guard = CancelOnDrop(Arc::clone(&canceled));
        let base = base_of(vertex, inputs).to_vec();
        let added = match vertex.kind() {
            Kind::Source(source) => download(&self.store, &self.downloads, source).await?,
            Kind::File(file) => {
                let step = self.file_step(state, id, file, inputs, base.clone(), time)?;
                let store = Arc::clone(&self.store);
                blocking(move || step.run(&store, &canceled)).await?
            }
            Kind::Exec(_) => {
                let step = self.exec_step(state, id, inputs, base.clone(), time).await?;
                let _permit =
                    self.commands.acquire().await.map_err(|error| SolveError::Worker(error.to_string()))?;
                self.run_step(step, listeners, canceled).await?
            }
        };
        Ok((base, added))
    }

    /// Runs a command while its output goes to everybody who waits for it.
    async fn run_step(
        &self,
        step: ExecStep,
        listeners: &Arc<Listeners>,
        canceled: Arc<AtomicBool>,
    ) -> Result<Option<Arc<LayerRecord>>, SolveError> {
        let (sender, mut receiver) = mpsc::channel::<StepOutput>(OUTPUT_QUEUE);
        let forward = async {
            while let Some(output) = receiver.recv().await {
                listeners.log(output).await;
            }
        };
        let run = step.run(&self.store, &self.executor, sender, canceled);
        let (result, ()) = futures_util::future::join(run, forward).await;
        result
    }

    async fn exec_step(
        &self,
        state: &Arc<State>,
        id: VertexId,
        inputs: &[Option<Tree>],
        base: Vec<Digest>,
        time: StepTime,
    ) -> Result<ExecStep, SolveError> {
        let vertex = state.job.graph.vertex(id);
        let Kind::Exec(exec) = vertex.kind() else { return Err(SolveError::FolderAsRoot) };
        let mut mounts = Vec::new();
        let mut locked = Vec::new();
        for (slot, mount) in exec.mounts.iter().enumerate().filter(|(_, mount)| mount.dest != "/") {
            let source = mount_source(state, id, slot, inputs)?;
            if let Some(cache) = &mount.cache
                && mount.mount_type == MountType::Cache as i32
                && cache.sharing == CacheSharing::Locked as i32
            {
                locked.push(cache_name(&cache.id));
            }
            mounts.push((mount.clone(), source));
        }
        // Always in the same order, so that two commands with the same two caches cannot block each other.
        locked.sort();
        locked.dedup();
        let mut guards = Vec::new();
        for name in locked {
            guards.push(self.cache_locks.get(&name).lock_owned().await);
        }
        for (mount, _) in &mut mounts {
            let Some(cache) = &mut mount.cache else { continue };
            // One that nobody else has is used like any other, and held.
            if cache.sharing == CacheSharing::Private as i32
                && let Ok(guard) = self.cache_locks.get(&cache_name(&cache.id)).try_lock_owned()
            {
                cache.sharing = CacheSharing::Shared as i32;
                guards.push(guard);
            }
        }
        Ok(ExecStep {
            base,
            exec: exec.clone(),
            mounts,
            inputs: Arc::clone(&state.job.inputs),
            resources: state.job.resources.clone(),
            time,
            guards,
        })
    }

    fn file_step(
        &self,
        state: &State,
        id: VertexId,
        file: &FileOp,
        inputs: &[Option<Tree>],
        base: Vec<Digest>,
        time: StepTime,
    ) -> Result<FileStep, SolveError> {
        let vertex = state.job.graph.vertex(id);
        let copies: Vec<usize> = key::copies(vertex).map(|(slot, _)| slot).collect();
        let mut actions = Vec::new();
        for (slot, action) in file.actions.iter().enumerate() {
            let source = match copies.contains(&slot) {
                false => None,
                true => Some(copy_source(state, id, slot, inputs)?),
            };
            actions.push((action.clone(), source));
        }
        let previous = self.cache.last_layer(&vertex.info.name);
        let hashes = Arc::clone(&self.hashes);
        Ok(FileStep { base, actions, time, previous, hashes })
    }
}

/// The time of a step that begins now.
pub(super) fn step_time(state: &State, id: VertexId, inputs: &[Option<Tree>]) -> StepTime {
    let selections = state.keys.selections.iter().chain(&state.keys.mounts);
    let own = selections.filter(|((vertex, _), _)| *vertex == id).map(|(_, selection)| selection);
    StepTime::begin(state.job.epoch, time::newest(inputs.iter().flatten(), own))
}

fn copy_source(
    state: &State,
    id: VertexId,
    slot: usize,
    inputs: &[Option<Tree>],
) -> Result<CopySource, SolveError> {
    let vertex = state.job.graph.vertex(id);
    let Some(source) = key::copy_source(vertex, slot) else { return Ok(CopySource::Empty) };
    if let Some(tree) = input_tree(vertex, inputs, source) {
        return Ok(CopySource::Layers(tree.layers.clone()));
    }
    let folder = key::folder_of(state.job.graph.vertex(source), &state.job.inputs)?;
    let folder = folder.ok_or(SolveError::FolderAsRoot)?;
    let Kind::File(file) = vertex.kind() else { return Err(SolveError::FolderAsRoot) };
    let selection = match (state.keys.selections.get(&(id, slot)), &file.actions[slot].action) {
        (Some(selection), _) => selection.clone(),
        (None, Some(crate::llb::ops::Action::Copy(copy))) => fileop::select(&folder.tree, copy)?,
        (None, _) => return Err(SolveError::FolderAsRoot),
    };
    Ok(CopySource::Folder(Arc::clone(folder), selection))
}

fn mount_source(
    state: &State,
    id: VertexId,
    slot: usize,
    inputs: &[Option<Tree>],
) -> Result<MountSource, SolveError> {
    let vertex = state.job.graph.vertex(id);
    let Kind::Exec(exec) = vertex.kind() else { return Ok(MountSource::Empty) };
    let mount = &exec.mounts[slot];
    let Some(input) = usize::try_from(mount.input).ok() else { return Ok(MountSource::Empty) };
    if let Some(Some(tree)) = inputs.get(input) {
        return Ok(MountSource::Layers(tree.layers.clone()));
    }
    let source = vertex.inputs.get(input).map(|source| state.job.graph.vertex(*source));
    let folder = source.map(|source| key::folder_of(source, &state.job.inputs)).transpose()?.flatten();
    let folder = folder.ok_or(SolveError::FolderAsRoot)?;
    let selection = match state.keys.mounts.get(&(id, slot)) {
        Some(selection) => selection.clone(),
        None => fileop::select(&folder.tree, &key::whole(&mount.selector))?,
    };
    Ok(MountSource::Folder(Arc::clone(folder), selection))
}
