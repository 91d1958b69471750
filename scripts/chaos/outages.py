"""Outages: each peer away for a while, alone and in pairs, under a steady stream of tickets. Prints a JSON line for each
case, then what the oracle says of all of them together."""

import contextlib
import json
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import wire
from reading import RESULTS, TICKETS, list_runs
from settings import Settings
from stage import PARTITIONS, Stage, play, register, say
from workload import STEADY, Workload

# The stream alone, before each outage.
BEFORE_SECONDS = 15.0
# The stream goes on for so long after each.
AFTER_SECONDS = 15.0
# By then every outage must be over for the tickets, too.
RECOVERY_SECONDS = 10.0
# What is left to start before an outage may begin, as seconds of the stream; and how long that may take.
CALM, CALM_SECONDS = 3.0, 600.0
# A partition asks a peer that is away once a second at most; time stamps of log lines are not exact.
SHORTEST_PAUSE_SECONDS = 0.98
_POSITION = re.compile(r"(.+)@\d+$")


@dataclass
class Outage:
    """A case, and when it was what. Epoch seconds."""

    peers: tuple[str, ...]
    calm_at: float = 0.0
    away_at: float = 0.0
    back_at: float = 0.0
    over_at: float = 0.0
    # Tickets whose schema no worker knew when the registry went.
    schema_id: int | None = None
    waiting: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        return "+".join(self.peers)


class Stream:
    """The deliveries, and who is in which schema."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.tickets_of: dict[int, set[str]] = defaultdict(set)

    def deliveries(self) -> Any:
        for delivery in self.workload.deliveries(sys.maxsize):
            if delivery.kind == "fresh" and delivery.value and delivery.value[0] == 0 and delivery.ticket_id:
                self.tickets_of[wire.schema_id_of(delivery.value)].add(delivery.ticket_id)
            yield delivery


def perform(settings: Settings, folder: Path, cleanup: contextlib.ExitStack) -> int:
    """All cases, one after the other; answers with the exit code."""
    say(f"SECONDS={settings.seconds:g} RATE={settings.rate:g} WORKERS={settings.workers} SEED={settings.seed}")
    stage = Stage(settings, folder, cleanup, {"MAX_CONCURRENT_TICKETS": "1000000", "MAX_CONCURRENT_TASKS": "20"})
    workload = Workload(settings.seed, PARTITIONS, stage.schema_id, time.time_ns() // 1_000_000, weights=STEADY)
    stream = Stream(workload)
    stage.publisher.start(stream.deliveries(), settings.rate)
    outages = []
    for number, peers in enumerate(settings.cases):
        outage = Outage(peers)
        say(f"{outage.name}: waiting for calm")
        if not calm(stage):
            # Measured all the same; the line says at which rate tickets were started.
            say(f"{outage.name}: no calm within {CALM_SECONDS:g} s at {settings.rate:g} tickets a second")
        suffer(stage, outage, number, workload)
        outages.append(outage)
    stage.publisher.enough()
    stage.publisher.finish()
    say(f"{stage.publisher.acknowledged} deliveries published")
    stage.settle()
    stage.end_workers()
    for reason, times in stage.fleet.ends.items():
        if reason != "stopped":
            stage.defects.append(f"{times} workers ended: {reason}")
    report(stage, outages, stream)
    return stage.judge()


def calm(stage: Stage) -> bool:
    """Waits until the workers start tickets as fast as they come. That they also end as fast is asked of no machine: what
    has been started is safe, and an outage says nothing else of it."""
    deadline = time.monotonic() + CALM_SECONDS
    while time.monotonic() < deadline:
        lag, _ = stage.left()
        if lag <= CALM * stage.settings.rate:
            return True
        time.sleep(1)
    return False


def suffer(stage: Stage, outage: Outage, number: int, workload: Workload) -> None:
    """One outage, from calm to after it."""
    outage.calm_at = time.time()
    time.sleep(BEFORE_SECONDS)
    if "registry" in outage.peers:
        # Known to the registry and to no worker; a text of its own is an id of its own.
        text = json.dumps({**json.loads(wire.SCHEMA_TEXT), "doc": f"Outage {number}"})
        outage.schema_id = workload.schema_id = register(stage.registry.url, f"{TICKETS}-outage-{number}-value", text)
    peers = [getattr(stage, peer) for peer in outage.peers]
    outage.away_at = time.time()
    for peer in peers:
        peer.kill()
    say(f"{outage.name}: away")
    time.sleep(max(0.0, outage.away_at + stage.settings.seconds - time.time()))
    for peer in peers:
        peer.restart()
    outage.back_at = time.time()
    say(f"{outage.name}: back after {outage.back_at - outage.away_at:.1f} s")
    workload.schema_id = stage.schema_id
    time.sleep(AFTER_SECONDS)
    outage.over_at = time.time()


def report(stage: Stage, outages: list[Outage], stream: Stream) -> None:
    """A line for each case; what must not be becomes a defect."""
    runs = list_runs(stage.temporal.address, stage.temporal.cli)
    started = sorted((run.started_ms / 1000, run.workflow_id.removeprefix("ticket-")) for run in runs)
    result_at = {}
    for record in stage.topics.records(RESULTS):
        ticket_id, at = record.key().decode(), record.timestamp()[1] / 1000
        result_at[ticket_id] = min(at, result_at.get(ticket_id, at))
    attempts = attempts_in(stage.folder)
    for outage in outages:
        counted = stream.tickets_of[outage.schema_id] if outage.schema_id is not None else None
        after = [(at, ticket) for at, ticket in started if at >= outage.back_at and (counted is None or ticket in counted)]
        first_start = after[0][0] - outage.back_at if after else None
        results = [result_at[ticket] - outage.back_at for _, ticket in after if ticket in result_at]
        first_result = min(results, default=None)

        def rate(since: float, until: float) -> float:
            return round(sum(since <= at < until for at, _ in started) / (until - since), 1)

        asked, shortest = within(attempts, outage.away_at, outage.back_at)
        line = {
            "case": outage.name,
            "seconds": round(outage.back_at - outage.away_at, 1),
            "published_per_second": stage.settings.rate,
            "started_per_second_before": rate(outage.calm_at, outage.away_at),
            "started_per_second_away": rate(outage.away_at, outage.back_at),
            "started_per_second_after": rate(outage.back_at, outage.over_at),
            "first_start_seconds": _rounded(first_start),
            "first_result_seconds": _rounded(first_result),
            "attempts_while_away": asked,
            "shortest_pause_seconds": _rounded(shortest),
        }
        print(json.dumps(line), flush=True)
        if first_start is None or first_start > RECOVERY_SECONDS:
            stage.defects.append(f"{outage.name}: first start {first_start} s after the peers were back")
        if shortest is not None and shortest < SHORTEST_PAUSE_SECONDS:
            stage.defects.append(f"{outage.name}: a partition asked again after {shortest:.2f} s")


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)


# When one partition of one worker asked one peer in vain.
Attempts = dict[tuple[str, str, str], list[float]]


def attempts_in(folder: Path) -> Attempts:
    """Of all workers, as their logs tell it."""
    attempts: Attempts = defaultdict(list)
    for log in folder.glob("worker-*.log"):
        for line in log.read_text(errors="replace").splitlines():
            if '"peer_unavailable"' in line:
                said = json.loads(line)
                partition = _POSITION.match(said["position"])
                at = datetime.fromisoformat(said["timestamp"]).timestamp()
                attempts[log.stem, said["peer"], partition[1] if partition else ""].append(at)
    return attempts


def within(attempts: Attempts, since: float, until: float) -> tuple[int, float | None]:
    """How many there were, and the shortest time between two of one partition and peer."""
    asked, shortest = 0, None
    for times in attempts.values():
        times = [at for at in times if since <= at < until]
        asked += len(times)
        for one, next_one in zip(times, times[1:]):
            shortest = min(next_one - one, shortest or next_one - one)
    return asked, shortest


if __name__ == "__main__":
    sys.exit(play("outages", perform, RATE=20, WORKERS=2, SETTLE_SECONDS=900))
