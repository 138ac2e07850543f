//! Bundles: a directory with `config.json`.

use std::path::{Path, PathBuf};

use ferry_oci::runtime::Spec;
use serde_json::value::RawValue;

use crate::error::CliError;

/// A configuration larger than this is a mistake.
const CONFIG_MAX: u64 = 16 << 20;

/// A bundle that was read.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub path: PathBuf,
    pub spec: Spec,
    /// The configuration as it was read, for the state file.
    pub config: Box<RawValue>,
}

impl Bundle {
    /// Reads the bundle at `path`, or in the working directory.
    pub fn open(path: Option<&str>) -> Result<Bundle, CliError> {
        let given = Path::new(path.unwrap_or("."));
        let path = given.canonicalize().map_err(CliError::file("open bundle", given))?;
        let text = read_limited(&path.join("config.json"))?;
        let shown = || path.join("config.json").display().to_string();
        let json = |source| CliError::Json { path: shown(), source };
        let spec: Spec = serde_json::from_str(&text).map_err(json)?;
        let config = RawValue::from_string(text).map_err(json)?;
        Ok(Bundle { path, spec, config })
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
