//! Keeps ferry's table in the kernel in step with what is wanted.

use ferry_sys::netlink::Family;
use rustix::io::Errno;

use crate::netlink::{Connection, NetlinkError};

use super::message::TableFamily;
use super::message::Transaction;
use super::ruleset::{self, NetworkRules, PortRule, Wanted};

/// A firewall change that failed.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// The kernel has no nf_tables, or lacks one of the expressions used.
    #[error("the kernel lacks an nftables feature that networks need: {0}")]
    Unsupported(#[source] NetlinkError),
    /// Any other refusal.
    #[error(transparent)]
    Refused(#[from] NetlinkError),
}

/// Owner of one nftables table.
#[derive(Debug)]
pub(crate) struct Firewall {
    table: String,
    connection: Connection,
    wanted: Wanted,
    installed: bool,
}

impl Firewall {
    /// Opens the connection; the kernel is not touched before something is wanted.
    pub(crate) fn open(table: &str) -> Result<Self, FirewallError> {
        let connection = Connection::open(Family::Netfilter)?;
        Ok(Self { table: table.to_owned(), connection, wanted: Wanted::default(), installed: false })
    }

    /// The netlink port whose events are effects of this firewall's own changes.
    pub(crate) fn port(&self) -> u32 {
        self.connection.port()
    }

    /// The name of the own table, which marks rules among other programs' too.
    pub(crate) fn table(&self) -> &str {
        &self.table
    }

    /// Names of the bridges the table knows.
    pub(crate) fn bridges(&self) -> Vec<String> {
        self.wanted.networks.values().map(|network| network.bridge.clone()).collect()
    }

    /// Sets the interfaces between which the host must not start to route.
    pub(crate) fn set_uplinks(&mut self, uplinks: Vec<String>) {
        self.wanted.uplinks = uplinks;
    }

    /// Takes over what an earlier service had in force; nothing is written yet.
    pub(crate) fn restore(&mut self, id: &str, rules: NetworkRules) {
        self.wanted.networks.insert(id.to_owned(), rules);
    }

    /// The same for ports.
    pub(crate) fn restore_ports(&mut self, ports: impl IntoIterator<Item = PortRule>) {
        self.wanted.ports.extend(ports);
    }

    /// Writes the whole table anew, in one transaction.
    pub(crate) fn install(&mut self) -> Result<(), FirewallError> {
        let transaction = ruleset::replace(&self.table, &self.wanted);
        self.commit(transaction)?;
        self.installed = true;
        Ok(())
    }

    /// Removes the table and forgets everything wanted.
    pub(crate) fn remove(&mut self) -> Result<(), FirewallError> {
        self.wanted = Wanted::default();
        if !std::mem::take(&mut self.installed) {
            return Ok(());
        }
        self.commit(ruleset::remove(&self.table))
    }

    /// Makes a network's rules be these; `None` removes them.
    pub(crate) fn set_network(&mut self, id: &str, rules: Option<NetworkRules>) -> Result<(), FirewallError> {
        let before = self.wanted.networks.get(id).cloned();
        if before == rules {
            return Ok(());
        }
        let wanted = &mut self.wanted.networks;
        match &rules {
            Some(rules) => wanted.insert(id.to_owned(), rules.clone()),
            None => wanted.remove(id),
        };
        let result = self.change(|transaction| {
            if let Some(before) = &before {
                ruleset::remove_network(transaction, before);
            }
            if let Some(rules) = &rules {
                ruleset::add_network(transaction, rules);
            }
        });
        if result.is_err() {
            match before {
                Some(before) => self.wanted.networks.insert(id.to_owned(), before),
                None => self.wanted.networks.remove(id),
            };
        }
        result
    }

    /// Publishes ports, all or none.
    pub(crate) fn publish(&mut self, ports: &[PortRule]) -> Result<(), FirewallError> {
        let new: Vec<_> = ports.iter().filter(|port| !self.wanted.ports.contains(port)).cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        self.wanted.ports.extend(new.iter().cloned());
        let networks = self.wanted.networks.clone();
        let result = self.change(|transaction| ruleset::add_ports(transaction, &networks, new.iter()));
        if result.is_err() {
            self.wanted.ports.retain(|port| !new.contains(port));
        }
        result
    }

    /// Takes published ports back; unknown ones are nothing to do.
    pub(crate) fn unpublish(&mut self, ports: &[PortRule]) -> Result<(), FirewallError> {
        let known: Vec<_> = ports.iter().filter(|port| self.wanted.ports.remove(*port)).cloned().collect();
        if known.is_empty() {
            return Ok(());
        }
        let networks = self.wanted.networks.clone();
        self.change(|transaction| ruleset::remove_ports(transaction, &networks, known.iter()))
    }

    /// Commits a small change, or the whole table where the small change meets a
    /// table that someone else removed or altered.
    fn change(&mut self, edit: impl FnOnce(&mut Transaction)) -> Result<(), FirewallError> {
        if !self.installed {
            return self.install();
        }
        let mut transaction = Transaction::begin(TableFamily::Inet, &self.table, None);
        edit(&mut transaction);
        match self.commit(transaction) {
            Err(FirewallError::Refused(error))
                if error.errno == Errno::NOENT || error.errno == Errno::EXIST =>
            {
                self.install()
            }
            result => result,
        }
    }

    fn commit(&mut self, transaction: Transaction) -> Result<(), FirewallError> {
        self.connection.execute(&transaction.finish()).map_err(|error| match error.errno {
            Errno::OPNOTSUPP | Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT => {
                FirewallError::Unsupported(error)
            }
            _ => FirewallError::Refused(error),
        })
    }
}

impl Firewall {
    /// Lets the bridges' packets through other programs' FORWARD chains that drop
    /// by default; the names of those chains.
    pub(crate) fn pass_foreign_chains(&mut self) -> Result<Vec<String>, FirewallError> {
        let bridges = self.bridges();
        Ok(super::foreign::sync(&mut self.connection, &self.table, &bridges)?)
    }
}
