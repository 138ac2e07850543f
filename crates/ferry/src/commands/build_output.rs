//! `--output`: where the result of a build is to go, as buildx writes it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::failure::Failure;

/// Where a result goes beside the images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Export {
    /// The image stays in the store, which is always done; under these names too.
    Image(Vec<String>),
    /// The files, into a folder; of each platform into one of its own where that is wanted.
    Folder(PathBuf, Option<bool>),
    /// The files, as a tar; `-` is stdout.
    Tar(PathBuf, Option<bool>),
    /// The image as an archive that `load` reads, which is an OCI layout too.
    Archive(Archive),
    /// A registry.
    Registry(Push),
}

/// An archive of the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Archive {
    /// Its place; `-` is stdout.
    pub place: PathBuf,
    /// Not as one file, but as a folder.
    pub unpacked: bool,
    /// Names to be given to the image.
    pub names: Vec<String>,
}

/// A push.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Push {
    /// Under which names.
    pub names: Vec<String>,
    /// Without a tag.
    pub by_digest: bool,
    /// How the layers are to be packed.
    pub compression: String,
    /// How hard.
    pub level: String,
}

/// What buildx takes and what changes nothing here: times are always rewritten, documents are OCI's, and the image is
/// always unpacked.
const WITHOUT_EFFECT: [&str; 9] = [
    "buildinfo",
    "dangling-name-prefix",
    "force-compression",
    "name-canonical",
    "oci-artifact",
    "oci-mediatypes",
    "rewrite-timestamp",
    "store",
    "unpack",
];

impl Export {
    /// Reads all of `--output`, and `--push`.
    pub fn all(outputs: &[String], push: bool, tags: &[String]) -> Result<Vec<Self>, Failure> {
        let mut exports = outputs.iter().map(|text| Self::parse(text)).collect::<Result<Vec<_>, _>>()?;
        if push {
            exports.push(Self::Registry(Push::default()));
        }
        for export in &mut exports {
            if let Self::Registry(push) = export
                && push.names.is_empty()
            {
                if tags.is_empty() {
                    return Err(Failure::new("a name is needed to push the image").hint("give it with -t"));
                }
                push.names.extend_from_slice(tags);
            }
        }
        Ok(exports)
    }

    /// The files alone, and no image.
    pub fn is_files(&self) -> bool {
        matches!(self, Self::Folder(..) | Self::Tar(..))
    }

    /// Reads `--output`.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        if text == "-" {
            return Ok(Self::Tar("-".into(), None));
        }
        if !text.contains('=') {
            return Ok(Self::Folder(text.into(), None));
        }
        let refuse = |reason: &str| Failure::new(format!("invalid --output {text:?}: {reason}"));
        let mut fields = BTreeMap::new();
        for field in split(text).map_err(refuse)? {
            let (name, value) = field
                .split_once('=')
                .ok_or_else(|| refuse(&format!("{field:?} is not of the form name=value")))?;
            fields.insert(name.trim().to_lowercase(), value.to_owned());
        }
        let export = Self::of(&mut fields, &refuse)?;
        fields.retain(|name, _| !WITHOUT_EFFECT.contains(&name.as_str()) && !name.starts_with("annotation"));
        match fields.keys().next() {
            None => Ok(export),
            Some(unknown) => Err(refuse(&format!("{unknown:?} is not known for this type"))),
        }
    }

    /// Takes what belongs to the type out of the fields.
    fn of(fields: &mut BTreeMap<String, String>, refuse: &dyn Fn(&str) -> Failure) -> Result<Self, Failure> {
        let kind = fields.remove("type").unwrap_or_else(|| "local".to_owned());
        let dest = fields.remove("dest").map(PathBuf::from);
        let has_place = dest.is_some();
        let place = || dest.ok_or_else(|| refuse("there is no dest="));
        match kind.as_str() {
            "local" => Ok(Self::Folder(place()?, flag(fields, "platform-split", refuse)?)),
            "tar" => Ok(Self::Tar(place()?, flag(fields, "platform-split", refuse)?)),
            "docker" if !has_place => Ok(Self::Image(names(fields))),
            "oci" | "docker" => Ok(Self::Archive(Archive {
                place: place()?,
                unpacked: flag(fields, "tar", refuse)? == Some(false),
                names: names(fields),
            })),
            "image" | "registry" => {
                let pushed = flag(fields, "push", refuse)?.unwrap_or(kind == "registry");
                let push = Push {
                    names: names(fields),
                    by_digest: flag(fields, "push-by-digest", refuse)?.unwrap_or(false),
                    compression: fields.remove("compression").unwrap_or_default(),
                    level: fields.remove("compression-level").unwrap_or_default(),
                };
                Ok(if pushed { Self::Registry(push) } else { Self::Image(push.names) })
            }
            other => {
                Err(refuse(&format!("type {other:?} is none of local, tar, oci, docker, image, registry")))
            }
        }
    }
}

fn names(fields: &mut BTreeMap<String, String>) -> Vec<String> {
    let all = fields.remove("name").unwrap_or_default();
    all.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn flag(
    fields: &mut BTreeMap<String, String>,
    name: &str,
    refuse: &dyn Fn(&str) -> Failure,
) -> Result<Option<bool>, Failure> {
    match fields.remove(name).as_deref() {
        None => Ok(None),
        Some("true" | "1") => Ok(Some(true)),
        Some("false" | "0") => Ok(Some(false)),
        Some(other) => Err(refuse(&format!("{name}={other} is neither true nor false"))),
    }
}

/// The fields of one line of CSV: those in double quotes may hold commas.
pub fn split(text: &str) -> Result<Vec<String>, &'static str> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let field = match rest.strip_prefix('"') {
            None => {
                let (field, behind) = rest.split_once(',').map_or((rest, None), |(a, b)| (a, Some(b)));
                rest = behind.unwrap_or_default();
                fields.push(field.to_owned());
                match behind {
                    Some(_) => continue,
                    None => return Ok(fields),
                }
            }
            Some(quoted) => quoted,
        };
        let (value, behind) = unquote(field).ok_or("a quote is not closed")?;
        fields.push(value);
        match behind.strip_prefix(',') {
            Some(next) => rest = next,
            None if behind.is_empty() => return Ok(fields),
            None => return Err("there is something behind a closing quote"),
        }
    }
}

/// What stands before the closing quote, doubled ones made single, and what stands behind it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text;
    loop {
        let (before, behind) = rest.split_once('"')?;
        value.push_str(before);
        match behind.strip_prefix('"') {
            Some(next) => {
                value.push('"');
                rest = next;
            }
            None => return Some((value, behind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read() {
        let archive = |place: &str| Archive { place: place.into(), ..Archive::default() };
        for (text, wanted) in [
            ("out", Export::Folder("out".into(), None)),
            ("-", Export::Tar("-".into(), None)),
            ("type=local,dest=x", Export::Folder("x".into(), None)),
            ("type=local,dest=x,platform-split=false", Export::Folder("x".into(), Some(false))),
            ("dest=x", Export::Folder("x".into(), None)),
            ("type=tar,dest=x.tar", Export::Tar("x.tar".into(), None)),
            ("type=oci,dest=x", Export::Archive(archive("x"))),
            ("type=oci,dest=x,tar=false", Export::Archive(Archive { unpacked: true, ..archive("x") })),
            ("type=docker", Export::Image(Vec::new())),
            ("type=image,name=a/b:1,oci-mediatypes=true", Export::Image(vec!["a/b:1".into()])),
        ] {
            assert_eq!(Export::parse(text).unwrap(), wanted, "{text}");
        }
        let push = Export::parse("type=image,\"name=a,b:2\",push=true,compression=zstd,compression-level=9");
        let wanted = Push {
            names: vec!["a".into(), "b:2".into()],
            by_digest: false,
            compression: "zstd".into(),
            level: "9".into(),
        };
        assert_eq!(push.unwrap(), Export::Registry(wanted));
        for text in ["type=local", "type=moon,dest=x", "type=local,dest=x,colour=red", "type=tar,x,dest=y"] {
            assert!(Export::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn quotes_hold_commas() {
        assert_eq!(split(r#"a,"b,c","d""e",f"#).unwrap(), ["a", "b,c", "d\"e", "f"]);
        assert_eq!(split("a,").unwrap(), ["a", ""]);
        assert!(split("\"a").is_err() && split("\"a\"b").is_err());
    }
}
