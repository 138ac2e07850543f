//! A line for Fluentd's forward protocol: `[tag, time, record]` in MessagePack.

use super::{Facts, Line};

pub fn packet(line: &Line<'_>, facts: &Facts) -> Vec<u8> {
    // An array of three.
    let mut packet = vec![0x93];
    text(facts.tag.as_bytes(), &mut packet);
    packet.push(0xd3);
    packet.extend_from_slice(&line.time.as_second().to_be_bytes());
    let name = format!("/{}", facts.name);
    let own: [(&str, &[u8]); 4] = [
        ("container_id", facts.id.as_bytes()),
        ("container_name", name.as_bytes()),
        ("source", if line.is_error { b"stderr" } else { b"stdout" }),
        ("log", line.text),
    ];
    let extra = facts.extra.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let fields: Vec<(&str, &[u8])> = own.into_iter().chain(extra).collect();
    packet.push(0xde);
    packet.extend_from_slice(&u16::try_from(fields.len()).unwrap_or(u16::MAX).to_be_bytes());
    for (name, value) in fields.iter().take(usize::from(u16::MAX)) {
        text(name.as_bytes(), &mut packet);
        text(value, &mut packet);
    }
    packet
}

/// Text of any length with four bytes of it: records are at most 16 KiB.
fn text(value: &[u8], out: &mut Vec<u8>) {
    out.push(0xdb);
    out.extend_from_slice(&u32::try_from(value.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record() {
        let line = Line { text: b"hello", time: jiff::Timestamp::UNIX_EPOCH, is_error: true };
        let packet = packet(&line, &Facts { tag: "t".into(), ..Facts::default() });
        assert!(packet.starts_with(&[0x93, 0xdb, 0, 0, 0, 1, b't', 0xd3]));
        assert!(packet.ends_with(b"\x03log\xdb\0\0\0\x05hello"));
    }
}
