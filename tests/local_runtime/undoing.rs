//! Undoing what commands did: by scripts that are confined as commands are, by removing what is named and nothing else, and
//! without a claim about anything that was not done (`docs/adr/0027-undoing-commands.md`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use ticket_activities::compensate::{GenericCleanup, RollbackExecution, RollbackParams};
use ticket_activities::execute::local::{Allowance, LocalParams, LocalRuntime, Workplace};
use ticket_activities::{Completed, ExecutionReport, ExternalState, Failed, FailureClass, Job, Outcome, code};
use ticket_schemas::ParameterView;

use crate::world::{World, completed, eventually, failed};

/// A world in which a command has left files in the folder `work`.
fn left(world: &World) -> PathBuf {
    let work = world.path("root/work");
    std::fs::create_dir_all(work.join("dist/deep")).expect("folders");
    for file in ["made", "kept", "dist/deep/a", "report.xml"] {
        std::fs::write(work.join(file), "x").expect("written");
    }
    work
}

async fn rollback(world: &World, parameters: Value) -> Outcome {
    world.run_by(&RollbackExecution::new(Arc::clone(&world.runtime)), parameters).await
}

async fn clean_up(world: &World, original: Value) -> Outcome {
    let parameters = json!({ "original_task_type": "TRANSFORM", "original_params": original });
    world.run_by(&GenericCleanup::new(Arc::clone(&world.runtime)), parameters).await
}

fn script(script: &str) -> Value {
    json!({ "rollback_script": ["sh", "-c", script], "working_dir": "work" })
}

fn output<'a>(report: &'a ExecutionReport, key: &str) -> &'a Value {
    report.output.get(key).unwrap_or_else(|| panic!("{key} in {report:?}"))
}

/// What the action says that it has done: script, clean-up, exit code.
fn claims(report: &ExecutionReport) -> (Value, Value, Value) {
    let claim = |key| output(report, key).clone();
    (claim("rollback_executed"), claim("cleanup_completed"), claim("return_code"))
}

#[tokio::test]
async fn inc_83_a_rollback_script_runs_in_the_sandbox_of_commands_with_a_clean_environment() {
    let world = World::new();
    let work = left(&world);
    let mut parameters = script("rm made; env; echo done >&2");
    parameters["execution_id"] = json!("e-1");
    parameters["original_ticket_id"] = json!("o-1");
    let Completed { evidence, report } = completed(rollback(&world, parameters).await);
    assert!(!work.join("made").exists() && work.join("kept").exists());
    assert_eq!(claims(&report), (json!(true), json!(false), json!(0)));
    assert_eq!((output(&report, "execution_id"), output(&report, "stderr")), (&json!("e-1"), &json!("done\n")));
    assert_eq!(evidence.answered(), "exit code 0");
    assert!(evidence.ran().starts_with("rollback script as local process"), "{}", evidence.ran());

    let lines: BTreeSet<&str> = output(&report, "stdout").as_str().expect("text").lines().collect();
    for given in ["COMPENSATION=true", "EXECUTION_ID=e-1", "TICKET_ID=t-1", "ORIGINAL_TICKET_ID=o-1"] {
        assert!(lines.contains(given), "{given}: {lines:?}");
    }
    let names: BTreeSet<&str> = lines.iter().filter_map(|line| line.split('=').next()).collect();
    let known = ["HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "PWD", "OLDPWD", "SHLVL", "_"];
    let given = ["COMPENSATION", "EXECUTION_ID", "TICKET_ID", "ORIGINAL_TICKET_ID"];
    let foreign: Vec<_> = names.iter().filter(|name| !known.contains(name) && !given.contains(name)).collect();
    assert!(foreign.is_empty(), "of the worker's own: {foreign:?}");

    let command = completed(world.sh("true").await).report.metadata;
    assert_eq!(report.metadata["sandbox"], command["sandbox"], "as a command has it");
    let said = |key: &str| report.metadata[key].clone();
    assert_eq!(said("executor"), "CompensateExecutor");
    assert_eq!((said("action"), said("simulated")), (json!("rollback_execution"), json!(false)));
    if world.is_full().await {
        let Failed { code, report, .. } = failed(rollback(&world, script("echo x > ../outside")).await);
        assert_eq!((code.as_str(), claims(&report).0), (code::EXECUTION_FAILED, json!(false)));
        assert!(!world.path("root/outside").exists());
    }
}

#[tokio::test]
async fn inc_83_a_script_is_a_command_line_that_no_shell_reads_and_the_allow_list_holds_for_it() {
    let world = World::new();
    let work = left(&world);
    let line = |line: &str| json!({ "rollback_script": line, "working_dir": "work" });
    let no_shell = rollback(&world, line("true && touch made-by-a-shell; touch $(pwd)/x > y | true")).await;
    assert_eq!(claims(&completed(no_shell).report).0, json!(true), "`true`, with words that it ignores");
    let quoted = completed(rollback(&world, line(r#"sh -c 'echo "$1"' sh "a  b""#)).await);
    assert_eq!(output(&quoted.report, "stdout"), "a  b\n");
    for (refused, expected) in [
        (line("rm made"), code::COMMAND_NOT_ALLOWED),
        (line("work/undo.sh"), code::COMMAND_NOT_ALLOWED),
        (line("sh\u{0} -c true"), code::INVALID_PARAMETERS),
        (line("no-such-program --all"), code::COMMAND_NOT_FOUND),
        (line("'' --all"), code::INVALID_PARAMETERS),
    ] {
        let Failed { code, evidence, report, .. } = failed(rollback(&world, refused.clone()).await);
        assert_eq!((code.as_str(), evidence), (expected, None), "{refused}");
        assert_eq!(claims(&report), (json!(false), json!(false), Value::Null), "{refused}");
    }
    let open = BTreeMap::from([("rollback_script".to_owned(), json!("sh -c 'open"))]);
    let error = ParameterView::new(&open).deserialize::<RollbackParams>().expect_err("a quote is open");
    assert!(error.to_string().contains("rollback_script"), "{error}");
    let found = std::fs::read_dir(&work).expect("there").count();
    assert_eq!(found, 4, "nothing was made or taken away");

    let mut confidential = World::unconfined();
    left(&confidential);
    confidential.security_level = "CONFIDENTIAL";
    let refused = failed(rollback(&confidential, script("rm made")).await);
    assert_eq!(refused.code, code::ISOLATION_NOT_AVAILABLE);
}

#[tokio::test]
async fn a_script_that_fails_or_outlives_its_time_has_undone_nothing_and_says_so() {
    let world = World::new();
    let work = left(&world);
    let mut parameters = script("echo begun; echo no such cluster >&2; exit 4");
    parameters["cleanup_outputs"] = json!(["dist"]);
    let Failed { code, class, message, evidence, report, .. } = failed(rollback(&world, parameters).await);
    assert_eq!((code.as_str(), class), (code::EXECUTION_FAILED, FailureClass::Permanent));
    assert!(message.starts_with("rollback script: ") && message.contains("no such cluster"), "{message}");
    assert_eq!(claims(&report), (json!(false), json!(false), json!(4)));
    assert_eq!(output(&report, "stdout"), "begun\n");
    assert!(evidence.is_some_and(|evidence| evidence.answered() == "exit code 4"));
    assert!(work.join("dist").exists(), "outputs may be what a script needs: they stay until it has succeeded");

    let mut parameters = script("echo begun; sleep 60");
    parameters["script_timeout"] = json!(0.5);
    let Failed { code, message, report, external_state, .. } = failed(rollback(&world, parameters).await);
    assert_eq!((code.as_str(), external_state), (code::TIMEOUT, Some(ExternalState::ConfirmedStopped)));
    assert!(message.contains("script_timeout"), "{message}");
    assert_eq!((claims(&report).0, output(&report, "stdout")), (json!(false), &json!("begun\n")));
    let mut parameters = script("true");
    parameters["script_timeout"] = json!(0);
    let Failed { code, message, .. } = failed(rollback(&world, parameters).await);
    assert!(code == code::INVALID_PARAMETERS && message.contains("script_timeout"), "{code}: {message}");
}

#[tokio::test]
async fn a_result_has_the_last_thousand_characters_of_each_stream() {
    let world = World::new();
    left(&world);
    let printing = "i=0; while [ $i -lt 700 ]; do echo é$i; i=$((i+1)); done";
    let report = completed(rollback(&world, script(&format!("{printing}; echo short >&2"))).await).report;
    let stdout = output(&report, "stdout").as_str().expect("text");
    assert_eq!(stdout.chars().count(), 1000);
    assert!(stdout.ends_with("é698\né699\n"), "{stdout}");
    assert_eq!((&report.metadata["stdout_truncated"], output(&report, "stderr")), (&json!(true), &json!("short\n")));
    assert!(!report.metadata.contains_key("stderr_truncated"), "{report:?}");
}

#[tokio::test]
async fn named_outputs_are_removed_and_nothing_else_and_a_second_undo_says_what_it_found() {
    let mut world = World::new();
    let work = left(&world);
    let named = json!({ "working_dir": "work", "cleanup_outputs": ["dist", "./report.xml", "never/made"] });
    for (undo, recorded, expected) in
        [("first", Value::Null, "2 removed, 1 not there"), ("after a lost worker", json!({}), "0 removed, 3 not there")]
    {
        world.recorded = recorded;
        let Completed { evidence, report } = completed(rollback(&world, named.clone()).await);
        assert_eq!((evidence.ran(), evidence.answered()), ("removal of 3 outputs", expected), "undo {undo}");
        assert_eq!(claims(&report), (json!(false), json!(true), Value::Null), "undo {undo}");
    }
    assert!(!work.join("dist").exists() && !work.join("report.xml").exists());
    assert!(work.join("made").exists() && work.join("kept").exists());

    // Nothing tells whether they were ever here, at a later attempt neither: the one before may have failed without removing any.
    world.recorded = Value::Null;
    for attempt in [1, 2] {
        world.attempt = attempt;
        let Failed { code, message, report, .. } = failed(rollback(&world, named.clone()).await);
        assert_eq!((code.as_str(), claims(&report).1), (code::COMPENSATION_NOT_DEFINED, json!(false)), "{attempt}");
        assert!(message.contains("none of the outputs"), "{message}");
    }

    // With a script: after it, and both are told.
    let work = left(&world);
    let mut both = script("rm made; cat dist/deep/a");
    both["cleanup_outputs"] = json!("['dist']");
    let Completed { evidence, report } = completed(rollback(&world, both).await);
    assert_eq!(claims(&report), (json!(true), json!(true), json!(0)));
    assert_eq!((output(&report, "stdout"), evidence.answered()), (&json!("x"), "exit code 0; 1 removed, 0 not there"));
    assert!(!work.join("dist").exists() && !work.join("made").exists());
}

#[tokio::test]
async fn outputs_are_not_looked_for_through_links_and_a_removal_that_fails_is_told_beside_the_script() {
    let world = World::new();
    let work = left(&world);
    let elsewhere = world.path("elsewhere");
    std::fs::create_dir(&elsewhere).expect("a folder");
    std::fs::write(elsewhere.join("precious"), "x").expect("written");
    std::os::unix::fs::symlink(&elsewhere, work.join("link")).expect("a link");
    let mut parameters = script("rm made");
    parameters["cleanup_outputs"] = json!(["link/precious"]);
    let Failed { code, class, message, evidence, report, .. } = failed(rollback(&world, parameters).await);
    assert_eq!((code.as_str(), class), (code::INVALID_PARAMETERS, FailureClass::Permanent), "the script ran once");
    assert!(message.contains("link/precious"), "{message}");
    assert_eq!(claims(&report), (json!(true), json!(false), json!(0)), "the script has run all the same");
    assert!(evidence.is_some() && elsewhere.join("precious").exists());
    let link = json!({ "working_dir": "work", "cleanup_outputs": ["link"] });
    completed(rollback(&world, link).await);
    assert!(elsewhere.join("precious").exists() && !work.join("link").exists(), "the link itself");
}

#[tokio::test]
async fn what_names_nothing_to_do_or_a_folder_that_is_not_here_fails() {
    let world = World::new();
    left(&world);
    for (parameters, expected) in [
        (json!({}), code::COMPENSATION_NOT_DEFINED),
        (
            json!({ "rollback_script": "", "working_dir": "", "cleanup_outputs": "true" }),
            code::COMPENSATION_NOT_DEFINED,
        ),
        (json!({ "working_dir": "work", "cleanup_outputs": true }), code::COMPENSATION_NOT_DEFINED),
        (json!({ "working_dir": "work", "cleanup_outputs": [] }), code::COMPENSATION_NOT_DEFINED),
        (json!({ "cleanup_outputs": ["dist"] }), code::INVALID_PARAMETERS),
        (json!({ "working_dir": "work", "cleanup_outputs": ["../other"] }), code::INVALID_PARAMETERS),
        (json!({ "working_dir": "../work", "cleanup_outputs": ["dist"] }), code::INVALID_PARAMETERS),
        (json!({ "working_dir": "ticket-t-2-1", "cleanup_outputs": ["dist"] }), code::INVALID_PARAMETERS),
        (json!({ "working_dir": "gone", "cleanup_outputs": ["dist"] }), code::INFRASTRUCTURE),
        (json!({ "working_dir": "gone", "rollback_script": "true" }), code::INFRASTRUCTURE),
    ] {
        let Failed { code, report, evidence, .. } = failed(rollback(&world, parameters.clone()).await);
        assert_eq!(code, expected, "{parameters}");
        assert_eq!((claims(&report), evidence), ((json!(false), json!(false), Value::Null), None), "{parameters}");
    }
    assert!(!world.path("root/gone").exists(), "an undo makes no folder to work in");

    // A script in a folder of its own, where the original named none; and outputs that nobody named.
    let parameters = json!({ "rollback_script": "pwd", "cleanup_outputs": true });
    let report = completed(rollback(&world, parameters).await).report;
    assert_eq!(claims(&report), (json!(true), json!(false), json!(0)));
    assert!(output(&report, "stdout").as_str().expect("text").contains("ticket-t-1-1"), "{report:?}");
    assert!(report.logs.iter().any(|line| line.contains("names no outputs")), "{report:?}");
}

#[tokio::test]
async fn a_removal_ends_with_its_ticket() {
    let mut world = World::new();
    let work = left(&world);
    let named = json!({ "working_dir": "work", "cleanup_outputs": ["dist"] });
    world.time_left = Duration::ZERO;
    let late = failed(rollback(&world, named.clone()).await);
    assert_eq!((late.code.as_str(), late.external_state), (code::TIMEOUT, Some(ExternalState::ConfirmedStopped)));
    world.stop.cancel();
    let stopped = failed(rollback(&world, named).await);
    assert_eq!(
        (stopped.code.as_str(), stopped.external_state),
        (code::CANCELLED, Some(ExternalState::ConfirmedStopped))
    );
    assert!(work.join("dist").exists());
}

/// What happens as the removal of an output begins.
enum Event {
    /// Its worker is lost.
    Lost,
    /// What happens does not keep it from going on.
    Other,
}

/// A runtime on which something happens as the removal of an output begins.
struct Disturbed<F>(Arc<LocalRuntime>, F);

impl<F: Fn(&Path) -> Event + Send + Sync + 'static> Workplace for Disturbed<F> {
    fn find_folder(&self, folder: &str, job: &Job) -> Result<bool, Failed> {
        self.0.find_folder(folder, job)
    }

    async fn run_command(&self, command: LocalParams, job: Job) -> Outcome {
        self.0.run_command(command, job).await
    }

    async fn remove_left(&self, folder: &str, name: &Path, allowance: &Allowance) -> Result<bool, Failed> {
        match (self.1)(name) {
            Event::Lost => std::future::pending().await,
            Event::Other => self.0.remove_left(folder, name, allowance).await,
        }
    }
}

#[tokio::test]
async fn a_removal_that_has_begun_ends_in_its_folder() {
    let world = World::new();
    let work = left(&world);
    let (first, second) = (work.join("dist"), work.join("second"));
    std::fs::create_dir_all(second.join("deep")).expect("folders");
    for number in 0..100 {
        std::fs::write(second.join("deep").join(number.to_string()), "").expect("written");
    }
    let named = json!({ "working_dir": "work", "cleanup_outputs": ["dist", "second"] });
    let stop = world.stop.clone();
    let cancel = move |name: &Path| {
        if name.ends_with("second") {
            stop.cancel();
        }
        Event::Other
    };
    let undo = RollbackExecution::new(Disturbed(Arc::clone(&world.runtime), cancel));
    let stopped = failed(world.run_by(&undo, named).await);
    assert_eq!(
        (stopped.code.as_str(), stopped.external_state),
        (code::CANCELLED, Some(ExternalState::ConfirmedStopped))
    );
    assert!(!first.exists());
    let left = || std::fs::read_dir(second.join("deep")).expect("there").count();
    assert_eq!(left(), 100, "it looks before its first entry");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(left(), 100, "nothing goes on behind the answer");
}

#[tokio::test]
async fn a_script_that_has_succeeded_is_not_run_again_by_the_worker_that_goes_on_with_the_removal() {
    let mut world = World::new();
    let work = left(&world);
    let mut both = script("echo run >> kept; echo said");
    both["cleanup_outputs"] = json!(["dist"]);
    let undo = RollbackExecution::new(Disturbed(Arc::clone(&world.runtime), |_: &Path| Event::Lost));
    tokio::select! {
        outcome = world.run_by(&undo, both.clone()) => panic!("{outcome:?}"),
        () = eventually("the script is told of", || world.progress.get().get("script").is_some()) => {}
    }
    world.recorded = world.progress.get();
    let Completed { evidence, report } = completed(rollback(&world, both.clone()).await);
    let runs = || std::fs::read_to_string(work.join("kept")).expect("text").matches("run").count();
    assert_eq!(runs(), 1);
    assert_eq!(claims(&report), (json!(true), json!(true), json!(0)));
    assert_eq!(
        (output(&report, "stdout"), evidence.answered()),
        (&json!("said\n"), "exit code 0; 1 removed, 0 not there")
    );
    assert!(report.logs.iter().any(|line| line.contains("not run again")), "{report:?}");

    // Lost before the script had ended.
    world.recorded = json!({ "pid": 1 });
    completed(rollback(&world, both).await);
    assert_eq!(runs(), 2);
}

#[tokio::test]
async fn a_script_that_has_succeeded_counts_and_does_not_run_again_where_its_folder_is_gone() {
    let mut world = World::unconfined();
    let work = left(&world);
    let mut both = script("echo said");
    both["cleanup_outputs"] = json!(["dist", "report.xml"]);

    // Gone in the same run.
    let gone = work.clone();
    let take_away = move |name: &Path| {
        if name.ends_with("dist") {
            std::fs::remove_dir_all(&gone).expect("taken away");
        }
        Event::Other
    };
    let undo = RollbackExecution::new(Disturbed(Arc::clone(&world.runtime), take_away));
    let outcome = world.run_by(&undo, both.clone()).await;
    let told = world.progress.get();
    let Completed { evidence, report } = completed(outcome);
    assert_eq!(evidence.answered(), "exit code 0; 0 removed, 2 not there");
    assert_eq!(claims(&report), (json!(true), json!(true), json!(0)));
    assert_eq!(output(&report, "stdout"), "said\n");
    // Not on the worker that goes on: it may be where the script ran, with all that is in it.
    world.recorded = told.clone();
    let Failed { class, evidence, report, message, .. } = failed(rollback(&world, both.clone()).await);
    assert_eq!((class, evidence.is_some()), (FailureClass::Permanent, true), "{message}");
    assert_eq!((claims(&report).0, claims(&report).1), (json!(true), json!(false)));
    assert!(message.contains("is not on this worker"), "{message}");
    assert!(!work.exists(), "an undo makes no folder to work in");

    // No folder can be looked for.
    std::fs::remove_dir_all(world.path("root")).expect("taken away");
    std::fs::write(world.path("root"), "").expect("written");
    for (recorded, ran) in [(told, true), (Value::Null, false)] {
        world.recorded = recorded;
        let Failed { code, class, evidence, report, .. } = failed(rollback(&world, both.clone()).await);
        assert_eq!((code.as_str(), evidence.is_some()), (code::INFRASTRUCTURE, ran));
        assert_eq!((claims(&report).0, claims(&report).1), (json!(ran), json!(false)));
        let once_more = FailureClass::Unavailable { after_ms: None };
        assert_eq!(class, if ran { FailureClass::Permanent } else { once_more }, "the script would run again");
    }
}

#[tokio::test]
async fn a_removal_is_refused_where_a_script_of_the_same_ticket_would_be_and_results_repeat_no_long_texts() {
    let mut world = World::unconfined();
    let work = left(&world);
    world.security_level = "CONFIDENTIAL";
    let id = "i".repeat(1_000_000);
    let named = json!({ "execution_id": id, "working_dir": "work", "cleanup_outputs": ["dist"] });
    let Failed { code, report, .. } = failed(rollback(&world, named).await);
    assert_eq!(code, code::ISOLATION_NOT_AVAILABLE);
    assert_eq!(output(&report, "execution_id").as_str().map(str::len), Some(256));
    let refused = failed(clean_up(&world, json!({ "working_dir": "work", "cleanup_outputs": ["dist"] })).await);
    assert_eq!(refused.code, code::ISOLATION_NOT_AVAILABLE);
    assert!(work.join("dist").exists());
}

#[tokio::test]
async fn inc_79_a_generic_cleanup_removes_what_the_original_names_or_fails() {
    let mut world = World::new();
    let work = left(&world);
    // As text, as every parameter is in Avro.
    let original = json!({ "working_dir": "work", "cleanup_outputs": ["dist", "gone"], "transform_type": "json" });
    for (recorded, expected) in [(Value::Null, "1 removed, 1 not there"), (json!({}), "0 removed, 2 not there")] {
        world.recorded = recorded;
        let Completed { evidence, report } = completed(clean_up(&world, json!(original.to_string())).await);
        assert_eq!(evidence.answered(), expected);
        assert_eq!(
            (output(&report, "compensated"), output(&report, "original_task_type")),
            (&json!(true), &json!("TRANSFORM"))
        );
        assert_eq!(report.metadata["action"], "generic_cleanup");
    }
    assert!(!work.join("dist").exists() && work.join("kept").exists());
    world.recorded = Value::Null;
    world.attempt = 2;
    for (original, expected) in [
        (original, code::COMPENSATION_NOT_DEFINED),
        (json!({ "transform_type": "json" }), code::COMPENSATION_NOT_DEFINED),
        (json!({ "working_dir": "work", "cleanup_outputs": true }), code::COMPENSATION_NOT_DEFINED),
        (json!({ "cleanup_outputs": ["kept"] }), code::INVALID_PARAMETERS),
        (json!({ "working_dir": "gone", "cleanup_outputs": ["kept"] }), code::INFRASTRUCTURE),
    ] {
        let Failed { code, report, .. } = failed(clean_up(&world, original.clone()).await);
        assert_eq!((code.as_str(), output(&report, "compensated")), (expected, &json!(false)), "{original}");
    }
    assert!(work.join("kept").exists());
}
