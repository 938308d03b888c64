"""The listeners behind TLS: everything that the plain ones bear, and what TLS itself allows."""
from __future__ import annotations

import random
import shutil
import socket
import struct
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any

from tests.hostile.attack import SEED, Tls, connect, listeners, read, send, survives
from tests.hostile.test_http1 import Http1
from tests.hostile.test_http2 import PREFACE, Http2
from tests.lib.certificates import Authority, flags
from tests.lib.daemon import Daemon

_made: list[Authority] = []


def certified() -> Daemon:
    if not _made:
        folder = Path(tempfile.mkdtemp(prefix="orchd-hostile-"))
        unittest.addModuleCleanup(shutil.rmtree, folder, ignore_errors=True)
        _made.append(Authority(folder))
        _made[0].sign("daemon")
    return Daemon(flags=flags((_made[0].folder / "daemon.pem", _made[0].folder / "daemon.key")), ca=_made[0].certificate)


class Http1OverTls(Http1):
    @classmethod
    def make(cls) -> Daemon:
        return certified()


class Http2OverTls(Http2):
    @classmethod
    def make(cls) -> Daemon:
        return certified()


del Http1, Http2  # they are run where they are written


def hello(rng: random.Random) -> bytes:
    """A ClientHello that a server reads on after: TLS 1.2, one suite, no extension."""
    body = b"\x03\x03" + rng.randbytes(32) + b"\0" + b"\0\x02\xc0\x2f" + b"\x01\0"
    message = b"\x01" + struct.pack(">I", len(body))[1:] + body
    return b"\x16\x03\x01" + struct.pack(">H", len(message)) + message


class Handshakes(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = certified()
        cls.daemon.start()
        cls.addClassCleanup(cls.daemon.close)
        cls.daemon.ctl("list-runs")
        cls.daemon.http("/orch.v1.RunService/ListRuns", {})

    def each(self) -> list[tuple[str, Tls]]:
        found: list[tuple[str, Any]] = []
        for kind in ("grpc", "http"):
            found += listeners(self.daemon, kind).items()
        return found

    def decent(self) -> None:
        self.daemon.ctl("list-runs")
        self.assertEqual(self.daemon.http("/orch.v1.RunService/ListRuns", {})[0], 200)

    def test_plain_clients(self) -> None:
        for name, address in self.each():
            with self.subTest(name), survives(self.daemon, f"{name}: plain text"):
                for data in (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", PREFACE + b"\0\0\0\4\0\0\0\0\0",
                             b"POST /orch.v1.RunService/ListRuns HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " +
                             self.daemon.token.encode() + b"\r\nContent-Length: 2\r\n\r\n{}"):
                    with connect(address, plain=True) as sock:
                        send(sock, data)
                        answer = read(sock, 2.0)
                        self.assertNotIn(b"200 OK", answer)
                        self.assertNotIn(b"runs", answer)
            self.decent()

    def test_noise(self) -> None:
        rng = random.Random(SEED)
        for name, address in self.each():
            with self.subTest(name), survives(self.daemon, f"{name}: noise instead of a handshake"):
                for _ in range(150):
                    whole = bytearray(hello(rng))
                    for _ in range(rng.randrange(8)):
                        whole[rng.randrange(len(whole))] = rng.randrange(256)
                    with connect(address, plain=True) as sock:
                        send(sock, bytes(whole[:rng.randrange(1, len(whole) + 1)]) + rng.randbytes(rng.randrange(200)))
                        read(sock, 0.02)
                for kind in (20, 21, 22, 23, 24, 255):  # records of every kind and length before a handshake
                    for length in (0, 1, 16384, 18433, 65535):
                        with connect(address, plain=True) as sock:
                            send(sock, bytes([kind, 3, 3]) + struct.pack(">H", length) + rng.randbytes(min(length, 500)))
                            read(sock, 0.02)
            self.decent()

    def test_floods(self) -> None:
        rng = random.Random(SEED)
        for name, address in self.each():
            with self.subTest(name), survives(self.daemon, f"{name}: handshakes that are given up", seconds=5.0):
                for _ in range(300):
                    with connect(address, plain=True) as sock:
                        send(sock, hello(rng))
                for _ in range(50):
                    connect(address).close()
            self.decent()

    def test_handshakes_that_never_end(self) -> None:
        """A byte now and then does not keep a connection: those that do not get to a request are closed."""
        rng = random.Random(SEED)
        for name, address in self.each():
            with self.subTest(name), survives(self.daemon, f"{name}: slow handshakes", seconds=5.0):
                socks: list[tuple[socket.socket, bytes]] = []
                try:
                    for _ in range(200):
                        sock = connect(address, plain=True)
                        socks.append((sock, hello(rng) * 2))
                        sock.setblocking(False)
                    began = time.monotonic()
                    at = 0
                    while socks and time.monotonic() - began < 60:
                        for sock, data in list(socks):
                            try:
                                sock.send(data[at:at + 1])
                                if sock.recv(100) == b"":
                                    raise ConnectionResetError
                            except BlockingIOError:
                                continue
                            except OSError:
                                sock.close()
                                socks.remove((sock, data))
                        self.decent()
                        at = min(at + 1, 60)
                        time.sleep(1)  # a slow client is what is tested
                    self.assertEqual(len(socks), 0, "kept after a minute")
                finally:
                    for sock, _ in socks:
                        sock.close()
            self.decent()

    def test_heads_that_never_end(self) -> None:
        """The same behind the handshake."""
        address = listeners(self.daemon, "http")["http tls"]
        with survives(self.daemon, "http tls: slow heads", seconds=5.0):
            socks = []
            try:
                for _ in range(100):
                    sock = connect(address, 20.0)
                    socks.append(sock)
                    send(sock, b"GET /healthz HTTP/1.1\r\nX: ")
                began = time.monotonic()
                while socks and time.monotonic() - began < 60:
                    for sock in list(socks):
                        if not send(sock, b"x"):
                            sock.close()
                            socks.remove(sock)
                    time.sleep(1)  # a slow client is what is tested
                self.assertEqual(len(socks), 0, "kept after a minute")
            finally:
                for sock in socks:
                    sock.close()
        self.decent()

    def test_huge_heads(self) -> None:
        address = listeners(self.daemon, "http")["http tls"]
        with survives(self.daemon, "http tls: huge heads"):
            for _ in range(20):
                with connect(address, 20.0) as sock:
                    send(sock, b"GET /healthz HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + b"x" * 200_000 + b"\r\n\r\n")
                    self.assertNotIn(b" 200 ", read(sock, 1.0)[:20])
        self.decent()


if __name__ == "__main__":
    unittest.main()
