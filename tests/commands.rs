//! The commands as a person runs them: the development stack, submit, config, doctor.
#![cfg(feature = "dev-stack")]

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const WORKER: &str = env!("CARGO_BIN_EXE_worker-agents");
const PATIENCE: Duration = Duration::from_secs(60);

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(WORKER);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

fn run(arguments: &[&str], settings: &[(&str, &str)], input: &str) -> Output {
    let mut child = command(arguments)
        .envs(settings.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    // A command that ends before it has read its input is one of the cases.
    let _ = child.stdin.take().expect("stdin").write_all(input.as_bytes());
    child.wait_with_output().expect("ended")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn wait_until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not happen");
        #[expect(clippy::disallowed_methods, reason = "no runtime here to block")]
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A running development stack.
struct Dev {
    child: Child,
    ready: Value,
    folder: tempfile::TempDir,
}

impl Dev {
    fn start(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("ready.json");
        // An old file must not pass for a new one.
        std::fs::write(&file, "stale").expect("written");
        let child = command(&["dev", "--ready-file", file.to_str().expect("utf-8")])
            .env("LOCAL_RUNTIME_WORKING_DIR", folder.path().join("work"))
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log")).expect("log"))
            .spawn()
            .expect("started");
        let mut dev = Self { child, ready: Value::Null, folder };
        dev.ready = wait_until("the stack is up", || {
            if let Ok(Some(status)) = dev.child.try_wait() {
                panic!("ended with {status}: {}", dev.log());
            }
            serde_json::from_str(&std::fs::read_to_string(&file).ok()?).ok()
        });
        dev
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn peer(&self, key: &str) -> &str {
        self.ready[key].as_str().unwrap_or_else(|| panic!("{key} is missing in {}", self.ready))
    }

    fn settings(&self) -> [(&str, &str); 3] {
        [
            ("KAFKA_BOOTSTRAP_SERVERS", self.peer("kafka_bootstrap")),
            ("KAFKA_SCHEMA_REGISTRY_URL", self.peer("schema_registry_url")),
            ("TEMPORAL_ADDRESS", self.peer("temporal_address")),
        ]
    }

    /// Process ids of the stack's descendants.
    fn descendants(&self) -> Vec<i32> {
        let mut found = vec![self.child.id() as i32];
        let mut at = 0;
        while at < found.len() {
            found.extend(children_of(found[at]));
            at += 1;
        }
        found.split_off(1)
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill").success());
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn children_of(parent: i32) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").expect("proc").flatten();
    processes
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            let after_name = &stat[stat.rfind(')')? + 2..];
            (after_name.split(' ').nth(1)?.parse::<i32>().ok()? == parent).then_some(pid)
        })
        .collect()
}

fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[test]
fn dev_names_its_peers_and_ends_everything_within_five_seconds() {
    for signal in ["-INT", "-TERM"] {
        let mut dev = Dev::start(&[]);
        for key in [
            "kafka_bootstrap",
            "schema_registry_url",
            "temporal_address",
            "temporal_namespace",
            "temporal_ui_url",
            "service_registry_address",
            "http_url",
        ] {
            assert!(!dev.peer(key).is_empty(), "{key}");
        }
        assert!(dev.log().contains("NOT durable"), "{}", dev.log());
        let (host, port) = dev.peer("service_registry_address").rsplit_once(':').expect("host:port");
        let registry = [("SERVICE_REGISTRY_HOST", host), ("SERVICE_REGISTRY_PORT", port)];
        let listed = run(&["agents", "list", "--json"], &registry, "");
        let agent: Value = serde_json::from_slice(&listed.stdout).expect("one agent");
        assert_eq!(agent["metadata"]["endpoint"], dev.peer("http_url"), "the worker is registered");
        let children = dev.descendants();
        assert!(!children.is_empty(), "the Temporal server is a child");
        let told = Instant::now();
        dev.signal(signal);
        let status = wait_until("dev ends", || dev.child.try_wait().expect("asked"));
        assert!(status.success(), "{status}: {}", dev.log());
        assert!(told.elapsed() < Duration::from_secs(5), "it took {:?}", told.elapsed());
        assert!(!children.into_iter().any(alive), "children are left");
        assert!(!dev.folder.path().join("ready.json").exists(), "the ready file names what is gone");
    }
}

#[test]
fn dev_that_is_killed_leaves_no_orphan() {
    let mut dev = Dev::start(&[]);
    let children = dev.descendants();
    dev.child.kill().expect("killed");
    wait_until("the orphans end", || (!children.iter().any(|pid| alive(*pid))).then_some(()));
}

#[test]
fn a_port_in_use_is_one_sentence_that_names_port_and_flag() {
    let busy = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
    let port = busy.local_addr().expect("address").port().to_string();
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("ready.json");
    for flag in ["--kafka-port", "--registry-port", "--temporal-port", "--ui-port", "--http-port", "--metrics-port"] {
        let output = run(&["dev", "--ready-file", file.to_str().expect("utf-8"), flag, &port], &[], "");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{flag}: {said}");
        let sentence = said.lines().find(|line| line.starts_with("worker-agents: ")).unwrap_or_default();
        let setting = match flag {
            "--http-port" => "HTTP_PORT",
            "--metrics-port" => "PROMETHEUS_PORT",
            other => other,
        };
        assert!(sentence.contains(&port) && sentence.contains(setting), "{flag}: {said}");
    }
}

#[test]
fn submit_tells_by_its_exit_code_how_it_went() {
    let dev = Dev::start(&[
        ("LOCAL_RUNTIME_ALLOWED_COMMANDS", "true,false,sh"),
        ("MAX_CONCURRENT_TASKS", "2"),
        // Meant for another server: here nobody would make the version current.
        ("TEMPORAL_DEPLOYMENT_NAME", "agents"),
        ("TEMPORAL_WORKER_BUILD_ID", "1"),
    ]);
    let settings = dev.settings();
    let good = r#"{"task_type":"EXECUTE","parameters":{"command":"true"}}"#;
    let bad = r#"{"task_type":"EXECUTE","parameters":{"command":"false"}}"#;
    for encoding in ["json", "avro"] {
        let output = run(&["submit", "--wait", "--json", "--encoding", encoding, "-"], &settings, good);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let lines: Vec<Value> =
            text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!((lines.len(), lines[0]["status"].as_str()), (1, Some("COMPLETED")));
        assert!(lines[0]["result_id"].is_string());
    }
    let mixed = run(&["submit", "--wait", "-"], &settings, &format!("[{good},{bad}]"));
    assert_eq!(mixed.status.code(), Some(1), "{}", text(&mixed.stderr));
    assert!(text(&mixed.stdout).contains("exit code 1"), "{}", text(&mixed.stdout));
    // Other work under a used id: no result will ever come.
    let first = r#"{"ticket_id":"mine","task_type":"EXECUTE","parameters":{"command":"true"}}"#;
    assert_eq!(run(&["submit", "--wait", "-"], &settings, first).status.code(), Some(0));
    let collision = run(&["submit", "--wait", "--json", "-"], &settings, &first.replace("true", "sh"));
    assert_eq!(collision.status.code(), Some(1), "{}", text(&collision.stderr));
    let line: Value = serde_json::from_slice(&collision.stdout).expect("one line");
    assert_eq!(
        (line["status"].as_str(), line["error_code"].as_str()),
        (Some("DEAD_LETTERED"), Some("ticket_id_collision"))
    );
    let unreadable = [&settings[..], &[("KAFKA_SCHEMA_REGISTRY_URL", "")]].concat();
    let unread = run(&["submit", "--wait", "-"], &unreadable, good);
    assert_eq!(unread.status.code(), Some(3), "{}", text(&unread.stdout));
    assert!(text(&unread.stderr).contains("KAFKA_SCHEMA_REGISTRY_URL"), "{}", text(&unread.stderr));
    let lines = run(&["submit", "--json", "-"], &settings, &format!("{good}\n{good}\n"));
    assert_eq!((lines.status.code(), text(&lines.stdout).lines().count()), (Some(0), 2));
    let file = dev.folder.path().join("tickets.json");
    std::fs::write(&file, good).expect("written");
    assert_eq!(run(&["submit", "--wait", file.to_str().expect("utf-8")], &settings, "").status.code(), Some(0));
}

#[test]
fn submit_refuses_what_is_no_ticket_before_it_sends_anything() {
    let settings = [("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1"), ("KAFKA_SCHEMA_REGISTRY_URL", "")];
    for (arguments, input) in [
        (vec!["submit", "-"], "nonsense"),
        (vec!["submit", "-"], ""),
        (vec!["submit", "-"], r#"{"task_type":"DANCE"}"#),
        (vec!["submit", "-"], r#"{"task_type":"EXECUTE","ticket_id":"a b"}"#),
        (vec!["submit", "-"], r#"[{"ticket_id":"a","task_type":"EXECUTE"},{"ticket_id":"a","task_type":"EXECUTE"}]"#),
        (vec!["submit", "-"], r#"{"task_type":"EXECUTE","status":"RUNNING"}"#),
        (vec!["submit", "/no/such/file"], ""),
        (vec!["submit"], ""),
        (vec!["submit", "--encoding", "xml", "-"], "{}"),
        (vec!["dance"], ""),
    ] {
        let output = run(&arguments, &settings, input);
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {input}: {}", text(&output.stderr));
    }
    let away = run(&["submit", "--wait", "-"], &settings, r#"{"task_type":"EXECUTE","parameters":{}}"#);
    assert_eq!(away.status.code(), Some(3), "{}", text(&away.stderr));
    assert!(text(&away.stderr).contains("KAFKA_BOOTSTRAP_SERVERS"));
}

#[test]
fn dlq_says_that_no_broker_answers() {
    let settings = [("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1"), ("KAFKA_SCHEMA_REGISTRY_URL", "")];
    let away = run(&["dlq", "list"], &settings, "");
    assert_eq!(away.status.code(), Some(3), "{}", text(&away.stderr));
    assert!(text(&away.stderr).contains("KAFKA_BOOTSTRAP_SERVERS"), "{}", text(&away.stderr));
}

#[test]
fn config_shows_values_origins_and_no_secret() {
    let settings = [("KAFKA_SASL_PASSWORD", "hunter2"), ("MAX_CONCURRENT_TASKS", "7"), ("REDIS_ENABLED", "true")];
    let output = run(&["config"], &settings, "");
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("hunter2") && said.contains("(set, hidden)"));
    assert!(
        said.lines().any(|line| line.starts_with("MAX_CONCURRENT_TASKS ") && line.contains("7  [environment]")),
        "{said}"
    );
    assert!(said.contains("REDIS_ENABLED is set"), "{said}");
    let json = run(&["config", "--json"], &settings, "");
    assert!(serde_json::from_slice::<Value>(&json.stdout).expect("JSON")["settings"].is_array());
    let wrong = run(&["config"], &[("HTTP_PORT", "x"), ("MAX_CONCURRENT_TASKS", "0")], "");
    let said = text(&wrong.stderr);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(said.contains("HTTP_PORT") && said.contains("MAX_CONCURRENT_TASKS"), "all errors at once: {said}");
}

#[test]
fn doctor_finds_what_is_missing_and_creates_what_it_can() {
    let dev = Dev::start(&[]);
    let working_dir = dev.folder.path().join("work");
    let mut settings = dev.settings().to_vec();
    settings.push(("LOCAL_RUNTIME_WORKING_DIR", working_dir.to_str().expect("utf-8")));
    let healthy = run(&["doctor"], &settings, "");
    assert_eq!(healthy.status.code(), Some(0), "{}{}", text(&healthy.stdout), text(&healthy.stderr));
    // The embedded Kafka describes no settings: that is told as it is, and fails nothing.
    let json = run(&["doctor", "--json"], &settings, "");
    let report: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(report["failed"], 0, "{report}");
    let checks = report["checks"].as_array().expect("checks");
    for (name, state) in [
        ("kafka_topics", "ok"),
        ("kafka_group", "ok"),
        ("kafka_message_size", "unknown"),
        ("kafka_timeouts", "unknown"),
        ("retention", "unknown"),
        ("search_attributes", "ok"),
        ("ticket_schema", "ok"),
        ("result_schema", "ok"),
        ("identity", "ok"),
        ("clock", "ok"),
        ("local_runtime", "ok"),
        ("logs", "ok"),
        ("docker", "ok"),
        ("code_forge", "ok"),
        ("kubernetes", "ok"),
        ("lambda", "ok"),
    ] {
        let check = checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("{name}: {report}"));
        assert_eq!(check["state"], state, "{check}");
        assert!(check["why"].as_str().is_some_and(|why| !why.is_empty()), "{check}");
        assert_eq!(check["fix"].as_str().expect("fix").is_empty(), state == "ok", "{check}");
    }
    assert!(text(&healthy.stdout).contains("     why: "), "{}", text(&healthy.stdout));

    let cli = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/temporal-cli/bin/temporal");
    let created = Command::new(cli)
        .args([
            "operator",
            "search-attribute",
            "remove",
            "--name",
            "TicketPhase",
            "--yes",
            "--address",
            dev.peer("temporal_address"),
        ])
        .env_clear()
        .output()
        .expect("CLI");
    assert!(created.status.success(), "{}", text(&created.stderr));
    let sick = wait_until("doctor sees it", || {
        let sick = run(&["doctor"], &settings, "");
        (sick.status.code() == Some(1)).then_some(sick)
    });
    assert!(text(&sick.stdout).contains("doctor --fix"), "{}", text(&sick.stdout));
    let fixed = run(&["doctor", "--fix"], &settings, "");
    assert_eq!(fixed.status.code(), Some(0), "{}", text(&fixed.stdout));

    let away = [
        ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1"),
        ("TEMPORAL_ADDRESS", "127.0.0.1:1"),
        ("KAFKA_SCHEMA_REGISTRY_URL", "http://127.0.0.1:1"),
    ];
    let report = run(&["doctor"], &away, "");
    assert_eq!(report.status.code(), Some(1));
    let said = text(&report.stdout);
    assert!(said.matches("FAIL").count() >= 3, "{said}");
}

#[test]
fn a_proxy_of_the_environment_does_not_stand_between_the_worker_and_its_cluster() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("kubeconfig");
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": { "server": "http://127.0.0.1:1" } }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
        "users": [{ "name": "u", "user": { "token": "t" } }],
    });
    std::fs::write(&file, kubeconfig.to_string()).expect("written");
    let settings = [
        ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1"),
        ("TEMPORAL_ADDRESS", "127.0.0.1:1"),
        ("KAFKA_SCHEMA_REGISTRY_URL", "http://127.0.0.1:1"),
        ("K8S_JOBS_ENABLED", "true"),
        ("K8S_JOBS_KUBECONFIG_PATH", file.to_str().expect("utf-8")),
        ("HTTPS_PROXY", "http://user:hunter2@127.0.0.1:2"),
    ];
    let report: Value = serde_json::from_slice(&run(&["doctor", "--json"], &settings, "").stdout).expect("JSON");
    let checks = report["checks"].as_array().expect("checks");
    let check = checks.iter().find(|check| check["check"] == "kubernetes").expect("the check");
    assert!(check["what"].as_str().is_some_and(|what| what.contains("cannot be reached")), "{check}");
    assert!(!report.to_string().contains("hunter2"), "{report}");
}

#[test]
fn every_command_helps_and_completions_are_made() {
    for name in ["run", "dev", "demo", "submit", "explain", "dlq", "config", "doctor", "completions"] {
        let output = run(&[name, "--help"], &[], "");
        assert!(output.status.success() && !output.stdout.is_empty(), "{name}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let mut made = String::new();
        run(&["completions", shell], &[], "").stdout.as_slice().read_to_string(&mut made).expect("text");
        assert!(made.contains("worker-agents"), "{shell}");
    }
}
