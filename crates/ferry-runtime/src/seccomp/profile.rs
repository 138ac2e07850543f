//! Docker's default profile, as a table of this program.
//!
//! Owns the list and its conditions. The reference is moby's `profiles/seccomp/default.json`; a test
//! compares the two where that file is at hand.

use ferry_oci::runtime::{LinuxSeccompAction as Action, LinuxSeccompOperator as Operator};

use super::docker::{DockerArgument, DockerProfile, DockerSyscall, Filter};

/// What a refused syscall returns, and what `clone3` returns, so that programs use `clone` instead,
/// whose flags a filter can see.
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Flags of `clone` that make namespaces.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// Execution domains that do no harm: Linux, 32-bit Linux, both with UNAME26, and the question for
/// the present one.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Socket families 38 (AF_ALG) and 40 (AF_VSOCK) reach past the container.
const FAMILIES: [(Operator, u64); 3] =
    [(Operator::ScmpCmpLt, 38), (Operator::ScmpCmpEq, 39), (Operator::ScmpCmpGt, 40)];

/// Allowed to everybody.
const ALWAYS: &str = "accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 \
     clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 \
     clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 \
     epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old \
     eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate \
     fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync \
     fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync \
     ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat \
     get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 \
     getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority \
     getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt \
     gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 \
     inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit \
     ioctl ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self \
     lchown lchown32 lgetxattr link linkat listen listmount listxattr listxattrat llistxattr _llseek \
     lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret \
     mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify \
     mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal \
     msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat \
     _newselect open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free \
     pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 \
     pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom \
     recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 \
     restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo \
     rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo \
     sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam \
     sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr \
     sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop \
     semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area \
     set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer \
     setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 \
     setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown \
     sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs \
     statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time \
     timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 \
     timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate \
     truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes \
     vfork vmsplice wait4 waitid waitpid write writev";

/// Allowed on some architectures.
const BY_ARCHITECTURE: [(&str, &[&str]); 6] = [
    ("sync_file_range2 swapcontext", &["ppc64le"]),
    (
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
        &["arm", "arm64"],
    ),
    ("arch_prctl", &["amd64", "x32"]),
    ("modify_ldt", &["amd64", "x32", "x86"]),
    ("s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr", &["s390", "s390x"]),
    ("riscv_flush_icache", &["riscv64"]),
];

/// Allowed to those with a capability.
const BY_CAPABILITY: [(&str, &str); 14] = [
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
     lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl \
     quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module init_module finit_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    ("CAP_SYS_RAWIO", "iopl ioperm"),
    ("CAP_SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
];

/// The profile with its conditions, as Docker's JSON would say it.
pub(super) fn docker_default() -> DockerProfile {
    let mut syscalls = vec![allow(ALWAYS)];
    let ptrace = Filter { min_kernel: Some("4.8".to_owned()), ..Filter::default() };
    syscalls.push(DockerSyscall { includes: ptrace, ..allow("process_vm_readv process_vm_writev ptrace") });
    syscalls.extend(FAMILIES.map(|(operator, value)| compared("socket", 0, value, operator)));
    syscalls.extend(PERSONALITIES.map(|value| compared("personality", 0, value, Operator::ScmpCmpEq)));
    for (names, arches) in BY_ARCHITECTURE {
        let includes = Filter { arches: words(&arches.join(" ")), ..Filter::default() };
        syscalls.push(DockerSyscall { includes, ..allow(names) });
    }
    for (capability, names) in BY_CAPABILITY {
        let includes = Filter { caps: words(capability), ..Filter::default() };
        syscalls.push(DockerSyscall { includes, ..allow(names) });
    }
    syscalls.extend(clones());
    DockerProfile {
        default_action: Action::ScmpActErrno,
        default_errno_ret: Some(EPERM),
        syscalls,
        ..DockerProfile::default()
    }
}

/// Without CAP_SYS_ADMIN: `clone` that makes no namespace, and no `clone3`, whose flags lie in memory.
fn clones() -> [DockerSyscall; 3] {
    let s390 = || words("s390 s390x");
    let unprivileged = || Filter { caps: words("CAP_SYS_ADMIN"), ..Filter::default() };
    let masked = |index| compared("clone", index, CLONE_NAMESPACES, Operator::ScmpCmpMaskedEq);
    [
        DockerSyscall { excludes: Filter { arches: s390(), ..unprivileged() }, ..masked(0) },
        DockerSyscall {
            includes: Filter { arches: s390(), ..Filter::default() },
            excludes: unprivileged(),
            ..masked(1)
        },
        DockerSyscall {
            action: Action::ScmpActErrno,
            errno_ret: Some(ENOSYS),
            excludes: unprivileged(),
            ..allow("clone3")
        },
    ]
}

fn words(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

fn allow(names: &str) -> DockerSyscall {
    DockerSyscall { names: words(names), action: Action::ScmpActAllow, ..DockerSyscall::default() }
}

fn compared(name: &str, index: usize, value: u64, operator: Operator) -> DockerSyscall {
    let argument = DockerArgument { index, value, value_two: 0, op: operator };
    DockerSyscall { args: vec![argument], ..allow(name) }
}
