"""The settings of a chaos run: environment variables, all of them optional."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What can be away.
PEERS = ("kafka", "temporal", "registry")
# Each alone, and in pairs.
ALL_CASES = "kafka,temporal,registry,kafka+temporal,kafka+registry,temporal+registry"


class Skip(Exception):
    """Something that the run needs cannot be had on this machine."""


class Unusable(Exception):
    """A setting that has no meaning, or a file that must be built first."""


@dataclass(frozen=True)
class Settings:
    """What to do, and with what."""

    deliveries: int
    kills: int
    seed: int
    workers: int
    # Deliveries per second.
    rate: float
    # Publishes failed tickets again, with the re-drive header.
    redrives: bool
    # Temporal keeps its data in a file and is killed too; else in memory, and it is left alone.
    durable: bool
    # "real": scripts/real/schema-registry; "light": one in this process.
    registry: str
    # Of an outage, and which of them.
    seconds: float
    cases: tuple[tuple[str, ...], ...]
    # How long everything may take to come to rest after the last delivery.
    settle_seconds: float
    # Keeps the work folder of a run that passed.
    keep: bool
    worker: Path
    temporal_cli: Path
    # Starts and stops real servers.
    real: Path

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ, **defaults: float) -> "Settings":
        """From the environment; `defaults` go before those of a chaos run. Raises `Unusable` and `Skip`."""

        def number(name: str, default: float, least: float, most: float = 1e6) -> float:
            text = environment.get(name) or str(defaults.get(name, default))
            try:
                value = float(text)
            except ValueError:
                value = float("nan")
            if not least <= value <= most:
                raise Unusable(f"{name}={text}: expected a number from {least:g} to {most:g}")
            return value

        def flag(name: str, default: str) -> bool:
            text = environment.get(name) or default
            if text not in ("0", "1"):
                raise Unusable(f"{name}={text}: expected 0 or 1")
            return text == "1"

        def case(text: str) -> tuple[str, ...]:
            peers = tuple(text.strip().split("+"))
            if not set(peers) <= set(PEERS) or len(set(peers)) != len(peers):
                raise Unusable(f"CASES={text}: expected peers out of {', '.join(PEERS)}, joined by + and commas")
            return peers

        deliveries = int(number("DELIVERIES", 300, 1))
        real = Path(environment.get("REAL") or ROOT / "scripts" / "real")
        target = Path(environment.get("CARGO_TARGET_DIR") or ROOT / "target")
        registry = environment.get("REGISTRY") or ("real" if (real / "schema-registry").exists() else "light")
        if registry not in ("real", "light"):
            raise Unusable(f"REGISTRY={registry}: expected real or light")
        settings = cls(
            deliveries=deliveries,
            kills=int(number("KILLS", 6, 0)),
            seed=int(number("SEED", 7, 0, 1e18)),
            workers=int(number("WORKERS", 3, 1, 9)),
            # Below one a second, a duplicate would come so late that it is a re-drive.
            rate=number("RATE", 10, 1, 1000),
            redrives=flag("REDRIVES", "1"),
            durable=flag("DURABLE", "1"),
            registry=registry,
            seconds=number("SECONDS", 60, 1, 3600),
            cases=tuple(map(case, (environment.get("CASES") or ALL_CASES).split(","))),
            settle_seconds=number("SETTLE_SECONDS", 120 + deliveries / 20, 1),
            keep=flag("KEEP", "0"),
            worker=Path(environment.get("WORKER_AGENTS") or target / "debug" / "worker-agents"),
            temporal_cli=ROOT / ".tools" / "temporal-cli" / "bin" / "temporal",
            real=real,
        )
        if not settings.worker.exists():
            raise Unusable(f"{settings.worker} does not exist: `make build`, or name it with WORKER_AGENTS")
        for needed, source in ((settings.temporal_cli, "`make setup` brings it"), (real / "kafka", "no real Kafka")):
            if not needed.exists():
                raise Skip(f"{needed} is missing ({source})")
        return settings
