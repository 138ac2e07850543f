//! Which stages a target needs, what each starts from, and which images must be known.

use std::collections::{BTreeMap, BTreeSet};

use ferry_oci::{Platform, Reference};

use super::error::{LowerError, LowerErrorKind};
use super::options::{ImageMap, ImageRequest, LowerOptions, NamedContext};
use super::scope::{GlobalScope, expand};
use crate::dockerfile::Span;
use crate::dockerfile::ast::{Dockerfile, Instruction, Kind, Stage, Word};
use crate::dockerfile::directive::Directives;
use crate::dockerfile::error::nearest;
use crate::dockerfile::mount::split_csv;
use crate::dockerfile::{SourceFile, parse_instructions};

/// What is built.
#[derive(Debug)]
pub struct Plan {
    /// The stage whose result is wanted.
    pub target: usize,
    /// The stages that are built, in the order of the file.
    pub stages: BTreeMap<usize, PlannedStage>,
}

impl Plan {
    /// The images that are needed.
    pub fn requests(&self) -> impl Iterator<Item = &ImageRequest> {
        self.stages.values().filter_map(|stage| match &stage.base {
            Origin::Image(request) => Some(request),
            _ => None,
        })
    }
}

/// A stage that is built.
#[derive(Debug)]
pub struct PlannedStage {
    /// What it starts from.
    pub base: Origin,
    /// ONBUILD triggers of the base image.
    pub triggers: Vec<Instruction>,
    /// The platform it is built for.
    pub platform: Platform,
}

/// Where files or a stage come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nothing.
    Scratch,
    /// An earlier stage.
    Stage(usize),
    /// An image.
    Image(ImageRequest),
    /// A named context's folder.
    Folder(String),
}

/// What planning came to.
pub enum Planned {
    /// These images must be known first.
    Needs(Vec<ImageRequest>),
    /// All is known.
    Done(Plan),
}

/// Works backwards from the target: every reference points to an earlier stage.
pub fn plan(
    file: &SourceFile,
    dockerfile: &Dockerfile,
    options: &LowerOptions,
    globals: &GlobalScope,
    images: &ImageMap,
) -> Result<Planned, LowerError> {
    let target = find_target(dockerfile, options)?;
    let mut wanted = BTreeSet::from([target]);
    let mut needs = BTreeSet::new();
    let mut stages = BTreeMap::new();
    for index in (0..=target).rev() {
        if !wanted.contains(&index) {
            continue;
        }
        let stage = &dockerfile.stages[index];
        let mut planned = plan_stage(dockerfile, options, globals, index)?;
        if let Origin::Image(request) = &planned.base {
            match images.get(request) {
                None => {
                    needs.insert(request.clone());
                }
                Some(image) => {
                    let texts = image.config.config.on_build.as_deref().unwrap_or_default();
                    planned.triggers = parse_triggers(file, stage, &request.name, texts)?;
                }
            }
        }
        let instructions = stage.instructions.iter().chain(&planned.triggers);
        let origins = instructions
            .flat_map(from_words)
            .map(|word| origin(dockerfile, options, index, &word, &planned.platform))
            .collect::<Result<Vec<_>, _>>()?;
        for origin in origins.into_iter().chain([planned.base.clone()]) {
            match origin {
                Origin::Stage(earlier) => {
                    wanted.insert(earlier);
                }
                Origin::Image(request) if !images.contains_key(&request) => {
                    needs.insert(request);
                }
                _ => {}
            }
        }
        stages.insert(index, planned);
    }
    match needs.is_empty() {
        true => Ok(Planned::Done(Plan { target, stages })),
        false => Ok(Planned::Needs(needs.into_iter().collect())),
    }
}

/// The stage that is asked for: by name, else by number, else the last one.
pub fn find_target(dockerfile: &Dockerfile, options: &LowerOptions) -> Result<usize, LowerError> {
    let Some(last) = dockerfile.stages.len().checked_sub(1) else {
        return Err(LowerError::new(Span::default(), LowerErrorKind::NoStages));
    };
    let Some(name) = options.target.as_deref().filter(|name| !name.is_empty()) else { return Ok(last) };
    let wanted = name.to_lowercase();
    if let Some(index) = dockerfile.stages.iter().rposition(|stage| stage.name().as_ref() == Some(&wanted)) {
        return Ok(index);
    }
    if let Some(index) = name.parse::<usize>().ok().filter(|index| *index <= last) {
        return Ok(index);
    }
    let names: Vec<String> = dockerfile.stages.iter().filter_map(Stage::name).collect();
    let suggestion = nearest(&wanted, names.iter().map(String::as_str));
    let span = dockerfile.stages[last].head.span;
    Err(LowerError::new(span, LowerErrorKind::NoTarget { name: name.to_owned(), suggestion }))
}

fn plan_stage(
    dockerfile: &Dockerfile,
    options: &LowerOptions,
    globals: &GlobalScope,
    index: usize,
) -> Result<PlannedStage, LowerError> {
    let from = &dockerfile.stages[index].from;
    let base_name = expand(&from.base, globals.escape, globals)?.text;
    if base_name.trim().is_empty() {
        return Err(LowerError::new(from.base.span, LowerErrorKind::BlankBase(from.base.value.clone())));
    }
    let platform = match &from.platform {
        None => options.platform.clone(),
        Some(word) => {
            let text = expand(word, globals.escape, globals)?.text;
            Platform::parse(&text).map_err(|error| {
                LowerError::new(word.span, LowerErrorKind::InvalidPlatform(text, error.to_string()))
            })?
        }
    };
    let word = Word { value: base_name.clone(), span: from.base.span };
    let base = match base_name.as_str() {
        "scratch" => Origin::Scratch,
        _ => origin(dockerfile, options, index, &word, &platform)?,
    };
    Ok(PlannedStage { base, triggers: Vec::new(), platform })
}

/// What a FROM, `--from=` or `from=` names: an earlier stage, a named context, or an image.
pub fn origin(
    dockerfile: &Dockerfile,
    options: &LowerOptions,
    index: usize,
    word: &Word,
    platform: &Platform,
) -> Result<Origin, LowerError> {
    let name = word.value.to_lowercase();
    let earlier = &dockerfile.stages[..index];
    if let Some(stage) = earlier.iter().rposition(|stage| stage.name().as_ref() == Some(&name)) {
        return Ok(Origin::Stage(stage));
    }
    let request = |name: &str| {
        Reference::parse_normalized(name).map_err(|error| {
            let kind = LowerErrorKind::InvalidImage { name: name.to_owned(), reason: error.to_string() };
            LowerError::new(word.span, kind)
        })?;
        Ok(Origin::Image(ImageRequest { name: name.to_owned(), platform: platform.to_string() }))
    };
    match options.named_contexts.get(&word.value).or_else(|| options.named_contexts.get(&name)) {
        Some(NamedContext::Folder) => return Ok(Origin::Folder(word.value.clone())),
        Some(NamedContext::Image(image)) => return request(image),
        None => {}
    }
    if let Ok(number) = name.parse::<usize>() {
        return match number < index {
            true => Ok(Origin::Stage(number)),
            false => Err(LowerError::new(word.span, LowerErrorKind::LaterStage(name))),
        };
    }
    if dockerfile.stages[index].name().as_ref() == Some(&name)
        && word.span != dockerfile.stages[index].from.base.span
    {
        return Err(LowerError::new(word.span, LowerErrorKind::OwnStage(name)));
    }
    request(&word.value)
}

/// The `--from=` and `from=` words of an instruction.
fn from_words(instruction: &Instruction) -> Vec<Word> {
    match &instruction.kind {
        Kind::Copy(copy) => copy.from.clone().into_iter().collect(),
        Kind::Run(run) => run.mounts.iter().filter_map(mount_from).collect(),
        _ => Vec::new(),
    }
}

fn mount_from(mount: &Word) -> Option<Word> {
    let fields = split_csv(&mount.value).ok()?;
    let value = fields.iter().find_map(|field| field.trim().strip_prefix("from="))?;
    (!value.contains('$')).then(|| Word { value: value.to_owned(), span: mount.span })
}

fn parse_triggers(
    file: &SourceFile,
    stage: &Stage,
    image: &str,
    texts: &[String],
) -> Result<Vec<Instruction>, LowerError> {
    let mut triggers = Vec::new();
    for text in texts {
        let source = SourceFile::new(file.name(), text.as_bytes());
        let parsed = parse_instructions(&source, &Directives::default()).map_err(|error| {
            let kind = LowerErrorKind::Trigger {
                image: image.to_owned(),
                text: text.clone(),
                reason: error.kind.to_string(),
            };
            LowerError::new(stage.head.span, kind)
        })?;
        // A trigger has no place in this file; what goes wrong in it is shown at the FROM.
        triggers.extend(parsed.into_iter().map(|mut instruction| {
            instruction.span = stage.head.span;
            instruction
        }));
    }
    Ok(triggers)
}

/// All names that some ARG declares.
pub fn declared_args(dockerfile: &Dockerfile) -> BTreeSet<&str> {
    let stages = dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
    dockerfile
        .global_args
        .iter()
        .chain(stages)
        .filter_map(|instruction| match &instruction.kind {
            Kind::Arg(definitions) => Some(definitions),
            _ => None,
        })
        .flatten()
        .map(|definition| definition.name.value.as_str())
        .collect()
}
