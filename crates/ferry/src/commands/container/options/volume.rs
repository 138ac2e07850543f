//! `-v`: `[source:]target[:options]`.

use std::path::{Path, PathBuf};

use ferry_api::container::{Empty, Set};

/// What the flags mount.
#[derive(Debug, Default)]
pub struct Volumes {
    /// `source:target[:options]`, as the engine takes them.
    pub binds: Vec<String>,
    /// Targets of anonymous volumes.
    pub anonymous: Set,
}

/// Reads the flags; relative sources that begin with a dot are of `directory`.
pub fn volumes(specs: &[String], directory: &Path) -> Result<Volumes, String> {
    let mut volumes = Volumes::default();
    for spec in specs {
        let invalid = |reason: &str| format!("invalid volume specification: '{spec}': {reason}");
        match spec.split_once(':') {
            None if !spec.starts_with('/') => {
                return Err(invalid("invalid mount path: the mount path must be absolute"));
            }
            None => {
                volumes.anonymous.insert(spec.clone(), Empty {});
            }
            Some(("", _)) => return Err(invalid("the source is empty (an unset variable?)")),
            Some((source, rest)) => {
                let target = rest.split(':').next().unwrap_or_default();
                if target.is_empty() {
                    return Err(invalid("the target is empty (an unset variable?)"));
                }
                if !target.starts_with('/') {
                    return Err(invalid(&format!(
                        "invalid mount path: '{target}' mount path must be absolute"
                    )));
                }
                if rest.matches(':').count() > 1 {
                    return Err(invalid("too many colons"));
                }
                volumes.binds.push(format!("{}:{rest}", absolute(source, directory)));
            }
        }
    }
    Ok(volumes)
}

/// Makes `.`, `./x` and `../x` absolute, without looking at the disk.
fn absolute(source: &str, directory: &Path) -> String {
    if !source.starts_with('.') {
        return source.to_owned();
    }
    let mut path = PathBuf::from(directory);
    for part in Path::new(source).components() {
        match part {
            std::path::Component::ParentDir => {
                path.pop();
            }
            std::path::Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    path.to_string_lossy().into_owned()
}

/// The first host path among binds that does not exist. Docker makes an empty folder of root's there, which
/// is nearly always a mistyped path.
pub fn missing_source(binds: &[String]) -> Option<&str> {
    let sources = binds.iter().filter_map(|bind| bind.split_once(':').map(|(source, _)| source));
    sources.into_iter().find(|source| source.starts_with('/') && std::fs::symlink_metadata(source).is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications() {
        let check = |spec: &str, wanted: &str| {
            let found = match volumes(&[spec.to_owned()], Path::new("/home/app")) {
                Ok(volumes) if volumes.binds.is_empty() => format!("{:?}", volumes.anonymous.keys()),
                Ok(volumes) => volumes.binds.join(" "),
                Err(reason) => format!("! {reason}"),
            };
            assert!(found.contains(wanted), "{spec}: {found}");
        };
        check("/data", "[\"/data\"]");
        check("db:/data", "db:/data");
        check("/a:/b:ro,z", "/a:/b:ro,z");
        check("./x:/b", "/home/app/x:/b");
        check("../x:/b", "/home/x:/b");
        check(".:/b", "/home/app:/b");
        check(":/b", "! invalid volume specification: ':/b': the source is empty");
        check("data", "the mount path must be absolute");
        check("/a:b", "'b' mount path must be absolute");
        check("/a:/b:ro:x", "too many colons");
        assert_eq!(
            missing_source(&["/:/x".into(), "name:/y".into(), "/no/such:/z".into()]),
            Some("/no/such")
        );
    }
}
