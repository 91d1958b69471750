//! Makes the checks again and again, and shows what they find: in the log when it changes, in the metrics, and in
//! `/ready`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::finding::{Finding, State};
use crate::events::StartupChecked;
use crate::health::Health;
use crate::metrics::Metrics;

/// The readiness check that shows what was found.
pub const STARTUP_CHECK: &str = "startup_checks";
/// Between two rounds while everything is ok.
const CALM: Duration = Duration::from_secs(300);
/// Between two rounds while something is not: the first pause, doubled up to the last.
const PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(120));

/// Shows what start-up checks find. With `strict`, anything that is not ok takes readiness away until it is, unless
/// [`Check::holds_back`](super::Check::holds_back) says otherwise.
pub struct Watch {
    strict: bool,
    health: Health,
    metrics: Arc<Metrics>,
    passed: watch::Sender<bool>,
}

impl Watch {
    /// A watch that shows in `health` and `metrics` what it finds.
    #[must_use]
    pub fn new(strict: bool, health: Health, metrics: Arc<Metrics>) -> Self {
        if strict {
            health.expect(STARTUP_CHECK);
        }
        Self { strict, health, metrics, passed: watch::Sender::new(!strict) }
    }

    /// Resolves once the worker may take tickets: at once, or with `strict` after the first round in which all is ok.
    /// Never when the rounds end before.
    pub fn passed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut passed = self.passed.subscribe();
        async move {
            if passed.wait_for(|passed| *passed).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Makes rounds with `make` until stopped.
    pub async fn run<F: Future<Output = Vec<Finding>>>(self, make: impl Fn() -> F, stop: CancellationToken) {
        let mut shown = None;
        let mut pause = PAUSES.0;
        loop {
            let Some(findings) = stop.run_until_cancelled(make()).await else { return };
            let all_ok = findings.iter().all(|finding| finding.state == State::Ok);
            let states = worst(&findings);
            // Words may change from round to round; that is no news.
            let news = shown.as_ref() != Some(&states);
            self.show(&findings, &states, news);
            shown = Some(states);
            pause = match (all_ok, news) {
                (true, _) => CALM,
                (false, true) => PAUSES.0,
                (false, false) => pause.saturating_mul(2).min(PAUSES.1),
            };
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    fn show(&self, findings: &[Finding], states: &[(&'static str, &'static str)], news: bool) {
        let wanting = findings.iter().filter(|finding| finding.state != State::Ok);
        let sentences: Vec<_> = wanting
            .map(|finding| format!("{} {}: {}", finding.check.as_str(), finding.state.as_str(), finding.sentence()))
            .collect();
        if news {
            self.metrics.emit(StartupChecked { states, sentences: &sentences });
        }
        let holds_back = findings.iter().any(|finding| finding.state != State::Ok && finding.check.holds_back());
        if self.strict && holds_back {
            self.health.not_ready(STARTUP_CHECK, sentences.join(" | "));
            return;
        }
        self.passed.send_replace(true);
        if sentences.is_empty() {
            self.health.ready(STARTUP_CHECK);
        } else {
            self.health.ready_with(STARTUP_CHECK, sentences.join(" | "));
        }
    }
}

/// Every check with its worst state.
fn worst(findings: &[Finding]) -> Vec<(&'static str, &'static str)> {
    let mut states: BTreeMap<&'static str, State> = BTreeMap::new();
    for finding in findings {
        let state = states.entry(finding.check.as_str()).or_insert(State::Ok);
        *state = finding.state.max(*state);
    }
    states.into_iter().map(|(check, state)| (check, state.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::super::finding::Check;
    use super::*;

    fn ok() -> Finding {
        Finding::ok(Check::Retention, "long enough")
    }

    fn failed() -> Finding {
        Finding::failed(Check::Retention, "too short", "lengthen it")
    }

    fn unknown() -> Finding {
        Finding::unknown(Check::KafkaMessageSize, "not told", "look")
    }

    struct Trial {
        health: Health,
        metrics: Arc<Metrics>,
        rounds: Arc<Mutex<Vec<Instant>>>,
        answer: watch::Sender<Vec<Finding>>,
        passed: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
        stop: CancellationToken,
    }

    fn trial(strict: bool, first: Vec<Finding>) -> Trial {
        let (health, metrics) = (Health::default(), Arc::new(Metrics::new().expect("metrics")));
        health.ready("something_else");
        let watch = Watch::new(strict, health.clone(), Arc::clone(&metrics));
        let passed = Box::pin(watch.passed());
        let (answer, answers) = watch::channel(first);
        let rounds: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let stop = CancellationToken::new();
        let (seen, stopped) = (Arc::clone(&rounds), stop.clone());
        tokio::spawn(async move {
            let make = || {
                seen.lock().expect("rounds").push(Instant::now());
                std::future::ready(answers.borrow().clone())
            };
            watch.run(make, stopped).await;
        });
        Trial { health, metrics, rounds, answer, passed, stop }
    }

    impl Trial {
        async fn after(&self, seconds: u64) -> (bool, String) {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            let (ready, checks) = self.health.readiness();
            (ready, checks.get(STARTUP_CHECK).and_then(|check| check.detail.clone()).unwrap_or_default())
        }

        fn gauge(&self, check: &str, state: &str) -> i64 {
            self.metrics.startup_check_failures.with_label_values(&[check, state]).get()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_ok_is_shown_and_readiness_stays_until_it_is_fixed() {
        let trial = trial(false, vec![failed(), unknown()]);
        let (ready, detail) = trial.after(1).await;
        assert!(ready, "{detail}");
        assert!(detail.contains("retention failed: too short; lengthen it"), "{detail}");
        assert!(detail.contains("kafka_message_size unknown: not told; look"), "{detail}");
        assert_eq!((trial.gauge("retention", "failed"), trial.gauge("kafka_message_size", "unknown")), (1, 1));
        assert_eq!(trial.gauge("retention", "unknown"), 0);
        trial.answer.send_replace(vec![ok()]);
        let (ready, detail) = trial.after(10).await;
        assert!(ready && detail.is_empty(), "{detail}");
        assert_eq!(trial.gauge("retention", "failed"), 0);
        // And what breaks later is seen within minutes.
        trial.answer.send_replace(vec![failed()]);
        let (ready, detail) = trial.after(301).await;
        assert!(ready && detail.contains("too short"), "{detail}");
        trial.stop.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn strict_checks_refuse_readiness_and_tickets_until_all_is_ok() {
        let mut trial = trial(true, vec![unknown()]);
        assert!(!trial.health.readiness().0, "before the first round");
        let (ready, detail) = trial.after(1).await;
        assert!(!ready && detail.contains("not told"), "{detail}");
        let waits = tokio::time::timeout(Duration::from_secs(3600), &mut trial.passed).await;
        assert!(waits.is_err(), "nothing was fixed");
        trial.answer.send_replace(vec![ok()]);
        tokio::time::timeout(Duration::from_secs(121), &mut trial.passed).await.expect("fixed");
        assert!(trial.health.readiness().0);
        trial.stop.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn strict_checks_do_not_wait_for_a_version_to_become_current_or_for_the_service_registry() {
        for check in [Check::WorkerVersion, Check::ServiceRegistry] {
            let mut trial = trial(true, vec![Finding::failed(check, "not there", "make it so")]);
            tokio::time::timeout(Duration::from_secs(1), &mut trial.passed).await.expect("passed");
            let (ready, detail) = trial.after(0).await;
            assert!(ready && detail.contains(&format!("{} failed: not there", check.as_str())), "{detail}");
            assert_eq!(trial.gauge(check.as_str(), "failed"), 1);
            trial.stop.cancel();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn checks_that_have_not_passed_before_the_end_never_pass() {
        let mut trial = trial(true, vec![failed()]);
        trial.after(1).await;
        trial.stop.cancel();
        tokio::time::timeout(Duration::from_secs(3600), &mut trial.passed).await.expect_err("nothing was fixed");
    }

    #[tokio::test(start_paused = true)]
    async fn rounds_back_off_while_nothing_changes_and_are_calm_while_all_is_ok() {
        let trial = trial(true, vec![failed()]);
        trial.after(600).await;
        trial.answer.send_replace(vec![ok()]);
        trial.after(1000).await;
        let rounds = trial.rounds.lock().expect("rounds").clone();
        let pauses: Vec<_> = rounds.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
        assert_eq!(pauses[..8], [5, 10, 20, 40, 80, 120, 120, 120], "{pauses:?}");
        assert_eq!(pauses[pauses.len() - 2..], [300, 300], "{pauses:?}");
        trial.stop.cancel();
    }
}
