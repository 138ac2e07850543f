//! Starts that fail leave nothing behind, whichever step it is.

use ferry_runtime::Step;

use crate::Case;
use crate::support::{Fixture, leftovers};

pub const CASES: &[Case] = &[
    ("every_failing_step_leaves_nothing", every_failing_step_leaves_nothing),
    ("killed_during_setup", killed_during_setup),
    #[cfg(target_arch = "x86_64")]
    ("every_failing_call_of_a_start", every_failing_call_of_a_start),
    #[cfg(target_arch = "x86_64")]
    ("every_failing_call_of_an_exec", every_failing_call_of_an_exec),
];

fn every_failing_step_leaves_nothing(fixture: &Fixture) {
    let before = leftovers();
    macro_rules! check {
        ($($step:ident)*) => {$(
            let (mut request, output) = fixture.request(&["true"], |_| {});
            request.faults = Some(|step| (step == Step::$step).then_some(28));
            let error = ferry_runtime::run(request).expect_err("it fails");
            drop(output);
            let text = error.to_string();
            assert!(text.ends_with("(injected fault): no space left on device"), "{text}");
            assert_eq!(leftovers(), before, "after a failing {:?}", Step::$step);
        )*};
    }
    check!(Session OomScore JoinNamespace Keyring MountSource IsolateMounts MountRoot Sysctl JoinCgroup UnshareCgroup);
    check!(PivotRoot Mount Devices Console Hostname ReadonlyPath MaskPath ReadonlyRoot ResourceLimits Scheduler);
    check!(WorkingDirectory User CloseDescriptors Seccomp);
}

fn killed_during_setup(fixture: &Fixture) {
    let before = leftovers();
    let (mut request, output) = fixture.request(&["true"], |_| {});
    request.faults = Some(|step| {
        if step == Step::PivotRoot {
            ferry_sys::clone::exit_now(77);
        }
        None
    });
    let error = ferry_runtime::run(request).expect_err("it has ended");
    drop(output);
    assert_eq!(error.to_string(), "the process ended with code 77 during set-up");
    assert_eq!(leftovers(), before);
}

/// The Nth system call fails, for every N, in the caller and in the process it clones: `body` must say
/// 0 for a clean error or a good start with nothing left.
#[cfg(target_arch = "x86_64")]
fn fail_every_call(body: impl Fn() -> i32) {
    use ferry_sys::trace::{self, Target};
    // Their first use asks the machine; later ones are free.
    ferry_runtime::cgroup::detect().expect("cgroups are mounted");
    ferry_sys::capability::known();
    for target in [Target::Itself, Target::Children] {
        let mut count = 0;
        for nth in 1.. {
            let traced = trace::run(&body, target, nth, rustix::io::Errno::IO).expect("traceable");
            let Some(call) = traced.failed else { break };
            assert_eq!(traced.code, 0, "call {nth} of {target:?}, system call number {call}");
            count += 1;
        }
        println!("    {count} calls of {target:?} made to fail");
        assert!(count > 20, "the tracer has seen nothing");
    }
}

/// Exit codes of traced code.
#[cfg(target_arch = "x86_64")]
const CLEAN: i32 = 0;
#[cfg(target_arch = "x86_64")]
const SOMETHING_LEFT: i32 = 3;

#[cfg(target_arch = "x86_64")]
fn every_failing_call_of_a_start(fixture: &Fixture) {
    fail_every_call(|| {
        let (request, output) = fixture.request(&["true"], |_| {});
        watched(output, || ferry_runtime::run(request))
    });
}

#[cfg(target_arch = "x86_64")]
fn every_failing_call_of_an_exec(fixture: &Fixture) {
    use std::os::fd::AsFd;
    let (request, output) = fixture.request(&["sleep", "1000"], |_| {});
    let container = ferry_runtime::run(request).expect("it starts");
    fail_every_call(|| {
        let (stdio, output) = crate::support::pipes();
        let request = ferry_runtime::ExecRequest {
            pid: container.pid,
            pidfd: container.pidfd.as_fd(),
            process: crate::support::process(&["true"], |_| {}),
            stdio,
            cgroup: container.cgroup.as_ref(),
            seccomp: Some(crate::support::default_filter()),
            linux: None,
            described: ferry_runtime::hooks::Described::default(),
            preserved: Vec::new(),
            faults: None,
        };
        watched(output, || ferry_runtime::exec(request))
    });
    crate::support::release(container, output);
}

/// Starts with the tracer counting and compares what there is before and after.
#[cfg(target_arch = "x86_64")]
fn watched<E: std::error::Error>(
    output: crate::support::Output,
    start: impl FnOnce() -> Result<ferry_runtime::Process, E>,
) -> i32 {
    let (children, cgroups, mounts, descriptors) = leftovers();
    ferry_sys::trace::begin();
    let result = start();
    ferry_sys::trace::end();
    match result {
        Ok(process) => drop(crate::support::finish(process, output)),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            drop(output);
        }
    }
    let after = leftovers();
    // The output's pipes, open before, are closed now.
    if (after.0, after.1, after.2) == (children, cgroups, mounts) && after.3 < descriptors {
        CLEAN
    } else {
        SOMETHING_LEFT
    }
}
