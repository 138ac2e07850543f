//! What a Dockerfile can be asked without building it: its targets, and which arguments, secrets and agents a
//! target takes (`build --call targets` and `--call outline`). The forms are those of BuildKit's subrequests.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::dockerfile::ast::{ArgDefinition, Dockerfile, Instruction, Kind, Stage};
use crate::dockerfile::expand::Expander;
use crate::dockerfile::mount::{Mount, MountType};
use crate::dockerfile::{SourceFile, Span};
use crate::lower::{self, LowerError, LowerOptions, MapVariables};

/// The stages that can be built.
#[derive(Debug, Serialize)]
pub struct Targets {
    /// In the order of the file.
    pub targets: Vec<Target>,
}

/// A stage that can be built.
#[derive(Debug, Serialize)]
pub struct Target {
    /// Its name, if it has one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// It is what is built where none is named.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
    /// The comment above it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it is based on.
    pub base: String,
    /// Its platform, where it names one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub platform: String,
    /// Where it begins.
    pub location: Location,
}

/// What a target takes.
#[derive(Debug, Serialize)]
pub struct Outline {
    /// The target's name, if it has one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The comment above it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Build arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Arg>,
    /// Secrets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Need>,
    /// Agents.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<Need>,
}

/// A build argument.
#[derive(Debug, Clone, Serialize)]
pub struct Arg {
    /// Its name.
    pub name: String,
    /// The comment above it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it is in this build.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// Where it is declared.
    pub location: Location,
}

/// A secret or an agent.
#[derive(Debug, Serialize)]
pub struct Need {
    /// Its id.
    pub name: String,
    /// The build fails without it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// Where it is mounted.
    pub location: Location,
}

/// Lines of the file.
#[derive(Debug, Clone, Serialize)]
pub struct Location {
    ranges: Vec<Range>,
}

#[derive(Debug, Clone, Serialize)]
struct Range {
    start: Position,
    end: Position,
}

#[derive(Debug, Clone, Serialize)]
struct Position {
    line: usize,
}

impl Location {
    fn of(file: &SourceFile, span: Span) -> Self {
        let start = file.line(span.start);
        let end = file.line(span.end.saturating_sub(1).max(span.start));
        Self { ranges: vec![Range { start: Position { line: start }, end: Position { line: end } }] }
    }

    fn line(&self) -> usize {
        self.ranges.first().map_or(0, |range| range.start.line)
    }
}

/// All stages.
pub fn targets(file: &SourceFile, dockerfile: &Dockerfile) -> Targets {
    let last = dockerfile.stages.len().saturating_sub(1);
    let target = |(index, stage): (usize, &Stage)| Target {
        name: stage_name(stage),
        default: index == last,
        description: stage_description(file, stage),
        base: stage.from.base.value.clone(),
        platform: stage.from.platform.as_ref().map(|word| word.value.clone()).unwrap_or_default(),
        location: Location::of(file, stage.head.span),
    };
    Targets { targets: dockerfile.stages.iter().enumerate().map(target).collect() }
}

/// What a target takes, with all that it is built from.
pub fn outline(
    file: &SourceFile,
    dockerfile: &Dockerfile,
    options: &LowerOptions,
) -> Result<Outline, LowerError> {
    let target = lower::find_target(dockerfile, options)?;
    let mut found = Found {
        file,
        options,
        expander: Expander::new(dockerfile.directives.escape),
        globals: lower::global_values(dockerfile, options)?,
        args: BTreeMap::new(),
        secrets: BTreeMap::new(),
        ssh: BTreeMap::new(),
    };
    let stages = needed_stages(dockerfile, target, &found);
    for index in &stages {
        found.stage(&dockerfile.stages[*index], &dockerfile.global_args);
    }
    let stage = &dockerfile.stages[target];
    let mut args: Vec<Arg> = found.args.into_values().collect();
    args.sort_by_key(|arg| arg.location.line());
    Ok(Outline {
        name: stage_name(stage),
        description: stage_description(file, stage),
        args,
        secrets: in_order(found.secrets),
        ssh: in_order(found.ssh),
    })
}

fn in_order(needs: BTreeMap<String, Need>) -> Vec<Need> {
    let mut needs: Vec<Need> = needs.into_values().collect();
    needs.sort_by_key(|need| need.location.line());
    needs
}

fn stage_name(stage: &Stage) -> String {
    stage.from.name.as_ref().map(|name| name.value.clone()).unwrap_or_default()
}

fn stage_description(file: &SourceFile, stage: &Stage) -> String {
    stage.from.name.as_ref().map(|name| description(file, stage.head.span, &name.value)).unwrap_or_default()
}

/// The comment right above that begins with the name of what it describes.
fn description(file: &SourceFile, span: Span, name: &str) -> String {
    let comments = file.text()[..span.start].lines().rev().map_while(|line| line.trim().strip_prefix('#'));
    let described = comments.filter_map(|line| line.trim().strip_prefix(name)?.strip_prefix(' '));
    // The first of several, as they stand in the file.
    described.last().unwrap_or_default().to_owned()
}

/// The target and the stages that it takes something from.
fn needed_stages(dockerfile: &Dockerfile, target: usize, found: &Found<'_>) -> BTreeSet<usize> {
    let mut needed = BTreeSet::new();
    let mut open = vec![target];
    while let Some(index) = open.pop() {
        if !needed.insert(index) {
            continue;
        }
        let stage = &dockerfile.stages[index];
        let base = found.expand(&stage.from.base.value, &found.globals);
        let from = stage.instructions.iter().flat_map(sources).chain([base]);
        open.extend(from.filter_map(|name| earlier_stage(dockerfile, index, &name)));
    }
    needed
}

/// The `--from=` and `from=` of an instruction.
fn sources(instruction: &Instruction) -> Vec<String> {
    match &instruction.kind {
        Kind::Copy(copy) => copy.from.iter().map(|word| word.value.clone()).collect(),
        Kind::Run(run) => {
            let mounts = run.mounts.iter().filter_map(|mount| Mount::parse(&mount.value).ok());
            mounts.filter_map(|mount| mount.from).collect()
        }
        _ => Vec::new(),
    }
}

fn earlier_stage(dockerfile: &Dockerfile, index: usize, name: &str) -> Option<usize> {
    let name = name.to_lowercase();
    let earlier = &dockerfile.stages[..index];
    let named = earlier.iter().rposition(|stage| stage.name().as_ref() == Some(&name));
    named.or_else(|| name.parse().ok().filter(|number| *number < index))
}

/// What is collected on the way.
struct Found<'a> {
    file: &'a SourceFile,
    options: &'a LowerOptions,
    expander: Expander,
    globals: BTreeMap<String, String>,
    args: BTreeMap<String, Arg>,
    secrets: BTreeMap<String, Need>,
    ssh: BTreeMap<String, Need>,
}

impl Found<'_> {
    fn expand(&self, text: &str, values: &BTreeMap<String, String>) -> String {
        self.expander
            .expand(text, &MapVariables(values))
            .map_or_else(|_| text.to_owned(), |expanded| expanded.text)
    }

    fn stage(&mut self, stage: &Stage, globals: &[Instruction]) {
        let words = [Some(&stage.from.base), stage.from.platform.as_ref()];
        for word in words.into_iter().flatten() {
            self.globals_in(&word.value, globals);
        }
        let mut values = BTreeMap::new();
        for instruction in &stage.instructions {
            match &instruction.kind {
                Kind::Arg(definitions) => {
                    for definition in definitions {
                        self.arg(instruction, definition, &mut values, globals);
                    }
                }
                Kind::Run(run) => {
                    for mount in run.mounts.iter().filter_map(|mount| Mount::parse(&mount.value).ok()) {
                        self.mount(instruction, mount);
                    }
                }
                _ => {}
            }
        }
    }

    /// The global arguments that a text reads, and those that their defaults read.
    fn globals_in(&mut self, text: &str, globals: &[Instruction]) {
        for (instruction, definition) in definitions(globals) {
            if reads(text, &definition.name.value) && !self.args.contains_key(&definition.name.value) {
                let value = self.globals.get(&definition.name.value).cloned().unwrap_or_default();
                self.keep(instruction, definition, value);
                if let Some(default) = &definition.default {
                    self.globals_in(&default.value, globals);
                }
            }
        }
    }

    fn arg(
        &mut self,
        instruction: &Instruction,
        definition: &ArgDefinition,
        values: &mut BTreeMap<String, String>,
        globals: &[Instruction],
    ) {
        let name = &definition.name.value;
        let given = self.options.build_args.get(name).cloned().flatten();
        let value = match (given, &definition.default) {
            (Some(value), _) => value,
            (None, Some(default)) => self.expand(&default.value, values),
            (None, None) => self.globals.get(name).cloned().unwrap_or_default(),
        };
        values.insert(name.clone(), value.clone());
        let global = definitions(globals).find(|(_, global)| global.name.value == *name);
        match (global, &definition.default) {
            (Some((place, global)), None) => self.keep(place, global, value),
            _ => self.keep(instruction, definition, value),
        }
    }

    fn keep(&mut self, instruction: &Instruction, definition: &ArgDefinition, value: String) {
        let name = definition.name.value.clone();
        let arg = Arg {
            description: description(self.file, instruction.span, &name),
            value,
            location: Location::of(self.file, instruction.span),
            name: name.clone(),
        };
        self.args.entry(name).or_insert(arg);
    }

    fn mount(&mut self, instruction: &Instruction, mount: Mount) {
        let target = mount.target.as_deref().and_then(|path| path.rsplit('/').next()).map(str::to_owned);
        let (needs, name) = match mount.mount_type {
            MountType::Secret => (&mut self.secrets, mount.id.or(mount.source).or(target)),
            MountType::Ssh => (&mut self.ssh, mount.id.or_else(|| Some("default".to_owned()))),
            _ => return,
        };
        let Some(name) = name else { return };
        let location = Location::of(self.file, instruction.span);
        let need = needs.entry(name.clone()).or_insert(Need { name, required: false, location });
        need.required |= mount.required;
    }
}

fn definitions(instructions: &[Instruction]) -> impl Iterator<Item = (&Instruction, &ArgDefinition)> {
    instructions.iter().flat_map(|instruction| {
        let definitions = match &instruction.kind {
            Kind::Arg(definitions) => definitions.as_slice(),
            _ => &[],
        };
        definitions.iter().map(move |definition| (instruction, definition))
    })
}

/// Does a text read a variable?
fn reads(text: &str, name: &str) -> bool {
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    text.match_indices('$').any(|(at, _)| {
        let rest = text[at + 1..].trim_start_matches('{');
        rest.strip_prefix(name).is_some_and(|rest| !rest.starts_with(is_word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile;

    const TEXT: &str = "# GO sets the version\nARG GO=1.22\nARG UNUSED=1\nARG IMAGE=golang:$GO\n\
        # base is where all begins\nFROM $IMAGE AS base\nARG LEVEL=a${X}b\nRUN --mount=type=secret,id=token,required=true true\n\
        FROM other AS aside\nARG NOT_HERE\n\n# words\n# release is what ships\nFROM scratch AS release\nARG GO\n\
        COPY --from=base /a /\nRUN --mount=type=ssh true\n";

    fn parsed() -> (SourceFile, Dockerfile) {
        let file = SourceFile::new("Dockerfile", TEXT.as_bytes());
        let dockerfile = dockerfile::parse(&file).unwrap();
        (file, dockerfile)
    }

    #[test]
    fn targets_with_their_descriptions() {
        let (file, dockerfile) = parsed();
        let found = targets(&file, &dockerfile);
        let lines: Vec<_> = found
            .targets
            .iter()
            .map(|target| (target.name.as_str(), target.default, target.description.as_str()))
            .collect();
        let expected = [
            ("base", false, "is where all begins"),
            ("aside", false, ""),
            ("release", true, "is what ships"),
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_a_target_takes() {
        let (file, dockerfile) = parsed();
        let build_args = BTreeMap::from([("LEVEL".to_owned(), Some("9".to_owned()))]);
        let options = LowerOptions { build_args, ..LowerOptions::default() };
        let found = outline(&file, &dockerfile, &options).unwrap();
        let args: Vec<_> = found
            .args
            .iter()
            .map(|arg| (arg.name.as_str(), arg.value.as_str(), arg.description.as_str()))
            .collect();
        let expected = [("GO", "1.22", "sets the version"), ("IMAGE", "golang:1.22", ""), ("LEVEL", "9", "")];
        assert_eq!(args, expected);
        assert!(found.secrets.iter().all(|secret| secret.name == "token" && secret.required));
        assert_eq!(found.ssh.iter().map(|need| need.name.as_str()).collect::<Vec<_>>(), ["default"]);
        let other = LowerOptions { target: Some("aside".to_owned()), ..LowerOptions::default() };
        assert_eq!(outline(&file, &dockerfile, &other).unwrap().args.len(), 1);
    }
}
