//! Resource use of a cgroup, in one shape for both cgroup versions.
//!
//! Owns the numbers behind `docker stats`; times are nanoseconds, sizes bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Resource use of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// 1 where the memory controller is cgroup v1's, else 2: Docker's clients name fields by it.
    pub version: u8,
    /// Processor time.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Processes.
    pub pids: PidsStats,
    /// Block devices.
    pub block_io: BlockIoStats,
}

/// Processor time used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuStats {
    /// All of it.
    pub usage_ns: u64,
    /// In user mode.
    pub user_ns: u64,
    /// In the kernel.
    pub system_ns: u64,
    /// Per processor; cgroup v1 only.
    pub per_cpu_ns: Vec<u64>,
    /// Enforcement periods with runnable tasks.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// Time spent waiting for the next period.
    pub throttled_ns: u64,
}

/// Memory used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryStats {
    /// Now, page cache included.
    pub usage: u64,
    /// The highest so far.
    pub max_usage: u64,
    /// `None` when unlimited.
    pub limit: Option<u64>,
    /// How often the limit was met.
    pub failures: u64,
    /// Swap used now, memory not included.
    pub swap: u64,
    /// The kernel's own table (`memory.stat`).
    pub details: BTreeMap<String, u64>,
}

/// Processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PidsStats {
    /// Tasks now.
    pub current: u64,
    /// `None` when unlimited.
    pub limit: Option<u64>,
}

/// Block devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockIoStats {
    /// Bytes by device and operation.
    pub service_bytes: Vec<BlockIoEntry>,
    /// Requests by device and operation.
    pub serviced: Vec<BlockIoEntry>,
}

/// One number of block device use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockIoEntry {
    /// Device major number.
    pub major: u64,
    /// Device minor number.
    pub minor: u64,
    /// `Read`, `Write`, ... as Docker spells it.
    pub operation: String,
    /// The number.
    pub value: u64,
}
