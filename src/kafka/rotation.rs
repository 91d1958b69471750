//! Credentials that change while the worker runs: files, and what Vault has given, are looked at every 2 s, and what they
//! hold is tried on a connection of its own before the clients get it. Credentials that are not let in change nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Clients;
use super::login::Login;
use crate::events::{KafkaCredentialsKept, KafkaCredentialsRenewed};
use crate::metrics::Metrics;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(2);
/// Between two tries of the same credentials that were not let in.
const RETRY: Duration = Duration::from_secs(15);

/// What a look came to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Look {
    Same,
    Renewed,
    /// Other credentials are there, and cannot be used.
    Kept(String),
    /// The same ones again, soon after they were refused.
    Waiting,
}

/// Watches the credentials.
pub(crate) struct Watch {
    clients: Clients,
    refused: Option<(Login, Instant)>,
}

impl Watch {
    pub(crate) fn new(clients: Clients) -> Self {
        Self { clients, refused: None }
    }

    /// Watches until stopped.
    pub(crate) async fn run(mut self, metrics: Arc<Metrics>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(INTERVAL);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.clients.faults().forget_old(Instant::now());
            if !self.clients.may_change() {
                continue;
            }
            // Reads files, and may wait for a broker; an end does not wait for that.
            let looking = tokio::task::spawn_blocking(move || {
                let look = self.look(Instant::now(), Clients::try_login);
                (self, look)
            });
            let Some(Ok((this, look))) = stop.run_until_cancelled(looking).await else { return };
            self = this;
            match look {
                Look::Same | Look::Waiting => {}
                Look::Renewed => metrics.emit(KafkaCredentialsRenewed),
                Look::Kept(error) => metrics.emit(KafkaCredentialsKept { error: &error }),
            }
        }
    }

    fn look(&mut self, now: Instant, let_in: impl FnOnce(&Clients, &Login) -> Result<(), String>) -> Look {
        let login = match self.clients.read_login() {
            Ok(login) => login,
            Err(error) => return Look::Kept(error),
        };
        if self.clients.has(&login) {
            self.refused = None;
            return Look::Same;
        }
        if self.refused.as_ref().is_some_and(|(refused, when)| *refused == login && now < *when + RETRY) {
            return Look::Waiting;
        }
        match let_in(&self.clients, &login) {
            Ok(()) => {
                self.refused = None;
                self.clients.renew(login);
                Look::Renewed
            }
            Err(error) => {
                self.refused = Some((login, now));
                Look::Kept(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, MapSource};

    fn clients(folder: &Path) -> Clients {
        let path = |name: &str| folder.join(name).to_str().expect("utf-8").to_owned();
        std::fs::write(path("user"), "first\n").expect("written");
        std::fs::write(path("password"), "one\n").expect("written");
        let source = MapSource::from([
            ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
            ("KAFKA_SASL_USERNAME_FILE", path("user").as_str()),
            ("KAFKA_SASL_PASSWORD_FILE", path("password").as_str()),
        ]);
        Clients::new(&Config::read(&source).expect("valid").kafka).expect("clients")
    }

    fn password(clients: &Clients) -> Option<String> {
        clients.producer_config().get("sasl.password").map(str::to_owned)
    }

    #[test]
    fn new_content_reaches_every_client_once_a_broker_lets_it_in() {
        let folder = tempfile::tempdir().expect("folder");
        let clients = clients(folder.path());
        let mut watch = Watch::new(clients.clone());
        let mut renewals = clients.renewals();
        let now = Instant::now();
        assert_eq!(watch.look(now, |_, _| panic!("nothing is new")), Look::Same);
        std::fs::write(folder.path().join("password"), "two").expect("written");
        assert_eq!(watch.look(now, |_, _| Ok(())), Look::Renewed);
        assert!(renewals.has_changed().expect("open"));
        renewals.mark_unchanged();
        assert_eq!(password(&clients).as_deref(), Some("two"));
        assert_eq!(clients.tickets_config().get("sasl.password"), Some("two"));
        assert_eq!(watch.look(now, |_, _| panic!("nothing is new")), Look::Same);
        assert!(!renewals.has_changed().expect("open"));
    }

    #[test]
    fn credentials_that_are_not_let_in_change_nothing_and_are_tried_again() {
        let folder = tempfile::tempdir().expect("folder");
        let clients = clients(folder.path());
        let mut watch = Watch::new(clients.clone());
        let renewals = clients.renewals();
        let now = Instant::now();
        std::fs::write(folder.path().join("password"), "early").expect("written");
        assert_eq!(watch.look(now, |_, _| Err("no".to_owned())), Look::Kept("no".to_owned()));
        assert_eq!(watch.look(now + Duration::from_secs(2), |_, _| panic!("too soon")), Look::Waiting);
        assert_eq!(password(&clients).as_deref(), Some("one"));
        assert!(!renewals.has_changed().expect("open"));
        // The broker has learnt of it meanwhile.
        assert_eq!(watch.look(now + Duration::from_secs(16), |_, _| Ok(())), Look::Renewed);
        assert_eq!(password(&clients).as_deref(), Some("early"));
        // Other content is tried at once.
        std::fs::write(folder.path().join("password"), "bad").expect("written");
        assert_eq!(watch.look(now, |_, _| Err("no".to_owned())), Look::Kept("no".to_owned()));
        std::fs::write(folder.path().join("password"), "good").expect("written");
        assert_eq!(watch.look(now, |_, _| Ok(())), Look::Renewed);
    }

    #[test]
    fn a_file_that_is_gone_or_empty_changes_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        let clients = clients(folder.path());
        let mut watch = Watch::new(clients.clone());
        std::fs::write(folder.path().join("password"), "\n").expect("written");
        let Look::Kept(error) = watch.look(Instant::now(), |_, _| panic!("not tried")) else { panic!("taken") };
        assert!(error.contains("KAFKA_SASL_PASSWORD_FILE"), "{error}");
        std::fs::remove_file(folder.path().join("password")).expect("removed");
        let Look::Kept(error) = watch.look(Instant::now(), |_, _| panic!("not tried")) else { panic!("taken") };
        assert!(error.contains("KAFKA_SASL_PASSWORD_FILE"), "{error}");
        assert_eq!(password(&clients).as_deref(), Some("one"));
    }
}
