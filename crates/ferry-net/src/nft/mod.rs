//! nf_tables: the one table ferry owns, written as netlink messages.
//!
//! [`ruleset`] is pure: from networks and published ports to elements of the [`sets`]
//! that the [`rules`] look into. [`message`] and [`expression`] turn those into netlink, [`firewall`]
//! keeps the kernel in step with the wanted state, [`monitor`] hears when someone
//! else touches it, [`foreign`] copes with other programs' FORWARD policies and
//! [`conntrack`] forgets connections of ports that are gone.

pub(crate) mod conntrack;
mod expression;
mod firewall;
mod foreign;
mod message;
mod monitor;
mod redirect;
mod rules;
mod ruleset;
mod sets;

pub(crate) use firewall::Firewall;
pub use firewall::FirewallError;
pub(crate) use monitor::{Monitor, Noticed};
pub(crate) use redirect::redirect_dns;
pub use ruleset::GatewayMode;
pub(crate) use ruleset::{NetworkRules, PortRule};
