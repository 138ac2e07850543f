//! Reading netlink datagrams: an iterator over messages, one over attributes.
//! Both end at the first header that does not fit what was received.

use super::{ATTRIBUTE_HEADER, MESSAGE_HEADER, align};

/// One received message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageView<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// The port of the socket whose request caused it.
    pub(crate) port: u32,
    /// Everything behind the header.
    pub(crate) payload: &'a [u8],
}

/// One received attribute, its type without the nested and byte-order bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attribute<'a> {
    pub(crate) kind: u16,
    pub(crate) payload: &'a [u8],
}

impl Attribute<'_> {
    pub(crate) fn u32(&self) -> Option<u32> {
        Some(u32::from_ne_bytes(self.payload.get(..4)?.try_into().ok()?))
    }

    pub(crate) fn be32(&self) -> Option<u32> {
        self.u32().map(u32::from_be)
    }
}

/// The messages of a datagram.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = MessageView<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        if length < MESSAGE_HEADER {
            return None;
        }
        let payload = bytes.get(MESSAGE_HEADER..length)?;
        let message = MessageView {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            port: u32_at(bytes, 12)?,
            payload,
        };
        bytes = bytes.get(align(length)..).unwrap_or(&[]);
        Some(message)
    })
}

/// The attributes of a message, behind its fixed header.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    const TYPE_MASK: u16 = 0x3fff;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        if length < ATTRIBUTE_HEADER {
            return None;
        }
        let payload = bytes.get(ATTRIBUTE_HEADER..length)?;
        let attribute = Attribute { kind: u16_at(bytes, 2)? & TYPE_MASK, payload };
        bytes = bytes.get(align(length)..).unwrap_or(&[]);
        Some(attribute)
    })
}

/// A string attribute without its closing zero byte.
pub(crate) fn string(payload: &[u8]) -> String {
    let text = payload.split(|byte| *byte == 0).next().unwrap_or(&[]);
    String::from_utf8_lossy(text).into_owned()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_and_lying_lengths_end_the_walk() {
        for bytes in [&[][..], &[4, 0], &[2, 0, 1, 0], &[200, 0, 1, 0, 9], &[0; 16]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
            assert_eq!(messages(bytes).count(), 0, "{bytes:?}");
        }
    }
}
