//! `context export` and `import`: a context as a tar archive, as Docker's client writes and reads it.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use serde_json::Value as Json;

use super::store::{Context, Store, check_name};
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::session::Session;

/// Largest archive that is read: a description and three certificates are some kilobytes.
const ARCHIVE_MAX: u64 = 10 << 20;

/// Runs `context export`.
pub async fn export(session: &Session, _flags: crate::flags::NoFlags, arguments: Vec<String>) -> Outcome {
    let name = &arguments[0];
    check_name(name)?;
    let context = Store::new(&session.config().directory).load(name)?;
    let archive = pack(&context)?;
    let default = format!("{name}.dockercontext");
    match arguments.get(1).map_or(default.as_str(), String::as_str) {
        "-" if std::io::stdout().is_terminal() => {
            Err(Failure::new("cowardly refusing to export to a terminal, specify a file path"))
        }
        "-" => {
            output::write(&archive)?;
            Ok(0)
        }
        path => {
            // Keys are among it: only the owner reads it, and nothing that is there is lost.
            use std::os::unix::fs::OpenOptionsExt as _;
            let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            let mut file =
                opened.map_err(|error| Failure::from(error).context(&format!("cannot write {path}")))?;
            file.write_all(&archive)?;
            output::note(&format!("Written file {path:?}"));
            Ok(0)
        }
    }
}

/// Runs `context import`.
pub async fn import(session: &Session, _flags: crate::flags::NoFlags, arguments: Vec<String>) -> Outcome {
    let (name, path) = (&arguments[0], &arguments[1]);
    check_name(name)?;
    let store = Store::new(&session.config().directory);
    if store.has(name) {
        return Err(Failure::new(format!("context {name:?} already exists")));
    }
    let mut bytes = Vec::new();
    let failed = |error: std::io::Error| Failure::from(error).context(&format!("cannot read {path}"));
    match path.as_str() {
        "-" => std::io::stdin().lock().take(ARCHIVE_MAX).read_to_end(&mut bytes),
        path => std::fs::File::open(path).and_then(|file| file.take(ARCHIVE_MAX).read_to_end(&mut bytes)),
    }
    .map_err(failed)?;
    let context = Context { name: name.clone(), ..unpack(&bytes)? };
    store.save(&context)?;
    output::line(name)?;
    output::note(&format!("Successfully imported context {name:?}"));
    Ok(0)
}

fn pack(context: &Context) -> Result<Vec<u8>, Failure> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, bytes)
    };
    add("meta.json", context.meta().to_string().as_bytes())?;
    for (file, bytes) in &context.tls {
        add(&format!("tls/docker/{file}"), bytes)?;
    }
    Ok(archive.into_inner()?)
}

fn unpack(bytes: &[u8]) -> Result<Context, Failure> {
    if bytes.starts_with(b"PK") {
        return Err(Failure::new("the context is a zip archive; only tar archives are read")
            .hint("export it again with 'docker context export NAME FILE'"));
    }
    let broken = |error: std::io::Error| Failure::from(error).context("the context's archive cannot be read");
    let mut archive = tar::Archive::new(bytes);
    let (mut meta, mut tls) = (None, Vec::new());
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.into_owned();
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(broken)?;
        if path == Path::new("meta.json") {
            meta =
                Some(serde_json::from_slice::<Json>(&content).map_err(|error| Failure::from_error(&error))?);
        } else if let (Ok(file), true) = (path.strip_prefix("tls/docker"), path.components().count() == 3) {
            tls.push((file.to_string_lossy().into_owned(), content));
        }
    }
    let meta = meta.ok_or_else(|| Failure::new("unexpected context file: there is no meta.json in it"))?;
    Ok(Context { tls, ..Context::from_meta(&meta) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_and_unpacked() {
        let context = Context {
            name: "lab".into(),
            host: "ssh://ann@lab".into(),
            tls: vec![("key.pem".into(), b"secret".to_vec())],
            ..Context::default()
        };
        assert_eq!(unpack(&pack(&context).unwrap()).unwrap(), context);
        assert!(unpack(b"").is_err() && unpack(b"PK\x03\x04").is_err());
    }
}
