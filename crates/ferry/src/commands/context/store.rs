//! Contexts as Docker's client keeps them: `contexts/meta/SHA256(NAME)/meta.json`, and certificates below
//! `contexts/tls/SHA256(NAME)/docker`. Other programs read and write the same files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use crate::failure::Failure;

/// The three files of TLS, in Docker's order.
pub const TLS_FILES: [&str; 3] = ["ca.pem", "cert.pem", "key.pem"];
/// The endpoint that contexts of Docker have.
const ENDPOINT: &str = "docker";

/// The folder of contexts.
pub struct Store {
    folder: PathBuf,
}

/// One context.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Context {
    /// Its name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Address of the engine; empty for the default one.
    pub host: String,
    /// Do not check the engine's certificate.
    pub skip_tls_verify: bool,
    /// Names and contents of its certificates.
    pub tls: Vec<(String, Vec<u8>)>,
}

impl Context {
    /// What `meta.json` holds.
    pub fn meta(&self) -> Json {
        let metadata = match self.description.as_str() {
            "" => json!({}),
            text => json!({"Description": text}),
        };
        let mut endpoint = json!({});
        if !self.host.is_empty() {
            endpoint["Host"] = self.host.as_str().into();
        }
        endpoint["SkipTLSVerify"] = self.skip_tls_verify.into();
        json!({"Name": self.name, "Metadata": metadata, "Endpoints": {ENDPOINT: endpoint}})
    }

    /// Reads what `meta.json` holds.
    pub fn from_meta(meta: &Json) -> Context {
        let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
        let endpoint = &meta["Endpoints"][ENDPOINT];
        Context {
            name: text(&meta["Name"]),
            description: text(&meta["Metadata"]["Description"]),
            host: text(&endpoint["Host"]),
            skip_tls_verify: endpoint["SkipTLSVerify"].as_bool().unwrap_or(false),
            tls: Vec::new(),
        }
    }
}

/// Refuses what is no name of a context.
pub fn check_name(name: &str) -> Result<(), Failure> {
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = name.chars().skip(1).all(|c| c.is_ascii_alphanumeric() || "_.+-".contains(c));
    match name {
        "" => Err(Failure::new("context name cannot be empty")),
        "default" => Err(Failure::new("\"default\" is a reserved context name")),
        _ if first && rest && name.chars().count() > 1 => Ok(()),
        _ => Err(Failure::new(format!(
            "context name {name:?} is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\""
        ))),
    }
}

impl Store {
    /// The contexts of this configuration folder.
    pub fn new(configuration: &Path) -> Store {
        Store { folder: configuration.join("contexts") }
    }

    /// Where the description of `name` is kept.
    pub fn meta_folder(&self, name: &str) -> PathBuf {
        self.folder.join("meta").join(hex(name))
    }

    /// Where the certificates of `name` are kept.
    pub fn tls_folder(&self, name: &str) -> PathBuf {
        self.folder.join("tls").join(hex(name))
    }

    /// All contexts that are kept, by name.
    pub fn list(&self) -> Vec<Context> {
        // No folder means no contexts.
        let entries = fs::read_dir(self.folder.join("meta")).into_iter().flatten().flatten();
        let mut found: Vec<Context> = entries.filter_map(|entry| read_meta(&entry.path()).ok()).collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// The context of this name with its certificates.
    pub fn load(&self, name: &str) -> Result<Context, Failure> {
        let folder = self.meta_folder(name);
        let mut context = read_meta(&folder).map_err(|error| {
            let path = folder.join("meta.json");
            Failure::new(format!("context {name:?}: context not found: {}: {error}", path.display()))
                .hint("'context ls' lists what there is")
        })?;
        let folder = self.tls_folder(name).join(ENDPOINT);
        for file in TLS_FILES {
            if let Ok(bytes) = fs::read(folder.join(file)) {
                context.tls.push((file.to_owned(), bytes));
            }
        }
        Ok(context)
    }

    /// Is there one of this name?
    pub fn has(&self, name: &str) -> bool {
        self.meta_folder(name).join("meta.json").exists()
    }

    /// Writes a context in place of what was there.
    pub fn save(&self, context: &Context) -> Result<(), Failure> {
        let folder = self.meta_folder(&context.name);
        fs::create_dir_all(&folder)?;
        let tls = self.tls_folder(&context.name);
        remove(&tls)?;
        if !context.tls.is_empty() {
            let tls = tls.join(ENDPOINT);
            fs::create_dir_all(&tls)?;
            for (file, bytes) in &context.tls {
                write_private(&tls.join(file), bytes)?;
            }
        }
        // The description last: a context without it is none.
        write_private(&folder.join("meta.json"), context.meta().to_string().as_bytes())?;
        Ok(())
    }

    /// Takes a context away.
    pub fn delete(&self, name: &str) -> Result<(), Failure> {
        remove(&self.meta_folder(name))?;
        Ok(remove(&self.tls_folder(name))?)
    }
}

fn read_meta(folder: &Path) -> io::Result<Context> {
    let meta: Json = serde_json::from_slice(&fs::read(folder.join("meta.json"))?)?;
    Ok(Context::from_meta(&meta))
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Keys are among what is written: only the owner reads it.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let temporary = path.with_extension(format!("new.{}", std::process::id()));
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    fs::rename(&temporary, path)
}

fn hex(name: &str) -> String {
    Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_as_docker_keeps_them() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        let context = Context {
            name: "lab".into(),
            description: "the lab's machine".into(),
            host: "tcp://10.0.0.1:2376".into(),
            skip_tls_verify: true,
            tls: vec![("ca.pem".into(), b"x".to_vec())],
        };
        store.save(&context).unwrap();
        assert_eq!(store.load("lab").unwrap(), context);
        assert_eq!(store.list(), [Context { tls: Vec::new(), ..context }]);
        store.delete("lab").unwrap();
        assert!(!store.has("lab") && store.list().is_empty());
    }

    #[test]
    fn names() {
        for (name, good) in
            [("lab", true), ("a.b+c_d-e", true), ("default", false), ("a", false), ("-x", false)]
        {
            assert_eq!(check_name(name).is_ok(), good, "{name}");
        }
    }
}
