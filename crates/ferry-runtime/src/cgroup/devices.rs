//! Which devices a container may use: rules folded to one table, applied through v1's files or a
//! v2 program.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use ferry_oci::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use ferry_sys::bpf;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::device_program;
use super::error::CgroupError;
use super::files;

/// Access bits, as the kernel's device programs number them.
pub(super) const MKNOD: u32 = 1;
pub(super) const READ: u32 = 2;
pub(super) const WRITE: u32 = 4;
pub(super) const ALL: u32 = MKNOD | READ | WRITE;

/// One device or class of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    /// `b` or `c`.
    pub kind: char,
    /// `None` is every number.
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub access: u32,
}

/// What is allowed: everything or nothing, with exceptions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub allow_by_default: bool,
    pub exceptions: Vec<Rule>,
}

/// What every container may use: making any node (using one is another matter), the standard
/// devices, terminals.
const DEFAULTS: [Rule; 11] = [
    rule('c', None, None, MKNOD),
    rule('b', None, None, MKNOD),
    rule('c', Some(1), Some(3), ALL),
    rule('c', Some(1), Some(8), ALL),
    rule('c', Some(1), Some(7), ALL),
    rule('c', Some(5), Some(0), ALL),
    rule('c', Some(1), Some(5), ALL),
    rule('c', Some(1), Some(9), ALL),
    rule('c', Some(136), None, ALL),
    rule('c', Some(5), Some(2), ALL),
    rule('c', Some(5), Some(1), ALL),
];

const fn rule(kind: char, major: Option<u32>, minor: Option<u32>, access: u32) -> Rule {
    Rule { kind, major, minor, access }
}

impl Table {
    /// Folds the specification's rules, then the defaults, into one table. Before the first rule
    /// nothing is allowed.
    pub fn build(rules: &[LinuxDeviceCgroup]) -> Result<Table, CgroupError> {
        let mut table = Table { allow_by_default: false, exceptions: Vec::new() };
        for rule in rules {
            table.add(rule)?;
        }
        if !table.allow_by_default {
            for default in DEFAULTS {
                table.merge(default);
            }
        }
        Ok(table)
    }

    fn add(&mut self, wanted: &LinuxDeviceCgroup) -> Result<(), CgroupError> {
        let access = access(wanted.access().as_deref().unwrap_or("rwm"))?;
        let major = number(wanted.major())?;
        let minor = number(wanted.minor())?;
        let kinds: &[char] = match wanted.typ().unwrap_or(LinuxDeviceType::A) {
            LinuxDeviceType::A => &['b', 'c'],
            LinuxDeviceType::B => &['b'],
            LinuxDeviceType::C | LinuxDeviceType::U => &['c'],
            LinuxDeviceType::P => {
                return Err(invalid("p", "a device rule is for a, b or c"));
            }
        };
        if kinds.len() == 2 && major.is_none() && minor.is_none() && access == ALL {
            self.allow_by_default = wanted.allow();
            self.exceptions.clear();
            return Ok(());
        }
        for kind in kinds {
            let rule = Rule { kind: *kind, major, minor, access };
            if wanted.allow() == self.allow_by_default { self.remove(rule) } else { self.merge(rule) }
        }
        Ok(())
    }

    /// Adds an exception, or its access to the one for the same devices.
    fn merge(&mut self, rule: Rule) {
        match self.exceptions.iter_mut().find(|other| other.is_for_same(&rule)) {
            Some(other) => other.access |= rule.access,
            None => self.exceptions.push(rule),
        }
    }

    /// Takes access away from exceptions for exactly the same devices.
    fn remove(&mut self, rule: Rule) {
        for other in self.exceptions.iter_mut().filter(|other| other.is_for_same(&rule)) {
            other.access &= !rule.access;
        }
        self.exceptions.retain(|other| other.access != 0);
    }
}

impl Rule {
    fn is_for_same(&self, other: &Rule) -> bool {
        (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)
    }

    /// As v1's files take it: `c 1:3 rwm`.
    fn to_line(self) -> String {
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        let mut line = format!("{} {}:{} ", self.kind, number(self.major), number(self.minor));
        for (bit, letter) in [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')] {
            if self.access & bit != 0 {
                line.push(letter);
            }
        }
        line
    }
}

fn access(text: &str) -> Result<u32, CgroupError> {
    text.chars().try_fold(0, |access, letter| match letter {
        'r' => Ok(access | READ),
        'w' => Ok(access | WRITE),
        'm' => Ok(access | MKNOD),
        _ => Err(invalid(text, "access is made of r, w and m")),
    })
}

fn number(number: Option<i64>) -> Result<Option<u32>, CgroupError> {
    match number {
        // -1 and absence are both "every number".
        None | Some(-1) => Ok(None),
        Some(number) => {
            u32::try_from(number).map(Some).map_err(|_| invalid(&number.to_string(), "not a device number"))
        }
    }
}

fn invalid(value: &str, reason: &str) -> CgroupError {
    CgroupError::Value {
        setting: "linux.resources.devices",
        value: value.to_owned(),
        reason: reason.to_owned(),
    }
}

/// Applies a table through a v1 cgroup's files.
pub(super) fn apply_v1(directory: &Path, table: &Table) -> Result<(), CgroupError> {
    let (first, exceptions) = match table.allow_by_default {
        true => ("devices.allow", "devices.deny"),
        false => ("devices.deny", "devices.allow"),
    };
    files::write(&directory.join(first), "a")?;
    let path = directory.join(exceptions);
    for rule in &table.exceptions {
        files::write(&path, &rule.to_line())?;
    }
    Ok(())
}

/// Applies a table by a program attached to a v2 cgroup, in place of the one there.
pub(super) fn apply_v2(directory: &Path, table: &Table) -> Result<(), CgroupError> {
    let fail = |errno| files::failed("attach device program to", directory, errno);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let cgroup = rustix::fs::open(directory, flags, Mode::empty()).map_err(fail)?;
    let program = bpf::load_device_program(&device_program::compile(table)).map_err(fail)?;
    let old = bpf::device_programs(cgroup.as_fd()).map_err(fail)?;
    if let [old] = old.as_slice() {
        let replaced = bpf::attach_device_program(cgroup.as_fd(), program.as_fd(), Some(old.as_fd()));
        match replaced {
            Ok(()) => return Ok(()),
            // Replacing needs Linux 5.6; the other order does the same in two steps.
            Err(Errno::INVAL) => {}
            Err(errno) => return Err(fail(errno)),
        }
    }
    bpf::attach_device_program(cgroup.as_fd(), program.as_fd(), None).map_err(fail)?;
    detach(&cgroup, &old).map_err(fail)
}

fn detach(cgroup: &OwnedFd, programs: &[OwnedFd]) -> Result<(), Errno> {
    for program in programs {
        bpf::detach_device_program(cgroup.as_fd(), program.as_fd())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(in crate::cgroup) fn wanted(
        allow: bool,
        kind: &str,
        major: i64,
        minor: i64,
        access: &str,
    ) -> LinuxDeviceCgroup {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(allow);
        rule.set_typ(Some(match kind {
            "b" => LinuxDeviceType::B,
            "c" => LinuxDeviceType::C,
            _ => LinuxDeviceType::A,
        }));
        rule.set_major((major >= 0).then_some(major));
        rule.set_minor((minor >= 0).then_some(minor));
        rule.set_access(Some(access.to_owned()));
        rule
    }

    #[test]
    fn docker_rules_fold_to_a_list_of_exceptions() {
        let table = Table::build(&[
            wanted(false, "a", -1, -1, "rwm"),
            wanted(true, "c", 10, 200, "rwm"),
            wanted(false, "c", 10, 229, "rwm"),
            wanted(true, "c", 10, 200, "m"),
        ])
        .expect("valid rules");
        assert!(!table.allow_by_default);
        assert_eq!(table.exceptions[0].to_line(), "c 10:200 rwm");
        assert_eq!(table.exceptions.len(), 1 + DEFAULTS.len());
        assert_eq!(table.exceptions[1].to_line(), "c *:* m");
    }

    #[test]
    fn privileged_allows_all() {
        let table = Table::build(&[wanted(true, "a", -1, -1, "rwm")]).expect("valid rules");
        assert_eq!(table, Table { allow_by_default: true, exceptions: Vec::new() });
    }

    #[test]
    fn a_removed_exception_is_gone() {
        let table = Table::build(&[wanted(true, "b", 8, 0, "rw"), wanted(false, "b", 8, 0, "rwm")])
            .expect("valid rules");
        assert!(!table.exceptions.iter().any(|rule| rule.major == Some(8)));
    }
}
