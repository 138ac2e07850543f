//! A parsed Dockerfile into a build graph and an image configuration.
//!
//! Pure: what it needs to know of base images is asked for by name ([`Lowering::Needs`]) and handed
//! back in a map, so that the caller may fetch them in parallel and the tests need no store.

mod copy;
mod error;
mod history;
mod metadata;
mod options;
mod owner;
mod plan;
mod run;
mod scope;
mod stage;

use std::collections::{BTreeSet, HashMap};

use ferry_oci::image::ImageConfig;

pub use error::{LowerError, LowerErrorKind};
pub use history::HistoryDraft;
pub use options::{
    ImageMap, ImageRequest, LowerOptions, NamedContext, NoCache, PREDEFINED_ARGS, ResolvedImage, Resources,
};
pub use owner::parse_owner;
pub use plan::find_target;
pub use stage::IMAGE_ID_ATTRIBUTE;

use crate::dockerfile::ast::Dockerfile;
use crate::dockerfile::{SourceFile, Span};
use crate::llb::{Graph, VertexId};
use scope::GlobalScope;
use stage::StageState;

/// The identifier of the main build context.
pub const CONTEXT: &str = "local://context";

/// What lowering came to.
#[derive(Debug)]
pub enum Lowering {
    /// These images must be known first.
    Needs(Vec<ImageRequest>),
    /// All is known.
    Done(Box<Lowered>),
}

/// A Dockerfile as a graph.
#[derive(Debug)]
pub struct Lowered {
    /// The operations.
    pub graph: Graph,
    /// The operation whose tree is the image's; `None` is an empty tree.
    pub result: Option<VertexId>,
    /// The image configuration but for layers, history and dates.
    pub config: ImageConfig,
    /// The new lines of history, behind those of the base image.
    pub history: Vec<HistoryDraft>,
    /// The instructions in the order of the file, for the classic output and for step images.
    pub steps: Vec<Step>,
    /// Variables that were read without being set.
    pub unset: Vec<UnsetVariable>,
    /// Base images by the name in the Dockerfile.
    pub bases: Vec<(String, ResolvedImage)>,
    /// `--build-arg` names that no ARG declares.
    pub unused_args: Vec<String>,
    /// The time for `created` and new files, when it is fixed (`SOURCE_DATE_EPOCH`).
    pub epoch: Option<i64>,
}

/// One instruction of a stage that is built.
#[derive(Debug, Clone)]
pub struct Step {
    /// The instruction as written.
    pub text: String,
    /// Where.
    pub span: Span,
    /// Name of the stage, or its number.
    pub stage: String,
    /// The tree after it; `None` is an empty tree.
    pub vertex: Option<VertexId>,
    /// Whether it made that tree (RUN, COPY, ADD, WORKDIR) or only changed the configuration.
    pub makes_layer: bool,
    /// It is a FROM.
    pub is_from: bool,
    /// The configuration after it.
    pub config: ImageConfig,
    /// The new history up to it.
    pub history: Vec<HistoryDraft>,
}

/// A variable that was read without being set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsetVariable {
    /// Its name.
    pub name: String,
    /// The instruction.
    pub span: Span,
    /// The names that were set there.
    pub known: BTreeSet<String>,
}

/// Lowers the stages that the target needs.
pub fn lower(
    file: &SourceFile,
    dockerfile: &Dockerfile,
    options: &LowerOptions,
    images: &ImageMap,
) -> Result<Lowering, LowerError> {
    let globals = GlobalScope::new(dockerfile, options)?;
    let plan = match plan::plan(file, dockerfile, options, &globals, images)? {
        plan::Planned::Needs(requests) => return Ok(Lowering::Needs(requests)),
        plan::Planned::Done(plan) => plan,
    };
    let mut context = Context {
        options,
        globals: &globals,
        dockerfile,
        images,
        plan: &plan,
        graph: Graph::default(),
        states: HashMap::new(),
        steps: Vec::new(),
        unset: Vec::new(),
    };
    for index in plan.stages.keys() {
        let state = stage::lower_stage(&mut context, *index)?;
        context.states.insert(*index, state);
    }
    let state = context.states.remove(&plan.target).expect("the target is among the planned stages");
    let (graph, steps, unset) = (context.graph, context.steps, context.unset);
    let declared: BTreeSet<&str> = plan::declared_args(dockerfile);
    let unused_args = options
        .build_args
        .keys()
        .filter(|name| !declared.contains(name.as_str()) && !options::is_builtin_arg(name))
        .cloned()
        .collect();
    let bases = plan
        .requests()
        .filter_map(|request| Some((request.name.clone(), images.get(request)?.clone())))
        .collect();
    Ok(Lowering::Done(Box::new(Lowered {
        epoch: state.epoch(options),
        graph,
        result: state.root,
        history: state.history.clone(),
        config: state.finish(options),
        steps,
        unset,
        bases,
        unused_args,
    })))
}

/// The variables that FROM lines see, for the linter.
pub fn global_values(
    dockerfile: &Dockerfile,
    options: &LowerOptions,
) -> Result<std::collections::BTreeMap<String, String>, LowerError> {
    Ok(GlobalScope::new(dockerfile, options)?.into_values())
}

/// Variables out of a map.
pub struct MapVariables<'a>(pub &'a std::collections::BTreeMap<String, String>);

impl crate::dockerfile::expand::Variables for MapVariables<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// What the lowering of stages works on.
struct Context<'a> {
    options: &'a LowerOptions,
    globals: &'a GlobalScope,
    dockerfile: &'a Dockerfile,
    images: &'a ImageMap,
    plan: &'a plan::Plan,
    graph: Graph,
    states: HashMap<usize, StageState>,
    steps: Vec<Step>,
    unset: Vec<UnsetVariable>,
}

#[cfg(test)]
mod tests;
