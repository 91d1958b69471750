"""A chaos run: publishes, deals blows, waits for rest, asks the oracle."""

import contextlib
import sys
import time
from pathlib import Path

from fleet import AT_FAILPOINT, KILLED, Fleet
from havoc import Havoc, plan
from settings import Settings
from stage import PARTITIONS, Stage, count, play, say
from workload import Workload


def perform(settings: Settings, folder: Path, cleanup: contextlib.ExitStack) -> int:
    """From the first process to the verdict; answers with the exit code."""
    say(f"DELIVERIES={settings.deliveries} KILLS={settings.kills} SEED={settings.seed} WORKERS={settings.workers}")
    began = time.monotonic()
    stage = Stage(settings, folder, cleanup)
    failpoints = stage.fleet.failpoints()
    if not failpoints:
        say("this build has no failpoints: their share of the kills strikes at random moments")
    havoc = Havoc(settings, stage.fleet, stage.kafka, stage.temporal, folder / "havoc.jsonl")
    cleanup.callback(havoc.stop)
    now_ms = time.time_ns() // 1_000_000
    workload = Workload(settings.seed, PARTITIONS, stage.schema_id, now_ms, settings.redrives)
    stage.publisher.start(workload.deliveries(settings.deliveries), settings.rate)
    havoc.deal(plan(settings, settings.deliveries / settings.rate, failpoints))
    stage.publisher.finish()
    say(f"{stage.publisher.acknowledged} deliveries published, {havoc.dealt.total()} blows dealt")
    stage.settle()
    stage.end_workers()
    report(havoc, stage.fleet, failpoints, stage.canceller.accepted)
    count("seconds", round(time.monotonic() - began))
    return stage.judge()


def report(havoc: Havoc, fleet: Fleet, failpoints: list[str], cancelled: int) -> None:
    """What was done to the processes."""
    for kind, number in sorted(havoc.dealt.items()):
        count(f"blows_{kind}", number)
    at = {reason.removeprefix(AT_FAILPOINT): n for reason, n in fleet.ends.items() if reason.startswith(AT_FAILPOINT)}
    died = fleet.ends[KILLED] + sum(at.values())
    count("tickets_cancelled", cancelled)
    count("processes_killed", died + havoc.dealt["temporal"] + havoc.dealt["kafka"])
    for reason, number in sorted(fleet.ends.items()):
        if not reason.startswith(AT_FAILPOINT):
            count(f"worker_ends_{reason.replace(' ', '_')}", number)
    if failpoints:
        count("worker_ends_at_failpoint", sum(at.values()))
        count("failpoints_known", len(failpoints))
        count("failpoints_hit", len(at))
        say(f"failpoints that nobody died at: {', '.join(sorted(set(failpoints) - at.keys())) or 'none'}")


if __name__ == "__main__":
    sys.exit(play("chaos", perform))
