//! Hears every change of the host's ruleset and says whose it was.

use std::os::fd::{AsFd, BorrowedFd};

use ferry_sys::netlink::Family;
use rustix::io::Errno;

use crate::netlink::{Connection, NetlinkError, attributes, messages, string};

use super::message::{NEW_GENERATION, SUBSYSTEM};

/// Bit of the multicast group that announces ruleset changes.
const GROUP_NFTABLES: u32 = 1 << 6;
const SUBSYSTEM_MASK: u16 = 0xff00;

/// What a round of events amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Noticed {
    /// Someone else changed ferry's own table.
    pub(crate) own_table: bool,
    /// Someone else changed another table.
    pub(crate) other_tables: bool,
}

/// A subscription to ruleset changes.
#[derive(Debug)]
pub(crate) struct Monitor {
    connection: Connection,
    table: String,
}

impl Monitor {
    /// Subscribes; events from now on are heard.
    pub(crate) fn open(table: &str) -> Result<Self, NetlinkError> {
        let connection = Connection::subscribe(Family::Netfilter, GROUP_NFTABLES)?;
        Ok(Self { connection, table: table.to_owned() })
    }

    /// Reads all queued events, leaving out those that `own_port` caused.
    pub(crate) fn drain(&mut self, own_port: u32) -> Noticed {
        let mut noticed = Noticed::default();
        loop {
            match self.connection.socket_mut().receive(false) {
                Ok(Some(datagram)) => {
                    let events = messages(datagram).filter(|event| event.kind & SUBSYSTEM_MASK == SUBSYSTEM);
                    for event in events.filter(|event| event.port != own_port) {
                        if event.kind & !SUBSYSTEM_MASK == NEW_GENERATION {
                            continue;
                        }
                        let table =
                            event.payload.get(4..).and_then(|rest| attributes(rest).find(|a| a.kind == 1));
                        match table.is_some_and(|name| string(name.payload) == self.table) {
                            true => noticed.own_table = true,
                            false => noticed.other_tables = true,
                        }
                    }
                }
                Ok(None) => return noticed,
                // Events were lost, so anything may have happened.
                Err(Errno::NOBUFS) => noticed = Noticed { own_table: true, other_tables: true },
                Err(_) => return noticed,
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}
