//! When the assignment is paused and resumed: as the gate closes and opens, but not for a blink.

use std::time::Duration;

use tokio::sync::watch;

/// A gate that opens again this soon does not pause the assignment: a pause drops what was fetched and not taken, so
/// each costs up to 1 MiB of fetching again.
pub(crate) const GRACE: Duration = Duration::from_millis(250);

/// Resolves when the assignment is to be paused (`true`) or resumed, being now as `paused` says.
pub(crate) async fn change(closed: &mut watch::Receiver<bool>, paused: bool) -> bool {
    loop {
        let wanted = *closed.borrow_and_update();
        if wanted == paused {
            if closed.changed().await.is_err() {
                // The gate is gone, and with it whoever could open or close it.
                std::future::pending::<()>().await;
            }
        } else if !wanted {
            return false;
        } else if tokio::time::timeout(GRACE, closed.wait_for(|closed| !closed)).await.is_err() {
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_closed_gate_pauses_after_the_grace_and_an_open_one_resumes_at_once() {
        let (gate, mut closed) = watch::channel(true);
        let began = Instant::now();
        assert!(change(&mut closed, false).await);
        assert_eq!(began.elapsed(), GRACE);
        gate.send_replace(false);
        assert!(!change(&mut closed, true).await);
        assert_eq!(began.elapsed(), GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_gate_that_only_blinks_changes_nothing() {
        let (gate, mut closed) = watch::channel(false);
        let blinking = async {
            for _ in 0..100 {
                gate.send_replace(true);
                tokio::time::sleep(GRACE / 2).await;
                gate.send_replace(false);
                tokio::time::sleep(GRACE / 2).await;
            }
            gate.send_replace(true);
            tokio::time::sleep(GRACE * 2).await;
        };
        let began = Instant::now();
        let (changed, ()) = tokio::join!(
            async {
                let paused = change(&mut closed, false).await;
                (paused, began.elapsed())
            },
            blinking
        );
        assert!(changed.0 && changed.1 >= GRACE * 101, "{changed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_happens_while_the_assignment_is_as_it_should_be() {
        let (_gate, mut closed) = watch::channel(true);
        assert!(tokio::time::timeout(GRACE * 100, change(&mut closed, true)).await.is_err());
    }
}
