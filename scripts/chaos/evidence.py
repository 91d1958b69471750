"""What a chaos run leaves behind, as plain data. Read by `reading.py`, judged by `oracle.py`."""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

# Partition and offset of a record in the tickets topic.
Position: TypeAlias = tuple[int, int]

# Kinds of deliveries that ask for a start. The others are "poison" and "skipped".
STARTABLE = frozenset({"fresh", "duplicate", "collision", "redrive"})


@dataclass(frozen=True)
class Delivery:
    """A line of the journal: a record as its producer knows it."""

    kind: str
    variant: str
    position: Position
    # Of the value; none for a record without one.
    sha256: str | None
    ticket_id: str | None = None
    # Equal for two records exactly when they ask for the same work.
    work: str | None = None
    # Stands in the command that the work runs, and so in its result.
    marker: str | None = None
    # Status that the ticket's result must have.
    outcome: str | None = None
    # Error codes that its dead letter may have.
    codes: tuple[str, ...] = ()
    # Whether it has the re-drive header.
    redrive: bool = False
    # Its time stamp, in epoch milliseconds.
    written_ms: int = 0

    @classmethod
    def of(cls, line: dict[str, Any]) -> "Delivery":
        """From the journal."""
        return cls(
            kind=line["kind"],
            variant=line["variant"],
            position=(line["partition"], line["offset"]),
            sha256=line["sha256"],
            ticket_id=line["ticket_id"],
            work=line["work"],
            marker=line["marker"],
            outcome=line["outcome"],
            codes=tuple(line["codes"]),
            redrive=line["redrive"],
            written_ms=line["written_ms"],
        )


@dataclass(frozen=True)
class Run:
    """A workflow run, as the server lists it."""

    workflow_id: str
    run_id: str
    # Without the prefix: RUNNING, COMPLETED, FAILED, …
    status: str
    # The record that started it; none when the run does not say.
    started_by: Position | None
    # Epoch milliseconds; none while it is open.
    closed_ms: int | None = None
    started_ms: int = 0


@dataclass(frozen=True)
class Result:
    """A record of the results topic."""

    position: Position
    # Of the header; none when it is missing.
    result_id: str | None
    sha256: str
    ticket_id: str | None
    status: str | None
    run_id: str | None
    # What was run, as the result says.
    command: str


@dataclass(frozen=True)
class DeadLetter:
    """A record of the dead-letter topic."""

    # Of the record it is about; none when it does not say.
    source: Position | None
    code: str | None
    # Of the original bytes it carries; none when it says that there were none.
    sha256: str | None


@dataclass(frozen=True)
class Evidence:
    """Everything that is judged."""

    deliveries: list[Delivery]
    # The tickets topic: checksum of each value.
    records: dict[Position, str | None]
    runs: list[Run]
    results: list[Result]
    dead_letters: list[DeadLetter]
    # Of each partition of the tickets topic.
    end_offsets: dict[int, int]
    committed: dict[int, int] = field(default_factory=dict)
