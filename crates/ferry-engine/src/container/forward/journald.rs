//! A line for systemd's journal, in its own protocol: fields as lines, or with a length where they hold newlines.

use super::{Facts, Line, short};

/// Where the journal listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

pub fn packet(line: &Line<'_>, facts: &Facts) -> Vec<u8> {
    let mut packet = Vec::new();
    let mut field = |name: &str, value: &[u8]| {
        packet.extend_from_slice(name.as_bytes());
        if value.contains(&b'\n') {
            packet.push(b'\n');
            packet.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            packet.push(b'=');
        }
        packet.extend_from_slice(value);
        packet.push(b'\n');
    };
    field("MESSAGE", line.text);
    field("PRIORITY", if line.is_error { b"3" } else { b"6" });
    field("CONTAINER_ID", short(&facts.id).as_bytes());
    field("CONTAINER_ID_FULL", facts.id.as_bytes());
    field("CONTAINER_NAME", facts.name.as_bytes());
    field("CONTAINER_TAG", facts.tag.as_bytes());
    field("IMAGE_NAME", facts.image.as_bytes());
    field("SYSLOG_IDENTIFIER", facts.tag.as_bytes());
    field("SYSLOG_TIMESTAMP", line.time.to_string().as_bytes());
    for (name, value) in &facts.extra {
        // The journal takes capitals, digits and underscores, and nothing that begins with an underscore.
        let upper = name.to_ascii_uppercase();
        let name: String = upper.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        field(name.trim_start_matches('_'), value.as_bytes());
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let line = Line { text: b"a\nb", time: jiff::Timestamp::UNIX_EPOCH, is_error: false };
        let facts = Facts { extra: [("my.label".to_owned(), "x".to_owned())].into(), ..Facts::default() };
        let packet = packet(&line, &facts);
        assert!(packet.starts_with(b"MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\nPRIORITY=6\n"));
        assert!(packet.ends_with(b"MY_LABEL=x\n"));
    }
}
