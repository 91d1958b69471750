//! How often an endpoint is called: a rate, and the pauses that the endpoint itself asks for.

use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

/// Longest that a call waits because others were told to come later: it waits in the place of an attempt. Whoever was told keeps to
/// what was said.
const MOST_PAUSE: Duration = Duration::from_secs(5);

type Limiter = RateLimiter<NotKeyed, InMemoryState, Ticks, NoOpMiddleware<Duration>>;

/// Gives each call its turn, in the order in which they ask.
pub(super) struct Turns {
    clock: Ticks,
    limiter: Option<Limiter>,
    paused_until: Mutex<Option<Instant>>,
    queue: tokio::sync::Mutex<()>,
}

/// The runtime's clock, which tests move.
#[derive(Debug, Clone, Copy)]
struct Ticks(Instant);

impl Clock for Ticks {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

impl Turns {
    /// `rate`: calls a second, and as many at once after a pause; `None`: no bound.
    pub(super) fn new(rate: Option<NonZeroU32>) -> Self {
        let clock = Ticks(Instant::now());
        let limiter = rate.map(|rate| RateLimiter::direct_with_clock(Quota::per_second(rate), clock));
        Self { clock, limiter, paused_until: Mutex::default(), queue: tokio::sync::Mutex::default() }
    }

    /// Waits for a turn. May be dropped: the place in the queue is then given up.
    pub(super) async fn next(&self) {
        // Once: what others are told meanwhile makes nobody wait for ever.
        let paused_until = *self.paused();
        if let Some(until) = paused_until {
            tokio::time::sleep_until(until).await;
        }
        let Some(limiter) = &self.limiter else { return };
        let _first = self.queue.lock().await;
        while let Err(refused) = limiter.check() {
            tokio::time::sleep(refused.wait_time_from(self.clock.now())).await;
        }
    }

    /// Nobody has a turn for this time, if that is not too long.
    pub(super) fn pause(&self, time: Duration) {
        let until = Instant::now() + time.min(MOST_PAUSE);
        let mut paused = self.paused();
        *paused = (*paused).max(Some(until));
    }

    fn paused(&self) -> MutexGuard<'_, Option<Instant>> {
        self.paused_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::future::join_all;

    use super::*;

    fn turns(rate: u32) -> Turns {
        Turns::new(NonZeroU32::new(rate))
    }

    /// How long a turn takes to come.
    async fn waited(turns: &Turns) -> Duration {
        let begun = Instant::now();
        turns.next().await;
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_has_one_seconds_turns_at_once_and_the_rest_at_the_rate() {
        let (turns, begun) = (turns(5), Instant::now());
        let waits = join_all((0..20).map(|_| waited(&turns))).await;
        let at_once = waits.iter().filter(|wait| wait.is_zero()).count();
        assert_eq!(at_once, 5, "{waits:?}");
        assert!(waits.is_sorted(), "in their order: {waits:?}");
        let took = begun.elapsed();
        assert!((Duration::from_millis(2_990)..Duration::from_millis(3_200)).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_nobody_waits_but_for_a_pause() {
        let (turns, begun) = (turns(0), Instant::now());
        join_all((0..1000).map(|_| turns.next())).await;
        assert!(begun.elapsed().is_zero());
        turns.pause(Duration::from_secs(3));
        turns.pause(Duration::from_secs(2));
        let wait = waited(&turns).await;
        assert!(wait >= Duration::from_secs(3), "the longer one counts: {wait:?}");
        assert!(waited(&turns).await.is_zero(), "it is over");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_long_because_others_are_told_to() {
        let turns = turns(5);
        turns.pause(Duration::MAX);
        let told = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                turns.pause(Duration::from_secs(3600));
            }
        };
        let waits = tokio::select! {
            waits = join_all((0..3).map(|_| waited(&turns))) => waits,
            () = told => unreachable!("it never ends"),
        };
        assert!(waits.iter().all(|wait| *wait <= MOST_PAUSE + Duration::from_millis(1)), "{waits:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_up_its_place_holds_up_nobody() {
        let turns = Arc::new(turns(1));
        turns.next().await;
        let first = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { turns.next().await }
        });
        tokio::task::yield_now().await;
        first.abort();
        assert!(waited(&turns).await <= Duration::from_millis(1_001));
    }
}
