//! COPY, ADD and WORKDIR: changes of files.

use std::collections::BTreeMap;

use super::error::{LowerError, LowerErrorKind};
use super::owner::{is_mode, parse_owner};
use super::run::{scratch_file, tree_of};
use super::stage::{StageState, folder};
use super::{CONTEXT, Context};
use crate::dockerfile::ast::{Heredoc, Transfer, TransferSource, Word};
use crate::dockerfile::expand::Expander;
use crate::git::GitAddress;
use crate::llb::ops::{
    Action, ChownOpt, FileAction, FileActionCopy, FileActionMkDir, FileActionMkFile, FileOp, Kind, SourceOp,
};
use crate::llb::{VertexId, VertexInfo};
use crate::path;
use crate::solve::GIT;

/// Permissions of files made from heredocs.
const HEREDOC_MODE: i32 = 0o644;

/// Permissions of files that came over HTTP.
const DOWNLOAD_MODE: i32 = 0o600;

/// Permissions of a directory that WORKDIR makes.
const DIRECTORY_MODE: i32 = 0o755;

/// What all sources of one instruction share.
struct Settings {
    destination: String,
    owner: Option<ChownOpt>,
    mode_text: String,
    exclude: Vec<String>,
}

/// Lowers a COPY or an ADD.
pub fn lower(
    context: &mut Context<'_>,
    state: &mut StageState,
    transfer: &Transfer,
    name: &'static str,
    info: VertexInfo,
) -> Result<(), LowerError> {
    let settings = settings(state, transfer)?;
    if transfer.sources.len() > 1 && !settings.destination.ends_with('/') {
        let kind = LowerErrorKind::DestinationNotDirectory(name);
        return Err(LowerError::new(transfer.destination.span, kind));
    }
    let mut copy = Copy::new(state);
    let mut texts = Vec::new();
    for source in &transfer.sources {
        match source {
            TransferSource::Inline(heredoc) => {
                texts.push(heredoc.name.clone());
                let tree = inline(context, state, heredoc)?;
                copy.add(Some(tree), plain_copy(&settings, &format!("/{}", heredoc.name)));
            }
            TransferSource::Path(word) => {
                let text = state.expand(word)?;
                let (tree, action) = source_action(context, state, transfer, &settings, name, word, &text)?;
                texts.push(text);
                copy.add(tree, action);
            }
        }
    }
    let history = history_text(name, transfer, &texts, &settings);
    let vertex = copy.finish(context, info);
    state.advance(vertex, history);
    Ok(())
}

fn settings(state: &mut StageState, transfer: &Transfer) -> Result<Settings, LowerError> {
    let destination = state.expand(&transfer.destination)?;
    let destination = absolute_destination(state.working_directory(), &destination);
    let owner = match &transfer.chown {
        None => None,
        Some(word) => {
            let text = state.expand(word)?;
            let owner = parse_owner(&text, 0);
            Some(owner.ok_or_else(|| LowerError::new(word.span, LowerErrorKind::InvalidOwner(text)))?)
        }
    };
    let mode_text = match &transfer.chmod {
        None => String::new(),
        Some(word) => {
            let text = state.expand(word)?;
            if !is_mode(&text) {
                return Err(LowerError::new(word.span, LowerErrorKind::InvalidMode(text)));
            }
            text
        }
    };
    let exclude = transfer.exclude.iter().map(|word| state.expand(word)).collect::<Result<_, _>>()?;
    Ok(Settings { destination, owner, mode_text, exclude })
}

/// Absolute, with the slash that says "a directory" kept.
fn absolute_destination(working_directory: &str, text: &str) -> String {
    let joined = path::join(working_directory, text);
    let directory =
        text.is_empty() || text.ends_with('/') || text == "." || text.ends_with("/.") || text.ends_with("..");
    match directory && joined != "/" {
        true => format!("{joined}/"),
        false => joined,
    }
}

/// Gathers actions into one operation.
struct Copy {
    inputs: Vec<VertexId>,
    has_root: bool,
    actions: Vec<(i64, FileActionCopy)>,
}

impl Copy {
    fn new(state: &StageState) -> Self {
        Self { inputs: state.root.into_iter().collect(), has_root: state.root.is_some(), actions: Vec::new() }
    }

    fn add(&mut self, tree: Option<VertexId>, action: FileActionCopy) {
        let input = tree.map_or(-1, |vertex| {
            // The first input is what is changed; a copy out of the same tree is an input of its own.
            let known = self.inputs.iter().position(|input| *input == vertex);
            let index = known.unwrap_or_else(|| {
                self.inputs.push(vertex);
                self.inputs.len() - 1
            });
            number(index)
        });
        self.actions.push((input, action));
    }

    /// The operation: each action works on the result of the one before.
    fn finish(self, context: &mut Context<'_>, info: VertexInfo) -> VertexId {
        let count = self.actions.len();
        let inputs = number(self.inputs.len());
        let root = if self.has_root { 0 } else { -1 };
        let chain = |(index, (source, action)): (usize, (i64, FileActionCopy))| FileAction {
            input: if index == 0 { root } else { inputs + number(index - 1) },
            secondary_input: source,
            output: if index + 1 == count { 0 } else { -1 },
            action: Some(Action::Copy(action)),
        };
        let actions = self.actions.into_iter().enumerate().map(chain).collect();
        context.graph.add(self.inputs, Kind::File(FileOp { actions }), info)
    }
}

fn number(index: usize) -> i64 {
    i64::try_from(index).expect("an instruction has few sources")
}

/// The action of one source path or URL.
fn source_action(
    context: &mut Context<'_>,
    state: &mut StageState,
    transfer: &Transfer,
    settings: &Settings,
    name: &'static str,
    word: &Word,
    text: &str,
) -> Result<(Option<VertexId>, FileActionCopy), LowerError> {
    if name == "ADD" && is_url(text) {
        return remote(context, transfer, settings, word, text);
    }
    if name == "ADD" && GitAddress::parse(text).is_some() {
        return Ok(repository(context, transfer, settings, word, text));
    }
    if transfer.checksum.is_some() {
        return Err(LowerError::new(word.span, LowerErrorKind::ChecksumForLocal));
    }
    let tree = match &transfer.from {
        None => Some(folder(context, CONTEXT.trim_start_matches("local://"))),
        Some(from) => {
            let from = Word { value: state.expand(from)?, span: from.span };
            tree_of(context, state, &from)?
        }
    };
    let mut action = match transfer.parents {
        true => parents_copy(settings, text),
        false => plain_copy(settings, &path::clean(text)),
    };
    action.attempt_unpack = name == "ADD" && transfer.unpack.unwrap_or(true);
    action.always_replace = transfer.link;
    Ok((tree, action))
}

fn plain_copy(settings: &Settings, source: &str) -> FileActionCopy {
    FileActionCopy {
        src: source.to_owned(),
        dest: settings.destination.clone(),
        owner: settings.owner.clone(),
        mode: -1,
        follow_symlink: true,
        dir_copy_contents: true,
        attempt_unpack: false,
        create_dest_path: true,
        allow_wildcard: true,
        allow_empty_wildcard: true,
        timestamp: -1,
        include_patterns: Vec::new(),
        exclude_patterns: settings.exclude.clone(),
        always_replace: false,
        mode_text: settings.mode_text.clone(),
    }
}

/// `--parents`: what stands before `/./` is left out of the destination.
fn parents_copy(settings: &Settings, text: &str) -> FileActionCopy {
    let (base, pattern) = match text.find("/./") {
        Some(at) => (path::clean(&text[..at]), path::clean(&text[at + 3..])),
        None => ("/".to_owned(), path::clean(text)),
    };
    let mut action = plain_copy(settings, &base);
    if !action.dest.ends_with('/') {
        action.dest.push('/');
    }
    action.include_patterns = vec![pattern.trim_start_matches('/').to_owned()];
    action
}

fn is_url(text: &str) -> bool {
    (text.starts_with("http://") || text.starts_with("https://")) && GitAddress::parse(text).is_none()
}

/// `ADD https://../repository.git`
fn repository(
    context: &mut Context<'_>,
    transfer: &Transfer,
    settings: &Settings,
    word: &Word,
    url: &str,
) -> (Option<VertexId>, FileActionCopy) {
    let keep = transfer.keep_git_dir;
    let attrs = BTreeMap::from([(GIT.to_owned(), keep.to_string())]);
    let source = SourceOp { identifier: url.to_owned(), attrs };
    let info =
        VertexInfo { name: format!("[internal] clone {url}"), ignore_cache: false, span: Some(word.span) };
    let tree = context.graph.add(Vec::new(), Kind::Source(source), info);
    let mut action = plain_copy(settings, "/");
    action.always_replace = transfer.link;
    (Some(tree), action)
}

/// `ADD https://..`
fn remote(
    context: &mut Context<'_>,
    transfer: &Transfer,
    settings: &Settings,
    word: &Word,
    url: &str,
) -> Result<(Option<VertexId>, FileActionCopy), LowerError> {
    let mut attrs = BTreeMap::new();
    if let Some(checksum) = &transfer.checksum {
        ferry_oci::Digest::parse(&checksum.value).map_err(|error| {
            let kind = LowerErrorKind::InvalidChecksum(checksum.value.clone(), error.to_string());
            LowerError::new(checksum.span, kind)
        })?;
        attrs.insert("http.checksum".to_owned(), checksum.value.clone());
    }
    let after_host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let address = after_host.split(['?', '#']).next().unwrap_or(after_host);
    let file = match address.split_once('/').and_then(|(_, path)| path.rsplit('/').next()) {
        Some(file) if !file.is_empty() => file.to_owned(),
        _ if settings.destination.ends_with('/') => {
            let kind = LowerErrorKind::Unsupported(format!("a URL without a file name ({url})"));
            return Err(LowerError::new(word.span, kind));
        }
        _ => "download".to_owned(),
    };
    attrs.insert("http.filename".to_owned(), file.clone());
    let source = SourceOp { identifier: url.to_owned(), attrs };
    let info =
        VertexInfo { name: format!("[internal] download {url}"), ignore_cache: false, span: Some(word.span) };
    let tree = context.graph.add(Vec::new(), Kind::Source(source), info);
    let mut action = plain_copy(settings, &format!("/{file}"));
    action.allow_wildcard = false;
    action.attempt_unpack = transfer.unpack.unwrap_or(false);
    action.always_replace = transfer.link;
    if action.mode_text.is_empty() {
        action.mode = DOWNLOAD_MODE;
    }
    Ok((Some(tree), action))
}

/// A file whose contents stand in the Dockerfile.
fn inline(
    context: &mut Context<'_>,
    state: &mut StageState,
    heredoc: &Heredoc,
) -> Result<VertexId, LowerError> {
    let data = match heredoc.expand {
        false => heredoc.content.clone(),
        true => {
            let expander = Expander::for_heredoc(context.globals.escape);
            let expanded = expander.expand(&heredoc.content, &state.scope).map_err(|source| {
                let kind = LowerErrorKind::Expand { text: heredoc.name.clone(), source };
                LowerError::new(heredoc.span, kind)
            })?;
            expanded.text
        }
    };
    let file = FileActionMkFile {
        path: format!("/{}", heredoc.name),
        mode: HEREDOC_MODE,
        data: data.into_bytes(),
        owner: None,
        timestamp: -1,
    };
    Ok(scratch_file(context, file, format!("[internal] file {}", heredoc.name)))
}

/// `COPY --chown=.. a b`
fn history_text(name: &str, transfer: &Transfer, sources: &[String], settings: &Settings) -> String {
    let mut text = name.to_owned();
    if let Some(chown) = &transfer.chown {
        text.push_str(&format!(" --chown={}", chown.value));
    }
    if !settings.mode_text.is_empty() {
        text.push_str(&format!(" --chmod={}", settings.mode_text));
    }
    for source in sources {
        text.push_str(&format!(" {source}"));
    }
    format!("{text} {}", transfer.destination.value)
}

/// WORKDIR: the directory is made where it is missing.
pub fn working_directory(
    context: &mut Context<'_>,
    state: &mut StageState,
    word: &Word,
    info: VertexInfo,
) -> Result<(), LowerError> {
    let text = state.expand(word)?;
    let directory = path::join(state.working_directory(), &text);
    state.image.config.working_dir.clone_from(&directory);
    let action = FileAction {
        input: if state.root.is_some() { 0 } else { -1 },
        secondary_input: -1,
        output: 0,
        action: Some(Action::Mkdir(FileActionMkDir {
            path: directory.clone(),
            mode: DIRECTORY_MODE,
            make_parents: true,
            owner: None,
            timestamp: -1,
        })),
    };
    let inputs = state.root.into_iter().collect();
    let vertex = context.graph.add(inputs, Kind::File(FileOp { actions: vec![action] }), info);
    state.advance(vertex, format!("WORKDIR {directory}"));
    Ok(())
}
