"""A TCP relay that can be closed: a peer that is away without having lost anything."""

import contextlib
import random
import socket
import threading


def free_port() -> int:
    """A port that nobody listens on, below the range from which Linux takes the ports of outgoing connections: a client
    that tries again and again while its server is away would otherwise get the server's own port in the end."""
    while True:
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", random.randint(15_000, 29_999)))
            return int(listener.getsockname()[1])


class Gateway:
    """Relays connections on a port of its own to another, while it is open."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._listener: socket.socket | None = None
        self.port = free_port()
        self.open()

    def open(self) -> None:
        """Lets connections through, at the same port each time."""
        listener = self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def close(self) -> None:
        """Refuses connections, and cuts those there are."""
        if self._listener is not None:
            # Closing alone does not wake the thread that waits for a connection.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        with self._lock:
            for pair in self._pairs:
                _cut(pair)
            self._pairs.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
                peer = socket.create_connection(self._target, 5)
            except OSError:
                if listener is not self._listener:
                    return
                continue
            pair = (client, peer)
            with self._lock:
                self._pairs.add(pair)
            for source, sink in (pair, pair[::-1]):
                threading.Thread(target=self._relay, args=(source, sink, pair), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, pair: tuple[socket.socket, socket.socket]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with self._lock:
            self._pairs.discard(pair)
        _cut(pair)


def _cut(pair: tuple[socket.socket, socket.socket]) -> None:
    for each in pair:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
