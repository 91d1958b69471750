//! What a registration has come to and when the registry is called next. No I/O, no clock, no chance.

use std::time::Duration;

/// Before the first try after a setback; it doubles with each further one, up to the heartbeat's interval.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Most that chance takes off a pause, as a part of it: workers must not call in step when the registry is back.
const JITTER: f64 = 0.3;

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// The registry knows the agent from now on, by this id.
    Registered(String),
    /// It does not: it was away, or refused.
    NotRegistered,
    /// It took a heartbeat.
    Beat,
    /// It gave no usable answer to one.
    Silent,
    /// It does not know the agent any more: it was restarted, or was away for longer than it remembers.
    Forgotten,
}

/// One agent's registration.
#[derive(Debug, Default)]
pub(super) struct Registration {
    agent_id: Option<String>,
    /// Whether the registry ever took a heartbeat of this id.
    beaten: bool,
    /// Failed calls since the last heartbeat that was taken.
    setbacks: u32,
}

impl Registration {
    /// The registry's id of the agent. `None`: it is to be registered.
    pub(super) fn agent_id(&self) -> Option<&str> {
        self.agent_id.as_deref()
    }

    /// Takes in what came of the last call; how long to wait until the next. `chance` lies in 0..1.
    ///
    /// An agent is registered anew only when the registry says that it does not know it: whoever is registered twice leaves a
    /// ghost behind that tickets are planned for (INC-27). That is done at once for an id that was in use, however often the
    /// registry was silent before; one that forgets ids before their first heartbeat is not flooded with agents.
    pub(super) fn hear(&mut self, heard: Heard, interval: Duration, chance: f64) -> Duration {
        match heard {
            Heard::Registered(agent_id) => {
                self.agent_id = Some(agent_id);
                self.beaten = false;
                // The registry takes telemetry from heartbeats only.
                return Duration::ZERO;
            }
            Heard::Beat => {
                self.beaten = true;
                self.setbacks = 0;
                return interval;
            }
            Heard::NotRegistered | Heard::Silent => self.setbacks += 1,
            Heard::Forgotten => {
                self.agent_id = None;
                if self.beaten {
                    // It answers again.
                    self.setbacks = 0;
                    return Duration::ZERO;
                }
                self.setbacks += 1;
            }
        }
        pause(self.setbacks, interval, chance)
    }
}

fn pause(setbacks: u32, longest: Duration, chance: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << setbacks.saturating_sub(1).min(16));
    doubled.min(longest).mul_f64(1.0 - JITTER * chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn registered() -> Heard {
        Heard::Registered("a".to_owned())
    }

    /// What is waited after each, in milliseconds, without jitter; and the registration in the end.
    fn waits(heard: &[Heard]) -> (Vec<u128>, Registration) {
        let mut registration = Registration::default();
        let waits = heard.iter().map(|heard| registration.hear(heard.clone(), INTERVAL, 0.0).as_millis()).collect();
        (waits, registration)
    }

    #[test]
    fn a_registered_agent_beats_at_once_and_then_at_its_interval() {
        let (waits, registration) = waits(&[registered(), Heard::Beat, Heard::Beat]);
        assert_eq!(waits, [0, 30_000, 30_000]);
        assert_eq!(registration.agent_id(), Some("a"));
    }

    #[test]
    fn a_registry_that_is_away_is_tried_more_and_more_seldom_up_to_the_interval() {
        let (waits, registration) = waits(&vec![Heard::NotRegistered; 8]);
        assert_eq!(waits, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        assert_eq!(registration.agent_id(), None);
    }

    #[test]
    fn inc_27_heartbeats_that_fail_are_no_reason_to_register_again() {
        let mut heard = vec![registered(), Heard::Beat];
        heard.extend(vec![Heard::Silent; 20]);
        let (_, registration) = waits(&heard);
        assert_eq!(registration.agent_id(), Some("a"));
    }

    #[test]
    fn an_agent_that_is_forgotten_is_registered_again_at_once() {
        let (waits, registration) = waits(&[registered(), Heard::Beat, Heard::Forgotten]);
        assert_eq!(waits.last(), Some(&0));
        assert_eq!(registration.agent_id(), None);
    }

    #[test]
    fn an_agent_that_is_forgotten_during_an_outage_is_registered_again_at_once() {
        let mut heard = vec![registered(), Heard::Beat];
        heard.extend(vec![Heard::Silent; 5]);
        heard.extend([Heard::Forgotten, Heard::NotRegistered]);
        let (waits, registration) = waits(&heard);
        assert_eq!(waits[6..], [16_000, 0, 1000]);
        assert_eq!(registration.agent_id(), None);
    }

    #[test]
    fn a_registry_that_forgets_each_time_is_not_flooded_with_agents() {
        let heard: Vec<Heard> = (0..4).flat_map(|_| [registered(), Heard::Forgotten]).collect();
        let (waits, _) = waits(&heard);
        assert_eq!(waits, [0, 1000, 0, 2000, 0, 4000, 0, 8000]);
    }

    #[test]
    fn a_heartbeat_that_is_taken_ends_the_setbacks() {
        let (waits, _) = waits(&[registered(), Heard::Silent, Heard::Silent, Heard::Beat, Heard::Silent]);
        assert_eq!(waits, [0, 1000, 2000, 30_000, 1000]);
    }

    #[test]
    fn chance_shortens_a_pause_and_never_lengthens_it() {
        let after = |chance| Registration::default().hear(Heard::NotRegistered, INTERVAL, chance).as_millis();
        assert_eq!((after(0.0), after(0.5), after(1.0)), (1000, 850, 700));
        // A pause is never longer than the interval, however often the registry was called in vain.
        assert_eq!(pause(u32::MAX, INTERVAL, 0.0), INTERVAL);
    }
}
