//! The loader against files under `golden/`: one case each, in sections.
//!
//! A case that loads has the project that Docker Compose 2.40 makes of the same files (`config --format json`), and
//! its hashes; one that does not load has the diagnostics. Cases that differ from Docker Compose on purpose: its JSON has
//! `Path` and `Rate` in `blkio_config` (blkio), an empty `exec` in every `watch` (develop), `ssh` as a list (build-ssh),
//! `mem_swappiness` as text (memory), no extensions of services (extensions), and doubled dollar signs in keys, which it
//! does not read back (interpolation-keys-not); it keeps a bind's last slash (volumes-trailing-slash) and the relative
//! path of a credential file (credential-spec); it refuses `cpu_rt_runtime: 400ms` (cpu-rt-duration), and takes what the
//! engine refuses later (error-external-and-driver, error-restart, error-start-interval). `UPDATE_EXPECT=1` writes what is found into the
//! sections; what changed is to be read before it is committed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use ferry_compose::files::MemoryFiles;
use ferry_compose::loader::{Request, load};
use ferry_compose::{docker_hash, output};
use serde_json::Value;

/// Sections that are no files of the project.
const OWN: [&str; 4] = ["environment", "expected", "hashes", "diagnostics"];

/// A case: its sections in order.
struct Case {
    path: PathBuf,
    sections: Vec<(String, String)>,
}

impl Case {
    fn read(path: PathBuf) -> Case {
        let text = std::fs::read_to_string(&path).expect("a case is readable");
        let mut sections: Vec<(String, String)> = Vec::new();
        for line in text.split_inclusive('\n') {
            match line.trim_end().strip_prefix("-- ").and_then(|rest| rest.strip_suffix(" --")) {
                Some(name) => sections.push((name.to_owned(), String::new())),
                None => sections.last_mut().expect("a case begins with a section").1.push_str(line),
            }
        }
        Case { path, sections }
    }

    fn name(&self) -> String {
        self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn section(&self, name: &str) -> Option<&str> {
        self.sections.iter().find(|(found, _)| found == name).map(|(_, text)| text.as_str())
    }

    fn files(&self) -> MemoryFiles {
        let files = self.sections.iter().filter(|(name, _)| !OWN.contains(&name.as_str()));
        MemoryFiles(
            files.map(|(name, text)| (Path::new("/app").join(name), text.clone().into_bytes())).collect(),
        )
    }

    fn environment(&self) -> BTreeMap<String, String> {
        let own = self.section("environment").unwrap_or_default();
        let always = ["HOME=/home/user", "FROM_ENV=from-env"];
        let pairs = always.into_iter().chain(own.lines()).filter_map(|line| line.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// What the loader makes of it, by section.
    fn run(&self) -> BTreeMap<&'static str, String> {
        let request =
            Request { working_dir: "/app".into(), environment: self.environment(), ..Request::default() };
        let loaded = match load(&request, &self.files()) {
            Ok(loaded) => loaded,
            Err(error) => return BTreeMap::from([("diagnostics", error.report.render(&error.sources))]),
        };
        let shown = output::presentable(&loaded.project.tree, true);
        let mut hashes = String::new();
        let mut services: Vec<_> = loaded.project.section("services").collect();
        services.sort_by_key(|(name, _)| *name);
        for (name, node) in services {
            let _ = writeln!(hashes, "{name} {}", docker_hash::service(node));
        }
        BTreeMap::from([("expected", output::to_json(&shown) + "\n"), ("hashes", hashes)])
    }

    fn differs(&self, found: &BTreeMap<&'static str, String>) -> Option<String> {
        let mut difference = String::new();
        for name in ["expected", "hashes", "diagnostics"] {
            let Some(wanted) = self.section(name) else { continue };
            let Some(got) = found.get(name) else {
                let all: Vec<&str> = found.values().map(String::as_str).collect();
                let _ = writeln!(difference, "no {name}, but\n{}", all.concat());
                continue;
            };
            let same = match name {
                "expected" => serde_json::from_str::<Value>(wanted).ok() == serde_json::from_str(got).ok(),
                _ => wanted.trim_end() == got.trim_end(),
            };
            if !same {
                let _ = writeln!(difference, "{name}: wanted\n{wanted}found\n{got}");
            }
        }
        (!difference.is_empty()).then_some(difference)
    }

    fn update(&mut self, mut found: BTreeMap<&'static str, String>) {
        if self.section("hashes").is_none() {
            found.remove("hashes");
        }
        self.sections.retain(|(name, _)| !matches!(name.as_str(), "expected" | "hashes" | "diagnostics"));
        self.sections.extend(found.into_iter().map(|(name, text)| (name.to_owned(), text)));
        let text: String = self
            .sections
            .iter()
            .map(|(name, text)| {
                format!(
                    "-- {name} --\n{text}{}",
                    if text.ends_with('\n') || text.is_empty() { "" } else { "\n" }
                )
            })
            .collect();
        std::fs::write(&self.path, text).expect("a case is writable");
    }
}

#[test]
fn every_case_loads_as_written() {
    // Cargo runs tests in their package's folder; the path of compile time may be another clone's.
    let folder = Path::new("tests/golden");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    assert!(paths.len() > 200, "only {} cases", paths.len());
    let mut differences = Vec::new();
    for path in paths {
        let mut case = Case::read(path);
        let found = case.run();
        if let Some(difference) = case.differs(&found) {
            differences.push(format!("=== {}\n{difference}", case.name()));
            if std::env::var_os("UPDATE_EXPECT").is_some() {
                case.update(found);
            }
        }
    }
    assert!(differences.is_empty(), "{} cases differ\n{}", differences.len(), differences.join("\n"));
}
