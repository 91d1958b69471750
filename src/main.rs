//! `worker-agents`: parses, runs, and turns the outcome into an exit code. No logic.

use std::process::ExitCode;

fn main() -> ExitCode {
    worker_agents::cli::main()
}
