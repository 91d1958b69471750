//! What a command cannot use up: it tries, and is bounded or ended, and the next command runs.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use ticket_activities::{ExternalState, Failed, code};

use crate::world::{World, completed, eventually, failed, processes};

/// Doubles itself, ever again, until no process is given any more.
const BOMB: &str = "f() { f & f & sleep 57.735026; }; f & exec sleep 57.735026";
/// Doubles itself eleven times: two thousand processes, were they given.
const BOUNDED_BOMB: &str = "
import os, time
for _ in range(11):
    try:
        os.fork()
    except OSError:
        pass
time.sleep(57.735027)
";

/// Doubles itself every thirtieth of a second, each in a session of its own; and goes by itself, should nobody end it.
const SESSIONS: &str = "
import os, time
started = time.monotonic()
while time.monotonic() < started + 5:
    try:
        if os.fork() == 0:
            os.setsid()
    except OSError:
        pass
    time.sleep(0.03)
marker = 57.735029
";

/// Doubles itself seven times, each in a session of its own, deaf to TERM.
const BOUNDED_SESSIONS: &str = "
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(7):
    if os.fork() == 0:
        os.setsid()
time.sleep(57.735031)
";

/// Doubles itself as quickly as it can, each in a session of its own, and at a thousand goes on as others instead: whoever is
/// listed is gone before it is killed, and nobody else gets much of the processors. Goes by itself after eight seconds,
/// should nobody end it.
const RUNNERS: &str = "
import mmap, os, time
until = time.monotonic() + 8
# Of each process the half second in which it was last seen.
seen = mmap.mmap(-1, 1 << 16)
if os.fork() == 0:
    while time.monotonic() < until:
        now = int(time.monotonic() * 2) % 200 + 2
        seen[os.getpid() % len(seen)] = now
        recently = seen[:]
        running = recently.count(now) + recently.count(now - 1)
        try:
            for _ in range(1 if running > 1000 else 2):
                if os.fork() == 0:
                    os.setsid()
                    break
            else:
                os._exit(0)
        except OSError:
            pass
    os._exit(0)
time.sleep(8)
marker = 57.735030
";

/// Which cgroups commands get here; without any, a test that needs one says so.
async fn cgroup(world: &World) -> Option<String> {
    let done = completed(world.run(json!({ "command": "cat", "args": ["/proc/self/cgroup"] })).await);
    let version = done.report.metadata["sandbox"]["cgroup"].clone();
    if version == "none" {
        eprintln!("NOT TRIED: no cgroup can be made here");
        return None;
    }
    Some(done.report.output["stdout"].as_str().expect("text").to_owned())
}

fn is_over(failed: &Failed, setting: &str) {
    assert_eq!(failed.code, code::LIMIT_EXCEEDED, "{failed:?}");
    assert_eq!(failed.external_state, Some(ExternalState::ConfirmedStopped), "{failed:?}");
    assert!(failed.message.contains(setting), "{}", failed.message);
}

#[tokio::test]
async fn inc_75_a_fork_bomb_gets_no_more_processes_than_its_cgroup() {
    let world = World { time_left: Duration::from_secs(2), ..World::confined(|sandbox| sandbox.limits.processes = 40) };
    if cgroup(&world).await.is_none() {
        return;
    }
    let (outcome, most) = tokio::join!(world.sh(BOMB), async {
        let mut most = 0;
        for _ in 0..15 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            most = most.max(processes("57.735026").len());
        }
        most
    });
    let failed = failed(outcome);
    assert_eq!(failed.external_state, Some(ExternalState::ConfirmedStopped), "{failed:?}");
    // The supervisor is not in it, and has the command among its arguments.
    assert!((10..=41).contains(&most), "{most} processes at a time");
    assert!(failed.report.logs.iter().any(|line| line.contains("refused")), "{:?}", failed.report.logs);
    assert_eq!(processes("57.735026"), Vec::<i32>::new());
    world.still_works().await;
}

#[tokio::test]
async fn inc_75_a_fork_bomb_is_ended_where_there_is_no_cgroup() {
    let world = World::confined(|sandbox| (sandbox.cgroups, sandbox.limits.processes) = (false, 40));
    let started = Instant::now();
    let failed = failed(world.run(json!({ "command": "python3", "args": ["-c", BOUNDED_BOMB] })).await);
    is_over(&failed, "LOCAL_RUNTIME_MAX_PROCESSES");
    assert_eq!(failed.report.metadata["sandbox"]["cgroup"], "none");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert_eq!(processes("57.735027"), Vec::<i32>::new());
    world.still_works().await;
}

#[tokio::test]
async fn inc_75_a_fork_bomb_of_sessions_does_not_outrun_its_killer_where_there_is_no_cgroup() {
    let world = World::confined(|sandbox| (sandbox.cgroups, sandbox.limits.processes) = (false, 40));
    let started = Instant::now();
    let failed = failed(world.run(json!({ "command": "python3", "args": ["-c", SESSIONS] })).await);
    is_over(&failed, "LOCAL_RUNTIME_MAX_PROCESSES");
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert_eq!(processes("57.735029"), Vec::<i32>::new());
    world.still_works().await;
}

#[tokio::test]
async fn inc_75_a_fork_bomb_that_outruns_every_list_of_processes_is_killed_at_one_stroke_and_nobody_beside_it() {
    let world = World::confined(|sandbox| (sandbox.cgroups, sandbox.limits.processes) = (false, 40));
    if !world.is_full().await {
        return;
    }
    let mut beside = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().expect("started");
    let started = Instant::now();
    let failed = failed(world.run(json!({ "command": "python3", "args": ["-c", RUNNERS] })).await);
    is_over(&failed, "LOCAL_RUNTIME_MAX_PROCESSES");
    assert!(started.elapsed() < Duration::from_secs(7), "it ended by itself: {:?}", started.elapsed());
    assert_eq!(processes("57.735030"), Vec::<i32>::new());
    assert_eq!(beside.try_wait().expect("looked at"), None, "it was killed too");
    beside.kill().expect("killed");
    beside.wait().expect("collected");
    world.still_works().await;
}

#[tokio::test]
async fn a_tree_of_sessions_is_ended_where_nothing_scopes_signals() {
    let world = World { time_left: Duration::from_secs(1), ..World::unconfined() };
    let failed = failed(world.run(json!({ "command": "python3", "args": ["-c", BOUNDED_SESSIONS] })).await);
    assert_eq!((failed.code.as_str(), failed.external_state), (code::TIMEOUT, Some(ExternalState::ConfirmedStopped)));
    assert_eq!(processes("57.735031"), Vec::<i32>::new());
}

#[tokio::test]
async fn a_process_whose_first_thread_has_ended_is_ended_too() {
    let world = World { time_left: Duration::from_secs(1), ..World::new() };
    // Sits in a second thread; the first one leaves, and the process looks like a zombie.
    let script = "
import ctypes, threading, time
threading.Thread(target=lambda: time.sleep(57.735028)).start()
ctypes.CDLL(None).pthread_exit(None)
";
    let started = Instant::now();
    let failed = failed(world.run(json!({ "command": "python3", "args": ["-c", script] })).await);
    assert_eq!((failed.code.as_str(), failed.external_state), (code::TIMEOUT, Some(ExternalState::ConfirmedStopped)));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn inc_75_ten_gigabytes_into_one_file_end_at_its_limit() {
    let world = World::confined(|sandbox| sandbox.limits.file = 8 << 20);
    let args = ["if=/dev/zero", "of=big", "bs=1M", "count=10000"];
    let outcome = world.run(json!({ "command": "dd", "args": args, "working_dir": "kept" })).await;
    is_over(&failed(outcome), "LOCAL_RUNTIME_MAX_FILE_SIZE_MB");
    assert_eq!(std::fs::metadata(world.path("root/kept/big")).expect("written").len(), 8 << 20);
    world.still_works().await;
}

#[tokio::test]
async fn inc_75_ten_gigabytes_in_many_files_end_at_the_limit_of_the_folder() {
    let world = World::confined(|sandbox| (sandbox.limits.file, sandbox.limits.folder) = (8 << 20, 32 << 20));
    let script =
        "i=0; while [ $i -lt 2500 ]; do dd if=/dev/zero of=f$i bs=4M count=1 2>/dev/null; sleep 0.02; i=$((i+1)); done";
    is_over(&failed(world.sh(script).await), "LOCAL_RUNTIME_MAX_FOLDER_SIZE_MB");
    world.still_works().await;
}

#[tokio::test]
async fn a_folder_that_is_too_deep_to_be_measured_is_over_its_limit_and_is_removed() {
    let world = World::new();
    let script = "
import os, time
for _ in range(20000):
    os.mkdir('deep')
    os.chdir('deep')
time.sleep(30)
";
    is_over(&failed(world.run(json!({ "command": "python3", "args": ["-c", script] })).await), "FOLDER_SIZE");
    assert_eq!(std::fs::read_dir(world.path("root")).expect("there").count(), 0, "the folder is gone");
    world.still_works().await;
}

#[tokio::test]
async fn inc_75_one_process_gets_no_more_memory_than_the_limit() {
    let world = World::confined(|sandbox| sandbox.limits.memory = 96 << 20);
    let script = "import json\ntry:\n    bytearray(1 << 30)\n    print(1)\nexcept MemoryError:\n    print(0)";
    assert_eq!(world.python(script, &[]).await, json!(0));
    world.still_works().await;
}

/// Four processes of 60 MiB each.
const HOGS: &str = "
import os, sys, time
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        hog = bytearray(60 << 20)
        time.sleep(5)
        os._exit(0)
    children.append(child)
sys.exit(1 if any(os.waitpid(child, 0)[1] for child in children) else 0)
";

#[tokio::test]
async fn inc_75_a_tree_gets_no_more_memory_than_its_cgroup() {
    let world = World::confined(|sandbox| sandbox.limits.memory = 128 << 20);
    if cgroup(&world).await.is_none() {
        return;
    }
    let failed = failed(world.run(json!({ "command": "python3", "args": ["-c", HOGS] })).await);
    assert_eq!(failed.code, code::LIMIT_EXCEEDED, "{failed:?}");
    assert!(failed.message.contains("LOCAL_RUNTIME_MEMORY_LIMIT_MB"), "{}", failed.message);
    world.still_works().await;
}

#[tokio::test]
async fn inc_75_a_tree_that_takes_too_much_memory_is_ended_where_there_is_no_cgroup() {
    let world = World::confined(|sandbox| (sandbox.cgroups, sandbox.limits.memory) = (false, 128 << 20));
    let started = Instant::now();
    is_over(
        &failed(world.run(json!({ "command": "python3", "args": ["-c", HOGS] })).await),
        "LOCAL_RUNTIME_MEMORY_LIMIT_MB",
    );
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    world.still_works().await;
}

#[tokio::test]
async fn a_command_opens_no_more_files_than_the_limit_and_raises_none() {
    let world = World::confined(|sandbox| sandbox.limits.open_files = 50);
    let script = "
import json, resource
files = []
try:
    while len(files) < 1000:
        files.append(open('/dev/null'))
except OSError:
    pass
count = len(files)
files.clear()
raised = []
for name in ('RLIMIT_NOFILE', 'RLIMIT_FSIZE', 'RLIMIT_DATA', 'RLIMIT_CORE'):
    try:
        resource.setrlimit(getattr(resource, name), (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        raised.append(name)
    except (OSError, ValueError):
        pass
print(json.dumps([count < 50, raised]))
";
    assert_eq!(world.python(script, &[]).await, json!([true, []]));
}

#[tokio::test]
async fn a_command_gives_way_to_the_worker_and_leaves_no_core() {
    let script = "
import json, os, resource
print(json.dumps([open('/proc/self/oom_score_adj').read().strip(), os.nice(0), resource.getrlimit(resource.RLIMIT_CORE)]))
";
    // A limit of 1 is what keeps the kernel from piping a core to a service.
    assert_eq!(World::new().python(script, &[]).await, json!(["1000", 10, [1, 1]]));
}

/// Folders of cgroups in the text of `/proc/self/cgroup` that are a command's own.
fn groups(cgroup: &str) -> Vec<PathBuf> {
    let own = cgroup.lines().filter(|line| line.contains("/worker-agents-"));
    own.filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
        let roots =
            ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", &format!("/sys/fs/cgroup/{controllers}")].map(PathBuf::from);
        roots
            .into_iter()
            .map(|root| root.join(path))
            .find(|folder| folder.parent().is_some_and(|it| it.join("cgroup.procs").exists()))
    })
    .collect()
}

#[tokio::test]
async fn a_commands_cgroup_is_removed_with_it_and_those_of_lost_workers_are_swept() {
    let world = World::new();
    let Some(said) = cgroup(&world).await else { return };
    let own = groups(&said);
    assert!(!own.is_empty(), "{said}");
    let bounds = completed(world.sh("true").await).report.metadata["sandbox"]["cgroup_bounds"].clone();
    assert!(bounds.as_array().is_some_and(|bounds| !bounds.is_empty() && bounds.len() >= own.len()), "{bounds}");
    for folder in &own {
        assert!(!folder.exists(), "{} is left", folder.display());
    }
    // A process that has ended and been collected, as a worker's would be, and one it left behind.
    let mut gone = Command::new("true").spawn().expect("started");
    gone.wait().expect("collected");
    let base = own[0].parent().expect("a parent");
    let stale = base.join(format!("worker-agents-{}-0", gone.id()));
    std::fs::create_dir(&stale).expect("a group");
    let mut orphan = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().expect("started");
    std::fs::write(stale.join("cgroup.procs"), orphan.id().to_string()).expect("joined");
    let _next = World::new();
    orphan.wait().expect("it was killed");
    let _after = World::new();
    eventually("the group is gone", || !stale.exists()).await;
}
