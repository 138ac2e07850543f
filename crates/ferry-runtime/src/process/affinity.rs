//! On which processors a further process runs, before and after it has joined its container's cgroup.

use ferry_oci::runtime;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::create::Step;
use crate::error::{SpecError, StepError};

/// The two sets; `None` leaves the kernel's choice.
#[derive(Debug, Default)]
pub(crate) struct AffinityPlan {
    initial: Option<(String, CpuSet)>,
    after: Option<(String, CpuSet)>,
}

impl AffinityPlan {
    pub fn build(process: &runtime::Process) -> Result<AffinityPlan, SpecError> {
        let Some(wanted) = process.exec_cpu_affinity() else { return Ok(AffinityPlan::default()) };
        let parse = |field: &str, text: &Option<String>| match text.as_deref().filter(|text| !text.is_empty())
        {
            None => Ok(None),
            Some(text) => set(field, text).map(|set| Some((text.to_owned(), set))),
        };
        Ok(AffinityPlan {
            initial: parse("process.execCPUAffinity.initial", wanted.initial())?,
            after: parse("process.execCPUAffinity.final", wanted.cpu_affinity_final())?,
        })
    }

    pub fn set_initial(&self) -> Result<(), StepError> {
        apply(self.initial.as_ref())
    }

    pub fn set_final(&self) -> Result<(), StepError> {
        apply(self.after.as_ref())
    }
}

fn apply(wanted: Option<&(String, CpuSet)>) -> Result<(), StepError> {
    let Some((text, set)) = wanted else { return Ok(()) };
    sched_setaffinity(None, set)
        .map_err(|errno| StepError::new(Step::Scheduler, format!("processors {text}"), errno))
}

/// A list of numbers and ranges: `0-3,7`.
fn set(field: &str, text: &str) -> Result<CpuSet, SpecError> {
    let invalid = |reason: String| SpecError::new(field, text, reason);
    let mut set = CpuSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok();
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err(invalid("not a list of processors such as 0-3,7".to_owned()));
        };
        if first > last || last >= CpuSet::MAX_CPU {
            return Err(invalid(format!("not a range of processors below {}", CpuSet::MAX_CPU)));
        }
        for processor in first..=last {
            set.set(processor);
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::set;

    #[test]
    fn lists_and_ranges() {
        let found = set("x", "0-2,5").expect("a list");
        let processors: Vec<usize> = (0..8).filter(|processor| found.is_set(*processor)).collect();
        assert_eq!(processors, [0, 1, 2, 5]);
        for bad in ["", "a", "3-1", "0-99999", "1,,2"] {
            assert!(set("x", bad).is_err(), "{bad:?}");
        }
    }
}
