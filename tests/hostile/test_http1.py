"""Raw bytes at the HTTP listeners: noise, requests that break the rules, floods, and clients that never finish."""
from __future__ import annotations

import random
import socket
import unittest

from tests.hostile.attack import SEED, Address, connect, on_each, read, send, throw
from tests.lib.daemon import Daemon

CALL = b"POST /orch.v1.RunService/ListRuns HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


class Http1(unittest.TestCase):
    @classmethod
    def make(cls) -> Daemon:
        return Daemon()

    @classmethod
    def setUpClass(cls) -> None:
        print(f"\nseed {SEED} (ORCH_TEST_SEED)", flush=True)
        cls.daemon = cls.make()
        cls.daemon.start()
        cls.addClassCleanup(cls.daemon.close)
        cls.daemon.http("/orch.v1.RunService/ListRuns", {})

    def call(self) -> bytes:
        return CALL + b"Authorization: Bearer " + self.daemon.token.encode() + b"\r\n"

    def refused(self, address: Address, data: bytes) -> None:
        """Closed without a word, or answered with a refusal; never done, never our fault."""
        answer = throw(address, data, 0.3, end=True)
        self.assertRegex(answer[:12], rb"^(HTTP/1\.[01] (4\d\d|501|505))?$|^$", f"{data[-120:]!r} was answered {answer[:200]!r}")

    @on_each("http", "noise")
    def test_noise(self, address: Address) -> None:
        rng = random.Random(SEED)
        for _ in range(100):
            throw(address, rng.randbytes(rng.randrange(1, 5000)), 0.02)
            throw(address, b"GET /" + rng.randbytes(rng.randrange(1, 300)) + b" HTTP/1.1\r\n\r\n", 0.02)
        throw(address, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(500), 0.05)
        throw(address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0.05)

    @on_each("http", "mutated requests")
    def test_mutated_requests(self, address: Address) -> None:
        rng = random.Random(SEED)
        whole = self.call() + b"Content-Length: 2\r\n\r\n{}"
        for _ in range(150):
            data = bytearray(whole)
            for _ in range(rng.randrange(1, 6)):
                at = rng.randrange(len(data))
                match rng.randrange(4):
                    case 0:
                        data[at] = rng.randrange(256)
                    case 1:
                        del data[at:at + rng.randrange(1, 20)]
                    case 2:
                        data[at:at] = rng.choice((b"\r\n", b"\0", b":", b" ", b"\n", b"%00", b"\xff", b"chunked"))
                    case _:
                        data[at:at] = data[:rng.randrange(100)]
            throw(address, bytes(data), 0.02)

    @on_each("http", "bodies that lie")
    def test_framing(self, address: Address) -> None:
        call = self.call()
        for head in (b"Content-Length: -1", b"Content-Length: 99999999999999999999", b"Content-Length: x",
                     b"Content-Length: 68719476736", b"Content-Length: 2\r\nContent-Length: 3",
                     b"Content-Length: 2\r\nTransfer-Encoding: chunked"):
            self.refused(address, call + head + b"\r\n\r\n{}")
        chunked = call + b"Transfer-Encoding: chunked\r\n\r\n"
        for body in (b"zz\r\n{}\r\n0\r\n\r\n", b"-1\r\n{}\r\n", b"ffffffffffffffff\r\n{}", b"ffffffffffffffffff\r\n{}",
                     b"2\r\n{}xx0\r\n\r\n", b"1" * 5000):
            self.refused(address, chunked + body)
        throw(address, chunked + b"2;" + b"x" * 20000 + b"\r\n{}\r\n0\r\n\r\n", 0.1)  # the library says 500
        for head in (b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked, chunked",
                     b"Transfer-Encoding: chunked\r\nContent-Length: 2"):
            throw(address, call + head + b"\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 0.1)
        self.refused(address, call + b"Content-Length: 10\r\n\r\n{}")  # and then the end

    @on_each("http", "heads")
    def test_heads(self, address: Address) -> None:
        for data in (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
                     b"GET /runs?" + b"a=b&" * 50_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
                     b"GET /runs HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
                     b"GET /runs HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n",
                     b"A" * 100_000, b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET /\r\n\r\n",
                     b"GET http://example.com/runs HTTP/1.1\r\nHost: x\r\n\r\n", b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
                     b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
                     b"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /runs/%2e%2e%2f%2e%2e HTTP/1.1\r\nHost: x\r\n\r\n",
                     b"GET /%zz%f0%9f HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
                     b"GET /runs HTTP/1.1\r\nHost: x\r\n X: folded\r\n\r\n", b"GET /runs HTTP/1.1\r\nHost\r\n\r\n",
                     b"GET /runs HTTP/1.1\nHost: x\n\n", b"\r\n\r\n\r\n", b"TRACE /runs HTTP/1.1\r\nHost: x\r\n\r\n"):
            answer = throw(address, data, 0.1)
            self.assertNotRegex(answer[:12], rb"HTTP/1\.[01] 50[0234]", f"{data[:60]!r}")

    @on_each("http", "pipelined requests")
    def test_pipelines(self, address: Address) -> None:
        one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        with connect(address) as sock:
            send(sock, one * 500)
            self.assertEqual(read(sock, 1.0).count(b"HTTP/1.1 200"), 500)
        call = self.call() + b"Content-Length: 2\r\n\r\n{}"
        with connect(address) as sock:  # many answers, none of which is read
            for _ in range(300):
                if not send(sock, call * 10):
                    break
                sock.settimeout(0.5)

    @on_each("http", "100 MB in chunks", growth=120 << 20)
    def test_bodies_too_large(self, address: Address) -> None:
        """More than the limit in chunks: it is dropped as it comes, not kept."""
        piece = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
        with connect(address, 20.0) as sock:
            send(sock, self.call() + b"Transfer-Encoding: chunked\r\n\r\n")
            for _ in range(100):
                if not send(sock, piece):
                    break
            send(sock, b"0\r\n\r\n")
            self.assertRegex(read(sock, 5.0), rb"^HTTP/1\.1 413")

    @on_each("http", "slow clients")
    def test_clients_that_never_finish(self, address: Address) -> None:
        socks: list[socket.socket] = []
        whole = self.call() + b"Content-Length: 2\r\n\r\n{}"
        try:
            for n in range(300):
                sock = connect(address)
                socks.append(sock)
                send(sock, whole[:n % len(whole)])
            for sock in socks:  # another byte for each
                send(sock, b"x")
            self.assertEqual(self.daemon.http("/healthz", token=None)[0], 200)
        finally:
            for sock in socks:
                sock.close()


if __name__ == "__main__":
    unittest.main()
