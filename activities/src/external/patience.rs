//! How long the driver waits, and how it waits between two tries.

use std::time::Duration;

/// Times of the protocol. They add up to less than what the server adds to an attempt's time-out (30 s), so that a stopped
/// attempt answers before it is given up.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Longest single call, [`super::Provider::watch`], `follow`, `stop` and `prepare` excepted.
    pub call: Duration,
    /// After this time a watch is dropped and begun anew: a connection that has died says nothing. Longest pause between two
    /// watches too, whatever the provider asks for: work that ended meanwhile is not left waiting.
    pub watch: Duration,
    /// First pause between two tries.
    pub first_pause: Duration,
    /// Longest pause between two tries, and longest wait for a turn at the endpoint of a call about work that has begun.
    pub longest_pause: Duration,
    /// For the stop to be confirmed, tries together.
    pub stop: Duration,
    /// For the output of work that was stopped and the end of its log, tries together.
    pub last_words: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(20),
            watch: Duration::from_secs(60),
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(15),
            stop: Duration::from_secs(20),
            last_words: Duration::from_secs(5),
        }
    }
}

/// Pauses that double, each with up to half of it taken off: workers that lost a peer together do not come back together.
#[derive(Debug)]
pub(super) struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    pub(super) fn new(patience: &Patience) -> Self {
        Self { next: patience.first_pause, longest: patience.longest_pause }
    }

    /// The next pause: never shorter than `after`, what the provider asked for.
    pub(super) fn next(&mut self, after: Option<Duration>) -> Duration {
        let pause = self.next;
        self.next = self.next.saturating_mul(2).min(self.longest);
        pause.mul_f64(1.0 - 0.5 * fastrand::f64()).max(after.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::LOG_END;

    #[test]
    fn pauses_double_are_capped_jittered_and_never_undercut_what_was_asked_for() {
        let mut pauses = Pauses::new(&Patience::default());
        for full in [250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000].map(Duration::from_millis) {
            let pause = pauses.next(None);
            assert!(pause <= full && pause * 2 >= full, "{pause:?} of {full:?}");
        }
        assert_eq!(pauses.next(Some(Duration::from_secs(90))), Duration::from_secs(90));
    }

    #[test]
    fn a_stopped_attempt_answers_before_the_server_gives_it_up() {
        let patience = Patience::default();
        assert!(patience.stop + patience.last_words + LOG_END < Duration::from_secs(30));
    }
}
