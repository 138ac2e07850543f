//! Scheduling policy, I/O priority and processor affinity of a process.

use ferry_oci::runtime::{self, IOPriorityClass, LinuxSchedulerFlag, LinuxSchedulerPolicy};
use ferry_sys::execute::{SchedulerAttributes, set_io_priority, set_scheduler};

use crate::create::Step;
use crate::error::{SpecError, StepError};

/// Levels of an I/O priority class.
const IO_LEVELS: i64 = 8;
/// Where the class stands in the kernel's I/O priority number.
const IO_CLASS_SHIFT: u32 = 13;

/// What is to be set.
#[derive(Debug, Default)]
pub(crate) struct SchedulingPlan {
    scheduler: Option<SchedulerAttributes>,
    io_priority: Option<u32>,
}

impl SchedulingPlan {
    pub fn build(process: &runtime::Process) -> Result<SchedulingPlan, SpecError> {
        Ok(SchedulingPlan {
            scheduler: process.scheduler().as_ref().map(scheduler).transpose()?,
            io_priority: process.io_priority().as_ref().map(io_priority).transpose()?,
        })
    }

    /// Sets it for the calling process.
    pub fn apply(&self) -> Result<(), StepError> {
        if let Some(attributes) = self.scheduler {
            set_scheduler(attributes).map_err(|errno| {
                StepError::new(Step::Scheduler, format!("policy {}", attributes.policy), errno)
            })?;
        }
        if let Some(priority) = self.io_priority {
            set_io_priority(priority)
                .map_err(|errno| StepError::new(Step::Scheduler, "I/O priority", errno))?;
        }
        Ok(())
    }
}

fn scheduler(wanted: &runtime::Scheduler) -> Result<SchedulerAttributes, SpecError> {
    let priority = wanted.priority().unwrap_or(0);
    let mut attributes = SchedulerAttributes::default();
    attributes.policy = match wanted.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    attributes.nice = wanted.nice().unwrap_or(0);
    attributes.priority = u32::try_from(priority)
        .map_err(|_| SpecError::new("process.scheduler.priority", priority, "negative"))?;
    attributes.runtime = wanted.runtime().unwrap_or(0);
    attributes.deadline = wanted.deadline().unwrap_or(0);
    attributes.period = wanted.period().unwrap_or(0);
    for flag in wanted.flags().as_deref().unwrap_or_default() {
        attributes.flags |= match flag {
            LinuxSchedulerFlag::SchedResetOnFork => 0x01,
            LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
            LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
            LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
            LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
            LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
            LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
        };
    }
    Ok(attributes)
}

fn io_priority(wanted: &runtime::LinuxIOPriority) -> Result<u32, SpecError> {
    let class: u32 = match wanted.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match wanted.priority() {
        level @ 0..IO_LEVELS => Ok(class << IO_CLASS_SHIFT | level as u32),
        level => Err(SpecError::new("process.ioPriority.priority", level, "not within 0 to 7")),
    }
}
