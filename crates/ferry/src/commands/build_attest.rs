//! `--sbom`, `--provenance` and `--attest`: what is in the result and how it came to be. The engine keeps it with the
//! image, so that pushes and archives hold it; beside exported files it lies as files.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use ferry_api::Call;
use ferry_build::sbom::{Collector, MAX_FILE};
use serde_json::{Value, json};

use super::build_export;
use super::build_screen::Built;
use super::builder::BuildFlags;
use crate::failure::Failure;
use crate::session::Session;

/// Which attestations are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The packages.
    pub sbom: bool,
    /// The build.
    pub provenance: bool,
}

impl Wanted {
    /// Reads the flags.
    pub fn parse(flags: &BuildFlags) -> Result<Self, Failure> {
        let mut wanted = Self { sbom: is_on(&flags.sbom), provenance: is_on(&flags.provenance) };
        for text in &flags.attest {
            let on = !text.split(',').any(|field| matches!(field, "disabled=true" | "disabled"));
            match text.split(',').find_map(|field| field.strip_prefix("type=")) {
                Some("sbom") => wanted.sbom = on,
                Some("provenance") => wanted.provenance = on,
                _ => {
                    return Err(Failure::new(format!("invalid --attest {text:?}"))
                        .hint("type=sbom and type=provenance are known"));
                }
            }
        }
        Ok(wanted)
    }

    /// Something is wanted.
    pub fn any(self) -> bool {
        self.sbom || self.provenance
    }

    /// Gives the engine what is wanted of the image itself, to be kept with it.
    pub async fn keep(self, session: &Session, flags: &BuildFlags, built: &Built) -> Result<(), Failure> {
        let name = flags.tag.first().map_or(built.id.as_str(), String::as_str);
        let mut claims = Vec::new();
        if self.sbom {
            let files = tempfile::NamedTempFile::new()?;
            build_export::files(session, &built.id, files.path()).await?;
            let found = collect(files.path()).map_err(unreadable)?;
            let document = found.document(name, &built.id, &built.finished);
            claims.push(json!({ "PredicateType": SPDX, "Predicate": document }));
        }
        if self.provenance {
            let statement = provenance(flags, built, name);
            claims.push(json!({ "PredicateType": SLSA, "Predicate": statement["predicate"] }));
        }
        let path = format!("/images/{}/attestations", Call::segment(&built.id));
        session.engine().await?.call(Call::post(path).json(&claims)).await?.discard().await?;
        Ok(())
    }

    /// Writes what is wanted into a folder; `archive` holds the result's files.
    pub fn write(
        self,
        flags: &BuildFlags,
        built: &Built,
        archive: &Path,
        folder: &Path,
    ) -> Result<(), Failure> {
        let name = flags.tag.first().map_or(built.id.as_str(), String::as_str);
        let mut files = Vec::new();
        if self.sbom {
            let found = collect(archive).map_err(unreadable)?;
            files.push(("sbom.spdx.json", found.document(name, &built.id, &built.finished)));
        }
        if self.provenance {
            files.push(("provenance.json", provenance(flags, built, name)));
        }
        for (file, document) in files {
            let path = folder.join(file);
            fs::write(&path, format!("{document:#}\n")).map_err(|error| {
                Failure::from_error(&error).context(&format!("cannot write {}", path.display()))
            })?;
        }
        Ok(())
    }
}

/// Kind of a list of packages.
const SPDX: &str = "https://spdx.dev/Document";
/// Kind of an account of a build.
const SLSA: &str = "https://slsa.dev/provenance/v1";

fn unreadable(error: std::io::Error) -> Failure {
    Failure::from_error(&error).context("cannot read the packages of the result")
}

fn is_on(text: &str) -> bool {
    !matches!(text, "" | "false" | "0")
}

fn collect(archive: &Path) -> std::io::Result<Collector> {
    let mut found = Collector::default();
    for entry in tar::Archive::new(fs::File::open(archive)?).entries()? {
        let entry = entry?;
        let path = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
        if entry.header().entry_type().is_file() && Collector::wants(&path) {
            let mut bytes = Vec::new();
            entry.take(MAX_FILE).read_to_end(&mut bytes)?;
            found.add(&path, &bytes);
        }
    }
    Ok(found)
}

/// SLSA's account of a build.
pub fn predicate(flags: &BuildFlags, built: &Built) -> Value {
    let mut statement = provenance(flags, built, "");
    statement["predicate"].take()
}

/// An in-toto statement with SLSA's predicate. Values of build arguments are left out: they may be secrets.
fn provenance(flags: &BuildFlags, built: &Built, name: &str) -> Value {
    let arguments: Vec<&str> =
        flags.build_arg.iter().map(|argument| argument.split('=').next().unwrap_or_default()).collect();
    let digest = |id: &str| json!({ "sha256": id.trim_start_matches("sha256:") });
    let bases: Vec<Value> = built
        .bases
        .iter()
        .map(|(name, id)| json!({ "uri": format!("pkg:docker/{name}"), "digest": digest(id) }))
        .collect();
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": name, "digest": digest(&built.id) }],
        "predicateType": SLSA,
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:ferry:dockerfile:v1",
                "externalParameters": {
                    "dockerfile": if flags.file.is_empty() { "Dockerfile" } else { &flags.file },
                    "target": flags.target,
                    "platform": flags.platform,
                    "buildArgs": arguments,
                },
                "resolvedDependencies": bases,
            },
            "runDetails": {
                "builder": { "id": concat!("urn:ferry:", env!("CARGO_PKG_VERSION")) },
                "metadata": { "finishedOn": built.finished },
            },
        },
    })
}
