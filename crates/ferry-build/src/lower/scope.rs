//! Which variables an instruction sees, and with which values.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{LowerError, LowerErrorKind};
use super::options::LowerOptions;
use crate::dockerfile::ast::{Dockerfile, Kind, Word};
use crate::dockerfile::directive::Escape;
use crate::dockerfile::expand::{Expanded, Expander, Variables};
use ferry_oci::Platform;

/// Expands a word, with the refusal placed at it.
pub fn expand(word: &Word, escape: Escape, variables: &dyn Variables) -> Result<Expanded, LowerError> {
    Expander::new(escape).expand(&word.value, variables).map_err(|source| {
        LowerError::new(word.span, LowerErrorKind::Expand { text: word.value.clone(), source })
    })
}

/// The variables that FROM lines see, and that stages may declare again.
#[derive(Debug, Clone, Default)]
pub struct GlobalScope {
    values: BTreeMap<String, String>,
    /// ARGs before the first FROM that have no value.
    declared_unset: BTreeSet<String>,
    /// The escape character of the file.
    pub escape: Escape,
}

impl Variables for GlobalScope {
    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }
}

impl GlobalScope {
    /// Evaluates the ARGs before the first FROM, on top of the platform variables.
    pub fn new(dockerfile: &Dockerfile, options: &LowerOptions) -> Result<Self, LowerError> {
        let mut scope = Self { escape: dockerfile.directives.escape, ..Self::default() };
        scope.add_platform("TARGET", &options.platform);
        scope.add_platform("BUILD", &options.build_platform);
        let stage = options.target.clone().unwrap_or_else(|| "default".to_owned());
        scope.values.insert("TARGETSTAGE".to_owned(), stage);
        for (name, value) in &options.build_args {
            if let (true, Some(value)) = (scope.values.contains_key(name), value) {
                scope.values.insert(name.clone(), value.clone());
            }
        }
        for instruction in &dockerfile.global_args {
            let Kind::Arg(definitions) = &instruction.kind else { continue };
            for definition in definitions {
                let name = &definition.name.value;
                let value = match (options.build_args.get(name), &definition.default) {
                    (Some(Some(value)), _) => Some(value.clone()),
                    (_, Some(default)) => Some(expand(default, scope.escape, &scope)?.text),
                    (_, None) => None,
                };
                match value {
                    Some(value) => {
                        scope.values.insert(name.clone(), value);
                    }
                    None => {
                        scope.declared_unset.insert(name.clone());
                    }
                }
            }
        }
        Ok(scope)
    }

    /// All values by name.
    pub fn into_values(self) -> BTreeMap<String, String> {
        self.values
    }

    fn add_platform(&mut self, prefix: &str, platform: &Platform) {
        let mut add = |name: &str, value: String| self.values.insert(format!("{prefix}{name}"), value);
        let variant = platform.variant.clone().unwrap_or_default();
        let text = [platform.os.as_str(), &platform.architecture, &variant];
        add("PLATFORM", text.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/"));
        add("OS", platform.os.clone());
        add("OSVERSION", platform.os_version.clone().unwrap_or_default());
        add("ARCH", platform.architecture.clone());
        add("VARIANT", variant);
    }
}

/// The variables of a stage: its environment and the ARGs above the current line.
#[derive(Debug, Clone, Default)]
pub struct StageScope {
    /// Environment of the image, in order.
    pub env: Vec<(String, String)>,
    /// ARGs in scope, in order, with their values.
    pub args: Vec<(String, Option<String>)>,
}

impl Variables for StageScope {
    fn get(&self, name: &str) -> Option<&str> {
        // ENV always beats an ARG of the same name.
        self.env_value(name).or_else(|| self.arg_value(name))
    }
}

impl StageScope {
    /// The environment of a configuration.
    pub fn from_env(env: &[String]) -> Self {
        let split = |entry: &String| match entry.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (entry.clone(), String::new()),
        };
        Self { env: env.iter().map(split).collect(), args: Vec::new() }
    }

    /// The environment as a configuration holds it.
    pub fn env_entries(&self) -> Vec<String> {
        self.env.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// Sets an environment variable in its old place or at the end.
    pub fn set_env(&mut self, name: String, value: String) {
        match self.env.iter_mut().find(|(existing, _)| *existing == name) {
            Some(entry) => entry.1 = value,
            None => self.env.push((name, value)),
        }
    }

    /// Declares an ARG; a later declaration takes the place of an earlier one.
    pub fn set_arg(&mut self, name: String, value: Option<String>) {
        match self.args.iter_mut().find(|(existing, _)| *existing == name) {
            Some(entry) => entry.1 = value,
            None => self.args.push((name, value)),
        }
    }

    /// What a process sees: the environment, and behind it the ARGs that it does not hide.
    pub fn process_env(&self) -> Vec<String> {
        let args = self.args.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let hidden = args.filter(|(name, _)| self.env_value(name).is_none());
        self.env_entries().into_iter().chain(hidden.map(|(name, value)| format!("{name}={value}"))).collect()
    }

    /// The names that are set.
    pub fn names(&self) -> BTreeSet<String> {
        let args = self.args.iter().map(|(name, _)| name.clone());
        self.env.iter().map(|(name, _)| name.clone()).chain(args).collect()
    }

    /// Declared by an ARG, set or not.
    pub fn is_declared(&self, name: &str) -> bool {
        self.args.iter().any(|(arg, _)| arg == name)
    }

    fn env_value(&self, name: &str) -> Option<&str> {
        self.env.iter().find(|(existing, _)| existing == name).map(|(_, value)| value.as_str())
    }

    fn arg_value(&self, name: &str) -> Option<&str> {
        self.args.iter().find(|(existing, _)| existing == name).and_then(|(_, value)| value.as_deref())
    }
}
