"""Publishes deliveries at an even rate and keeps the journal: a line for each record that the broker has acknowledged."""

import json
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from confluent_kafka import KafkaError, Message, Producer

from reading import TICKETS
from stack import Broken
from wire import sha256
from workload import Outgoing

# A broker may be away several times while a record waits.
DELIVERY_SECONDS = 600


class Publisher:
    """Publishes in a thread of its own."""

    def __init__(self, bootstrap: str, journal: Path, to_cancel: Callable[[str], None]) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                # Retries neither double nor lose a record, or the journal would be wrong.
                "enable.idempotence": True,
                "delivery.timeout.ms": DELIVERY_SECONDS * 1000,
                "linger.ms": 5,
                "reconnect.backoff.max.ms": 1000,
                "log_level": 2,
            }
        )
        self._journal = journal.open("w")
        self._to_cancel = to_cancel
        self._failures: list[str] = []
        self._over = threading.Event()
        self._enough = threading.Event()
        self._thread: threading.Thread | None = None
        self.acknowledged = 0

    def start(self, deliveries: Iterable[Outgoing], rate: float) -> None:
        """Begins to publish, so many a second."""
        self._thread = threading.Thread(target=self._run, args=(deliveries, rate), daemon=True)
        self._thread.start()

    def enough(self) -> None:
        """No further delivery; those before it are still acknowledged."""
        self._enough.set()

    def finish(self) -> None:
        """Waits until all are acknowledged. Raises `Broken` when one is not."""
        if self._thread is not None:
            self._thread.join()
        if self._failures:
            raise Broken(f"{len(self._failures)} deliveries were not acknowledged: {self._failures[0]}")
        self._journal.close()

    def stop(self) -> None:
        """Gives up what has not been published."""
        self._over.set()

    def _run(self, deliveries: Iterable[Outgoing], rate: float) -> None:
        began = time.monotonic()
        for number, delivery in enumerate(deliveries):
            while not self._over.is_set() and (wait := began + number / rate - time.monotonic()) > 0:
                self._producer.poll(wait)
            if self._over.is_set():
                return
            if self._enough.is_set():
                break
            self._producer.produce(
                TICKETS, delivery.value, delivery.key, delivery.partition, headers=list(delivery.headers),
                on_delivery=lambda error, record, delivery=delivery: self._note(delivery, error, record),
            )
            self._producer.poll(0)
        while len(self._producer) and not self._over.is_set():
            self._producer.flush(1)

    def _note(self, delivery: Outgoing, error: KafkaError | None, record: Message) -> None:
        if error is not None:
            self._failures.append(str(error))
            return
        self.acknowledged += 1
        if delivery.outcome == "CANCELLED" and delivery.ticket_id:
            self._to_cancel(delivery.ticket_id)
        line = {
            "kind": delivery.kind, "variant": delivery.variant, "partition": record.partition(),
            "offset": record.offset(), "ticket_id": delivery.ticket_id, "work": delivery.work,
            "marker": delivery.marker, "outcome": delivery.outcome, "codes": delivery.codes,
            "sha256": sha256(delivery.value), "redrive": bool(delivery.headers), "written_ms": record.timestamp()[1],
        }
        self._journal.write(json.dumps(line) + "\n")
        self._journal.flush()
