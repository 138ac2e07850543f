//! A line for Graylog: JSON, in one datagram or several, or ended by a zero byte over TCP.

use serde_json::{Map, Value, json};

use super::{Facts, Line};

/// Largest datagram: Docker's size for wide networks.
const DATAGRAM_MAX: usize = 1420;
/// What stands before each piece: two marks, an id, number and count.
const PIECE_HEAD: usize = 12;
/// Graylog takes no more pieces.
const PIECES_MAX: usize = 128;

pub fn message(line: &Line<'_>, facts: &Facts) -> Vec<u8> {
    let mut message = Map::new();
    let mut set = |name: &str, value: Value| message.insert(name.to_owned(), value);
    set("version", "1.1".into());
    set("host", facts.hostname.as_str().into());
    set("short_message", String::from_utf8_lossy(line.text).into());
    set("timestamp", json!(line.time.as_millisecond() as f64 / 1000.0));
    set("level", (if line.is_error { 3 } else { 6 }).into());
    set("_command", facts.command.as_str().into());
    set("_container_id", facts.id.as_str().into());
    set("_container_name", facts.name.as_str().into());
    set("_created", facts.created.as_str().into());
    set("_image_id", facts.image_id.as_str().into());
    set("_image_name", facts.image.as_str().into());
    set("_tag", facts.tag.as_str().into());
    for (name, value) in &facts.extra {
        set(&format!("_{name}"), value.as_str().into());
    }
    Value::Object(message).to_string().into_bytes()
}

/// One datagram where the message fits, pieces where it does not.
pub fn datagrams(message: Vec<u8>, line: &Line<'_>) -> Vec<Vec<u8>> {
    if message.len() <= DATAGRAM_MAX {
        return vec![message];
    }
    let pieces: Vec<&[u8]> = message.chunks(DATAGRAM_MAX - PIECE_HEAD).take(PIECES_MAX).collect();
    let id = (line.time.as_nanosecond() as u64) ^ ((message.len() as u64) << 48);
    let piece = |(number, piece): (usize, &&[u8])| {
        let mut datagram = vec![0x1e, 0x0f];
        datagram.extend_from_slice(&id.to_be_bytes());
        datagram.extend_from_slice(&[number as u8, pieces.len() as u8]);
        datagram.extend_from_slice(piece);
        datagram
    };
    pieces.iter().enumerate().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_come_in_pieces() {
        let line = Line { text: &[b'x'; 4000], time: jiff::Timestamp::UNIX_EPOCH, is_error: false };
        let whole = message(&line, &Facts::default());
        let pieces = datagrams(whole.clone(), &line);
        assert!(
            pieces.len() == 3 && pieces.iter().all(|piece| piece.len() <= DATAGRAM_MAX && piece[11] == 3)
        );
        let together: Vec<u8> = pieces.iter().flat_map(|piece| piece[PIECE_HEAD..].to_vec()).collect();
        assert_eq!(together, whole);
    }
}
