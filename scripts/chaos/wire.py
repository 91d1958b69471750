"""Tickets as bytes, written without the worker's code: JSON, and Avro in the Confluent frame."""

import hashlib
import io
import json
import random
import struct
from pathlib import Path
from typing import Any

import fastavro
from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

SCHEMA_TEXT = (Path(__file__).parent / "execution-ticket.avsc").read_text()
# The platform's ExecutionTicket, as SHA-256 of its canonical form.
FINGERPRINT = "c86e60b315eb6b421a7312710752b74841a9a29918e635e5fa6592e31b896b1f"
_SCHEMA = parse_schema(json.loads(SCHEMA_TEXT))


def check_schema() -> None:
    """Raises when the schema beside this file is not the platform's."""
    found = fingerprint(to_parsing_canonical_form(json.loads(SCHEMA_TEXT)), "SHA-256")
    if found != FINGERPRINT:
        raise ValueError(f"execution-ticket.avsc has fingerprint {found}, not {FINGERPRINT}")


def sha256(value: bytes | None) -> str | None:
    """Checksum of a record's value; none when there is no value."""
    return None if value is None else hashlib.sha256(value).hexdigest()


def frame(schema_id: int, body: bytes) -> bytes:
    """Magic byte, schema id, body."""
    return struct.pack(">bI", 0, schema_id) + body


def schema_id_of(value: bytes) -> int:
    """Of a framed value."""
    return int.from_bytes(value[1:5])


def to_json(ticket: dict[str, Any], rng: random.Random) -> bytes:
    """As JSON, in any order of keys."""
    keys = list(ticket)
    rng.shuffle(keys)
    return json.dumps({key: ticket[key] for key in keys}).encode()


def to_avro(ticket: dict[str, Any], schema_id: int, rng: random.Random) -> bytes:
    """As framed Avro. Its parameters are texts: lists as JSON or, like the planner's, as Python literals."""
    spell = rng.choice((json.dumps, str))
    texts = {key: value if isinstance(value, str) else spell(value) for key, value in ticket["parameters"].items()}
    out = io.BytesIO()
    fastavro.schemaless_writer(out, _SCHEMA, {**ticket, "parameters": texts}, strict_allow_default=True)
    return frame(schema_id, out.getvalue())
