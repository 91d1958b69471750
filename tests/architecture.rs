//! The arrows between the crates, read from `cargo metadata` and `cargo tree`. A broken one fails here, by name.
//!
//! `schemas ◄ workflows ◄ activities ◄ worker-agents`, and `proto ◄ activities, worker-agents`: nothing points the
//! other way. What `workflows` is made of decides whether it can be replayed for ever, so its dependencies are a list.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Each crate of the workspace, and those of the others that it may name.
const ARROWS: &[(&str, &[&str])] = &[
    ("ticket-schemas", &[]),
    ("platform-proto", &[]),
    ("ticket-workflows", &["ticket-schemas"]),
    ("ticket-activities", &["ticket-schemas", "ticket-workflows", "platform-proto"]),
    ("worker-agents", &["ticket-schemas", "ticket-workflows", "ticket-activities", "platform-proto"]),
];

/// All that deterministic code may name.
const WORKFLOW_DEPENDENCIES: &[&str] = &[
    "ticket-schemas",
    "serde",
    "serde_json",
    "sha2",
    "temporalio-common-wasm",
    "temporalio-macros",
    "temporalio-workflow",
    "temporalio-protos",
];

/// What must not be compiled into a crate, however far down. A trailing `*` stands for any ending.
const NOT_WITHIN: &[(&str, &[&str], &str)] = &[
    (
        "ticket-schemas",
        &["tokio", "rdkafka*", "reqwest", "hyper", "axum", "tonic", "temporalio-*"],
        "the contract has no I/O and no engine",
    ),
    (
        "ticket-workflows",
        &[
            "rdkafka*",
            "reqwest",
            "hyper",
            "axum",
            "rustls",
            "mio",
            "socket2",
            "temporalio-sdk*",
            "temporalio-client",
            "temporalio-common",
        ],
        "deterministic code reaches no network and no client",
    ),
    (
        "platform-proto",
        &["rdkafka*", "reqwest", "hyper", "h2", "axum", "rustls", "mio", "socket2", "temporalio-*"],
        "generated code has no transport and no engine",
    ),
    ("ticket-activities", &["rdkafka*"], "an activity reaches Kafka through a port that worker-agents implements"),
];

/// The types in tonic's signatures bring tokio's channels to `workflows`. These features would bring the rest of it.
const RUNTIME_FEATURES: &[&str] =
    &["fs", "full", "io-std", "net", "process", "rt", "rt-multi-thread", "signal", "test-util", "time"];

/// Two versions of one of these do not understand each other's types.
const ONE_VERSION: &[&str] = &["tonic", "prost", "hyper", "http", "h2", "rustls"];

/// One TLS and one crypto provider: rustls with ring. librdkafka's own OpenSSL comes without these crates.
const ABSENT: &[&str] = &["aws-lc-rs", "aws-lc-sys", "native-tls", "openssl"];

/// Where the worker runs.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The facts that the rules are about.
#[derive(Clone, Default)]
struct Graph {
    /// Crate of the workspace → what its manifest names.
    members: BTreeMap<String, Vec<Dependency>>,
    /// Crate of the workspace → package → its features: what is compiled into that crate when it is built on its own,
    /// without macros. The whole workspace's resolution would lend it the features that other crates ask for.
    within: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
    /// Package → its versions, of all that is resolved for any crate.
    versions: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Clone)]
struct Dependency {
    name: String,
    kind: DependencyKind,
}

/// One sentence for each broken rule.
fn broken_rules(graph: &Graph) -> Vec<String> {
    let mut broken = arrows(graph);
    broken.extend(workflow_dependencies(graph));
    broken.extend(compiled_in(graph));
    broken.extend(versions(graph));
    broken
}

/// Dependencies of every kind count: a test that points the other way is a cycle as well.
fn arrows(graph: &Graph) -> Vec<String> {
    let mut broken = Vec::new();
    for (member, dependencies) in &graph.members {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| name == member) else {
            broken.push(format!("{member} has no place in the architecture; give it one in ARROWS"));
            continue;
        };
        for Dependency { name, kind } in dependencies {
            let ours = graph.members.contains_key(name);
            if ours && !allowed.contains(&name.as_str()) {
                broken.push(format!("{member} must not depend on {name} ({kind} dependency)"));
            }
        }
    }
    broken
}

fn workflow_dependencies(graph: &Graph) -> Vec<String> {
    let named = graph.members.get("ticket-workflows").into_iter().flatten();
    named
        .filter(|it| it.kind == DependencyKind::Normal && !WORKFLOW_DEPENDENCIES.contains(&it.name.as_str()))
        .map(|it| {
            format!("ticket-workflows names {}, which is not on the list of what deterministic code may use", it.name)
        })
        .collect()
}

fn compiled_in(graph: &Graph) -> Vec<String> {
    let mut broken = Vec::new();
    for (member, banned, why) in NOT_WITHIN {
        let packages = graph.within.get(*member).into_iter().flat_map(BTreeMap::keys);
        for package in packages.filter(|package| banned.iter().any(|pattern| matches(pattern, package))) {
            broken.push(format!("{package} is compiled into {member}: {why}"));
        }
    }
    let tokio = graph.within.get("ticket-workflows").and_then(|packages| packages.get("tokio"));
    for feature in tokio.into_iter().flatten().filter(|feature| RUNTIME_FEATURES.contains(&feature.as_str())) {
        broken.push(format!("tokio's `{feature}` is compiled into ticket-workflows: it has a runtime, a clock or I/O"));
    }
    broken
}

fn versions(graph: &Graph) -> Vec<String> {
    let mut broken = Vec::new();
    for (package, versions) in &graph.versions {
        if ONE_VERSION.contains(&package.as_str()) && versions.len() > 1 {
            let list = versions.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            broken.push(format!("{package} is there in more than one version: {list}"));
        }
        if ABSENT.contains(&package.as_str()) {
            broken.push(format!("{package} is in the graph: TLS is rustls with ring"));
        }
    }
    broken
}

fn matches(pattern: &str, package: &str) -> bool {
    pattern.strip_suffix('*').map_or(package == pattern, |start| package.starts_with(start))
}

/// Asks cargo for the manifests, and for what is compiled. The full `cargo metadata` knows only one resolution, that of
/// the whole workspace, and lists optional crates that nothing is compiled with.
fn read() -> Graph {
    let metadata = MetadataCommand::new()
        .cargo_path(env!("CARGO"))
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .no_deps()
        .other_options(["--locked".to_owned()])
        .exec()
        .expect("cargo metadata describes this workspace");
    let mut graph = Graph::default();
    for package in metadata.workspace_packages() {
        let name = package.name.to_string();
        let dependencies = package.dependencies.iter();
        let dependencies = dependencies.map(|it| Dependency { name: it.name.clone(), kind: it.kind }).collect();
        for found in tree(&["--package", &name, "--edges", "normal,no-proc-macro"]) {
            graph.within.entry(name.clone()).or_default().entry(found.name).or_default().extend(found.features);
        }
        graph.members.insert(name, dependencies);
    }
    for found in tree(&["--workspace", "--edges", "normal,build,dev"]) {
        graph.versions.entry(found.name).or_default().insert(found.version);
    }
    graph
}

/// One line of `cargo tree`.
struct Found {
    name: String,
    version: String,
    features: BTreeSet<String>,
}

fn tree(selection: &[&str]) -> Vec<Found> {
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["tree", "--locked", "--quiet", "--color", "never", "--all-features", "--target", TARGET])
        .args(["--prefix", "none", "--format", "{f}|{p}"])
        .args(selection)
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "cargo tree {selection:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("package names are UTF-8").lines().filter_map(found).collect()
}

/// `default,sync|tokio v1.2.3 (*)`; an empty line stands before build and development dependencies.
fn found(line: &str) -> Option<Found> {
    let (features, package) = line.split_once('|')?;
    let mut words = package.split_whitespace();
    let (name, version) = (words.next()?.to_owned(), words.next()?.to_owned());
    let features = features.split(',').filter(|feature| !feature.is_empty()).map(str::to_owned).collect();
    Some(Found { name, version, features })
}

#[test]
fn the_crates_keep_to_the_architecture() {
    let graph = read();
    // Rules about facts that could not be read would hold for anything.
    assert!(graph.members.len() >= 5, "all crates were read");
    assert!(graph.within["ticket-workflows"].contains_key("temporalio-workflow"), "what workflows is made of was read");
    assert!(graph.within["ticket-schemas"].contains_key("serde"), "what schemas is made of was read");
    assert!(graph.within["platform-proto"].contains_key("tonic"), "what proto is made of was read");
    assert!(graph.versions.contains_key("tonic"), "the whole resolution was read");

    let broken = broken_rules(&graph);
    assert!(broken.is_empty(), "\n  {}\n", broken.join("\n  "));
}

/// A small workspace that keeps every rule.
fn sound() -> Graph {
    let normal = |names: &[&str]| names.iter().map(|name| dependency(name, DependencyKind::Normal)).collect();
    let mut graph = Graph {
        members: BTreeMap::from([
            ("ticket-schemas".to_owned(), normal(&["serde"])),
            ("ticket-workflows".to_owned(), normal(WORKFLOW_DEPENDENCIES)),
            ("ticket-activities".to_owned(), normal(&["ticket-schemas", "ticket-workflows", "tokio"])),
            ("worker-agents".to_owned(), normal(&["ticket-schemas", "ticket-workflows", "ticket-activities", "axum"])),
        ]),
        ..Graph::default()
    };
    for (member, package) in
        [("ticket-schemas", "serde"), ("ticket-workflows", "tokio"), ("ticket-activities", "tokio")]
    {
        compile_in(&mut graph, member, package, "sync");
    }
    for package in ONE_VERSION {
        resolve(&mut graph, package, "1.0.0");
    }
    graph
}

fn dependency(name: &str, kind: DependencyKind) -> Dependency {
    Dependency { name: name.to_owned(), kind }
}

fn name(graph: &mut Graph, member: &str, name: &str, kind: DependencyKind) {
    graph.members.entry(member.to_owned()).or_default().push(dependency(name, kind));
}

fn compile_in(graph: &mut Graph, member: &str, package: &str, feature: &str) {
    let packages = graph.within.entry(member.to_owned()).or_default();
    packages.entry(package.to_owned()).or_default().insert(feature.to_owned());
}

fn resolve(graph: &mut Graph, package: &str, version: &str) {
    graph.versions.entry(package.to_owned()).or_default().insert(version.to_owned());
}

/// What the rules say of the sound workspace after one change.
fn after(change: impl FnOnce(&mut Graph)) -> Vec<String> {
    let mut graph = sound();
    change(&mut graph);
    broken_rules(&graph)
}

#[track_caller]
fn one_sentence(broken: &[String], words: &[&str]) {
    assert_eq!(broken.len(), 1, "exactly one rule is broken: {broken:?}");
    for word in words {
        assert!(broken[0].contains(word), "{word:?} is named in {:?}", broken[0]);
    }
}

#[test]
fn a_sound_workspace_breaks_no_rule() {
    assert_eq!(broken_rules(&sound()), Vec::<String>::new());
}

#[test]
fn the_allowed_arrows_to_the_generated_code_are_open() {
    let broken = after(|graph| {
        name(graph, "platform-proto", "tonic", DependencyKind::Normal);
        name(graph, "ticket-activities", "platform-proto", DependencyKind::Normal);
        name(graph, "worker-agents", "platform-proto", DependencyKind::Normal);
    });
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn an_arrow_that_points_the_other_way_is_red() {
    let order = ["ticket-schemas", "ticket-workflows", "ticket-activities", "worker-agents"];
    for (place, lower) in order.iter().enumerate() {
        for upper in &order[place..] {
            for kind in [DependencyKind::Development, DependencyKind::Build] {
                let broken = after(|graph| name(graph, lower, upper, kind));
                one_sentence(&broken, &[&format!("{lower} must not depend on {upper}")]);
            }
        }
    }
    let broken = after(|graph| name(graph, "ticket-schemas", "ticket-workflows", DependencyKind::Normal));
    one_sentence(&broken, &["ticket-schemas must not depend on ticket-workflows (normal"]);
}

#[test]
fn generated_code_is_not_for_schemas_or_workflows_and_knows_no_other_crate() {
    for (from, to) in [
        ("ticket-schemas", "platform-proto"),
        ("ticket-workflows", "platform-proto"),
        ("platform-proto", "ticket-schemas"),
    ] {
        let broken = after(|graph| {
            name(graph, "platform-proto", "tonic", DependencyKind::Normal);
            name(graph, from, to, DependencyKind::Development);
        });
        one_sentence(&broken, &[&format!("{from} must not depend on {to}")]);
    }
}

#[test]
fn a_crate_without_a_place_is_red() {
    let broken = after(|graph| name(graph, "helpers", "serde", DependencyKind::Normal));
    one_sentence(&broken, &["helpers", "ARROWS"]);
}

#[test]
fn a_new_dependency_of_workflows_is_red_and_one_of_its_tests_is_not() {
    for package in ["tokio", "chrono", "temporalio-sdk"] {
        let broken = after(|graph| name(graph, "ticket-workflows", package, DependencyKind::Normal));
        one_sentence(&broken, &["ticket-workflows", package, "not on the list"]);
    }
    let broken = after(|graph| name(graph, "ticket-workflows", "proptest", DependencyKind::Development));
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn what_must_not_be_compiled_in_is_red_at_any_depth() {
    for (member, package) in [
        ("ticket-schemas", "tokio"),
        ("ticket-schemas", "rdkafka"),
        ("ticket-schemas", "reqwest"),
        ("ticket-schemas", "temporalio-common-wasm"),
        ("platform-proto", "hyper"),
        ("platform-proto", "temporalio-protos"),
        ("ticket-workflows", "rdkafka"),
        ("ticket-workflows", "rdkafka-sys"),
        ("ticket-workflows", "reqwest"),
        ("ticket-workflows", "axum"),
        ("ticket-workflows", "temporalio-sdk"),
        ("ticket-workflows", "temporalio-sdk-core"),
        ("ticket-workflows", "temporalio-client"),
        ("ticket-activities", "rdkafka"),
    ] {
        let broken = after(|graph| compile_in(graph, member, package, "default"));
        one_sentence(&broken, &[package, member]);
    }
    // A name that only begins like a banned one.
    let broken = after(|graph| compile_in(graph, "ticket-workflows", "temporalio-common-wasm", "default"));
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn a_runtime_inside_workflows_is_red() {
    for feature in RUNTIME_FEATURES {
        let broken = after(|graph| compile_in(graph, "ticket-workflows", "tokio", feature));
        one_sentence(&broken, &["tokio", feature, "ticket-workflows"]);
    }
    let broken = after(|graph| compile_in(graph, "ticket-activities", "tokio", "rt"));
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn a_second_version_of_a_shared_protocol_crate_is_red() {
    for package in ONE_VERSION {
        let broken = after(|graph| resolve(graph, package, "2.0.0"));
        one_sentence(&broken, &[package, "1.0.0, 2.0.0"]);
    }
    let broken = after(|graph| {
        resolve(graph, "syn", "2.0.0");
        resolve(graph, "syn", "3.0.0");
    });
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn another_crypto_provider_or_tls_is_red() {
    for package in ABSENT {
        let broken = after(|graph| resolve(graph, package, "1.0.0"));
        one_sentence(&broken, &[package, "ring"]);
    }
}

/// Everything below a folder that ends in `.rs`.
fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.display().to_string(), std::fs::read_to_string(&path).expect("readable")));
        }
    }
    found
}

#[test]
fn inc_13_kafka_clients_are_configured_in_one_place() {
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(sources.iter().any(|(path, text)| path.ends_with("src/kafka.rs") && text.contains("ClientConfig::new()")));
    for (path, text) in sources {
        let own = path.contains("/src/kafka") || path.contains("/src/dev/");
        assert!(
            own || !text.contains("ClientConfig::new"),
            "{path} makes a Kafka client without the process's credentials; take it from kafka::Clients"
        );
    }
}

#[test]
fn everybody_is_signalled_in_one_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = [sources(&root.join("src")), sources(&root.join("activities/src"))].concat();
    let own = |path: &str| path.ends_with("activities/src/supervisor/domain.rs");
    assert!(sources.iter().any(|(path, text)| own(path) && text.contains("Pid::from_raw(-1)")));
    for (path, text) in sources {
        assert!(
            own(&path) || !text.contains("from_raw(-1)"),
            "{path} signals every process of the user; kill a tree by supervisor::tree"
        );
    }
}
