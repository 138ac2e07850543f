//! Makes the Nth system call of a piece of code fail; for anomaly tests.
//!
//! Owns a small ptrace(2) loop. Never part of the product: the feature `fault-injection` builds it.

use std::collections::HashMap;

use rustix::io::Errno;

use crate::clone::last_errno;
use crate::namespace::Namespaces;

/// Calls that are never made to fail: without memory Rust aborts by design, a failed close or wait
/// is the injection's own leak, and the rest cannot fail.
const SPARED: [i64; 23] = [
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_close,
    libc::SYS_waitid,
    libc::SYS_wait4,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kill,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_umask,
    libc::SYS_uname,
    libc::SYS_clock_nanosleep,
];

/// A prctl option that does not exist: its arguments tell the tracer when to begin and to end.
const MARK: i32 = 0x4645_5252;

/// Which process's calls are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The one that runs the code.
    Itself,
    /// Those it clones, until they execute a program.
    Children,
}

/// What a traced run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traced {
    /// Exit code of the code; 128 and the signal when one ended it.
    pub code: i32,
    /// Number of the system call that was made to fail; `None` when there were fewer calls.
    pub failed: Option<i64>,
}

/// Begins counting; to be called by the traced code.
pub fn begin() {
    mark(1);
}

/// Ends counting; to be called by the traced code.
pub fn end() {
    mark(0);
}

fn mark(counting: libc::c_ulong) {
    // SAFETY: the option does not exist, so the kernel only returns EINVAL.
    unsafe { libc::prctl(MARK, counting, 0 as libc::c_ulong, 0 as libc::c_ulong, 0 as libc::c_ulong) };
}

/// Runs `body` in a child and makes the `nth` call (from 1) of `target` between [`begin`] and [`end`]
/// fail with `errno`.
pub fn run(body: impl FnOnce() -> i32, target: Target, nth: u32, errno: Errno) -> Result<Traced, Errno> {
    let child = crate::clone::clone3(Namespaces::NONE, None, || {
        if ptrace(libc::PTRACE_TRACEME, 0, 0).is_err() {
            return 1;
        }
        // SAFETY: raise takes an integer; the tracer lets the process go on.
        unsafe { libc::raise(libc::SIGSTOP) };
        body()
    })?;
    let mut tracer = Tracer {
        root: child.pid,
        target,
        left: nth,
        errno,
        counting: false,
        failed: None,
        exits: HashMap::new(),
    };
    tracer.run()
}

struct Tracer {
    root: i32,
    target: Target,
    /// Calls until the one that fails.
    left: u32,
    errno: Errno,
    counting: bool,
    failed: Option<i64>,
    /// Processes whose present call was taken away and gets its result at its exit.
    exits: HashMap<i32, bool>,
}

impl Tracer {
    fn run(&mut self) -> Result<Traced, Errno> {
        let mut attached = false;
        loop {
            let (pid, status) = wait()?;
            if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
                if pid != self.root {
                    continue;
                }
                let code = if libc::WIFEXITED(status) {
                    libc::WEXITSTATUS(status)
                } else {
                    128 + libc::WTERMSIG(status)
                };
                return Ok(Traced { code, failed: self.failed });
            }
            if !attached {
                let options = libc::PTRACE_O_TRACESYSGOOD
                    | libc::PTRACE_O_TRACECLONE
                    | libc::PTRACE_O_TRACEFORK
                    | libc::PTRACE_O_TRACEVFORK
                    | libc::PTRACE_O_TRACEEXEC
                    | libc::PTRACE_O_EXITKILL;
                ptrace(libc::PTRACE_SETOPTIONS, pid, options as usize)?;
                attached = true;
            }
            let signal = self.stopped(pid, status);
            // A process killed meanwhile is waited for in the next round.
            let _ = ptrace(libc::PTRACE_SYSCALL, pid, signal as usize);
        }
    }

    /// Handles a stop; the signal to hand on.
    fn stopped(&mut self, pid: i32, status: i32) -> i32 {
        let signal = libc::WSTOPSIG(status);
        if signal == libc::SIGTRAP | 0x80 {
            // A process that is gone has no registers; nothing is to be done for it.
            let _ = self.system_call(pid);
            return 0;
        }
        if status >> 16 == libc::PTRACE_EVENT_EXEC && pid != self.root {
            // The command has begun; its calls are its own.
            let _ = ptrace(libc::PTRACE_DETACH, pid, 0);
            return 0;
        }
        // Stops of the tracing itself are not signals for the process.
        if signal == libc::SIGTRAP || signal == libc::SIGSTOP { 0 } else { signal }
    }

    fn system_call(&mut self, pid: i32) -> Result<(), Errno> {
        let mut registers = registers(pid)?;
        if let Some(replaced) = self.exits.remove(&pid) {
            if replaced {
                registers.rax = -i64::from(self.errno.raw_os_error()) as u64;
                set_registers(pid, &registers)?;
            }
            return Ok(());
        }
        let number = registers.orig_rax as i64;
        if number == libc::SYS_prctl && registers.rdi == MARK as u64 {
            self.counting = registers.rsi == 1;
        }
        let replaced = self.counts(pid, number);
        if replaced {
            registers.orig_rax = u64::MAX;
            set_registers(pid, &registers)?;
            self.failed = Some(number);
        }
        self.exits.insert(pid, replaced);
        Ok(())
    }

    /// Counts a call; true when it is the one to fail.
    fn counts(&mut self, pid: i32, number: i64) -> bool {
        let own = (pid == self.root) == (self.target == Target::Itself);
        if !own || !self.counting || self.left == 0 || SPARED.contains(&number) {
            return false;
        }
        self.left -= 1;
        self.left == 0
    }
}

fn wait() -> Result<(i32, i32), Errno> {
    let mut status = 0;
    loop {
        // SAFETY: the kernel writes one integer to `status`.
        match unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) } {
            -1 if last_errno() == Errno::INTR => {}
            -1 => return Err(last_errno()),
            pid => return Ok((pid, status)),
        }
    }
}

fn ptrace(request: libc::c_uint, pid: i32, data: usize) -> Result<(), Errno> {
    // SAFETY: the requests used with this function take integers and touch no memory of ours.
    match unsafe { libc::ptrace(request, pid, 0usize, data) } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    }
}

fn registers(pid: i32) -> Result<libc::user_regs_struct, Errno> {
    // SAFETY: the structure is plain integers; all-zero is valid.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes exactly this structure.
    match unsafe { libc::ptrace(libc::PTRACE_GETREGS, pid, 0usize, &raw mut registers) } {
        -1 => Err(last_errno()),
        _ => Ok(registers),
    }
}

fn set_registers(pid: i32, registers: &libc::user_regs_struct) -> Result<(), Errno> {
    // SAFETY: the kernel reads exactly this structure.
    match unsafe { libc::ptrace(libc::PTRACE_SETREGS, pid, 0usize, std::ptr::from_ref(registers)) } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    }
}
