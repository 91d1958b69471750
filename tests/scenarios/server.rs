//! The server of a scenario, a child of this process.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use temporalio_client::Client;
use worker_agents::config::Config;
use worker_agents::dev::temporal::{TemporalDevServer, free_port};
use worker_agents::temporal;

use crate::dev_server;
use crate::world::PATIENCE;

pub(crate) enum Server {
    /// Skips time whenever nothing runs.
    Skipping(Skipping),
    /// Takes the time that things take.
    Real(TemporalDevServer),
}

/// A process that ends with this value.
pub(crate) struct Skipping {
    child: Child,
    port: u16,
}

impl Server {
    pub(crate) async fn start(in_real_time: bool) -> Self {
        if in_real_time {
            return Self::Real(TemporalDevServer::start(dev_server::options()).await.expect("a dev server"));
        }
        let binary = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/temporal-test-server/bin/temporal-test-server");
        let port = free_port().expect("port");
        let child = Command::new(&binary).arg(port.to_string()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{}: {error}; run `make setup`", binary.display()));
        Self::Skipping(Skipping { child, port })
    }

    pub(crate) fn address(&self) -> String {
        match self {
            Self::Skipping(server) => format!("127.0.0.1:{}", server.port),
            Self::Real(server) => server.address().to_owned(),
        }
    }

    /// Connects once it answers. It skips no time before it is told to.
    pub(crate) async fn connect(&self, config: &Config) -> Client {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match temporal::connect(config).await {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < deadline, "{error:#}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Skipping {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
