//! `--cache-from` and `--cache-to`: caches that come from, and go to, images, registries and folders. What the
//! engine gives and takes are images; this file brings them to where they were asked for.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use ferry_api::Call;
use serde_json::{Value, json};

use super::build_export;
use super::build_output::Push;
use super::builder::BuildFlags;
use super::image::{PushAs, push_image, push_image_as};
use crate::failure::Failure;
use crate::output::progress::{self, To};
use crate::session::Session;

/// Where a cache comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum From {
    Image(String),
    Folder(PathBuf),
}

/// Where a cache goes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Inline,
    Registry(String),
    Folder(PathBuf),
}

fn fields(text: &str) -> HashMap<&str, &str> {
    text.split(',').filter_map(|field| field.split_once('=')).collect()
}

fn read_from(text: &str) -> Result<Vec<From>, Failure> {
    if !text.contains('=') {
        let names = text.split(',').filter(|name| !name.is_empty());
        return Ok(names.map(|name| From::Image(name.to_owned())).collect());
    }
    let fields = fields(text);
    let refuse = |reason: &str| Failure::new(format!("invalid --cache-from {text:?}: {reason}"));
    let needed = |name: &str| fields.get(name).ok_or_else(|| refuse(&format!("there is no {name}=")));
    match fields.get("type").copied() {
        Some("registry") => Ok(vec![From::Image((*needed("ref")?).to_owned())]),
        Some("local") => Ok(vec![From::Folder((*needed("src")?).into())]),
        Some(other) => Err(refuse(&format!("type {other:?} is neither registry nor local"))),
        None => Err(refuse("there is no type=")),
    }
}

/// A target, and whether all steps are wanted.
fn read_to(text: &str) -> Result<(Target, bool), Failure> {
    if !text.contains('=') {
        return Ok((
            if text == "inline" { Target::Inline } else { Target::Registry(text.to_owned()) },
            false,
        ));
    }
    let fields = fields(text);
    let refuse = |reason: &str| Failure::new(format!("invalid --cache-to {text:?}: {reason}"));
    let needed = |name: &str| fields.get(name).ok_or_else(|| refuse(&format!("there is no {name}=")));
    let all = match fields.get("mode").copied() {
        None | Some("min") => false,
        Some("max") => true,
        Some(other) => return Err(refuse(&format!("mode {other:?} is neither min nor max"))),
    };
    match fields.get("type").copied() {
        Some("inline") => Ok((Target::Inline, false)),
        Some("registry") => Ok((Target::Registry((*needed("ref")?).to_owned()), all)),
        Some("local") => Ok((Target::Folder((*needed("dest")?).into()), all)),
        Some(other) => Err(refuse(&format!("type {other:?} is none of inline, registry, local"))),
        None => Err(refuse("there is no type=")),
    }
}

/// The images among `--cache-from`, for the classic API.
pub fn images(flags: &[String]) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for flag in flags {
        for from in read_from(flag)? {
            if let From::Image(name) = from {
                names.push(name);
            }
        }
    }
    Ok(names)
}

/// Caches of one build.
pub struct Reuse {
    /// Images that the engine looks into.
    from: Vec<String>,
    /// Loaded for this build only.
    loaded: Vec<String>,
    to: Vec<Target>,
    all: bool,
}

impl Reuse {
    /// Reads the flags and loads what lies in folders.
    pub async fn prepare(session: &Session, flags: &BuildFlags) -> Result<Self, Failure> {
        let mut reuse = Self { from: Vec::new(), loaded: Vec::new(), to: Vec::new(), all: false };
        for flag in &flags.cache_to {
            let (to, all) = read_to(flag)?;
            reuse.to.push(to);
            reuse.all |= all;
        }
        for flag in &flags.cache_from {
            for from in read_from(flag)? {
                match from {
                    From::Image(name) => reuse.from.push(name),
                    // As with a registry, a cache that is not there yet is none.
                    From::Folder(folder) if !folder.join("manifest.json").is_file() => {
                        crate::output::note(&format!("no cache in {}", folder.display()));
                    }
                    From::Folder(folder) => {
                        let id = load(session, &folder).await?;
                        reuse.from.push(id.clone());
                        reuse.loaded.push(id);
                    }
                }
            }
        }
        Ok(reuse)
    }

    /// Tells the engine.
    pub fn complete(&self, request: &mut Value) {
        request["CacheFrom"] = json!(self.from);
        request["InlineCache"] = json!(self.to.contains(&Target::Inline));
        if self.to.iter().any(|to| *to != Target::Inline) {
            request["CacheTo"] = json!(if self.all { "max" } else { "min" });
        }
    }

    /// Brings the cache to where it was asked for, and removes what was made for this build only.
    pub async fn finish(self, session: &Session, cache_image: &str) -> Result<(), Failure> {
        let mut images = self.loaded;
        let mut result = Ok(());
        if !cache_image.is_empty() {
            images.push(cache_image.to_owned());
            result = write(session, cache_image, &self.to).await;
        }
        unload(session, &images).await?;
        result
    }
}

/// Removes images that were there for one build only.
pub async fn unload(session: &Session, images: &[String]) -> Result<(), Failure> {
    for image in images {
        let call = Call::delete(format!("/images/{}", Call::segment(image))).query("force", "1");
        match session.engine().await?.call(call).await {
            Ok(answer) => answer.discard().await?,
            // It went with its last name.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Loads the image of an OCI layout, `FOLDER[:TAG|@DIGEST]`; gives its id.
pub async fn load_layout(session: &Session, place: &str) -> Result<String, Failure> {
    let whole = Path::new(place);
    // A tag or digest says which of several; a layout of one image needs none.
    let folder = match (whole.is_dir(), place.rsplit_once('@').or_else(|| place.rsplit_once(':'))) {
        (false, Some((folder, _))) => Path::new(folder),
        _ => whole,
    };
    let index: Value = match fs::read(folder.join("index.json")) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(std::io::Error::from)?,
        Err(error) => {
            let what = format!("cannot read the OCI layout {}", folder.display());
            return Err(Failure::from_error(&error).context(&what));
        }
    };
    if index["manifests"].as_array().is_none_or(|all| all.len() != 1) {
        return Err(Failure::new(format!("the OCI layout {} does not hold one image", folder.display()))
            .hint("give each image a folder of its own"));
    }
    let archive = packed(folder)?;
    let body = super::image::file_body(&archive.path().to_string_lossy()).await?;
    let call = Call::post("/images/load").query("quiet", "1").stream("application/x-tar", body);
    let told = progress::hold_back(session.engine().await?.call(call).await?).await?;
    let named = told.lines().find_map(|line| line.strip_prefix("Loaded image: "));
    let id = told.lines().find_map(|line| line.strip_prefix("Loaded image ID: "));
    let name = id.or(named).ok_or_else(|| Failure::new(format!("no image was found in {place}")))?;
    let path = format!("/images/{}/json", Call::segment(name.trim()));
    let image: Value = session.engine().await?.call(Call::get(path)).await?.json().await?;
    Ok(image["Id"].as_str().unwrap_or_default().to_owned())
}

/// A folder as an archive.
fn packed(folder: &Path) -> Result<tempfile::NamedTempFile, Failure> {
    let packed = tempfile::NamedTempFile::new()?;
    let mut builder = tar::Builder::new(packed.reopen()?);
    builder
        .append_dir_all(".", folder)
        .and_then(|()| builder.finish())
        .map_err(|error| Failure::from_error(&error).context(&format!("cannot read {}", folder.display())))?;
    Ok(packed)
}

async fn write(session: &Session, image: &str, targets: &[Target]) -> Result<(), Failure> {
    for target in targets {
        match target {
            Target::Inline => {}
            Target::Registry(name) => push_as(session, image, name).await?,
            Target::Folder(folder) => {
                let packed = tempfile::NamedTempFile::new()?;
                let call = Call::get("/images/get").query("names", image);
                let answer = session.engine().await?.call(call).await?;
                build_export::save(answer, packed.path()).await?;
                replace(packed.path(), folder).map_err(|error| {
                    Failure::from_error(&error).context(&format!("cannot write to {}", folder.display()))
                })?;
            }
        }
    }
    Ok(())
}

/// Puts the unpacked archive in the place of what was there.
fn replace(archive: &Path, folder: &Path) -> std::io::Result<()> {
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let fresh = tempfile::Builder::new().prefix(".cache-").tempdir_in(parent)?;
    tar::Archive::new(fs::File::open(archive)?).unpack(fresh.path())?;
    // Only what is a cache, or nothing, is replaced: a mistyped folder keeps its files.
    if folder.exists() && fs::read_dir(folder)?.next().is_some() {
        if !folder.join("manifest.json").is_file() {
            return Err(std::io::Error::other("the folder is neither empty nor a cache"));
        }
        fs::remove_dir_all(folder)?;
    } else if folder.exists() {
        fs::remove_dir(folder)?;
    }
    fs::rename(fresh.keep(), folder)
}

/// Gives an image a name; gives that in full.
pub async fn tag(session: &Session, image: &str, name: &str) -> Result<String, Failure> {
    let (repository, tag) = super::image::split_tag(name);
    let tag = if tag.is_empty() { "latest" } else { tag };
    let call = Call::post(format!("/images/{}/tag", Call::segment(image)))
        .query("repo", repository)
        .query("tag", tag);
    session.engine().await?.call(call).await?.discard().await?;
    Ok(format!("{repository}:{tag}"))
}

/// Gives an image a name, pushes it, and takes the name away again.
async fn push_as(session: &Session, image: &str, name: &str) -> Result<(), Failure> {
    let name = tag(session, image, name).await?;
    let pushed = push_image(session, &name, To::Nowhere).await;
    let engine = session.engine().await?;
    engine
        .call(Call::delete(format!("/images/{}", Call::segment(&name))).query("noprune", "1"))
        .await?
        .discard()
        .await?;
    pushed
}

/// Gives an image names, which it keeps, and pushes it under each, or by its digest alone; gives what the registry
/// says of the last.
pub async fn push_named(session: &Session, image: &str, push: &Push) -> Result<Value, Failure> {
    let mut told = Value::Null;
    for name in &push.names {
        let how = PushAs {
            image: push.by_digest.then_some(image),
            compression: &push.compression,
            level: &push.level,
        };
        let name = match push.by_digest {
            true => super::image::split_tag(name).0.to_owned(),
            false => tag(session, image, name).await?,
        };
        told = push_image_as(session, &name, how, To::Stderr).await?;
    }
    Ok(told)
}

async fn load(session: &Session, folder: &Path) -> Result<String, Failure> {
    let archive = packed(folder)?;
    let body = super::image::file_body(&archive.path().to_string_lossy()).await?;
    let call = Call::post("/images/load").query("quiet", "1").stream("application/x-tar", body);
    progress::show(session.engine().await?.call(call).await?, To::Nowhere).await?;
    // The archive names its configuration, whose digest is the image's id.
    let manifest: Value = serde_json::from_slice(&fs::read(folder.join("manifest.json"))?)
        .map_err(|error| Failure::new(format!("the cache in {} is damaged: {error}", folder.display())))?;
    let config = manifest[0]["Config"].as_str().unwrap_or_default();
    let hex = Path::new(config).file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    Ok(format!("sha256:{hex}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_caches_are_read() {
        assert_eq!(read_from("a,b").unwrap(), [From::Image("a".into()), From::Image("b".into())]);
        assert_eq!(read_from("type=local,src=x").unwrap(), [From::Folder("x".into())]);
        assert_eq!(read_to("type=inline").unwrap(), (Target::Inline, false));
        assert_eq!(
            read_to("type=registry,ref=a/b:c,mode=max").unwrap(),
            (Target::Registry("a/b:c".into()), true)
        );
        for text in ["type=moon", "type=local", "type=registry,mode=all,ref=x", "mode=max"] {
            assert!(read_to(text).is_err(), "{text}");
        }
    }
}
