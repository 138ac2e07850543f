//! Netlink messages: building batches, reading answers, and the conversation
//! with the kernel that turns an error number into an error that names the step.
//!
//! One small builder serves rtnetlink, nf_tables and conntrack alike, because all
//! three are nested type-length-value attributes behind a fixed header.

mod build;
mod connection;
mod read;

pub(crate) use build::{Attributes, Batch, flags};
pub(crate) use connection::{Connection, NetlinkError};
pub(crate) use read::{Attribute, MessageView, attributes, messages, string};

/// Attribute payloads and messages are padded to this.
const ALIGNMENT: usize = 4;
/// Length of `struct nlmsghdr`.
const MESSAGE_HEADER: usize = 16;
/// Length of `struct nlattr`.
const ATTRIBUTE_HEADER: usize = 4;

fn align(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT)
}
