//! `POST /build`, `/build/prune`, `/build/cancel`: Docker's classic builder.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use ferry_api::Filters;
use ferry_build::build::Plan;
use ferry_build::dockerfile::SourceFile;
use ferry_build::dockerfile::directive::CheckOptions;
use ferry_build::git::GitAddress;
use ferry_build::lint::{self, Finding};
use ferry_build::llb::VertexId;
use ferry_build::lower::NoCache;
use ferry_build::solve::{
    CacheUsage, Downloads, Event, EventSender, Outcome, PruneOptions, SolveError, Stream,
};
use ferry_sys::rights::Rights;
use futures_util::StreamExt;
use http::{HeaderMap, StatusCode, header};
use tokio::sync::{mpsc, oneshot};

use crate::build::{
    BaseImages, BuildFailure, BuildOptions, BuildService, Building, ClassicOutput, Client, Context,
    ContextError, Finished, LocalBuild, Text,
};
use crate::clock;
use crate::engine::Engine;
use crate::error::{HttpError, error_chain};
use crate::server::body::GoJson;
use crate::server::carried::Carried;
use crate::server::hijack::channel_body;
use crate::server::params::Params;

/// Pieces of a context that may wait for the disk.
const CONTEXT_QUEUE: usize = 16;

/// Messages that may wait for a slow client; then the build waits.
const OUTPUT_QUEUE: usize = 64;

/// Filters of `/build/prune`.
const PRUNE_FILTERS: &[&str] = &[
    "until",
    "unused-for",
    "id",
    "parent",
    "type",
    "description",
    "inuse",
    "shared",
    "private",
    "label",
    "label!",
];

/// The build argument that has the words of a `# check=` line.
const CHECK: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// The routes of this file.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/build", post(build))
        .route("/build/prune", post(prune))
        .route("/build/cancel", post(cancel))
        .route("/ferry/build", post(local_build))
        .route("/ferry/build/cache", get(cache_usage))
}

async fn build(
    State(engine): State<Arc<Engine>>,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    if params.get("version") == Some("2") {
        return Err(HttpError::bad_request(
            "BuildKit's protocol is not offered; use version 1 (DOCKER_BUILDKIT=0)",
        ));
    }
    let options = BuildOptions::from_query(&params)?;
    let mut canceled = Canceled::note(&engine, &options).await?;
    let context = async {
        match &options.remote {
            Some(url) => remote_context(&engine, url, &options.dockerfile).await,
            None => uploaded_context(&engine, body, &options.dockerfile).await,
        }
    };
    let context = tokio::select! {
        context = context => context?,
        () = canceled.wait() => return Err(HttpError::internal(CANCELED)),
    };
    start(engine, options, context, &headers, Form::Classic, canceled).await
}

/// What a client is told whose build another one canceled; Docker's words.
const CANCELED: &str = "context canceled";

/// Whether a build was canceled by its name.
struct Canceled(Option<oneshot::Receiver<()>>);

impl Canceled {
    /// From now on the build can be canceled, if it has a name.
    async fn note(engine: &Arc<Engine>, options: &BuildOptions) -> Result<Self, HttpError> {
        Ok(match &options.build_id {
            Some(id) => Self(Some(engine.builds().await?.note(id))),
            None => Self(None),
        })
    }

    /// Resolves when somebody cancels the build.
    async fn wait(&mut self) {
        if let Some(receiver) = &mut self.0
            && receiver.await.is_ok()
        {
            return;
        }
        // Another build of the same name took the place, or there is no name.
        self.0 = None;
        std::future::pending().await
    }
}

/// How a build is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The classic builder's texts.
    Classic,
    /// One object per event.
    Events,
}

/// `POST /ferry/build`.
async fn local_build(
    State(engine): State<Arc<Engine>>,
    params: Params,
    headers: HeaderMap,
    Extension(carried): Extension<Carried>,
    Extension(rights): Extension<Option<Arc<Rights>>>,
    GoJson(request): GoJson<LocalBuild>,
) -> Result<Response, HttpError> {
    let client = Client { folders: carried.take(), rights };
    let mut options = BuildOptions::from_query(&params)?;
    request.apply(&mut options);
    let dockerfile = options.dockerfile.clone();
    let canceled = Canceled::note(&engine, &options).await?;
    let elsewhere: Vec<(String, String)> = request
        .contexts
        .iter()
        .filter(|(_, value)| !value.starts_with("docker-image://"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut context = if request.remote.is_empty() {
        let opened = tokio::task::spawn_blocking(move || request.open(&dockerfile, client)).await;
        opened.map_err(|error| ContextError::Worker(error.to_string()))??
    } else {
        let mut context = remote_context(&engine, &request.remote, &dockerfile).await?;
        request.complete(&mut context, client)?;
        context
    };
    for (name, url) in elsewhere {
        add_remote(&engine, &mut context, &name, &url).await?;
    }
    start(engine, options, context, &headers, Form::Events, canceled).await
}

async fn start(
    engine: Arc<Engine>,
    mut options: BuildOptions,
    context: Context,
    headers: &HeaderMap,
    form: Form,
    mut canceled: Canceled,
) -> Result<Response, HttpError> {
    let time = options.lower.source_date_epoch.or(context.time);
    options.lower.source_date_epoch = time;
    let (sender, receiver) = mpsc::channel(OUTPUT_QUEUE);
    let service = Arc::clone(engine.builds().await?);
    let client = sender.clone();
    let told = Output { sender: sender.clone() };
    let images = BaseImages::new(&engine, options.pull, headers, sender.clone());
    let building = Building::begin(&engine, &service);
    let build = Build { engine, service: Arc::clone(&service), options, images, output: Output { sender } };
    tokio::spawn(async move {
        let _building = building;
        tokio::select! {
            () = build.run(context, form) => {}
            // The client is gone: nobody wants the result any more.
            () = client.closed() => {}
            () = canceled.wait() => told.error(CANCELED, None).await,
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], channel_body(receiver)).into_response())
}

async fn uploaded_context(engine: &Arc<Engine>, body: Body, dockerfile: &str) -> Result<Context, HttpError> {
    let (sender, receiver) = mpsc::channel(CONTEXT_QUEUE);
    let (store, dockerfile) = (Arc::clone(&engine.store), dockerfile.to_owned());
    let unpacking = tokio::task::spawn_blocking(move || Context::from_archive(&store, receiver, &dockerfile));
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| io::Error::other(error.to_string()));
        if sender.send(piece).await.is_err() {
            // Unpacking stopped: the end of the archive came, or an error that is told below. What
            // still comes is read to its end, because clients send before they listen.
            while let Some(Ok(_)) = pieces.next().await {}
            break;
        }
    }
    drop(sender);
    Ok(unpacking.await.map_err(|error| ContextError::Worker(error.to_string()))??)
}

async fn remote_context(engine: &Arc<Engine>, url: &str, dockerfile: &str) -> Result<Context, HttpError> {
    let scratch = engine.store.scratch().map_err(ContextError::from)?;
    if let Some(address) = GitAddress::parse(url) {
        let time = crate::build::clone_repository(&address, scratch.path())
            .await
            .map_err(|reason| ContextError::Clone { url: address.repository.clone(), reason })?;
        let dockerfile = dockerfile.to_owned();
        let read = tokio::task::spawn_blocking(move || {
            Context::from_repository(scratch, &address.subdirectory, &dockerfile, time)
        });
        return Ok(read.await.map_err(|error| ContextError::Worker(error.to_string()))??);
    }
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(ContextError::Address(url.to_owned()).into());
    }
    let target = scratch.path().join("context");
    let downloads = crate::build::downloads();
    downloads
        .fetch(url.to_owned(), target.clone())
        .await
        .map_err(|reason| ContextError::Download { url: url.to_owned(), reason })?;
    let (store, dockerfile) = (Arc::clone(&engine.store), dockerfile.to_owned());
    let read = tokio::task::spawn_blocking(move || {
        let context = Context::from_file(&store, &target, &dockerfile);
        drop(scratch);
        context
    });
    Ok(read.await.map_err(|error| ContextError::Worker(error.to_string()))??)
}

/// Fetches a named context that is a repository or an archive.
async fn add_remote(
    engine: &Arc<Engine>,
    context: &mut Context,
    name: &str,
    url: &str,
) -> Result<(), HttpError> {
    let scratch = engine.store.scratch().map_err(ContextError::from)?;
    if let Some(address) = GitAddress::parse(url) {
        crate::build::clone_repository(&address, scratch.path())
            .await
            .map_err(|reason| ContextError::Clone { url: address.repository.clone(), reason })?;
        return Ok(context.add_fetched(name, scratch, &address.subdirectory)?);
    }
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(ContextError::Address(url.to_owned()).into());
    }
    let target = scratch.path().join("context");
    crate::build::downloads()
        .fetch(url.to_owned(), target.clone())
        .await
        .map_err(|reason| ContextError::Download { url: url.to_owned(), reason })?;
    let store = Arc::clone(&engine.store);
    let unpacked = tokio::task::spawn_blocking(move || {
        let unpacked = Context::unpack_fetched(&store, &target);
        drop(scratch);
        unpacked
    });
    let unpacked = unpacked.await.map_err(|error| ContextError::Worker(error.to_string()))??;
    Ok(context.add_fetched(name, unpacked, "")?)
}

/// The client's end of a build.
struct Output {
    sender: mpsc::Sender<Result<Bytes, io::Error>>,
}

impl Output {
    async fn json(&self, value: serde_json::Value) {
        let mut line = value.to_string();
        line.push_str("\r\n");
        // A client that is gone cancels the build; nothing is to be done about it here.
        let _ = self.sender.send(Ok(line.into())).await;
    }

    async fn stream(&self, text: impl Into<String>) {
        self.json(serde_json::json!({ "stream": text.into() })).await;
    }

    async fn texts(&self, texts: Vec<Text>) {
        for text in texts {
            match text {
                Text::Plain(text) => self.stream(text).await,
                Text::Red(text) => self.stream(format!("\u{1b}[91m{text}\u{1b}[0m")).await,
            }
        }
    }

    async fn error(&self, message: &str, code: Option<i32>) {
        let detail = match code {
            Some(code) => serde_json::json!({ "code": code, "message": message }),
            None => serde_json::json!({ "message": message }),
        };
        self.json(serde_json::json!({ "errorDetail": detail, "error": message })).await;
    }
}

/// One build and its client.
struct Build {
    engine: Arc<Engine>,
    service: Arc<BuildService>,
    options: BuildOptions,
    images: BaseImages,
    output: Output,
}

impl Build {
    async fn run(mut self, mut context: Context, form: Form) {
        if form == Form::Classic && self.lacks_all_caches() {
            self.options.lower.no_cache = NoCache::All;
        }
        let output = &self.output;
        let (names, pull) = (&self.options.cache_from, self.options.pull_caches);
        let lines = self.service.import_caches(&self.engine, names, &self.images, pull).await;
        for line in lines.into_iter().filter(|line| form == Form::Events || line.starts_with("[Warning]")) {
            output.stream(line).await;
        }
        let plan = match self.service.plan(&context, &self.options, &self.images).await {
            Ok(plan) => plan,
            Err(failure) => {
                show_place(&context.file, &failure, output).await;
                return output.error(&failure_text(&failure), None).await;
            }
        };
        if let Err(message) = self.check(&plan, &context, form).await {
            return output.error(&message, None).await;
        }
        for name in &plan.lowered.unused_args {
            output.stream(format!("[Warning] One or more build-args [{name}] were not consumed\n")).await;
        }
        let (events, mut receiver) = EventSender::channel();
        let cached = self.options.lower.no_cache == NoCache::None;
        let steps = self.service.steps();
        let engine = &self.engine;
        let made_before = move |image: &_| cached && crate::build::was_made(engine, steps, image);
        let mut texts = ClassicOutput::new(&plan.lowered, Box::new(made_before));
        let result = {
            let building = self.service.build(&self.engine, &plan, &self.options, &mut context, events);
            tokio::pin!(building);
            loop {
                tokio::select! {
                    biased;
                    Some(event) = receiver.recv() => self.tell(&plan, &mut texts, event, form).await,
                    result = &mut building => break result,
                }
            }
        };
        while let Ok(event) = receiver.try_recv() {
            self.tell(&plan, &mut texts, event, form).await;
        }
        if form == Form::Classic && !self.options.quiet {
            output.texts(texts.end(result.is_ok())).await;
        }
        self.service.keep_steps(&plan, &texts);
        match result {
            Ok(finished) => {
                if let Some(mode) = self.options.cache_to {
                    let made = self.service.cache_image(&self.engine, &plan, &finished.built, mode).await;
                    match made {
                        Ok(id) => {
                            output.json(serde_json::json!({ "aux": { "CacheImage": id.to_string() } })).await
                        }
                        Err(failure) => return output.error(&failure_text(&failure), None).await,
                    }
                }
                if form == Form::Events {
                    let bases = plan.lowered.bases.iter();
                    let bases: Vec<_> = bases
                        .map(|(name, image)| serde_json::json!({ "Name": name, "Id": image.id.to_string() }))
                        .collect();
                    let now = clock::now();
                    output.json(serde_json::json!({ "aux": { "Bases": bases, "Finished": now } })).await;
                }
                succeeded(&self.options, &finished, form, output).await;
            }
            Err(failure) => failed(&self, &plan, &texts, &failure, form).await,
        }
    }

    /// Docker's classic builder takes cached steps from the named images alone, where any are named; with none of them
    /// there, there is no cache.
    fn lacks_all_caches(&self) -> bool {
        let (images, names) = (self.engine.store.images(), &self.options.cache_from);
        !names.is_empty() && names.iter().all(|name| images.resolve(name).is_err())
    }

    /// Tells what the linter finds; an error where findings are to fail the build.
    async fn check(&self, plan: &Plan, context: &Context, form: Form) -> Result<(), String> {
        let argument = self.options.lower.build_args.get(CHECK).and_then(Option::as_deref);
        let given = argument.map(CheckOptions::parse).transpose();
        let given = given.map_err(|reason| format!("invalid {CHECK}: {reason}"))?;
        let options = given.unwrap_or_else(|| plan.dockerfile.directives.check.clone());
        let ignore = context.inputs.folders.get("context").map(|folder| folder.tree.ignore());
        let findings = lint::of_build(&plan.file, &plan.dockerfile, ignore, &options, &plan.platforms);
        let line = |finding: &Finding| plan.file.line(finding.diagnostic.span.start);
        if form == Form::Events && !findings.is_empty() {
            let warnings: Vec<_> = findings
                .iter()
                .map(|finding| {
                    let found = &finding.diagnostic;
                    serde_json::json!({ "Rule": found.rule, "Message": found.message, "Line": line(finding) })
                })
                .collect();
            self.output.json(serde_json::json!({ "aux": { "Warnings": warnings } })).await;
        }
        let mut rules: Vec<&str> = findings.iter().filter_map(|finding| finding.diagnostic.rule).collect();
        rules.sort_unstable();
        rules.dedup();
        match options.error && !rules.is_empty() {
            true => Err(format!("lint violation found for rules: {}", rules.join(", "))),
            false => Ok(()),
        }
    }

    async fn tell(&self, plan: &Plan, texts: &mut ClassicOutput<'_>, event: Event, form: Form) {
        match form {
            Form::Events => {
                let mut object = event_object(plan, &event);
                // The log is told already, and only trees matter for what may come after.
                if !matches!(event, Event::Log(..)) {
                    let ended = match &event {
                        Event::Finished { vertex, .. } => Some(*vertex),
                        _ => None,
                    };
                    texts.note(event);
                    if let Some(id) = ended.and_then(|vertex| step_id(plan, texts, vertex)) {
                        object["Image"] = id.into();
                    }
                }
                self.output.json(object).await;
            }
            Form::Classic => {
                let shown = texts.take(event);
                if !self.options.quiet {
                    self.output.texts(shown).await;
                }
            }
        }
    }
}

/// An event as `/ferry/build` tells it.
fn event_object(plan: &Plan, event: &Event) -> serde_json::Value {
    let step = |vertex: &VertexId| {
        let name = &plan.lowered.graph.vertex(*vertex).info.name;
        serde_json::json!({ "Number": vertex.index() + 1, "Name": name })
    };
    match event {
        Event::Started(vertex) => serde_json::json!({ "Step": step(vertex), "State": "started" }),
        Event::Log(vertex, stream, data) => serde_json::json!({
            "Step": step(vertex),
            "State": "log",
            "Error": *stream == Stream::Error,
            "Text": String::from_utf8_lossy(data),
        }),
        Event::Missed(vertex, reasons) => {
            serde_json::json!({ "Step": step(vertex), "State": "missed", "Reasons": reasons })
        }
        Event::Finished { vertex, outcome, duration, .. } => {
            let state = match outcome {
                Outcome::Cached => "cached",
                Outcome::Done => "done",
                Outcome::Failed(_) => "failed",
            };
            serde_json::json!({ "Step": step(vertex), "State": state, "Seconds": duration.as_secs_f64() })
        }
    }
}

/// The short id of the image that a build would give if it ended with this step.
fn step_id(plan: &Plan, texts: &ClassicOutput<'_>, vertex: VertexId) -> Option<String> {
    let mut steps = plan.lowered.steps.iter();
    let step = steps.find(|step| step.makes_layer && step.vertex == Some(vertex))?;
    let (id, _) = ferry_build::build::step_image(step, texts.trees(), plan.lowered.epoch)?;
    Some(id.short().to_owned())
}

/// Shows where in the Dockerfile a failure has its cause.
async fn show_place(file: &SourceFile, failure: &BuildFailure, output: &Output) {
    if let BuildFailure::Build(error) = failure
        && let Some(diagnostic) = error.diagnostic()
    {
        output.stream(format!("{}\n", diagnostic.render(file, false))).await;
    }
}

async fn succeeded(options: &BuildOptions, finished: &Finished, form: Form, output: &Output) {
    let id = finished.id.to_string();
    if options.quiet && form == Form::Classic {
        return output.stream(format!("{id}\n")).await;
    }
    output.json(serde_json::json!({ "aux": { "ID": id } })).await;
    output.stream(format!("Successfully built {}\n", finished.id.short())).await;
    for tag in &options.tags {
        output.stream(format!("Successfully tagged {}\n", tag.familiar())).await;
    }
}

/// Tells a failure with its place, and the command that opens a shell in front of it.
async fn failed(build: &Build, plan: &Plan, texts: &ClassicOutput<'_>, failure: &BuildFailure, form: Form) {
    let (engine, output) = (&build.engine, &build.output);
    show_place(&plan.file, failure, output).await;
    if let BuildFailure::Build(ferry_build::build::BuildError::Step { failure: step, .. }) = failure
        && matches!(step.error.as_ref(), SolveError::Exit { .. })
        && let Some(id) = crate::build::keep_step(engine, plan, texts, step.vertex).await
    {
        if form == Form::Events {
            output.json(serde_json::json!({ "aux": { "BeforeFailure": id } })).await;
        }
        output.stream(format!("a shell in front of the failed step: docker run --rm -it {id} sh\n")).await;
    }
    let code = match failure {
        BuildFailure::Build(error) => error.exit_code(),
        _ => None,
    };
    output.error(&failure_text(failure), code).await;
}

fn failure_text(failure: &BuildFailure) -> String {
    if let BuildFailure::Build(ferry_build::build::BuildError::Step { failure: step, .. }) = failure
        && let SolveError::Exit { command, exit_code, .. } = step.error.as_ref()
    {
        return format!("The command '{command}' returned a non-zero code: {exit_code}");
    }
    error_chain(failure)
}

/// One record of the cache, as `builder du` shows it.
#[derive(serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct CacheLine {
    id: String,
    description: String,
    size: u64,
    created: String,
    last_used: i64,
    uses: u64,
    shared: bool,
}

/// `GET /ferry/build/cache`.
async fn cache_usage(State(engine): State<Arc<Engine>>) -> Result<Json<Vec<CacheLine>>, HttpError> {
    let lines = engine.builds().await?.solver().cache().usage().into_iter().map(|usage| CacheLine {
        id: usage.id,
        description: usage.description,
        size: usage.size,
        created: usage.created,
        last_used: usage.last_used,
        uses: usage.uses,
        shared: usage.shared,
    });
    Ok(Json(lines.collect()))
}

/// Answer of `/build/prune`.
#[derive(serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct Pruned {
    caches_deleted: Vec<String>,
    space_reclaimed: u64,
}

async fn prune(State(engine): State<Arc<Engine>>, params: Params) -> Result<Json<Pruned>, HttpError> {
    let filters = params.filters(PRUNE_FILTERS)?;
    let bound = filters.get("until").chain(filters.get("unused-for")).next().map(str::to_owned);
    let unused_since = match bound {
        Some(text) => {
            crate::container::prune::bound(&text, jiff::Timestamp::now())?.map(|time| time.as_second())
        }
        None => None,
    };
    let keep = ["reserved-space", "keep-storage", "max-used-space"];
    let mut keep_bytes = None;
    for name in keep {
        keep_bytes = keep_bytes.or(params.number::<u64>(name)?.filter(|bytes| *bytes > 0));
    }
    let service = Arc::clone(engine.builds().await?);
    let only = chosen_records(&filters, service.solver().cache().usage());
    let options = PruneOptions { all: params.flag("all"), unused_since, keep_bytes, only };
    let pruned = tokio::task::spawn_blocking(move || prune_all(&service, &options)).await;
    let (caches_deleted, space_reclaimed) =
        pruned.map_err(|error| HttpError::internal(error.to_string()))??;
    engine.events.emit(
        "builder",
        "prune",
        "",
        std::collections::BTreeMap::from([("reclaimed".to_owned(), space_reclaimed.to_string())]),
    );
    Ok(Json(Pruned { caches_deleted, space_reclaimed }))
}

/// The records that the filters choose; None where no filter speaks of records. A record has no labels: none
/// has the one that is asked for.
fn chosen_records(filters: &Filters, records: Vec<CacheUsage>) -> Option<HashSet<String>> {
    let about_records = ["id", "parent", "type", "description", "inuse", "shared", "private", "label"];
    if !about_records.iter().any(|key| filters.contains(key)) {
        return None;
    }
    let all = |key: &str, fits: &dyn Fn(&str) -> bool| filters.get(key).all(fits);
    let is = |value: &str, truth: bool| !matches!(value, "0" | "false") == truth;
    let fits = |record: &CacheUsage| {
        all("id", &|id| record.id.starts_with(id))
            && all("type", &|kind| kind == "regular")
            && all("description", &|text| record.description == text)
            && all("shared", &|value| is(value, record.shared))
            && all("private", &|value| is(value, !record.shared))
            && all("inuse", &|value| is(value, false))
            && all("parent", &|_| false)
            && all("label", &|_| false)
    };
    Some(records.into_iter().filter(fits).map(|record| record.id).collect())
}

/// Removes records and, where everything is to go, the directories of cache mounts: a running command may be
/// using those, so they stay while a build runs.
fn prune_all(service: &BuildService, options: &PruneOptions) -> Result<(Vec<String>, u64), HttpError> {
    let failed = |error: &dyn std::error::Error| HttpError::internal(error_chain(error));
    let (mut removed, mut freed) = service.solver().cache().prune(options).map_err(|error| failed(&error))?;
    if options.all
        && options.unused_since.is_none()
        && options.keep_bytes.is_none()
        && options.only.is_none()
        && service.active().is_idle()
    {
        let store = service.solver().store();
        for name in store.cache_directories().map_err(|error| failed(&error))? {
            freed += store.cache_directory_size(&name).map_err(|error| failed(&error))?;
            if store.remove_cache_directory(&name).map_err(|error| failed(&error))? {
                removed.push(name);
            }
        }
    }
    Ok((removed, freed))
}

async fn cancel(State(engine): State<Arc<Engine>>, params: Params) -> Result<StatusCode, HttpError> {
    let id = params.get("id").ok_or_else(|| HttpError::bad_request("build ID not provided"))?;
    engine.builds().await?.cancel(id);
    Ok(StatusCode::NO_CONTENT)
}
