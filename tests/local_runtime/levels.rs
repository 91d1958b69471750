//! How much confines a command: said truthfully, demanded by tickets, shown by `doctor sandbox`; and what runs in it.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use ticket_activities::code;
use ticket_activities::sandbox::Network;

use crate::world::{World, completed, failed, is_root, missing};

#[tokio::test]
async fn this_kernel_confines_a_command_in_full_unless_it_is_roots() {
    let done = completed(World::new().run(json!({ "command": "true" })).await);
    let sandbox = &done.report.metadata["sandbox"];
    let level = if is_root() { "partial" } else { "full" };
    assert_eq!(
        *sandbox,
        json!({ "level": level, "landlock_abi": 6, "seccomp": true, "network": "none", "missing": missing([]),
                "cgroup": sandbox["cgroup"], "cgroup_bounds": sandbox["cgroup_bounds"] }),
        "Linux 6.12 with Landlock and seccomp is needed to test the sandbox; `worker-agents doctor sandbox` shows more"
    );
}

#[tokio::test]
async fn a_ticket_that_demands_more_than_there_is_does_not_run() {
    let with = |security_level, world| World { security_level, ..world };
    let host = || World::confined(|sandbox| sandbox.network = Network::Host);
    for (world, named) in [
        (with("RESTRICTED", host()), "missing: network (set LOCAL_RUNTIME_NETWORK=none"),
        (with("RESTRICTED", World::unconfined()), "missing: files"),
        (with("CONFIDENTIAL", World::unconfined()), "demands the sandbox level partial, and this worker has none"),
    ] {
        let script = json!({ "command": "sh", "args": ["-c", "echo x > ran"], "working_dir": "kept" });
        let failed = failed(world.run(script).await);
        assert_eq!(failed.code, code::ISOLATION_NOT_AVAILABLE, "{failed:?}");
        for words in [named, world.security_level, "worker-agents doctor sandbox"] {
            assert!(failed.message.contains(words), "{words:?} is missing in {}", failed.message);
        }
        assert!(!world.path("root/kept/ran").exists());
    }
    for (world, level) in [
        (with("PUBLIC", World::unconfined()), "none"),
        (with("INTERNAL", World::unconfined()), "none"),
        (with("INTERNAL", host()), "partial"),
        (with("CONFIDENTIAL", host()), "partial"),
        (with("CONFIDENTIAL", World::new()), if is_root() { "partial" } else { "full" }),
    ] {
        let done = completed(world.run(json!({ "command": "true" })).await);
        assert_eq!(done.report.metadata["sandbox"]["level"], level, "{}", world.security_level);
    }
}

#[tokio::test]
async fn a_restricted_ticket_runs_where_nothing_is_missing_and_so_not_for_root() {
    let world = World { security_level: "RESTRICTED", ..World::new() };
    let outcome = world.run(json!({ "command": "true" })).await;
    if is_root() {
        let failed = failed(outcome);
        assert_eq!(failed.code, code::ISOLATION_NOT_AVAILABLE, "{failed:?}");
        assert!(failed.message.contains("user (run the worker as a user of its own"), "{}", failed.message);
    } else {
        assert_eq!(completed(outcome).report.metadata["sandbox"]["level"], "full");
    }
}

#[tokio::test]
async fn a_failed_command_says_too_what_confined_it() {
    let failed = failed(World::new().sh("exit 3").await);
    assert_eq!(failed.report.metadata["sandbox"]["seccomp"], true);
    let unconfined = completed(World::unconfined().sh("true").await);
    let expected = json!({ "level": "none", "landlock_abi": 0, "seccomp": false, "network": "host",
                           "missing": missing(["files", "signals", "system_calls", "network"]), "cgroup": "none", "cgroup_bounds": [] });
    assert_eq!(unconfined.report.metadata["sandbox"], expected);
}

#[tokio::test]
async fn ordinary_programs_work_in_the_sandbox() {
    let world = World::new();
    let script = "set -e; mkdir a; echo 'echo from a file' > a/run; chmod +x a/run; ./a/run; sh a/run | tr a-z A-Z
        echo $HOME > /dev/null; test \"$TMPDIR\" = \"$PWD\"; mv a b; ls b; cat /etc/passwd > c; wc -l < c > /dev/null";
    assert_eq!(completed(world.sh(script).await).report.output["stdout"], "from a file\nFROM A FILE\nrun\n");
    let script = "diff <(echo x) <(echo x) && echo same; echo y > >(cat)";
    let done = completed(world.run(json!({ "command": "bash", "args": ["-c", script] })).await);
    assert!(done.report.output["stdout"].as_str().expect("text").contains("same"), "{done:?}");
    let python = "
import concurrent.futures, decimal, hashlib, json, os, pwd, random, shutil, sqlite3, ssl, subprocess, sys, tempfile, threading, zlib
with tempfile.NamedTemporaryFile('w+') as file:
    file.write('x')
assert tempfile.gettempdir() == os.getcwd() == os.environ['HOME']
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    assert sum(pool.map(int, range(10))) == 45
said = subprocess.run(['sh', '-c', 'cat'], input=b'piped', capture_output=True, check=True).stdout.decode()
db = sqlite3.connect('file.db')
db.execute('create table t (a)')
db.commit()
os.getrandom(8), os.urandom(8), pwd.getpwuid(os.getuid()), os.cpu_count()
print(json.dumps([said, threading.active_count(), sys.version_info[0]]))
";
    assert_eq!(world.python(python, &[]).await, json!(["piped", 1, 3]));
    if !Path::new("/usr/bin/node").exists() && !Path::new("/usr/local/bin/node").exists() {
        eprintln!("NOT TRIED: node is not installed");
        return;
    }
    let node = "const fs = require('fs'), cp = require('child_process'), os = require('os');
        fs.writeFileSync('a.json', JSON.stringify({ a: 1 }));
        const said = cp.execFileSync('sh', ['-c', 'echo child']).toString().trim();
        cp.spawn('cat', ['a.json']).stdout.on('data', data => console.log(said, JSON.parse(data).a, os.tmpdir() === process.cwd()));";
    let done = completed(world.run(json!({ "command": "node", "args": ["-e", node] })).await);
    assert_eq!(done.report.output["stdout"], "child 1 true\n", "{:?}", done.report.output);
}

#[tokio::test]
async fn what_settings_name_can_be_read_and_not_written() {
    let outside = tempfile::tempdir().expect("folder");
    std::fs::write(outside.path().join("data"), "readable").expect("written");
    let world = World::confined(|sandbox| sandbox.readable = vec![outside.path().to_owned()]);
    let there = outside.path().display();
    let done = completed(world.sh(&format!("cat {there}/data; echo x 2>/dev/null > {there}/data; true")).await);
    assert_eq!(done.report.output["stdout"], "readable");
    assert_eq!(std::fs::read_to_string(outside.path().join("data")).expect("there"), "readable");
}

fn doctor(arguments: &[&str], settings: &[(&str, &str)]) -> (Output, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker-agents"));
    command.args(["doctor", "sandbox"]).args(arguments).env_clear().envs(settings.iter().copied());
    command.env("PATH", "/usr/bin:/bin").env("LOCAL_RUNTIME_WORKING_DIR", folder.path().join("work"));
    (command.current_dir(folder.path()).output().expect("it runs"), folder)
}

#[test]
fn doctor_sandbox_tries_what_this_machine_grants_and_says_how_to_get_the_rest() {
    let (output, _folder) = doctor(&["--json"], &[]);
    assert_eq!(output.status.code(), Some(i32::from(is_root())), "{output:?}");
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&said["enabled"], &said["sandbox"]["missing"]), (&json!(true), &json!(missing([]))));
    assert_eq!((&said["tickets"]["CONFIDENTIAL"], &said["tickets"]["RESTRICTED"]), (&json!(true), &json!(!is_root())));
    let granted = |part: &Value| part["granted"] == json!(part["part"] != "user" || !is_root());
    assert!(said["parts"].as_array().is_some_and(|parts| parts.len() == 5 && parts.iter().all(granted)));

    let (output, _folder) = doctor(&[], &[("LOCAL_RUNTIME_NETWORK", "host")]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    for line in
        ["ok   files", "FAIL network", "fix: set LOCAL_RUNTIME_NETWORK=none", "security_level RESTRICTED are refused"]
    {
        assert!(text.contains(line), "{line:?} is missing in {text}");
    }

    let (output, _folder) = doctor(&[], &[("LOCAL_RUNTIME_ENABLE_SANDBOX", "false")]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("the sandbox is none") && text.contains("nothing confines commands"), "{text}");
}
