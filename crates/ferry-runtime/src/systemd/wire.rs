//! D-Bus messages, as far as systemd is asked: little-endian, every value aligned to its own size.

/// A value to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// `s`
    Text(String),
    /// `b`
    Truth(bool),
    /// `t`
    Number(u64),
    /// `au`
    Numbers(Vec<u32>),
    /// `ay`
    Bytes(Vec<u8>),
    /// `a(sv)`
    Properties(Vec<(String, Value)>),
    /// An empty `a(sa(sv))`
    NoUnits,
}

impl Value {
    pub fn signature(&self) -> &'static str {
        match self {
            Value::Text(_) => "s",
            Value::Truth(_) => "b",
            Value::Number(_) => "t",
            Value::Numbers(_) => "au",
            Value::Bytes(_) => "ay",
            Value::Properties(_) => "a(sv)",
            Value::NoUnits => "a(sa(sv))",
        }
    }
}

/// A buffer being written.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub bytes: Vec<u8>,
}

impl Writer {
    pub fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    pub fn u32(&mut self, number: u32) {
        self.align(4);
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    pub fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    pub fn signature(&mut self, text: &str) {
        self.bytes.push(text.len() as u8);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    /// An array: its length in bytes does not count the gap before the first element.
    pub fn array(&mut self, alignment: usize, content: impl FnOnce(&mut Writer)) {
        self.u32(0);
        let length_at = self.bytes.len() - 4;
        self.align(alignment);
        let start = self.bytes.len();
        content(self);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    pub fn value(&mut self, value: &Value) {
        match value {
            Value::Text(text) => self.text(text),
            Value::Truth(truth) => self.u32(u32::from(*truth)),
            Value::Number(number) => {
                self.align(8);
                self.bytes.extend_from_slice(&number.to_le_bytes());
            }
            Value::Numbers(numbers) => self.array(4, |writer| numbers.iter().for_each(|n| writer.u32(*n))),
            Value::Bytes(bytes) => self.array(1, |writer| writer.bytes.extend_from_slice(bytes)),
            Value::Properties(properties) => self.array(8, |writer| {
                for (name, value) in properties {
                    writer.align(8);
                    writer.text(name);
                    writer.signature(value.signature());
                    writer.value(value);
                }
            }),
            Value::NoUnits => self.array(8, |_| {}),
        }
    }
}

/// A buffer being read; `None` where it ends too early.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    pub fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    pub fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.align(4);
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    pub fn text(&mut self) -> Option<&'a str> {
        let length = self.u32()? as usize;
        let text = std::str::from_utf8(self.take(length)?).ok()?;
        self.take(1)?;
        Some(text)
    }

    pub fn signature(&mut self) -> Option<&'a str> {
        let length = usize::from(self.u8()?);
        let text = std::str::from_utf8(self.take(length)?).ok()?;
        self.take(1)?;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_aligned() {
        let mut writer = Writer::default();
        writer.value(&Value::Text("ab".into()));
        writer.value(&Value::Number(7));
        assert_eq!(writer.bytes, [2, 0, 0, 0, b'a', b'b', 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
        let mut writer = Writer::default();
        writer.value(&Value::Properties(vec![("p".into(), Value::Truth(true))]));
        let expected: &[u8] =
            &[16, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, b'p', 0, 1, b'b', 0, 0, 0, 0, 1, 0, 0, 0];
        assert_eq!(writer.bytes, expected);
    }

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        writer.text("one");
        writer.signature("so");
        writer.u32(9);
        let mut reader = Reader::new(&writer.bytes);
        assert_eq!((reader.text(), reader.signature(), reader.u32()), (Some("one"), Some("so"), Some(9)));
        assert!(reader.is_at_end() && reader.u8().is_none());
        assert_eq!(Reader::new(&[255, 255, 255, 255, 1]).text(), None);
    }
}
