//! The compiler against an interpreter of BPF, a plain evaluation of the rules, and seccompiler.

use std::collections::BTreeMap;

use ferry_oci::runtime::{Capabilities, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompOperator};

use super::arch::Architecture;
use super::docker::{self, Situation};
use super::program::interpreter::{Question, from_bytes, run};
use super::{compile, profile, table};
use crate::capability;

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const KILL: u32 = 0x8000_0000;
const X32_BIT: u32 = 0x4000_0000;

fn default_for(architecture: Architecture, capabilities: &Capabilities) -> LinuxSeccomp {
    let situation = Situation { architecture, capabilities, kernel: (6, 1) };
    docker::resolve(&profile::docker_default(), situation).expect("the built-in profile resolves")
}

/// A compiled profile that can be asked by names.
struct Filter {
    program: Vec<super::program::Instruction>,
}

impl Filter {
    fn new(profile: &LinuxSeccomp, native: Architecture) -> Filter {
        Filter { program: from_bytes(&compile::compile(profile, native).expect("it compiles")) }
    }

    fn ask(&self, architecture: Architecture, number: u32, arguments: [u64; 6]) -> u32 {
        let number = if architecture == Architecture::X32 { number | X32_BIT } else { number };
        run(&self.program, Question { number, architecture: architecture.audit(), arguments }).0
    }

    fn call(&self, architecture: Architecture, name: &str, first: u64) -> u32 {
        let number = table::number(name, architecture.column()).expect("a known name");
        self.ask(architecture, number, [first, 0, 0, 0, 0, 0])
    }
}

#[test]
fn docker_default_answers_as_docker_says() {
    use Architecture::{I386, X32, X86_64};
    let filter = Filter::new(&default_for(X86_64, &capability::docker_default()), X86_64);
    let cases = [
        (X86_64, "read", 0, ALLOW),
        (X86_64, "mount", 0, EPERM),
        (X86_64, "reboot", 0, EPERM),
        (X86_64, "chroot", 0, ALLOW),
        (X86_64, "ptrace", 0, ALLOW),
        (X86_64, "clone3", 0, ENOSYS),
        (X86_64, "clone", 0x0120_0011, ALLOW),
        (X86_64, "clone", 0x1000_0000, EPERM),
        (X86_64, "socket", 2, ALLOW),
        (X86_64, "socket", 38, EPERM),
        (X86_64, "socket", 39, ALLOW),
        (X86_64, "socket", 40, EPERM),
        (X86_64, "socket", 41, ALLOW),
        (X86_64, "personality", 0xffff_ffff, ALLOW),
        (X86_64, "personality", 0x0004_0000, EPERM),
        (X86_64, "io_uring_setup", 0, EPERM),
        (X86_64, "keyctl", 0, EPERM),
        (X86_64, "bpf", 0, EPERM),
        (X86_64, "userfaultfd", 0, EPERM),
        (X86_64, "file_setattr", 0, ENOSYS),
        (I386, "socketcall", 1, ALLOW),
        (I386, "mount", 0, EPERM),
        (I386, "clock_gettime64", 0, ALLOW),
        (X32, "execve", 0, ALLOW),
        (X32, "mount", 0, EPERM),
    ];
    for (architecture, name, first, expected) in cases {
        let found = filter.call(architecture, name, first);
        assert_eq!(found, expected, "{architecture:?} {name}({first:#x}): {found:#x}");
    }
}

#[test]
fn high_bits_do_not_slip_past_a_32_bit_argument() {
    let filter =
        Filter::new(&default_for(Architecture::X86_64, &capability::docker_default()), Architecture::X86_64);
    for family in [38u64, 40] {
        assert_eq!(filter.call(Architecture::X86_64, "socket", family | 1 << 40), EPERM, "{family}");
    }
}

#[test]
fn foreign_architectures_are_killed_and_no_syscall_is_refused() {
    let filter =
        Filter::new(&default_for(Architecture::X86_64, &capability::docker_default()), Architecture::X86_64);
    assert_eq!(filter.ask(Architecture::Aarch64, 63, [0; 6]), KILL);
    assert_eq!(filter.ask(Architecture::X86_64, u32::MAX, [0; 6]), EPERM);
}

#[test]
fn arm_programs_run_under_an_aarch64_filter() {
    use Architecture::{Aarch64, Arm};
    let filter = Filter::new(&default_for(Aarch64, &capability::docker_default()), Aarch64);
    assert_eq!(filter.call(Aarch64, "openat", 0), ALLOW);
    assert_eq!(filter.call(Aarch64, "mount", 0), EPERM);
    assert_eq!(filter.call(Arm, "set_tls", 0), ALLOW);
    assert_eq!(filter.call(Arm, "mount", 0), EPERM);
    assert_eq!(filter.ask(Architecture::X86_64, 0, [0; 6]), KILL);
}

#[test]
fn an_answer_is_quick() {
    let filter =
        Filter::new(&default_for(Architecture::X86_64, &capability::docker_default()), Architecture::X86_64);
    let longest = (0..512)
        .map(|number| {
            let question = Question {
                number,
                architecture: Architecture::X86_64.audit(),
                arguments: [7, 0, 0, 0, 0, 0],
            };
            run(&filter.program, question).1
        })
        .max();
    assert!(longest.is_some_and(|length| length <= 32), "{longest:?} instructions");
    assert!(filter.program.len() < 1024, "{} instructions", filter.program.len());
}

/// The rules read one by one: what the compiled tree must agree with.
fn evaluate(
    profile: &LinuxSeccomp,
    architecture: Architecture,
    number: u32,
    arguments: [u64; 6],
) -> Option<u32> {
    let mut otherwise = None;
    for rule in profile.syscalls().as_deref().unwrap_or_default() {
        for name in rule.names() {
            if table::number(name, architecture.column()) != Some(number) {
                continue;
            }
            let answer = match rule.action() {
                LinuxSeccompAction::ScmpActAllow => ALLOW,
                LinuxSeccompAction::ScmpActErrno => 0x0005_0000 | rule.errno_ret().unwrap_or(1),
                action => panic!("{action:?}"),
            };
            let conditions = rule.args().as_deref().unwrap_or_default();
            let hold = conditions.iter().all(|condition| {
                let argument = arguments[condition.index()];
                // The kernel itself cuts these, so the comparison has to.
                let fits = u32::try_from(condition.value()).is_ok();
                let narrow = fits && condition.index() == 0 && (name == "socket" || name == "personality");
                let argument = if narrow { argument & 0xffff_ffff } else { argument };
                let (value, second) = (condition.value(), condition.value_two().unwrap_or(0));
                match condition.op() {
                    LinuxSeccompOperator::ScmpCmpNe => argument != value,
                    LinuxSeccompOperator::ScmpCmpLt => argument < value,
                    LinuxSeccompOperator::ScmpCmpLe => argument <= value,
                    LinuxSeccompOperator::ScmpCmpEq => argument == value,
                    LinuxSeccompOperator::ScmpCmpGe => argument >= value,
                    LinuxSeccompOperator::ScmpCmpGt => argument > value,
                    LinuxSeccompOperator::ScmpCmpMaskedEq => argument & value == second,
                }
            });
            if conditions.is_empty() {
                otherwise.get_or_insert(answer);
            } else if hold {
                return Some(answer);
            }
        }
    }
    otherwise
}

/// Values around every edge that conditions have.
fn interesting() -> Vec<u64> {
    let mut values = Vec::new();
    for edge in [0u64, 8, 38, 40, 0x2_0000, 0x7e02_0000, 0xffff_ffff, 1 << 32, 5 << 32 | 7, u64::MAX] {
        values.extend([edge.wrapping_sub(1), edge, edge.wrapping_add(1)]);
    }
    values
}

#[test]
fn the_tree_agrees_with_the_rules_read_one_by_one() {
    for native in [Architecture::X86_64, Architecture::Aarch64] {
        for capabilities in [capability::docker_default(), capability::all(), Capabilities::new()] {
            let profile = default_for(native, &capabilities);
            let filter = Filter::new(&profile, native);
            for architecture in native.with_compatible() {
                // Below 512 x32 has the numbers of x86_64, so what is new there is new here.
                let newest_of = |architecture, limit| {
                    (0..limit)
                        .rev()
                        .find(|number| evaluate(&profile, architecture, *number, [0; 6]).is_some())
                };
                let own_newest = newest_of(*architecture, 600);
                let shared_newest = newest_of(Architecture::X86_64, 512);
                for number in 0..600 {
                    if *architecture == Architecture::X32 && !table::is_used(number, table::Column::X32) {
                        continue; // the kernel refuses what x32 lacks, whatever the filter says
                    }
                    // Only these have conditions; the others need not be asked about every value.
                    let conditional = ["clone", "socket", "personality"]
                        .iter()
                        .any(|name| table::number(name, architecture.column()) == Some(number));
                    for first in interesting().into_iter().take(if conditional { usize::MAX } else { 1 }) {
                        let arguments = [first, 0, 0, 0, 0, 0];
                        let shared = *architecture == Architecture::X32 && number < 512;
                        let newest = if shared { shared_newest } else { own_newest };
                        let beyond = if Some(number) > newest { ENOSYS } else { EPERM };
                        let expected = evaluate(&profile, *architecture, number, arguments).unwrap_or(beyond);
                        let found = filter.ask(*architecture, number, arguments);
                        assert_eq!(found, expected, "{architecture:?} {number} {first:#x}");
                    }
                }
            }
        }
    }
}

/// A profile of one syscall with every operator, on which seccompiler is asked too.
#[test]
fn operators_agree_with_seccompiler() {
    use seccompiler::{
        SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    };
    let number = table::number("ioctl", Architecture::X86_64.column()).expect("known");
    for value in interesting() {
        for (name, operator) in [
            ("SCMP_CMP_NE", SeccompCmpOp::Ne),
            ("SCMP_CMP_LT", SeccompCmpOp::Lt),
            ("SCMP_CMP_LE", SeccompCmpOp::Le),
            ("SCMP_CMP_EQ", SeccompCmpOp::Eq),
            ("SCMP_CMP_GE", SeccompCmpOp::Ge),
            ("SCMP_CMP_GT", SeccompCmpOp::Gt),
            ("SCMP_CMP_MASKED_EQ", SeccompCmpOp::MaskedEq(0xffff_0000_00ff)),
        ] {
            let (first, second) = match &operator {
                SeccompCmpOp::MaskedEq(mask) => (*mask, value & mask),
                _ => (value, 0),
            };
            let profile: LinuxSeccomp = serde_json::from_value(serde_json::json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": [
                    {"index": 1, "value": first, "valueTwo": second, "op": name}
                ]}]
            }))
            .expect("a valid profile");
            let own = Filter::new(&profile, Architecture::X86_64);
            let compared = if matches!(operator, SeccompCmpOp::MaskedEq(_)) { second } else { value };
            let condition = SeccompCondition::new(1, SeccompCmpArgLen::Qword, operator, compared);
            let rule = SeccompRule::new(vec![condition.expect("a valid condition")]).expect("a valid rule");
            let oracle = SeccompFilter::new(
                BTreeMap::from([(i64::from(number), vec![rule])]),
                SeccompAction::Allow,
                SeccompAction::Errno(1),
                seccompiler::TargetArch::x86_64,
            )
            .expect("a valid filter");
            let oracle: seccompiler::BpfProgram = oracle.try_into().expect("it compiles");
            let oracle: Vec<super::program::Instruction> = oracle
                .iter()
                .map(|instruction| super::program::Instruction {
                    code: instruction.code,
                    when_true: instruction.jt,
                    when_false: instruction.jf,
                    constant: instruction.k,
                })
                .collect();
            for argument in interesting() {
                let arguments = [0, argument, 0, 0, 0, 0];
                let question = Question { number, architecture: Architecture::X86_64.audit(), arguments };
                assert_eq!(
                    own.ask(Architecture::X86_64, number, arguments),
                    run(&oracle, question).0,
                    "{name} {value:#x} on {argument:#x}"
                );
            }
        }
    }
}

/// The table against moby's own file, where a path to it is given.
#[test]
fn the_table_is_mobys_profile() {
    let Some(path) = std::env::var_os("FERRY_SECCOMP_REFERENCE") else {
        println!("SKIPPED: FERRY_SECCOMP_REFERENCE does not name moby's default.json");
        return;
    };
    let reference = docker::parse(&std::fs::read(path).expect("readable")).expect("a valid profile");
    for architecture in [Architecture::X86_64, Architecture::Aarch64] {
        for capabilities in [capability::docker_default(), capability::all(), Capabilities::new()] {
            for kernel in [(4, 4), (6, 1)] {
                let situation = Situation { architecture, capabilities: &capabilities, kernel };
                let own = docker::resolve(&profile::docker_default(), situation).expect("resolves");
                let theirs = docker::resolve(&reference, situation).expect("resolves");
                assert_eq!(
                    own.architectures().as_ref().map(Vec::len),
                    theirs
                        .architectures()
                        .as_ref()
                        .map(|list| list.len().max(own.architectures().as_ref().map_or(0, Vec::len)))
                );
                assert_eq!(flat(&own), flat(&theirs), "{architecture:?} {kernel:?}");
            }
        }
    }
    for capability in capability::all() {
        let capabilities = Capabilities::from([capability]);
        let situation =
            Situation { architecture: Architecture::X86_64, capabilities: &capabilities, kernel: (6, 1) };
        let own = docker::resolve(&profile::docker_default(), situation).expect("resolves");
        assert_eq!(
            flat(&own),
            flat(&docker::resolve(&reference, situation).expect("resolves")),
            "{capability}"
        );
    }
}

/// Every name with its action and conditions, in an order of its own.
fn flat(profile: &LinuxSeccomp) -> Vec<String> {
    let mut lines = Vec::new();
    for rule in profile.syscalls().as_deref().unwrap_or_default() {
        for name in rule.names() {
            let errno = rule.errno_ret();
            let arguments: Vec<String> = rule
                .args()
                .iter()
                .flatten()
                .map(|argument| {
                    format!(
                        "{} {:?} {} {:?}",
                        argument.index(),
                        argument.op(),
                        argument.value(),
                        argument.value_two()
                    )
                })
                .collect();
            lines.push(format!("{name} {:?} {errno:?} {}", rule.action(), arguments.join("; ")));
        }
    }
    lines.sort();
    lines.dedup();
    lines
}

mod any_profile {
    //! Any profile: the program is one the kernel accepts and answers as the rules read one by one.

    use proptest::prelude::*;

    use super::super::program::{Instruction, JUMP, RETURN};
    use super::*;

    const NAMES: [&str; 10] =
        ["read", "write", "clone", "socket", "ioctl", "execve", "mmap", "openat", "prctl", "file_setattr"];
    const OPERATORS: [&str; 7] = [
        "SCMP_CMP_NE",
        "SCMP_CMP_LT",
        "SCMP_CMP_LE",
        "SCMP_CMP_EQ",
        "SCMP_CMP_GE",
        "SCMP_CMP_GT",
        "SCMP_CMP_MASKED_EQ",
    ];

    fn value() -> impl Strategy<Value = u64> {
        prop_oneof![proptest::sample::select(interesting()), any::<u64>(), 0u64..64]
    }

    fn rule() -> impl Strategy<Value = serde_json::Value> {
        let argument = (0usize..6, value(), value(), proptest::sample::select(OPERATORS.to_vec())).prop_map(
            |(index, value, second, operator)| {
                serde_json::json!({"index": index, "value": value, "valueTwo": second, "op": operator})
            },
        );
        let names = proptest::collection::vec(proptest::sample::select(NAMES.to_vec()), 1..4);
        let arguments = proptest::collection::vec(argument, 0..4);
        (names, arguments, proptest::option::of(1u32..200)).prop_map(|(names, arguments, errno)| {
            let action = if errno.is_some() { "SCMP_ACT_ERRNO" } else { "SCMP_ACT_ALLOW" };
            serde_json::json!({"names": names, "action": action, "errnoRet": errno, "args": arguments})
        })
    }

    /// What the kernel checks: every jump lands inside, and the end is never run past.
    fn is_valid(program: &[Instruction]) -> bool {
        program.last().is_some_and(|last| last.code == RETURN)
            && program.iter().enumerate().all(|(position, instruction)| {
                let reach = match instruction.code {
                    JUMP => instruction.constant as usize,
                    _ => usize::from(instruction.when_true.max(instruction.when_false)),
                };
                position + 1 + reach < program.len() || instruction.code == RETURN
            })
    }

    proptest! {
        #[test]
        fn compiles_to_what_it_says(
            rules in proptest::collection::vec(rule(), 0..12),
            questions in proptest::collection::vec((proptest::sample::select(NAMES.to_vec()), proptest::array::uniform6(value())), 24),
        ) {
            let profile: LinuxSeccomp = serde_json::from_value(serde_json::json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
                "syscalls": rules,
            })).expect("a valid profile");
            let filter = Filter::new(&profile, Architecture::X86_64);
            prop_assert!(is_valid(&filter.program));
            for (name, arguments) in questions {
                for architecture in [Architecture::X86_64, Architecture::I386] {
                    let Some(number) = table::number(name, architecture.column()) else { continue };
                    let expected = evaluate(&profile, architecture, number, arguments).unwrap_or(ALLOW);
                    prop_assert_eq!(filter.ask(architecture, number, arguments), expected, "{} {:x?}", name, arguments);
                }
            }
        }

        #[test]
        fn docker_json_is_read_or_refused(text in ".{0,200}") {
            let _ = docker::parse(text.as_bytes());
        }
    }
}
