//! Which files make up the project, in which folder it lives, and its environment.

use super::{Loader, Request};
use crate::diagnostic::Diagnostic;
use crate::environment::Environment;
use crate::files::clean;
use std::path::{Path, PathBuf};

const DEFAULT_NAMES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
const OVERRIDE_NAMES: [&str; 4] = [
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// Whether a path names a Git repository or an OCI artifact instead of a file.
pub fn is_remote(path: &str) -> bool {
    ["oci://", "git://", "file://", "https://", "http://", "ssh://", "git@", "github.com/"]
        .iter()
        .any(|prefix| path.starts_with(prefix))
}

impl Loader<'_> {
    /// Environment, Compose files and project folder.
    pub(super) fn discover(&mut self) -> Option<(Environment, Vec<PathBuf>, PathBuf)> {
        let request = self.request;
        let working_dir = clean(&request.working_dir);
        let named_dir = request.project_directory.as_ref().map(|path| clean(&working_dir.join(path)));
        let mut environment = Environment::from_process(&request.environment);
        let env_files = self.named_env_files(&environment, &working_dir);
        match &env_files {
            Some(paths) => environment.add_files(paths, self.files, &mut self.sources, &mut self.report),
            None => self.add_default_env(&mut environment, named_dir.as_deref().unwrap_or(&working_dir)),
        }
        let config_files =
            self.config_files(request, &environment, named_dir.as_deref().unwrap_or(&working_dir))?;
        let directory = match (&named_dir, config_files.first()) {
            (Some(directory), _) => directory.clone(),
            (None, Some(file)) if file != Path::new("-") => file.parent().unwrap_or(&working_dir).to_owned(),
            (None, _) => working_dir.clone(),
        };
        if env_files.is_none() {
            self.add_default_env(&mut environment, &directory);
        }
        if self.report.has_errors() {
            return None;
        }
        Some((environment, config_files, directory))
    }

    /// The env files the user names instead of the default `.env`.
    fn named_env_files(&mut self, environment: &Environment, working_dir: &Path) -> Option<Vec<PathBuf>> {
        let named: Vec<PathBuf> = if self.request.env_files.is_empty() {
            let list = environment.get("COMPOSE_ENV_FILES").filter(|list| !list.is_empty())?;
            list.split(',').map(PathBuf::from).collect()
        } else {
            self.request.env_files.clone()
        };
        let paths = named.iter().map(|path| clean(&working_dir.join(path)));
        let (present, missing): (Vec<PathBuf>, Vec<PathBuf>) =
            paths.partition(|path| self.files.exists(path));
        for path in missing {
            self.report.push(Diagnostic::error(format!("couldn't find env file: {}", path.display())));
        }
        Some(present)
    }

    fn add_default_env(&mut self, environment: &mut Environment, directory: &Path) {
        let path = directory.join(".env");
        if !environment.is_true("COMPOSE_DISABLE_ENV_FILE")
            && self.files.exists(&path)
            && !self.files.is_dir(&path)
        {
            environment.add_files(&[path], self.files, &mut self.sources, &mut self.report);
        }
    }

    fn config_files(
        &mut self,
        request: &Request,
        environment: &Environment,
        start: &Path,
    ) -> Option<Vec<PathBuf>> {
        let mut named = request.files.clone();
        let mut base = clean(&request.working_dir);
        if named.is_empty()
            && let Some(list) = environment.get("COMPOSE_FILE").filter(|list| !list.is_empty())
        {
            let separator =
                environment.get("COMPOSE_PATH_SEPARATOR").filter(|s| !s.is_empty()).unwrap_or(":");
            named = list.split(separator).filter(|path| !path.is_empty()).map(str::to_owned).collect();
            base = start.to_owned();
        }
        if named.is_empty() {
            return self.default_files(start);
        }
        let mut paths = Vec::new();
        for name in named {
            if is_remote(&name) {
                match self.fetched(&name) {
                    Ok(fetched) => paths.extend(fetched),
                    Err(diagnostic) => self.report.push(diagnostic),
                }
            } else if name == "-" {
                paths.push(PathBuf::from("-"));
            } else {
                paths.push(clean(&base.join(&name)));
            }
        }
        if self.report.has_errors() { None } else { Some(paths) }
    }

    /// The files that a remote name stands for, where it was fetched; else it is noted as wanted, since a loader that
    /// only reads does not download.
    pub(super) fn fetched(&mut self, name: &str) -> Result<Vec<PathBuf>, Diagnostic> {
        let Some(place) = self.request.remotes.get(name) else {
            self.remotes.insert(name.to_owned());
            return Err(Diagnostic::error(format!("\"{name}\" is not a local file"))
                .help("clone or download it first, then name the local path"));
        };
        if !self.files.is_dir(place) {
            return Ok(vec![place.clone()]);
        }
        let first = self.present(place, &DEFAULT_NAMES).into_iter().next().ok_or_else(|| {
            let message = format!("\"{name}\" has no Compose file");
            Diagnostic::error(message).help(format!("looked for {}", DEFAULT_NAMES.join(", ")))
        })?;
        Ok(std::iter::once(first).chain(self.present(place, &OVERRIDE_NAMES).into_iter().next()).collect())
    }

    /// The default names, in this folder or the nearest one above, with the override file beside.
    fn default_files(&mut self, start: &Path) -> Option<Vec<PathBuf>> {
        for directory in start.ancestors() {
            let candidates = self.present(directory, &DEFAULT_NAMES);
            let Some(first) = candidates.first().cloned() else { continue };
            self.warn_several(&candidates);
            let overrides = self.present(directory, &OVERRIDE_NAMES);
            self.warn_several(&overrides);
            return Some(std::iter::once(first).chain(overrides.into_iter().next()).collect());
        }
        self.no_file = true;
        self.report.push(Diagnostic::error("no configuration file provided: not found").help(format!(
            "looked for {} in {} and above",
            DEFAULT_NAMES.join(", "),
            start.display()
        )));
        None
    }

    fn present(&self, directory: &Path, names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(|name| directory.join(name)).filter(|path| self.files.exists(path)).collect()
    }

    fn warn_several(&mut self, candidates: &[PathBuf]) {
        if candidates.len() > 1 {
            let names: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
            let message = format!("found several files: {}; using {}", names.join(", "), names[0]);
            self.report.push(Diagnostic::warning(message));
        }
    }
}
