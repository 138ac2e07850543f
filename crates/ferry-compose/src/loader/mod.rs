//! From files and environment to a project: a pure function with diagnostics.
//!
//! Owns the order of the steps (parse, interpolate, include, canonical form, paths, extends, merge, schema,
//! normal form, checks, env files). Reads only through [`Files`]; starts nothing, asks no engine.

mod discover;
mod environment_files;
mod extends;
mod include;
mod normalize;
mod paths;
mod profiles;
#[cfg(test)]
mod tests;

use crate::check;
use crate::diagnostic::{Diagnostic, Report};
use crate::environment::{Environment, read_text};
use crate::files::Files;
use crate::interpolate::{self, Variable};
use crate::merge::{Tags, deduplicate, merge, strip_tags};
use crate::project::{Layer, Project};
use crate::project_name;
use crate::source::{FileId, Sources};
use crate::tree::{Mapping, Node};
use crate::{canonical, repair, schema, yaml};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

pub use discover::is_remote;

/// Which steps run; all of them unless a flag of `config` takes one out.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    /// Fill variables in.
    pub interpolate: bool,
    /// Add defaults, implicit networks, dependencies and names.
    pub normalize: bool,
    /// Make paths absolute.
    pub resolve_paths: bool,
    /// Read `env_file` and `label_file`.
    pub resolve_environment: bool,
    /// Check that everything referred to exists.
    pub check: bool,
}

impl Default for Steps {
    fn default() -> Self {
        Steps {
            interpolate: true,
            normalize: true,
            resolve_paths: true,
            resolve_environment: true,
            check: true,
        }
    }
}

/// What to load.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The folder the user stands in.
    pub working_dir: PathBuf,
    /// `-f` values; `-` is standard input. Empty: COMPOSE_FILE, else the default names.
    pub files: Vec<String>,
    /// Standard input, where a file is `-`.
    pub stdin: Option<String>,
    /// `--env-file` values.
    pub env_files: Vec<PathBuf>,
    /// `-p`.
    pub project_name: Option<String>,
    /// `--project-directory`.
    pub project_directory: Option<PathBuf>,
    /// `--profile` values.
    pub profiles: Vec<String>,
    /// Services named on the command line; empty: all.
    pub services: Vec<String>,
    /// The process's environment.
    pub environment: BTreeMap<String, String>,
    /// `--all-resources`: keep networks and volumes no service uses.
    pub all_resources: bool,
    /// Which steps run.
    pub steps: Steps,
    /// What was fetched of Git and registries: for each name the Compose file, or the folder it is looked for in.
    pub remotes: BTreeMap<String, PathBuf>,
}

/// A project, the texts it came from and what is worth a warning.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The project.
    pub project: Project,
    /// The texts diagnostics point into.
    pub sources: Sources,
    /// Warnings.
    pub report: Report,
    /// Whether a service extends one of another file.
    pub extends_files: bool,
}

/// Why nothing was loaded.
#[derive(Clone, Debug)]
pub struct LoadError {
    /// Errors, and warnings found before them.
    pub report: Report,
    /// The texts they point into.
    pub sources: Sources,
    /// No Compose file was found at all.
    pub no_file: bool,
    /// Names of Git repositories and OCI artifacts that must be fetched first ([`Request::remotes`]).
    pub remotes: BTreeSet<String>,
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.report.render(&self.sources).trim_end())
    }
}

impl std::error::Error for LoadError {}

/// Loads a project.
pub fn load(request: &Request, files: &dyn Files) -> Result<Loaded, Box<LoadError>> {
    let mut loader = Loader::new(request, files);
    let project = loader.run();
    let Loader { sources, report, no_file, remotes, extended, .. } = loader;
    let extends_files = !extended.is_empty();
    match project {
        Some(project) if !report.has_errors() => Ok(Loaded { project, sources, report, extends_files }),
        _ => Err(Box::new(LoadError { report, sources, no_file, remotes })),
    }
}

pub(crate) struct Loader<'a> {
    request: &'a Request,
    files: &'a dyn Files,
    sources: Sources,
    report: Report,
    layers: Vec<Layer>,
    variables: BTreeSet<Variable>,
    extended: HashMap<PathBuf, Node>,
    no_file: bool,
    remotes: BTreeSet<String>,
}

/// One document of a file, as it was parsed.
struct Document {
    file: FileId,
    node: Node,
}

impl<'a> Loader<'a> {
    fn new(request: &'a Request, files: &'a dyn Files) -> Self {
        Loader {
            request,
            files,
            sources: Sources::default(),
            report: Report::default(),
            layers: Vec::new(),
            variables: BTreeSet::new(),
            extended: HashMap::new(),
            no_file: false,
            remotes: BTreeSet::new(),
        }
    }

    fn run(&mut self) -> Option<Project> {
        let (mut environment, config_files, directory) = self.discover()?;
        let documents = self.read_documents(&config_files);
        if self.report.has_errors() {
            return None;
        }
        if documents.is_empty() {
            self.report.push(Diagnostic::error("empty compose file"));
            return None;
        }
        let name = self.project_name(&documents, &environment, &directory)?;
        environment.set_derived("COMPOSE_PROJECT_NAME", &name);
        let mut root = self.merge_documents(documents, &directory, &environment, &mut Vec::new());
        strip_tags(&mut root);
        self.note_version(&mut root);
        schema::validate(&root, &mut self.report);
        if self.report.has_errors() {
            self.explain_damage();
            return None;
        }
        self.finish(root, name, directory, config_files, environment)
    }

    /// From the merged, valid tree to the project.
    fn finish(
        &mut self,
        mut root: Node,
        name: String,
        directory: PathBuf,
        config_files: Vec<PathBuf>,
        environment: Environment,
    ) -> Option<Project> {
        let steps = self.request.steps;
        if steps.normalize {
            normalize::normalize(&mut root, &name, &environment, &directory);
        }
        let profiles = profiles::active(self.request, &environment);
        let disabled = profiles::split(&mut root, &profiles, &self.request.services);
        if steps.check {
            check::check(&root, &disabled, &mut self.report);
        }
        if steps.check && steps.interpolate {
            check::check_types(&root, &mut self.report);
        }
        if self.report.has_errors() {
            return None;
        }
        if steps.resolve_environment {
            environment_files::resolve(self, &mut root, &environment);
        }
        if steps.normalize && !self.request.all_resources {
            profiles::prune_resources(&mut root);
        }
        if self.report.has_errors() {
            return None;
        }
        Some(Project {
            name,
            directory,
            config_files,
            env_files: self
                .request
                .env_files
                .iter()
                .map(|path| self.request.working_dir.join(path))
                .collect(),
            environment,
            profiles,
            tree: root,
            disabled,
            layers: std::mem::take(&mut self.layers),
            variables: std::mem::take(&mut self.variables),
        })
    }

    /// Reads every file and parses its documents.
    fn read_documents(&mut self, paths: &[PathBuf]) -> Vec<Document> {
        let mut documents = Vec::new();
        for path in paths {
            let text = match self.request.stdin.as_deref() {
                Some(stdin) if path == Path::new("-") => Ok(stdin.to_owned()),
                _ => read_text(path, self.files),
            };
            match text {
                Ok(text) => documents.extend(self.parse(path, text)),
                Err(diagnostic) => self.report.push(*diagnostic),
            }
        }
        documents
    }

    fn parse(&mut self, path: &Path, text: String) -> Vec<Document> {
        let file = self.sources.add(path, text);
        let text = self.sources.text(file).to_owned();
        let mut report = Report::default();
        let nodes = yaml::parse(file, &text, &mut report);
        if report.has_errors()
            && let Some(better) = repair::explain(file, &text)
        {
            report.diagnostics.clear();
            report.push(better);
        }
        report.diagnostics.into_iter().for_each(|diagnostic| self.report.push(diagnostic));
        nodes.into_iter().map(|node| Document { file, node }).collect()
    }

    /// When the schema refuses a file that was damaged on its way, the damage is the one thing to say.
    fn explain_damage(&mut self) {
        let places: Vec<FileId> =
            self.report.diagnostics.iter().filter_map(|d| d.origin).map(|o| o.file).collect();
        for file in places {
            if let Some(better) = repair::explain(file, self.sources.text(file)) {
                self.report.diagnostics.clear();
                self.report.push(better);
                return;
            }
        }
    }

    fn project_name(
        &mut self,
        documents: &[Document],
        environment: &Environment,
        directory: &Path,
    ) -> Option<String> {
        let explicit =
            self.request.project_name.as_deref().or_else(|| environment.get("COMPOSE_PROJECT_NAME"));
        if let Some(name) = explicit.filter(|name| !name.is_empty()) {
            if !project_name::is_valid(name) {
                self.report.push(Diagnostic::error(project_name::invalid(name)));
                return None;
            }
            return Some(name.to_owned());
        }
        if let Some(node) = documents.iter().rev().find_map(|document| document.node.get("name")) {
            let lookup = |name: &str| environment.get(name).map(str::to_owned);
            let name = match interpolate::substitute(node.as_str().unwrap_or_default(), &lookup, &mut |_| {})
            {
                Ok(name) => name,
                Err(error) => {
                    self.report.push(Diagnostic::error(format!("name: {error}")).at(node.origin));
                    return None;
                }
            };
            // A name in a file is made to fit, one on the command line must.
            let fitting = project_name::normalize(&name);
            if !name.is_empty() && fitting.is_empty() {
                self.report.push(Diagnostic::error(project_name::invalid(&name)).at(node.origin));
                return None;
            }
            if !fitting.is_empty() {
                return Some(fitting);
            }
        }
        let folder =
            directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = project_name::normalize(&folder);
        if name.is_empty() {
            let message = format!("the folder name \"{folder}\" gives no project name");
            self.report.push(Diagnostic::error(message).help("name the project: -p NAME"));
            return None;
        }
        Some(name)
    }

    /// Brings every document to its canonical form and lays each on those before it.
    fn merge_documents(
        &mut self,
        documents: Vec<Document>,
        directory: &Path,
        environment: &Environment,
        including: &mut Vec<PathBuf>,
    ) -> Node {
        let mut merged: Option<Node> = None;
        for document in documents {
            let Some(node) = self.document(document, directory, environment, including, merged.as_ref())
            else {
                continue;
            };
            merged = Some(match merged {
                Some(base) => merge(base, node, Tags::Drop),
                None => merge(Node::derived(Mapping::new()), node, Tags::Drop),
            });
        }
        let mut root = merged.unwrap_or_else(|| Node::derived(Mapping::new()));
        deduplicate(&mut root);
        root
    }

    fn document(
        &mut self,
        document: Document,
        directory: &Path,
        environment: &Environment,
        including: &mut Vec<PathBuf>,
        before: Option<&Node>,
    ) -> Option<Node> {
        let Document { file, mut node } = document;
        if node.as_mapping().is_none() {
            let message = format!("a Compose file is a mapping, this one is {}", node.type_name());
            let diagnostic = Diagnostic::error(message).at(node.origin);
            self.report.push(match repair::explain(file, self.sources.text(file)) {
                Some(better) => better,
                None => diagnostic,
            });
            return None;
        }
        self.prepare(&mut node, directory, environment);
        let includes = node.as_mapping_mut().and_then(|mapping| mapping.shift_remove("include"));
        extends::apply(self, &mut node, before, directory, environment);
        self.layers.push(Layer { path: self.sources.path(file).to_owned(), tree: node.clone() });
        match includes {
            Some(includes) => {
                let included = include::load(self, &includes, directory, environment, including)?;
                Some(merge(included, node, Tags::Keep))
            }
            None => Some(node),
        }
    }

    /// The steps of one tree that need nothing but itself.
    fn prepare(&mut self, node: &mut Node, directory: &Path, environment: &Environment) {
        let steps = self.request.steps;
        interpolate::tree_variables(node, &mut self.variables);
        if steps.interpolate {
            let lookup = |name: &str| environment.get(name).map(str::to_owned);
            interpolate::interpolate(node, &lookup, &mut self.report);
        }
        canonical::canonicalize(node, !steps.interpolate, &mut self.report);
        if steps.resolve_paths {
            paths::resolve(node, directory, environment.get("HOME"));
        }
    }

    fn note_version(&mut self, root: &mut Node) {
        let Some(mapping) = root.as_mapping_mut() else { return };
        let Some(version) = mapping.get("version") else { return };
        // A number there is a mistake the schema explains.
        if version.as_str().is_none() {
            return;
        }
        let warning =
            Diagnostic::warning("the key \"version\" is obsolete and ignored").at(version.key).width(7);
        mapping.shift_remove("version");
        self.report.push(warning);
    }
}
