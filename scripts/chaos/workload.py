"""What is published: a seeded sequence of tickets, duplicates, collisions, records that are no tickets, and tickets that
are not for a worker. The same seed, start time and schema id give the same bytes."""

import copy
import hashlib
import json
import random
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from wire import frame, to_avro, to_json

Ticket = dict[str, Any]

# Parts of all deliveries, by kind, and of fresh tickets, by what they do. Most do nothing; some are under way long enough
# to be caught by a kill.
MIXED = {
    "fresh": 60, "duplicate": 18, "collision": 6, "poison": 8, "skipped": 4, "redrive": 4,
    "quick": 77, "echo": 10, "slow": 6, "failing": 6, "cancelled": 1,
}
# A steady stream of the cheapest tickets, and something of what must not become one.
STEADY = {"fresh": 95, "duplicate": 3, "poison": 2, "quick": 100}
# A failed ticket that is published again long after it ended runs again, as documented. Its duplicates therefore come
# within so many deliveries; re-drives come later than that.
IMMEDIATELY = 5
LATER = 60
REDRIVE_HEADER = "x-neural-hive-redrive-id"
# No ticket may reach it in the longest run.
DEADLINE_MS = 24 * 3600 * 1000
# What becomes of a ticket, by what it does. One that is cancelled would take far longer than a run.
OUTCOMES = {
    "quick": "COMPLETED", "echo": "COMPLETED", "slow": "COMPLETED", "failing": "FAILED", "cancelled": "CANCELLED",
}
_NAMESPACE = uuid.UUID("6f1c2a54-58c1-4a0e-9d0c-3a6a0f6f7c11")
# What makes the work of a ticket; everything else may differ between duplicates.
_WORK_FIELDS = (
    "ticket_id", "plan_id", "intent_id", "decision_id", "task_id", "task_type", "parameters", "dependencies",
    "required_capabilities", "security_level",
)


@dataclass(frozen=True)
class Outgoing:
    """A record to publish, and what the oracle has to know of it."""

    kind: str
    variant: str
    partition: int
    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    ticket_id: str | None = None
    work: str | None = None
    marker: str | None = None
    outcome: str | None = None
    codes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    """A ticket that later deliveries may refer to."""

    number: int
    ticket: Ticket
    partition: int
    marker: str
    outcome: str


def work_of(ticket: Ticket) -> str:
    """Equal for two tickets exactly when they ask for the same work."""
    work = {name: ticket[name] for name in _WORK_FIELDS}
    return hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()[:16]


class Workload:
    """The sequence of deliveries."""

    def __init__(
        self, seed: int, partitions: int, schema_id: int, now_ms: int, redrives: bool = False,
        weights: Mapping[str, int] = MIXED,
    ) -> None:
        self._rng = random.Random(f"workload {seed}")
        self._seed = seed
        self._partitions = partitions
        # Of Avro tickets from now on.
        self.schema_id = schema_id
        self._now_ms = now_ms
        self._tickets: list[Published] = []
        # Whose id another ticket has too: which of them comes first, and so what a re-drive would be, is open.
        self._collided: set[int] = set()
        makers: dict[str, Callable[[int], Outgoing]] = {
            "fresh": self._fresh, "duplicate": self._duplicate, "collision": self._collision, "poison": self._poison,
            "skipped": self._skipped, "redrive": self._redrive,
        }
        self._makers = list(makers.values())
        self._weights = [0 if kind == "redrive" and not redrives else weights.get(kind, 0) for kind in makers]
        self._work_weights = [weights.get(kind, 0) for kind in OUTCOMES]

    def deliveries(self, count: int) -> Iterator[Outgoing]:
        """So many deliveries."""
        for number in range(count):
            (maker,) = self._rng.choices(self._makers, self._weights)
            yield maker(number)

    def _ticket(self, number: int, parameters: dict[str, Any]) -> Ticket:
        def name(kind: str) -> str:
            return str(uuid.uuid5(_NAMESPACE, f"{self._seed} {kind} {number}"))

        return {
            "ticket_id": name("ticket"), "plan_id": name("plan"), "intent_id": name("intent"),
            "decision_id": name("decision"), "correlation_id": name("correlation"), "trace_id": None, "span_id": None,
            "task_id": f"task-{number}", "task_type": "EXECUTE", "description": f"Delivery {number} of a chaos run",
            "dependencies": [], "status": "PENDING", "priority": self._rng.choice(["LOW", "NORMAL", "HIGH", "CRITICAL"]),
            "risk_band": "low",
            "sla": {"deadline": self._now_ms + DEADLINE_MS, "timeout_ms": 600_000, "max_retries": 3},
            "qos": {"delivery_mode": "AT_LEAST_ONCE", "consistency": "EVENTUAL", "durability": "PERSISTENT"},
            "parameters": parameters, "required_capabilities": ["compute"], "security_level": "INTERNAL",
            "created_at": self._now_ms, "started_at": None, "completed_at": None, "estimated_duration_ms": None,
            "actual_duration_ms": None, "retry_count": 0, "error_message": None, "compensation_ticket_id": None,
            "metadata": {"generated_by": "chaos"}, "schema_version": 1,
        }

    def _encoded(self, ticket: Ticket) -> tuple[str, bytes]:
        if self._rng.random() < 0.5:
            return "avro", to_avro(ticket, self.schema_id, self._rng)
        return "json", to_json(ticket, self._rng)

    def _partition(self) -> int:
        return self._rng.randrange(self._partitions)

    def _fresh(self, number: int) -> Outgoing:
        marker = f"work-{number:06}"
        name, parameters = self._rng.choices(
            [
                ("quick", {"command": "true", "args": [marker]}),
                ("echo", {"command": "echo", "args": [marker]}),
                ("slow", {"command": "sh", "args": ["-c", f"sleep {self._rng.choice([0.3, 1, 3])}; echo {marker}"]}),
                ("failing", {"command": "sh", "args": ["-c", f"echo {marker}; exit 3"]}),
                ("cancelled", {"command": "sh", "args": ["-c", f"sleep 3000; echo {marker}"]}),
            ],
            self._work_weights,
        )[0]
        ticket = self._ticket(number, parameters)
        published = Published(number, ticket, self._partition(), marker, OUTCOMES[name])
        if name == "cancelled":
            # Whether it ran at all before it was cancelled is open, and nothing comes back to it.
            return replace(self._again("fresh", name, published, ticket, published.partition, marker), marker=None)
        self._tickets.append(published)
        return self._again("fresh", name, published, ticket, published.partition, marker)

    def _again(
        self, kind: str, variant: str, published: Published, ticket: Ticket, partition: int, marker: str,
        headers: tuple[tuple[str, bytes], ...] = (),
    ) -> Outgoing:
        """A delivery under the id of a ticket."""
        encoding, value = self._encoded(ticket)
        key = self._rng.choice([ticket["plan_id"], ticket["ticket_id"]]).encode()
        return Outgoing(
            kind, f"{variant} {encoding}", partition, key, value, headers, ticket["ticket_id"], work_of(ticket), marker,
            published.outcome,
        )

    def _earlier(self, number: int) -> tuple[str, Published] | None:
        """A ticket to come back to, and when: the last one, or any."""
        recent = [ticket for ticket in self._tickets[-IMMEDIATELY:] if number - ticket.number <= IMMEDIATELY]
        if recent and self._rng.random() < 0.5:
            return "immediate", recent[-1]
        completed = [ticket for ticket in self._tickets if ticket.outcome == "COMPLETED"]
        return ("late", self._rng.choice(completed)) if completed else None

    def _duplicate(self, number: int) -> Outgoing:
        earlier = self._earlier(number)
        if earlier is None:
            return self._fresh(number)
        when, published = earlier
        ticket = copy.deepcopy(published.ticket)
        if self._rng.random() < 0.4:
            # As a producer stamps it when it publishes again.
            ticket["created_at"] += 1000 * number
            ticket["sla"]["deadline"] += 1000 * number
            ticket["priority"] = "HIGH"
            ticket["metadata"] = {"generated_by": "chaos", "published": "again"}
        partition = published.partition if self._rng.random() < 0.5 else self._partition()
        return self._again("duplicate", when, published, ticket, partition, published.marker)

    def _collision(self, number: int) -> Outgoing:
        earlier = self._earlier(number)
        if earlier is None:
            return self._fresh(number)
        when, published = earlier
        self._collided.add(published.number)
        ticket, marker = copy.deepcopy(published.ticket), published.marker
        change = self._rng.choice(["parameters", "task_id", "security_level", "required_capabilities"])
        if change == "parameters":
            marker = f"other-work-{number:06}"
            ticket["parameters"]["args"][-1] = ticket["parameters"]["args"][-1].replace(published.marker, marker)
        elif change == "task_id":
            ticket["task_id"] = f"other-task-{number}"
        elif change == "security_level":
            # Whichever of the two is first is the one that runs, so it is a level that every machine grants.
            ticket["security_level"] = "PUBLIC"
        else:
            ticket["required_capabilities"] = ["compute", f"capability-{number}"]
        return self._again("collision", f"{when} {change}", published, ticket, self._partition(), marker)

    def _redrive(self, number: int) -> Outgoing:
        failed = [
            t for t in self._tickets
            if t.outcome == "FAILED" and number - t.number > LATER and t.number not in self._collided
        ]
        if not failed:
            return self._fresh(number)
        published = self._rng.choice(failed)
        # With the header it runs again as soon as its run has closed; without, when that was a while ago.
        variant, headers = self._rng.choice(
            [("asked for", ((REDRIVE_HEADER, f"redrive-{number}".encode()),)), ("published again", ())]
        )
        return self._again("redrive", variant, published, published.ticket, self._partition(), published.marker, headers)

    def _skipped(self, number: int) -> Outgoing:
        ticket = self._ticket(number, {"command": "true", "args": ["never"]})
        ticket["status"] = self._rng.choice(["RUNNING", "COMPLETED", "FAILED", "COMPENSATING", "COMPENSATED"])
        encoding, value = self._encoded(ticket)
        return Outgoing(
            "skipped", f"{ticket['status']} {encoding}", self._partition(), ticket["ticket_id"].encode(), value,
            ticket_id=ticket["ticket_id"],
        )

    def _poison(self, number: int) -> Outgoing:
        ticket = self._ticket(number, {"command": "true", "args": ["never"]})
        name, value, code = self._rng.choice(self._poisons(ticket))
        return Outgoing("poison", name, self._partition(), ticket["plan_id"].encode(), value, codes=(code,))

    def _poisons(self, ticket: Ticket) -> list[tuple[str, bytes | None, str]]:
        """Records that cannot become tickets: name, value, error code."""
        avro = to_avro(ticket, self.schema_id, self._rng)

        def changed(**fields: Any) -> bytes:
            return json.dumps({**ticket, **fields}).encode()

        without_task = {name: value for name, value in ticket.items() if name != "task_id"}
        return [
            ("null value", None, "tombstone"),
            ("empty", b"", "invalid_json"),
            ("not JSON", b"not a ticket", "invalid_json"),
            ("cut JSON", to_json(ticket, self._rng)[:200], "invalid_json"),
            ("too deep", changed(parameters={"command": "true", "deep": _nested(500)}), "invalid_json"),
            ("not an object", json.dumps([ticket]).encode(), "not_an_object"),
            ("not text", b"\xff\xfe\x00ticket", "invalid_utf8"),
            ("field missing", json.dumps(without_task).encode(), "missing_field"),
            ("unknown enum", changed(status="WAITING"), "malformed_field"),
            ("unknown task type", changed(task_type="create"), "unknown_task_type"),
            ("invalid ticket id", changed(ticket_id="no such id/../x"), "invalid_ticket_id"),
            ("truncated Avro", avro[: len(avro) // 2], "avro_decode_failed"),
            ("trailing bytes", avro + b"\0\0\0", "avro_trailing_bytes"),
            ("unknown schema id", frame(987_654, avro[5:]), "schema_not_found"),
        ]


def _nested(depth: int) -> Any:
    value: Any = "bottom"
    for _ in range(depth):
        value = [value]
    return value
