//! The short syntax of volumes.

use crate::tree::{Mapping, Node, Value};

/// A mount in the form the short syntax can express.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Volume {
    /// Host path or volume name; none for an anonymous volume.
    pub source: Option<String>,
    /// Path in the container.
    pub target: String,
    /// Mounted read-only.
    pub read_only: bool,
    /// Do not copy the image's files into a new volume.
    pub nocopy: bool,
    /// Mount propagation of a bind.
    pub propagation: Option<String>,
    /// SELinux relabelling of a bind.
    pub selinux: Option<String>,
    /// Options nobody knows; ignored, with a warning.
    pub unknown_options: Vec<String>,
}

impl Volume {
    /// Whether the source is a path on the host.
    pub fn is_bind(&self) -> bool {
        self.source.as_deref().is_some_and(is_host_path)
    }

    /// The canonical node, at the place of the short one.
    pub fn into_node(self, at: &Node) -> Node {
        let node = |value: Value| Node::new(value, at.origin);
        let is_bind = self.is_bind();
        let mut mapping = Mapping::new();
        mapping.insert("type".to_owned(), node(if is_bind { "bind" } else { "volume" }.into()));
        if let Some(source) = self.source {
            mapping.insert("source".to_owned(), node(source.into()));
        }
        mapping.insert("target".to_owned(), node(self.target.into()));
        if self.read_only {
            mapping.insert("read_only".to_owned(), node(true.into()));
        }
        let mut options = Mapping::new();
        if is_bind {
            if let Some(propagation) = self.propagation {
                options.insert("propagation".to_owned(), node(propagation.into()));
            }
            options.insert("create_host_path".to_owned(), node(true.into()));
            if let Some(selinux) = self.selinux {
                options.insert("selinux".to_owned(), node(selinux.into()));
            }
        } else if self.nocopy {
            options.insert("nocopy".to_owned(), node(true.into()));
        }
        mapping.insert(if is_bind { "bind" } else { "volume" }.to_owned(), node(options.into()));
        node(Value::Mapping(mapping))
    }
}

/// Whether a volume's source names a path and not a volume.
pub fn is_host_path(source: &str) -> bool {
    source.starts_with(['.', '/', '~', '\\']) || is_windows_drive(source)
}

fn is_windows_drive(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() > 1 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':'
}

/// `[SOURCE:]TARGET[:OPTION,…]`.
pub fn parse_volume(text: &str) -> Result<Volume, String> {
    let bad = |why: &str| format!("invalid volume \"{text}\": {why}");
    if text.is_empty() {
        return Err(bad("it is empty"));
    }
    let fields = split_fields(text);
    if fields.iter().any(|field| field.is_empty()) {
        return Err(bad("a part between colons is empty"));
    }
    let mut volume = Volume::default();
    match fields.as_slice() {
        [target] => volume.target = (*target).to_owned(),
        [source, target] => {
            (volume.source, volume.target) = (Some((*source).to_owned()), (*target).to_owned())
        }
        [source, target, options] => {
            (volume.source, volume.target) = (Some((*source).to_owned()), (*target).to_owned());
            options.split(',').for_each(|option| set_option(&mut volume, option));
        }
        _ => return Err(bad("it has too many colons; expected [SOURCE:]TARGET[:OPTIONS]")),
    }
    if !volume.target.starts_with('/') && !is_windows_drive(&volume.target) {
        return Err(bad(&format!("the path in the container \"{}\" must be absolute", volume.target)));
    }
    volume.target = clean_path(&volume.target);
    Ok(volume)
}

fn set_option(volume: &mut Volume, option: &str) {
    match option {
        "ro" => volume.read_only = true,
        "rw" => volume.read_only = false,
        "nocopy" => volume.nocopy = true,
        "z" | "Z" => volume.selinux = Some(option.to_owned()),
        "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => {
            volume.propagation = Some(option.to_owned());
        }
        // Accepted for the sake of files written for Docker Desktop; without meaning on Linux.
        "cached" | "delegated" | "consistent" | "" => {}
        other => volume.unknown_options.push(other.to_owned()),
    }
}

/// Splits at colons, except those of `C:\` and inside `${…}`.
fn split_fields(text: &str) -> Vec<&str> {
    let mut fields = Vec::new();
    let (mut start, mut braces) = (0usize, 0usize);
    for (index, c) in text.char_indices() {
        match c {
            '{' if text[..index].ends_with('$') || braces > 0 => braces += 1,
            '}' if braces > 0 => braces -= 1,
            ':' if braces == 0 => {
                let field = &text[start..index];
                let drive = field.len() == 1 && field.starts_with(|c: char| c.is_ascii_alphabetic());
                if drive && text[index + 1..].starts_with('\\') {
                    continue;
                }
                fields.push(field);
                start = index + 1;
            }
            _ => {}
        }
    }
    fields.push(&text[start..]);
    fields
}

/// A path without `//`, `.` and `..`, and without a slash at its end.
pub fn clean_path(path: &str) -> String {
    if !path.starts_with('/') {
        return path.to_owned();
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        match parse_volume(text) {
            Ok(v) => {
                let kind = if v.is_bind() { "bind" } else { "volume" };
                let mut out = format!("{kind} {}>{}", v.source.as_deref().unwrap_or(""), v.target);
                for (set, word) in [(v.read_only, " ro"), (v.nocopy, " nocopy")] {
                    out += if set { word } else { "" };
                }
                for word in [&v.propagation, &v.selinux].into_iter().flatten() {
                    out += &format!(" {word}");
                }
                for word in &v.unknown_options {
                    out += &format!(" ?{word}");
                }
                out
            }
            Err(error) => error,
        }
    }

    #[test]
    fn short_syntax() {
        for (text, expected) in [
            ("/data", "volume >/data"),
            ("db:/data", "volume db>/data"),
            ("./a:/b", "bind ./a>/b"),
            (".:/b", "bind .>/b"),
            ("~/a:/b", "bind ~/a>/b"),
            ("/a:/b:ro", "bind /a>/b ro"),
            ("/a:/b:rw", "bind /a>/b"),
            ("db:/b:nocopy", "volume db>/b nocopy"),
            ("/a:/b:ro,z", "bind /a>/b ro z"),
            ("/a:/b:Z,rshared", "bind /a>/b rshared Z"),
            ("/a:/b:foo", "bind /a>/b ?foo"),
            ("/a:/b:cached", "bind /a>/b"),
            ("a:/b//c/../d/", "volume a>/b/d"),
            ("C:\\x:/b", "bind C:\\x>/b"),
            ("${X:-./a}:/b", "volume ${X:-./a}>/b"),
            ("a:b", "invalid volume \"a:b\": the path in the container \"b\" must be absolute"),
            ("a::/b", "invalid volume \"a::/b\": a part between colons is empty"),
            (
                "a:/b:ro:x",
                "invalid volume \"a:/b:ro:x\": it has too many colons; expected [SOURCE:]TARGET[:OPTIONS]",
            ),
        ] {
            assert_eq!(show(text), expected, "{text}");
        }
    }
}
