"""A ticket for every operation, in a state in which the operation makes sense again and again."""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

# The example in the OpenAPI document of the operation that skips it.
PREDECESSOR = "predecessor"
# Until a ticket is in its state; shared machines are slow.
STATE_SECONDS = 60.0


@dataclass
class Seed:
    """A ticket, and the operations that are about it."""

    ticket_id: str
    state: str
    operations: list[str]
    script: str = "true"
    dependencies: list[str] = field(default_factory=list)
    timeout_ms: int = 60_000
    max_retries: int = 0

    def ticket(self) -> dict[str, object]:
        return {
            "ticket_id": self.ticket_id,
            "task_type": "EXECUTE",
            "dependencies": self.dependencies,
            "sla": {"timeout_ms": self.timeout_ms, "max_retries": self.max_retries},
            "parameters": {"command": "sh", "args": ["-c", self.script]},
        }


def parked(ticket_id: str, *operations: str) -> Seed:
    # The second one keeps it waiting when the first is skipped.
    return Seed(ticket_id, "parked", list(operations), dependencies=[PREDECESSOR, "another-predecessor"])


def undone(ticket_id: str, operation: str) -> Seed:
    # It says nothing of how it is undone: every undo fails and waits for an order.
    return Seed(ticket_id, "compensation_failed", [operation], script="exit 3")


TICKET = "/api/v1/tickets/{ticket_id}"
SEEDS = [
    Seed("done", "completed", ["GET /api/v1/tickets/{ticket_id}", "GET /api/v1/tasks/{task_id}"]),
    parked("victim", "POST /api/v1/tasks/{ticket_id}/cancel"),
    parked("deleted", "DELETE /api/v1/tasks/{task_id}"),
    parked("unwanted", f"POST {TICKET}/cancel"),
    parked("waiting", f"POST {TICKET}/pause"),
    parked("resumed", f"POST {TICKET}/resume"),
    parked("late", f"POST {TICKET}/extend-deadline"),
    parked("released", f"POST {TICKET}/skip-dependency"),
    # Only a time-out is worth a retry; the back-off of the settings is long.
    Seed("retried", "retry_wait", [f"POST {TICKET}/retry"], script="sleep 60", timeout_ms=500, max_retries=1000),
    undone("undone-again", f"POST {TICKET}/compensation/resume"),
    undone("left", f"POST {TICKET}/compensation/skip"),
]


def publish(worker: str, environment: dict[str, str], folder: Path) -> None:
    """Publishes the tickets."""
    file = folder / "tickets.json"
    file.write_text(json.dumps([seed.ticket() for seed in SEEDS]))
    command = [worker, "submit", "--encoding", "json", str(file)]
    subprocess.run(command, env=environment, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def wait(state_of: Callable[[str], str]) -> None:
    """Waits until every ticket is in its state."""
    deadline = time.monotonic() + STATE_SECONDS
    for seed in SEEDS:
        while (found := state_of(seed.ticket_id)) != seed.state:
            if time.monotonic() > deadline:
                raise TimeoutError(f"ticket {seed.ticket_id} is {found}, not {seed.state}, after {STATE_SECONDS:g} s")
            time.sleep(0.2)
