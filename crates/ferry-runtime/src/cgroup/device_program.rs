//! The eBPF program that decides about devices on cgroup v2.
//!
//! Owns the compilation of a rule table; the result answers as v1's device controller does: among
//! allowed devices one exception must cover the whole access, among denied ones any part counts.

use super::devices::{ALL, Table};

/// eBPF registers: 0 is the answer, 1 the context, 2 to 5 hold what is asked for.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 1;

/// `BPF_LDX | BPF_MEM | BPF_W`
const LOAD_WORD: u8 = 0x61;
/// `BPF_ALU64 | BPF_MOV | BPF_K`, and the 32-bit operations with a constant.
const MOVE_CONSTANT: u8 = 0xb7;
const MOVE_REGISTER_32: u8 = 0xbc;
const AND_CONSTANT_32: u8 = 0x54;
const SHIFT_RIGHT_CONSTANT_32: u8 = 0x74;
/// `BPF_JMP | BPF_JNE` with constant and register, `BPF_JMP | BPF_JEQ` with constant.
const JUMP_NOT_EQUAL: u8 = 0x55;
const JUMP_NOT_EQUAL_REGISTER: u8 = 0x5d;
const JUMP_EQUAL: u8 = 0x15;
const EXIT: u8 = 0x95;

/// Device types in the context.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;

/// An instruction as the kernel reads it: opcode, registers, offset, constant.
fn instruction(code: u8, destination: u8, source: u8, offset: i16, constant: i32) -> u64 {
    let registers =
        if cfg!(target_endian = "little") { destination | source << 4 } else { destination << 4 | source };
    let mut bytes = [0u8; 8];
    bytes[0] = code;
    bytes[1] = registers;
    bytes[2..4].copy_from_slice(&offset.to_ne_bytes());
    bytes[4..8].copy_from_slice(&constant.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

/// Compiles a table to a program of the kernel's cgroup device type.
pub(super) fn compile(table: &Table) -> Vec<u64> {
    let mut program = vec![
        // The first word holds the type in its lower and the access in its upper half.
        instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(MOVE_REGISTER_32, ACCESS, KIND, 0, 0),
        instruction(AND_CONSTANT_32, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT_CONSTANT_32, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in &table.exceptions {
        let answer = i32::from(!table.allow_by_default);
        let kind = if rule.kind == 'b' { BLOCK } else { CHARACTER };
        let mut checks: Vec<(u8, u8, u8, i32)> = vec![(JUMP_NOT_EQUAL, KIND, 0, kind)];
        let number = |number: u32| i32::from_ne_bytes(number.to_ne_bytes());
        checks.extend(rule.major.map(|major| (JUMP_NOT_EQUAL, MAJOR, 0, number(major))));
        checks.extend(rule.minor.map(|minor| (JUMP_NOT_EQUAL, MINOR, 0, number(minor))));
        let mut block: Vec<Result<u64, (u8, u8, u8, i32)>> = checks.into_iter().map(Err).collect();
        if rule.access != ALL {
            block.push(Ok(instruction(MOVE_REGISTER_32, SCRATCH, ACCESS, 0, 0)));
            block.push(Ok(instruction(AND_CONSTANT_32, SCRATCH, 0, 0, rule.access as i32)));
            block.push(Err(if table.allow_by_default {
                (JUMP_EQUAL, SCRATCH, 0, 0)
            } else {
                (JUMP_NOT_EQUAL_REGISTER, SCRATCH, ACCESS, 0)
            }));
        }
        block.push(Ok(instruction(MOVE_CONSTANT, ANSWER, 0, 0, answer)));
        block.push(Ok(instruction(EXIT, 0, 0, 0, 0)));
        let length = block.len();
        // A rule that does not match jumps behind its own block.
        program.extend(block.into_iter().enumerate().map(|(index, part)| match part {
            Ok(instruction) => instruction,
            Err((code, register, source, constant)) => {
                instruction(code, register, source, (length - index - 1) as i16, constant)
            }
        }));
    }
    program.push(instruction(MOVE_CONSTANT, ANSWER, 0, 0, i32::from(table.allow_by_default)));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

#[cfg(test)]
mod tests {
    use super::super::devices::{MKNOD, READ, Rule, WRITE};
    use super::*;

    /// Runs a program for one question, as the kernel would.
    fn answer(program: &[u64], kind: i32, access: u32, major: u32, minor: u32) -> u64 {
        let context = [access << 16 | kind as u32, major, minor];
        let mut registers = [0u64; 6];
        let mut position = 0usize;
        loop {
            let bytes = program[position].to_ne_bytes();
            let (destination, source) = (usize::from(bytes[1] & 15), usize::from(bytes[1] >> 4));
            let offset = i16::from_ne_bytes([bytes[2], bytes[3]]);
            let constant = i32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            let value = registers[destination];
            position += 1;
            let mut jump = |taken: bool| {
                position = (position as i64 + if taken { i64::from(offset) } else { 0 }) as usize
            };
            match bytes[0] {
                LOAD_WORD => registers[destination] = u64::from(context[offset as usize / 4]),
                MOVE_CONSTANT => registers[destination] = constant as u64,
                MOVE_REGISTER_32 => registers[destination] = registers[source] & 0xffff_ffff,
                AND_CONSTANT_32 => registers[destination] = value & constant as u32 as u64,
                SHIFT_RIGHT_CONSTANT_32 => registers[destination] = (value as u32 >> constant).into(),
                JUMP_NOT_EQUAL => jump(value != constant as i64 as u64),
                JUMP_NOT_EQUAL_REGISTER => jump(value != registers[source]),
                JUMP_EQUAL => jump(value == constant as i64 as u64),
                EXIT => return registers[0],
                code => panic!("opcode {code:#x}"),
            }
        }
    }

    #[test]
    fn exceptions_must_cover_the_whole_access() {
        let table = Table {
            allow_by_default: false,
            exceptions: vec![
                Rule { kind: 'c', major: None, minor: None, access: MKNOD },
                Rule { kind: 'c', major: Some(1), minor: Some(3), access: ALL },
                Rule { kind: 'b', major: Some(8), minor: None, access: READ },
            ],
        };
        let program = compile(&table);
        let cases = [
            (CHARACTER, READ | WRITE, 1, 3, 1),
            (CHARACTER, READ, 1, 4, 0),
            (CHARACTER, MKNOD, 1, 4, 1),
            (CHARACTER, MKNOD | READ, 1, 4, 0),
            (BLOCK, READ, 8, 17, 1),
            (BLOCK, READ | WRITE, 8, 17, 0),
            (BLOCK, MKNOD, 8, 17, 0),
        ];
        for (kind, access, major, minor, expected) in cases {
            assert_eq!(
                answer(&program, kind, access, major, minor),
                expected,
                "{kind} {major}:{minor} {access}"
            );
        }
    }

    #[test]
    fn any_denied_part_denies() {
        let exceptions = vec![Rule { kind: 'c', major: Some(10), minor: Some(229), access: WRITE }];
        let program = compile(&Table { allow_by_default: true, exceptions });
        assert_eq!(answer(&program, CHARACTER, READ | WRITE, 10, 229), 0);
        assert_eq!(answer(&program, CHARACTER, READ, 10, 229), 1);
        assert_eq!(answer(&program, BLOCK, READ | WRITE, 10, 229), 1);
    }
}
