//! Which rule of `develop.watch` a changed path falls under, and where it lies in the container.

use std::path::{Path, PathBuf};

use ferry_build::ignore::{Ignore, IgnoreError};
use ferry_compose::model::{Service, WatchRule};

/// One rule, ready to be asked.
pub struct Rule {
    /// Its service.
    pub service: String,
    /// What it says.
    pub rule: WatchRule,
    path: PathBuf,
    ignore: Ignore,
    include: Option<Ignore>,
}

/// Never of interest, whatever the rules say.
const NEVER: [&str; 4] = [".git", "**/*~", "**/.*.sw[a-z]", "**/.#*"];

impl Rule {
    /// Reads a rule; what the build's context leaves out is left out here too.
    pub fn new(service: &str, model: &Service, rule: &WatchRule) -> Result<Self, IgnoreError> {
        let path = PathBuf::from(&rule.path);
        let mut patterns: Vec<String> = NEVER.iter().map(|&pattern| pattern.to_owned()).collect();
        patterns.extend(of_the_context(model, &path));
        patterns.extend(rule.ignore.iter().cloned());
        let include = match rule.include.as_slice() {
            [] => None,
            patterns => Some(Ignore::compile(patterns)?),
        };
        let ignore = Ignore::compile(&patterns)?;
        Ok(Rule { service: service.to_owned(), rule: rule.clone(), path, ignore, include })
    }

    /// The path it watches.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a change of the path is for this rule.
    pub fn concerns(&self, path: &Path) -> bool {
        let Ok(inside) = path.strip_prefix(&self.path) else { return false };
        let Some(text) = inside.to_str() else { return false };
        if text.is_empty() {
            return true;
        }
        !self.ignore.is_ignored(text) && self.include.as_ref().is_none_or(|include| include.is_ignored(text))
    }

    /// Whether nothing below a folder is for this rule.
    pub fn skips(&self, folder: &Path) -> bool {
        let Some(text) = folder.strip_prefix(&self.path).ok().and_then(Path::to_str) else { return true };
        if text.is_empty() {
            return false;
        }
        let mut verdict = self.ignore.root();
        let mut end = 0;
        for part in text.split('/') {
            end += part.len();
            verdict = self.ignore.judge(&verdict, &text.as_bytes()[..end]);
            end += 1;
        }
        self.ignore.can_skip(text.as_bytes(), &verdict)
    }

    /// Where a path of the host lies in the container.
    pub fn target_of(&self, path: &Path) -> Option<PathBuf> {
        let target = Path::new(self.rule.target.as_deref()?);
        let inside = path.strip_prefix(&self.path).ok()?;
        Some(if inside.as_os_str().is_empty() { target.to_owned() } else { target.join(inside) })
    }
}

/// Patterns of the `.dockerignore` of the service's build context, where the rule's path is the context's own.
fn of_the_context(model: &Service, path: &Path) -> Vec<String> {
    let context = model.build.as_ref().map(|build| Path::new(&build.context));
    let Some(context) = context.filter(|context| *context == path) else { return Vec::new() };
    let text = std::fs::read_to_string(context.join(".dockerignore")).unwrap_or_default();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(ignore: &[&str], include: &[&str]) -> Rule {
        let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        let rule = WatchRule {
            path: "/app".to_owned(),
            action: "sync".to_owned(),
            target: Some("/srv".to_owned()),
            ignore: texts(ignore),
            include: texts(include),
            ..WatchRule::default()
        };
        Rule::new("web", &Service::default(), &rule).expect("patterns")
    }

    #[test]
    fn paths_and_targets() {
        let plain = rule(&["node_modules/", "*.log", "!keep.log"], &[]);
        for (path, concerned) in [
            ("/app/main.py", true),
            ("/app/sub/main.py", true),
            ("/app/node_modules/x", false),
            ("/app/x.log", false),
            ("/app/keep.log", true),
            ("/app/.git/index", false),
            ("/app/sub/.main.py.swp", false),
            ("/application/x", false),
        ] {
            assert_eq!(plain.concerns(Path::new(path)), concerned, "{path}");
        }
        assert_eq!(plain.target_of(Path::new("/app/sub/x")), Some("/srv/sub/x".into()));
        assert_eq!(plain.target_of(Path::new("/app")), Some("/srv".into()));
        let some = rule(&[], &["*.py"]);
        assert!(some.concerns(Path::new("/app/a.py")) && !some.concerns(Path::new("/app/a.txt")));
    }
}
