//! How fast one partition may ask Temporal for starts: a window that follows their latency, and a turnstile that closes
//! while a peer is away. The arithmetic is in values without I/O.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// A start that takes longer shows that more in flight only waits in the server. Measured on two cores: 8 in flight take
/// 30 ms each and start nine tenths of what 32 do, which take 120 ms. With 75 ms the window settles at 12 and one start in
/// a hundred takes up to 195 ms; with 60 ms at 8, with as many starts a second, and one in a hundred takes up to 150 ms.
const TARGET_LATENCY: Duration = Duration::from_millis(60);
/// The window of a partition that has just been assigned.
const FIRST_WINDOW: f64 = 4.0;
/// Smallest one. Measured with four partitions: with two each, one start in a hundred took up to 224 ms at 120 starts a second;
/// with one 132 ms, at no fewer starts and no fewer tickets a second.
const MIN_WINDOW: f64 = 1.0;
/// Largest window of one partition.
const MAX_WINDOW: f64 = 32.0;
/// What is left of the window after a start that took too long.
const DECREASE: f64 = 0.75;
/// How much the window grows with each window's worth of quick answers, before its first decrease and after. The second
/// says how rare slow starts are once it has settled: of a window of four, 4 × 0.1 / 4² = one in forty.
const INCREASE: (f64, f64) = (1.0, 0.1);

/// Starts in flight: a little more for each window's worth of quick answers, a quarter less for a slow one (AIMD, as TCP's
/// congestion control). Windows of several partitions and workers converge to equal shares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    window: f64,
    /// Answers to come that were asked for before the last decrease: they say nothing about the new window.
    outdated: usize,
    /// Whether no start has been slow yet.
    settling: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self { window: FIRST_WINDOW, outdated: 0, settling: true }
    }
}

impl Pace {
    /// Records that may be in flight at once.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.window as usize
    }

    /// A start was answered after `took`, while `in_flight` were under way.
    pub fn answered(&mut self, took: Duration, in_flight: usize) {
        if took > TARGET_LATENCY {
            self.slower();
        } else if in_flight >= self.limit() {
            // A window that is not used says nothing about a larger one.
            let increase = if self.settling { INCREASE.0 } else { INCREASE.1 };
            self.window = (self.window + increase / self.window).min(MAX_WINDOW);
        }
        self.outdated = self.outdated.saturating_sub(1);
    }

    /// The peer did not answer.
    pub fn refused(&mut self) {
        self.slower();
    }

    fn slower(&mut self) {
        if self.outdated == 0 {
            // This answer is taken off again.
            self.outdated = self.limit();
            self.window = (self.window * DECREASE).max(MIN_WINDOW);
            self.settling = false;
        }
    }
}

/// Shortest and longest time between two tries of a partition while a peer is away. With the time-out of a call (5 s) the
/// first try after the peer's return comes within 9 s.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3));
/// Most that chance adds to a pause, as a part of it: partitions and workers must not ask in step.
const JITTER: f64 = 0.3;

/// Time before the next try after `failures` in a row; `chance` lies in 0..1.
#[must_use]
pub fn pause(failures: u32, chance: f64) -> Duration {
    let (shortest, longest) = PAUSE;
    let doubled = shortest.saturating_mul(1 << failures.saturating_sub(1).min(8));
    doubled.min(longest).mul_f64(1.0 + JITTER * chance)
}

#[derive(Debug, Default)]
struct Closed {
    failures: u32,
    /// `None`: open.
    until: Option<Instant>,
    /// Somebody tries whether the peer is back.
    probing: bool,
}

/// Lets records pass while a peer answers. While it does not, one record tries at a time, never more often than once a
/// second, and the others wait for what it finds.
#[derive(Debug, Default)]
pub struct Turnstile {
    state: Mutex<Closed>,
    changed: Notify,
}

impl Turnstile {
    /// Waits until the peer may be asked. Whoever passes says [`Turnstile::answered`] or [`Turnstile::failed`] after.
    pub async fn pass(&self) {
        loop {
            // Registered before the look, so that no change is missed.
            let changed = self.changed.notified();
            let wait_until = {
                let mut state = self.state();
                match state.until {
                    None => return,
                    Some(until) if !state.probing && Instant::now() >= until => {
                        state.probing = true;
                        return;
                    }
                    Some(_) if state.probing => None,
                    Some(until) => Some(until),
                }
            };
            match wait_until {
                Some(until) => tokio::select! {
                    () = tokio::time::sleep_until(until) => {}
                    () = changed => {}
                },
                None => changed.await,
            }
        }
    }

    /// Whether the peer is away.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state().until.is_some()
    }

    /// The peer answered.
    pub fn answered(&self) {
        let mut state = self.state();
        if state.until.is_some() {
            *state = Closed::default();
            drop(state);
            self.changed.notify_waiters();
        }
    }

    /// The peer gave no answer: the pause that follows, or `None` when one was under way already.
    pub fn failed(&self) -> Option<Duration> {
        let mut state = self.state();
        // Records that had passed before the first failure fail after it; they say nothing new.
        if state.until.is_some() && !state.probing {
            return None;
        }
        state.failures = state.failures.saturating_add(1);
        state.probing = false;
        let pause = pause(state.failures, fastrand::f64());
        state.until = Some(Instant::now() + pause);
        drop(state);
        self.changed.notify_waiters();
        Some(pause)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Closed> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A server with so much throughput: latency is what is in flight divided by it.
    fn settle(starts_per_second: f64, floor_ms: f64) -> Pace {
        let mut pace = Pace::default();
        for _ in 0..5_000 {
            let latency = (pace.limit() as f64 / starts_per_second * 1000.0).max(floor_ms);
            pace.answered(Duration::from_secs_f64(latency / 1000.0), pace.limit());
        }
        pace
    }

    #[test]
    fn the_window_follows_what_the_server_can_do() {
        let slow = settle(50.0, 1.0).limit();
        let medium = settle(200.0, 1.0).limit();
        let fast = settle(10_000.0, 1.0).limit();
        assert!((2..=4).contains(&slow), "{slow}");
        assert!((9..=12).contains(&medium), "{medium}");
        assert_eq!(fast, MAX_WINDOW as usize);
        assert_eq!(
            settle(10_000.0, 500.0).limit(),
            MIN_WINDOW as usize,
            "a server that is slow for one is asked by one"
        );
    }

    #[test]
    fn once_it_has_settled_few_starts_are_slow() {
        let mut pace = settle(200.0, 1.0);
        let slow = (0..5_000)
            .filter(|_| {
                let took = Duration::from_secs_f64(pace.limit() as f64 / 200.0);
                pace.answered(took, pace.limit());
                took > TARGET_LATENCY
            })
            .count();
        assert!((1..50).contains(&slow), "{slow} of 5000");
    }

    #[test]
    fn starts_that_were_in_flight_together_shrink_the_window_once() {
        for in_flight in [2, 4, 16] {
            let mut pace = Pace { window: f64::from(in_flight), ..Pace::default() };
            (0..in_flight).for_each(|_| pace.answered(Duration::from_secs(1), 1));
            assert!((pace.window - f64::from(in_flight) * DECREASE).abs() < 1e-9, "{in_flight}: {pace:?}");
        }
    }

    #[test]
    fn a_window_that_is_not_used_does_not_grow() {
        let mut pace = Pace::default();
        (0..1000).for_each(|_| pace.answered(Duration::from_millis(1), 1));
        assert_eq!(pace, Pace { outdated: 0, ..Pace::default() });
    }

    #[test]
    fn one_outage_shrinks_the_window_once_for_all_that_were_in_flight() {
        let mut pace = settle(10_000.0, 1.0);
        (0..32).for_each(|_| pace.refused());
        assert_eq!(pace.limit(), 24);
    }

    #[test]
    fn pauses_grow_to_three_seconds_and_never_allow_more_than_one_try_a_second() {
        let steps: Vec<u128> = (1..6).map(|failures| pause(failures, 0.0).as_millis()).collect();
        assert_eq!(steps, [1000, 2000, 3000, 3000, 3000]);
        assert_eq!(pause(u32::MAX, 1.0).as_millis(), 3900);
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_peer_is_away_one_record_tries_at_a_time() {
        let turnstile = Arc::new(Turnstile::default());
        let tries = Arc::new(AtomicUsize::new(0));
        let back_at = Instant::now() + Duration::from_secs(30);
        let mut records = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (turnstile, tries) = (Arc::clone(&turnstile), Arc::clone(&tries));
            records.spawn(async move {
                loop {
                    turnstile.pass().await;
                    tries.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    if Instant::now() >= back_at {
                        turnstile.answered();
                        return Instant::now();
                    }
                    turnstile.failed();
                }
            });
        }
        let done = records.join_all().await;
        let last = done.into_iter().max().expect("eight");
        assert!(last - back_at < Duration::from_secs(5), "{:?}", last - back_at);
        // Eight found out, then one at a time: 1 s, 2 s, 3 s, …; and the eight after it.
        let tries = tries.load(Ordering::SeqCst);
        assert!((8 + 7 + 7..=8 + 11 + 8).contains(&tries), "{tries}");
    }
}
