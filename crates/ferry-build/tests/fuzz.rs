//! The fuzz targets of this crate, fed with mutations of seeds.

extern crate self as libfuzzer_sys;

#[path = "../../../tests/fuzz/driver.rs"]
mod driver;

#[allow(unused_attributes, reason = "a fuzz target is a crate of its own, too")]
#[path = "../fuzz/fuzz_targets/context.rs"]
mod context;
#[allow(unused_attributes, reason = "a fuzz target is a crate of its own, too")]
#[path = "../fuzz/fuzz_targets/dockerfile.rs"]
mod dockerfile;
#[allow(unused_attributes, reason = "a fuzz target is a crate of its own, too")]
#[path = "../fuzz/fuzz_targets/expand.rs"]
mod expand;
#[allow(unused_attributes, reason = "a fuzz target is a crate of its own, too")]
#[path = "../fuzz/fuzz_targets/ignore.rs"]
mod ignore;

/// Pieces that mean something to one of the parsers.
const PIECES: &[&[u8]] = &[
    b"${",
    b"}",
    b"$",
    b"\\\n",
    b"`",
    b"\"",
    b"'",
    b"<<EOF\n",
    b"\nEOF\n",
    b"<<-",
    b"--mount=",
    b"type=cache,",
    b"=",
    b",",
    b"\n",
    b"#",
    b"# syntax=",
    b"# escape=`\n",
    b"FROM ",
    b"RUN ",
    b"COPY --from=",
    b"ONBUILD ",
    b"ARG ",
    b"[",
    b"]",
    b"**",
    b"!",
    b"../",
    b"/",
    b"\0",
    b"\xef\xbf\xbd",
    b"\xc3\xbc",
    b":-",
    b"%%",
    b"##",
    b"//",
    b"HEALTHCHECK --interval=",
    b"99999999999999999999",
];

const DOCKERFILES: &[&[u8]] = &[
    b"# syntax=docker/dockerfile:1\n# escape=\\\nARG V=1\nFROM --platform=$BUILDPLATFORM busybox:$V AS a\nRUN --mount=type=cache,target=/c,sharing=locked --network=none echo hi && \\\n  # comment\n  echo ${V:-x}\nCOPY --from=a --chown=1:2 --chmod=u+x,go=r [\"a b\", \"/c/\"]\n",
    b"FROM scratch\nCOPY <<EOF <<-'TWO' /dir/\nhello $X\nEOF\n\tworld\n\tTWO\nENV A=b\\ c \"D\"='e f' G=\"${A%%c*}\"\nHEALTHCHECK --interval=5s --retries=3 CMD true\nSHELL [\"/bin/sh\", \"-c\"]\nONBUILD RUN true\nEXPOSE 80/tcp 100-102\nVOLUME /a /b\nUSER a:b\nSTOPSIGNAL 9\n",
    b"FROM busybox\nRUN <<EOF\n#!/bin/sh\necho a\nEOF\nADD --checksum=sha256:00 https://example.com/a.tar.gz#x /\nLABEL a=b c=\"d\\\ne\"\nENTRYPOINT \\[\"x\"\\]\nCMD ['python', 'a']\nMAINTAINER x\n",
];

#[test]
fn dockerfiles_of_any_bytes() {
    driver::feed(dockerfile::target, DOCKERFILES, PIECES);
}

#[test]
fn words_of_any_bytes() {
    let seeds: [&[u8]; 3] =
        [b"a${A:-b${B:+c}}d$A\\$e", b"${A/v/x}${A//l*/\\/}${A#v?}${A%%e}", b"'$A'\"${B:?wrong}\"${C?}"];
    driver::feed(expand::target, &seeds, PIECES);
}

#[test]
fn patterns_of_any_bytes() {
    let seeds: [&[u8]; 2] =
        [b"a/b/c.txt\n# x\n**/*.txt\n!a/**/c.*\n/a/[b-d]/\\*\n", b"node_modules/x\n*\n!**\n[^a-z]?\n"];
    driver::feed(ignore::target, &seeds, PIECES);
}

#[test]
fn archives_of_any_bytes() {
    driver::feed(context::target, &[&archive()], PIECES);
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
