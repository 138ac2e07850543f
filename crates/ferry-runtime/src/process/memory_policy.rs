//! On which memory nodes a process gets its memory (`linux.memoryPolicy`).

use ferry_oci::runtime::{LinuxMemoryPolicy, MemoryPolicyFlagType, MemoryPolicyModeType};

use crate::create::Step;
use crate::error::{SpecError, StepError};

/// The kernel's largest number of nodes, on any architecture.
const NODES_MAX: usize = 1024;

/// What is to be set.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MemoryPolicyPlan {
    /// The kernel's mode with its flags.
    mode: i32,
    nodes: Vec<u64>,
    /// For messages.
    text: String,
}

impl MemoryPolicyPlan {
    pub fn build(policy: &LinuxMemoryPolicy) -> Result<MemoryPolicyPlan, SpecError> {
        let list = policy.nodes().as_deref().unwrap_or_default();
        let takes_nodes =
            !matches!(policy.mode(), MemoryPolicyModeType::MpolDefault | MemoryPolicyModeType::MpolLocal);
        if !takes_nodes && !list.trim().is_empty() {
            let reason = format!("{} takes no nodes", policy.mode());
            return Err(SpecError::new("linux.memoryPolicy.nodes", list, reason));
        }
        let flags = policy.flags().as_deref().unwrap_or_default();
        let flags = flags.iter().fold(0, |bits, flag| bits | flag_bit(*flag));
        Ok(MemoryPolicyPlan {
            mode: mode_number(policy.mode()) | flags,
            nodes: nodes(list)?,
            text: format!("{} {list}", policy.mode()).trim_end().to_owned(),
        })
    }

    /// Sets it for the calling process and what it executes.
    pub fn apply(&self) -> Result<(), StepError> {
        ferry_sys::execute::set_memory_policy(self.mode, &self.nodes)
            .map_err(|errno| StepError::new(Step::MemoryPolicy, &self.text, errno))
    }
}

fn mode_number(mode: MemoryPolicyModeType) -> i32 {
    match mode {
        MemoryPolicyModeType::MpolDefault => 0,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    }
}

fn flag_bit(flag: MemoryPolicyFlagType) -> i32 {
    match flag {
        MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
        MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
        MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
    }
}

/// A list as `0-3,7`, as a mask.
fn nodes(list: &str) -> Result<Vec<u64>, SpecError> {
    let invalid = |reason: &str| SpecError::new("linux.memoryPolicy.nodes", list, reason);
    let mut mask: Vec<u64> = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| invalid("not a list as 0-3,7"));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(invalid("a range ends before it begins"));
        }
        if last >= NODES_MAX {
            return Err(invalid("no kernel has a node of this number"));
        }
        let words = last / 64 + 1;
        if mask.len() < words {
            mask.resize(words, 0);
        }
        (first..=last).for_each(|node| mask[node / 64] |= 1 << (node % 64));
    }
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(json: &str) -> Result<MemoryPolicyPlan, SpecError> {
        MemoryPolicyPlan::build(&serde_json::from_str(json).expect("a policy"))
    }

    #[test]
    fn lists_become_masks() {
        assert_eq!(nodes("0-3,7").expect("valid"), [0x8f]);
        assert_eq!(nodes("64, 1").expect("valid"), [2, 1]);
        assert_eq!(nodes("").expect("valid"), [0; 0]);
        for bad in ["x", "3-1", "1024", "1-", "-1"] {
            assert!(nodes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn modes_and_flags_are_the_kernel_s() {
        let plan = policy(r#"{"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}"#);
        assert_eq!(plan.expect("valid").mode, 2 | 1 << 15);
        let refused = policy(r#"{"mode": "MPOL_LOCAL", "nodes": "0"}"#).expect_err("no nodes there");
        assert_eq!(refused.reason, "MPOL_LOCAL takes no nodes");
    }
}
