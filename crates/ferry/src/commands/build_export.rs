//! Where the result of a build goes beside the images: folders, archives, registries.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ferry_api::Call;
use ferry_api::client::Response;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::session::Session;

/// Where a result goes beside the images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Export {
    /// The image stays in the store: always done.
    Image,
    /// The files, into a folder.
    Folder(PathBuf),
    /// The files, as a tar; `-` is stdout.
    Tar(PathBuf),
    /// The image as an archive that `load` reads, which is an OCI layout too.
    Archive(PathBuf),
    /// A registry, under names.
    Registry(Vec<String>),
}

impl Export {
    /// Reads all of `--output`, and `--push`.
    pub fn all(outputs: &[String], push: bool, tags: &[String]) -> Result<Vec<Self>, Failure> {
        let mut exports = outputs.iter().map(|text| Self::parse(text)).collect::<Result<Vec<_>, _>>()?;
        if push {
            exports.push(Self::Registry(Vec::new()));
        }
        for export in &mut exports {
            if let Self::Registry(names) = export
                && names.is_empty()
            {
                if tags.is_empty() {
                    return Err(Failure::new("a name is needed to push the image").hint("give it with -t"));
                }
                names.extend_from_slice(tags);
            }
        }
        Ok(exports)
    }

    /// The files alone, and no image.
    pub fn is_files(&self) -> bool {
        matches!(self, Self::Folder(_) | Self::Tar(_))
    }

    /// Reads `--output`.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        if text == "-" {
            return Ok(Self::Tar("-".into()));
        }
        if !text.contains('=') {
            return Ok(Self::Folder(text.into()));
        }
        let fields: HashMap<&str, &str> = text.split(',').filter_map(|field| field.split_once('=')).collect();
        let refuse = |reason: &str| Failure::new(format!("invalid --output {text:?}: {reason}"));
        let target = fields.get("dest").map(PathBuf::from);
        // Names in one field are apart by commas, which stand between fields too: one name each.
        let names: Vec<String> = fields.get("name").map(|name| (*name).to_owned()).into_iter().collect();
        let needed = |target: Option<PathBuf>| target.ok_or_else(|| refuse("there is no dest="));
        match fields.get("type").copied().unwrap_or("local") {
            "local" => needed(target).map(Self::Folder),
            "tar" => needed(target).map(Self::Tar),
            "oci" => needed(target).map(Self::Archive),
            "docker" => Ok(target.map_or(Self::Image, Self::Archive)),
            "image" if fields.get("push") == Some(&"true") => Ok(Self::Registry(names)),
            "image" => Ok(Self::Image),
            "registry" => Ok(Self::Registry(names)),
            other => {
                Err(refuse(&format!("type {other:?} is none of local, tar, oci, docker, image, registry")))
            }
        }
    }
}

/// Writes a result to where it was asked for; `attest` adds to an exported folder, given the files as an archive.
pub async fn export(
    session: &Session,
    id: &str,
    export: &Export,
    attest: &(dyn Fn(&Path, &Path) -> Result<(), Failure> + Sync),
) -> Result<(), Failure> {
    match export {
        Export::Image => Ok(()),
        Export::Registry(names) => {
            for name in names {
                super::build_reuse::push_named(session, id, name).await?;
            }
            Ok(())
        }
        Export::Archive(path) => {
            let answer = session.engine().await?.call(Call::get("/images/get").query("names", id)).await?;
            save(answer, path).await
        }
        Export::Tar(path) => files(session, id, path).await,
        Export::Folder(folder) => {
            let packed = tempfile::NamedTempFile::new()?;
            files(session, id, packed.path()).await?;
            fs::create_dir_all(folder)?;
            unpack(packed.path(), folder).map_err(|error| {
                Failure::from_error(&error).context(&format!("cannot write to {}", folder.display()))
            })?;
            attest(packed.path(), folder)
        }
    }
}

/// The files of an image: those of a container of it that never runs.
pub async fn files(session: &Session, id: &str, path: &Path) -> Result<(), Failure> {
    let engine = session.engine().await?;
    let create = Call::post("/containers/create").json(&json!({ "Image": id, "Cmd": ["-"] }));
    let created: Value = engine.call(create).await?.json().await?;
    let container = created["Id"].as_str().unwrap_or_default().to_owned();
    let exported = async {
        let answer = engine.call(Call::get(format!("/containers/{container}/export"))).await?;
        save(answer, path).await
    };
    let result = exported.await;
    engine
        .call(Call::delete(format!("/containers/{container}")).query("force", "1"))
        .await?
        .discard()
        .await?;
    result
}

pub async fn save(mut answer: Response, path: &Path) -> Result<(), Failure> {
    let mut target: Box<dyn io::Write> = match path == Path::new("-") {
        true => Box::new(io::stdout().lock()),
        false => Box::new(fs::File::create(path).map_err(|error| {
            Failure::from_error(&error).context(&format!("cannot create {}", path.display()))
        })?),
    };
    while let Some(piece) = answer.chunk().await? {
        target.write_all(&piece)?;
    }
    Ok(target.flush()?)
}

/// Unpacks with the rights of whoever runs this; what only root may make is left out.
fn unpack(archive: &Path, folder: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(fs::File::open(archive)?);
    archive.set_preserve_permissions(true);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if kind.is_block_special() || kind.is_character_special() {
            continue;
        }
        entry.unpack_in(folder)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read() {
        for (text, wanted) in [
            ("out", Export::Folder("out".into())),
            ("-", Export::Tar("-".into())),
            ("type=local,dest=x", Export::Folder("x".into())),
            ("type=tar,dest=x.tar", Export::Tar("x.tar".into())),
            ("type=oci,dest=x", Export::Archive("x".into())),
            ("type=docker", Export::Image),
        ] {
            assert_eq!(Export::parse(text).unwrap(), wanted);
        }
        assert!(Export::parse("type=local").is_err());
        assert!(Export::parse("type=moon,dest=x").is_err());
    }
}
