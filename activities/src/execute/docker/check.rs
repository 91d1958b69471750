//! What an engine is, for start-up checks.

use bollard::models::SystemInfo;

use crate::external::said;

/// What an engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineFacts {
    /// Version of the engine.
    pub version: String,
    /// Version of the API that is spoken with it.
    pub api: String,
    /// Names of its security options: `seccomp`, `apparmor`, `rootless`, …
    pub security: Vec<String>,
    /// Whether limits on memory are kept.
    pub limits_memory: bool,
    /// Whether limits on processes are kept.
    pub limits_processes: bool,
}

impl EngineFacts {
    pub(super) fn of(api: String, info: SystemInfo) -> Self {
        // `name=seccomp,profile=default`
        let name = |option: &String| said(option.split(',').next().unwrap_or_default().trim_start_matches("name="));
        Self {
            version: said(&info.server_version.unwrap_or_default()),
            api,
            security: info.security_options.unwrap_or_default().iter().map(name).collect(),
            limits_memory: info.memory_limit.unwrap_or_default(),
            limits_processes: info.pids_limit.unwrap_or_default(),
        }
    }

    /// What the engine does not keep to, of what containers are promised; empty when it keeps to all of it.
    #[must_use]
    pub fn lacks(&self) -> Vec<&'static str> {
        let mut lacks = Vec::new();
        if !self.security.iter().any(|name| name == "seccomp") {
            lacks.push("seccomp");
        }
        if !self.limits_memory {
            lacks.push("limits on memory");
        }
        if !self.limits_processes {
            lacks.push("limits on processes");
        }
        lacks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_engine_does_not_keep_to_is_named() {
        let info = SystemInfo {
            server_version: Some("20.10.24".to_owned()),
            security_options: Some(vec!["name=apparmor".to_owned(), "name=seccomp,profile=default".to_owned()]),
            memory_limit: Some(true),
            pids_limit: Some(true),
            ..SystemInfo::default()
        };
        let facts = EngineFacts::of("1.41".to_owned(), info);
        assert_eq!(facts.security, ["apparmor", "seccomp"]);
        assert_eq!(facts.lacks(), [""; 0]);
        let bare = EngineFacts::of("1.41".to_owned(), SystemInfo::default());
        assert_eq!(bare.lacks(), ["seccomp", "limits on memory", "limits on processes"]);
    }
}
