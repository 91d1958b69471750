//! Every call that leaves the process is within `border(…)`, every border of the list is crossed where the list says, and
//! a process that is told to die at one does. The sources are read as text: a mark that is missing is an omission, which no
//! type can show.
#![cfg(feature = "dev-stack")]

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ticket_activities::failpoints::{BORDERS, points};

/// Calls that leave the process, as they stand in the sources without line breaks and indentation. What ends with `(` may have arguments.
const CROSSINGS: &[&str] = &[
    // Kafka.
    "producer.send(",
    "producer.flush(",
    "queue.recv(",
    "consumer.commit(",
    "consumer.unsubscribe(",
    ".fetch_metadata(",
    ".fetch_watermarks(",
    ".fetch_group_list(",
    // Temporal: every method of its services.
    "service.*(",
    "workflow_service().*(",
    "operator_service().*(",
    "Connection::connect(",
    // The platform's gRPC services.
    "grpc.*(",
    // The SPIFFE agent.
    ".fetch_jwt_svid(",
    // HTTP.
    ".send()",
    "net::body(",
    ".chunk()",
    ".bytes().await",
    ".text().await",
    ".json().await",
    // The Docker engine: every method of its client.
    "daemon.*(",
    ".negotiate_version()",
    // The Kubernetes API.
    "self.api.ask::<",
    "self.api.stream(",
    // Processes.
    ".spawn()",
    ".output()",
    ".next_line()",
    "control.write_all(",
    "supervisor.wait()",
    "stream.read(",
];

/// What is not looked at, and why.
const EXEMPT: &[(&str, &str)] = &[
    ("src/dev", "the peers of the development stack, and its demo"),
    ("src/cli", "commands that hold nothing a crash could lose; `run` goes through worker.setup"),
    ("src/explain", "asks for people; nothing rests on the answers"),
    ("src/logs/held.rs", "reads for people"),
    (
        "src/orders.rs",
        "the ticket hears an order once however often it is sent; whoever ordered repeats what got no answer",
    ),
    ("src/rejections", "off unless asked for; to cancel twice is to cancel once"),
    ("src/spiffe", "asks the SPIFFE agent who this worker is; no ticket rests on the answers"),
    ("src/startup", "checks, which hold nothing that a crash could lose"),
    ("src/dead_letters/scan.rs", "reads for commands"),
    ("src/kafka.rs", "checks before the first record is taken, within worker.setup; and of renewed credentials"),
    ("src/kafka/token_endpoint.rs", "asks for a token, which nothing rests on"),
    ("src/kafka/producer.rs", "marked where it is called"),
    ("src/temporal.rs", "checks before the first record is taken, within worker.setup; the SDK's own calls are its"),
    ("src/temporal/versions.rs", "asks for checks, which hold nothing that a crash could lose"),
    ("src/net.rs", "marked where it is called"),
    ("src/vault", "asks for secrets, which nothing rests on but the next look"),
    ("src/sdk_metrics.rs", "a scrape of this very process"),
    ("activities/src/supervisor.rs", "the supervisor's end, in a process of its own"),
    ("src/test_peer.rs", "a peer of unit tests, which no build of the worker has"),
];

/// Marks of a border.
const MARKS: [&str; 2] = ["border(", "border_call("];

/// What a source file says.
#[derive(Debug, Default, PartialEq)]
struct Found {
    /// Names of borders, in their order.
    crossed: Vec<String>,
    /// Calls that leave the process without a mark: pattern and what follows.
    unmarked: Vec<String>,
}

/// Reads one source file. Its tests, at its end, are not looked at.
fn scan(source: &str) -> Found {
    let code = squeeze(source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default());
    let mut found = Found::default();
    // For each open parenthesis: whether a border opened it.
    let mut open: Vec<bool> = Vec::new();
    let mut at = 0;
    while at < code.len() {
        let rest = &code[at..];
        if let Some(text) = rest.strip_prefix('"') {
            at += 2 + text.find('"').unwrap_or(text.len());
            continue;
        }
        if let Some(called) = CROSSINGS.iter().find(|pattern| begins(&code, at, pattern))
            && !open.contains(&true)
        {
            found.unmarked.push(format!("{called} in {:?}", rest.chars().take(60).collect::<String>()));
        }
        match rest.as_bytes()[0] {
            b'(' => {
                let mark = MARKS.iter().any(|mark| word_ends(&code, at + 1, mark));
                if mark && let Some(name) = rest[1..].strip_prefix('"') {
                    found.crossed.push(name.split('"').next().unwrap_or_default().to_owned());
                }
                open.push(mark);
            }
            b')' => {
                open.pop();
            }
            _ => {}
        }
        at += rest.chars().next().map_or(1, char::len_utf8);
    }
    found
}

/// Whether `pattern` stands at `at`, as a word of its own if it begins like one. `*` is the name of a method.
fn begins(code: &str, at: usize, pattern: &str) -> bool {
    if pattern.starts_with(in_word) && code[..at].ends_with(in_word) {
        return false;
    }
    match pattern.split_once('*') {
        None => code[at..].starts_with(pattern),
        Some((before, after)) => code[at..]
            .strip_prefix(before)
            .is_some_and(|rest| rest.starts_with(in_word) && rest.trim_start_matches(in_word).starts_with(after)),
    }
}

/// Whether the word `mark` ends at `end`.
fn word_ends(code: &str, end: usize, mark: &str) -> bool {
    code[..end].strip_suffix(mark).is_some_and(|before| !before.ends_with(in_word))
}

fn in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Without comments and blanks, and with the inside of texts made harmless: a name stays as it is.
fn squeeze(source: &str) -> String {
    let mut code = String::new();
    let mut chars = source.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '/' if chars.peek() == Some(&'/') => pass_over(&mut chars, '\n'),
            '"' => {
                code.push('"');
                while let Some(c) = chars.next().filter(|c| *c != '"') {
                    if c == '\\' {
                        chars.next();
                    } else {
                        code.push(c);
                    }
                }
                code.push('"');
            }
            // A character that would begin a text or close a parenthesis; a lifetime has no second quote.
            '\'' => {
                let mut ahead = chars.clone();
                let (first, second) = (ahead.next(), ahead.next());
                if first == Some('\\') {
                    chars.by_ref().nth(1);
                    pass_over(&mut chars, '\'');
                } else if second == Some('\'') {
                    chars.by_ref().nth(1);
                } else {
                    code.push('\'');
                }
            }
            // Between two words one is left.
            c if c.is_whitespace() => {
                let next = chars.peek().is_some_and(|c| in_word(*c));
                if next && code.ends_with(in_word) {
                    code.push(' ');
                }
            }
            c => code.push(c),
        }
    }
    code
}

fn pass_over(chars: &mut impl Iterator<Item = char>, last: char) {
    chars.find(|c| *c == last);
}

/// Every source file of the two crates that reach other processes, by its path in the repository; tests aside.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src"), root.join("activities/src")];
    let mut sources = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.file_stem().is_some_and(|stem| stem == "tests") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
                sources.insert(name, std::fs::read_to_string(&path).expect("text"));
            }
        }
    }
    sources
}

#[test]
fn every_call_that_leaves_the_process_is_a_border() {
    let mut unmarked = Vec::new();
    for (path, source) in sources() {
        if !EXEMPT.iter().any(|(exempt, _)| Path::new(&path).starts_with(exempt)) {
            unmarked.extend(scan(&source).unmarked.into_iter().map(|call| format!("{path}: {call}")));
        }
    }
    assert!(
        unmarked.is_empty(),
        "calls that leave the process; put each within `border(\"<name>\", …)` and its name into BORDERS of \
         activities/src/failpoints.rs:\n  {}",
        unmarked.join("\n  ")
    );
}

#[test]
fn every_border_is_crossed_once_and_where_the_list_says() {
    let mut crossed: Vec<(String, String)> = Vec::new();
    for (path, source) in sources() {
        crossed.extend(scan(&source).crossed.into_iter().map(|name| (name, path.clone())));
    }
    let mut listed: Vec<_> = BORDERS.iter().map(|(name, path)| ((*name).to_owned(), (*path).to_owned())).collect();
    crossed.sort();
    listed.sort();
    assert_eq!(crossed, listed, "left: in the sources; right: BORDERS of activities/src/failpoints.rs");
}

#[test]
fn what_is_exempt_is_there() {
    let sources = sources();
    for (exempt, _) in EXEMPT {
        assert!(sources.keys().any(|path| Path::new(path).starts_with(exempt)), "{exempt} is gone");
    }
}

#[test]
fn a_call_without_a_mark_is_found() {
    for (unmarked, source) in [
        (0, "border(\"a\", self.producer.send(message, timeout)).await"),
        (1, "self.producer.send(message, timeout).await"),
        (1, "self\n    .producer // Sends.\n    .send(message, timeout)\n    .await"),
        // A mark that closes before the call, and one that only looks like one.
        (1, "border(\"a\", ready()).await; consumer.commit(&offsets)"),
        (1, "new_border(\"a\", consumer.commit(&offsets))"),
        (0, "border_call(\"a\", || { log(\")\"); log(')'); consumer.commit(&offsets) })"),
        // Any method of Temporal's services, however it is reached.
        (1, "let mut service = client.workflow_service(); service.pause_activity(request).await"),
        (1, "client.operator_service().list_search_attributes(request).await"),
        (0, "let mut service = client.workflow_service(); border(\"a\", service.pause_activity(request)).await"),
        (1, "let mut grpc = self.connection()?; grpc.heartbeat(request).await"),
        // A call, not a word in a text, a comment or a test, or a part of a name.
        (0, "log(\"producer.send(\"); // producer.send(\n"),
        (0, "#[cfg(test)]\nmod tests { fn a() { producer.send(message) } }"),
        // Tests in a file of their own end nothing.
        (1, "#[cfg(test)]\nmod tests;\nfn a() { producer.send(message) }"),
        (0, "my_queue.recv_all(); tokio::spawn(task)"),
        (1, "let child = command.spawn()?;"),
        (1, "fn f<'a>(x: &'a str) { process.spawn() }"),
        (0, "match border(\"a\", service.stop(request)).await { _ => {} }"),
        (2, "while let Some(chunk) = response.chunk().await { request.send().await }"),
    ] {
        assert_eq!(scan(source).unmarked.len(), unmarked, "{source}: {:?}", scan(source));
    }
}

#[test]
fn names_of_borders_are_found_with_their_number() {
    let source = "border(\"a.b\", x).await; border_call(\n  \"c\", || y()); border(name, z); // border(\"d\", w)\nborder(\"a.b\", v)";
    assert_eq!(scan(source).crossed, ["a.b", "c", "a.b"]);
}

fn worker(argument: &str, kill_at: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker-agents"));
    command
        .arg(argument)
        .env_clear()
        .env("WORKER_AGENTS_KILL_AT", kill_at)
        .env("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1");
    command.env("HTTP_BIND", "127.0.0.1").env("HTTP_PORT", "0").env("PROMETHEUS_PORT", "0");
    command.current_dir(env!("CARGO_TARGET_TMPDIR")).output().expect("the worker runs")
}

#[test]
fn a_worker_lists_its_points_and_dies_at_the_one_it_is_told() {
    let listed = worker("failpoints", "");
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().collect::<Vec<_>>(), points().collect::<Vec<_>>());

    let killed = worker("run", "worker.setup.before:1");
    assert_eq!(killed.status.signal(), Some(9), "{killed:?}");

    let unknown = worker("run", "worker.setup.during:1");
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("worker-agents failpoints"), "{unknown:?}");
}
