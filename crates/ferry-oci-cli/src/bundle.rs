//! Bundles: a directory with `config.json`.

use std::path::{Path, PathBuf};

use ferry_oci::runtime::Spec;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::CliError;
use crate::unknown;

/// A configuration larger than this is a mistake.
const CONFIG_MAX: u64 = 16 << 20;

/// A bundle that was read.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub path: PathBuf,
    pub spec: Spec,
    /// The configuration as it was read, for the state file.
    pub config: Box<RawValue>,
    /// What of it has no effect here.
    pub warnings: Vec<String>,
}

impl Bundle {
    /// Reads the bundle at `path`, or in the working directory.
    pub fn open(path: Option<&str>) -> Result<Bundle, CliError> {
        let given = Path::new(path.unwrap_or("."));
        let path = given.canonicalize().map_err(CliError::file("open bundle", given))?;
        let text = read_limited(&path.join("config.json"))?;
        let shown = || path.join("config.json").display().to_string();
        let json = |source| CliError::Json { path: shown(), source };
        let respelt = respelt(&text).map_err(json)?;
        let known = respelt.as_deref().unwrap_or(&text);
        let spec: Spec = serde_json::from_str(known).map_err(json)?;
        let mut warnings = unknown::warnings(known, &spec);
        let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
        warnings.extend(resources.map(ferry_runtime::cgroup::without_effect).unwrap_or_default());
        let config = RawValue::from_string(text).map_err(json)?;
        Ok(Bundle { path, spec, config, warnings })
    }

    /// Where the root file system is.
    pub fn rootfs(&self) -> Result<PathBuf, CliError> {
        let root = self.spec.root().as_ref().map(|root| root.path());
        let root = root.filter(|path| !path.as_os_str().is_empty());
        let root = root.ok_or_else(|| CliError::other("config.json: root.path is missing"))?;
        let whole = self.path.join(root);
        let found = whole.canonicalize().map_err(CliError::file("invalid rootfs", &whole))?;
        if found.is_dir() {
            Ok(found)
        } else {
            Err(CliError::other(format!("rootfs ({}) is not a directory", whole.display())))
        }
    }
}

/// Names of the specification, and what the types call them.
const SPELLINGS: [(&str, &str); 2] = [("enableCMT", "enableCmt"), ("enableMBM", "enableMbm")];

/// The configuration with every name as the types have it; `None` where it is so already.
fn respelt(text: &str) -> Result<Option<String>, serde_json::Error> {
    if !SPELLINGS.iter().any(|(name, _)| text.contains(name)) {
        return Ok(None);
    }
    let mut whole: Value = serde_json::from_str(text)?;
    let Some(fields) = whole.pointer_mut("/linux/intelRdt").and_then(Value::as_object_mut) else {
        return Ok(None);
    };
    for (name, known) in SPELLINGS {
        if let Some(value) = fields.remove(name) {
            fields.insert(known.to_owned(), value);
        }
    }
    Ok(Some(whole.to_string()))
}

fn read_limited(path: &Path) -> Result<String, CliError> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(CliError::other(format!("JSON specification file {} not found", path.display())));
        }
        Err(error) => return Err(CliError::file("read", path)(error)),
    };
    if metadata.len() > CONFIG_MAX {
        return Err(CliError::other(format!("{} is larger than {CONFIG_MAX} bytes", path.display())));
    }
    std::fs::read_to_string(path).map_err(CliError::file("read", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specification_s_spelling_is_read() {
        let text = r#"{"linux": {"intelRdt": {"closID": "a", "enableCMT": true}}, "process": {"args": ["enableCMT"]}}"#;
        let found: Value =
            serde_json::from_str(&respelt(text).expect("JSON").expect("changed")).expect("JSON");
        assert_eq!(found["linux"]["intelRdt"]["enableCmt"], true);
        assert_eq!(found["process"]["args"][0], "enableCMT");
        assert_eq!(respelt("{}").expect("JSON"), None);
    }
}
