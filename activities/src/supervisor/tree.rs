//! Process trees, read from `/proc`.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Every live descendant of this process.
pub(super) fn descendants() -> Vec<Pid> {
    let this = nix::unistd::getpid().as_raw();
    reached(&processes(), |process| process.parent == this)
}

/// Every live process of the session, and every live descendant of one.
pub(super) fn session(leader: Pid) -> Vec<Pid> {
    reached(&processes(), |process| process.session == leader.as_raw())
}

/// Sends `signal` to every process. One that has ended meanwhile is no error.
pub(super) fn signal_all(processes: &[Pid], signal: Signal) {
    for pid in processes {
        let _ = kill(*pid, signal);
    }
}

/// One line of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: i32,
    /// A zombie only waits to be collected.
    live: bool,
    parent: i32,
    session: i32,
}

fn processes() -> Vec<Process> {
    let Ok(folders) = std::fs::read_dir("/proc") else { return Vec::new() };
    let read = |folder: std::fs::DirEntry| {
        let pid = folder.file_name().to_str()?.parse().ok()?;
        parse(pid, &std::fs::read_to_string(folder.path().join("stat")).ok()?)
    };
    folders.flatten().filter_map(read).collect()
}

/// The live processes among those that `root` names and their descendants.
fn reached(processes: &[Process], root: impl Fn(&Process) -> bool) -> Vec<Pid> {
    let (mut reached, mut rest): (Vec<Process>, Vec<Process>) = processes.iter().partition(|process| root(process));
    let mut next = 0;
    while let Some(parent) = reached.get(next).map(|process| process.pid) {
        let children;
        (children, rest) = rest.into_iter().partition(|process| process.parent == parent);
        reached.extend::<Vec<Process>>(children);
        next += 1;
    }
    reached.iter().filter(|process| process.live).map(|process| Pid::from_raw(process.pid)).collect()
}

/// The command name stands in brackets and may hold anything, brackets too.
fn parse(pid: i32, stat: &str) -> Option<Process> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let live = !matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let _group = fields.next()?;
    Some(Process { pid, live, parent, session: fields.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_command_names_do_not_confuse_the_parser() {
        let of = |live, parent, session| Some(Process { pid: 42, live, parent, session });
        assert_eq!(parse(42, "42 (a) Z 1) S 7 42 40 0"), of(true, 7, 40));
        assert_eq!(parse(42, "42 ((x\n)) Z 9 1 8"), of(false, 9, 8));
        assert_eq!(parse(42, "nonsense"), None);
        assert_eq!(parse(42, "42 (a) S 7"), None);
    }

    #[test]
    fn a_tree_is_followed_across_sessions_and_through_zombies() {
        let process = |pid, live, parent, session| Process { pid, live, parent, session };
        let all = [
            process(14, true, 13, 14),
            process(10, true, 1, 10),
            process(11, true, 10, 10),
            process(12, false, 1, 10),
            process(13, false, 12, 13),
            process(20, true, 1, 20),
        ];
        let pids = |pids: Vec<Pid>| pids.into_iter().map(Pid::as_raw).collect::<Vec<_>>();
        assert_eq!(pids(reached(&all, |process| process.session == 10)), [10, 11, 14]);
        assert_eq!(pids(reached(&all, |process| process.parent == 10)), [11]);
    }
}
