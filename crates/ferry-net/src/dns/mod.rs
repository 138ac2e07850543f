//! The DNS service containers see at 127.0.0.11.
//!
//! [`message`] reads queries and writes answers, [`names`] knows who is called
//! what on which network, [`cache`] remembers outside answers, [`upstream`] knows
//! whom to ask, and [`server`] is the one thread that serves every container.
//!
//! The sockets listen on a random port of 127.0.0.11 inside the container's
//! network namespace, where a redirect leads port 53 to them; so port 53 itself
//! stays free for a DNS server in the container.

mod cache;
mod message;
mod names;
mod server;
mod tcp;
mod upstream;

pub(crate) use server::{DnsServer, DnsSockets};
pub use upstream::{ResolvConf, host_resolv_conf};

/// The address containers find their DNS server at.
pub const DNS_ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(127, 0, 0, 11);
