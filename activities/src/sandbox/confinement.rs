//! What a command is confined by: what was really had, what is missing, and what a ticket demands.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ticket_schemas::SecurityLevel;

use super::policy::Network;

/// How much confines a command, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Files or system calls are as the worker's user has them.
    None,
    /// Files and system calls are confined; something else is missing.
    Partial,
    /// Nothing is missing.
    Full,
}

impl Level {
    /// The least that a ticket of this classification runs with. INTERNAL is what the platform gives every ticket.
    #[must_use]
    pub fn demanded_by(classification: SecurityLevel) -> Self {
        match classification {
            SecurityLevel::Public | SecurityLevel::Internal => Self::None,
            SecurityLevel::Confidential => Self::Partial,
            SecurityLevel::Restricted => Self::Full,
        }
    }

    /// As it stands in results.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Partial => "partial",
            Self::Full => "full",
        }
    }
}

/// What confines a command, as the stage that applied it saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// The Landlock ABI in force; 0: no Landlock.
    pub landlock_abi: u8,
    /// Whether system calls are filtered.
    pub seccomp: bool,
    /// The network that it has.
    pub network: Network,
    /// Whether its user is another than root. Root's files are the system's, and owners may do more than others.
    pub unprivileged: bool,
}

/// The parts of the confinement that a kernel, or a setting, may withhold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Files and folders.
    Files,
    /// Signals and abstract sockets.
    Signals,
    /// System calls.
    SystemCalls,
    /// The network.
    Network,
    /// The user.
    User,
}

impl Part {
    /// Every part.
    pub const ALL: [Self; 5] = [Self::Files, Self::Signals, Self::SystemCalls, Self::Network, Self::User];

    /// As it stands in results.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Signals => "signals",
            Self::SystemCalls => "system_calls",
            Self::Network => "network",
            Self::User => "user",
        }
    }

    /// What it keeps a command from.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Files => {
                "a command reads the system's files and writes its own folder; files, environments and memory of other \
                 processes are out of its reach"
            }
            Self::Signals => {
                "a command signals its own processes only, not the worker or the commands of other tickets"
            }
            Self::SystemCalls => {
                "a command cannot trace, mount, make namespaces, load code into the kernel or change other processes"
            }
            Self::Network => "a command opens no socket, neither to a network nor to what listens on this machine",
            Self::User => {
                "a command's user is not root, so it cannot change modes, times and owners of the system's files"
            }
        }
    }

    /// How to get it.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Files => {
                "run Linux 6.2 or newer with Landlock (ABI 3) among its security modules (`lsm=`), in a container whose \
                 seccomp profile lets landlock_* through"
            }
            Self::Signals => "run Linux 6.12 or newer, with Landlock ABI 6",
            Self::SystemCalls => "run a kernel with CONFIG_SECCOMP_FILTER, in a container that lets seccomp(2) through",
            Self::Network => "set LOCAL_RUNTIME_NETWORK=none, where system calls can be filtered",
            Self::User => "run the worker as a user of its own, not as root",
        }
    }
}

impl Confinement {
    /// What a command has that nothing confines: the user of this process.
    #[must_use]
    pub fn unconfined() -> Self {
        Self { landlock_abi: 0, seccomp: false, network: Network::Host, unprivileged: unprivileged() }
    }

    /// Whether this part is in force. Before Landlock ABI 3 a file outside can be truncated, before ABI 6 any process of
    /// the user can be killed.
    #[must_use]
    pub fn has(&self, part: Part) -> bool {
        match part {
            Part::Files => self.landlock_abi >= 3,
            Part::Signals => self.landlock_abi >= 6,
            Part::SystemCalls => self.seccomp,
            Part::Network => self.network == Network::None,
            Part::User => self.unprivileged,
        }
    }

    /// The parts that are not in force.
    pub fn missing(&self) -> impl Iterator<Item = Part> {
        Part::ALL.into_iter().filter(|part| !self.has(*part))
    }

    /// All of it in one word.
    #[must_use]
    pub fn level(&self) -> Level {
        if !self.has(Part::Files) || !self.has(Part::SystemCalls) {
            Level::None
        } else if self.missing().next().is_some() {
            Level::Partial
        } else {
            Level::Full
        }
    }

    /// What is missing and how to get it, in a sentence.
    #[must_use]
    pub fn shortfall(&self) -> String {
        let missing: Vec<_> = self.missing().map(|part| format!("{} ({})", part.as_str(), part.remedy())).collect();
        missing.join("; ")
    }

    /// As it stands in the metadata of a result.
    #[must_use]
    pub fn describe(&self) -> Value {
        let missing: Vec<_> = self.missing().map(Part::as_str).collect();
        json!({
            "level": self.level().as_str(), "landlock_abi": self.landlock_abi, "seccomp": self.seccomp,
            "network": self.network.as_str(), "missing": missing,
        })
    }
}

/// Whether this process's user is another than root.
pub(super) fn unprivileged() -> bool {
    !nix::unistd::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_claims_no_more_than_what_is_in_force() {
        for (landlock_abi, seccomp, network, unprivileged, level, missing) in [
            (6, true, Network::None, true, Level::Full, &[][..]),
            (7, true, Network::None, true, Level::Full, &[]),
            (7, true, Network::None, false, Level::Partial, &[Part::User]),
            (6, true, Network::Host, true, Level::Partial, &[Part::Network]),
            (5, true, Network::None, true, Level::Partial, &[Part::Signals]),
            (2, true, Network::None, true, Level::None, &[Part::Files, Part::Signals]),
            (6, false, Network::Host, true, Level::None, &[Part::SystemCalls, Part::Network]),
            (0, false, Network::Host, false, Level::None, &Part::ALL),
        ] {
            let confinement = Confinement { landlock_abi, seccomp, network, unprivileged };
            assert_eq!(confinement.level(), level, "{confinement:?}");
            assert_eq!(confinement.missing().collect::<Vec<_>>(), missing, "{confinement:?}");
        }
        assert_eq!(Confinement::unconfined().level(), Level::None);
    }

    #[test]
    fn what_is_missing_is_named_with_its_remedy() {
        let shortfall =
            Confinement { landlock_abi: 5, seccomp: true, network: Network::Host, unprivileged: true }.shortfall();
        assert!(shortfall.starts_with("signals (run Linux 6.12"), "{shortfall}");
        assert!(shortfall.contains("; network (set LOCAL_RUNTIME_NETWORK=none"), "{shortfall}");
    }

    #[test]
    fn the_more_a_ticket_is_restricted_the_more_it_demands() {
        let demands: Vec<_> = SecurityLevel::ALL.iter().map(|level| Level::demanded_by(*level)).collect();
        assert_eq!(demands, [Level::None, Level::None, Level::Partial, Level::Full]);
    }
}
