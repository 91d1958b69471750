"""A chaos run: starts everything, publishes, deals blows, waits for rest, asks the oracle, leaves nothing behind."""

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
from pathlib import Path
from types import FrameType

import wire
from fleet import GROUP, Fleet, environment
from havoc import Havoc, plan
from publisher import Publisher
from reading import DEAD_LETTERS, RESULTS, TICKETS, Topics, count_runs
from settings import Settings, Skip, Unusable
from stack import SKIPPED, Broken, Kafka, Temporal, start_registry, wait_until
from workload import Workload

HERE = Path(__file__).resolve().parent
PARTITIONS = 6
# Results must not grow for so long.
REST_SECONDS = 4.0
# Supervisors of a killed worker's commands end by themselves.
ORPHAN_SECONDS = 8.0


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


class Run:
    """One run, in one folder."""

    def __init__(self, settings: Settings, folder: Path, cleanup: contextlib.ExitStack) -> None:
        self._settings, self._folder, self._cleanup = settings, folder, cleanup
        # What the oracle cannot see.
        self._defects: list[str] = []

    def perform(self) -> int:
        """From the first process to the verdict; answers with the exit code."""
        settings, folder = self._settings, self._folder
        wire.check_schema()
        kafka = Kafka(settings, folder)
        self._cleanup.callback(kafka.stop)
        kafka.create_topics(f"{TICKETS}:{PARTITIONS}", f"{RESULTS}:3", f"{DEAD_LETTERS}:3")
        registry = start_registry(settings, folder)
        self._cleanup.callback(registry.stop)
        temporal = Temporal(settings, folder)
        self._cleanup.callback(temporal.stop)
        say(f"Kafka at {kafka.bootstrap}, registry at {registry.url}, Temporal at {temporal.address}")

        # A copy: a build meanwhile must not change what is tried, and its path tells our processes from others.
        binary = folder / "worker-agents"
        shutil.copy(settings.worker, binary)
        fleet = Fleet(binary, folder, settings.workers, environment(folder, kafka.bootstrap, registry.url, temporal.address))
        if (trouble := fleet.doctor()) is not None:
            raise Broken(f"`worker-agents doctor --fix` failed: {trouble.strip()}")
        failpoints = fleet.failpoints()
        if not failpoints:
            say("this build has no failpoints: their share of the kills strikes at random moments")
        self._cleanup.callback(fleet.stop)
        fleet.start()
        wait_until("the start of all workers", fleet.ready)
        say(f"{settings.workers} workers run")

        journal = folder / "journal.jsonl"
        publisher = Publisher(kafka.bootstrap, journal)
        self._cleanup.callback(publisher.stop)
        havoc = Havoc(settings, fleet, kafka, temporal, folder / "havoc.jsonl")
        self._cleanup.callback(havoc.stop)
        schema_id = register(registry.url, f"{TICKETS}-value", wire.SCHEMA_TEXT)
        now_ms = time.time_ns() // 1_000_000
        workload = Workload(settings.seed, PARTITIONS, schema_id, now_ms, settings.redrives)
        publisher.start(workload.deliveries(settings.deliveries), settings.rate)
        havoc.deal(plan(settings, settings.deliveries / settings.rate, failpoints))
        publisher.finish()
        say(f"{publisher.acknowledged} deliveries published, {havoc.dealt.total()} kills dealt")

        self._settle(Topics(kafka.bootstrap), temporal)
        fleet.stop()
        self._look_for_orphans(binary)
        self._report(havoc, fleet, failpoints)
        return self._ask_oracle(journal, kafka, registry.url, temporal)

    def _settle(self, topics: Topics, temporal: Temporal) -> None:
        """Waits until nothing is left to do, as long as that may take; whatever is left then, the oracle will find."""
        began = time.monotonic()
        deadline = began + self._settings.settle_seconds
        written, since, told = -1, began, began
        while time.monotonic() < deadline:
            ends = topics.end_offsets(TICKETS)
            lag = sum(ends.values()) - sum(topics.committed(GROUP, TICKETS, ends).values())
            running = count_runs(temporal.address, temporal.cli, "ExecutionStatus = 'Running'")
            now = time.monotonic()
            total = sum(sum(topics.end_offsets(topic).values()) for topic in (RESULTS, DEAD_LETTERS))
            if total != written or lag or running:
                written, since = total, now
            if now - since >= REST_SECONDS:
                say(f"at rest after {now - began:.1f} s")
                return
            if now - told >= 10:
                say(f"waiting: lag {lag}, {running} open workflows")
                told = now
            time.sleep(1)
        say(f"no rest within {self._settings.settle_seconds:g} s")

    def _look_for_orphans(self, binary: Path) -> None:
        try:
            wait_until("the end of all supervisors", lambda: not processes_of(binary), ORPHAN_SECONDS)
        except Broken:
            left = processes_of(binary)
            self._defects.append(f"{len(left)} processes outlived their workers")
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)

    def _report(self, havoc: Havoc, fleet: Fleet, failpoints: list[str]) -> None:
        count("kills", havoc.dealt.total())
        for kind, number in sorted(havoc.dealt.items()):
            count(f"kills_{kind}", number)
        for reason, number in sorted(fleet.ends.items()):
            count(f"worker_ends_{reason.replace(' ', '_')}", number)
        if failpoints:
            count("failpoints_known", len(failpoints))
            count("failpoints_hit", sum(reason.startswith("failpoint ") for reason in fleet.ends))
        self._defects += fleet.unexpected

    def _ask_oracle(self, journal: Path, kafka: Kafka, registry: str, temporal: Temporal) -> int:
        command = [
            sys.executable, str(HERE / "oracle.py"), "--journal", str(journal), "--kafka", kafka.bootstrap,
            "--group", GROUP, "--registry", registry, "--temporal", temporal.address,
            "--temporal-cli", str(temporal.cli), *(f"--defect={defect}" for defect in self._defects),
        ]
        return subprocess.run(command, stdin=subprocess.DEVNULL).returncode


def interrupted(number: int, _: FrameType | None) -> None:
    """Once; putting things away is not interrupted again."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt(signal.Signals(number).name)


def main() -> int:
    """The exit code: 0 a pass, 1 a failure, 2 wrong usage, 3 a stack that does not work, 77 skipped."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    try:
        settings = Settings.read()
    except Unusable as error:
        say(str(error))
        return 2
    except Skip as reason:
        print(f"skipped: {reason}", flush=True)
        return SKIPPED
    say(f"DELIVERIES={settings.deliveries} KILLS={settings.kills} SEED={settings.seed} WORKERS={settings.workers}")
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    status = 1
    try:
        with contextlib.ExitStack() as cleanup:
            status = Run(settings, folder, cleanup).perform()
    except Skip as reason:
        print(f"skipped: {reason}", flush=True)
        status = SKIPPED
    except (Broken, OSError, subprocess.SubprocessError) as error:
        say(str(error))
        status = 3
    except KeyboardInterrupt as error:
        say(f"stopped by {error}")
        status = 130
    if status in (0, SKIPPED) and not settings.keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        say(f"everything is kept in {folder}")
    return status


if __name__ == "__main__":
    sys.exit(main())
