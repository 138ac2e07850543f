//! Networks: plans, bridges, addresses, nftables, published ports, DNS answers.

pub mod address;
pub(crate) mod kernel;
pub(crate) mod netlink;
pub(crate) mod nft;
pub mod plan;
pub mod port;
