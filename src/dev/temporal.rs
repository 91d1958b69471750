//! Temporal for development: the CLI's own dev server, with its UI, as a supervised child.
//!
//! Owns the child, from the choice of its ports to its end. A supervisor process stands between, so the server ends
//! with this process even when this process is killed. A development and test tool: production has a cluster.

mod child;
mod cli;
mod diagnosis;
mod output;
mod readiness;

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use ticket_activities::supervisor::SupervisorCommand;
use ticket_workflows::SearchAttribute;

use child::{Child, Launch};
use diagnosis::{EarlyEnd, Ports};
use readiness::Probe;

pub use cli::find_cli;

/// The only address that anything here listens on.
const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// What a start may take. One second is usual; busy machines have been slow.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Starts in all when somebody else takes a port between its choice and its use.
const STARTS: usize = 3;

/// How the dev server is run.
#[derive(Debug, Clone)]
pub struct TemporalDevOptions {
    /// The Temporal CLI, as [`find_cli`] finds it.
    pub cli: PathBuf,
    /// What supervises it, normally this very binary.
    pub supervisor: SupervisorCommand,
    /// Port of the server on 127.0.0.1. 0: a free one.
    pub port: u16,
    /// Port of the web UI on 127.0.0.1. 0: a free one.
    pub ui_port: u16,
    /// The namespace to create. (`default` exists always.)
    pub namespace: String,
    /// Where the server keeps its data; a missing folder is made. `None`: in memory, lost at its end.
    pub db_file: Option<PathBuf>,
    /// Where the server's output is appended; a missing folder is made. `None`: only its last lines are kept, in
    /// memory, for error messages.
    pub log_file: Option<PathBuf>,
    /// Search attributes of the namespace.
    pub search_attributes: Vec<SearchAttribute>,
    /// Between asking the server to end and killing it.
    pub grace: Duration,
}

/// A running dev server. [`TemporalDevServer::stop`] ends it and waits; dropping it ends it too, without waiting.
#[derive(Debug)]
pub struct TemporalDevServer {
    address: String,
    ui_url: String,
    child: Child,
    /// Held for as long as the server may write to its database file.
    _lock: Option<File>,
}

impl TemporalDevServer {
    /// Starts the server and waits, 60 s at most, until it answers for the namespace with all search attributes.
    ///
    /// Attributes that the database of an earlier run does not know are added; the CLI by itself would ignore them.
    ///
    /// # Errors
    ///
    /// When a port is taken, the database file is in use, the child ends early or the time is over. The message holds
    /// the last lines of the child's output and what to change.
    pub async fn start(options: TemporalDevOptions) -> anyhow::Result<Self> {
        let lock = options.db_file.as_deref().map(lock).transpose()?;
        if let Some(file) = &options.log_file {
            make_folder_of(file)?;
        }
        let probe = Probe::new(&options.namespace, &options.search_attributes)?;
        for _ in 1..STARTS {
            match start_once(&options, &probe).await {
                Err(error) if diagnosis::lost_a_chosen_port(&error) => {
                    tracing::debug!(error = format!("{error:#}"), "starting the Temporal dev server on other ports");
                }
                started => return Ok(Self::new(started?, lock)),
            }
        }
        Ok(Self::new(start_once(&options, &probe).await?, lock))
    }

    fn new((child, ports): (Child, Ports), lock: Option<File>) -> Self {
        Self {
            address: format!("{HOST}:{}", ports.server.number),
            ui_url: format!("http://{HOST}:{}", ports.ui.number),
            child,
            _lock: lock,
        }
    }

    /// `host:port` of the server, without a scheme.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where a browser finds the UI, which may answer a little later than the server.
    #[must_use]
    pub fn ui_url(&self) -> &str {
        &self.ui_url
    }

    /// Process id of the server itself, for tests that kill it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.child.pid()
    }

    /// Resolves when the server has ended, for whatever reason, with how it ended and its last lines of output.
    pub fn exited(&self) -> impl Future<Output = String> + Send + use<> {
        let ended = self.child.ended();
        let output = self.child.output();
        async move {
            let how = ended.await;
            diagnosis::with_output(format!("the Temporal dev server ended ({how})"), &output.last_lines())
        }
    }

    /// Ends the server and waits until nothing of it is left: TERM, the grace, KILL.
    pub async fn stop(self) {
        self.child.stop().await;
    }
}

/// A port that nobody listens on at the moment. Somebody else may take it before it is used.
///
/// # Errors
///
/// When the machine has none left.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((HOST, 0))?.local_addr()?.port())
}

async fn start_once(options: &TemporalDevOptions, probe: &Probe) -> anyhow::Result<(Child, Ports)> {
    let ports = Ports::choose(options.port, options.ui_port)?;
    let child = Child::start(Launch {
        supervisor: &options.supervisor,
        grace: options.grace,
        program: &options.cli,
        arguments: arguments(options, &ports),
        log_file: options.log_file.as_deref(),
    })
    .await
    .with_context(|| format!("the Temporal CLI {} cannot be started; run `make setup`", options.cli.display()))?;
    let waiting = tokio::time::timeout(START_LIMIT, probe.until_ready(HOST, ports.server.number));
    let ended = child.ended();
    tokio::select! {
        // First: another server that answers on the same port must not pass for the one that has just ended.
        biased;
        how = ended => {
            let output = child.output().last_lines();
            return Err(EarlyEnd { how, output, ports, database: options.db_file.clone() }.into());
        }
        ready = waiting => if ready.is_ok() {
            return Ok((child, ports));
        },
    }
    let output = child.output();
    child.stop().await;
    let problem = probe.last_problem();
    let text = format!("the Temporal dev server was not ready after {} s: {problem}", START_LIMIT.as_secs());
    bail!(diagnosis::with_output(text, &output.last_lines()));
}

/// The CLI's arguments. It takes no others: the child has an empty environment, and the CLI's own settings files are
/// for the user's clusters.
fn arguments(options: &TemporalDevOptions, ports: &Ports) -> Vec<OsString> {
    let host = HOST.to_string();
    let (port, ui_port) = (ports.server.number.to_string(), ports.ui.number.to_string());
    let mut arguments: Vec<OsString> = ["server", "start-dev", "--disable-config-file", "--ui-disable-news-fetch"]
        .into_iter()
        .chain(["--ip", &host, "--port", &port, "--ui-ip", &host, "--ui-port", &ui_port])
        .chain(["--namespace", &options.namespace, "--log-level", "error"])
        .map(OsString::from)
        .collect();
    for SearchAttribute { name, kind } in &options.search_attributes {
        arguments.extend(["--search-attribute".into(), format!("{name}={kind}").into()]);
    }
    if let Some(file) = &options.db_file {
        arguments.extend(["--db-filename".into(), file.into()]);
        // Without them every commit waits for the disk: 3 to 5 times slower.
        for pragma in ["journal_mode=wal", "synchronous=normal"] {
            arguments.extend(["--sqlite-pragma".into(), pragma.into()]);
        }
    }
    arguments
}

/// Two servers on one database file do not fail, they take each other's work; so the second one is refused.
fn lock(database: &Path) -> anyhow::Result<File> {
    make_folder_of(database)?;
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
    let unusable = || format!("{} cannot be locked", path.display());
    let file = File::options().create(true).truncate(false).write(true).open(&path).with_context(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!(
                "{} is in use by another dev stack: stop that one, or give this one a database of its own",
                database.display()
            )
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(unusable),
    }
}

fn make_folder_of(file: &Path) -> anyhow::Result<()> {
    match file.parent() {
        Some(folder) if folder != Path::new("") => {
            std::fs::create_dir_all(folder).with_context(|| format!("folder {} cannot be made", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
