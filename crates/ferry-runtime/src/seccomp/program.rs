//! Classic BPF instructions, as far as seccomp filters need them.

/// `BPF_LD | BPF_W | BPF_ABS`
pub(super) const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`
pub(super) const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JA`
pub(super) const JUMP: u16 = 0x05;
/// `BPF_JMP` with `BPF_JEQ`, `BPF_JGT`, `BPF_JGE` and a constant.
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP_GREATER: u16 = 0x25;
pub(super) const JUMP_GREATER_EQUAL: u16 = 0x35;
/// `BPF_RET | BPF_K`
pub(super) const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// One instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub code: u16,
    pub when_true: u8,
    pub when_false: u8,
    pub constant: u32,
}

pub(super) fn statement(code: u16, constant: u32) -> Instruction {
    Instruction { code, when_true: 0, when_false: 0, constant }
}

pub(super) fn branch(code: u16, constant: u32, when_true: u8, when_false: u8) -> Instruction {
    Instruction { code, when_true, when_false, constant }
}

/// Where the low and the high half of an argument lie.
pub(super) fn argument_low(index: usize) -> u32 {
    ARGUMENTS + 8 * index as u32 + if cfg!(target_endian = "little") { 0 } else { 4 }
}

pub(super) fn argument_high(index: usize) -> u32 {
    ARGUMENTS + 8 * index as u32 + if cfg!(target_endian = "little") { 4 } else { 0 }
}

/// The bytes the kernel takes.
pub(super) fn to_bytes(program: &[Instruction]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for instruction in program {
        bytes.extend_from_slice(&instruction.code.to_ne_bytes());
        bytes.push(instruction.when_true);
        bytes.push(instruction.when_false);
        bytes.extend_from_slice(&instruction.constant.to_ne_bytes());
    }
    bytes
}

/// Runs programs as the kernel does; for tests.
#[cfg(test)]
pub(super) mod interpreter {
    use super::*;

    /// What a filter is asked about.
    #[derive(Debug, Clone, Copy)]
    pub struct Question {
        pub number: u32,
        pub architecture: u32,
        pub arguments: [u64; 6],
    }

    pub fn from_bytes(bytes: &[u8]) -> Vec<Instruction> {
        let (chunks, rest) = bytes.as_chunks::<8>();
        assert!(rest.is_empty());
        chunks
            .iter()
            .map(|chunk| Instruction {
                code: u16::from_ne_bytes([chunk[0], chunk[1]]),
                when_true: chunk[2],
                when_false: chunk[3],
                constant: u32::from_ne_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]),
            })
            .collect()
    }

    /// The action, and how many instructions it took.
    pub fn run(program: &[Instruction], question: Question) -> (u32, usize) {
        let mut data = [0u8; 64];
        data[..4].copy_from_slice(&question.number.to_ne_bytes());
        data[4..8].copy_from_slice(&question.architecture.to_ne_bytes());
        for (index, argument) in question.arguments.iter().enumerate() {
            data[16 + 8 * index..24 + 8 * index].copy_from_slice(&argument.to_ne_bytes());
        }
        let (mut position, mut accumulator, mut count) = (0usize, 0u32, 0usize);
        loop {
            let Instruction { code, when_true, when_false, constant } = program[position];
            count += 1;
            position += 1;
            let mut branch =
                |taken: bool| position += usize::from(if taken { when_true } else { when_false });
            match code {
                LOAD => {
                    let offset = constant as usize;
                    assert_eq!(offset % 4, 0);
                    let word = data[offset..offset + 4].try_into().expect("four bytes");
                    accumulator = u32::from_ne_bytes(word);
                }
                AND => accumulator &= constant,
                JUMP => position += constant as usize,
                JUMP_EQUAL => branch(accumulator == constant),
                JUMP_GREATER => branch(accumulator > constant),
                JUMP_GREATER_EQUAL => branch(accumulator >= constant),
                RETURN => return (constant, count),
                other => panic!("opcode {other:#x}"),
            }
        }
    }
}
