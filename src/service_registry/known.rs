//! By which ids the Service Registry knows this worker, for results (INC-105).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ticket_activities::Registrations;
use ticket_schemas::SecurityLevel;

/// The registry's id of each of this worker's agents. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct KnownAs {
    ids: Arc<Mutex<Vec<(SecurityLevel, String)>>>,
    /// Whether there is one agent: whatever the ticket's level, nobody else can have been meant.
    one: bool,
}

impl KnownAs {
    /// Of so many agents, none of which has an id yet.
    pub(super) fn of(agents: usize) -> Self {
        Self { ids: Arc::default(), one: agents == 1 }
    }

    /// The agent of this level has this id from now on, or none.
    pub(super) fn set(&self, level: SecurityLevel, agent_id: Option<&str>) {
        let mut ids = self.ids();
        ids.retain(|(known, _)| *known != level);
        ids.extend(agent_id.map(|id| (level, id.to_owned())));
    }

    fn ids(&self) -> MutexGuard<'_, Vec<(SecurityLevel, String)>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registrations for KnownAs {
    fn registry_id(&self, level: SecurityLevel) -> Option<String> {
        let ids = self.ids();
        ids.iter().find(|(known, _)| self.one || *known == level).map(|(_, id)| id.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inc_105_a_ticket_is_told_the_id_of_the_agent_of_its_level() {
        let ids = |known: &KnownAs| {
            [SecurityLevel::Internal, SecurityLevel::Restricted].map(|level| known.registry_id(level))
        };
        let one = KnownAs::of(1);
        assert_eq!(ids(&one), [None, None]);
        one.set(SecurityLevel::Internal, Some("a"));
        assert_eq!(ids(&one), [Some("a".to_owned()), Some("a".to_owned())], "the only one");

        let several = KnownAs::of(2);
        several.set(SecurityLevel::Internal, Some("b"));
        assert_eq!(ids(&several), [Some("b".to_owned()), None], "the other is not registered yet");
        several.set(SecurityLevel::Internal, Some("c"));
        several.set(SecurityLevel::Restricted, Some("d"));
        assert_eq!(ids(&several), [Some("c".to_owned()), Some("d".to_owned())]);
        several.set(SecurityLevel::Internal, None);
        assert_eq!(ids(&several), [None, Some("d".to_owned())]);
    }
}
