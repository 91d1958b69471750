//! Which containers were told to start: none is told twice by one process.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Starts that were sent and not refused. One whose answer was lost may still be carried out; a second one beside it would run
/// a short command twice.
#[derive(Debug, Default)]
pub(super) struct Starts(Mutex<HashSet<String>>);

impl Starts {
    /// Whether the container may be told to start; from then on it may not.
    pub(super) fn claim(&self, id: &str) -> bool {
        self.sent().insert(id.to_owned())
    }

    /// The start was refused, or the container has ended.
    pub(super) fn forget(&self, id: &str) {
        self.sent().remove(id);
    }

    fn sent(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_sent_once_unless_it_was_refused() {
        let starts = Starts::default();
        assert!(starts.claim("a") && starts.claim("b"));
        assert!(!starts.claim("a"));
        starts.forget("a");
        assert!(starts.claim("a") && !starts.claim("b"));
    }
}
