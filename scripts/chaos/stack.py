"""The peers: a real Kafka, a Schema Registry, the Temporal dev server. Each can be killed and comes back with its data,
at its address."""

import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from gateway import Gateway, free_port
from registry import LightRegistry
from settings import Settings, Skip

# For a component to answer; shared machines are slow.
START_SECONDS = 90.0
SKIPPED = 77


class Broken(Exception):
    """A component that does not do what it should; the run means nothing then."""


def wait_until(what: str, probe: Callable[[], bool], seconds: float = START_SECONDS) -> None:
    """Asks until the answer is yes."""
    deadline = time.monotonic() + seconds
    while not probe():
        if time.monotonic() > deadline:
            raise Broken(f"{what} did not happen within {seconds:g} s")
        time.sleep(0.1)


def end(process: subprocess.Popen[bytes] | None, grace: float) -> None:
    """TERM, and KILL after the grace."""
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Script:
    """A component that a script of `scripts/real` runs."""

    def __init__(self, script: Path, folder: Path) -> None:
        self._script, self._folder = script, folder

    def __call__(self, verb: str, *arguments: str) -> dict[str, str]:
        """Runs a verb; answers with the KEY=value lines it prints. Raises `Skip` and `Broken`."""
        command = [str(self._script), verb, "--dir", str(self._folder), *arguments]
        # A file, not a pipe: what the script leaves running keeps its output open.
        log = self._folder.with_suffix(f".{verb}.out")
        with log.open("wb") as out:
            # Out of reach of a Ctrl-C, or the component would end before those that need it.
            done = subprocess.run(
                command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
            )
        text = log.read_text(errors="replace")
        last = text.strip().rpartition("\n")[2]
        if done.returncode == SKIPPED:
            raise Skip(last.removeprefix("skipped: "))
        if done.returncode != 0:
            raise Broken(f"{self._script.name} {verb} ended with {done.returncode}: {last}")
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


class Kafka:
    """One broker."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._script = Script(settings.real / "kafka", folder / "kafka")
        self.lock = threading.Lock()
        self.bootstrap = self._script("start")["KAFKA_BOOTSTRAP_SERVERS"]

    def create_topics(self, *topics: str) -> None:
        """Each as NAME:PARTITIONS."""
        self._script("topics", *topics)

    def kill(self) -> None:
        """kill -9."""
        self._script("kill")

    def restart(self) -> None:
        """Back again, with its data and at its address."""
        self._script("restart")

    def stop(self) -> None:
        """Ends it."""
        self._script("stop")


class Registry:
    """The registry that the settings ask for, behind a gateway: a real one keeps its schemas in memory, so it is never
    killed."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        script = Script(settings.real / "schema-registry", folder / "registry")
        self._light = None if settings.registry == "real" else LightRegistry()
        url = urlsplit(self._light.url if self._light else script("start")["KAFKA_SCHEMA_REGISTRY_URL"])
        self._stop = self._light.stop if self._light else lambda: script("stop")
        self._gateway = Gateway(url.port or 80)
        self.url = f"http://127.0.0.1:{self._gateway.port}{url.path}"

    def kill(self) -> None:
        """Away, at once."""
        self._gateway.close()

    def restart(self) -> None:
        """Back again."""
        self._gateway.open()

    def stop(self) -> None:
        """Ends it."""
        self._gateway.close()
        self._stop()


class Temporal:
    """The dev server."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.cli = settings.temporal_cli
        self._port = free_port()
        self.address = f"127.0.0.1:{self._port}"
        self._log = folder / "temporal.log"
        self._data = folder / "temporal.db" if settings.durable else None
        self._process: subprocess.Popen[bytes] | None = None
        self.lock = threading.Lock()
        self.start()

    def start(self) -> None:
        """Starts it on its data; returns when it answers."""
        command = [str(self.cli), "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", str(self._port)]
        command += ["--log-level", "error"]
        if self._data is not None:
            # Without these every transaction waits for the disk, and nothing is gained: only the process is killed.
            pragmas = ("journal_mode=wal", "synchronous=normal")
            command += ["--db-filename", str(self._data)]
            command += [word for pragma in pragmas for word in ("--sqlite-pragma", pragma)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, env=dict(os.environ)
            )
        wait_until("an answer of Temporal", self._answers)

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise Broken(f"Temporal ended with {self._process.returncode}; see {self._log}")
        # Of the namespace, which comes after the frontend.
        question = [str(self.cli), "workflow", "count", "--address", self.address]
        return subprocess.run(question, capture_output=True, stdin=subprocess.DEVNULL).returncode == 0

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        """Back again, with its data and at its address."""
        self.start()

    def stop(self) -> None:
        """Ends it."""
        end(self._process, 5)
