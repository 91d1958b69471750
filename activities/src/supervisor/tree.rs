//! Process trees, read from `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgrp, getpid};

/// Looks for new processes of a tree, before those found so far are killed.
const MOST_LOOKS: usize = 1000;

/// One line of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Its threads.
    pub(crate) threads: u64,
    /// A zombie only waits to be collected.
    live: bool,
    parent: i32,
    group: i32,
    session: i32,
}

/// Every live descendant of this process.
pub(super) fn descendants() -> Vec<Process> {
    let this = getpid().as_raw();
    reached(&processes(), |process| process.parent == this)
}

/// Every live process of the session, and every live descendant of one.
pub(super) fn session(leader: Pid) -> Vec<Process> {
    reached(&processes(), |process| process.session == leader.as_raw())
}

/// Every live descendant of `parent`, as they were at most `age` ago: those who look often share their looks.
pub(crate) fn descendants_of(parent: Pid, age: Duration) -> Vec<Process> {
    static LAST: Mutex<Option<(Instant, Arc<Vec<Process>>)>> = Mutex::new(None);
    let processes = {
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((at, processes)) if at.elapsed() < age => Arc::clone(processes),
            _ => Arc::clone(&last.insert((Instant::now(), Arc::new(processes()))).1),
        }
    };
    reached(&processes, |process| process.parent == parent.as_raw())
}

/// Bytes of memory that a process alone answers for: its own pages, those it shares through memory, those swapped out. 0
/// for one that has ended.
pub(crate) fn memory(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = |line: &str| {
        let value = ["RssAnon:", "RssShmem:", "VmSwap:"].iter().find_map(|name| line.strip_prefix(name))?;
        value.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    status.lines().filter_map(kib).sum::<u64>() * 1024
}

/// Sends `signal` to every process. One that has ended meanwhile is no error.
pub(super) fn signal_all(processes: &[Process], signal: Signal) {
    for process in processes {
        let _ = kill(Pid::from_raw(process.pid), signal);
    }
}

/// Kills every descendant of `parent`.
pub(super) fn kill_descendants(parent: Pid) {
    kill_all(|process| process.parent == parent.as_raw());
}

/// Kills every process of the session, and every descendant of one.
pub(super) fn kill_session(leader: Pid) {
    kill_all(|process| process.session == leader.as_raw());
}

/// Holds a tree first, until nobody new is found, for whoever is held forks no more; then kills it. Processes that fork
/// faster than they can be listed would else outrun their killer. What is known already is not read again: the quicker a
/// look, the fewer are made during it. Whoever is held is killed, also when its parent has ended meanwhile (as the kernel
/// hangs up on a stopped group that becomes an orphan) and nobody leads to it any more.
fn kill_all(root: impl Fn(&Process) -> bool) {
    // Their sessions by their ids: an id alone may be another's by then.
    let (mut held, mut known) = (BTreeMap::new(), BTreeSet::new());
    for _ in 0..MOST_LOOKS {
        let looked_at = processes_but(&known);
        let new = reached(&looked_at, |process| root(process) || held.contains_key(&process.parent));
        if new.is_empty() {
            break;
        }
        strike(&new, Signal::SIGSTOP);
        known.extend(looked_at.iter().map(|process| process.pid));
        held.extend(new.iter().map(|process| (process.pid, process.session)));
    }
    let ours = |process: &Process| root(process) || held.get(&process.pid) == Some(&process.session);
    strike(&reached(&processes(), ours), Signal::SIGKILL);
}

/// Signals whole process groups, each at one stroke that nobody escapes by a fork, and then every process.
fn strike(processes: &[Process], signal: Signal) {
    let own = getpgrp().as_raw();
    let groups: BTreeSet<i32> = processes.iter().map(|process| process.group).collect();
    // To signal group 1 is to signal everybody.
    for group in groups.into_iter().filter(|group| *group > 1 && *group != own) {
        let _ = killpg(Pid::from_raw(group), signal);
    }
    signal_all(processes, signal);
}

fn processes() -> Vec<Process> {
    processes_but(&BTreeSet::new())
}

/// Every process that is not among the `known`.
fn processes_but(known: &BTreeSet<i32>) -> Vec<Process> {
    let Ok(folders) = std::fs::read_dir("/proc") else { return Vec::new() };
    let read = |folder: std::fs::DirEntry| {
        let pid = folder.file_name().to_str()?.parse().ok().filter(|pid| !known.contains(pid))?;
        parse(pid, &std::fs::read_to_string(folder.path().join("stat")).ok()?)
    };
    folders.flatten().filter_map(read).collect()
}

/// The live processes among those that `root` names and their descendants.
fn reached(processes: &[Process], root: impl Fn(&Process) -> bool) -> Vec<Process> {
    let (mut reached, mut rest): (Vec<Process>, Vec<Process>) = processes.iter().partition(|process| root(process));
    let mut next = 0;
    while let Some(parent) = reached.get(next).map(|process| process.pid) {
        let children;
        (children, rest) = rest.into_iter().partition(|process| process.parent == parent);
        reached.extend::<Vec<Process>>(children);
        next += 1;
    }
    reached.retain(|process| process.live);
    reached
}

/// The command name stands in brackets and may hold anything, brackets too.
fn parse(pid: i32, stat: &str) -> Option<Process> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?;
    let (parent, group) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let session = fields.next()?.parse().ok()?;
    // Terminal, faults, times, priorities.
    let threads = fields.nth(13)?.parse().ok()?;
    // A process whose first thread has ended looks like a zombie, and runs on.
    let live = state != "X" && (state != "Z" || threads > 1);
    Some(Process { pid, threads, live, parent, group, session })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::process::Command;

    use super::*;

    fn process(pid: i32, live: bool, parent: i32, session: i32) -> Process {
        Process { pid, threads: 1, live, parent, group: session, session }
    }

    #[test]
    fn hostile_command_names_do_not_confuse_the_parser() {
        let rest = "0 -1 4194560 1 2 3 4 5 6 7 8 20 0";
        let of =
            |threads, live, parent, group, session| Some(Process { pid: 42, threads, live, parent, group, session });
        assert_eq!(parse(42, &format!("42 (a) Z 1) S 7 42 40 {rest} 3 0")), of(3, true, 7, 42, 40));
        assert_eq!(parse(42, &format!("42 ((x\n)) Z 9 1 8 {rest} 1 0")), of(1, false, 9, 1, 8));
        assert_eq!(
            parse(42, &format!("42 (a) Z 9 1 8 {rest} 2 0")),
            of(2, true, 9, 1, 8),
            "its first thread has ended"
        );
        assert_eq!(parse(42, "nonsense"), None);
        assert_eq!(parse(42, "42 (a) S 7"), None);
    }

    #[test]
    fn this_process_reads_itself() {
        let own = getpid().as_raw();
        let own = processes().into_iter().find(|process| process.pid == own).expect("listed");
        assert!(own.live && own.threads >= 1 && own.group == getpgrp().as_raw(), "{own:?}");
        assert!(memory(own.pid) > 100_000, "some memory");
    }

    #[test]
    fn whoever_was_held_is_killed_though_nobody_leads_to_it_any_more() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("started");
        let pid = child.id().cast_signed();
        // As a child of somebody who has ended before the second look.
        let looked = Cell::new(false);
        kill_all(|process| process.pid == pid && !looked.replace(true));
        let until = Instant::now() + Duration::from_secs(10);
        while child.try_wait().expect("looked at").is_none() {
            assert!(Instant::now() < until, "it was held and not killed");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_tree_is_followed_across_sessions_and_through_zombies() {
        let all = [
            process(14, true, 13, 14),
            process(10, true, 1, 10),
            process(11, true, 10, 10),
            process(12, false, 1, 10),
            process(13, false, 12, 13),
            process(20, true, 1, 20),
        ];
        let pids = |reached: Vec<Process>| reached.iter().map(|process| process.pid).collect::<Vec<_>>();
        assert_eq!(pids(reached(&all, |process| process.session == 10)), [10, 11, 14]);
        assert_eq!(pids(reached(&all, |process| process.parent == 10)), [11]);
    }
}
