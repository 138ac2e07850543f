//! What must hold for any bytes: the parsers of outside text and archives give a result or an error, never a
//! panic, and never leave their folder. The fuzz targets and the mutation tests both call these.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use crate::dockerfile::directive::Escape;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::{self, SourceFile};
use crate::fileop::{Owner, TouchedDirectories, UnpackLimits, unpack_tar};
use crate::ignore::Ignore;
use crate::lower::{self, ImageMap, LowerOptions};

/// A Dockerfile: parsed, checked, mended and lowered; places lie inside of it.
pub fn dockerfile(bytes: &[u8]) {
    let file = SourceFile::new("Dockerfile", bytes);
    let parsed = match dockerfile::parse(&file) {
        Ok(parsed) => parsed,
        Err(error) => {
            let place = crate::build::BuildError::from(error).diagnostic();
            drop(place.map(|place| place.render(&file, false)));
            return;
        }
    };
    let findings = crate::lint::lint(&file, &parsed, None, None);
    for finding in &findings {
        drop(finding.diagnostic.render(&file, false));
    }
    drop(crate::lint::fix(&file, &findings));
    if let Err(error) = lower::lower(&file, &parsed, &LowerOptions::default(), &ImageMap::new()) {
        let place = crate::build::BuildError::from(error).diagnostic();
        drop(place.map(|place| place.render(&file, false)));
    }
}

/// A word with variables, some of which are known.
pub fn expansion(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let scope = |name: &str| match name {
        "A" => Some("value"),
        "B" => Some(""),
        _ => None,
    };
    for escape in [Escape::Backslash, Escape::Backtick] {
        drop(Expander::new(escape).expand(&text, &scope));
        drop(Expander::for_heredoc(escape).expand(&text, &scope));
    }
}

/// Patterns against a path: the first line is the path.
pub fn ignore(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (path, patterns) = text.split_once('\n').unwrap_or((&text, ""));
    if let Ok(ignore) = Ignore::parse(patterns) {
        let _ = ignore.is_ignored(path);
    }
}

/// An archive unpacked into a folder.
pub fn context(bytes: &[u8], target: BorrowedFd<'_>) {
    let owner = Owner { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() };
    let limits = UnpackLimits { owner: Some(owner), devices: false, ..UnpackLimits::default() };
    let mut touched = TouchedDirectories::default();
    let canceled = AtomicBool::new(false);
    let unpacked = unpack_tar(bytes, target, Path::new("/"), &limits, &mut touched, &canceled);
    drop(unpacked.and_then(|()| touched.restore(target)));
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    /// Mutations of each seed: enough to find what is near, few enough for every run of the tests.
    const ROUNDS: u64 = 300;

    /// Pieces that mean something to one of the parsers.
    const PIECES: &[&str] = &[
        "${",
        "}",
        "$",
        "\\\n",
        "`",
        "\"",
        "'",
        "<<EOF\n",
        "\nEOF\n",
        "<<-",
        "--mount=",
        "type=cache,",
        "=",
        ",",
        "\n",
        "#",
        "# syntax=",
        "# escape=`\n",
        "FROM ",
        "RUN ",
        "COPY --from=",
        "ONBUILD ",
        "ARG ",
        "[",
        "]",
        "**",
        "!",
        "../",
        "/",
        "\0",
        "\u{fffd}",
        "ü",
        ":-",
        "%%",
        "##",
        "//",
        "HEALTHCHECK --interval=",
        "99999999999999999999",
    ];

    /// A small generator with a fixed beginning: every run does the same.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % u64::try_from(limit.max(1)).unwrap()).unwrap()
        }

        fn mutate(&mut self, seed: &[u8]) -> Vec<u8> {
            let mut bytes = seed.to_vec();
            for _ in 0..=self.below(4) {
                let at = self.below(bytes.len() + 1);
                match self.below(5) {
                    0 => bytes.truncate(at),
                    1 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                    2 if at < bytes.len() => drop(bytes.drain(at..bytes.len().min(at + 1 + self.below(40)))),
                    3 => {
                        let end = bytes.len().min(at + self.below(60));
                        let again = bytes[at..end].to_vec();
                        bytes.splice(at..at, again);
                    }
                    _ => {
                        let piece = PIECES[self.below(PIECES.len())];
                        bytes.splice(at..at, piece.bytes());
                    }
                }
            }
            bytes
        }
    }

    fn all_mutations(seeds: &[&[u8]], mut check: impl FnMut(&[u8])) {
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        for seed in seeds {
            check(seed);
            for _ in 0..ROUNDS {
                check(&numbers.mutate(seed));
            }
        }
    }

    const DOCKERFILES: &[&[u8]] = &[
        b"# syntax=docker/dockerfile:1\n# escape=\\\nARG V=1\nFROM --platform=$BUILDPLATFORM busybox:$V AS a\nRUN --mount=type=cache,target=/c,sharing=locked --network=none echo hi && \\\n  # comment\n  echo ${V:-x}\nCOPY --from=a --chown=1:2 --chmod=u+x,go=r [\"a b\", \"/c/\"]\n",
        b"FROM scratch\nCOPY <<EOF <<-'TWO' /dir/\nhello $X\nEOF\n\tworld\n\tTWO\nENV A=b\\ c \"D\"='e f' G=\"${A%%c*}\"\nHEALTHCHECK --interval=5s --retries=3 CMD true\nSHELL [\"/bin/sh\", \"-c\"]\nONBUILD RUN true\nEXPOSE 80/tcp 100-102\nVOLUME /a /b\nUSER a:b\nSTOPSIGNAL 9\n",
        b"FROM busybox\nRUN <<EOF\n#!/bin/sh\necho a\nEOF\nADD --checksum=sha256:00 https://example.com/a.tar.gz#x /\nLABEL a=b c=\"d\\\ne\"\nENTRYPOINT \\[\"x\"\\]\nCMD ['python', 'a']\nMAINTAINER x\n",
    ];

    #[test]
    fn dockerfiles_of_any_bytes() {
        all_mutations(DOCKERFILES, dockerfile);
    }

    #[test]
    fn words_of_any_bytes() {
        let seeds: [&[u8]; 3] =
            [b"a${A:-b${B:+c}}d$A\\$e", b"${A/v/x}${A//l*/\\/}${A#v?}${A%%e}", b"'$A'\"${B:?wrong}\"${C?}"];
        all_mutations(&seeds, expansion);
    }

    #[test]
    fn patterns_of_any_bytes() {
        let seeds: [&[u8]; 2] =
            [b"a/b/c.txt\n# x\n**/*.txt\n!a/**/c.*\n/a/[b-d]/\\*\n", b"node_modules/x\n*\n!**\n[^a-z]?\n"];
        all_mutations(&seeds, ignore);
    }

    #[test]
    fn archives_of_any_bytes() {
        let outer = tempfile::tempdir().unwrap();
        let seed = archive();
        let mut count = 0;
        all_mutations(&[&seed], |bytes| {
            count += 1;
            let target = outer.path().join("target");
            std::fs::create_dir(&target).unwrap();
            context(bytes, std::fs::File::open(&target).unwrap().as_fd());
            std::fs::remove_dir_all(&target).unwrap();
            assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 0, "round {count} left its folder");
        });
    }

    /// Files, folders, links in and out, a long name, a hard link.
    fn archive() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |kind: tar::EntryType, name: &str, link: &str, data: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o644);
            header.set_size(data.len() as u64);
            header.set_path(name).unwrap();
            if !link.is_empty() {
                header.set_link_name(link).unwrap();
            }
            header.set_cksum();
            builder.append(&header, data).unwrap();
        };
        add(tar::EntryType::Directory, "dir/", "", b"");
        add(tar::EntryType::Regular, "dir/file", "", b"contents");
        add(tar::EntryType::Symlink, "dir/out", "../../..", b"");
        add(tar::EntryType::Regular, "dir/out/escaped", "", b"no");
        add(tar::EntryType::Link, "hard", "dir/file", b"");
        add(tar::EntryType::Symlink, "absolute", "/tmp", b"");
        add(tar::EntryType::Regular, "absolute/escaped", "", b"no");
        builder.into_inner().unwrap()
    }
}
