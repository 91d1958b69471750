"""Runs the API's tests: a stack, its tickets, Schemathesis, and what has to be true of the answers taken together."""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import tickets

START_SECONDS = 90.0
# The peers are there: a 5xx is a failure.
CHECKS = ",".join(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
        "positive_data_acceptance",
        "unsupported_method",
        "allow_header_conformance",
        "ignored_auth",
    ]
)


class Stack:
    """`worker-agents dev`, with authentication."""

    def __init__(self, worker: str, folder: Path) -> None:
        self.token = secrets.token_urlsafe(24)
        ready = folder / "ready.json"
        kept = {name: os.environ[name] for name in ("HOME", "PATH", "XDG_CACHE_HOME") if name in os.environ}
        settings = {
            "HTTP_API_AUTH": "true",
            "HTTP_API_TOKEN": f"tester={self.token}",
            "HTTP_API_ALLOW": "tester=*",
            "HTTP_API_RATE": "1000",
            "COMPENSATION_ENABLED": "true",
            "RETRY_BACKOFF_BASE_SECONDS": "600",
            "RETRY_BACKOFF_MAX_SECONDS": "600",
            "LOCAL_RUNTIME_WORKING_DIR": str(folder / "work"),
            "LOG_FORMAT": "json",
        }
        self.log = folder / "worker.log"
        with self.log.open("wb") as log:
            command = [worker, "dev", "--ready-file", str(ready)]
            self.process = subprocess.Popen(command, env=kept | settings, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the stack does not start:\n{self.log.read_text(errors='replace')}")
            time.sleep(0.1)
        self.peers: dict[str, str] = json.loads(ready.read_text())
        self.environment = kept | {
            "KAFKA_BOOTSTRAP_SERVERS": self.peers["kafka_bootstrap"],
            "KAFKA_SCHEMA_REGISTRY_URL": self.peers["schema_registry_url"],
        }

    @property
    def url(self) -> str:
        return self.peers["http_url"]

    def state_of(self, ticket_id: str) -> str:
        """The state that the API tells."""
        request = urllib.request.Request(f"{self.url}/api/v1/tickets/{ticket_id}")
        request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return str(json.load(answer)["state"])
        except urllib.error.HTTPError as error:
            return f"answered with {error.code}"

    def stop(self) -> None:
        """Ends it, and everything that it started."""
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def configuration(token: str) -> str:
    """Of Schemathesis: who calls, and about which ticket each operation is."""
    lines = [f'headers = {{ Authorization = "Bearer {token}" }}', ""]
    for seed in tickets.SEEDS:
        for operation in seed.operations:
            name, value = "ticket_id", seed.ticket_id
            if "{task_id}" in operation:
                name, value = "task_id", f"task_{seed.ticket_id}"
            lines += ["[[operations]]", f'include-name = "{operation}"', f'parameters = {{ {name} = "{value}" }}', ""]
    return "\n".join(lines)


def run(stack: Stack, folder: Path) -> int:
    """Schemathesis; its exit code."""
    config = folder / "schemathesis.toml"
    config.write_text(configuration(stack.token))
    main = "from schemathesis.cli import schemathesis; schemathesis()"
    command = [sys.executable, "-c", main, "--config-file", str(config), "run", f"{stack.url}/api/v1/openapi.json"]
    command += ["--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--no-color", "--continue-on-failure"]
    command += ["--seed", os.environ.get("SEED", "1"), "--max-examples", os.environ.get("EXAMPLES", "20")]
    command += ["--request-timeout", "15", "--report", "har", "--report-har-path", str(folder / "answers.har")]
    return subprocess.run(command, cwd=folder, check=False).returncode


def never_taken(document: dict, archive: dict) -> list[str]:
    """Operations without a 2xx."""
    taken = set()
    operations = []
    for path, methods in document["paths"].items():
        for method in methods:
            operations.append((method.upper(), path.split("/")))
    for entry in archive["log"]["entries"]:
        if 200 <= entry["response"]["status"] < 300:
            segments = urlsplit(entry["request"]["url"]).path.split("/")
            for method, path in operations:
                alike = len(path) == len(segments) and all(a == b or a[:1] == "{" for a, b in zip(path, segments))
                if alike and method == entry["request"]["method"]:
                    taken.add((method, "/".join(path)))
    return [f"{method} {'/'.join(path)}" for method, path in operations if (method, "/".join(path)) not in taken]


def main() -> int:
    # Told to end, it ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    worker = os.environ["WORKER_AGENTS"]
    with tempfile.TemporaryDirectory(prefix="worker-agents-api-") as name:
        folder = Path(name)
        stack = Stack(worker, folder)
        try:
            tickets.publish(worker, stack.environment, folder)
            tickets.wait(stack.state_of)
            with urllib.request.urlopen(f"{stack.url}/api/v1/openapi.json", timeout=20) as answer:
                document = json.load(answer)
            status = run(stack, folder)
        finally:
            stack.stop()
        archive = json.loads((folder / "answers.har").read_text())
        lacking = never_taken(document, archive)
        print(f"test-api: {len(archive['log']['entries'])} requests, {len(lacking)} operations without a 2xx")
        for operation in lacking:
            print(f"test-api: never a 2xx: {operation}")
        if stack.token in stack.log.read_text(errors="replace"):
            print("test-api: the worker's log holds the token")
            status = 1
        return 1 if lacking else status


if __name__ == "__main__":
    sys.exit(main())
