//! Architectures a filter distinguishes.

use ferry_oci::runtime::Arch;

use super::table::Column;

/// An architecture with a syscall table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86, which x86_64 kernels run too.
    I386,
    /// x86_64 with 32-bit pointers; told from x86_64 by a bit of the syscall number.
    X32,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM, which aarch64 kernels may run too.
    Arm,
}

impl Architecture {
    /// The architecture this program runs on.
    #[cfg(target_arch = "x86_64")]
    pub const NATIVE: Architecture = Architecture::X86_64;
    /// The architecture this program runs on.
    #[cfg(target_arch = "aarch64")]
    pub const NATIVE: Architecture = Architecture::Aarch64;

    /// As the kernel reports it to filters (`AUDIT_ARCH_*`).
    pub(super) fn audit(self) -> u32 {
        match self {
            Architecture::X86_64 | Architecture::X32 => 0xc000_003e,
            Architecture::I386 => 0x4000_0003,
            Architecture::Aarch64 => 0xc000_00b7,
            Architecture::Arm => 0x4000_0028,
        }
    }

    pub(super) fn column(self) -> Column {
        match self {
            Architecture::X86_64 => Column::X86_64,
            Architecture::I386 => Column::I386,
            Architecture::X32 => Column::X32,
            Architecture::Aarch64 => Column::Aarch64,
            Architecture::Arm => Column::Arm,
        }
    }

    /// As Docker's profiles name it in conditions.
    pub(super) fn docker_name(self) -> &'static str {
        match self {
            Architecture::X86_64 => "amd64",
            Architecture::I386 => "x86",
            Architecture::X32 => "x32",
            Architecture::Aarch64 => "arm64",
            Architecture::Arm => "arm",
        }
    }

    /// Itself and those whose programs run on the same kernel.
    pub(super) fn with_compatible(self) -> &'static [Architecture] {
        match self {
            Architecture::X86_64 => &[Architecture::X86_64, Architecture::I386, Architecture::X32],
            Architecture::Aarch64 => &[Architecture::Aarch64, Architecture::Arm],
            Architecture::I386 => &[Architecture::I386],
            Architecture::X32 => &[Architecture::X32],
            Architecture::Arm => &[Architecture::Arm],
        }
    }

    pub(super) fn to_oci(self) -> Arch {
        match self {
            Architecture::X86_64 => Arch::ScmpArchX86_64,
            Architecture::I386 => Arch::ScmpArchX86,
            Architecture::X32 => Arch::ScmpArchX32,
            Architecture::Aarch64 => Arch::ScmpArchAarch64,
            Architecture::Arm => Arch::ScmpArchArm,
        }
    }

    /// `None` for one without a table here.
    pub(super) fn from_oci(arch: Arch) -> Option<Architecture> {
        match arch {
            Arch::ScmpArchNative => Some(Architecture::NATIVE),
            Arch::ScmpArchX86_64 => Some(Architecture::X86_64),
            Arch::ScmpArchX86 => Some(Architecture::I386),
            Arch::ScmpArchX32 => Some(Architecture::X32),
            Arch::ScmpArchAarch64 => Some(Architecture::Aarch64),
            Arch::ScmpArchArm => Some(Architecture::Arm),
            _ => None,
        }
    }
}
