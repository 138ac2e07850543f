//! `manifest create annotate inspect push rm`: one name for the same image on several platforms.
//!
//! A list is made on this machine, under `manifests/` beside the client's configuration, a file per manifest; only
//! `push` brings it to a registry.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use ferry_api::Call;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::credentials::{auth_header, registry_of};
use super::registry::full_name;
use crate::cli::Command;
use crate::command;
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;
use crate::output;
use crate::session::Session;

crate::flags! {
    /// Flags of `manifest create`.
    pub struct CreateFlags {
        amend: bool = 'a' "amend" "Amend an existing manifest list";
        insecure: bool = '-' "insecure" "Allow communication with an insecure registry (the engine's settings say which are)";
    }
}

crate::flags! {
    /// Flags of `manifest annotate`.
    pub struct AnnotateFlags {
        arch: String = '-' "arch" <string> "Set architecture";
        os: String = '-' "os" <string> "Set operating system";
        os_features: Vec<String> = '-' "os-features" <strings> "Set operating system feature";
        os_version: String = '-' "os-version" <string> "Set operating system version";
        variant: String = '-' "variant" <string> "Set architecture variant";
    }
}

crate::flags! {
    /// Flags of `manifest inspect`.
    pub struct InspectFlags {
        insecure: bool = '-' "insecure" "Allow communication with an insecure registry (the engine's settings say which are)";
        verbose: bool = 'v' "verbose" "Output additional info including layers and platform";
    }
}

crate::flags! {
    /// Flags of `manifest push`.
    pub struct PushFlags {
        insecure: bool = '-' "insecure" "Allow push to an insecure registry (the engine's settings say which are)";
        purge: bool = 'p' "purge" "Remove the local manifest list after push";
    }
}

/// The table.
pub static COMMANDS: &[Command] = &[
    command!(
        ["manifest create"],
        "MANIFEST_LIST MANIFEST [MANIFEST...]",
        "Create a local manifest list for annotating and pushing to a registry",
        AtLeast(2),
        CreateFlags,
        create
    ),
    command!(
        ["manifest annotate"],
        "[OPTIONS] MANIFEST_LIST MANIFEST",
        "Add additional information to a local image manifest",
        Exactly(2),
        AnnotateFlags,
        annotate
    ),
    command!(
        ["manifest inspect"],
        "[OPTIONS] [MANIFEST_LIST] MANIFEST",
        "Display an image manifest, or manifest list",
        Between(1, 2),
        InspectFlags,
        inspect
    ),
    command!(
        ["manifest push"],
        "[OPTIONS] MANIFEST_LIST",
        "Push a manifest list to a repository",
        Exactly(1),
        PushFlags,
        push
    ),
    command!(
        ["manifest rm"],
        "MANIFEST_LIST [MANIFEST_LIST...]",
        "Delete one or more manifest lists from local storage",
        AtLeast(1),
        NoFlags,
        remove
    ),
];

/// Media types of manifest lists, OCI's and Docker's.
const LISTS: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
/// Media type of an image's manifest in OCI's form.
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// One manifest of a list, as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    /// Under which name it was found.
    #[serde(rename = "Ref")]
    reference: String,
    /// What it is, with its platform.
    descriptor: Json,
    /// The document.
    manifest: String,
}

impl Entry {
    fn media_type(&self) -> &str {
        self.descriptor["mediaType"].as_str().unwrap_or_default()
    }

    fn is_list(&self) -> bool {
        LISTS.contains(&self.media_type())
    }
}

/// A list on this machine.
struct LocalList {
    directory: PathBuf,
    /// Its whole name.
    name: String,
}

impl LocalList {
    fn of(session: &Session, name: &str) -> Result<LocalList, Failure> {
        if name.is_empty() || name.starts_with(['.', '/', '-']) {
            return Err(Failure::new(format!("invalid reference format: {name:?}")));
        }
        let name = whole_name(name);
        let folder = file_name(&name);
        Ok(LocalList { directory: session.config().directory.join("manifests").join(folder), name })
    }

    fn exists(&self) -> bool {
        self.directory.is_dir()
    }

    /// The manifests, in the order of their names.
    fn entries(&self) -> Result<Vec<Entry>, Failure> {
        let found = match fs::read_dir(&self.directory) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let name = &self.name;
                return Err(Failure::new(format!("No such manifest: {name}"))
                    .hint(format!("make one with 'manifest create {name} IMAGE [IMAGE...]'")));
            }
            Err(error) => return Err(error.into()),
        };
        let mut paths: Vec<PathBuf> = found.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        paths.sort();
        let read = |path: &PathBuf| {
            let bytes = fs::read(path)?;
            serde_json::from_slice(&bytes).map_err(|error| {
                Failure::from_error(&error).context(&format!("cannot read {}", path.display()))
            })
        };
        paths.iter().map(read).collect()
    }

    fn keep(&self, entry: &Entry) -> Result<(), Failure> {
        fs::create_dir_all(&self.directory)?;
        let path = self.directory.join(file_name(&entry.reference));
        let temporary = path.with_extension("new");
        fs::write(&temporary, serde_json::to_vec_pretty(entry).map_err(io::Error::from)?)?;
        Ok(fs::rename(temporary, path)?)
    }

    fn remove(&self) -> Result<(), Failure> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(Failure::new(format!("No such manifest: {}", self.name)))
            }
            other => Ok(other?),
        }
    }

    /// The list as it goes to a registry: OCI's form where its first manifest has that, else Docker's.
    fn document(&self) -> Result<(&'static str, String), Failure> {
        let entries = self.entries()?;
        for entry in &entries {
            let platform = &entry.descriptor["platform"];
            if ["os", "architecture"].iter().any(|key| platform[key].as_str().is_none_or(str::is_empty)) {
                let reason = "has an OS/architecture that is not set; say it with 'manifest annotate'";
                return Err(Failure::new(format!("manifest {} {reason}", entry.reference)));
            }
        }
        let oci = entries.first().is_some_and(|entry| entry.media_type() == OCI_MANIFEST);
        let kind = if oci { LISTS[0] } else { LISTS[1] };
        let manifests: Vec<Json> =
            entries.into_iter().map(|entry| in_dockers_order(entry.descriptor)).collect();
        let list = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": manifests });
        Ok((kind, output::indented(&list, "   ")?))
    }
}

/// The members in the order in which Docker's client writes them, so that the same list has the same digest.
fn in_dockers_order(mut descriptor: Json) -> Json {
    const DESCRIPTOR: &[&str] = &["mediaType", "size", "digest", "urls", "annotations", "platform"];
    const PLATFORM: &[&str] = &["architecture", "os", "os.version", "os.features", "variant", "features"];
    if let Some(platform) = descriptor.get_mut("platform") {
        *platform = ordered(platform.take(), PLATFORM);
    }
    ordered(descriptor, DESCRIPTOR)
}

/// An object with these members first; what else it has comes behind them.
fn ordered(object: Json, keys: &[&str]) -> Json {
    let Json::Object(mut members) = object else { return object };
    let mut sorted = serde_json::Map::new();
    for key in keys {
        sorted.extend(members.shift_remove_entry(*key));
    }
    sorted.extend(members);
    Json::Object(sorted)
}

/// The header with which the engine asks the registry of a name on the user's behalf.
pub fn authorization(session: &Session, name: &str) -> Result<String, Failure> {
    auth_header(session.config(), registry_of(&whole_name(name)))
}

/// The name with registry and tag.
pub fn whole_name(name: &str) -> String {
    full_name(&super::with_tag(name))
}

fn registry_host(whole_name: &str) -> &str {
    whole_name.split_once('/').map_or(whole_name, |(host, _)| host)
}

/// A name that is one part of a path, as Docker makes it.
fn file_name(reference: &str) -> String {
    reference.replace(':', "-").replace('/', "_")
}

/// What a registry has under a name.
async fn fetch(session: &Session, name: &str) -> Result<Entry, Failure> {
    let name = whole_name(name);
    let call = Call::get("/ferry/manifest")
        .query("name", &name)
        .header("X-Registry-Auth", auth_header(session.config(), registry_of(&name))?);
    Ok(session.engine().await?.call(call).await?.json().await?)
}

/// Runs `manifest create`.
async fn create(session: &Session, flags: CreateFlags, arguments: Vec<String>) -> Outcome {
    let list = LocalList::of(session, &arguments[0])?;
    if list.exists() && !flags.amend {
        return Err(Failure::new(format!(
            "refusing to amend an existing manifest list with no --amend flag: {}",
            arguments[0]
        )));
    }
    let mut entries = Vec::new();
    for name in &arguments[1..] {
        let entry = fetch(session, name).await?;
        if entry.is_list() {
            return Err(Failure::new(format!("{} is a manifest list", entry.reference))
                .hint("name the manifests that it lists, by digest"));
        }
        let (found, wanted) = (registry_host(&entry.reference), registry_host(&list.name));
        if found != wanted {
            return Err(Failure::new(format!(
                "cannot use source images from a different registry than the target image: {found} != {wanted}"
            )));
        }
        entries.push(entry);
    }
    // Only now: a list is there whole or not at all.
    for entry in &entries {
        list.keep(entry)?;
    }
    output::line(&format!("Created manifest list {}", list.name))?;
    Ok(0)
}

/// Runs `manifest annotate`.
async fn annotate(session: &Session, flags: AnnotateFlags, arguments: Vec<String>) -> Outcome {
    let list = LocalList::of(session, &arguments[0])?;
    let wanted = whole_name(&arguments[1]);
    let entries = if list.exists() { list.entries()? } else { Vec::new() };
    let known = entries.into_iter().find(|entry| entry.reference == wanted);
    let missing = || format!("manifest for image {} does not exist in {}", arguments[1], arguments[0]);
    let mut entry = known.ok_or_else(|| Failure::new(missing()))?;
    let platform = &mut entry.descriptor["platform"];
    let given = [
        ("os", flags.os),
        ("architecture", flags.arch),
        ("variant", flags.variant),
        ("os.version", flags.os_version),
    ];
    for (key, value) in given.into_iter().filter(|(_, value)| !value.is_empty()) {
        platform[key] = value.into();
    }
    for feature in flags.os_features {
        let features = &mut platform["os.features"];
        if features.as_array().is_none_or(|known| !known.contains(&feature.as_str().into())) {
            match features.as_array_mut() {
                Some(known) => known.push(feature.into()),
                None => *features = vec![feature].into(),
            }
        }
    }
    check_platform(platform)?;
    list.keep(&entry)?;
    Ok(0)
}

/// What images are made for: operating systems with their architectures, as Docker's client takes them.
const PLATFORMS: &[(&str, &[&str])] = &[
    ("darwin", &["386", "amd64", "arm", "arm64"]),
    ("dragonfly", &["amd64"]),
    ("freebsd", &["386", "amd64", "arm"]),
    ("linux", &["386", "amd64", "arm", "arm64", "ppc64le", "mips64", "mips64le", "riscv64", "s390x"]),
    ("netbsd", &["386", "amd64", "arm"]),
    ("openbsd", &["386", "amd64", "arm"]),
    ("plan9", &["386", "amd64"]),
    ("solaris", &["amd64"]),
    ("windows", &["386", "amd64"]),
];

/// Refuses what nothing runs on, which most often is a typing error.
fn check_platform(platform: &Json) -> Result<(), Failure> {
    let word = |key: &str| platform[key].as_str().unwrap_or_default().to_owned();
    let (os, architecture) = (word("os"), word("architecture"));
    let fits = |(known, of): &&(&str, &[&str])| *known == os && of.contains(&architecture.as_str());
    if PLATFORMS.iter().any(|one| fits(&one)) {
        return Ok(());
    }
    let text = format!("manifest entry for image has unsupported os/arch combination: {os}/{architecture}");
    Err(Failure::new(text))
}

/// Runs `manifest inspect`.
async fn inspect(session: &Session, flags: InspectFlags, arguments: Vec<String>) -> Outcome {
    let shown = match arguments.as_slice() {
        [list, manifest] => {
            let wanted = whole_name(manifest);
            let found =
                LocalList::of(session, list)?.entries()?.into_iter().find(|it| it.reference == wanted);
            let missing = || Failure::new(format!("No such manifest: {manifest} in {list}"));
            manifest_json(&found.ok_or_else(missing)?, flags.verbose)?
        }
        [name] => {
            let list = LocalList::of(session, name)?;
            match (list.exists(), flags.verbose) {
                (true, false) => json_of(&list.document()?.1)?,
                (true, true) => {
                    let entries = list.entries()?;
                    Json::Array(entries.iter().map(|it| manifest_json(it, true)).collect::<Result<_, _>>()?)
                }
                (false, verbose) => remote_json(session, name, verbose).await?,
            }
        }
        _ => return Err(Failure::new("manifest inspect takes one or two names")),
    };
    output::line(&output::indented(&shown, "\t")?)?;
    Ok(0)
}

/// What a registry has, and with `verbose` each manifest of a list.
async fn remote_json(session: &Session, name: &str, verbose: bool) -> Result<Json, Failure> {
    let entry = fetch(session, name).await?;
    if !verbose || !entry.is_list() {
        return manifest_json(&entry, verbose);
    }
    let list = json_of(&entry.manifest)?;
    let (whole, _) = entry.reference.split_once('@').unwrap_or((&entry.reference, ""));
    let repository = super::split_tag(whole).0;
    let mut all = Vec::new();
    for listed in list["manifests"].as_array().into_iter().flatten() {
        let digest = listed["digest"].as_str().unwrap_or_default();
        let found = fetch(session, &format!("{repository}@{digest}")).await?;
        all.push(manifest_json(&Entry { descriptor: listed.clone(), ..found }, true)?);
    }
    Ok(Json::Array(all))
}

fn manifest_json(entry: &Entry, verbose: bool) -> Result<Json, Failure> {
    let manifest = json_of(&entry.manifest)?;
    if !verbose {
        return Ok(manifest);
    }
    let field = if entry.media_type() == OCI_MANIFEST { "OCIManifest" } else { "SchemaV2Manifest" };
    Ok(json!({ "Ref": entry.reference, "Descriptor": entry.descriptor, field: manifest }))
}

fn json_of(text: &str) -> Result<Json, Failure> {
    Ok(serde_json::from_str(text).map_err(io::Error::from)?)
}

/// Runs `manifest push`.
async fn push(session: &Session, flags: PushFlags, arguments: Vec<String>) -> Outcome {
    let list = LocalList::of(session, &arguments[0])?;
    let sources: Vec<String> = list.entries()?.into_iter().map(|entry| entry.reference).collect();
    let (kind, document) = list.document()?;
    let name = &list.name;
    let call = Call::put("/ferry/manifest")
        .query("name", name)
        .header("X-Registry-Auth", auth_header(session.config(), registry_of(name))?)
        .json(&json!({ "MediaType": kind, "Manifest": document, "Sources": sources }));
    let answer: Json = session.engine().await?.call(call).await?.json().await?;
    if flags.purge {
        list.remove()?;
    }
    output::line(answer["Digest"].as_str().unwrap_or_default())?;
    Ok(0)
}

/// Runs `manifest rm`.
async fn remove(session: &Session, _flags: NoFlags, arguments: Vec<String>) -> Outcome {
    let failures: Vec<Failure> = arguments
        .iter()
        .filter_map(|name| LocalList::of(session, name).and_then(|list| list.remove()).err())
        .collect();
    match Failure::many(failures) {
        Some(failure) => Err(failure),
        None => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files() {
        assert_eq!(file_name("localhost:5000/a/b:1"), "localhost-5000_a_b-1");
    }
}
