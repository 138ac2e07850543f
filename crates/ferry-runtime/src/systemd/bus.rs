//! A conversation with systemd over its own socket: log in by the kernel's word for who we are, call, wait.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::wire::{Reader, Value, Writer};

/// systemd answers in milliseconds; a machine that is booting takes longer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The specification's limit is 128 MiB; nothing systemd says to us comes near this.
const MESSAGE_MAX: usize = 4 << 20;
/// More messages about others than this between a call and its answer are a mistake.
const OTHERS_MAX: usize = 100_000;

/// What systemd calls a unit that is not there.
pub(super) const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

const DESTINATION: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

const CALL: u8 = 1;
const ANSWER: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

/// Header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION_FIELD: u8 = 6;
const SIGNATURE: u8 = 8;

/// The conversation broke off, or systemd said no.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The socket.
    #[error("talking to systemd: {0}")]
    Io(#[from] std::io::Error),
    /// It does not take our word for who we are.
    #[error("systemd refused the connection: {0:?}")]
    Login(String),
    /// Bytes that are no message.
    #[error("systemd sent a message that does not read")]
    Malformed,
    /// An error of systemd's own.
    #[error("{name}: {text}")]
    Refused {
        /// Its name.
        name: String,
        /// What it says.
        text: String,
    },
}

/// A method call.
#[derive(Debug)]
pub(super) struct Call {
    member: &'static str,
    arguments: Vec<Value>,
}

impl Call {
    /// One of the manager's methods.
    pub fn manager(member: &'static str, arguments: Vec<Value>) -> Call {
        Call { member, arguments }
    }

    fn encode(&self, serial: u32) -> Vec<u8> {
        let mut body = Writer::default();
        self.arguments.iter().for_each(|argument| body.value(argument));
        let signature: String = self.arguments.iter().map(Value::signature).collect();
        let mut writer = Writer::default();
        writer.bytes.extend_from_slice(&[b'l', CALL, 0, 1]);
        writer.u32(body.bytes.len() as u32);
        writer.u32(serial);
        writer.array(8, |writer| {
            let texts = [
                (PATH, "o", MANAGER_PATH),
                (INTERFACE, "s", MANAGER),
                (MEMBER, "s", self.member),
                (DESTINATION_FIELD, "s", DESTINATION),
            ];
            for (field, kind, text) in texts {
                writer.align(8);
                writer.bytes.push(field);
                writer.signature(kind);
                writer.text(text);
            }
            if !signature.is_empty() {
                writer.align(8);
                writer.bytes.push(SIGNATURE);
                writer.signature("g");
                writer.signature(&signature);
            }
        });
        writer.align(8);
        writer.bytes.extend_from_slice(&body.bytes);
        writer.bytes
    }
}

/// A message that came.
#[derive(Debug, Default)]
pub(super) struct Message {
    kind: u8,
    member: String,
    error: String,
    answers: u32,
    body: Vec<u8>,
}

impl Message {
    /// The first argument, which is a text or an object's path.
    pub fn first_text(&self) -> Result<String, BusError> {
        Reader::new(&self.body).text().map(str::to_owned).ok_or(BusError::Malformed)
    }

    /// What comes of a fixed head and the rest.
    fn decode(head: &[u8], rest: &[u8]) -> Option<Message> {
        let mut message = Message { kind: head[1], ..Message::default() };
        let fields_length = u32::from_le_bytes(head[12..16].try_into().ok()?) as usize;
        let mut fields = Reader::new(rest.get(..fields_length)?);
        while !fields.is_at_end() {
            fields.align(8);
            let Some(field) = fields.u8() else { break };
            match fields.signature()? {
                "s" | "o" => {
                    let text = fields.text()?;
                    match field {
                        MEMBER => message.member = text.to_owned(),
                        ERROR_NAME => message.error = text.to_owned(),
                        _ => {}
                    }
                }
                "g" => drop(fields.signature()?),
                "u" => {
                    let number = fields.u32()?;
                    if field == REPLY_SERIAL {
                        message.answers = number;
                    }
                }
                _ => return None,
            }
        }
        message.body = rest.get(fields_length.next_multiple_of(8)..).unwrap_or_default().to_vec();
        Some(message)
    }
}

/// A connection to systemd.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
}

impl Bus {
    pub fn connect(path: &Path) -> Result<Bus, BusError> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let mut bus = Bus { stream, serial: 0 };
        bus.log_in()?;
        Ok(bus)
    }

    fn log_in(&mut self) -> Result<(), BusError> {
        let uid = rustix::process::geteuid().as_raw().to_string();
        let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        // In one go: a message that came together with the last line would lie unseen in systemd's buffer.
        self.stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n").as_bytes())?;
        // Byte by byte: what follows the line is not ours to swallow.
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            line.push(byte[0]);
            if line.len() > 512 {
                return Err(BusError::Malformed);
            }
        }
        if line.starts_with(b"OK ") {
            return Ok(());
        }
        Err(BusError::Login(String::from_utf8_lossy(&line).trim().to_owned()))
    }

    /// Calls a method and waits for the answer.
    pub fn call(&mut self, call: &Call) -> Result<Message, BusError> {
        self.serial += 1;
        self.stream.write_all(&call.encode(self.serial))?;
        for _ in 0..OTHERS_MAX {
            let message = self.next()?;
            match message.kind {
                ANSWER if message.answers == self.serial => return Ok(message),
                ERROR if message.answers == self.serial => {
                    let text = message.first_text().unwrap_or_default();
                    return Err(BusError::Refused { name: message.error, text });
                }
                _ => {}
            }
        }
        Err(BusError::Malformed)
    }

    /// Waits until a job has ended; its end is told after the answer that named it.
    pub fn job_result(&mut self, job: &str) -> Result<String, BusError> {
        for _ in 0..OTHERS_MAX {
            let message = self.next()?;
            if message.kind != SIGNAL || message.member != "JobRemoved" {
                continue;
            }
            let mut body = Reader::new(&message.body);
            // Number, job, unit, result.
            let told = body.u32().and_then(|_| Some((body.text()?, body.text()?, body.text()?)));
            let (ended, _, result) = told.ok_or(BusError::Malformed)?;
            if ended == job {
                return Ok(result.to_owned());
            }
        }
        Err(BusError::Malformed)
    }

    fn next(&mut self) -> Result<Message, BusError> {
        let mut head = [0; 16];
        self.stream.read_exact(&mut head)?;
        let length =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        let (body, fields) = (length(4), length(12));
        if head[0] != b'l' || body > MESSAGE_MAX || fields > MESSAGE_MAX {
            return Err(BusError::Malformed);
        }
        // The head is 16 bytes long, so alignment begins anew after it.
        let mut rest = vec![0; fields.next_multiple_of(8) + body];
        self.stream.read_exact(&mut rest)?;
        Message::decode(&head, &rest).ok_or(BusError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// A message as systemd sends it, by the same rules as ours.
    fn message(kind: u8, fields: &[(u8, &str, Value)], body: &[Value]) -> Vec<u8> {
        let mut content = Writer::default();
        body.iter().for_each(|value| content.value(value));
        let mut writer = Writer::default();
        writer.bytes.extend_from_slice(&[b'l', kind, 1, 1]);
        writer.u32(content.bytes.len() as u32);
        writer.u32(77);
        writer.array(8, |writer| {
            for (field, signature, value) in fields {
                writer.align(8);
                writer.bytes.push(*field);
                writer.signature(signature);
                match value {
                    Value::Number(number) => writer.u32(*number as u32),
                    other => writer.value(other),
                }
            }
        });
        writer.align(8);
        writer.bytes.extend_from_slice(&content.bytes);
        writer.bytes
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn calls_are_answered_and_jobs_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("private");
        let listener = UnixListener::bind(&path).expect("a socket");
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut line = vec![0; "\0AUTH EXTERNAL ".len()];
            stream.read_exact(&mut line).expect("it logs in");
            while !line.ends_with(b"\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("its id");
                line.push(byte[0]);
            }
            stream.write_all(b"OK 1234\r\n").expect("sent");
            let mut begin = [0; 7];
            stream.read_exact(&mut begin).expect("it begins");
            let signal = |job: &str| {
                let body = [Value::Numbers(vec![]), text(job), text("x.scope"), text("done")];
                message(SIGNAL, &[(MEMBER, "s", text("JobRemoved"))], &body)
            };
            let reply = [(REPLY_SERIAL, "u", Value::Number(1))];
            let sent = [
                signal("/job/0"),
                message(ANSWER, &reply, &[text("/job/1")]),
                signal("/job/0"),
                signal("/job/1"),
                message(
                    ERROR,
                    &[(ERROR_NAME, "s", text(NO_SUCH_UNIT)), (REPLY_SERIAL, "u", Value::Number(2))],
                    &[text("no x.scope")],
                ),
            ];
            stream.write_all(&sent.concat()).expect("sent");
            let mut call = [0; 16];
            stream.read_exact(&mut call).expect("a call");
            // Open until both calls were read.
            drop(stream.read_to_end(&mut Vec::new()));
            call
        });
        let mut bus = Bus::connect(&path).expect("it lets us in");
        let answer =
            bus.call(&Call::manager("StartTransientUnit", vec![text("x.scope")])).expect("an answer");
        let job = answer.first_text().expect("a job");
        assert_eq!((job.as_str(), bus.job_result(&job).expect("an end").as_str()), ("/job/1", "done"));
        let refused = bus.call(&Call::manager("StopUnit", vec![text("x.scope")])).expect_err("no such unit");
        assert!(matches!(refused, BusError::Refused { name, .. } if name == NO_SUCH_UNIT));
        drop(bus);
        assert_eq!(answering.join().expect("it ends")[..4], [b'l', CALL, 0, 1]);
    }

    #[test]
    fn broken_messages_are_refused() {
        let whole = message(ANSWER, &[(MEMBER, "s", text("X"))], &[text("body")]);
        for end in 16..whole.len() {
            // No length of a prefix may do harm.
            drop(Message::decode(&whole[..16], &whole[16..end]));
        }
        let found = Message::decode(&whole[..16], &whole[16..]).expect("whole");
        assert_eq!((found.member.as_str(), found.first_text().expect("a text").as_str()), ("X", "body"));
    }
}
