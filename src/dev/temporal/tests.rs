//! Starts that fail, with scripts in place of supervisor and CLI. (`tests/dev_temporal.rs` has the real ones.)

use super::*;

/// Runs what follows `--grace-ms N --` and speaks the supervisor's part on its socket.
const SUPERVISOR: &str = r#"
shift 3
echo '{"notice":"started","pid":'$$'}' >&0
"$@" </dev/null
echo '{"notice":"ended","exit_code":'$?',"signal":null,"stopped":false,"leftovers":0}' >&0
"#;

/// Options that run `script` in place of the CLI. The CLI's own arguments are `$1`, `$2` and so on.
fn options(script: &str) -> TemporalDevOptions {
    let supervisor =
        format!("{}\n{SUPERVISOR}", format_args!("set -- \"$1\" \"$2\" \"$3\" /bin/sh -c '{script}' \"${{@}}\""));
    TemporalDevOptions {
        cli: "temporal".into(),
        supervisor: SupervisorCommand {
            program: "/bin/sh".into(),
            arguments: ["-c", &supervisor, "supervisor"].map(OsString::from).to_vec(),
        },
        port: 0,
        ui_port: 0,
        namespace: "default".into(),
        db_file: None,
        log_file: None,
        search_attributes: Vec::new(),
        grace: Duration::from_secs(1),
    }
}

async fn refused(options: TemporalDevOptions) -> String {
    format!("{:#}", TemporalDevServer::start(options).await.unwrap_err())
}

#[tokio::test]
async fn an_early_end_shows_the_last_lines() {
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo line $i; done; echo no such thing >&2; exit 3";
    let error = refused(options(script)).await;
    assert!(error.contains("ended while it started (exit code 3)"), "{error}");
    assert!(error.contains("\n  line 12\n  no such thing"), "{error}");
    assert!(!error.contains("line 3\n"), "{error}");
}

#[tokio::test]
async fn the_log_file_has_everything_and_the_error_only_this_run() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("logs/temporal.log");
    let start = |script: &str| refused(TemporalDevOptions { log_file: Some(log.clone()), ..options(script) });
    assert!(start("echo first; exit 1").await.contains("\n  first"));
    let error = start("echo second; exit 1").await;
    assert!(error.contains("\n  second") && !error.contains("first"), "{error}");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "first\nsecond\n");
}

#[tokio::test]
async fn causes_come_with_what_to_change() {
    let error = refused(options("echo Error: unknown flag: --x; exit 1")).await;
    assert!(error.contains("run `make setup`"), "{error}");
    let error = refused(options("exit 1")).await;
    assert!(error.contains("it printed nothing"), "{error}");
    let mut unknown_type = options("exit 1");
    unknown_type.search_attributes = vec![SearchAttribute { name: "TicketId", kind: "keyword" }];
    let error = refused(unknown_type).await;
    assert!(error.contains("search attribute TicketId has type keyword"), "{error}");
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_flag() {
    let taken = TcpListener::bind((HOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = refused(TemporalDevOptions { port, ..options("exit 1") }).await;
    assert!(error.contains(&format!("port {port} on 127.0.0.1")) && error.contains("`--temporal-port`"), "{error}");
    let error = refused(TemporalDevOptions { ui_port: port, ..options("exit 1") }).await;
    assert!(error.contains("`--ui-port`"), "{error}");
}

#[tokio::test]
async fn a_chosen_port_that_is_lost_is_chosen_again() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let lost =
        "while [ $1 != --port ]; do shift; done; echo listen tcp 127.0.0.1:$2: bind: address already in use; exit 1";
    let error = refused(TemporalDevOptions { log_file: Some(log.clone()), ..options(lost) }).await;
    assert!(error.contains("`--temporal-port`"), "{error}");
    assert_eq!(std::fs::read_to_string(&log).unwrap().lines().count(), STARTS);
}

#[tokio::test]
async fn what_cannot_be_run_is_named() {
    let mut options = options("exit 1");
    options.supervisor.program = "/nowhere/supervisor".into();
    let error = refused(options).await;
    assert!(error.contains("the Temporal CLI temporal cannot be started"), "{error}");
    assert!(error.contains("supervisor /nowhere/supervisor: "), "{error}");
}

#[tokio::test]
async fn a_database_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("data/temporal.db");
    let held = lock(&database).unwrap();
    let start = || refused(TemporalDevOptions { db_file: Some(database.clone()), ..options("exit 1") });
    assert!(start().await.contains("is in use by another dev stack"));
    drop(held);
    assert!(start().await.contains("it printed nothing"));
}
