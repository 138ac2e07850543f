//! Starts that fail leave nothing behind, whichever step it is.

use ferry_runtime::Step;

use crate::Case;
use crate::support::{Fixture, leftovers};

pub const CASES: &[Case] = &[("every_failing_step_leaves_nothing", every_failing_step_leaves_nothing)];

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
