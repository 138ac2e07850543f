//! Which files a COPY takes: patterns resolved, directories walked, exclusions applied.
//! The digest and the copy both work on the same selection, so that they cannot disagree.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::FileError;
use super::tree::{Entry, EntryKind, Tree, list};
use crate::dockerfile::pattern::{has_wildcard, matches};
use crate::ignore::Ignore;
use crate::llb::ops::FileActionCopy;

/// Most entries of one COPY: several times the largest monorepos, and a bound on memory.
const MAX_ENTRIES: usize = 4_000_000;

/// What one source gives.
#[derive(Debug, Clone)]
pub struct SelectedRoot {
    /// The last component as it was written or matched, the name at the destination.
    pub name: Vec<u8>,
    /// The source itself, with links followed.
    pub entry: Entry,
    /// For a directory, what is below it.
    pub below: Vec<Entry>,
}

impl SelectedRoot {
    /// A path of `below` relative to the source.
    pub fn relative<'a>(&self, entry: &'a Entry) -> &'a Path {
        // By bytes, not by components: there may be a hundred thousand of them.
        let (path, base) = (entry.path.as_os_str().as_bytes(), self.entry.path.as_os_str().as_bytes());
        let rest = path.strip_prefix(base).expect("what is below a directory begins with its path");
        Path::new(OsStr::from_bytes(rest.strip_prefix(b"/").unwrap_or(rest)))
    }
}

/// What one copy action takes, in the order of the names.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// The sources.
    pub roots: Vec<SelectedRoot>,
}

/// Resolves a copy's source in a tree.
pub fn select(tree: &Tree, action: &FileActionCopy) -> Result<Selection, FileError> {
    let exclude = Ignore::compile(&action.exclude_patterns)?;
    let source = action.src.trim_start_matches('/');
    let paths = match action.allow_wildcard && has_wildcard(source) {
        true => expand_wildcard(tree, source)?,
        false => vec![PathBuf::from(source)],
    };
    let mut selection = Selection::default();
    for path in paths {
        let root = select_root(tree, &path, action, &exclude)?;
        selection.roots.extend(root);
    }
    Ok(selection)
}

fn select_root(
    tree: &Tree,
    path: &Path,
    action: &FileActionCopy,
    exclude: &Ignore,
) -> Result<Option<SelectedRoot>, FileError> {
    let shown = || path.to_string_lossy().into_owned();
    let resolved = tree.resolve(path).map_err(|errno| match errno {
        Errno::NOENT | Errno::NOTDIR => FileError::NotFound(format!("/{}", shown()), String::new()),
        errno => FileError::errno("find", path, errno),
    })?;
    if tree.verdict(&resolved).ignored && !has_kept_below(tree, &resolved) {
        return Err(FileError::NotFound(format!("/{}", shown()), ": excluded by .dockerignore".to_owned()));
    }
    let entry = tree.entry(&resolved)?;
    let name = path.file_name().unwrap_or_default().as_bytes().to_vec();
    if entry.kind != EntryKind::Directory {
        // A single file is measured against the exclusions by its name.
        let excluded = exclude.is_ignored(&String::from_utf8_lossy(&name));
        return Ok((!excluded).then(|| SelectedRoot { name, entry, below: Vec::new() }));
    }
    let mut below = tree.walk(&resolved, MAX_ENTRIES)?;
    if !exclude.is_empty() {
        below = keep_unless_excluded(below, &resolved, exclude);
    }
    if !action.include_patterns.is_empty() {
        below = keep_included(below, &resolved, &action.include_patterns)?;
    }
    Ok(Some(SelectedRoot { name, entry, below }))
}

/// An ignored folder may hold what an exception keeps.
fn has_kept_below(tree: &Tree, path: &Path) -> bool {
    let verdict = tree.verdict(path);
    !tree.ignore().can_skip(path.as_os_str().as_bytes(), &verdict)
        && tree.walk(path, MAX_ENTRIES).is_ok_and(|entries| !entries.is_empty())
}

/// Applies `--exclude`; what is below an excluded folder goes with it.
fn keep_unless_excluded(entries: Vec<Entry>, base: &Path, exclude: &Ignore) -> Vec<Entry> {
    let mut verdicts = vec![(PathBuf::new(), exclude.root())];
    let mut kept = Vec::with_capacity(entries.len());
    for entry in entries {
        let relative = entry.path.strip_prefix(base).unwrap_or(&entry.path).to_owned();
        let parent = relative.parent().unwrap_or(Path::new("")).to_owned();
        // Parents come first, so the stack always ends with this entry's parent.
        while verdicts.len() > 1 && verdicts.last().is_some_and(|(path, _)| *path != parent) {
            verdicts.pop();
        }
        let verdict = exclude.judge(&verdicts[verdicts.len() - 1].1, relative.as_os_str().as_bytes());
        let ignored = verdict.ignored;
        if entry.kind == EntryKind::Directory {
            verdicts.push((relative, verdict));
        }
        if !ignored {
            kept.push(entry);
        }
    }
    kept
}

/// Applies the patterns of `--parents`: what matches, all below it, and the folders above it.
fn keep_included(entries: Vec<Entry>, base: &Path, patterns: &[String]) -> Result<Vec<Entry>, FileError> {
    let include = Ignore::compile(patterns)?;
    let everything = patterns.iter().any(|pattern| pattern.is_empty());
    let mut keep = vec![everything; entries.len()];
    let mut found = everything;
    for index in 0..entries.len() {
        let relative = entries[index].path.strip_prefix(base).unwrap_or(&entries[index].path);
        if everything || !include.is_ignored(&relative.to_string_lossy()) {
            continue;
        }
        found = true;
        keep[index] = true;
        let mut parent = entries[index].path.parent();
        for earlier in (0..index).rev() {
            if Some(entries[earlier].path.as_path()) == parent {
                keep[earlier] = true;
                parent = entries[earlier].path.parent();
            }
        }
    }
    if !found && !patterns.iter().any(|pattern| has_wildcard(pattern)) {
        return Err(FileError::NotFound(format!("/{}", patterns.join(" ")), String::new()));
    }
    Ok(entries.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|(entry, _)| entry).collect())
}

/// The paths that a pattern matches, sorted; each component is matched on its own.
fn expand_wildcard(tree: &Tree, pattern: &str) -> Result<Vec<PathBuf>, FileError> {
    let mut found = vec![PathBuf::new()];
    let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
    for (index, part) in parts.iter().enumerate() {
        let last = index + 1 == parts.len();
        let mut next = Vec::new();
        for path in &found {
            next.extend(expand_part(tree, path, part, last)?);
        }
        found = next;
    }
    found.sort();
    Ok(found)
}

fn expand_part(tree: &Tree, directory: &Path, part: &str, last: bool) -> Result<Vec<PathBuf>, FileError> {
    let Ok(real) = tree.resolve(directory) else { return Ok(Vec::new()) };
    if !has_wildcard(part) {
        let path = directory.join(part);
        let exists = tree.resolve(&path).is_ok_and(|real| tree.entry(&real).is_ok());
        return Ok(exists.then_some(path).into_iter().collect());
    }
    let Ok(descriptor) = tree.open_directory(&real) else { return Ok(Vec::new()) };
    let names = list(std::os::fd::AsFd::as_fd(&descriptor))
        .map_err(|errno| FileError::errno("read", &real, errno))?;
    let mut found = Vec::new();
    for name in names {
        if !matches(part, &String::from_utf8_lossy(&name))? {
            continue;
        }
        let path = directory.join(OsStr::from_bytes(&name));
        let verdict = tree.verdict(&real.join(OsStr::from_bytes(&name)));
        let hidden =
            verdict.ignored && (last || tree.ignore().can_skip(path.as_os_str().as_bytes(), &verdict));
        if !hidden {
            found.push(path);
        }
    }
    Ok(found)
}
