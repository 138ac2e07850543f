//! One control connection: requests in, replies and events out.
//!
//! Owns what belongs to a connection and ends with it: the log pin, the log tick's acknowledgement and
//! whether events flow. Never executes a request.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ferry_sys::channel::{Channel, ChannelError};

use crate::protocol::{
    DecodeError, ShimEnvelope, ShimError, ShimEvent, ShimMessage, ShimReply, decode_request, encode,
};

/// Connections beyond this are refused: an engine needs one, a human with a debugger a few.
pub const MAX_CONNECTIONS: usize = 32;

/// One control connection.
#[derive(Debug)]
pub struct Connection {
    /// Names it in the poll set.
    pub id: u64,
    channel: Channel,
    /// Events are sent: at once on the launch's own connection, after `Hello` on others.
    pub wants_events: bool,
    /// The oldest log generation its reader needs.
    pub pin: Option<u64>,
    tick: Tick,
    broken: bool,
}

/// Where the log's tick stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tick {
    Off,
    /// All that was written was announced and acknowledged.
    Idle,
    /// Announced, not yet acknowledged.
    Announced,
    /// Announced, and more was written since.
    AnnouncedAndMore,
}

/// A request or the answer to one that could not be parsed.
pub type Received = (Result<ShimEnvelope, (u64, ShimError)>, Vec<OwnedFd>);

impl Connection {
    /// A connection over this socket.
    pub fn new(id: u64, socket: OwnedFd, wants_events: bool) -> Connection {
        let (tick, channel) = (Tick::Off, Channel::from(socket));
        Connection { id, channel, wants_events, pin: None, tick, broken: false }
    }

    /// The socket, for polling.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// Whether messages wait for the peer to read.
    pub fn wants_write(&self) -> bool {
        self.channel.wants_write()
    }

    /// True once the peer is gone or has broken the protocol.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// The next request, if one is there.
    pub fn receive(&mut self) -> Option<Received> {
        match self.channel.try_recv() {
            Ok(None) => None,
            Ok(Some((frame, fds))) => match decode_request(&frame) {
                Ok(envelope) => Some((Ok(envelope), fds)),
                Err(DecodeError::Request { seq, error }) => Some((Err((seq, error)), fds)),
                // Without a number there is nothing to answer to.
                Err(DecodeError::Envelope { .. }) => {
                    self.broken = true;
                    None
                }
            },
            Err(_) => {
                self.broken = true;
                None
            }
        }
    }

    /// Answers a request.
    pub fn reply(&mut self, seq: u64, result: Result<ShimReply, ShimError>, fds: Vec<OwnedFd>) {
        self.send(&ShimMessage::Reply { seq, result }, fds);
    }

    /// Tells what happened, if the peer wants to know.
    pub fn event(&mut self, event: &ShimEvent) {
        if self.wants_events {
            self.send(&ShimMessage::Event(event.clone()), Vec::new());
        }
    }

    /// Sends what the peer takes now.
    pub fn flush(&mut self) {
        self.broken |= self.channel.flush().is_err();
    }

    /// Turns log ticks on or off. What is in the log already is announced at once.
    pub fn follow_log(&mut self, on: bool, generation: u64) {
        self.tick = if on { Tick::Idle } else { Tick::Off };
        self.log_grew(generation);
    }

    /// Whether it waits for log lines.
    pub fn follows_log(&self) -> bool {
        self.tick != Tick::Off
    }

    /// Something was written to the log.
    pub fn log_grew(&mut self, generation: u64) {
        self.tick = match self.tick {
            Tick::Off => Tick::Off,
            Tick::Idle => {
                self.send(&ShimMessage::Event(ShimEvent::LogTick { generation }), Vec::new());
                Tick::Announced
            }
            Tick::Announced | Tick::AnnouncedAndMore => Tick::AnnouncedAndMore,
        };
    }

    /// The last tick was handled.
    pub fn log_acknowledged(&mut self, generation: u64) {
        let more = self.tick == Tick::AnnouncedAndMore;
        if self.tick != Tick::Off {
            self.tick = Tick::Idle;
        }
        if more {
            self.log_grew(generation);
        }
    }

    fn send(&mut self, message: &ShimMessage, fds: Vec<OwnedFd>) {
        match self.channel.queue(&encode(message), fds) {
            Ok(()) => self.flush(),
            // A peer that lets megabytes of events pile up is not coming back.
            Err(ChannelError::Backlog { .. }) => self.broken = true,
            Err(_) => self.broken = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::decode_message;

    fn ticks(engine: &mut Channel) -> usize {
        let mut count = 0;
        while let Ok(Some((frame, _))) = engine.try_recv() {
            let message = decode_message(&frame).unwrap().unwrap();
            assert!(matches!(message, ShimMessage::Event(ShimEvent::LogTick { .. })));
            count += 1;
        }
        count
    }

    #[test]
    fn one_tick_at_a_time() {
        let (engine, shim) = Channel::pair().unwrap();
        let mut engine = engine;
        let mut connection = Connection::new(0, shim.into_fd(), true);
        connection.log_grew(0);
        assert_eq!(ticks(&mut engine), 0, "not followed yet");
        connection.follow_log(true, 0);
        assert_eq!(ticks(&mut engine), 1, "what is there already");
        connection.log_grew(0);
        connection.log_grew(0);
        assert_eq!(ticks(&mut engine), 0, "unacknowledged");
        connection.log_acknowledged(0);
        assert_eq!(ticks(&mut engine), 1, "what came meanwhile");
        connection.log_acknowledged(0);
        assert_eq!(ticks(&mut engine), 0);
        connection.log_grew(0);
        assert_eq!(ticks(&mut engine), 1);
    }

    #[test]
    fn garbage_breaks_the_connection_but_unknown_requests_do_not() {
        let (mut engine, shim) = Channel::pair().unwrap();
        let mut connection = Connection::new(0, shim.into_fd(), true);
        engine.send(br#"{"seq":5,"request":{"newer":1}}"#, &[]).unwrap();
        assert!(matches!(connection.receive(), Some((Err((5, _)), _))));
        engine.send(b"garbage", &[]).unwrap();
        assert!(connection.receive().is_none());
        assert!(connection.is_broken());
    }
}
