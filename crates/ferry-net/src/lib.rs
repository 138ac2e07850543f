//! Networks: plans, bridges, addresses, nftables, published ports, DNS answers.

pub mod address;
pub mod client;
pub mod dns;
pub mod driver;
pub mod ipam;
mod kernel;
mod netlink;
mod nft;
pub mod plan;
pub mod port;
pub mod protocol;
mod proxy;
pub mod service;
