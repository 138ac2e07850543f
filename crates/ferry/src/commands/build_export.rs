//! Where the result of a build goes beside the images: folders, archives, registries.

use std::fs;
use std::io;
use std::path::Path;

use ferry_api::Call;
use ferry_api::client::Response;
use serde_json::{Value, json};

use super::build_output::{Archive, Export};
use super::build_platforms::Results;
use super::build_reuse;
use super::builder::BuildFlags;
use crate::failure::Failure;
use crate::session::Session;

/// Writes a result to where it was asked for; gives what a registry has then.
pub async fn export(
    session: &Session,
    results: &Results,
    export: &Export,
    flags: &BuildFlags,
) -> Result<Option<Value>, Failure> {
    let lead = &results.lead().built.id;
    match export {
        Export::Image(names) => {
            for name in names {
                build_reuse::tag(session, lead, name).await?;
            }
        }
        Export::Registry(push) => return build_reuse::push_named(session, lead, push).await.map(Some),
        Export::Archive(archive) => write_archive(session, lead, archive, &flags.tag).await?,
        Export::Tar(path, split) => match results.several(*split) {
            false => files(session, lead, path).await?,
            true => one_tar(session, results, path).await?,
        },
        Export::Folder(folder, split) => {
            for result in &results.all {
                let folder = match results.several(*split) {
                    true => folder.join(result.folder()),
                    false => folder.clone(),
                };
                let packed = tempfile::NamedTempFile::new()?;
                files(session, &result.built.id, packed.path()).await?;
                fs::create_dir_all(&folder)?;
                unpack(packed.path(), &folder).map_err(|error| {
                    Failure::from_error(&error).context(&format!("cannot write to {}", folder.display()))
                })?;
                results.attest.write(&result.flags, &result.built, packed.path(), &folder)?;
            }
        }
    }
    Ok(None)
}

async fn write_archive(
    session: &Session,
    id: &str,
    archive: &Archive,
    tags: &[String],
) -> Result<(), Failure> {
    for name in &archive.names {
        build_reuse::tag(session, id, name).await?;
    }
    let names: Vec<&str> = archive.names.iter().chain(tags).map(String::as_str).collect();
    let mut call = Call::get("/images/get");
    for name in if names.is_empty() { vec![id] } else { names } {
        call = call.query("names", name);
    }
    let answer = session.engine().await?.call(call).await?;
    if !archive.unpacked {
        return save(answer, &archive.place).await;
    }
    let packed = tempfile::NamedTempFile::new()?;
    save(answer, packed.path()).await?;
    fs::create_dir_all(&archive.place)?;
    unpack(packed.path(), &archive.place).map_err(|error| {
        Failure::from_error(&error).context(&format!("cannot write to {}", archive.place.display()))
    })
}

/// The files of all platforms, each below a folder with its platform's name.
async fn one_tar(session: &Session, results: &Results, path: &Path) -> Result<(), Failure> {
    let target: Box<dyn io::Write> = match path == Path::new("-") {
        true => Box::new(io::stdout().lock()),
        false => Box::new(create(path)?),
    };
    let mut whole = tar::Builder::new(target);
    for result in &results.all {
        let packed = tempfile::NamedTempFile::new()?;
        files(session, &result.built.id, packed.path()).await?;
        append_below(&mut whole, &result.folder(), fs::File::open(packed.path())?)?;
    }
    Ok(whole.into_inner()?.flush()?)
}

/// Adds the entries of an archive to another below a folder; hard links lead to their files' new places.
fn append_below<W: io::Write>(
    whole: &mut tar::Builder<W>,
    folder: &str,
    archive: impl io::Read,
) -> io::Result<()> {
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let mut header = entry.header().clone();
        let path = Path::new(folder).join(entry.path()?.strip_prefix("./").unwrap_or(&entry.path()?));
        let link = entry.link_name()?.map(std::borrow::Cow::into_owned);
        match link {
            Some(link) if header.entry_type().is_hard_link() => {
                let link = Path::new(folder).join(link.strip_prefix("./").unwrap_or(&link));
                whole.append_link(&mut header, path, link)?;
            }
            Some(link) => whole.append_link(&mut header, path, link)?,
            None => whole.append_data(&mut header, path, &mut entry)?,
        }
    }
    Ok(())
}

/// The files of an image: those of a container of it that never runs.
pub async fn files(session: &Session, id: &str, path: &Path) -> Result<(), Failure> {
    let engine = session.engine().await?;
    let create = Call::post("/containers/create").json(&json!({ "Image": id, "Cmd": ["-"] }));
    let created: Value = engine.call(create).await?.json().await?;
    let container = created["Id"].as_str().unwrap_or_default().to_owned();
    let exported = async {
        let export = Call::get(format!("/containers/{container}/export")).query("image", "1");
        let answer = engine.call(export).await?;
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

/// Writes an answer's body to a file; `-` is stdout.
pub async fn save(mut answer: Response, path: &Path) -> Result<(), Failure> {
    let mut target: Box<dyn io::Write> = match path == Path::new("-") {
        true => Box::new(io::stdout().lock()),
        false => Box::new(create(path)?),
    };
    while let Some(piece) = answer.chunk().await? {
        target.write_all(&piece)?;
    }
    Ok(target.flush()?)
}

fn create(path: &Path) -> Result<fs::File, Failure> {
    fs::File::create(path)
        .map_err(|error| Failure::from_error(&error).context(&format!("cannot create {}", path.display())))
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
    fn platforms_lie_beside_each_other() {
        let mut one = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(1);
        one.append_data(&mut header, "dir/a", &b"a"[..]).unwrap();
        let mut link = tar::Header::new_ustar();
        link.set_entry_type(tar::EntryType::Link);
        link.set_size(0);
        one.append_link(&mut link, "b", "dir/a").unwrap();
        let one = one.into_inner().unwrap();
        let mut whole = tar::Builder::new(Vec::new());
        append_below(&mut whole, "linux_arm64", &one[..]).unwrap();
        let whole = whole.into_inner().unwrap();
        let place = tempfile::tempdir().unwrap();
        tar::Archive::new(&whole[..]).unpack(place.path()).unwrap();
        let found = place.path().join("linux_arm64/b");
        assert_eq!(fs::read(found).unwrap(), b"a");
    }
}
