//! Failed tickets whose work is undone by another one: what is published, in which order, what operators can do, and what a
//! killed worker leaves (`docs/adr/0016-compensation.md`).

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use ticket_schemas::{Frame, TaskType, WriterSchema, decode_avro_ticket};
use worker_agents::dev::tickets::TicketStandIn;

use crate::ticket_service::ticket_service;
use crate::world::{WORKER, Worker, World, eventually};

/// Undoes in the folder of the failed ticket: waits while `hold` is there, fails when `fail` is, and leaves a file that bears the
/// name of the ticket that undid, with a line for each time that it did.
const UNDO: &str =
    r#"sh -c 'while [ -e hold ]; do sleep 0.1; done; [ ! -e fail ] && echo undone >> "$TICKET_ID.undone"'"#;

/// A world whose workers undo.
pub(crate) struct Undone {
    pub(crate) world: World,
}

impl Undone {
    pub(crate) async fn new() -> Self {
        Self { world: World::new().await }
    }

    /// A ticket that runs `script` in a folder of its own, and is undone there.
    pub(crate) fn ticket(&self, name: &str, script: &str) -> Value {
        let mut ticket = self.world.ticket_in(name, name, script);
        ticket["parameters"]["rollback_script"] = json!(UNDO);
        ticket
    }

    pub(crate) async fn worker(&self, more: &[(&str, &str)]) -> Worker {
        let worker = self.spawn(more);
        worker.addresses().await;
        worker
    }

    pub(crate) fn spawn(&self, more: &[(&str, &str)]) -> Worker {
        self.world.spawn(&[&[("COMPENSATION_ENABLED", "true")], more].concat())
    }

    /// A file in the folder of a ticket.
    fn file(&self, name: &str, file: &str) -> PathBuf {
        let folder = self.world.shared(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        folder.join(file)
    }

    /// The tickets that undid one, each as often as it did.
    pub(crate) fn undone_by(&self, name: &str) -> Vec<String> {
        let Ok(files) = std::fs::read_dir(self.world.shared(name)) else { return Vec::new() };
        let files = files.map(|file| file.expect("a file").path());
        let left = files.filter(|file| file.extension().is_some_and(|extension| extension == "undone"));
        left.flat_map(|file| {
            let times = std::fs::read_to_string(&file).expect("text").lines().count();
            std::iter::repeat_n(file.file_stem().expect("an id").to_string_lossy().into_owned(), times)
        })
        .collect()
    }

    /// One ticket undid another one: once, and at most once more for each worker that was lost meanwhile.
    pub(crate) fn is_undone(&self, name: &str, id: &str, lost_workers: usize) {
        let by = self.undone_by(name);
        assert!((1..=1 + lost_workers).contains(&by.len()) && by.iter().all(|it| it == id), "{name} by {id}: {by:?}");
    }

    /// Ids of the COMPENSATE tickets in the topic, copies included.
    pub(crate) fn published(&self) -> Vec<String> {
        let tickets = self.world.topic("execution.tickets").into_iter().filter_map(|record| {
            let Frame::Avro { body, .. } = Frame::detect(Some(&record.value)).expect("a frame") else { return None };
            assert_eq!(record.header("x-neural-hive-source"), Some("worker-agents"));
            assert_eq!(record.key.as_deref(), Some("plan"), "keyed as the orchestrator does");
            Some(decode_avro_ticket(body, &WriterSchema::ticket()).expect("a ticket"))
        });
        let undoing: Vec<_> = tickets.filter(|ticket| ticket.task_type == TaskType::Compensate).collect();
        undoing.iter().map(|ticket| ticket.ticket_id.as_str().to_owned()).collect()
    }

    /// `explain --json` of a ticket once it is in this state.
    pub(crate) async fn explained(&self, name: &str, state: &str) -> Value {
        let id = self.world.ticket_id(name);
        eventually(&format!("{name} is {state}"), || {
            let output = Command::new(WORKER)
                .args(["explain", &id, "--json"])
                .env_clear()
                .env("TEMPORAL_ADDRESS", &self.world.temporal)
                .current_dir(std::env::temp_dir())
                .output()
                .expect("the command runs");
            let told: Value = serde_json::from_slice(&output.stdout).ok()?;
            (told["state"] == state && told["unanswered"].is_null()).then_some(told)
        })
        .await
    }

    /// Runs `ticket …`; its note.
    pub(crate) fn order(&self, code: i32, verb: &[&str], name: &str) -> String {
        let id = self.world.ticket_id(name);
        let given = ["--why", "looked at it", "--by", "ana", "--json"];
        let output = self.world.command(&[&["ticket"], verb, &[&id], &given].concat(), "");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{verb:?} {name}: {out}{err}");
        serde_json::from_str::<Value>(&out).map_or(err.into_owned(), |it| it["note"].as_str().expect("note").to_owned())
    }

    /// The failure of a ticket's workflow, once it has closed as failed.
    pub(crate) async fn failure(&self, name: &str) -> String {
        self.world.result(name).await;
        let last = eventually(&format!("{name} closes as failed"), || {
            self.world.history(name).pop().filter(|last| last["eventType"] == "EVENT_TYPE_WORKFLOW_EXECUTION_FAILED")
        })
        .await;
        last["workflowExecutionFailedEventAttributes"]["failure"]["message"].as_str().expect("a message").to_owned()
    }

    async fn phase(&self, name: &str, phase: &str) {
        let query = format!("TicketId = '{}' AND TicketPhase = '{phase}'", self.world.ticket_id(name));
        eventually(&format!("{name} is found as {phase}"), || {
            (self.world.temporal_cli(&["workflow", "count", "--query", &query])["count"] == "1").then_some(())
        })
        .await;
    }
}

/// The compensation that a result announces: ticket id and action.
pub(crate) fn announced(result: &Value) -> (String, String) {
    let given = &result["result"]["metadata"]["compensation"];
    let given = given.as_str().map_or(given.clone(), |text| serde_json::from_str(text).expect("JSON"));
    let text = |key: &str| given[key].as_str().unwrap_or_else(|| panic!("{key} in {result}")).to_owned();
    (text("ticket_id"), text("action"))
}

fn touch(file: &Path) {
    std::fs::write(file, "").expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_38_a_failed_ticket_is_reported_releases_its_dependents_and_is_undone() {
    let undone = Undone::new().await;
    let world = &undone.world;
    let worker = undone.worker(&[]).await;
    touch(&undone.file("broken", "hold"));
    let mut after = world.ticket("after", "true");
    after["dependencies"] = json!([world.ticket_id("broken")]);
    world.publish(&after).await;
    world.publish(&undone.ticket("broken", "echo begun; exit 3")).await;

    let result = world.result("broken").await;
    assert_eq!((&result["status"], &result["result"]["output"]["stdout"]), (&json!("FAILED"), &json!("begun\n")));
    let (id, action) = announced(&result);
    assert_eq!(action, "rollback_execution");
    // Before the undo has ended, and also for those that come later.
    assert_eq!(world.result("after").await["result"]["metadata"]["error_code"], "dependency_failed");
    let told = undone.explained("broken", "compensating").await;
    assert_eq!(told["waiting_for"]["kind"], "compensation", "{told}");
    assert_eq!((&told["waiting_for"]["ticket_id"], &told["waiting_for"]["attempt"]), (&json!(id), &json!(1)));
    assert_eq!(told["error_code"], "execution_failed");
    assert!(told["since"].is_string() && told["until"].is_string(), "{told}");
    assert!(told["unblocked_by"].as_str().is_some_and(|by| by.contains("compensation ticket")), "{told}");
    assert_eq!(told["predecessors"][0]["ticket_id"], id.as_str(), "how the undo stands: {told}");
    let text = told["explanation"].as_str().expect("words");
    assert!(text.contains(&format!("is being undone by ticket {id}")), "{text}");
    undone.phase("broken", "compensating").await;
    let mut later = world.ticket("later", "true");
    later["dependencies"] = json!([world.ticket_id("broken")]);
    world.publish(&later).await;
    assert_eq!(world.result("later").await["result"]["metadata"]["error_code"], "dependency_failed");
    assert!(undone.undone_by("broken").is_empty());
    // It holds no place of those that work.
    worker.wait_ready().await;

    std::fs::remove_file(undone.file("broken", "hold")).expect("removed");
    let message = undone.failure("broken").await;
    assert!(message.contains(&format!("ticket {id} has undone what it did")), "{message}");
    assert_eq!(undone.undone_by("broken"), [id.as_str()]);
    assert_eq!(undone.published(), [id.as_str()]);
    undone.phase("broken", "compensated").await;
    let results = world.results();
    assert_eq!(results[&id][0]["status"], "COMPLETED");
    assert_eq!(results[&world.ticket_id("broken")].len(), 1, "the result that has gone out is the only one");
    assert!(world.dead_letters().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_38_without_the_setting_and_without_an_action_nothing_is_undone() {
    let undone = Undone::new().await;
    let world = &undone.world;
    {
        let _worker = undone.worker(&[("COMPENSATION_ENABLED", "false")]).await;
        world.publish(&undone.ticket("off", "exit 3")).await;
        undone.failure("off").await;
        assert!(world.result("off").await["result"]["metadata"]["compensation"].is_null());
    }
    let _worker = undone.worker(&[]).await;
    let mut never_began = world.ticket("never-began", "true");
    never_began["parameters"]["command"] = json!("no-such-program");
    world.publish(&never_began).await;
    world.publish(&world.ticket("fine", "true")).await;
    assert_eq!(world.result("fine").await["status"], "COMPLETED");
    undone.failure("never-began").await;
    assert!(undone.published().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compensation_that_fails_waits_for_an_operator_who_resumes_it() {
    let undone = Undone::new().await;
    let world = &undone.world;
    let _worker = undone.worker(&[]).await;
    touch(&undone.file("broken", "fail"));
    world.publish(&undone.ticket("broken", "exit 3")).await;
    let (first, _) = announced(&world.result("broken").await);
    let told = undone.explained("broken", "compensation_failed").await;
    assert_eq!(told["waiting_for"]["kind"], "compensation_order", "{told}");
    assert_eq!(told["waiting_for"]["ticket_id"], first.as_str());
    assert_eq!(told["waiting_for"]["error_code"], "execution_failed");
    assert!(told["until"].is_null() && told["since"].is_string(), "{told}");
    assert!(told["unblocked_by"].as_str().is_some_and(|by| by.contains("resume")), "{told}");
    assert!(told["explanation"].as_str().is_some_and(|text| text.contains("was not undone")), "{told}");
    undone.phase("broken", "compensation_failed").await;

    let refused = undone.order(1, &["cancel"], "broken");
    assert!(refused.contains("compensation skip") && refused.contains(&first), "{refused}");
    std::fs::remove_file(undone.file("broken", "fail")).expect("removed");
    touch(&undone.file("broken", "hold"));
    undone.order(0, &["compensation", "resume"], "broken");
    undone.explained("broken", "compensating").await;
    let refused = undone.order(1, &["cancel"], "broken");
    assert!(refused.contains("cannot be stopped half way"), "{refused}");
    assert!(undone.order(0, &["compensation", "resume"], "broken").contains("already"), "twice is once");
    std::fs::remove_file(undone.file("broken", "hold")).expect("removed");

    undone.failure("broken").await;
    let by = undone.undone_by("broken");
    assert_eq!(by.len(), 1, "{by:?}");
    assert_ne!(by[0], first, "each try has a ticket of its own");
    assert_eq!(undone.published(), [first, by[0].clone()]);
    let status = world.temporal_cli(&[
        "workflow",
        "query",
        "--workflow-id",
        &format!("ticket-{}", world.ticket_id("broken")),
        "--type",
        "status",
    ]);
    let status = &status["queryResult"][0];
    assert_eq!(status["compensation"], json!({ "ticket_id": by[0], "attempt": 2, "compensation": "completed" }));
    assert_eq!(
        (&status["orders"][0]["verb"], &status["orders"][0]["by"]),
        (&json!("resume_compensation"), &json!("ana"))
    );
    assert_eq!(status["orders"].as_array().map(Vec::len), Some(1), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compensation_is_skipped_by_order_and_a_cancelled_workflow_goes_on() {
    let undone = Undone::new().await;
    let world = &undone.world;
    let _worker = undone.worker(&[]).await;
    touch(&undone.file("broken", "fail"));
    touch(&undone.file("stuck", "hold"));
    world.publish(&undone.ticket("broken", "exit 3")).await;
    world.publish(&undone.ticket("stuck", "exit 3")).await;
    undone.explained("broken", "compensation_failed").await;
    let told = undone.explained("stuck", "compensating").await;
    // Temporal's own cancel cannot be refused: it does nothing.
    for name in ["broken", "stuck"] {
        world.cancel(name);
        eventually("the cancel is in the history", || {
            let asked = |event: &Value| event["eventType"] == "EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED";
            world.history(name).iter().any(asked).then_some(())
        })
        .await;
    }
    let (failed, held) = (undone.explained("broken", "compensation_failed").await, told["waiting_for"].clone());
    assert_eq!(undone.explained("stuck", "compensating").await["waiting_for"], held, "as before");
    undone.order(0, &["compensation", "skip"], "broken");
    let message = undone.failure("broken").await;
    let id = failed["waiting_for"]["ticket_id"].as_str().expect("id");
    assert!(message.contains("was skipped") && message.contains(id), "{message}");
    undone.phase("broken", "compensation_skipped").await;
    let note = undone.order(0, &["compensation", "skip"], "stuck");
    assert!(note.contains("not waited for any more"), "{note}");
    undone.failure("stuck").await;
    assert!(undone.order(1, &["compensation", "skip"], "stuck").contains("ended already"));
    for name in ["broken", "stuck"] {
        assert_eq!(world.result(name).await["status"], "FAILED", "{name}");
        assert!(undone.undone_by(name).is_empty(), "{name}");
    }
    std::fs::remove_file(undone.file("stuck", "hold")).expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_38_a_worker_killed_while_compensating_leaves_one_compensation_that_ends() {
    let undone = Undone::new().await;
    let world = &undone.world;
    let mut worker = undone.worker(&[]).await;
    touch(&undone.file("broken", "hold"));
    world.publish(&undone.ticket("broken", "exit 3")).await;
    undone.explained("broken", "compensating").await;
    eventually("the script runs", || (worker.log().matches("process started").count() == 2).then_some(())).await;
    worker.kill_9();
    std::fs::remove_file(undone.file("broken", "hold")).expect("removed");
    let _worker = undone.worker(&[]).await;
    undone.failure("broken").await;
    let (id, _) = announced(&world.result("broken").await);
    undone.is_undone("broken", &id, 1);
    let result = &world.results()[&id][0];
    assert_eq!(result["result"]["metadata"]["external_state"], "unknown", "it has run twice, for all anyone knows");
    assert_eq!(undone.published(), [id]);
}

/// A worker that dies at this point, and another one.
async fn killed_at(point: &str) {
    let undone = Undone::new().await;
    let world = &undone.world;
    world.publish(&undone.ticket("broken", "exit 3")).await;
    let mut doomed = undone.spawn(&[("WORKER_AGENTS_KILL_AT", point)]);
    let ended = eventually(&format!("{point} kills"), || doomed.child.try_wait().expect("a child")).await;
    assert_eq!(ended.signal(), Some(9), "{point}: {}", doomed.log());
    let _worker = undone.worker(&[]).await;
    let message = undone.failure("broken").await;
    let (id, _) = announced(&world.result("broken").await);
    assert!(message.contains(&format!("{id} has undone")), "{point}: {message}");
    undone.is_undone("broken", &id, 1);
    let published = undone.published();
    assert!(!published.is_empty() && published.iter().all(|it| *it == id), "{point}: {published:?}");
    let query = format!("WorkflowId = 'ticket-{id}'");
    let runs = world.temporal_cli(&["workflow", "list", "--query", &query]).as_array().map_or(0, Vec::len);
    assert_eq!(runs, 1, "{point}");
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_38_a_worker_killed_at_any_border_of_the_compensation_leaves_one_ticket_and_a_truthful_end() {
    let points = [
        "kafka.result.after:1",
        "kafka.compensation.before:1",
        "kafka.compensation.after:1",
        "temporal.predecessor.before:1",
        "temporal.predecessor.after:1",
        "temporal.start.after:2",
        // Of the undo, whose script is the second process.
        "supervisor.spawn.before:2",
        "supervisor.spawn.after:2",
        "supervisor.collect.after:2",
        "kafka.result.after:2",
    ];
    futures::future::join_all(points.map(killed_at)).await;
}

/// What the ticket service hears of an original: statuses, with the error that it failed with.
fn heard(service: &TicketStandIn, undone: &Undone, name: &str) -> Vec<(String, String)> {
    let text = |update: &Value, key: &str| update[key].as_str().unwrap_or_default().to_owned();
    let updates = service.updates(&undone.world.ticket_id(name));
    updates.iter().map(|update| (text(update, "status"), text(update, "error_message"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_33_inc_35_the_ticket_service_creates_the_undo_and_hears_how_the_original_ends() {
    let undone = Undone::new().await;
    let world = &undone.world;
    let (service, url, _stop) = ticket_service().await;
    service.know_all();
    let _worker = undone.worker(&[("EXECUTION_TICKET_SERVICE_URL", &url)]).await;
    world.publish(&undone.ticket("broken", "exit 3")).await;
    let result = world.result("broken").await;
    let (id, _) = announced(&result);
    let created = eventually("the ticket service has the undo", || service.ticket(&id)).await;
    assert!(undone.published().is_empty(), "the service publishes what it creates");
    world.publish(&created).await;
    undone.failure("broken").await;
    assert_eq!(undone.undone_by("broken"), [id.as_str()]);
    let error = result["error_message"].as_str().expect("an error").to_owned();
    let said = |status: &str| (status.to_owned(), error.clone());
    let running = ("RUNNING".to_owned(), String::new());
    assert_eq!(
        heard(&service, &undone, "broken"),
        [running, said("FAILED"), said("COMPENSATING"), said("COMPENSATED")]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_waits_for_no_ticket_service_and_overtaken_statuses_are_not_sent_late() {
    let undone = Undone::new().await;
    let world = &undone.world;
    let (service, url, _stop) = ticket_service().await;
    service.know_all();
    service.set_unavailable(true);
    let _worker = undone.worker(&[("EXECUTION_TICKET_SERVICE_URL", &url)]).await;
    world.publish(&undone.ticket("broken", "exit 3")).await;
    let (id, _) = announced(&world.result("broken").await);
    eventually("it is undone", || (undone.undone_by("broken") == [id.as_str()]).then_some(())).await;
    assert_eq!(undone.published(), [id.as_str()], "published from here");
    undone.explained("broken", "settling_compensation").await;
    assert!(heard(&service, &undone, "broken").is_empty());
    service.set_unavailable(false);
    undone.failure("broken").await;
    let statuses: Vec<_> = heard(&service, &undone, "broken").into_iter().map(|(status, _)| status).collect();
    assert_eq!(statuses, ["COMPENSATED"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn inc_33_an_undo_that_the_ticket_service_created_and_never_published_is_published_from_here() {
    let undone = Undone::new().await;
    let world = &undone.world;
    let (service, url, _stop) = ticket_service().await;
    service.know_all();
    let settings = [("EXECUTION_TICKET_SERVICE_URL", url.as_str()), ("DEPENDENCY_UNKNOWN_TIMEOUT_SECONDS", "2")];
    let _worker = undone.worker(&settings).await;
    world.publish(&undone.ticket("broken", "exit 3")).await;
    let (id, _) = announced(&world.result("broken").await);
    undone.failure("broken").await;
    assert_eq!(service.ticket(&id).map(|ticket| ticket["status"].clone()), Some(json!("COMPLETED")), "created there");
    assert_eq!(undone.published(), [id.as_str()]);
    assert_eq!(undone.undone_by("broken"), [id.as_str()]);
}
