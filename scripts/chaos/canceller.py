"""Cancels tickets that are there to be cancelled, as an operator does: with the Temporal CLI, again until it is accepted."""

import subprocess
import threading
import time
from collections import deque

from stack import Temporal

# Long enough for most to be under way.
DELAY_SECONDS = 2.0


class Canceller:
    """Works in a thread of its own."""

    def __init__(self, temporal: Temporal) -> None:
        self._temporal = temporal
        # Ticket id, and when to try.
        self._pending: deque[tuple[str, float]] = deque()
        self._over = threading.Event()
        self.accepted = 0
        threading.Thread(target=self._run, daemon=True).start()

    def add(self, ticket_id: str) -> None:
        """This one, soon."""
        self._pending.append((ticket_id, time.monotonic() + DELAY_SECONDS))

    def finish(self, seconds: float) -> None:
        """Waits until all are accepted; an open workflow tells the oracle of one that is not."""
        deadline = time.monotonic() + seconds
        while self._pending and time.monotonic() < deadline:
            time.sleep(0.1)

    def stop(self) -> None:
        """Tries no more."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(0.2):
            if not self._pending or self._pending[0][1] > time.monotonic():
                continue
            ticket_id, _ = self._pending[0]
            if self._cancel(ticket_id):
                self.accepted += 1
            else:
                # Not started yet, or the server is away.
                self.add(ticket_id)
            self._pending.popleft()

    def _cancel(self, ticket_id: str) -> bool:
        command = [str(self._temporal.cli), "workflow", "cancel", "--workflow-id", f"ticket-{ticket_id}"]
        command += ["--address", self._temporal.address]
        return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL).returncode == 0
