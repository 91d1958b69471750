"""Everything that a run needs, in one folder: the peers, the workers, a publisher; and how a run begins, comes to rest, is
judged and leaves nothing behind."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from confluent_kafka import KafkaException

import wire
from canceller import Canceller
from fleet import GROUP, Fleet, environment
from publisher import Publisher
from reading import DEAD_LETTERS, RESULTS, TICKETS, Topics, count_runs
from settings import Settings, Skip, Unusable
from stack import SKIPPED, Broken, Kafka, Registry, Temporal, wait_until

HERE = Path(__file__).resolve().parent
PARTITIONS = 6
# Results must not grow for so long.
REST_SECONDS = 4.0
# Supervisors of a killed worker's commands end by themselves.
ORPHAN_SECONDS = 8.0
# The dev server remembers tickets for a day: the topic must not remember them for longer.
KEPT_MS = 12 * 3600 * 1000
# A segment is kept as a whole, so its records may become older by so much.
SEGMENT_MS = 3600 * 1000
# What the contract gives the dead-letter topic.
DEAD_LETTER_BYTES = 2 * 1024 * 1024


def say(text: str) -> None:
    """To the person who watches; standard output is for counts."""
    print(f"chaos: {text}", file=sys.stderr, flush=True)


def count(name: str, value: int) -> None:
    """A line in the oracle's form."""
    print(json.dumps({"name": name, "value": value}), flush=True)


def register(registry: str, subject: str, schema: str) -> int:
    """The id of a schema."""
    body = json.dumps({"schema": schema}).encode()
    request = urllib.request.Request(
        f"{registry}/subjects/{subject}/versions", body, {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return int(json.load(answer)["id"])


def processes_of(binary: Path) -> list[int]:
    """Processes that run this very file, which only this run's workers and their supervisors do."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and os.readlink(entry / "exe") == str(binary):
                found.append(int(entry.name))
    return found


class Stage:
    """The peers and the workers of one run."""

    def __init__(
        self, settings: Settings, folder: Path, cleanup: contextlib.ExitStack, of_workers: dict[str, str] | None = None
    ) -> None:
        """Starts the peers, prepares them, and starts the workers, `of_workers` being settings of theirs."""
        self.settings, self.folder = settings, folder
        # What the oracle cannot see.
        self.defects: list[str] = []
        wire.check_schema()
        self.kafka = Kafka(settings, folder)
        cleanup.callback(self.kafka.stop)
        self.kafka.create_topics(
            f"{TICKETS}:{PARTITIONS}:retention.ms={KEPT_MS},segment.ms={SEGMENT_MS}", f"{RESULTS}:3",
            f"{DEAD_LETTERS}:3:max.message.bytes={DEAD_LETTER_BYTES}", "sre.alerts:1",
        )
        self.registry = Registry(settings, folder)
        cleanup.callback(self.registry.stop)
        self.temporal = Temporal(settings, folder)
        cleanup.callback(self.temporal.stop)
        self.topics = Topics(self.kafka.bootstrap)
        say(f"Kafka at {self.kafka.bootstrap}, registry at {self.registry.url}, Temporal at {self.temporal.address}")

        # A copy: a build meanwhile must not change what is tried, and its path tells our processes from others.
        self.binary = folder / "worker-agents"
        shutil.copy(settings.worker, self.binary)
        environs = environment(folder, self.kafka.bootstrap, self.registry.url, self.temporal.address)
        self.fleet = Fleet(self.binary, folder, settings.workers, {**environs, **(of_workers or {})})
        if (trouble := self.fleet.doctor()) is not None:
            raise Broken(f"`worker-agents doctor --fix` failed: {trouble.strip()}")
        cleanup.callback(self.fleet.stop)
        self.fleet.start()
        wait_until("the start of all workers", self.fleet.ready)
        say(f"{settings.workers} workers run")

        self.journal = folder / "journal.jsonl"
        self.canceller = Canceller(self.temporal)
        cleanup.callback(self.canceller.stop)
        self.publisher = Publisher(self.kafka.bootstrap, self.journal, self.canceller.add)
        cleanup.callback(self.publisher.stop)
        self.schema_id = register(self.registry.url, f"{TICKETS}-value", wire.SCHEMA_TEXT)

    def left(self) -> tuple[int, int]:
        """Records that are not committed, and workflows that are open."""
        ends = self.topics.end_offsets(TICKETS)
        lag = sum(ends.values()) - sum(self.topics.committed(GROUP, TICKETS, ends).values())
        return lag, count_runs(self.temporal.address, self.temporal.cli, "ExecutionStatus = 'Running'")

    def settle(self) -> None:
        """Waits until nothing is left to do, as long as that may take; whatever is left then, the oracle will find."""
        began = time.monotonic()
        deadline = began + self.settings.settle_seconds
        self.canceller.finish(self.settings.settle_seconds)
        written, since, told = -1, began, began
        while time.monotonic() < deadline:
            lag, running = self.left()
            now = time.monotonic()
            total = sum(sum(self.topics.end_offsets(topic).values()) for topic in (RESULTS, DEAD_LETTERS))
            if total != written or lag or running:
                written, since = total, now
            if now - since >= REST_SECONDS:
                say(f"at rest after {now - began:.1f} s")
                return
            if now - told >= 10:
                say(f"waiting: lag {lag}, {running} open workflows")
                told = now
            time.sleep(1)
        say(f"no rest within {self.settings.settle_seconds:g} s")

    def end_workers(self) -> None:
        """Ends all workers in good order; nothing of theirs may be left."""
        self.fleet.stop()
        self.defects += self.fleet.unexpected
        try:
            wait_until("the end of all supervisors", lambda: not processes_of(self.binary), ORPHAN_SECONDS)
        except Broken:
            left = processes_of(self.binary)
            self.defects.append(f"{len(left)} processes outlived their workers")
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)

    def judge(self) -> int:
        """Asks the oracle; answers with its exit code."""
        command = [
            sys.executable, str(HERE / "oracle.py"), "--journal", str(self.journal), "--kafka", self.kafka.bootstrap,
            "--group", GROUP, "--registry", self.registry.url, "--temporal", self.temporal.address,
            "--temporal-cli", str(self.temporal.cli), *(f"--defect={defect}" for defect in self.defects),
        ]
        return subprocess.run(command, stdin=subprocess.DEVNULL).returncode


def interrupted(number: int, _: FrameType | None) -> None:
    """Once; putting things away is not interrupted again."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt(signal.Signals(number).name)


def play(name: str, perform: Callable[[Settings, Path, contextlib.ExitStack], int], **defaults: float) -> int:
    """Performs a run in a folder of its own. The exit code: 0 a pass, 1 a failure, 2 wrong usage, 3 a stack that does not
    work, 77 skipped."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    try:
        settings = Settings.read(**defaults)
    except Unusable as error:
        say(str(error))
        return 2
    except Skip as reason:
        print(f"skipped: {reason}", flush=True)
        return SKIPPED
    # As /proc shows it.
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-")).resolve()
    status = 1
    try:
        with contextlib.ExitStack() as cleanup:
            status = perform(settings, folder, cleanup)
    except Skip as reason:
        print(f"skipped: {reason}", flush=True)
        status = SKIPPED
    except Unusable as error:
        say(str(error))
        status = 2
    except (Broken, OSError, RuntimeError, KafkaException, subprocess.SubprocessError) as error:
        say(f"{type(error).__name__}: {error}")
        status = 3
    except KeyboardInterrupt as error:
        say(f"stopped by {error}")
        status = 130
    if status in (0, 2, SKIPPED) and not settings.keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        say(f"everything is kept in {folder}")
    return status
