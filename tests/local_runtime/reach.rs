//! What a command cannot reach: it tries, and the kernel refuses.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use ticket_activities::code;
use ticket_activities::sandbox::Network;

use crate::world::{World, completed, failed, missing};

/// Runs the rest of its text on each thing it tries, and prints the error number of each; 0: it worked.
const TRY: &str = "
import ctypes, errno, json, os, signal, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
result = {}
def attempt(name, action):
    try:
        action()
        result[name] = 0
    except OSError as error:
        result[name] = error.errno
def call(name, number, *arguments):
    ctypes.set_errno(0)
    result[name] = ctypes.get_errno() if libc.syscall(number, *arguments) == -1 else 0
";

async fn tried(world: &World, attempts: &str, arguments: &[&str]) -> BTreeMap<String, i64> {
    let said = world.python(&format!("{TRY}{attempts}\nprint(json.dumps(result))"), arguments).await;
    let numbers = said.as_object().expect("an object").iter();
    numbers.map(|(name, number)| (name.clone(), number.as_i64().expect("a number"))).collect()
}

/// Each of the attempts came to `error`, and there was one.
#[track_caller]
fn all(found: &BTreeMap<String, i64>, error: Errno) {
    let wrong: BTreeMap<_, _> = found.iter().filter(|(_, number)| **number != error as i64).collect();
    assert!(!found.is_empty() && wrong.is_empty(), "not {error}: {wrong:?}");
}

#[tokio::test]
async fn inc_75_a_command_reads_no_file_outside_its_folder() {
    let world = World::new();
    if !world.is_full().await {
        return;
    }
    let other = world.path("root/ticket-other-1/secret");
    std::fs::create_dir_all(other.parent().expect("a folder")).expect("another ticket's folder");
    std::fs::write(&other, "of another ticket").expect("written");
    let worker = format!("/proc/{}/environ", std::process::id());
    let paths = [
        "/etc/shadow",
        &worker,
        "/proc/1/cmdline",
        "/proc/1/environ",
        "/sys/kernel",
        "/var/log",
        "/root",
        "/tmp",
        "/",
        "/proc",
        concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        other.to_str().expect("text"),
        "../ticket-other-1/secret",
        "..",
    ];
    let attempts = "
def read(path):
    if os.path.isdir(path):
        os.listdir(path)
    else:
        open(path).read(1)
for number, path in enumerate(sys.argv[1:]):
    attempt(path, lambda: read(path))
    os.symlink(path, f'link{number}')
    attempt('a link to ' + path, lambda: read(f'link{number}'))
attempt('its supervisor', lambda: read(f'/proc/{os.getppid()}/environ'))
";
    let found = tried(&world, attempts, &paths).await;
    assert_eq!(found.len(), 2 * paths.len() + 1);
    all(&found, Errno::EACCES);
    world.still_works().await;
}

#[tokio::test]
async fn inc_75_a_command_writes_no_file_outside_its_folder() {
    let world = World::new();
    if !world.is_full().await {
        return;
    }
    let outside = world.path("outside");
    std::fs::create_dir(&outside).expect("a folder");
    std::fs::write(outside.join("file"), "untouched").expect("written");
    let attempts = "
there = sys.argv[1]
file = there + '/file'
attempt('new', lambda: open(there + '/new', 'w'))
attempt('new of all', lambda: open('/tmp/worker-agents-sandbox-test', 'w'))
attempt('beside', lambda: open('../beside', 'w'))
attempt('open', lambda: open(file, 'r+'))
attempt('truncate', lambda: os.truncate(file, 0))
attempt('unlink', lambda: os.unlink(file))
attempt('mkdir', lambda: os.mkdir(there + '/folder'))
attempt('symlink', lambda: os.symlink('/etc', there + '/link'))
attempt('shared memory', lambda: open('/dev/shm/worker-agents-sandbox-test', 'w'))
os.symlink(there, 'link')
attempt('through a link', lambda: open('link/new', 'w'))
attempt('kernel', lambda: open('/proc/sys/kernel/core_pattern', 'w'))
attempt('own oom score', lambda: open('/proc/self/oom_score_adj', 'w'))
";
    let found = tried(&world, attempts, &[outside.to_str().expect("text")]).await;
    all(&found, Errno::EACCES);
    let moving = "
file = sys.argv[1] + '/file'
open('own', 'w').write('x')
attempt('rename in', lambda: os.rename(file, 'stolen'))
attempt('rename out', lambda: os.rename('own', sys.argv[1] + '/own'))
attempt('hard link', lambda: os.link(file, 'linked'))
";
    let found = tried(&world, moving, &[outside.to_str().expect("text")]).await;
    let refused = [Errno::EXDEV as i64, Errno::EACCES as i64];
    assert!(found.len() == 3 && found.values().all(|number| refused.contains(number)), "{found:?}");
    assert_eq!(std::fs::read_to_string(outside.join("file")).expect("there"), "untouched");
    assert_eq!(std::fs::read_dir(&outside).expect("there").count(), 1);
    world.still_works().await;
}

#[tokio::test]
async fn inc_75_a_command_opens_no_socket_of_any_kind() {
    let world = World::new();
    if !world.is_full().await {
        return;
    }
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a listener");
    tcp.set_nonblocking(true).expect("nonblocking");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    udp.set_nonblocking(true).expect("nonblocking");
    let name = format!("worker-agents-test-{}", std::process::id());
    let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).expect("a name")).expect("bound");
    let path = world.path("agent.sock");
    let _pathname = UnixListener::bind(&path).expect("bound");
    let attempts = "
def connect(family, kind, address):
    socket.socket(family, kind).connect(address)
tcp, udp, name, path = sys.argv[1:]
attempt('tcp', lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ('127.0.0.1', int(tcp))))
attempt('udp', lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', int(udp))))
attempt('ipv6', lambda: connect(socket.AF_INET6, socket.SOCK_STREAM, ('::1', int(tcp))))
attempt('listen', lambda: socket.socket().bind(('127.0.0.1', 0)))
attempt('abstract', lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, '\\0' + name))
attempt('agent', lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, path))
attempt('netlink', lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
attempt('packet', lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
attempt('vsock', lambda: socket.socket(40, socket.SOCK_STREAM, 0))
attempt('kernel crypto', lambda: socket.socket(38, socket.SOCK_SEQPACKET, 0))
";
    let port = |address: std::io::Result<std::net::SocketAddr>| address.expect("an address").port().to_string();
    let (tcp_port, udp_port) = (port(tcp.local_addr()), port(udp.local_addr()));
    let arguments = [&tcp_port, &udp_port, &name, path.to_str().expect("text")];
    all(&tried(&world, attempts, &arguments).await, Errno::EPERM);
    assert!(tcp.accept().is_err() && udp.recv(&mut [0; 1]).is_err(), "something came through");
    let listener = world.path("log.sock");
    let log = UnixDatagram::bind(&listener).expect("bound");
    log.set_nonblocking(true).expect("nonblocking");
    let sending = "
def send(flags):
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | flags)
    a.sendto(b'x', sys.argv[1])
attempt('datagram of a pair', lambda: send(0))
attempt('datagram of a pair with flags', lambda: send(socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK))
";
    all(&tried(&world, sending, &[listener.to_str().expect("text")]).await, Errno::EPERM);
    assert!(log.recv(&mut [0; 1]).is_err(), "something came through");
    // A pair of its own leads nowhere: node's pipes are that.
    let own =
        world.python(&format!("{TRY}\na, b = socket.socketpair()\na.send(b'x')\nprint(len(b.recv(1)))"), &[]).await;
    assert_eq!(own, json!(1));
    world.still_works().await;
}

#[tokio::test]
async fn with_the_hosts_network_a_command_connects_and_other_families_and_abstract_sockets_stay_shut() {
    let full = World::new();
    if !full.is_full().await {
        return;
    }
    let world = World::confined(|sandbox| sandbox.network = Network::Host);
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = tcp.local_addr().expect("an address").port().to_string();
    let name = format!("worker-agents-test-host-{}", std::process::id());
    let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).expect("a name")).expect("bound");
    let attempts = "
attempt('tcp', lambda: socket.create_connection(('127.0.0.1', int(sys.argv[1]))))
attempt('abstract', lambda: socket.socket(socket.AF_UNIX).connect('\\0' + sys.argv[2]))
attempt('packet', lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
attempt('vsock', lambda: socket.socket(40, socket.SOCK_STREAM, 0))
";
    let mut found = tried(&world, attempts, &[&port, &name]).await;
    assert_eq!(found.remove("tcp"), Some(0));
    all(&found, Errno::EPERM);
    let done = completed(world.run(json!({ "command": "true" })).await);
    let sandbox = &done.report.metadata["sandbox"];
    assert_eq!(
        *sandbox,
        json!({ "level": "partial", "landlock_abi": 6, "seccomp": true, "network": "host",
                                 "missing": missing(["network"]), "cgroup": sandbox["cgroup"], "cgroup_bounds": sandbox["cgroup_bounds"] })
    );
}

#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn inc_75_a_command_cannot_trace_mount_or_make_namespaces() {
    let world = World::new();
    if !world.is_full().await {
        return;
    }
    // Numbers of x86_64.
    let attempts = "
parent = os.getppid()
call('ptrace attach', 101, 16, parent, 0, 0)
call('ptrace traceme', 101, 0, 0, 0, 0)
call('process_vm_readv', 310, parent, 0, 0, 0, 0, 0)
call('process_vm_writev', 311, parent, 0, 0, 0, 0, 0)
call('pidfd_getfd', 438, 0, 0, 0)
call('mount', 165, b'none', b'/tmp', b'tmpfs', 0, 0)
call('umount', 166, b'/proc', 0)
call('fsopen', 430, b'tmpfs', 0)
call('pivot_root', 155, b'.', b'.')
call('chroot', 161, b'.')
call('setns', 308, 0, 0)
call('unshare user', 272, 0x10000000)
call('unshare files', 272, 0x400)
call('clone user', 56, 0x10000000 | 17, 0, 0, 0, 0)
call('clone net', 56, 0x40000000 | 17, 0, 0, 0, 0)
call('bpf', 321, 0, 0, 0)
call('perf_event_open', 298, 0, 0, 0, 0, 0)
call('userfaultfd', 323, 0)
call('io_uring_setup', 425, 1, 0)
call('keyctl', 250, 0, 0)
call('add_key', 248, 0, 0, 0, 0, 0)
call('kexec_load', 246, 0, 0, 0, 0)
call('init_module', 175, 0, 0, 0)
call('open_by_handle_at', 304, 0, 0, 0)
call('settimeofday', 164, 0, 0)
call('swapoff', 168, b'/swap')
call('personality', 135, 0x0040000)
call('memfd_create', 319, b'x', 0)
call('shmget', 29, 0, 4096, 0o1600)
call('mq_open', 240, b'x', 0o102, 0o600, 0)
call('shmat', 30, 0, 0, 0o10000)
call('shmctl', 31, 0, 2, 0)
call('semctl', 66, 0, 0, 0)
call('msgrcv', 70, 0, 0, 0, 0, 0)
call('mq_unlink', 241, b'x')
open('set', 'w').close()
call('setuid', 90, b'set', 0o4755)
call('setgid', 268, -100, b'set', 0o2755, 0)
call('setuid when made', 257, -100, b'new', 0o101, 0o4755)
call('limits of its supervisor', 302, parent, 7, 0, 0)
call('priority of all of the user', 141, 2, 0, 19)
call('priority of its supervisor', 141, 0, parent, 19)
call('processors of its supervisor', 203, parent, 8, b'\\1' + b'\\0' * 7)
";
    all(&tried(&world, attempts, &[]).await, Errno::EPERM);
    // Unknown, so that C libraries use what can be filtered; and x32, which is the same calls by other numbers.
    let unknown =
        "call('clone3', 435, 0, 0)\ncall('x32', 0x40000000 + 39)\ncall('x32 ptrace', 0x40000000 + 521, 0, 0, 0, 0)";
    all(&tried(&world, unknown, &[]).await, Errno::ENOSYS);
    let own = "
open('own', 'w').close()
call('its own priority', 141, 0, 0, 15)
call('its own file', 90, b'own', 0o755)
call('which personality', 135, 0xffffffff)
child = os.fork()
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
";
    assert!(tried(&world, own, &[]).await.values().all(|number| *number == 0), "what programs need");
    world.still_works().await;
}

#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn inc_75_a_command_that_calls_as_a_32_bit_program_is_killed() {
    let world = World::new();
    if !world.is_full().await {
        return;
    }
    // getpid of 32-bit programs: mov eax, 20; int 0x80; ret.
    let script = "
import ctypes, json, mmap, os
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex('b814000000cd80c3'))
child = os.fork()
if child == 0:
    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
    os._exit(0)
_, status = os.waitpid(child, 0)
print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)
";
    let signal = world.python(script, &[]).await;
    // A kernel without 32-bit calls knows no such instruction.
    assert!([Signal::SIGSYS, Signal::SIGSEGV].iter().any(|killed| signal == json!(*killed as i32)), "{signal}");
    world.still_works().await;
}

#[tokio::test]
async fn inc_75_a_command_signals_neither_worker_nor_supervisor_nor_other_commands() {
    let world = World::new();
    if !world.is_full().await {
        return;
    }
    let mut victim = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().expect("a victim");
    let attempts = "
worker, victim = int(sys.argv[1]), int(sys.argv[2])
attempt('worker', lambda: os.kill(worker, 0))
attempt('supervisor', lambda: os.kill(os.getppid(), signal.SIGKILL))
attempt('supervisor, politely', lambda: os.kill(os.getppid(), signal.SIGTERM))
attempt('victim', lambda: os.kill(victim, signal.SIGKILL))
attempt('its group', lambda: os.killpg(os.getpgid(victim), 0))
";
    let (worker, other) = (std::process::id().to_string(), victim.id().to_string());
    let found = tried(&world, attempts, &[&worker, &other]).await;
    assert_eq!(victim.try_wait().expect("looked at"), None, "the victim lives");
    victim.kill().expect("killed");
    victim.wait().expect("collected");
    all(&found, Errno::EPERM);
    let own = "
child = os.fork()
if child == 0:
    signal.pause()
attempt('its own child', lambda: os.kill(child, signal.SIGKILL))
os.waitpid(child, 0)
";
    assert_eq!(tried(&world, own, &[]).await, BTreeMap::from([("its own child".to_owned(), 0)]));
    world.still_works().await;
}

#[tokio::test]
async fn inc_75_a_command_has_no_capabilities_and_gets_none_back() {
    let done = completed(World::new().run(json!({ "command": "cat", "args": ["/proc/self/status"] })).await);
    let status = done.report.output["stdout"].as_str().expect("text").to_owned();
    let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).map(str::to_owned);
    for name in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(value(name).as_deref(), Some("0000000000000000"), "{name}");
    }
    assert_eq!(value("NoNewPrivs:").as_deref(), Some("1"));
    assert_eq!(value("Seccomp:").as_deref(), Some("2"));
}

#[tokio::test]
async fn inc_75_code_that_a_ticket_brings_is_not_loaded_into_its_command() {
    let world = World::new();
    for name in ["LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH"] {
        let outcome = world.run(json!({ "command": "true", "env_vars": { name: "./x.so" } })).await;
        assert_eq!(failed(outcome).code, code::INVALID_PARAMETERS, "{name}");
    }
    world.still_works().await;
}

/// The stage itself, as a supervisor starts it; what it says.
fn confine(policy: &Value, folder: &std::path::Path) -> Vec<Value> {
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    ours.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    let mut child = Command::new(env!("CARGO_BIN_EXE_worker-agents"))
        .args(["confine", "--policy", &policy.to_string(), "--", "/usr/bin/touch", "ran"])
        .current_dir(folder)
        .stdin(std::os::fd::OwnedFd::from(theirs))
        .spawn()
        .expect("started");
    let mut said = String::new();
    ours.read_to_string(&mut said).expect("an answer");
    child.wait().expect("collected");
    said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_command_whose_folder_was_replaced_by_a_link_does_not_run() {
    let world = tempfile::tempdir().expect("folder");
    let (folder, other) = (world.path().join("folder"), world.path().join("other"));
    std::fs::create_dir(&other).expect("folder");
    std::os::unix::fs::symlink(&other, &folder).expect("link");
    let limits = json!({ "memory": 1u64 << 30, "processes": 10, "file": 1000, "folder": 1000, "open_files": 100 });
    let policy = |folder: &std::path::Path, demanded: &str| json!({ "folder": folder, "readable": [], "network": "none", "limits": limits, "cgroups": [], "demanded": demanded });
    let said = confine(&policy(&folder, "none"), &folder);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0]["answer"] == "failed" && said[0]["error"].as_str().expect("text").contains("the working folder"));
    assert!(!other.join("ran").exists());
    let said = confine(&policy(&other, "none"), &other);
    assert_eq!((said.len(), &said[0]["answer"]), (1, &json!("confined")), "{said:?}");
    assert!(other.join("ran").exists());
    for wrong in [json!({}), json!({ "folder": other, "network": "all" })] {
        assert_eq!(confine(&wrong, &other)[0]["answer"], "failed");
    }
}
