//! A stage: from its base, instruction by instruction, to a tree and a configuration.

use std::collections::BTreeMap;

use ferry_oci::Platform;
use ferry_oci::image::ImageConfig;

use super::error::{LowerError, LowerErrorKind};
use super::history::HistoryDraft;
use super::options::{ImageRequest, LowerOptions, NoCache};
use super::plan::Origin;
use super::scope::{StageScope, expand};
use super::{Context, Step, UnsetVariable, copy, metadata, run};
use crate::dockerfile::ast::{ArgDefinition, Instruction, Kind, Word};
use crate::dockerfile::directive::Escape;
use crate::dockerfile::expand::Expanded;
use crate::llb::ops::{self, SourceOp};
use crate::llb::{VertexId, VertexInfo};

/// The search path of images that set none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The attribute of an image source that carries the image's id.
pub const IMAGE_ID_ATTRIBUTE: &str = "ferry.image.id";

/// What a stage is, after some of its instructions.
#[derive(Debug, Clone)]
pub struct StageState {
    /// The tree; `None` is an empty one.
    pub root: Option<VertexId>,
    /// Configuration of the image.
    pub image: ImageConfig,
    /// Variables in sight.
    pub scope: StageScope,
    /// New lines of history.
    pub history: Vec<HistoryDraft>,
    /// The platform.
    pub platform: Platform,
    /// Only now, not inherited: CMD was set in this stage.
    pub cmd_set: bool,
    /// The shell of shell forms.
    pub shell: Vec<String>,
    pub(super) escape: Escape,
    pub(super) stage_index: usize,
    pub(super) unset: Vec<UnsetVariable>,
    pub(super) current: crate::dockerfile::Span,
}

impl StageState {
    /// Expands a word with the stage's variables, and notes those that are not set.
    pub fn expand(&mut self, word: &Word) -> Result<String, LowerError> {
        self.expand_words(word).map(|expanded| expanded.text)
    }

    /// The same, with the words that it splits into.
    pub fn expand_words(&mut self, word: &Word) -> Result<Expanded, LowerError> {
        let expanded = expand(word, self.escape, &self.scope)?;
        for name in &expanded.unset {
            if !self.scope.is_declared(name) {
                let known = self.scope.names();
                self.unset.push(UnsetVariable { name: name.clone(), span: self.current, known });
            }
        }
        Ok(expanded)
    }

    /// Adds a line of history.
    pub fn record(&mut self, created_by: String) {
        self.history.push(HistoryDraft { created_by, vertex: None, author: None });
    }

    /// Moves to a new tree, with its line of history.
    pub fn advance(&mut self, vertex: VertexId, created_by: String) {
        self.root = Some(vertex);
        let created_by = format!("{created_by} # buildkit");
        self.history.push(HistoryDraft { created_by, vertex: Some(vertex), author: None });
    }

    /// The working directory, absolute.
    pub fn working_directory(&self) -> &str {
        match self.image.config.working_dir.as_str() {
            "" => "/",
            directory => directory,
        }
    }

    /// The fixed time of the build, from the Dockerfile, the arguments or the caller.
    pub fn epoch(&self, options: &LowerOptions) -> Option<i64> {
        use crate::dockerfile::expand::Variables;
        let given = options.build_args.get("SOURCE_DATE_EPOCH").and_then(|value| value.as_deref());
        given
            .or_else(|| self.scope.get("SOURCE_DATE_EPOCH"))
            .and_then(|text| text.parse().ok())
            .or(options.source_date_epoch)
    }

    /// The final configuration.
    pub fn finish(mut self, options: &LowerOptions) -> ImageConfig {
        if !options.labels.is_empty() {
            let labels = self.image.config.labels.get_or_insert_with(BTreeMap::new);
            labels.extend(options.labels.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        self.configuration()
    }

    /// The configuration as it stands.
    pub fn configuration(&self) -> ImageConfig {
        let mut image = self.image.clone();
        image.config.env = self.scope.env_entries();
        image
    }
}

/// Lowers one stage whose needs are lowered already.
pub fn lower_stage(context: &mut Context<'_>, index: usize) -> Result<StageState, LowerError> {
    let dockerfile = context.dockerfile;
    let stage = &dockerfile.stages[index];
    let planned = &context.plan.stages[&index];
    let label = stage.name().unwrap_or_else(|| match context.plan.stages.len() {
        1 => String::new(),
        _ => format!("stage-{index}"),
    });
    let total = 1 + planned.triggers.iter().chain(&stage.instructions).filter(|i| makes_layer(i)).count();
    let mut names = StepNames { label: label.clone(), done: 0, total };
    let mut state = start(context, index, &mut names)?;
    push_step(context, &state, &stage.head, &label, true);
    for (instruction, is_trigger) in
        planned.triggers.iter().map(|i| (i, true)).chain(stage.instructions.iter().map(|i| (i, false)))
    {
        state.current = instruction.span;
        let name = names.next(instruction);
        dispatch(context, &mut state, instruction, name).map_err(|mut error| {
            if is_trigger {
                error.span = stage.head.span;
            }
            error
        })?;
        push_step(context, &state, instruction, &label, false);
    }
    context.unset.append(&mut state.unset);
    Ok(state)
}

fn push_step(
    context: &mut Context<'_>,
    state: &StageState,
    instruction: &Instruction,
    stage: &str,
    is_from: bool,
) {
    context.steps.push(Step {
        text: instruction.text.clone(),
        span: instruction.span,
        stage: stage.to_owned(),
        vertex: state.root,
        makes_layer: makes_layer(instruction),
        is_from,
        config: state.configuration(),
        history: state.history.clone(),
    });
}

/// Numbers the steps of a stage as BuildKit's users know them.
struct StepNames {
    label: String,
    done: usize,
    total: usize,
}

impl StepNames {
    fn next(&mut self, instruction: &Instruction) -> String {
        if !makes_layer(instruction) && !matches!(instruction.kind, Kind::From(_)) {
            return instruction.text.clone();
        }
        self.done += 1;
        let width = self.total.to_string().len();
        let space = if self.label.is_empty() { "" } else { " " };
        format!("[{}{space}{:>width$}/{}] {}", self.label, self.done, self.total, instruction.text)
    }
}

/// Whether an instruction makes a tree.
fn makes_layer(instruction: &Instruction) -> bool {
    matches!(instruction.kind, Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_))
}

fn start(context: &mut Context<'_>, index: usize, names: &mut StepNames) -> Result<StageState, LowerError> {
    let stage = &context.dockerfile.stages[index];
    let planned = &context.plan.stages[&index];
    let name = names.next(&stage.head);
    let mut state = match &planned.base {
        Origin::Stage(earlier) => {
            let mut state = context.states[earlier].clone();
            state.unset.clear();
            state.cmd_set = false;
            state
        }
        Origin::Scratch => empty_state(&planned.platform),
        Origin::Folder(name) => {
            let mut state = empty_state(&planned.platform);
            state.root = Some(folder(context, name));
            state
        }
        Origin::Image(request) => {
            let root = image_vertex(context, request, name);
            let image = context.images[request].config.clone();
            image_state(root, image, &planned.platform)
        }
    };
    state.platform = planned.platform.clone();
    state.escape = context.globals.escape;
    state.stage_index = index;
    Ok(state)
}

fn empty_state(platform: &Platform) -> StageState {
    let image = ImageConfig {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        ..ImageConfig::default()
    };
    image_state_of(None, image, platform)
}

fn image_state(root: VertexId, mut image: ImageConfig, platform: &Platform) -> StageState {
    image.config.on_build = None;
    // What describes the container that once made the base is not true of this image.
    image.other.clear();
    image.config.other.clear();
    image.config.hostname.clear();
    image.config.domainname.clear();
    image.config.image.clear();
    image.docker_version = None;
    image_state_of(Some(root), image, platform)
}

fn image_state_of(root: Option<VertexId>, image: ImageConfig, platform: &Platform) -> StageState {
    let mut scope = StageScope::from_env(&image.config.env);
    if !scope.env.iter().any(|(name, _)| name == "PATH") {
        scope.env.insert(0, ("PATH".to_owned(), DEFAULT_PATH.to_owned()));
    }
    let shell = image.config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
    StageState {
        root,
        image,
        scope,
        history: Vec::new(),
        platform: platform.clone(),
        cmd_set: false,
        shell,
        escape: Escape::default(),
        stage_index: 0,
        unset: Vec::new(),
        current: Default::default(),
    }
}

/// The source operation of an image.
pub fn image_vertex(context: &mut Context<'_>, request: &ImageRequest, name: String) -> VertexId {
    let image = &context.images[request];
    let source = SourceOp {
        identifier: format!("docker-image://{}", request.name),
        attrs: BTreeMap::from([(IMAGE_ID_ATTRIBUTE.to_owned(), image.id.to_string())]),
    };
    let info = VertexInfo { name, ignore_cache: false, span: None };
    context.graph.add(Vec::new(), ops::Kind::Source(source), info)
}

/// The source operation of a folder that the caller opened.
pub fn folder(context: &mut Context<'_>, name: &str) -> VertexId {
    let source = SourceOp { identifier: format!("local://{name}"), attrs: BTreeMap::new() };
    let info = VertexInfo { name: format!("[internal] load {name}"), ignore_cache: false, span: None };
    context.graph.add(Vec::new(), ops::Kind::Source(source), info)
}

/// Whether steps of a stage are not looked up.
pub fn ignores_cache(context: &Context<'_>, state: &StageState) -> bool {
    match &context.options.no_cache {
        NoCache::None => false,
        NoCache::All => true,
        NoCache::Stages(stages) => {
            let index = state.stage_index;
            let name = context.dockerfile.stages[index].name().unwrap_or_default();
            stages.iter().any(|stage| stage.to_lowercase() == name || *stage == index.to_string())
        }
    }
}

fn dispatch(
    context: &mut Context<'_>,
    state: &mut StageState,
    instruction: &Instruction,
    name: String,
) -> Result<(), LowerError> {
    let info = VertexInfo { name, ignore_cache: ignores_cache(context, state), span: Some(instruction.span) };
    match &instruction.kind {
        Kind::Run(command) => run::lower(context, state, instruction, command, info),
        Kind::Copy(transfer) => copy::lower(context, state, transfer, "COPY", info),
        Kind::Add(transfer) => copy::lower(context, state, transfer, "ADD", info),
        Kind::Workdir(path) => copy::working_directory(context, state, path, info),
        Kind::Arg(definitions) => declare(context, state, definitions),
        _ => metadata::apply(state, instruction),
    }
}

/// ARG inside of a stage.
fn declare(
    context: &Context<'_>,
    state: &mut StageState,
    definitions: &[ArgDefinition],
) -> Result<(), LowerError> {
    use crate::dockerfile::expand::Variables;
    let mut texts = Vec::new();
    for definition in definitions {
        let name = definition.name.value.clone();
        let value = match (context.options.build_args.get(&name), &definition.default) {
            (Some(Some(value)), _) => Some(value.clone()),
            (_, Some(default)) => Some(state.expand(default)?),
            (_, None) => context.globals.get(&name).map(str::to_owned),
        };
        texts.push(match &value {
            Some(value) => format!("{name}={value}"),
            None => name.clone(),
        });
        state.scope.set_arg(name, value);
    }
    if let Some(text) =
        state.scope.args.iter().find(|(name, _)| name == "SOURCE_DATE_EPOCH").and_then(|(_, v)| v.clone())
        && text.parse::<i64>().is_err()
        && !text.is_empty()
    {
        return Err(LowerError::new(state.current, LowerErrorKind::InvalidEpoch(text)));
    }
    state.record(format!("ARG {}", texts.join(" ")));
    Ok(())
}
