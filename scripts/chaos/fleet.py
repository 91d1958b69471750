"""The workers: processes of one consumer group. Whichever ends is started again; why it ended is counted."""

import random
import signal
import subprocess
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

# Between two starts of a worker that ended by itself: its peers may be away.
RESTART_SECONDS = 1.0
# The least that a broker grants by default.
SESSION_TIMEOUT_MS = 6000
# Infrastructure away at the start; every other end that nobody asked for is a defect.
EXIT_NO_PEER = 3
KILL_AT = "WORKER_AGENTS_KILL_AT"
GROUP = "worker-agents"
# Points of what a chaos run does not have: whoever runs external work, and what that leaves behind.
NOT_HERE = ("docker.", "kubernetes.", "lambda.", "aws.", "code_forge.", "temporal.run_ended.")
# Why a worker ended, when the harness saw to it.
KILLED, TOLD, AT_FAILPOINT = "killed", "told to end", "failpoint "


@dataclass
class Arm:
    """A failpoint that waits for a worker to start, and to die there."""

    point: str
    # The pass at which it dies.
    passes: int
    hit: threading.Event = field(default_factory=threading.Event)


@dataclass
class Worker:
    """A place in the fleet and the process that holds it."""

    name: str
    process: subprocess.Popen[bytes] | None = None
    # Why it is about to end, once somebody has seen to that.
    ending: str | None = None
    # The failpoint at which it kills itself.
    armed: Arm | None = None
    frozen: bool = False
    not_before: float = 0.0

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


@dataclass
class Fleet:
    """Keeps `size` workers running."""

    binary: Path
    folder: Path
    size: int
    environment: dict[str, str]
    ends: Counter[str] = field(default_factory=Counter)
    # For the next that start.
    arms: deque[Arm] = field(default_factory=deque)
    unexpected: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._workers = [Worker(f"worker-{number}") for number in range(self.size)]
        self._guests = 0
        self._watching = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Starts all, and keeps them running from now on."""
        self._watcher.start()

    def failpoints(self) -> list[str]:
        """The named points of this build that these workers come to; none when it has none."""
        asked = subprocess.run([str(self.binary), "failpoints"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        points = asked.stdout.split() if asked.returncode == 0 else []
        return [point for point in points if not point.startswith(NOT_HERE)]

    def doctor(self) -> str | None:
        """Lets the worker prepare the namespace; answers with what it says when that fails."""
        command = [str(self.binary), "doctor", "--fix"]
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=self.environment, cwd=self.folder
        )
        return None if done.returncode == 0 else done.stdout + done.stderr

    def ready(self) -> bool:
        """Whether every worker consumes or stands by."""
        with self._lock:
            return all(worker.alive and self._started(worker) for worker in self._workers)

    def _started(self, worker: Worker) -> bool:
        return '"worker_started"' in self._log(worker).read_text(errors="replace")

    def _log(self, worker: Worker) -> Path:
        return self.folder / f"{worker.name}.log"

    def _watch(self) -> None:
        while not self._watching.wait(0.05):
            with self._lock:
                for worker in self._workers:
                    if not worker.alive:
                        self._collect(worker)
                        if time.monotonic() >= worker.not_before:
                            self._spawn(worker)

    def _spawn(self, worker: Worker) -> None:
        worker.armed = self.arms.popleft() if self.arms else None
        environment = {**self.environment, "AGENT_ID": f"{worker.name}-{time.monotonic_ns()}"}
        if worker.armed:
            environment[KILL_AT] = f"{worker.armed.point}:{worker.armed.passes}"
        with self._log(worker).open("ab") as log:
            worker.process = subprocess.Popen(
                [str(self.binary), "run"], env=environment, cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )

    def _collect(self, worker: Worker) -> None:
        """Notes why a process ended."""
        if worker.process is None:
            return
        code = worker.process.returncode
        if worker.armed and code == -signal.SIGKILL and worker.ending != KILLED:
            self.ends[AT_FAILPOINT + worker.armed.point] += 1
            worker.armed.hit.set()
        elif worker.ending:
            self.ends[worker.ending] += 1
        elif code == EXIT_NO_PEER:
            self.ends["no peer at the start"] += 1
            worker.not_before = time.monotonic() + RESTART_SECONDS
        else:
            self.ends["unexpected"] += 1
            self.unexpected.append(f"{worker.name} ended with {code}: {self._last_line(worker)}")
            worker.not_before = time.monotonic() + RESTART_SECONDS
        if worker.armed and not worker.armed.hit.is_set():
            # Another gets it, for the first pass: there may not be a second.
            self.arms.append(Arm(worker.armed.point, 1, worker.armed.hit))
        worker.process, worker.ending, worker.armed, worker.frozen = None, None, None, False

    def _last_line(self, worker: Worker) -> str:
        lines = self._log(worker).read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "no output"

    def _pick(self, rng: random.Random) -> Worker | None:
        able = [w for w in self._workers if w.alive and not w.frozen and not w.ending]
        return rng.choice(able) if able else None

    def kill_one(self, rng: random.Random) -> str:
        """kill -9."""
        return self._signal_one(rng, signal.SIGKILL, KILLED)

    def arm_one(self, rng: random.Random, arm: Arm) -> str:
        """Ends a worker in good order; the next one that starts kills itself at this point."""
        with self._lock:
            self.arms.append(arm)
            return self._signal_one(rng, signal.SIGTERM, TOLD)

    def recall(self, arm: Arm) -> None:
        """Ends the worker that has not come to this point, in good order: it may lie on that way."""
        with self._lock:
            for worker in self._workers:
                if worker.armed and worker.armed.hit is arm.hit and worker.alive and worker.process is not None:
                    worker.ending = worker.ending or TOLD
                    worker.process.send_signal(signal.SIGTERM)

    def holds(self, arm: Arm) -> bool:
        """Whether a worker that has started and is not to end is under this order."""
        with self._lock:
            return any(
                worker.armed is not None and worker.armed.hit is arm.hit and worker.alive and not worker.ending
                for worker in self._workers
            )

    def disarm(self, arm: Arm) -> None:
        """No worker that starts gets it any more."""
        with self._lock:
            self.arms = deque(other for other in self.arms if other.hit is not arm.hit)

    def _signal_one(self, rng: random.Random, number: signal.Signals, reason: str) -> str:
        with self._lock:
            worker = self._pick(rng)
            if worker is None or worker.process is None:
                return "nobody was there"
            worker.ending = reason
            worker.process.send_signal(number)
            return worker.name

    def freeze_one(self, rng: random.Random) -> Worker | None:
        """Stops one; `thaw` lets it go on."""
        with self._lock:
            worker = self._pick(rng)
            if worker is not None and worker.process is not None:
                worker.frozen = True
                worker.process.send_signal(signal.SIGSTOP)
            return worker

    def thaw(self, worker: Worker) -> None:
        """Lets a frozen worker go on."""
        with self._lock:
            if worker.alive and worker.process is not None:
                worker.process.send_signal(signal.SIGCONT)
            worker.frozen = False

    def join(self) -> Worker:
        """A further member."""
        with self._lock:
            self._guests += 1
            worker = Worker(f"guest-{self._guests}")
            self._workers.append(worker)
            self._spawn(worker)
            return worker

    def leave(self, worker: Worker) -> None:
        """A further member goes, in good order."""
        with self._lock:
            self._workers.remove(worker)
            worker.ending = worker.ending or "left"
        self._end(worker)

    def _end(self, worker: Worker) -> None:
        if worker.process is None:
            return
        if worker.alive:
            worker.process.send_signal(signal.SIGCONT)
            worker.process.terminate()
            try:
                worker.process.wait(20)
            except subprocess.TimeoutExpired:
                self.unexpected.append(f"{worker.name} did not end within 20 s of TERM")
                worker.process.kill()
                worker.process.wait()
        with self._lock:
            self._collect(worker)

    def stop(self) -> None:
        """Ends all in good order."""
        self._watching.set()
        if self._watcher.is_alive():
            self._watcher.join()
        for worker in self._workers:
            worker.ending = worker.ending or "stopped"
            if worker.alive and worker.process is not None:
                worker.process.send_signal(signal.SIGCONT)
                worker.process.terminate()
        for worker in self._workers:
            self._end(worker)


def environment(folder: Path, kafka: str, registry: str, temporal: str) -> dict[str, str]:
    """Settings of the workers, and nothing of this process's environment."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "KAFKA_SCHEMA_REGISTRY_URL": registry,
        "KAFKA_CONSUMER_GROUP_ID": GROUP,
        "KAFKA_SESSION_TIMEOUT_MS": str(SESSION_TIMEOUT_MS),
        "KAFKA_FETCH_WAIT_MAX_MS": "50",
        # Copies of a result must have equal bytes, so there is one encoding.
        "RESULT_ENCODING": "avro",
        "TEMPORAL_ADDRESS": temporal,
        "MAX_CONCURRENT_TICKETS": "2000",
        "HTTP_BIND": "127.0.0.1",
        "HTTP_PORT": "0",
        "PROMETHEUS_PORT": "0",
        "LOG_FORMAT": "json",
        "SHUTDOWN_GRACE_SECONDS": "1",
        "LOCAL_RUNTIME_KILL_GRACE_SECONDS": "1",
        "LOCAL_RUNTIME_ALLOWED_COMMANDS": "true,echo,sh",
        "LOCAL_RUNTIME_WORKING_DIR": str(folder / "commands"),
    }
