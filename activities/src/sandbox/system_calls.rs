//! System calls that a command is refused, by seccomp: with EPERM, as the kernel refuses them to a user without rights.
//!
//! A list of what is refused, not of what is allowed: programs of all kinds run here, and what the list leaves open is
//! still bounded by Landlock, by capabilities that are gone, and by limits.

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

use super::policy::Network;

/// Refused with any arguments.
const REFUSED: &[c_long] = &[
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // File systems and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    // Ways past other fences: requests that no filter sees, code in the kernel, keys of the user.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Memory that outlives the command, or that no limit of a process counts.
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    libc::SYS_shmget,
    libc::SYS_semget,
    libc::SYS_msgget,
    libc::SYS_mq_open,
    // What others have made there: System V knows it by small numbers, which can be tried.
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_mq_unlink,
    // The machine.
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_nfsservctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_kexec_file_load,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// Flags of `clone` that make namespaces.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Families of sockets with a network. Others (packets, virtual machines, kernel crypto) are for those who set up machines.
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Types of pairs of sockets that stay with each other. A datagram socket of a pair sends to any socket in a file too.
const PAIRS: [i32; 2] = [libc::SOCK_STREAM, libc::SOCK_SEQPACKET];
/// The bits of a socket's type that are not flags.
const TYPE: u64 = 0xf;

/// Calls that give a file its mode, and which argument that is.
const MODES: &[(c_long, u8)] = &[
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chmod, 1),
    (libc::SYS_fchmod, 1),
    (libc::SYS_fchmodat, 2),
    (libc::SYS_fchmodat2, 2),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, 1),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mknod, 1),
    (libc::SYS_mknodat, 2),
];

/// Calls that may make a file, and which argument their flags are. The next one is its mode, and means nothing without one
/// of [`MAKES`].
const OPENS: &[(c_long, u8)] = &[
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, 1),
    (libc::SYS_openat, 2),
];

/// Flags that make a file. That of one without a name stands with that of folders in one constant.
const MAKES: [i32; 2] = [libc::O_CREAT, libc::O_TMPFILE & !libc::O_DIRECTORY];

/// Modes that give whoever runs a file the rights of its owner or group: a way out of the sandbox, on behalf of another user.
const SET_ID: [u64; 2] = [0o4000, 0o2000];

/// Calls that change a process by its number, and which argument that is: 0 is the caller itself.
const BY_NUMBER: &[(c_long, u8)] = &[
    (libc::SYS_prlimit64, 0),
    (libc::SYS_sched_setaffinity, 0),
    (libc::SYS_sched_setattr, 0),
    (libc::SYS_sched_setparam, 0),
    (libc::SYS_sched_setscheduler, 0),
    (libc::SYS_setpriority, 1),
    (libc::SYS_ioprio_set, 1),
];

/// The same for all processes of the user: which argument says so, and how.
const BY_USER: &[(c_long, u64)] = &[
    (libc::SYS_setpriority, libc::PRIO_USER as u64),
    // IOPRIO_WHO_USER.
    (libc::SYS_ioprio_set, 3),
];

/// Filters the calls of this process and of whatever it starts.
///
/// # Errors
/// When this kernel, or whatever this process is confined by itself, gives no filter.
pub(super) fn confine(network: Network) -> Result<(), seccompiler::Error> {
    for program in programs(network)? {
        seccompiler::apply_filter(&program)?;
    }
    Ok(())
}

/// The kernel asks each and takes the strictest answer. Each kills on a call of another architecture (32-bit ones).
fn programs(network: Network) -> Result<Vec<BpfProgram>, BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = |rules, errno: i32| {
        let action = SeccompAction::Errno(errno.unsigned_abs());
        SeccompFilter::new(rules, SeccompAction::Allow, action, arch)?.try_into()
    };
    let mut refused: std::collections::BTreeMap<c_long, Vec<SeccompRule>> =
        REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let namespaces = NAMESPACES.iter().map(|flag| {
        let flag = u64::from(flag.unsigned_abs());
        rule(&[(0, SeccompCmpOp::MaskedEq(flag), flag)])
    });
    refused.insert(libc::SYS_clone, namespaces.collect::<Result<_, _>>()?);
    refused.insert(
        libc::SYS_socket,
        match network {
            Network::None => Vec::new(),
            Network::Host => {
                vec![rule(&FAMILIES.map(|family| (0, SeccompCmpOp::Ne, u64::from(family.unsigned_abs()))))?]
            }
        },
    );
    if network == Network::None {
        refused.insert(libc::SYS_socketpair, pairs()?);
    }
    let has = |argument, bits| (argument, SeccompCmpOp::MaskedEq(bits), bits);
    for bits in SET_ID {
        for (call, mode) in MODES {
            refused.entry(*call).or_default().push(rule(&[has(*mode, bits)])?);
        }
        for (call, flags) in OPENS {
            for flag in MAKES {
                let made = has(*flags, u64::from(flag.unsigned_abs()));
                refused.entry(*call).or_default().push(rule(&[made, has(flags + 1, bits)])?);
            }
        }
    }
    for (call, argument) in BY_NUMBER {
        refused.entry(*call).or_default().push(rule(&[(*argument, SeccompCmpOp::Ne, 0)])?);
    }
    for (call, who) in BY_USER {
        refused.entry(*call).or_default().push(rule(&[(0, SeccompCmpOp::Eq, *who)])?);
    }
    // Neither the ordinary one nor the question which it is.
    let odd = [(0, SeccompCmpOp::Ne, 0), (0, SeccompCmpOp::Ne, u64::from(u32::MAX))];
    refused.insert(libc::SYS_personality, vec![rule(&odd)?]);
    // Their flags lie in memory, which no filter reads: programs then use `clone` and `openat`.
    let unknown = [libc::SYS_clone3, libc::SYS_openat2].map(|call| (call, Vec::new())).into_iter().collect();
    let mut programs = vec![filter(refused, libc::EPERM)?, filter(unknown, libc::ENOSYS)?];
    if cfg!(target_arch = "x86_64") {
        programs.push(no_x32());
    }
    Ok(programs)
}

/// What is refused of pairs of sockets: all other families and types.
fn pairs() -> Result<Vec<SeccompRule>, BackendError> {
    let types = (0..=TYPE).filter(|kind| PAIRS.iter().all(|pair| u64::from(pair.unsigned_abs()) != *kind));
    let families = rule(&[(0, SeccompCmpOp::Ne, u64::from(libc::AF_UNIX.unsigned_abs()))]);
    types.map(|kind| rule(&[(1, SeccompCmpOp::MaskedEq(TYPE), kind)])).chain([families]).collect()
}

/// All conditions hold: argument, comparison, value. Arguments of these calls have 32 bits.
fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, BackendError> {
    let conditions = conditions.iter().map(|(argument, operator, value)| {
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operator.clone(), *value)
    });
    SeccompRule::new(conditions.collect::<Result<_, _>>()?)
}

/// x32 calls are those of x86_64 under numbers of their own, which no list names: they are unknown, as on most kernels.
fn no_x32() -> BpfProgram {
    const X32: u32 = 0x4000_0000;
    let step = |code: u32, jf, k| sock_filter { code: code as u16, jt: 0, jf, k };
    vec![
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 1, X32),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs()),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile_with_and_without_a_network() {
        for network in [Network::None, Network::Host] {
            let programs = programs(network).expect("filters");
            // What the kernel takes at most.
            assert!(programs.iter().all(|program| !program.is_empty() && program.len() <= 4096), "{network:?}");
        }
    }

    const ALLOWED: u32 = libc::SECCOMP_RET_ALLOW;
    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

    /// What the filters answer to a call of this machine's own kind: the strictest of what each does.
    fn answer(network: Network, call: c_long, arguments: &[u64]) -> u32 {
        let arch = if cfg!(target_arch = "x86_64") { 0xc000_003e_u32 } else { 0xc000_00b7 };
        // `struct seccomp_data`: number, architecture, instruction pointer, arguments.
        let mut data = [call as u32, arch, 0, 0].map(u32::to_le_bytes).concat();
        for at in 0..6 {
            data.extend(arguments.get(at).copied().unwrap_or_default().to_le_bytes());
        }
        let programs = programs(network).expect("filters");
        programs.iter().map(|program| run(program, &data)).min().expect("a filter")
    }

    /// The part of BPF that the filters are made of.
    fn run(program: &[sock_filter], data: &[u8]) -> u32 {
        let (mut at, mut value) = (0, 0_u32);
        loop {
            let step = &program[at];
            let jump = |holds: bool| usize::from(if holds { step.jt } else { step.jf });
            at += 1;
            let (code, k) = (u32::from(step.code), step.k);
            match code {
                0x20 => value = u32::from_le_bytes(data[k as usize..][..4].try_into().expect("four bytes")),
                0x54 => value &= k,
                0x05 => at += k as usize,
                0x15 => at += jump(value == k),
                0x25 => at += jump(value > k),
                0x35 => at += jump(value >= k),
                0x06 => return k,
                _ => panic!("an instruction {code:#x} that this test does not know"),
            }
        }
    }

    /// What a process without rights is refused by the kernel anyway too.
    #[test]
    fn what_needs_rights_is_refused_by_the_filter_itself() {
        for network in [Network::None, Network::Host] {
            for call in REFUSED {
                assert_eq!(answer(network, *call, &[]), EPERM, "{call}");
            }
            for call in [libc::SYS_mount, libc::SYS_chroot, libc::SYS_pivot_root, libc::SYS_bpf, libc::SYS_settimeofday]
            {
                assert_eq!(answer(network, call, &[]), EPERM, "{call}");
            }
            for flag in NAMESPACES {
                let flags = u64::from(flag.unsigned_abs() | libc::SIGCHLD.unsigned_abs());
                assert_eq!(answer(network, libc::SYS_clone, &[flags]), EPERM, "{flags:#x}");
            }
            assert_eq!(answer(network, libc::SYS_clone, &[libc::SIGCHLD as u64]), ALLOWED);
            for call in [libc::SYS_clone3, libc::SYS_openat2, 0x4000_0000 + libc::SYS_getpid] {
                assert_eq!(answer(network, call, &[]), ENOSYS, "{call}");
            }
            for call in [libc::SYS_read, libc::SYS_execve, libc::SYS_getpid, libc::SYS_exit_group] {
                assert_eq!(answer(network, call, &[]), ALLOWED, "{call}");
            }
        }
    }

    #[test]
    fn pairs_of_sockets_are_those_that_stay_with_each_other() {
        let pair = |family: i32, kind: i32| answer(Network::None, libc::SYS_socketpair, &[family as u64, kind as u64]);
        for kind in [libc::SOCK_STREAM, libc::SOCK_SEQPACKET] {
            for flags in [0, libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK] {
                assert_eq!(pair(libc::AF_UNIX, kind | flags), ALLOWED, "{kind}");
                assert_eq!(pair(libc::AF_TIPC, kind | flags), EPERM, "{kind}");
            }
        }
        for kind in [libc::SOCK_DGRAM, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, libc::SOCK_RAW, 0, 15] {
            assert_eq!(pair(libc::AF_UNIX, kind), EPERM, "{kind}");
        }
        assert_eq!(answer(Network::None, libc::SYS_socket, &[libc::AF_UNIX as u64, libc::SOCK_STREAM as u64]), EPERM);
        assert_eq!(answer(Network::Host, libc::SYS_socket, &[libc::AF_INET as u64]), ALLOWED);
        assert_eq!(answer(Network::Host, libc::SYS_socket, &[libc::AF_PACKET as u64]), EPERM);
    }

    #[test]
    fn no_file_gets_a_mode_that_gives_the_rights_of_its_owner_or_group() {
        let made = libc::O_CREAT | libc::O_WRONLY;
        for (mode, expected) in [(0o4755, EPERM), (0o2755, EPERM), (0o6711, EPERM), (0o1777, ALLOWED), (0o755, ALLOWED)]
        {
            for (call, at) in MODES {
                let mut arguments = [0; 6];
                arguments[usize::from(*at)] = mode;
                assert_eq!(answer(Network::None, *call, &arguments), expected, "{call} {mode:o}");
            }
            for flags in [made, libc::O_TMPFILE | libc::O_RDWR] {
                let arguments = [0, 0, flags as u64, mode];
                assert_eq!(answer(Network::None, libc::SYS_openat, &arguments), expected, "{flags:o} {mode:o}");
            }
        }
        // Without a file that is made the mode is whatever was there.
        let arguments = [0, 0, (libc::O_RDONLY | libc::O_DIRECTORY) as u64, 0o4755];
        assert_eq!(answer(Network::None, libc::SYS_openat, &arguments), ALLOWED);
    }
}
