//! What Temporal's own command line says of a world's workflows, and does to them.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Brokers, World, cli};

impl<K: Brokers, R> World<K, R> {
    /// What the Temporal CLI says, as JSON.
    pub(crate) fn temporal_cli(&self, arguments: &[&str]) -> Value {
        let output = Command::new(cli())
            .args(arguments)
            .args(["--address", &self.temporal, "--output", "json"])
            .env_clear()
            .output()
            .expect("the CLI runs");
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Runs a command of the Temporal CLI whose answer is of no interest.
    pub(crate) fn operator(&self, arguments: &[&str]) {
        let done = Command::new(cli())
            .args(arguments)
            .args(["--address", &self.temporal])
            .stdout(Stdio::null())
            .env_clear()
            .status()
            .expect("the CLI runs");
        assert!(done.success(), "{arguments:?}");
    }

    /// The same, on a ticket's workflow.
    pub(crate) fn operator_of(&self, name: &str, arguments: &[&str]) {
        let workflow = format!("ticket-{}", self.ticket_id(name));
        self.operator(&[arguments, &["--workflow-id", &workflow]].concat());
    }

    /// Cancels a ticket's workflow.
    pub(crate) fn cancel(&self, name: &str) {
        self.operator_of(name, &["workflow", "cancel"]);
    }

    pub(crate) fn history(&self, name: &str) -> Vec<Value> {
        let workflow = format!("ticket-{}", self.ticket_id(name));
        let history = self.temporal_cli(&["workflow", "show", "--workflow-id", &workflow]);
        history["events"].as_array().expect("events").clone()
    }

    /// Ids of the open workflows of this world's task queue, at most 20 of them.
    pub(crate) fn open_workflows(&self) -> Vec<String> {
        let query = format!("TaskQueue = '{}' AND ExecutionStatus = 'Running'", self.id);
        let open = self.temporal_cli(&["workflow", "list", "--limit", "20", "--query", &query]);
        let id = |run: &Value| run["execution"]["workflowId"].as_str().unwrap_or_default().to_owned();
        open.as_array().map_or_else(Vec::new, |open| open.iter().map(id).collect())
    }

    /// Runs that a ticket ever had.
    pub(crate) fn runs(&self, name: &str) -> usize {
        let query = format!("WorkflowId = 'ticket-{}'", self.ticket_id(name));
        self.temporal_cli(&["workflow", "list", "--query", &query]).as_array().map_or(0, Vec::len)
    }
}
