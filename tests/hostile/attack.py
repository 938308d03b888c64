"""What the hostile tests share: raw connections to the daemon's four listeners, and a watch on how it bears them."""
from __future__ import annotations

import contextlib
import os
import random
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple, Union

from tests.lib.daemon import Daemon, wait_for

SEED = int(os.environ.get("ORCH_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
# Under AddressSanitizer freed memory is kept for a while, and everything takes longer.
SANITIZED = "asan" in os.environ.get("ORCH_TEST_BIN", "")
GROWTH = (1024 if SANITIZED else 96) << 20

class Tls(NamedTuple):
    """Behind TLS."""
    host: str
    port: int
    context: ssl.SSLContext


Address = Union[str, tuple[str, int], Tls]  # a path, or host and port


def listeners(daemon: Daemon, kind: str) -> dict[str, Address]:
    """`grpc` or `http`: the TCP and the Unix address; of a daemon with a certificate the one behind TLS alone."""
    host, port = daemon.server[kind].removeprefix("http://").removeprefix("https://").rsplit(":", 1)
    if daemon.ca is not None:
        context = ssl.create_default_context(cafile=str(daemon.ca))
        context.set_alpn_protocols(["h2"] if kind == "grpc" else ["http/1.1"])
        return {f"{kind} tls": Tls(host, int(port), context)}
    return {f"{kind} tcp": (host, int(port)), f"{kind} unix": str(daemon.server[f"{kind}_unix"])}


def connect(address: Address, seconds: float = 5.0, plain: bool = False) -> socket.socket:
    """`plain`: without the handshake, where there would be one."""
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(seconds)
    if not isinstance(address, Tls):
        sock.connect(address)
        return sock
    sock.connect((address.host, address.port))
    return sock if plain else address.context.wrap_socket(sock, server_hostname=address.host)


def send(sock: socket.socket, data: bytes) -> bool:
    """False if the daemon has closed the connection, or takes no more."""
    try:
        sock.sendall(data)
        return True
    except OSError:
        return False


def read(sock: socket.socket, seconds: float = 2.0, most: int = 1 << 20) -> bytes:
    """What comes until the end of the connection, a silence of `seconds`, or `most` bytes."""
    out = b""
    sock.settimeout(seconds)
    with contextlib.suppress(OSError):
        while len(out) < most:
            piece = sock.recv(65536)
            if not piece:
                break
            out += piece
    return out


def throw(address: Address, data: bytes, wait: float = 0.2, end: bool = False) -> bytes:
    """One connection with these bytes, at their end nothing (or, by `end`, the end of what we send); what came back."""
    with connect(address) as sock:
        send(sock, data)
        if end and not isinstance(sock, ssl.SSLSocket):  # TLS has no half of an end here
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
        return read(sock, wait)


def on_each(kind: str, what: str, growth: int = 0) -> Callable[[Callable[[Any, Address], None]], Callable[[Any], None]]:
    """A test that attacks each of the listeners, and sees that decent clients are served after it."""
    def wrap(attack: Callable[[Any, Address], None]) -> Callable[[Any], None]:
        def test(self: Any) -> None:
            for name, address in listeners(self.daemon, kind).items():
                with self.subTest(name):
                    with survives(self.daemon, f"{name}: {what}", growth or GROWTH):
                        attack(self, address)
                    self.daemon.ctl("list-runs")
                    self.assertEqual(self.daemon.http("/orch.v1.RunService/ListRuns", {})[0], 200)

        test.__doc__ = attack.__doc__
        return test

    return wrap


class Watch:
    """Asks /healthz all the time, on a connection of its own each time; remembers the slowest answer."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.slowest = 0.0
        self.asked = 0
        self.faults: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        address = next(iter(listeners(self.daemon, "http").values()))
        while True:
            started = time.monotonic()
            try:
                with connect(address) as sock:
                    sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    answer = read(sock, 5.0)
                if not answer.startswith(b"HTTP/1.1 200"):
                    self.faults.append(f"/healthz answered {answer[:80]!r}")
            except OSError as error:
                self.faults.append(f"/healthz: {error}")
            self.slowest = max(self.slowest, time.monotonic() - started)
            self.asked += 1
            if self._stop.wait(0.02):
                return


def descriptors(daemon: Daemon) -> int:
    assert daemon.process is not None
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


def peak_memory(daemon: Daemon) -> int:
    assert daemon.process is not None
    for line in Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


def reset_peak(daemon: Daemon) -> None:
    assert daemon.process is not None
    Path(f"/proc/{daemon.process.pid}/clear_refs").write_text("5")


@contextlib.contextmanager
def survives(daemon: Daemon, what: str, growth: int = GROWTH, seconds: float = 3.0 if SANITIZED else 1.0) -> Iterator[None]:
    """The daemon stays up and answers within a second, its memory stays in bounds, every descriptor comes back."""
    assert daemon.process is not None
    memory, files = daemon.memory(), descriptors(daemon)
    reset_peak(daemon)
    started = time.monotonic()
    with Watch(daemon) as watch:
        yield
    assert daemon.process.poll() is None, f"{what}: orchd ended with {daemon.process.returncode}: {daemon.log()[-3000:]}"
    assert not watch.faults, f"{what}: {watch.faults[:3]}"
    grown = peak_memory(daemon) - memory
    print(f"  {what}: {time.monotonic() - started:.1f} s; slowest of {watch.asked} /healthz {watch.slowest * 1000:.0f} ms; "
          f"memory grew by at most {grown >> 20} MB", flush=True)
    assert watch.slowest < seconds, f"{what}: /healthz took {watch.slowest:.2f} s"
    assert grown < growth, f"{what}: memory grew by {grown >> 20} MB"
    wait_for(f"{what}: descriptors to come back", lambda: descriptors(daemon) <= files + 4)
