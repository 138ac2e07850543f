//! What a Compose command works with: the flags, the project, the engine, the progress.

use super::progress::Printer;
use super::{Called, Globals, remote, warn};
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use ferry_compose::apply::{ApplyError, Engine};
use ferry_compose::files::HostFiles;
use ferry_compose::found::FoundContainer;
use ferry_compose::loader::{LoadError, Loaded, Request, Steps, load};
use ferry_compose::project::Project;
use ferry_compose::target::Target;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One run of a Compose command.
pub struct Compose {
    /// How it was called.
    pub called: Called,
    /// The engine, the configuration file.
    pub session: Session,
    /// Flags before the command.
    pub globals: Globals,
}

impl Compose {
    /// Puts it together.
    pub fn new(called: Called, session: Session, globals: Globals) -> Self {
        Compose { called, session, globals }
    }

    /// A variable of the environment that is set to something.
    pub fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }

    /// `-`, or `_` in compatibility mode.
    pub fn separator(&self) -> char {
        let from_environment =
            self.variable("COMPOSE_COMPATIBILITY").is_some_and(|value| value == "1" || value == "true");
        if self.globals.compatibility || from_environment { '_' } else { '-' }
    }

    /// What to load, for the named services.
    pub fn request(&self, services: &[String]) -> Result<Request, Failure> {
        let working_dir = std::env::current_dir()
            .map_err(|error| Failure::from(error).context("cannot tell the working directory"))?;
        let stdin = if self.globals.file.iter().any(|file| file == "-") { Some(read_stdin()?) } else { None };
        let directory = self.globals.project_directory.as_ref().or(self.globals.workdir.as_ref());
        Ok(Request {
            working_dir,
            files: self.globals.file.clone(),
            stdin,
            env_files: self.globals.env_file.iter().map(PathBuf::from).collect(),
            project_name: self.globals.project_name.clone(),
            project_directory: directory.map(PathBuf::from),
            profiles: self.globals.profile.clone(),
            services: services.to_vec(),
            environment: process_environment(),
            all_resources: self.globals.all_resources,
            steps: Steps::default(),
            remotes: BTreeMap::new(),
        })
    }

    /// Loads the project; prints warnings, and errors where there are some.
    pub fn load(&self, services: &[String]) -> Result<Loaded, Failure> {
        let request = self.request(services)?;
        self.load_request(&request)
    }

    /// Loads what a request describes.
    pub fn load_request(&self, request: &Request) -> Result<Loaded, Failure> {
        match self.load_fetched(request)? {
            Ok(loaded) => {
                for warning in loaded.report.warnings() {
                    let place = warning.origin.map(|origin| format!("{}: ", loaded.sources.describe(origin)));
                    warn(&format!("{}{}", place.unwrap_or_default(), warning.message));
                }
                Ok(loaded)
            }
            Err(error) => Err(load_failure(&error)),
        }
    }

    /// Loads, and again after each fetch of files that are in repositories and on registries: those may include more.
    fn load_fetched(&self, request: &Request) -> Result<Result<Loaded, Box<LoadError>>, Failure> {
        let mut request = request.clone();
        loop {
            match load(&request, &HostFiles) {
                Err(error) if !error.remotes.is_empty() => {
                    for name in error.remotes {
                        let place = remote::fetch(self, &name)?;
                        request.remotes.insert(name, place);
                    }
                }
                loaded => return Ok(loaded),
            }
        }
    }

    /// The project, typed, all services.
    pub fn target(&self, services: &[String]) -> Result<Target, Failure> {
        let loaded = self.load(services)?;
        Target::new(loaded.project, self.separator()).map_err(|error| Failure::from_error(&error))
    }

    /// For commands on existing containers: the project where its file is there, else what `-p` names.
    pub fn target_or_name(&self, services: &[String]) -> Result<Target, Failure> {
        let request = self.request(services)?;
        let name = self.globals.project_name.clone().or_else(|| self.variable("COMPOSE_PROJECT_NAME"));
        let project = match (self.load_fetched(&request)?, name) {
            (Ok(loaded), _) => loaded.project,
            (Err(error), Some(name)) if error.no_file => Project::without_files(&name, request.working_dir),
            (Err(error), _) => return Err(load_failure(&error)),
        };
        Target::new(project, self.separator()).map_err(|error| Failure::from_error(&error))
    }

    /// The engine for a project, its API version agreed.
    pub async fn engine(&self, project: &str) -> Result<Engine, Failure> {
        let client = self.session.engine().await?;
        client.negotiate().await?;
        Ok(Engine::new(client.clone(), project))
    }

    /// The progress printer the flags ask for; `title` heads the live table.
    pub fn progress(&self, title: &str) -> Printer {
        let word = self.globals.progress.clone().or_else(|| self.variable("COMPOSE_PROGRESS"));
        let ansi = self.globals.ansi.clone().or_else(|| self.variable("COMPOSE_ANSI"));
        let no_ansi = self.globals.no_ansi || ansi.as_deref() == Some("never");
        let style = word.as_deref().unwrap_or("auto");
        Printer::new(title, style, no_ansi, ansi.as_deref() == Some("always")).dry(self.globals.dry_run)
    }

    /// Whether colour may be used on stdout.
    pub fn colours(&self) -> bool {
        let ansi = self.globals.ansi.clone().or_else(|| self.variable("COMPOSE_ANSI"));
        match ansi.as_deref() {
            Some("always") => true,
            Some("never") => false,
            _ => !self.globals.no_ansi && self.variable("NO_COLOR").is_none() && output::stdout_is_terminal(),
        }
    }

    /// Checks that services exist: in the file, or as containers.
    pub fn check_services(
        &self,
        target: &Target,
        containers: &[FoundContainer],
        names: &[String],
    ) -> Result<(), Failure> {
        for name in names {
            if target.services.contains_key(name)
                || containers.iter().any(|container| container.service == *name)
            {
                continue;
            }
            let failure = Failure::new(format!("no such service: {name}"));
            if let Some(container) = containers.iter().find(|container| container.name == *name) {
                return Err(failure
                    .hint(format!("\"{name}\" is a container; its service is \"{}\"", container.service)));
            }
            let known = target.services.keys().map(String::as_str);
            return Err(match ferry_compose::diagnostic::nearest(name, known) {
                Some(close) => failure.hint(format!("did you mean \"{close}\"?")),
                None => failure,
            });
        }
        Ok(())
    }
}

fn load_failure(error: &LoadError) -> Failure {
    output::note(error.report.render(&error.sources).trim_end());
    Failure::silent(1)
}

/// Variables that are text; others cannot stand in a Compose file.
fn process_environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn read_stdin() -> Result<String, Failure> {
    use std::io::Read as _;
    let mut text = String::new();
    let limit = ferry_compose::files::MAX_FILE_BYTES;
    std::io::stdin().take(limit + 1).read_to_string(&mut text)?;
    if text.len() as u64 > limit {
        return Err(Failure::new(format!(
            "the Compose file on standard input is larger than {} MiB",
            limit >> 20
        )));
    }
    Ok(text)
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Failure {
        let failure = match &error {
            ApplyError::Interrupted => return Failure::silent(130),
            // The error itself is the last thing on the screen, what led to it stands above.
            ApplyError::Container(report) if !report.details().is_empty() => {
                output::note(report.details().trim_end());
                Failure::from_error(&error)
            }
            _ => Failure::from_error(&error),
        };
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<ferry_compose::plan::PlanError> for Failure {
    fn from(error: ferry_compose::plan::PlanError) -> Failure {
        ApplyError::from(error).into()
    }
}

/// The container of a service by its index: the first one where none is given.
pub fn pick<'c>(
    containers: &'c [FoundContainer],
    service: &str,
    index: i64,
) -> Result<&'c FoundContainer, Failure> {
    let mut of_service = containers.iter().filter(|c| c.service == service && !c.oneoff && !c.hook);
    let found = match u32::try_from(index).unwrap_or(0) {
        0 => of_service.clone().find(|c| c.status.is_up()).or_else(|| of_service.next()),
        number => of_service.find(|c| c.number == Some(number)),
    };
    found.ok_or_else(|| match index {
        0 => Failure::new(format!("service \"{service}\" has no container"))
            .hint("bring the project up first: compose up -d"),
        index => Failure::new(format!("service \"{service}\" has no container with index {index}")),
    })
}
