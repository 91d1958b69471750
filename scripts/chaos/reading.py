"""Reads the evidence with foreign clients: topics and offsets through librdkafka's Python client, results through
fastavro, runs through the Temporal CLI."""

import base64
import io
import json
import re
import struct
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from evidence import DeadLetter, Delivery, Evidence, Position, Result, Run
from wire import sha256

TICKETS, RESULTS, DEAD_LETTERS = "execution.tickets", "execution.results", "execution.tickets.dlq"
RESULT_ID_HEADER = "x-neural-hive-result-id"
PATIENCE_SECONDS = 60.0
# In the memo of each run: which record started it.
_MEMO = "TicketStart"
_STARTED_BY = re.compile(rf"kafka:{re.escape(TICKETS)}/(\d+)@(\d+)#")


def read(journal: Path, kafka: str, group: str, registry: str, temporal: str, temporal_cli: Path) -> Evidence:
    """Everything that the oracle judges."""
    topics = Topics(kafka)
    schemas: dict[int, Any] = {}
    ends = topics.end_offsets(TICKETS)
    return Evidence(
        deliveries=[Delivery.of(json.loads(line)) for line in journal.read_text().splitlines()],
        records={_position(record): sha256(record.value()) for record in topics.records(TICKETS)},
        runs=list_runs(temporal, temporal_cli),
        results=[_result(record, registry, schemas) for record in topics.records(RESULTS)],
        dead_letters=[_dead_letter(record.value()) for record in topics.records(DEAD_LETTERS)],
        end_offsets=ends,
        committed=topics.committed(group, TICKETS, ends),
    )


class Topics:
    """Topics and groups of a cluster."""

    def __init__(self, bootstrap: str) -> None:
        self._settings = {"bootstrap.servers": bootstrap, "log_level": 2}

    def _consumer(self) -> Consumer:
        return Consumer({**self._settings, "group.id": "oracle", "enable.auto.commit": False, "enable.partition.eof": True})

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Of each partition: the offset that the next record will get."""
        consumer = self._consumer()
        try:
            partitions = consumer.list_topics(topic, PATIENCE_SECONDS).topics[topic].partitions
            marks = {n: consumer.get_watermark_offsets(TopicPartition(topic, n), PATIENCE_SECONDS) for n in partitions}
            return {number: high for number, (_, high) in marks.items()}
        finally:
            consumer.close()

    def records(self, topic: str) -> Iterator[Message]:
        """Every record, from the beginning to the present end."""
        left = {number: end for number, end in self.end_offsets(topic).items() if end > 0}
        consumer = self._consumer()
        try:
            consumer.assign([TopicPartition(topic, number, 0) for number in left])
            give_up_at = time.monotonic() + PATIENCE_SECONDS
            while left:
                # Waits for a full batch as long as it is allowed to, also at the end.
                batch = consumer.consume(1000, 0.2)
                if batch:
                    give_up_at = time.monotonic() + PATIENCE_SECONDS
                elif time.monotonic() > give_up_at:
                    raise TimeoutError(f"topic {topic} could not be read to its end")
                for record in batch:
                    # At the end of a partition there is an error that carries its offset.
                    if record.error() is None:
                        yield record
                    if record.offset() >= left.get(record.partition(), 0) - (record.error() is None):
                        left.pop(record.partition(), None)
        finally:
            consumer.close()

    def committed(self, group: str, topic: str, partitions: dict[int, int]) -> dict[int, int]:
        """What a consumer group has committed; 0 where nothing."""
        wanted = [TopicPartition(topic, number) for number in partitions]
        # A new client each time, as everywhere here: one that has lived through an outage of the broker may take a minute.
        admin = AdminClient(self._settings)
        answer = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, wanted)])
        found = answer[group].result(PATIENCE_SECONDS).topic_partitions
        return {entry.partition: max(entry.offset, 0) for entry in found}


def temporal_json(address: str, cli: Path, *arguments: str) -> Any:
    """What the Temporal CLI answers."""
    command = [str(cli), "workflow", *arguments, "--address", address, "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True, stdin=subprocess.DEVNULL)
    return json.loads(done.stdout)


def count_runs(address: str, cli: Path, query: str) -> int:
    """How many runs the server counts."""
    return int(temporal_json(address, cli, "count", "--query", query).get("count", 0))


def list_runs(address: str, cli: Path) -> list[Run]:
    """All runs of all tickets, open and closed."""
    listed = temporal_json(address, cli, "list", "--query", "WorkflowType = 'TicketWorkflow'", "--page-size", "1000")
    runs = [_run(info) for info in listed]
    counted = count_runs(address, cli, "WorkflowType = 'TicketWorkflow'")
    if counted != len(runs):
        raise RuntimeError(f"the server counts {counted} runs and lists {len(runs)}")
    return runs


def _run(info: dict[str, Any]) -> Run:
    payload = info.get("memo", {}).get("fields", {}).get(_MEMO, {})
    # The CLI shows payloads that are JSON as they are, others as base64.
    memo = payload if "data" not in payload else json.loads(base64.b64decode(payload["data"]))
    started_by = _STARTED_BY.match(memo.get("request_id", ""))
    return Run(
        workflow_id=info["execution"]["workflowId"],
        run_id=info["execution"]["runId"],
        status=info["status"].removeprefix("WORKFLOW_EXECUTION_STATUS_"),
        started_by=(int(started_by[1]), int(started_by[2])) if started_by else None,
        closed_ms=_epoch_ms(info["closeTime"]) if info.get("closeTime") else None,
        started_ms=_epoch_ms(info["startTime"]),
    )


def _epoch_ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def _position(record: Message) -> Position:
    return record.partition(), record.offset()


def _result(record: Message, registry: str, schemas: dict[int, Any]) -> Result:
    value = record.value()
    if value[:1] == b"\0":
        (schema_id,) = struct.unpack(">I", value[1:5])
        if schema_id not in schemas:
            with urllib.request.urlopen(f"{registry}/schemas/ids/{schema_id}", timeout=30) as answer:
                schemas[schema_id] = fastavro.parse_schema(json.loads(json.load(answer)["schema"]))
        body = fastavro.schemaless_reader(io.BytesIO(value[5:]), schemas[schema_id], None)
    else:
        body = json.loads(value)
    headers = {name.lower(): text for name, text in record.headers() or []}
    result_id = headers.get(RESULT_ID_HEADER)
    return Result(
        position=_position(record),
        result_id=result_id.decode() if result_id else None,
        sha256=str(sha256(value)),
        ticket_id=body.get("ticket_id"),
        status=body.get("status"),
        run_id=body["result"]["metadata"].get("workflow_run_id"),
        command=str(body["result"]["output"].get("command", "")),
    )


def _dead_letter(value: bytes) -> DeadLetter:
    metadata = json.loads(value).get("dlq_metadata", {})
    source = metadata.get("source") or {}
    named = source.get("topic") == TICKETS
    original = metadata.get("original_value_base64")
    return DeadLetter(
        source=(source["partition"], source["offset"]) if named else None,
        code=metadata.get("error_code"),
        sha256=None if original is None else sha256(base64.b64decode(original)),
    )
