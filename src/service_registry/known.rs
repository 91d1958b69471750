//! By which ids the Service Registry knows this worker, for results (INC-105).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ticket_activities::Registrations;
use ticket_schemas::SecurityLevel;

/// The registry's id of each of this worker's agents. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct KnownAs(Arc<Mutex<Vec<(SecurityLevel, String)>>>);

impl KnownAs {
    /// The agent of this level has this id from now on, or none.
    pub(super) fn set(&self, level: SecurityLevel, agent_id: Option<&str>) {
        let mut ids = self.ids();
        ids.retain(|(known, _)| *known != level);
        ids.extend(agent_id.map(|id| (level, id.to_owned())));
    }

    fn ids(&self) -> MutexGuard<'_, Vec<(SecurityLevel, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registrations for KnownAs {
    fn registry_id(&self, level: SecurityLevel) -> Option<String> {
        let ids = self.ids();
        let id = match &ids[..] {
            // Whatever the ticket's level, nobody else can have been meant.
            [(_, only)] => Some(only),
            several => several.iter().find(|(known, _)| *known == level).map(|(_, id)| id),
        };
        id.cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inc_105_a_ticket_is_told_the_id_of_the_agent_of_its_level() {
        let known = KnownAs::default();
        let ids = || [SecurityLevel::Internal, SecurityLevel::Restricted].map(|level| known.registry_id(level));
        assert_eq!(ids(), [None, None]);
        known.set(SecurityLevel::Internal, Some("a"));
        assert_eq!(ids(), [Some("a".to_owned()), Some("a".to_owned())], "the only one");
        known.set(SecurityLevel::Confidential, Some("b"));
        known.set(SecurityLevel::Internal, Some("c"));
        assert_eq!(ids(), [Some("c".to_owned()), None]);
        known.set(SecurityLevel::Internal, None);
        known.set(SecurityLevel::Confidential, None);
        assert_eq!(ids(), [None, None]);
    }
}
