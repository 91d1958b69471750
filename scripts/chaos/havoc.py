"""What goes wrong: a seeded plan of blows, spread over the whole run, and the hand that deals them."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fleet import SESSION_TIMEOUT_MS, Arm, Fleet
from settings import Settings
from stack import Kafka, Temporal

# Parts of a hundred kills. Each kind comes at least once when there are as many kills as kinds. A hundred kills come to
# every failpoint there is.
SHARES = {"worker": 36, "failpoint": 44, "temporal": 11, "kafka": 9}
# Rebalances that nobody dies for come on top: one for so many kills, and at least one of each.
REBALANCES, KILLS_PER_REBALANCE = ("freeze", "join"), 8
# Long enough to be thrown out of the group.
FREEZE_SECONDS = SESSION_TIMEOUT_MS / 1000 + 3
# The pass of a failpoint that is a worker's last, and how long a worker that runs has to get there before it is told to
# end, because the point may lie on that way.
PASSES = (1, 1, 1, 3)
REACH_SECONDS = 6.0
# The same, with the time in which no worker has the order: others end, or peers are away.
PATIENCE_SECONDS = 15.0
# Blows that may be under way at once.
AT_ONCE = 4


@dataclass(frozen=True)
class Blow:
    """Something that goes wrong."""

    # Seconds after the first delivery.
    at: float
    kind: str
    # Decides what the plan leaves open: which worker, for how long.
    seed: int
    # For a failpoint: its name, and the pass that is the last.
    point: str = ""
    passes: int = 1


def plan(settings: Settings, seconds: float, failpoints: list[str]) -> list[Blow]:
    """The blows of a run that publishes for so long."""
    rng = random.Random(f"havoc {settings.seed}")
    kinds = [kind for kind in SHARES if kind != "temporal" or settings.durable]
    deck = kinds[: settings.kills]
    while len(deck) < settings.kills:
        # Whichever has the most to come; chance alone might leave out failpoints.
        deck.append(max(kinds, key=lambda kind: SHARES[kind] * settings.kills / 100 - deck.count(kind)))
    if settings.kills:
        rounds = max(len(REBALANCES), settings.kills // KILLS_PER_REBALANCE)
        deck += [REBALANCES[number % len(REBALANCES)] for number in range(rounds)]
    rng.shuffle(deck)
    points = list(failpoints)
    rng.shuffle(points)
    blows = []
    for number, kind in enumerate(deck):
        at = (number + rng.uniform(0.05, 0.95)) * seconds / len(deck)
        point = ""
        if kind == "failpoint" and points:
            # Every point has its turn before one has its second.
            points.append(points.pop(0))
            point = points[-1]
        blows.append(Blow(at, kind, rng.getrandbits(32), point, rng.choice(PASSES)))
    return blows


class Havoc:
    """Deals the blows of a plan."""

    def __init__(self, settings: Settings, fleet: Fleet, kafka: Kafka, temporal: Temporal, log: Path) -> None:
        self._fleet, self._kafka, self._temporal = fleet, kafka, temporal
        self._durable = settings.durable
        self._log = log
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._over = threading.Event()
        self.dealt: Counter[str] = Counter()
        self._ways: dict[str, Callable[[Blow, random.Random], str]] = {
            "worker": self._worker, "failpoint": self._failpoint, "temporal": self._temporal_away,
            "kafka": self._kafka_away, "freeze": self._freeze, "join": self._join,
        }

    def deal(self, blows: list[Blow]) -> None:
        """Deals all of them in time, and waits until everything has been put right again."""
        began = time.monotonic()
        with self._log.open("a") as log:
            pending = []
            for blow in blows:
                if self._over.wait(max(0.0, began + blow.at - time.monotonic())):
                    break
                pending.append(self._pool.submit(self._one, blow, began, log.write))
            for blow_done in pending:
                blow_done.result()

    def stop(self) -> None:
        """No further blow; those under way are put right at once."""
        self._over.set()
        self._pool.shutdown(cancel_futures=True)

    def _one(self, blow: Blow, began: float, write: Callable[[str], int]) -> None:
        started = time.monotonic() - began
        what = self._ways[blow.kind](blow, random.Random(blow.seed))
        self.dealt[blow.kind] += 1
        line = {"at": round(started, 2), "until": round(time.monotonic() - began, 2), "kind": blow.kind, "what": what}
        write(json.dumps(line) + "\n")

    def _worker(self, _: Blow, rng: random.Random) -> str:
        return self._fleet.kill_one(rng)

    def _failpoint(self, blow: Blow, rng: random.Random) -> str:
        if not blow.point:
            # A build without failpoints gets one more random kill.
            return self._fleet.kill_one(rng)
        arm = Arm(blow.point, blow.passes)
        ended = self._fleet.arm_one(rng, arm)
        for attempt in range(1, 4):
            if self._reached(arm):
                return f"{blow.point}:{blow.passes} after {ended} was told to end, attempt {attempt}"
            self._fleet.recall(arm)
        self._fleet.disarm(arm)
        return f"{self._fleet.kill_one(rng)}, because {blow.point} was not reached"

    def _reached(self, arm: Arm) -> bool:
        began, held = time.monotonic(), 0.0
        while not arm.hit.wait(0.1) and not self._over.is_set():
            held += 0.1 * self._fleet.holds(arm)
            if held > REACH_SECONDS or time.monotonic() - began > PATIENCE_SECONDS:
                break
        return arm.hit.is_set()

    def _temporal_away(self, _: Blow, rng: random.Random) -> str:
        away = rng.uniform(0, 4)
        with self._temporal.lock:
            self._temporal.kill()
            self._over.wait(away)
            self._temporal.start()
        return f"away for {away:.1f} s"

    def _kafka_away(self, _: Blow, rng: random.Random) -> str:
        away = rng.uniform(0, 3)
        with self._kafka.lock:
            self._kafka.kill()
            self._over.wait(away)
            self._kafka.restart()
        return f"away for {away:.1f} s"

    def _freeze(self, _: Blow, rng: random.Random) -> str:
        worker = self._fleet.freeze_one(rng)
        if worker is None:
            return "nobody was there"
        self._over.wait(FREEZE_SECONDS)
        self._fleet.thaw(worker)
        return f"{worker.name} for {FREEZE_SECONDS:g} s"

    def _join(self, _: Blow, rng: random.Random) -> str:
        stay = rng.uniform(3, 8)
        worker = self._fleet.join()
        self._over.wait(stay)
        self._fleet.leave(worker)
        return f"{worker.name} for {stay:.1f} s"
