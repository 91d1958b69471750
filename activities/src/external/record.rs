//! What a heartbeat tells of external work, so that the next worker need not look for it.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Key;

/// What the driver is doing with the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    LookingUp,
    Preparing,
    Creating,
    Watching,
    Stopping,
    Collecting,
}

/// The part of a heartbeat that is read again.
#[derive(Deserialize)]
struct Recorded {
    provider: String,
    key: String,
    handle: Value,
}

/// The heartbeat of work that may not have been created yet.
pub(super) fn phase(provider: &str, key: &Key, phase: Phase) -> Value {
    json!({ "provider": provider, "key": key.as_str(), "phase": phase })
}

/// The heartbeat of work that was created. A handle that is null leads nobody back to the work: whoever reads this knows no more
/// than that it may have begun.
pub(super) fn work(provider: &str, key: &Key, at: Phase, handle: &Value) -> Value {
    if handle.is_null() {
        return phase(provider, key, at);
    }
    json!({ "provider": provider, "key": key.as_str(), "phase": at, "handle": handle })
}

/// Whether a lost worker recorded which work it had created.
pub(crate) fn is_recorded(heartbeat: &Value) -> bool {
    Recorded::deserialize(heartbeat).is_ok()
}

/// The work that a lost worker recorded, if it is this provider's and has this key.
pub(super) fn handle<H: DeserializeOwned>(heartbeat: &Value, provider: &str, key: &Key) -> Option<H> {
    let recorded = Recorded::deserialize(heartbeat).ok()?;
    let ours = recorded.provider == provider && recorded.key == key.as_str();
    ours.then(|| serde_json::from_value(recorded.handle).ok())?
}

#[cfg(test)]
mod tests {
    use super::super::tests::job;
    use super::*;

    #[test]
    fn only_the_same_work_of_the_same_provider_is_read_again() {
        let key = Key::of(&job("t"));
        let other = Key::of(&job("u"));
        let told = work("docker", &key, Phase::Watching, &json!("abc"));
        assert_eq!(handle::<String>(&told, "docker", &key).as_deref(), Some("abc"));
        assert_eq!(handle::<String>(&told, "k8s", &key), None);
        assert_eq!(handle::<String>(&told, "docker", &other), None);
        assert_eq!(handle::<u32>(&told, "docker", &key), None, "a handle of another form is looked up again");
        assert!(is_recorded(&told));
        let leads_nowhere = work("lambda", &key, Phase::Watching, &Value::Null);
        assert_eq!(leads_nowhere["phase"], "watching");
        let begun = phase("docker", &key, Phase::Creating);
        for unknown in [Value::Null, begun, leads_nowhere, json!({ "pid": 1, "stdout_bytes": 0 })] {
            assert_eq!(handle::<String>(&unknown, "docker", &key), None);
            assert!(!is_recorded(&unknown), "{unknown}");
        }
    }
}
