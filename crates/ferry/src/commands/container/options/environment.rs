//! Variables and labels from flags and files.

use std::collections::BTreeMap;

/// The variables of `--env-file` and then `--env`. A name alone takes the caller's value, or is left away.
pub fn environment(
    files: &[String],
    flags: &[String],
    own: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    for path in files {
        let bytes = std::fs::read(path).map_err(|error| format!("open {path}: {}", reason(&error)))?;
        let text =
            String::from_utf8(bytes).map_err(|_| format!("env file {path} contains invalid utf8 bytes"))?;
        out.extend(
            parse_file(&text, own).map_err(|problem| format!("invalid env file ({path}): {problem}"))?,
        );
    }
    for flag in flags {
        match flag.split_once('=') {
            Some(("", _)) => return Err(format!("invalid environment variable: {flag}")),
            Some(_) => out.push(flag.clone()),
            None if flag.is_empty() => return Err("invalid environment variable: an empty name".into()),
            None => out.extend(own(flag).map(|value| format!("{flag}={value}"))),
        }
    }
    Ok(out)
}

/// The labels of `--label-file` and then `--label`.
pub fn labels(files: &[String], flags: &[String]) -> Result<BTreeMap<String, String>, String> {
    let lines = environment(files, &[], &|_| Some(String::new()))?;
    Ok(lines.iter().chain(flags).map(|label| split_label(label)).collect())
}

fn split_label(label: &str) -> (String, String) {
    let (name, value) = label.split_once('=').unwrap_or((label, ""));
    (name.to_owned(), value.to_owned())
}

/// Docker's grammar: one `NAME=value` or `NAME` per line, nothing quoted, `#` starts a comment line.
fn parse_file(text: &str, own: &dyn Fn(&str) -> Option<String>) -> Result<Vec<String>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut out = Vec::new();
    for line in text.lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name.trim_start(), Some(value)),
            None => (line, None),
        };
        if name.is_empty() {
            return Err(format!("no variable name on line '{line}'"));
        }
        if name.contains(char::is_whitespace) {
            return Err(format!("variable '{name}' contains whitespaces"));
        }
        match value {
            Some(value) => out.push(format!("{name}={value}")),
            None => out.extend(own(name).map(|value| format!("{name}={value}"))),
        }
    }
    Ok(out)
}

/// The reason of an I/O error as Go words it.
pub(super) fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        std::io::ErrorKind::IsADirectory => "is a directory".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let own = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        let check = |text: &str, wanted: Result<&[&str], &str>| {
            let found = parse_file(text, &own);
            let wanted = wanted.map(|lines| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>());
            assert_eq!(found, wanted.map_err(str::to_owned), "{text:?}");
        };
        check(
            "A=1\n# no\n\n  B = 2 \nC=\"x\"\r\nHOME\nNOT_SET\nE=",
            Err("variable 'B ' contains whitespaces"),
        );
        check(
            "\u{feff}A=1\n# no\n\n  B=2 \nC=\"x\"\nHOME\nNOT_SET\nE==",
            Ok(&["A=1", "B=2 ", "C=\"x\"", "HOME=/root", "E=="]),
        );
        check("=x", Err("no variable name on line '=x'"));
        check("A B", Err("variable 'A B' contains whitespaces"));
    }

    #[test]
    fn flags() {
        let own = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        let flags: Vec<String> = ["A=", "HOME", "NOPE", "B=c=d"].map(str::to_owned).into();
        assert_eq!(environment(&[], &flags, &own).unwrap(), ["A=", "HOME=/root", "B=c=d"]);
        assert!(environment(&[], &["=x".into()], &own).is_err());
        let missing = environment(&["/no/such/file".into()], &[], &own).unwrap_err();
        assert_eq!(missing, "open /no/such/file: no such file or directory");
        assert_eq!(labels(&[], &["a".into(), "b=c".into()]).unwrap()["b"], "c");
    }
}
