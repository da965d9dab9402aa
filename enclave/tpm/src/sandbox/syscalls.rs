//! System calls the process may still make (seccomp). Every other one fails with EPERM.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

use super::SandboxError;
use crate::tcti::Tcti;

/// Without conditions: memory, threads, clocks, open files, connected sockets. Not: execve, ptrace, process_vm_*,
/// kill, mount, bind, listen, io_uring, bpf, keyctl, and whatever is not named.
const ALLOWED: &[c_long] = &[
    libc::SYS_accept4,
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    // glibc starts threads with it; nothing can be executed in a new process.
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_close,
    libc::SYS_connect,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpeername,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munlock,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_statx,
    libc::SYS_sysinfo,
    libc::SYS_tgkill,
    libc::SYS_uname,
    libc::SYS_unlinkat,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Older spellings that only x86-64 has.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[c_long] = &[
    libc::SYS_access,
    libc::SYS_arch_prctl,
    libc::SYS_dup2,
    libc::SYS_epoll_wait,
    libc::SYS_open,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_select,
    libc::SYS_stat,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[c_long] = &[];

/// Filters system calls from now on; returns what is in force.
pub fn filter(tcti: &Tcti) -> Result<String, SandboxError> {
    let failed = |error: &dyn std::fmt::Display| SandboxError::Filter(error.to_string());
    let program = program(tcti).map_err(|error| failed(&error))?;
    apply_filter(&program).map_err(|error| failed(&error))?;
    let count = ALLOWED.len().saturating_add(ALLOWED_HERE.len());
    Ok(format!("filtered, {count} allowed (seccomp)"))
}

fn program(tcti: &Tcti) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED
        .iter()
        .chain(ALLOWED_HERE)
        .map(|call| (*call, Vec::new()))
        .collect();
    let mut families = vec![libc::AF_UNIX];
    if matches!(tcti, Tcti::Swtpm(_)) {
        families.extend([libc::AF_INET, libc::AF_INET6]);
    }
    let family = |family: i32| is(0, u64::from(family.unsigned_abs()));
    rules.insert(libc::SYS_socket, any(families.into_iter().map(family))?);
    rules.insert(libc::SYS_socketpair, any([family(libc::AF_UNIX)])?);
    // Terminal or not, non-blocking or not, bytes waiting; not TIOCSTI and the rest.
    let ioctls = [libc::FIONBIO, libc::TCGETS, libc::FIONREAD];
    rules.insert(libc::SYS_ioctl, any(ioctls.map(|request| is(1, request)))?);
    // Names of threads, and of memory for those who look at it.
    let prctls = [libc::PR_SET_NAME, libc::PR_SET_VMA, libc::PR_GET_DUMPABLE];
    let prctl = |option: i32| is(0, u64::from(option.unsigned_abs()));
    rules.insert(libc::SYS_prctl, any(prctls.map(prctl))?);
    // Limits are read, not set: no pointer to new ones.
    rules.insert(libc::SYS_prlimit64, any([is_null(2)])?);
    SeccompFilter::new(
        rules,
        SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?
    .try_into()
}

/// The lower half of an argument has this value.
fn is(argument: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn is_null(argument: u8) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)
}

/// One rule per condition: any of them suffices.
fn any(
    conditions: impl IntoIterator<Item = Result<SeccompCondition, seccompiler::BackendError>>,
) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    conditions
        .into_iter()
        .map(|condition| SeccompRule::new(vec![condition?]))
        .collect()
}
