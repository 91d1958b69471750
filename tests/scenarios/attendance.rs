//! Whether the scenario has a worker.

use temporalio_client::Client;
use temporalio_sdk::Runtime;
use ticket_activities::Activities;
use tokio::sync::watch;
use worker_agents::config::Config;
use worker_agents::temporal;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Wanted {
    There,
    Away,
    Over,
}

/// Calls the worker and sends it away.
pub(crate) struct Attendance {
    wanted: watch::Sender<Wanted>,
    there: watch::Sender<bool>,
}

impl Attendance {
    /// Nobody is there before somebody is called.
    pub(crate) fn new() -> Self {
        Self { wanted: watch::Sender::new(Wanted::Away), there: watch::Sender::new(false) }
    }

    /// Whether a worker is there or on its way.
    pub(crate) fn is_called(&self) -> bool {
        *self.wanted.borrow() == Wanted::There
    }

    pub(crate) fn call(&self) {
        self.wanted.send_replace(Wanted::There);
    }

    /// Sends the worker away and waits until it is gone.
    pub(crate) async fn send_away(&self) {
        self.wanted.send_replace(Wanted::Away);
        self.there.subscribe().wait_for(|there| !there).await.expect("the sender is here");
    }

    /// None is needed any more.
    pub(crate) fn end(&self) {
        self.wanted.send_replace(Wanted::Over);
    }

    /// Is the worker, one after the other, until the end.
    pub(crate) async fn work(&self, runtime: &Runtime, client: &Client, config: &Config, activities: &Activities) {
        let mut wanted = self.wanted.subscribe();
        loop {
            if *wanted.wait_for(|wanted| *wanted != Wanted::Away).await.expect("the sender is here") == Wanted::Over {
                return;
            }
            self.there.send_replace(true);
            let mut worker = temporal::worker(runtime, client, config, activities).expect("worker");
            let shutdown = worker.shutdown_handle();
            let relieved = async {
                drop(wanted.wait_for(|wanted| *wanted != Wanted::There).await.expect("the sender is here"));
                shutdown();
            };
            let (ran, ()) = tokio::join!(worker.run(), relieved);
            ran.expect("the worker runs");
            self.there.send_replace(false);
        }
    }
}
