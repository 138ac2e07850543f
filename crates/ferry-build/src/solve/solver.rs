//! Evaluates a graph from its result backwards: what the cache knows is not looked into, what it
//! does not know is done once, however many builds want it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use ferry_oci::Digest;
use ferry_store::{DatabaseError, LayerRecord, Store};
use futures_util::FutureExt;
use futures_util::future::{Shared, WeakShared};
use tokio::sync::{Semaphore, mpsc};

use super::cache::{Cache, CacheRecord, FinishedStep};
use super::download::{download, fetch_first};
use super::error::{SolveError, StepFailure};
use super::event::{Event, EventSender, Outcome, Stream};
use super::executor::{BoxFuture, Executor, StepOutput};
use super::files::{self, CopySource, FileStep};
use super::inputs::{BuildInputs, Downloads, Folder};
use super::key::{self, Keys, Prepared, StepKey};
use super::mounts::{CacheLocks, MountSource, cache_name};
use super::run::{ExecStep, blocking};
use super::time::{self, StepTime};
use crate::fileop::{self, ContentKey, FileHashes, HashIndex};
use crate::llb::ops::{CacheSharing, FileOp, Kind, MountType};
use crate::llb::{Graph, VertexId};
use crate::lower::{IMAGE_ID_ATTRIBUTE, Resources};

/// Pieces of output that may wait between a command and its readers.
const OUTPUT_QUEUE: usize = 64;

/// Most entries of a layer that is digested for content keys.
const MAX_LAYER_ENTRIES: usize = 4_000_000;

/// A tree of layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Lowest first.
    pub layers: Vec<Digest>,
    /// The layer that the step itself made, if it changed anything.
    pub added: Option<Digest>,
    /// Its date, RFC 3339: that of the newest thing in it, or the fixed one; empty for base images without a date.
    pub created: String,
}

/// One build.
pub struct Job {
    /// What is to be done.
    pub graph: Arc<Graph>,
    /// What the caller brought.
    pub inputs: Arc<BuildInputs>,
    /// Whereto the build tells.
    pub events: EventSender,
    /// The fixed time.
    pub epoch: Option<i64>,
    /// Limits of commands.
    pub resources: Resources,
}

/// What a job came to.
#[derive(Default)]
pub struct Solved {
    /// The trees of all vertices that had to be looked at.
    pub trees: HashMap<VertexId, Tree>,
    /// The cache's keys of all vertices.
    pub keys: HashMap<VertexId, String>,
}

/// The job with more folders.
fn with_folders(job: Arc<Job>, folders: HashMap<String, Arc<Folder>>) -> Arc<Job> {
    if folders.is_empty() {
        return job;
    }
    let mut inputs = BuildInputs::clone(&job.inputs);
    inputs.folders.extend(folders);
    Arc::new(Job {
        graph: Arc::clone(&job.graph),
        inputs: Arc::new(inputs),
        events: job.events.clone(),
        epoch: job.epoch,
        resources: job.resources.clone(),
    })
}

/// What a vertex comes to.
type Evaluation = Shared<BoxFuture<'static, Result<Tree, StepFailure>>>;

/// A step under way, with everybody who wants to hear of it.
struct Running {
    future: WeakShared<BoxFuture<'static, Result<Tree, Arc<SolveError>>>>,
    listeners: Arc<Listeners>,
}

/// The builds that wait for one step.
#[derive(Default)]
struct Listeners {
    list: Mutex<Vec<(EventSender, VertexId)>>,
}

impl Listeners {
    fn add(&self, events: EventSender, vertex: VertexId) {
        self.list.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((events, vertex));
    }

    fn all(&self) -> Vec<(EventSender, VertexId)> {
        self.list.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    async fn log(&self, output: StepOutput) {
        let stream = if output.is_error { Stream::Error } else { Stream::Output };
        for (events, vertex) in self.all() {
            events.send(Event::Log(vertex, stream, output.data.clone())).await;
        }
    }
}

/// Sets a flag when dropped: nobody waits any more.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Evaluates graphs over one store.
pub struct Solver {
    store: Arc<Store>,
    executor: Arc<dyn Executor>,
    downloads: Arc<dyn Downloads>,
    cache: Cache,
    hashes: Arc<FileHashes>,
    running: Mutex<HashMap<StepKey, Running>>,
    contents: Mutex<HashMap<Digest, ContentKey>>,
    cache_locks: CacheLocks,
    commands: Arc<Semaphore>,
}

/// A job with what is worked out for it.
struct State {
    job: Arc<Job>,
    keys: Keys,
    evaluations: Mutex<HashMap<VertexId, Evaluation>>,
    /// What is known, and was told.
    trees: Mutex<HashMap<VertexId, Tree>>,
}

impl State {
    /// Notes and tells a tree that was found, once.
    async fn found(&self, vertex: VertexId, tree: &Tree) {
        if lock(&self.trees).insert(vertex, tree.clone()).is_none() {
            let (outcome, duration) = (Outcome::Cached, std::time::Duration::ZERO);
            let tree = Some(tree.clone());
            self.job.events.send(Event::Finished { vertex, outcome, duration, tree }).await;
        }
    }
}

/// Drops the evaluations of a job that is over, or that nobody waits for any more: steps that no other
/// job wants are stopped by that.
struct ForgetOnDrop(Arc<State>);

impl Drop for ForgetOnDrop {
    fn drop(&mut self) {
        let evaluations = std::mem::take(&mut *lock(&self.0.evaluations));
        // Outside of the lock, because what is dropped here may drop more of the same job.
        drop(evaluations);
    }
}

impl Solver {
    /// Opens the cache of a store.
    pub fn open(
        store: Arc<Store>,
        executor: Arc<dyn Executor>,
        downloads: Arc<dyn Downloads>,
    ) -> Result<Arc<Self>, DatabaseError> {
        // Commands wait for disk and network much of the time; a few per processor keep it busy.
        let commands = std::thread::available_parallelism().map_or(4, |count| count.get() * 2).max(4);
        Ok(Arc::new(Self {
            cache: Cache::open(&store)?,
            executor,
            downloads,
            hashes: Arc::new(FileHashes::open(HashIndex::new(store.context_index()))),
            running: Mutex::default(),
            contents: Mutex::default(),
            cache_locks: CacheLocks::default(),
            store,
            commands: Arc::new(Semaphore::new(commands)),
        }))
    }

    /// The cache.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The store.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Digests of files that were read before.
    pub fn hashes(&self) -> &Arc<FileHashes> {
        &self.hashes
    }

    /// Evaluates results, in parallel where they do not need each other; gives the trees of all
    /// vertices that had to be looked at. Dropping the future stops what only this build wants.
    pub async fn solve(self: &Arc<Self>, job: Arc<Job>, result: VertexId) -> Result<Solved, StepFailure> {
        let vertices = job.graph.reachable(result);
        let fetched = fetch_first(&self.store, &self.downloads, &job.graph, &vertices).await?;
        let job = with_folders(job, fetched.folders);
        // The downloads stay as long as steps may read them.
        let _scratches = fetched.scratches;
        let keys = {
            let (solver, job, vertices) = (Arc::clone(self), Arc::clone(&job), vertices.clone());
            let prepare = move || key::prepare(&job.graph, &vertices, &job.inputs, &solver.hashes, job.epoch);
            tokio::task::spawn_blocking(prepare).await.map_err(|error| StepFailure {
                vertex: result,
                error: Arc::new(SolveError::Worker(error.to_string())),
            })??
        };
        let state = Arc::new(State { job, keys, evaluations: Mutex::default(), trees: Mutex::default() });
        let _forget = ForgetOnDrop(Arc::clone(&state));
        let tree = self.evaluate(&state, result).await?;
        let mut trees = std::mem::take(&mut *lock(&state.trees));
        trees.insert(result, tree);
        let key = |(id, prepared): (&VertexId, &Prepared)| (*id, prepared.key.to_string());
        Ok(Solved { keys: state.keys.prepared.iter().map(key).collect(), trees })
    }

    /// Tells a result that was found in the cache, and before it what it rests on, as far as that is
    /// still there.
    async fn tell_cached(&self, state: &State, id: VertexId, tree: &Tree) {
        for below in state.job.graph.reachable(id) {
            if below == id || lock(&state.trees).contains_key(&below) {
                continue;
            }
            let found = match state.job.graph.vertex(below).kind() {
                Kind::Source(source) if source.attrs.contains_key(IMAGE_ID_ATTRIBUTE) => {
                    self.image(source).ok()
                }
                _ => state
                    .keys
                    .prepared
                    .get(&below)
                    .and_then(|prepared| self.cache.find(&prepared.key))
                    .map(tree_of),
            };
            if let Some(found) = found {
                state.found(below, &found).await;
            }
        }
        state.found(id, tree).await;
    }

    /// The evaluation of a vertex within one job; begun once.
    fn evaluate(self: &Arc<Self>, state: &Arc<State>, id: VertexId) -> Evaluation {
        let mut evaluations = lock(&state.evaluations);
        if let Some(evaluation) = evaluations.get(&id) {
            return evaluation.clone();
        }
        let (solver, this) = (Arc::clone(self), Arc::clone(state));
        // The future holds the job, and the job the future: `ForgetOnDrop` ends the circle.
        let future: BoxFuture<'static, _> = Box::pin(async move { solver.vertex(&this, id).await });
        let evaluation = future.shared();
        evaluations.insert(id, evaluation.clone());
        evaluation
    }

    async fn vertex(self: &Arc<Self>, state: &Arc<State>, id: VertexId) -> Result<Tree, StepFailure> {
        let vertex = state.job.graph.vertex(id);
        let failed = |error: Arc<SolveError>| StepFailure { vertex: id, error };
        if let Kind::Source(source) = vertex.kind()
            && source.attrs.contains_key(IMAGE_ID_ATTRIBUTE)
        {
            let tree = self.image(source).map_err(|error| failed(Arc::new(error)))?;
            state.found(id, &tree).await;
            return Ok(tree);
        }
        let Some(prepared) = state.keys.prepared.get(&id) else {
            return Err(failed(Arc::new(SolveError::FolderAsRoot)));
        };
        if !vertex.info.ignore_cache
            && let Some(record) = self.cache.find(&prepared.key)
        {
            let tree = tree_of(record);
            self.tell_cached(state, id, &tree).await;
            return Ok(tree);
        }
        let inputs = self.inputs(state, id).await?;
        let tree = self.make(state, id, prepared, inputs).await.map_err(failed)?;
        lock(&state.trees).insert(id, tree.clone());
        Ok(tree)
    }

    /// The trees of a vertex' inputs, in parallel; `None` for context folders.
    async fn inputs(
        self: &Arc<Self>,
        state: &Arc<State>,
        id: VertexId,
    ) -> Result<Vec<Option<Tree>>, StepFailure> {
        let vertex = state.job.graph.vertex(id);
        let evaluations = vertex.inputs.iter().map(|input| {
            let is_folder = !state.keys.prepared.contains_key(input);
            let evaluation = (!is_folder).then(|| self.evaluate(state, *input));
            async move {
                match evaluation {
                    Some(evaluation) => evaluation.await.map(Some),
                    None => Ok(None),
                }
            }
        });
        futures_util::future::try_join_all(evaluations).await
    }

    /// Finds a step by content, joins one that is under way, or does it.
    async fn make(
        self: &Arc<Self>,
        state: &Arc<State>,
        id: VertexId,
        prepared: &Prepared,
        inputs: Vec<Option<Tree>>,
    ) -> Result<Tree, Arc<SolveError>> {
        let vertex = state.job.graph.vertex(id);
        let events = state.job.events.clone();
        if vertex.info.ignore_cache {
            let listeners = Arc::new(Listeners::default());
            listeners.add(events, id);
            return self.execute(Arc::clone(state), id, inputs, listeners).await;
        }
        if self.cache.knows_op(&prepared.op)
            && let Some(tree) = self.find_by_content(state, id, prepared, &inputs).await?
        {
            state.found(id, &tree).await;
            return Ok(tree);
        }
        events.send(Event::Missed(id, self.cache.why_missed(prepared, &vertex.info.name))).await;
        self.join_or_start(state, id, prepared.key, inputs).await
    }

    fn join_or_start(
        self: &Arc<Self>,
        state: &Arc<State>,
        id: VertexId,
        key: StepKey,
        inputs: Vec<Option<Tree>>,
    ) -> Shared<BoxFuture<'static, Result<Tree, Arc<SolveError>>>> {
        let mut running = lock(&self.running);
        if let Some(step) = running.get(&key)
            && let Some(future) = step.future.upgrade()
        {
            step.listeners.add(state.job.events.clone(), id);
            return future;
        }
        running.retain(|_, step| step.future.upgrade().is_some());
        let listeners = Arc::new(Listeners::default());
        listeners.add(state.job.events.clone(), id);
        let (solver, this, heard) = (Arc::clone(self), Arc::clone(state), Arc::clone(&listeners));
        let future: BoxFuture<'static, _> = Box::pin(async move {
            let result = solver.execute(this, id, inputs, heard).await;
            lock(&solver.running).remove(&key);
            result
        });
        let future = future.shared();
        if let Some(weak) = future.downgrade() {
            running.insert(key, Running { future: weak, listeners });
        }
        future
    }

    /// Does a step and keeps its result.
    async fn execute(
        self: &Arc<Self>,
        state: Arc<State>,
        id: VertexId,
        inputs: Vec<Option<Tree>>,
        listeners: Arc<Listeners>,
    ) -> Result<Tree, Arc<SolveError>> {
        let begin = Instant::now();
        for (events, vertex) in listeners.all() {
            events.send(Event::Started(vertex)).await;
        }
        let time = step_time(&state, id, &inputs);
        let result = self.step(&state, id, &inputs, time, &listeners).await;
        let result = result.map_err(Arc::new).map(|(base, added)| self.keep(&state, id, base, added, time));
        let (outcome, tree) = match &result {
            Ok(tree) => (Outcome::Done, Some(tree.clone())),
            Err(error) => (Outcome::Failed(error.to_string()), None),
        };
        for (events, vertex) in listeners.all() {
            let (outcome, tree, duration) = (outcome.clone(), tree.clone(), begin.elapsed());
            events.send(Event::Finished { vertex, outcome, duration, tree }).await;
        }
        let tree = result?;
        self.learn_content(&state, id, inputs);
        Ok(tree)
    }

    fn keep(
        &self,
        state: &State,
        id: VertexId,
        base: Vec<Digest>,
        added: Option<Arc<LayerRecord>>,
        time: StepTime,
    ) -> Tree {
        let created = time.text();
        let mut layers = base;
        layers.extend(added.as_ref().map(|layer| layer.diff_id.clone()));
        let tree = Tree {
            layers: layers.clone(),
            added: added.as_ref().map(|layer| layer.diff_id.clone()),
            created: created.clone(),
        };
        if let Some(prepared) = state.keys.prepared.get(&id) {
            let name = &state.job.graph.vertex(id).info.name;
            self.cache.insert(prepared, name, FinishedStep { layers, added, created, aliases: Vec::new() });
        }
        tree
    }

    /// Works out the content key of a step that was just done, so that it is found by it later on.
    /// Nobody waits for this.
    fn learn_content(self: &Arc<Self>, state: &Arc<State>, id: VertexId, inputs: Vec<Option<Tree>>) {
        let (solver, state) = (Arc::clone(self), Arc::clone(state));
        tokio::task::spawn_blocking(move || {
            let Some(prepared) = state.keys.prepared.get(&id) else { return };
            match solver.content_key(&state, id, &inputs) {
                Ok(key) => solver.cache.add_alias(prepared, &key),
                Err(error) => tracing::debug!(%error, "no content key for a build step"),
            }
        });
    }

    async fn find_by_content(
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
        let tree = fileop::Tree::stage(super::overlay::view(&lowers)?);
        let key = fileop::tree_key(&tree, &*self.hashes, MAX_LAYER_ENTRIES)?;
        lock(&self.contents).insert(layer.clone(), key);
        Ok(key)
    }

    fn image(&self, source: &crate::llb::ops::SourceOp) -> Result<Tree, SolveError> {
        let gone = || SolveError::ImageGone(source.identifier.clone());
        let id =
            source.attrs.get(IMAGE_ID_ATTRIBUTE).and_then(|id| Digest::parse(id).ok()).ok_or_else(gone)?;
        let image = self.store.images().get(&id).ok_or_else(gone)?;
        Ok(Tree { layers: image.diff_ids(), added: None, created: image.created.clone().unwrap_or_default() })
    }

    async fn step(
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
fn step_time(state: &State, id: VertexId, inputs: &[Option<Tree>]) -> StepTime {
    let selections = state.keys.selections.iter().chain(&state.keys.mounts);
    let own = selections.filter(|((vertex, _), _)| *vertex == id).map(|(_, selection)| selection);
    StepTime::begin(state.job.epoch, time::newest(inputs.iter().flatten(), own))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn tree_of(record: CacheRecord) -> Tree {
    Tree { layers: record.layers, added: record.added, created: record.created }
}

/// The layers that a step changes: those of its first input, where it has one to change.
fn base_of<'a>(vertex: &crate::llb::Vertex, inputs: &'a [Option<Tree>]) -> &'a [Digest] {
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

fn input_tree<'a>(vertex: &crate::llb::Vertex, inputs: &'a [Option<Tree>], id: VertexId) -> Option<&'a Tree> {
    let index = vertex.inputs.iter().position(|input| *input == id)?;
    inputs.get(index)?.as_ref()
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
