//! A saved image as it can be compared: the flattened tree and the configuration.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Most differences of one image that are shown.
const SHOWN: usize = 20;

/// Fields of the configuration that a classic build fills with its own doings.
const NOT_COMPARED: &[&str] =
    &["Hostname", "Domainname", "Image", "AttachStdin", "AttachStdout", "AttachStderr"];

/// One file as a layer has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    kind: u8,
    mode: u32,
    uid: u64,
    gid: u64,
    /// Digest of the bytes, target of a link, or numbers of a device.
    content: String,
    attributes: BTreeMap<String, Vec<u8>>,
}

/// What one layer does, in the order of its archive.
enum Change {
    Put(String, Node),
    /// A second name of a file that stands before it.
    Same(String, String),
    Remove(String),
    /// Nothing of the layers below is left in this folder.
    Empty(String),
}

/// Layers that were read already, by diff id.
#[derive(Default)]
pub struct Layers {
    known: HashMap<String, Rc<Vec<Change>>>,
}

/// A saved image.
pub struct Saved {
    files: BTreeMap<String, Node>,
    /// Names of the same file, each group by its first name.
    shared: BTreeSet<Vec<String>>,
    config: Value,
}

impl Saved {
    /// Reads a docker-archive.
    pub fn read(archive: &Path, layers: &mut Layers) -> Result<Self> {
        let manifest: Value = serde_json::from_slice(&member(archive, "manifest.json")?)?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a name in manifest.json");
        let config: Value = serde_json::from_slice(&member(archive, &text(&manifest[0]["Config"])?)?)?;
        let names = manifest[0]["Layers"].as_array().context("Layers in manifest.json")?;
        let ids = config["rootfs"]["diff_ids"].as_array().context("diff_ids")?;
        let mut tree = Flat::default();
        for (name, id) in names.iter().zip(ids) {
            let id = text(id)?;
            if !layers.known.contains_key(&id) {
                let changes = read_layer(archive, &text(name)?)?;
                layers.known.insert(id.clone(), Rc::new(changes));
            }
            layers.known[&id].iter().for_each(|change| tree.apply(change));
        }
        Ok(Self { shared: tree.groups(), files: tree.files, config })
    }

    /// What differs, in words.
    pub fn differences(&self, other: &Self, ours: &str, theirs: &str) -> Vec<String> {
        let mut found = Vec::new();
        let paths: BTreeSet<&String> = self.files.keys().chain(other.files.keys()).collect();
        for path in paths {
            match (self.files.get(path), other.files.get(path)) {
                (Some(_), None) => found.push(format!("/{path}: only in {ours}'s image")),
                (None, Some(_)) => found.push(format!("/{path}: only in {theirs}'s image")),
                (Some(a), Some(b)) if a != b => {
                    found.push(format!("/{path}: {ours} has {}, {theirs} has {}", a.show(), b.show()));
                }
                _ => {}
            }
        }
        for group in self.shared.symmetric_difference(&other.shared) {
            found.push(format!("names of one file in one image only: {}", group.join(" ")));
        }
        found.truncate(SHOWN);
        compare_configs(&self.config, &other.config, ours, theirs, &mut found);
        found
    }
}

impl Node {
    fn show(&self) -> String {
        let content: String = self.content.chars().take(16).collect();
        let names: Vec<&String> = self.attributes.keys().collect();
        let kind = char::from(self.kind);
        format!("type {kind} {:o} {}:{} {content} {names:?}", self.mode, self.uid, self.gid)
    }
}

/// Layers laid over each other.
#[derive(Default)]
struct Flat {
    files: BTreeMap<String, Node>,
    /// Name to the first name of the same file.
    first: HashMap<String, String>,
}

impl Flat {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Put(path, node) => {
                // A folder keeps what is in it; anything else takes the place of all.
                if node.kind != b'5' {
                    self.remove_below(path);
                }
                self.first.remove(path);
                self.files.insert(path.clone(), node.clone());
            }
            Change::Same(path, target) => {
                let Some(node) = self.files.get(target).cloned() else { return };
                let first = self.first.get(target).unwrap_or(target).clone();
                self.files.insert(path.clone(), node);
                self.first.insert(path.clone(), first);
            }
            Change::Remove(path) => {
                self.remove_below(path);
                self.files.remove(path);
                self.first.remove(path);
            }
            Change::Empty(path) => self.remove_below(path),
        }
    }

    fn remove_below(&mut self, path: &str) {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        self.files.retain(|other, _| !other.starts_with(&prefix));
        self.first.retain(|other, _| !other.starts_with(&prefix));
    }

    fn groups(&self) -> BTreeSet<Vec<String>> {
        let mut groups: HashMap<&String, BTreeSet<String>> = HashMap::new();
        for (name, first) in &self.first {
            groups.entry(first).or_default().extend([name.clone(), first.clone()]);
        }
        groups.into_values().map(|names| names.into_iter().collect()).collect()
    }
}

/// Finds one member of an archive, links followed (older daemons save equal layers once).
fn member(archive: &Path, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    with_member(archive, name, |reader| Ok(reader.read_to_end(&mut bytes).map(drop)?))?;
    Ok(bytes)
}

fn with_member(archive: &Path, name: &str, read: impl FnOnce(&mut dyn Read) -> Result<()>) -> Result<()> {
    let mut wanted = name.to_owned();
    for _ in 0..2 {
        let mut tar = tar::Archive::new(File::open(archive)?);
        let mut found = None;
        for entry in tar.entries()? {
            let entry = entry?;
            if entry.path()?.to_string_lossy() == wanted {
                found = Some(entry);
                break;
            }
        }
        let mut entry = found.with_context(|| format!("{wanted} is not in {}", archive.display()))?;
        if let (true, Some(target)) = (entry.header().entry_type().is_symlink(), entry.link_name()?) {
            wanted = target.to_string_lossy().trim_start_matches("../").to_owned();
            continue;
        }
        return read(&mut entry);
    }
    anyhow::bail!("{name} leads from link to link in {}", archive.display())
}

fn read_layer(archive: &Path, name: &str) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    with_member(archive, name, |reader| {
        let mut layer = tar::Archive::new(reader);
        for entry in layer.entries()? {
            changes.extend(read_change(entry?)?);
        }
        Ok(())
    })?;
    Ok(changes)
}

/// A path without `./` in front and without a slash at its end; empty for the root.
fn clean(path: &Path) -> String {
    let text = path.to_string_lossy();
    let text = text.trim_start_matches("./").trim_matches('/');
    if text == "." { String::new() } else { text.to_owned() }
}

fn read_change(mut entry: tar::Entry<'_, impl Read>) -> Result<Option<Change>> {
    let path = clean(&entry.path()?);
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
    if name == ".wh..wh..opq" {
        return Ok(Some(Change::Empty(parent.to_owned())));
    }
    if let Some(gone) = name.strip_prefix(".wh.") {
        let gone = if parent.is_empty() { gone.to_owned() } else { format!("{parent}/{gone}") };
        return Ok((!gone.contains(".wh.")).then_some(Change::Remove(gone)));
    }
    let kind = entry.header().entry_type();
    if kind.is_hard_link() {
        let target = entry.link_name()?.context("a link without a target")?;
        return Ok(Some(Change::Same(path, clean(&target))));
    }
    let mut attributes = BTreeMap::new();
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            let key = String::from_utf8_lossy(extension.key_bytes()).into_owned();
            if key.starts_with("SCHILY.xattr.") {
                attributes.insert(key, extension.value_bytes().to_vec());
            }
        }
    }
    let header = entry.header();
    let (mode, uid, gid) = (header.mode()? & 0o7777, header.uid()?, header.gid()?);
    let content = match kind {
        tar::EntryType::Symlink => {
            entry.link_name()?.map(|target| target.to_string_lossy().into_owned()).unwrap_or_default()
        }
        tar::EntryType::Char | tar::EntryType::Block => {
            format!("{:?}:{:?}", header.device_major()?, header.device_minor()?)
        }
        tar::EntryType::Regular | tar::EntryType::Continuous => {
            let mut hasher = Sha256::new();
            let mut buffer = vec![0; 64 << 10];
            loop {
                match entry.read(&mut buffer)? {
                    0 => break hex::encode(hasher.finalize()),
                    length => hasher.update(&buffer[..length]),
                }
            }
        }
        _ => String::new(),
    };
    let kind = if kind == tar::EntryType::Continuous { b'0' } else { kind.as_byte() };
    Ok(Some(Change::Put(path, Node { kind, mode, uid, gid, content, attributes })))
}

/// Empty values and absent ones are one and the same.
fn filled(value: &Value) -> Option<&Value> {
    let empty = match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Number(_) => false,
    };
    (!empty).then_some(value)
}

fn compare_configs(ours: &Value, theirs: &Value, our_name: &str, their_name: &str, found: &mut Vec<String>) {
    let fields = |value: &Value| value["config"].as_object().cloned().unwrap_or_default();
    let (a, b) = (fields(ours), fields(theirs));
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for key in keys.into_iter().filter(|key| !NOT_COMPARED.contains(&key.as_str())) {
        let (x, y) = (a.get(key).and_then(filled), b.get(key).and_then(filled));
        if x != y {
            found.push(format!("config {key}: {our_name} has {x:?}, {their_name} has {y:?}"));
        }
    }
    for key in ["architecture", "os", "author", "variant"] {
        let (x, y) = (filled(&ours[key]), filled(&theirs[key]));
        if x != y {
            found.push(format!("{key}: {our_name} has {x:?}, {their_name} has {y:?}"));
        }
    }
}
