"""Other servers at the address of the store: each gives one line of error within a limited time, and nothing is written."""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Event, Thread

import pytest
from conftest import SMALL, CommandLine
from test_ui import free_port

from agmbench.trackers import patience

Behaviour = Callable[[socket.socket, Event], None]


def answering(status: str, kind: str, body: str) -> Behaviour:
    """A server that reads a request and gives this answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"

    def behave(connection: socket.socket, _: Event) -> None:
        connection.recv(65536)
        connection.sendall((head + body).encode())

    return behave


def silent(connection: socket.socket, over: Event) -> None:
    connection.recv(65536)
    over.wait()


def closing(connection: socket.socket, over: Event) -> None:
    pass


def slow(connection: socket.socket, over: Event) -> None:
    """Send a complete answer very slowly, byte by byte."""
    connection.recv(65536)
    for byte in b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + b" " * 100_000:
        connection.sendall(bytes([byte]))
        if over.wait(0.2):
            return


SERVERS: dict[str, Behaviour | None] = {
    "refuses": None,
    "says nothing": silent,
    "closes at once": closing,
    "answers 500": answering("500 Internal Server Error", "text/plain", "it broke\nin two lines"),
    "answers 404": answering("404 Not Found", "text/plain", "nothing here"),
    "answers HTML": answering("200 OK", "text/html", "<html>\n<body>Welcome</body>\n</html>"),
    "answers invalid JSON": answering("200 OK", "application/json", '{"experiments": ['),
    "answers slowly": slow,
}


@pytest.fixture(params=SERVERS)
def uri(request: pytest.FixtureRequest) -> Iterator[str]:
    behave = SERVERS[request.param]
    if behave is None:
        yield f"http://me:hush-hush@127.0.0.1:{free_port()}"
        return
    over = Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            behave(connection, over)

    def accept() -> None:
        with suppress(OSError):  # raised when the socket is closed
            while True:
                Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    Thread(target=accept, daemon=True).start()
    yield f"http://me:hush-hush@127.0.0.1:{listener.getsockname()[1]}"
    over.set()
    listener.close()


COMMANDS = {
    "compare": ("compare",),
    "run": ("run", *SMALL),
    "suite": ("suite", "run", "mini"),
    "sweep": ("sweep", *SMALL, "-m", "agm"),
}


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_that_is_none_is_one_line(line: CommandLine, monkeypatch: pytest.MonkeyPatch, uri: str, command: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr(patience, "ANSWER", 3)
    error = line.refused(*COMMANDS[command])
    assert "the MLflow store http://***@127.0.0.1:" in error
    assert "hush" not in error
    assert len(error) < 500
