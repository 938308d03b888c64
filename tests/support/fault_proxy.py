"""A Unix socket between a client and a real HTTP server that does to chosen requests what networks and sick servers do.

    with FaultProxy(listen, upstream) as proxy:
        proxy.add("POST", r"/containers/create", Cut("after"))

The first rule that matches a request acts, as often as it says; everything else is passed on as it is, streams too.
"""
from __future__ import annotations

import contextlib
import re
import select
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Fault:
    """`times`: for so many requests; -1: for all."""
    times: int = 1


@dataclass
class Answer(Fault):
    """The server never hears of the request: the client gets this answer."""
    status: int = 500
    body: bytes = b'{"message":"driver failed: the proxy says so"}'
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Cut(Fault):
    """The connection breaks: `before` the server hears of the request, or `after` it has done what was asked and the answer is lost."""
    when: str = "after"


@dataclass
class Truncate(Fault):
    """The answer is complete for HTTP, and its body is only the first bytes of what the server sent."""
    keep: int = 20


@dataclass
class Hang(Fault):
    """The request is taken and nothing happens until `release`; then the connection breaks."""
    gate: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        self.gate.set()


@dataclass
class Rule:
    method: str
    path: re.Pattern[str]
    fault: Fault
    used: int = 0


def read_head(source: socket.socket) -> tuple[bytes, bytes]:
    """The head of a message, with its empty line, and what came behind it."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = source.recv(65536)
        if not piece:
            return b"", b""
        data += piece
    head, rest = data.split(b"\r\n\r\n", 1)
    return head + b"\r\n\r\n", rest


def length_of(head: bytes) -> int | None:
    found = re.search(rb"\r\ncontent-length: *(\d+)\r\n", head, re.I)
    return int(found[1]) if found else None


class FaultProxy:
    def __init__(self, listen: Path, upstream: Path) -> None:
        self.listen, self.upstream = listen, upstream
        self.rules: list[Rule] = []
        self.seen: list[str] = []  # `METHOD PATH` of each request
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(listen))
        self._server.listen(128)
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "FaultProxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.listen.unlink(missing_ok=True)
        with self._lock:
            rules, sockets = self.rules, list(self._open)
        for rule in rules:
            if isinstance(rule.fault, Hang):
                rule.fault.release()
        for connection in sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def add(self, method: str, path: str, fault: Fault) -> Rule:
        rule = Rule(method, re.compile(path), fault)
        with self._lock:
            self.rules.append(rule)
        return rule

    def clear(self) -> None:
        with self._lock:
            self.rules.clear()

    def asked(self, method: str, path: str) -> int:
        """How many requests have been like that."""
        with self._lock:
            return sum(bool(re.match(rf"{method} .*{path}", line)) for line in self.seen)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            self.seen.append(f"{method} {path}")
            for rule in self.rules:
                if rule.method == method and rule.path.search(path) and rule.used != rule.fault.times:
                    rule.used += 1
                    return rule.fault
        return None

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            self._open.add(client)
        try:
            with client, contextlib.suppress(OSError):
                while self._exchange(client):
                    pass
        finally:
            with self._lock:
                self._open.discard(client)

    def _exchange(self, client: socket.socket) -> bool:
        """One request and its answer; False if the connection is used up."""
        head, body = read_head(client)
        if not head:
            return False
        method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
        while len(body) < (length_of(head) or 0):
            piece = client.recv(65536)
            if not piece:
                return False
            body += piece
        fault = self._fault(method, path)
        if isinstance(fault, Answer):
            headers = {"Content-Type": "application/json", "Content-Length": len(fault.body), **fault.headers}
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            client.sendall(f"HTTP/1.1 {fault.status} Fault\r\n{lines}\r\n".encode() + fault.body)
            return True
        if isinstance(fault, Cut) and fault.when == "before":
            return False
        if isinstance(fault, Hang):
            fault.gate.wait()
            return False
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with server:
            server.connect(str(self.upstream))
            # One request a connection there: its end is the end of the answer.
            server.sendall(re.sub(rb"\r\n\r\n$", b"\r\nConnection: close\r\n\r\n", head) + body)
            if isinstance(fault, (Cut, Truncate)):
                answer, rest = read_head(server)
                while True:
                    piece = server.recv(65536)
                    if not piece:
                        break
                    rest += piece
                if isinstance(fault, Truncate):
                    rest = rest[:fault.keep]
                    status = answer.split(b"\r\n", 1)[0]
                    client.sendall(status + b"\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(rest) + rest)
                return False
            self._pass_on(client, server)
        return False

    @staticmethod
    def _pass_on(client: socket.socket, server: socket.socket) -> None:
        while True:
            ready, _, _ = select.select([client, server], [], [])
            if server in ready:
                piece = server.recv(65536)
                if not piece:
                    return
                client.sendall(piece)
            if client in ready and not client.recv(65536):  # it lets go of a stream
                return
