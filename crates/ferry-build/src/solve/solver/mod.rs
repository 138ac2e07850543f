//! Evaluates a graph from its result backwards: what the cache knows is not looked into, what it
//! does not know is done once, however many builds want it.

mod content;
mod steps;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use ferry_oci::Digest;
use ferry_store::{DatabaseError, LayerRecord, Store};
use futures_util::FutureExt;
use futures_util::future::{Shared, WeakShared};
use tokio::sync::{Semaphore, mpsc};

use self::steps::step_time;
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

    fn image(&self, source: &crate::llb::ops::SourceOp) -> Result<Tree, SolveError> {
        let gone = || SolveError::ImageGone(source.identifier.clone());
        let id =
            source.attrs.get(IMAGE_ID_ATTRIBUTE).and_then(|id| Digest::parse(id).ok()).ok_or_else(gone)?;
        let image = self.store.images().get(&id).ok_or_else(gone)?;
        Ok(Tree { layers: image.diff_ids(), added: None, created: image.created.clone().unwrap_or_default() })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn tree_of(record: CacheRecord) -> Tree {
    Tree { layers: record.layers, added: record.added, created: record.created }
}
