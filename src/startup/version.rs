//! Whether tickets go to workers of this worker's version. Without I/O.

use temporalio_common::protos::temporal::api::enums::v1::WorkerDeploymentVersionStatus as Status;
use temporalio_common::worker::WorkerDeploymentVersion as Version;

use super::finding::{Check, Finding};
use crate::temporal::{Ramp, Routing, named};

const CHECK: Check = Check::WorkerVersion;

/// What the worker is told to be.
pub(super) struct Worker<'a> {
    pub(super) version: Option<&'a Version>,
    pub(super) task_queue: &'a str,
    pub(super) namespace: &'a str,
}

impl Worker<'_> {
    /// The server does not say where tickets go.
    pub(super) fn unknown(&self, why: &str) -> Finding {
        Finding::unknown(
            CHECK,
            format!("which workers get the tickets of task queue {:?} could not be found out: {why}", self.task_queue),
            "look at the server and at this worker's rights",
        )
    }

    /// Compares the version with where tickets go, and with what the server says of it.
    pub(super) fn judge(&self, routing: &Routing, status: Result<Option<Status>, String>) -> Finding {
        let goes = self.goes(routing);
        let Some(mine) = self.version else { return self.without_version(routing, goes) };
        let (me, make_current) = (named(mine), self.set_current(mine));
        if routing.current.as_ref() == Some(mine) || ramps_to(routing, Some(mine)) {
            return Finding::ok(CHECK, format!("{goes}; this worker is of {me}"));
        }
        let Some(current) = &routing.current else {
            let waits = format!("{goes}, and wait if none runs; this worker is of {me}");
            let Ok(Some(_)) = status else { return self.not_there(waits, &me, mine, &status) };
            return Finding::failed(CHECK, waits, format!("`{make_current}`"));
        };
        match status {
            Ok(Some(Status::Draining)) => Finding::ok(
                CHECK,
                format!(
                    "{goes}; this worker is of {me}, which drains: it is needed until its pinned tickets have ended"
                ),
            ),
            Ok(Some(Status::Drained)) => {
                Finding::ok(CHECK, format!("{goes}; this worker is of {me}, which is drained: no open ticket needs it"))
            }
            Ok(Some(_)) => {
                let fix = if current.deployment_name == mine.deployment_name {
                    format!("`{make_current}`, or set-ramping-version for a share of the tickets")
                } else {
                    // The deployment whose version was set last has the task queue.
                    format!(
                        "`{make_current}`, or correct TEMPORAL_DEPLOYMENT_NAME; each deployment needs a task queue of its own"
                    )
                };
                Finding::failed(CHECK, format!("{goes}; this worker is of {me}, which gets none"), fix)
            }
            Ok(None) | Err(_) => self.not_there(format!("{goes}; this worker is of {me}"), &me, mine, &status),
        }
    }

    /// The server does not know the version, or does not say what it knows.
    fn not_there(&self, what: String, me: &str, mine: &Version, status: &Result<Option<Status>, String>) -> Finding {
        match status {
            Err(why) => Finding::unknown(
                CHECK,
                format!("{what}, of which the server says nothing ({why})"),
                "look at the server and at this worker's rights; versions need Temporal 1.28 or later",
            ),
            Ok(_) => Finding::unknown(
                CHECK,
                format!("{what}, of which none has polled yet"),
                format!("start a worker of {me}, then `{}`", self.set_current(mine)),
            ),
        }
    }

    fn without_version(&self, routing: &Routing, goes: String) -> Finding {
        let Some(current) = routing.current.as_ref().filter(|_| !ramps_to(routing, None)) else {
            return Finding::ok(CHECK, format!("{goes}; this worker has none"));
        };
        Finding::failed(
            CHECK,
            format!("{goes}; this worker has no version and gets none"),
            format!(
                "set TEMPORAL_DEPLOYMENT_NAME and TEMPORAL_WORKER_BUILD_ID, or `temporal worker deployment \
                 set-current-version --deployment-name {} --unversioned --namespace {}`",
                quoted(&current.deployment_name),
                quoted(self.namespace)
            ),
        )
    }

    /// Where tickets go.
    fn goes(&self, routing: &Routing) -> String {
        let current = name(routing.current.as_ref());
        let ramp = routing
            .ramp
            .as_ref()
            .map_or_else(String::new, |Ramp { to, percent }| format!(", {percent} % of them to {}", name(to.as_ref())));
        format!("tickets of task queue {:?} go to {current}{ramp}", self.task_queue)
    }

    fn set_current(&self, version: &Version) -> String {
        format!(
            "temporal worker deployment set-current-version --deployment-name {} --build-id {} --namespace {}",
            quoted(&version.deployment_name),
            quoted(&version.build_id),
            quoted(self.namespace)
        )
    }
}

fn ramps_to(routing: &Routing, version: Option<&Version>) -> bool {
    routing.ramp.as_ref().is_some_and(|ramp| ramp.to.as_ref() == version)
}

fn name(version: Option<&Version>) -> String {
    version.map_or_else(|| "workers without a version".to_owned(), named)
}

/// One word of a shell.
fn quoted(text: &str) -> String {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./+@,=".contains(&byte)) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    fn version(build_id: &str) -> Version {
        Version::builder().deployment_name("agents").build_id(build_id).build()
    }

    fn routing(current: Option<&str>, ramp: Option<(Option<&str>, f32)>) -> Routing {
        Routing { current: current.map(version), ramp: ramp.map(|(to, percent)| Ramp { to: to.map(version), percent }) }
    }

    fn judge(mine: Option<&str>, routing: &Routing, status: Result<Option<Status>, String>) -> Finding {
        let mine = mine.map(version);
        Worker { version: mine.as_ref(), task_queue: "q", namespace: "default" }.judge(routing, status)
    }

    #[test]
    fn what_gets_tickets_and_what_gets_none_is_told_with_the_command_that_changes_it() {
        let command = "`temporal worker deployment set-current-version --deployment-name agents --build-id two \
                       --namespace default`";
        let unversioned = "set-current-version --deployment-name agents --unversioned --namespace default";
        let some = |status| Ok(Some(status));
        for (mine, routing, status, state, what, fix) in [
            (None, routing(None, None), Ok(None), State::Ok, "workers without a version; this worker has none", ""),
            (None, routing(Some("one"), None), Ok(None), State::Failed, "and gets none", unversioned),
            (
                None,
                routing(Some("one"), Some((None, 5.0))),
                Ok(None),
                State::Ok,
                ", 5 % of them to workers without",
                "",
            ),
            (None, routing(None, Some((Some("one"), 5.0))), Ok(None), State::Ok, "5 % of them to build \"one\"", ""),
            (Some("two"), routing(Some("two"), None), some(Status::Current), State::Ok, "go to build \"two\"", ""),
            (Some("two"), routing(Some("two"), None), Err("no".to_owned()), State::Ok, "go to build \"two\"", ""),
            (
                Some("two"),
                routing(Some("one"), Some((Some("two"), 12.5))),
                some(Status::Ramping),
                State::Ok,
                "go to build \"one\" of deployment \"agents\", 12.5 % of them to build \"two\"",
                "",
            ),
            (
                Some("two"),
                routing(None, Some((Some("two"), 1.0))),
                some(Status::Ramping),
                State::Ok,
                "workers without a version, 1 % of them to build \"two\"",
                "",
            ),
            (Some("two"), routing(None, None), some(Status::Inactive), State::Failed, "and wait if none runs", command),
            (Some("two"), routing(None, None), some(Status::Draining), State::Failed, "and wait if none runs", command),
            (Some("two"), routing(None, None), Ok(None), State::Unknown, "none has polled yet", command),
            (Some("two"), routing(None, None), Err("denied".to_owned()), State::Unknown, "(denied)", "1.28"),
            (
                Some("two"),
                routing(Some("one"), None),
                some(Status::Inactive),
                State::Failed,
                "which gets none",
                command,
            ),
            (Some("two"), routing(Some("one"), None), Ok(None), State::Unknown, "none has polled yet", command),
            (Some("two"), routing(Some("one"), None), Err("denied".to_owned()), State::Unknown, "(denied)", "rights"),
            (Some("two"), routing(Some("one"), None), some(Status::Draining), State::Ok, "which drains", ""),
            (Some("two"), routing(Some("one"), None), some(Status::Drained), State::Ok, "no open ticket needs it", ""),
        ] {
            let finding = judge(mine, &routing, status.clone());
            assert_eq!(finding.state, state, "{mine:?} {routing:?} {status:?}: {finding:?}");
            assert!(finding.what.contains(what), "{what:?} is missing in {:?}", finding.what);
            assert!(finding.fix.contains(fix), "{fix:?} is missing in {:?}", finding.fix);
            assert!(!finding.fatal && finding.what.contains("task queue \"q\""), "{finding:?}");
        }
    }

    #[test]
    fn a_task_queue_that_another_deployment_has_is_told() {
        let other = Version::builder().deployment_name("other").build_id("9").build();
        let routing = Routing { current: Some(other), ramp: None };
        let finding = judge(Some("two"), &routing, Ok(Some(Status::Current)));
        assert_eq!(finding.state, State::Failed);
        assert!(finding.what.contains("build \"9\" of deployment \"other\""), "{finding:?}");
        assert!(finding.fix.contains("TEMPORAL_DEPLOYMENT_NAME"), "{finding:?}");
    }

    #[test]
    fn commands_can_be_pasted() {
        for (text, word) in [("agents/prod-1.2", "agents/prod-1.2"), ("it's $x", r"'it'\''s $x'"), ("", "''")] {
            assert_eq!(quoted(text), word);
        }
    }
}
