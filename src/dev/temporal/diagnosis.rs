//! Ports, and what to tell the user when the dev server does not start.

use std::fmt;
use std::net::TcpListener;
use std::path::PathBuf;

use anyhow::Context as _;

use super::{HOST, free_port};

/// One port and where it comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Port {
    pub(super) number: u16,
    /// Chosen here, not by the user.
    chosen: bool,
    purpose: &'static str,
    /// What the user changes.
    flag: &'static str,
}

/// The ports of one start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) server: Port,
    pub(super) ui: Port,
}

impl Ports {
    /// Takes the user's ports, refusing those in use, and chooses free ones for 0.
    ///
    /// Asked before the start because whoever listens there may be a Temporal server too, and would then pass for the
    /// one being started.
    pub(super) fn choose(server: u16, ui: u16) -> anyhow::Result<Self> {
        Ok(Self {
            server: Port::choose(server, "Temporal server", "--temporal-port")?,
            ui: Port::choose(ui, "Temporal UI", "--ui-port")?,
        })
    }
}

impl Port {
    fn choose(number: u16, purpose: &'static str, flag: &'static str) -> anyhow::Result<Self> {
        let chosen = number == 0;
        let number = if chosen { free_port().context("no port is free on 127.0.0.1")? } else { number };
        let port = Self { number, chosen, purpose, flag };
        if !chosen {
            TcpListener::bind((HOST, number)).with_context(|| port.taken())?;
        }
        Ok(port)
    }

    fn taken(&self) -> String {
        let Self { number, purpose, flag, .. } = self;
        format!(
            "port {number} on 127.0.0.1, for the {purpose}, is taken: stop what listens there or choose another with `{flag}`"
        )
    }
}

/// The dev server ended before it was ready.
#[derive(Debug)]
pub(super) struct EarlyEnd {
    pub(super) how: String,
    pub(super) output: String,
    pub(super) ports: Ports,
    pub(super) database: Option<PathBuf>,
}

impl EarlyEnd {
    /// A port was taken after it had been found free.
    fn lost_port(&self) -> Option<Port> {
        let Ports { server, ui } = self.ports;
        // `can't set frontend port 7233: listen tcp 127.0.0.1:7233: bind: address already in use`
        self.output
            .contains("address already in use")
            .then(|| [server, ui].into_iter().find(|port| self.output.contains(&format!(":{}: bind", port.number))))?
    }

    /// The CLI crashed. It does when one of the ports that it chooses for its own services is taken before it uses it.
    fn crashed(&self) -> bool {
        // The end of a Go stack trace; the reason above it is often out of reach.
        self.output.contains("main.main()")
    }

    fn advice(&self) -> String {
        let says = |text: &str| self.output.contains(text);
        let database = || self.database.as_ref().map_or_else(String::new, |path| format!(" {}", path.display()));
        if let Some(port) = self.lost_port() {
            port.taken()
        } else if says("address already in use") {
            "a port it chose itself is taken: start again".into()
        } else if self.crashed() {
            "it crashed: start again".into()
        } else if says("unknown flag") {
            "the Temporal CLI is too old or too new for this build: run `make setup`".into()
        } else if says("database") {
            format!(
                "its database{} cannot be used: check the path and its permissions, or remove the file to start afresh",
                database()
            )
        } else if says("search attribute") {
            "a search attribute has a type that it does not know".into()
        } else {
            "its output says why".into()
        }
    }
}

impl fmt::Display for EarlyEnd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("the Temporal dev server ended while it started ({}): {}", self.how, self.advice());
        formatter.write_str(&with_output(text, &self.output))
    }
}

impl std::error::Error for EarlyEnd {}

/// Whether another start, with other ports, is worth a try.
pub(super) fn lost_a_chosen_port(error: &anyhow::Error) -> bool {
    let Some(end) = error.downcast_ref::<EarlyEnd>() else { return false };
    match end.lost_port() {
        Some(port) => port.chosen,
        None => end.crashed(),
    }
}

/// A message with the last lines of output below it.
pub(super) fn with_output(text: String, output: &str) -> String {
    if output.is_empty() {
        return format!("{text}; it printed nothing");
    }
    format!("{text}; its last lines:\n  {}", output.replace('\n', "\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn early_end(output: &str) -> anyhow::Error {
        let ports = Ports::choose(0, 0).expect("ports");
        EarlyEnd { how: "exit code 2".to_owned(), output: output.to_owned(), ports, database: None }.into()
    }

    #[test]
    fn a_crash_of_the_cli_is_worth_another_start_and_a_wrong_flag_is_not() {
        let crash = early_end("main.main()\n\t/home/runner/work/cli/cli/cmd/temporal/main.go:18 +0x8e");
        assert!(lost_a_chosen_port(&crash));
        assert!(crash.to_string().contains("it crashed: start again"), "{crash}");
        assert!(!lost_a_chosen_port(&early_end("Error: unknown flag: --nonsense")));
    }
}
