//! Files, TCP, signals and abstract sockets of a command, by Landlock.

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus, PathBeneath, PathFd,
    Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use super::policy::{Network, Policy};

/// What is asked for. Older kernels give what they have; newer rights wait until they are tried.
const ABI_ASKED: ABI = ABI::V6;

/// What programs are made of. Whatever of it is not there is left out.
const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/ld-musl-x86_64.path",
    "/etc/ld-musl-aarch64.path",
];

/// What programs look up. Of `/etc/ssl` and `/etc/pki` not the folders of private keys.
const LOOKED_UP: &[&str] = &[
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/openssl.cnf",
    "/etc/crypto-policies",
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/os-release",
    "/etc/mime.types",
    "/etc/gitconfig",
    "/etc/terminfo",
    // Of the machine, and of the command's first process alone: `/proc/<pid>` of all others stays shut.
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/self",
    "/sys/devices/system/cpu",
];

const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// Confines this process and whatever it starts; says which Landlock ABI is in force, 0 when none is.
pub(super) fn confine(policy: &Policy) -> Result<u8, Error> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI_ASKED))?
        .scope(Scope::from_all(ABI_ASKED))?;
    if policy.network == Network::None {
        ruleset = ruleset.handle_access(AccessNet::from_all(ABI_ASKED))?;
    }
    let execute = AccessFs::from_read(ABI_ASKED);
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let device: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    // The folder is this process's own: nobody can have put another in its place since it was looked at.
    let folder = PathBeneath::new(PathFd::new(".")?, AccessFs::from_all(ABI_ASKED));
    let status = ruleset
        .create()?
        .add_rules(path_beneath_rules(SYSTEM, execute))?
        .add_rules(path_beneath_rules(&policy.readable, execute))?
        .add_rules(path_beneath_rules(LOOKED_UP, read))?
        .add_rules(path_beneath_rules(DEVICES, device))?
        .add_rule(folder)?
        .restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => 0,
        (_, LandlockStatus::Available { effective_abi, .. }) => (effective_abi as u8).min(ABI_ASKED as u8),
        (_, _) => 0,
    })
}

/// Why a command cannot be confined.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The kernel has Landlock and refuses the rules.
    #[error("landlock: {0}")]
    Rules(#[from] RulesetError),
    /// The folder cannot be opened.
    #[error("the working folder: {0}")]
    Folder(#[from] landlock::PathFdError),
}
