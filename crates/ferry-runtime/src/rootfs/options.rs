//! Mount options of the OCI runtime specification, as mount(8) spells them.
//!
//! Owns the translation to mount attributes, propagation and file system options. Pure.

use ferry_sys::mount::Attributes;

/// `MS_*` propagation types.
const PRIVATE: u64 = 1 << 18;
const SLAVE: u64 = 1 << 19;
const SHARED: u64 = 1 << 20;
const UNBINDABLE: u64 = 1 << 17;

/// The parsed options of one mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MountOptions {
    /// `bind` or `rbind` was given.
    pub bind: bool,
    /// `rbind`: with everything mounted below.
    pub recursive_bind: bool,
    /// For the mount itself.
    pub attributes: Attributes,
    /// For the mount and all below it (`rro` and its kin).
    pub recursive_attributes: Attributes,
    /// Propagation changes, in the order given; true means with all mounts below.
    pub propagation: Vec<(u64, bool)>,
    /// For the file system: names with and without value.
    pub data: Vec<(String, Option<String>)>,
    /// `ridmap`: a mapping of ids holds for the mounts below too.
    pub recursive_id_map: bool,
    /// A path inside the source that is mounted instead of all of it.
    pub subpath: Option<String>,
    /// Directories that are stacked read-only, topmost first.
    pub layers: Vec<String>,
}

/// Ferry's own option for a path inside the source; links on it cannot lead out of the source.
pub(crate) const SUBPATH: &str = "x-ferry.subpath";
/// Ferry's own option for one of the directories to be stacked, topmost first.
pub(crate) const LAYER: &str = "x-ferry.layer";

/// What one option word means.
enum Meaning {
    Nothing,
    Bind { recursive: bool },
    Attribute { set: u64, clear: u64 },
    Propagation { kind: u64, recursive: bool },
    Flag(&'static str),
    IdMap { recursive: bool },
}

impl MountOptions {
    /// Parses option words; what is no mount option is one of the file system.
    pub fn parse(words: &[String]) -> MountOptions {
        let mut options = MountOptions::default();
        for word in words {
            options.add(word);
        }
        options
    }

    fn add(&mut self, word: &str) {
        if let Some(meaning) = meaning(word) {
            match meaning {
                Meaning::Nothing => {}
                Meaning::Bind { recursive } => {
                    self.bind = true;
                    self.recursive_bind |= recursive;
                }
                Meaning::Attribute { set, clear } => change(&mut self.attributes, set, clear),
                Meaning::Propagation { kind, recursive } => self.propagation.push((kind, recursive)),
                Meaning::Flag(name) => self.data.push((name.to_owned(), None)),
                Meaning::IdMap { recursive } => self.recursive_id_map |= recursive,
            }
            return;
        }
        let recursive = word.strip_prefix('r').and_then(meaning);
        if let Some(Meaning::Attribute { set, clear }) = recursive {
            change(&mut self.recursive_attributes, set, clear);
            return;
        }
        let (name, value) = match word.split_once('=') {
            Some((SUBPATH, value)) => return self.subpath = Some(value.to_owned()),
            Some((LAYER, value)) => return self.layers.push(value.to_owned()),
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word, None),
        };
        self.data.push((name.to_owned(), value));
    }
}

fn change(attributes: &mut Attributes, set: u64, clear: u64) {
    attributes.set = (attributes.set & !clear) | set;
    attributes.clear = (attributes.clear & !set) | clear;
    if set & Attributes::ATIME_MASK != 0 || clear & Attributes::ATIME_MASK != 0 {
        // The access-time bits are one field: the kernel wants it cleared whole when it changes.
        attributes.clear |= Attributes::ATIME_MASK;
    }
}

fn meaning(word: &str) -> Option<Meaning> {
    let set = |bits| Meaning::Attribute { set: bits, clear: 0 };
    let clear = |bits| Meaning::Attribute { set: 0, clear: bits };
    let atime = |bits| Meaning::Attribute { set: bits, clear: Attributes::ATIME_MASK };
    Some(match word {
        "bind" => Meaning::Bind { recursive: false },
        "rbind" => Meaning::Bind { recursive: true },
        "ro" => set(Attributes::READ_ONLY),
        "rw" => clear(Attributes::READ_ONLY),
        "nosuid" => set(Attributes::NO_SUID),
        "suid" => clear(Attributes::NO_SUID),
        "nodev" => set(Attributes::NO_DEVICES),
        "dev" => clear(Attributes::NO_DEVICES),
        "noexec" => set(Attributes::NO_EXEC),
        "exec" => clear(Attributes::NO_EXEC),
        "nodiratime" => set(Attributes::NO_DIRATIME),
        "diratime" => clear(Attributes::NO_DIRATIME),
        "nosymfollow" => set(Attributes::NO_SYMLINKS),
        "symfollow" => clear(Attributes::NO_SYMLINKS),
        "noatime" => atime(Attributes::NO_ATIME),
        "strictatime" => atime(Attributes::STRICT_ATIME),
        // Relative access times are the field's value 0 and the kernel's default.
        "relatime" | "atime" | "norelatime" | "nostrictatime" => atime(Attributes::RELATIME),
        "private" => Meaning::Propagation { kind: PRIVATE, recursive: false },
        "rprivate" => Meaning::Propagation { kind: PRIVATE, recursive: true },
        "slave" => Meaning::Propagation { kind: SLAVE, recursive: false },
        "rslave" => Meaning::Propagation { kind: SLAVE, recursive: true },
        "shared" => Meaning::Propagation { kind: SHARED, recursive: false },
        "rshared" => Meaning::Propagation { kind: SHARED, recursive: true },
        "unbindable" => Meaning::Propagation { kind: UNBINDABLE, recursive: false },
        "runbindable" => Meaning::Propagation { kind: UNBINDABLE, recursive: true },
        "sync" => Meaning::Flag("sync"),
        "dirsync" => Meaning::Flag("dirsync"),
        "lazytime" => Meaning::Flag("lazytime"),
        "mand" => Meaning::Flag("mand"),
        "idmap" => Meaning::IdMap { recursive: false },
        "ridmap" => Meaning::IdMap { recursive: true },
        "defaults" | "async" | "nolazytime" | "nomand" | "loud" | "silent" | "iversion" | "noiversion"
        | "remount" => Meaning::Nothing,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> MountOptions {
        MountOptions::parse(&words.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn flags_become_attributes() {
        let options = parse("nosuid,noexec,nodev,ro");
        let expected =
            Attributes::NO_SUID | Attributes::NO_EXEC | Attributes::NO_DEVICES | Attributes::READ_ONLY;
        assert_eq!(options.attributes.set, expected);
        assert_eq!(parse("ro,rw").attributes.set, 0);
        assert_eq!(parse("ro,rw").attributes.clear, Attributes::READ_ONLY);
    }

    #[test]
    fn access_time_is_one_field() {
        let options = parse("nosuid,strictatime");
        assert_eq!(options.attributes.set, Attributes::NO_SUID | Attributes::STRICT_ATIME);
        assert_eq!(
            options.attributes.clear,
            Attributes::ATIME_MASK & !Attributes::STRICT_ATIME | Attributes::ATIME_MASK
        );
    }

    #[test]
    fn the_rest_is_the_file_systems() {
        let options = parse("mode=1777,size=64m,newinstance");
        assert_eq!(
            options.data,
            [
                ("mode".to_owned(), Some("1777".to_owned())),
                ("size".to_owned(), Some("64m".to_owned())),
                ("newinstance".to_owned(), None),
            ]
        );
    }

    #[test]
    fn own_words() {
        let options = parse("rbind,x-ferry.subpath=a/b=c,x-ferry.layer=/one,x-ferry.layer=/two");
        assert_eq!(options.subpath.as_deref(), Some("a/b=c"));
        assert_eq!(options.layers, ["/one", "/two"]);
        assert!(options.data.is_empty());
    }

    #[test]
    fn recursive_words() {
        let options = parse("rbind,rro,rslave");
        assert!(options.bind && options.recursive_bind);
        assert_eq!(options.recursive_attributes.set, Attributes::READ_ONLY);
        assert_eq!(options.propagation, [(SLAVE, true)]);
        assert!(options.data.is_empty());
    }
}
