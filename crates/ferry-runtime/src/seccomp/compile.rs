//! From resolved rules to a BPF program.
//!
//! Owns the shape of the program: a jump by architecture, then for each a balanced tree of
//! comparisons over ranges of syscall numbers with the same answer, so that an answer takes about a
//! dozen instructions; conditions on arguments are tested at the leaves.
//!
//! Where several rules name a syscall, those with conditions come first, in the profile's order, and
//! one without conditions answers what they left.

use std::collections::BTreeMap;

use ferry_oci::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator};

use super::arch::Architecture;
use super::error::SeccompError;
use super::program::{
    AND, ARCHITECTURE, Instruction, JUMP, JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_EQUAL, LOAD, NUMBER, RETURN,
    argument_high, argument_low, branch, statement, to_bytes,
};
use super::table;

/// The kernel's limit.
const INSTRUCTIONS_MAX: usize = 4096;
/// The reach of a conditional jump.
const BRANCH_MAX: usize = 255;
const ARGUMENTS: usize = 6;

/// `SECCOMP_RET_*`
const KILL_THREAD: u32 = 0x0000_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const NOTIFY: u32 = 0x7fc0_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// The highest errno the kernel passes on.
const ERRNO_MAX: u32 = 4095;

/// The bit that tells x32 from x86_64.
const X32_BIT: u32 = 0x4000_0000;
/// Where the calls begin that only x32 has.
pub(super) const X32_OWN: u32 = 512;
/// Where ARM's private calls begin, far beyond all others.
const ARM_PRIVATE: u32 = 0xf_0000;
/// A tracer's way to skip a syscall: no syscall at all.
const NO_SYSCALL: u32 = u32::MAX;

/// Arguments that the kernel cuts to 32 bits before it looks at them. A comparison of all 64 would
/// let a caller pass the test with high bits set, which the kernel then drops.
const NARROW: [(&str, usize); 2] = [("socket", 0), ("personality", 0)];

/// A condition on one argument.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    index: usize,
    operator: LinuxSeccompOperator,
    value: u64,
    /// For the masked comparison, what must be left.
    second: u64,
    narrow: bool,
}

/// What happens to one syscall.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Answer {
    /// In the profile's order; all conditions of one must hold.
    conditional: Vec<(Vec<Condition>, u32)>,
    /// `None` is the default.
    otherwise: Option<u32>,
}

/// A range of syscall numbers with the same answer, up to the next range's start.
#[derive(Debug)]
struct Range<'a> {
    start: u32,
    answer: Option<&'a Answer>,
    /// When there is no answer.
    fallback: u32,
}

/// Compiles for a native architecture.
pub(super) fn compile(profile: &LinuxSeccomp, native: Architecture) -> Result<Vec<u8>, SeccompError> {
    super::notify::check(profile)?;
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let architectures = architectures(profile, native);
    let mut sections = Vec::new();
    for architecture in &architectures {
        sections.push((*architecture, section(profile, *architecture, default)?));
    }
    let unlisted = profile.architectures().as_deref().unwrap_or_default().iter().any(|arch| {
        // An architecture without a table here is at least not killed.
        Architecture::from_oci(*arch).is_none()
    });
    let program = assemble(&sections, if unlisted { default } else { KILL_PROCESS }, default);
    if program.len() > INSTRUCTIONS_MAX {
        return Err(SeccompError::TooLong { length: program.len() });
    }
    Ok(to_bytes(&program))
}

/// The native one always, those of the profile that the same kernel can run, each once.
fn architectures(profile: &LinuxSeccomp, native: Architecture) -> Vec<Architecture> {
    let mut found = vec![native];
    for arch in profile.architectures().as_deref().unwrap_or_default() {
        if let Some(architecture) = Architecture::from_oci(*arch)
            && native.with_compatible().contains(&architecture)
            && !found.contains(&architecture)
        {
            found.push(architecture);
        }
    }
    found
}

fn assemble(sections: &[(Architecture, Vec<Instruction>)], bad: u32, default: u32) -> Vec<Instruction> {
    let mut program = vec![statement(LOAD, ARCHITECTURE)];
    let x32 = sections.iter().find(|(architecture, _)| *architecture == Architecture::X32);
    for (architecture, body) in sections.iter().filter(|(architecture, _)| *architecture != Architecture::X32)
    {
        let mut block = vec![statement(LOAD, NUMBER)];
        if *architecture == Architecture::X86_64 {
            block.extend(tell_x32_apart(x32.map(|(_, body)| body.as_slice()), bad, default));
        }
        block.extend(body);
        program.push(branch(JUMP_EQUAL, architecture.audit(), 1, 0));
        program.push(statement(JUMP, block.len() as u32));
        program.extend(block);
    }
    program.push(statement(RETURN, bad));
    program
}

/// Answers x32's own calls, and lets its others go on, without their bit, to x86_64's: below
/// [`X32_OWN`] a number means the same in both, or nothing in x32, which the kernel refuses anyway.
fn tell_x32_apart(x32: Option<&[Instruction]>, bad: u32, default: u32) -> Vec<Instruction> {
    let mut handler = vec![branch(JUMP_EQUAL, NO_SYSCALL, 0, 1), statement(RETURN, default)];
    match x32 {
        Some(own) => {
            handler.push(statement(AND, !X32_BIT));
            handler.push(branch(JUMP_GREATER_EQUAL, X32_OWN, 1, 0));
            handler.push(statement(JUMP, own.len() as u32));
            handler.extend(own);
        }
        None => handler.push(statement(RETURN, bad)),
    }
    let mut program = vec![branch(JUMP_GREATER_EQUAL, X32_BIT, 1, 0), statement(JUMP, handler.len() as u32)];
    program.append(&mut handler);
    program
}

/// The part of one architecture; begins with the syscall number loaded.
fn section(
    profile: &LinuxSeccomp,
    architecture: Architecture,
    default: u32,
) -> Result<Vec<Instruction>, SeccompError> {
    let answers = answers(profile, architecture)?;
    let own = match architecture {
        Architecture::X32 => X32_OWN..u32::MAX,
        _ => 0..u32::MAX,
    };
    // Programs try new syscalls and fall back on ENOSYS; to them EPERM is an error. So what is newer
    // than everything the profile knows does not exist.
    let newest = answers.range(..ARM_PRIVATE).next_back().map_or(0, |(number, _)| number + 1);
    let beyond = if default == ALLOW || default == LOG { default } else { ERRNO | ENOSYS };
    let mut ranges: Vec<Range<'_>> = vec![Range { start: 0, answer: None, fallback: default }];
    for (number, answer) in answers.range(own) {
        let after = if number + 1 >= newest { beyond } else { default };
        push_range(&mut ranges, Range { start: *number, answer: Some(answer), fallback: default });
        push_range(&mut ranges, Range { start: number + 1, answer: None, fallback: after });
    }
    let mut program = Vec::new();
    emit_tree(&ranges, default, &mut program);
    Ok(program)
}

/// Appends a range, joining it to the last when that answers the same and replacing it when empty.
fn push_range<'a>(ranges: &mut Vec<Range<'a>>, range: Range<'a>) {
    if ranges.last().is_some_and(|last| last.start == range.start) {
        ranges.pop();
    }
    let same =
        ranges.last().is_some_and(|last| last.answer == range.answer && last.fallback == range.fallback);
    if !same {
        ranges.push(range);
    }
}

fn answers(
    profile: &LinuxSeccomp,
    architecture: Architecture,
) -> Result<BTreeMap<u32, Answer>, SeccompError> {
    let mut answers: BTreeMap<u32, Answer> = BTreeMap::new();
    for rule in profile.syscalls().as_deref().unwrap_or_default() {
        let action = action(rule.action(), rule.errno_ret())?;
        for name in rule.names() {
            let conditions = conditions(name, rule.args().as_deref().unwrap_or_default())?;
            // A name this architecture lacks, or one newer than the table, cannot be called by it.
            let Some(number) = table::number(name, architecture.column()) else { continue };
            let answer = answers.entry(number).or_default();
            if conditions.is_empty() {
                answer.otherwise.get_or_insert(action);
            } else {
                answer.conditional.push((conditions, action));
            }
        }
    }
    for answer in answers.values_mut() {
        // Conditions that lead where their absence leads are no conditions.
        if let Some(otherwise) = answer.otherwise
            && answer.conditional.iter().all(|(_, action)| *action == otherwise)
        {
            answer.conditional.clear();
        }
    }
    Ok(answers)
}

fn conditions(name: &str, arguments: &[LinuxSeccompArg]) -> Result<Vec<Condition>, SeccompError> {
    arguments
        .iter()
        .map(|argument| {
            if argument.index() >= ARGUMENTS {
                return Err(SeccompError::ArgumentIndex {
                    syscall: name.to_owned(),
                    index: argument.index(),
                });
            }
            let fits = u32::try_from(argument.value()).is_ok();
            Ok(Condition {
                index: argument.index(),
                operator: argument.op(),
                value: argument.value(),
                second: argument.value_two().unwrap_or(0),
                narrow: fits && NARROW.contains(&(name, argument.index())),
            })
        })
        .collect()
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32, SeccompError> {
    let unsupported =
        |reason: &str| SeccompError::Action { action: action.to_string(), reason: reason.to_owned() };
    let data = errno.unwrap_or(EPERM);
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => KILL_THREAD,
        LinuxSeccompAction::ScmpActKillProcess => KILL_PROCESS,
        LinuxSeccompAction::ScmpActTrap => TRAP,
        LinuxSeccompAction::ScmpActErrno if data > ERRNO_MAX => {
            return Err(unsupported(&format!("errno {data} is above {ERRNO_MAX}")));
        }
        LinuxSeccompAction::ScmpActErrno => ERRNO | data,
        LinuxSeccompAction::ScmpActTrace => TRACE | (data & 0xffff),
        LinuxSeccompAction::ScmpActLog => LOG,
        LinuxSeccompAction::ScmpActAllow => ALLOW,
        LinuxSeccompAction::ScmpActNotify => NOTIFY,
    })
}

/// Emits a balanced tree of comparisons over the ranges; every path returns.
fn emit_tree(ranges: &[Range<'_>], default: u32, program: &mut Vec<Instruction>) {
    if let [range] = ranges {
        match range.answer {
            Some(answer) => emit_answer(answer, default, program),
            None => program.push(statement(RETURN, range.fallback)),
        }
        return;
    }
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let mut below = Vec::new();
    emit_tree(lower, default, &mut below);
    let start = upper[0].start;
    if below.len() <= BRANCH_MAX {
        program.push(branch(JUMP_GREATER_EQUAL, start, below.len() as u8, 0));
    } else {
        program.push(branch(JUMP_GREATER_EQUAL, start, 0, 1));
        program.push(statement(JUMP, below.len() as u32));
    }
    program.extend(below);
    emit_tree(upper, default, program);
}

fn emit_answer(answer: &Answer, default: u32, program: &mut Vec<Instruction>) {
    for (conditions, action) in &answer.conditional {
        // Built from its end, so that each test knows how far it is to the next rule.
        let mut rule = vec![statement(RETURN, *action)];
        for condition in conditions.iter().rev() {
            let mut test = test(condition, rule.len());
            test.append(&mut rule);
            rule = test;
        }
        program.extend(rule);
    }
    program.push(statement(RETURN, answer.otherwise.unwrap_or(default)));
}

/// A test that falls through when the condition holds and otherwise jumps over the `rest`
/// instructions that follow it.
fn test(condition: &Condition, rest: usize) -> Vec<Instruction> {
    use LinuxSeccompOperator as Operator;
    let Condition { index, value, second, narrow, .. } = *condition;
    let (low, high) = (value as u32, (value >> 32) as u32);
    // Six conditions of at most six instructions: every distance fits a byte.
    let out = |following: usize| (following + rest) as u8;
    if narrow {
        let load = statement(LOAD, argument_low(index));
        let miss = out(0);
        return match condition.operator {
            Operator::ScmpCmpEq => vec![load, branch(JUMP_EQUAL, low, 0, miss)],
            Operator::ScmpCmpNe => vec![load, branch(JUMP_EQUAL, low, miss, 0)],
            Operator::ScmpCmpGt => vec![load, branch(JUMP_GREATER, low, 0, miss)],
            Operator::ScmpCmpGe => vec![load, branch(JUMP_GREATER_EQUAL, low, 0, miss)],
            Operator::ScmpCmpLt => vec![load, branch(JUMP_GREATER_EQUAL, low, miss, 0)],
            Operator::ScmpCmpLe => vec![load, branch(JUMP_GREATER, low, miss, 0)],
            Operator::ScmpCmpMaskedEq => {
                vec![load, statement(AND, low), branch(JUMP_EQUAL, second as u32, 0, miss)]
            }
        };
    }
    let (load_high, load_low) = (statement(LOAD, argument_high(index)), statement(LOAD, argument_low(index)));
    match condition.operator {
        Operator::ScmpCmpEq => {
            vec![load_high, branch(JUMP_EQUAL, high, 0, out(2)), load_low, branch(JUMP_EQUAL, low, 0, out(0))]
        }
        Operator::ScmpCmpNe => {
            vec![load_high, branch(JUMP_EQUAL, high, 0, 2), load_low, branch(JUMP_EQUAL, low, out(0), 0)]
        }
        // In the ordered comparisons a difference of the high halves decides at once.
        Operator::ScmpCmpGt => {
            ordered(load_high, load_low, high, branch(JUMP_GREATER, low, 0, out(0)), 3, out(2))
        }
        Operator::ScmpCmpGe => {
            ordered(load_high, load_low, high, branch(JUMP_GREATER_EQUAL, low, 0, out(0)), 3, out(2))
        }
        Operator::ScmpCmpLt => {
            less(load_high, load_low, high, branch(JUMP_GREATER_EQUAL, low, out(0), 0), out(3))
        }
        Operator::ScmpCmpLe => less(load_high, load_low, high, branch(JUMP_GREATER, low, out(0), 0), out(3)),
        Operator::ScmpCmpMaskedEq => vec![
            load_high,
            statement(AND, high),
            branch(JUMP_EQUAL, (second >> 32) as u32, 0, out(3)),
            load_low,
            statement(AND, low),
            branch(JUMP_EQUAL, second as u32, 0, out(0)),
        ],
    }
}

/// Greater high halves hold, smaller ones fail, equal ones leave it to the low halves.
fn ordered(
    load_high: Instruction,
    load_low: Instruction,
    high: u32,
    last: Instruction,
    holds: u8,
    fails: u8,
) -> Vec<Instruction> {
    vec![load_high, branch(JUMP_GREATER, high, holds, 0), branch(JUMP_EQUAL, high, 0, fails), load_low, last]
}

/// Greater high halves fail, smaller ones hold, equal ones leave it to the low halves.
fn less(
    load_high: Instruction,
    load_low: Instruction,
    high: u32,
    last: Instruction,
    fails: u8,
) -> Vec<Instruction> {
    vec![load_high, branch(JUMP_GREATER, high, fails, 0), branch(JUMP_EQUAL, high, 0, 2), load_low, last]
}
