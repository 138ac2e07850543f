//! Writing netlink messages and their nested attributes into one buffer.

use super::{ATTRIBUTE_HEADER, align};

/// Message flags (`NLM_F_*`).
pub(crate) mod flags {
    pub(crate) const REQUEST: u16 = 0x1;
    pub(crate) const ACK: u16 = 0x4;
    pub(crate) const DUMP: u16 = 0x300;
    pub(crate) const REPLACE: u16 = 0x100;
    pub(crate) const EXCL: u16 = 0x200;
    pub(crate) const CREATE: u16 = 0x400;
    pub(crate) const APPEND: u16 = 0x800;
}

/// Where the flags stand in a message header.
const FLAGS_OFFSET: usize = 6;
/// The kernel reads the nested bit on attributes that hold attributes.
const NESTED: u16 = 1 << 15;

/// Messages that go to the kernel in one write; each has a label that errors name.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    labels: Vec<String>,
    last: usize,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Appends one message. `label` completes "cannot ..." in errors.
    pub(crate) fn message(
        &mut self,
        label: impl Into<String>,
        kind: u16,
        flags: u16,
        header: &[u8],
        body: impl FnOnce(&mut Attributes<'_>),
    ) {
        let start = self.bytes.len();
        self.last = start;
        self.labels.push(label.into());
        let sequence = self.labels.len() as u32;
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | self::flags::REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(header);
        pad(&mut self.bytes);
        body(&mut Attributes { bytes: &mut self.bytes });
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// How many messages were appended; also the sequence number of the last.
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What the message with this sequence number was to do.
    pub(crate) fn label(&self, sequence: u32) -> &str {
        let index = (sequence as usize).wrapping_sub(1);
        self.labels.get(index).map_or("talk to the kernel", String::as_str)
    }

    /// Asks for an answer to the last message appended.
    pub(crate) fn acknowledge_last(&mut self) {
        if let Some(flags) = self.bytes.get_mut(self.last + FLAGS_OFFSET) {
            *flags |= self::flags::ACK as u8;
        }
    }
}

/// The attribute area of a message being written.
#[derive(Debug)]
pub(crate) struct Attributes<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Attributes<'_> {
    pub(crate) fn put(&mut self, kind: u16, payload: &[u8]) {
        let length = (ATTRIBUTE_HEADER + payload.len()) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(payload);
        pad(self.bytes);
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) {
        self.put(kind, &[value]);
    }

    pub(crate) fn u16(&mut self, kind: u16, value: u16) {
        self.put(kind, &value.to_ne_bytes());
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    /// A string with the closing zero byte that the kernel's policies ask for.
    pub(crate) fn string(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.put(kind, &bytes);
    }

    /// An attribute that holds attributes.
    ///
    /// # Panics
    /// When the content passes the format's 64 KiB: callers split their lists below it.
    pub(crate) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Attributes<'_>)) {
        self.nest_after(kind, &[], body);
    }

    /// Like [`Self::nest`], with a fixed header before the inner attributes.
    pub(crate) fn nest_after(&mut self, kind: u16, header: &[u8], body: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        self.bytes.extend_from_slice(header);
        pad(self.bytes);
        body(&mut Attributes { bytes: self.bytes });
        let length = u16::try_from(self.bytes.len() - start).expect("callers split lists below 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(align(bytes.len()), 0);
}

#[cfg(test)]
mod tests {
    use super::super::{attributes, messages, string};
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut batch = Batch::new();
        batch.message("first", 16, flags::CREATE, &[1, 2, 3], |a| {
            a.string(3, "eth0");
            a.nest(18, |a| a.u32(1, 7));
        });
        batch.message("second", 20, 0, &[], |_| {});
        batch.acknowledge_last();
        let read: Vec<_> = messages(batch.bytes()).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].kind, read[0].flags, read[0].sequence), (16, flags::CREATE | flags::REQUEST, 1));
        assert_eq!((read[1].kind, read[1].flags), (20, flags::REQUEST | flags::ACK));
        let outer: Vec<_> = attributes(&read[0].payload[4..]).collect();
        assert_eq!((outer[0].kind, string(outer[0].payload)), (3, "eth0".to_owned()));
        let inner: Vec<_> = attributes(outer[1].payload).collect();
        assert_eq!((outer[1].kind, inner[0].kind, inner[0].payload), (18, 1, &7u32.to_ne_bytes()[..]));
        assert_eq!(batch.label(2), "second");
    }
}
