//! A Landlock domain around a supervisor and its tree, in which everything can be killed at one stroke.
//!
//! To look for processes and then to kill them are two steps, and a tree that forks quickly enough is elsewhere at the second.
//! `kill(-1)` is one: the kernel goes through all processes under the lock that every fork needs, so that none is born
//! beside it. It reaches whoever this process may signal, which is everybody of its user, and for root everybody. But no
//! signal leaves a domain that scopes them, and no process does. So it is called within one, by the thread that has seen
//! signals end at it.

use std::marker::PhantomData;

use landlock::{
    CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus,
    Scope,
};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};

/// A domain that has been seen in force. It stays with the thread that is in it: another one may be outside.
#[derive(Debug)]
pub(super) struct Domain {
    /// Outside: it could be signalled before, and cannot be since.
    parent: Pid,
    thread: PhantomData<*const ()>,
}

impl Domain {
    /// Puts this thread, and whatever it starts from now on, into a domain of its own, for ever, and takes from them whatever
    /// privileges programs give (`no_new_privs`). `None`: the kernel does not scope signals (Linux before 6.12), or was not
    /// seen to.
    ///
    /// # Errors
    /// When the kernel has Landlock and refuses.
    pub(super) fn enter() -> Result<Option<Self>, RulesetError> {
        let parent = getppid();
        let reached = kill(parent, None).is_ok();
        let status = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .scope(Scope::Signal)?
            .create()?
            // A stroke is refused by each process outside, which is nothing for an audit.
            .log_same_exec(false)?
            .restrict_self()?;
        // A parent of another user, or one that has just ended, shows nothing.
        let ends_here = reached && kill(parent, None) == Err(Errno::EPERM);
        let in_force = ends_here && status.ruleset != RulesetStatus::NotEnforced;
        Ok(in_force.then_some(Self { parent, thread: PhantomData }))
    }

    /// Kills everything in the domain but this process. `false`: it was not tried, because a signal gets out of it, or
    /// somebody within has the parent's process id by now.
    pub(super) fn kill_all(&self) -> bool {
        // The price of a mistake is every process of the machine, so what was seen once is looked at again.
        let within = kill(self.parent, None).is_err();
        if within {
            // Nobody left to kill is no error.
            let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        }
        within
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Child, Command, ExitStatus};

    use super::*;

    /// In a session of its own.
    fn sleeper() -> Child {
        Command::new("setsid").args(["sleep", "60"]).spawn().expect("started")
    }

    #[test]
    fn a_stroke_kills_what_is_in_the_domain_and_nothing_outside() {
        let mut outside = sleeper();
        let other = Pid::from_raw(outside.id().cast_signed());
        // What a thread has given up it does not get back, so it is one of its own.
        let within = std::thread::spawn(move || -> Option<ExitStatus> {
            let domain = Domain::enter().expect("Landlock takes the rules")?;
            assert_eq!(kill(other, None), Err(Errno::EPERM));
            let mut within = sleeper();
            assert!(domain.kill_all());
            Some(within.wait().expect("collected"))
        });
        let within = within.join().expect("no panic");
        assert_eq!(outside.try_wait().expect("looked at"), None, "it was outside");
        assert_eq!(kill(getppid(), None), Ok(()), "the other threads have stayed outside");
        outside.kill().expect("killed");
        outside.wait().expect("collected");
        match within {
            Some(status) => assert_eq!(status.signal(), Some(Signal::SIGKILL as i32)),
            None => eprintln!("NOT TRIED: this kernel does not scope signals"),
        }
    }
}
