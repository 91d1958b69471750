"""The least of a Schema Registry, in this process: registers a schema, serves it by id, lists the subjects."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class LightRegistry:
    """Serves on a free port until stopped."""

    def __init__(self) -> None:
        schemas: list[str] = []
        subjects: set[str] = set()
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                number = path.removeprefix("/schemas/ids/")
                if path == "/subjects":
                    self._answer(200, sorted(subjects))
                elif number.isdecimal() and 0 < int(number) <= len(schemas):
                    self._answer(200, {"schema": schemas[int(number) - 1]})
                else:
                    self._answer(404, {"error_code": 40403, "message": "Schema not found"})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                schema = json.loads(body)["schema"]
                with lock:
                    subjects.add(self.path.split("/")[2])
                    if schema not in schemas:
                        schemas.append(schema)
                    self._answer(200, {"id": schemas.index(schema) + 1})

            def _answer(self, status: int, body: object) -> None:
                payload = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, format: str, *arguments: object) -> None:
                """Nothing: requests are of no interest."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()
