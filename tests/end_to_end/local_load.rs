//! Local commands, many at once: what they leave behind of processes, open files and memory. `COMMANDS=200` is the whole of it.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::{Worker, World, command_lines, eventually_within, patience, size};

/// What the worker may have more of afterwards: connections come and go.
const FILES: usize = 4;
const MEMORY_MIB: f64 = 10.0;
/// The first rounds fill what a worker keeps for good. What leaks grows as much in every round: with 201 commands a round,
/// 17 KiB a ticket are too much; with few, files and processes are what the test sees.
const ROUNDS: usize = 5;
const FILLED_BY: usize = 2;

/// What a worker holds, with all that it has started.
#[derive(Debug, Clone, Copy)]
struct Held {
    processes: usize,
    files: usize,
    own_mib: f64,
}

impl fmt::Display for Held {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processes, files, own_mib } = self;
        write!(out, "{processes} processes, {files} open files, {own_mib:.1} MiB of its own")
    }
}

/// One test's commands.
struct Load {
    // Ends before its peers do.
    worker: Worker,
    world: World,
    commands: usize,
    /// In the command line of whatever a command starts that stays.
    marker: String,
}

impl Load {
    /// A third writes more than is kept, a third leaves a session behind that is deaf to TERM, a third fails.
    fn ticket(&self, round: &str, n: usize) -> Value {
        let (marker, gate) = (&self.marker, self.world.shared(round));
        let wait = format!("while [ ! -e {} ]; do sleep 1; done", gate.display());
        let script = match n % 3 {
            0 => format!("{wait}; head -c 200000 /dev/zero | tr '\\0' x; : {marker}"),
            1 => format!("setsid sh -c \"trap '' TERM; sleep {marker}; sleep {marker}\" & {wait}"),
            _ => format!("{wait}; echo {marker} >&2; exit 3"),
        };
        let mut ticket = self.world.ticket(&format!("{round}-{n}"), &script);
        ticket["sla"]["timeout_ms"] = json!(300_000);
        ticket
    }

    fn held(&self) -> Held {
        let worker = self.worker.child.id();
        let mut processes: BTreeSet<i32> = command_lines(&self.marker).into_iter().map(|(pid, _)| pid).collect();
        processes.extend(children(worker));
        let files = std::fs::read_dir(format!("/proc/{worker}/fd")).expect("open files").count();
        Held { processes: processes.len(), files, own_mib: self.worker.own_mib() }
    }

    /// All commands run at once, and end. What the worker held meanwhile, and how long it took.
    async fn round(&self, round: &str, before: usize) -> (Held, Duration) {
        let begun = Instant::now();
        let patience = patience(Duration::from_millis(500), self.commands);
        let tickets: Vec<_> = (0..self.commands).map(|n| self.ticket(round, n)).collect();
        self.world.publish_all(&tickets).await;
        // Each has a supervisor, which the worker started.
        let most = eventually_within("all commands run", patience, || {
            (children(self.worker.child.id()).len() >= self.commands).then(|| self.held())
        })
        .await;
        std::fs::write(self.world.shared(round), "").expect("the gate");
        let all = before + self.commands;
        let failed = all / 3;
        let completed = all - failed;
        for (status, goal) in [("COMPLETED", completed), ("FAILED", failed)] {
            let series = format!(r#"worker_agent_results_published_total{{status="{status}"}}"#);
            self.worker.reaches_within(&series, goal as f64, patience).await;
        }
        (most, begun.elapsed())
    }
}

/// Children of a process, also those that have ended and wait to be collected.
fn children(parent: u32) -> BTreeSet<i32> {
    let of = |entry: std::fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name in parentheses may hold anything.
        let its_parent: u32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        (parent == its_parent).then_some(pid)
    };
    std::fs::read_dir("/proc").expect("proc").flatten().filter_map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_at_once_leave_no_process_no_open_file_and_no_memory_behind() {
    // A third of each kind.
    let commands = size("COMMANDS", 39).next_multiple_of(3);
    let world = World::new().await;
    let (places, tickets) = (commands.to_string(), (2 * commands).to_string());
    let worker = world.worker(&[("MAX_CONCURRENT_TASKS", &places), ("MAX_CONCURRENT_TICKETS", &tickets)]).await;
    worker.wait_ready().await;
    let marker = format!("6000.{}", u32::from_str_radix(&world.id[..8], 16).expect("a hexadecimal id"));
    let load = Load { worker, world, commands, marker };
    let idle = load.held();
    println!("idle: {idle}");
    assert_eq!(idle.processes, 0);
    let mut first_files = None;
    let mut own = vec![];
    for round in 0..ROUNDS {
        let (most, took) = load.round(&format!("round-{round}"), round * commands).await;
        let given_back = format!("all of round {round} is given back");
        let after = eventually_within(&given_back, Duration::from_secs(20), || {
            let held = load.held();
            (held.processes == 0 && first_files.is_none_or(|files| held.files <= files + FILES)).then_some(held)
        })
        .await;
        println!("{commands} commands at once in {took:.1?}: {most}; afterwards {after}");
        first_files.get_or_insert(after.files);
        own.push(after.own_mib);
    }
    let grown = own[ROUNDS - 1] - own[FILLED_BY - 1];
    assert!(grown < MEMORY_MIB, "{grown:.1} MiB more than after {FILLED_BY} rounds: {own:.1?}");
}
