//! The supervisor's descendants, read from `/proc`.

use std::collections::BTreeMap;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Every live descendant of this process. Zombies are left out: they only wait to be collected.
pub(super) fn descendants() -> Vec<Pid> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    let mut dead: Vec<i32> = Vec::new();
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(process.path().join("stat")) else { continue };
        let Some((state, parent)) = state_and_parent(&stat) else { continue };
        children.entry(parent).or_default().push(pid);
        if matches!(state, 'Z' | 'X') {
            dead.push(pid);
        }
    }
    let mut found = Vec::new();
    let mut queue = vec![nix::unistd::getpid().as_raw()];
    while let Some(parent) = queue.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            queue.push(child);
            if !dead.contains(&child) {
                found.push(Pid::from_raw(child));
            }
        }
    }
    found
}

/// Sends `signal` to every descendant. One that has ended meanwhile is no error.
pub(super) fn signal_descendants(signal: Signal) {
    for pid in descendants() {
        let _ = kill(pid, signal);
    }
}

/// State and parent from `/proc/PID/stat`. The command name stands in brackets and may hold anything, brackets too.
fn state_and_parent(stat: &str) -> Option<(char, i32)> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_command_names_do_not_confuse_the_parser() {
        assert_eq!(state_and_parent("42 (a) Z 1) S 7 42 42 0"), Some(('S', 7)));
        assert_eq!(state_and_parent("42 ((x\n)) R 9 1"), Some(('R', 9)));
        assert_eq!(state_and_parent("nonsense"), None);
        assert_eq!(state_and_parent("42 (a)"), None);
    }
}
