"""Raw bytes at the gRPC listeners: noise, broken frames, floods, and the games that HTTP/2 allows."""
from __future__ import annotations

import random
import socket
import struct
import unittest

from tests.hostile.attack import SEED, Address, connect, on_each, read, send, throw
from tests.lib.daemon import Daemon

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS = 1, 4


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"", length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, payload=b"".join(struct.pack(">HI", key, value) for key, value in pairs))


def literal(name: bytes, value: bytes, remember: bool = False) -> bytes:
    """A header without Huffman coding."""
    def text(data: bytes) -> bytes:
        if len(data) < 127:
            return bytes([len(data)]) + data
        rest, out = len(data) - 127, bytearray([127])
        while rest >= 128:
            out.append(rest % 128 + 128)
            rest //= 128
        out.append(rest)
        return bytes(out) + data

    return (b"\x40" if remember else b"\x00") + text(name) + text(value)


def call(path: bytes, token: str = "") -> bytes:
    block = literal(b":method", b"POST") + literal(b":scheme", b"http") + literal(b":path", path)
    block += literal(b":authority", b"x") + literal(b"te", b"trailers") + literal(b"content-type", b"application/grpc")
    return block + (literal(b"authorization", b"Bearer " + token.encode()) if token else b"")


class Http2(unittest.TestCase):
    @classmethod
    def make(cls) -> Daemon:
        return Daemon()

    @classmethod
    def setUpClass(cls) -> None:
        print(f"\nseed {SEED} (ORCH_TEST_SEED)", flush=True)
        cls.daemon = cls.make()
        cls.daemon.start()
        cls.addClassCleanup(cls.daemon.close)
        cls.daemon.ctl("list-runs")  # whatever the first call allocates is there

    @on_each("grpc", "noise")
    def test_noise(self, address: Address) -> None:
        rng = random.Random(SEED)
        for _ in range(60):
            throw(address, rng.randbytes(rng.randrange(1, 5000)), 0.02)
            throw(address, PREFACE[:rng.randrange(len(PREFACE))] + rng.randbytes(10), 0.02)
            throw(address, PREFACE + rng.randbytes(rng.randrange(1, 500)), 0.02)

    @on_each("grpc", "broken frames")
    def test_broken_frames(self, address: Address) -> None:
        rng = random.Random(SEED)
        for _ in range(80):
            data = PREFACE + settings()
            for _ in range(rng.randrange(1, 30)):
                payload = rng.randbytes(rng.choice((0, 1, 4, 5, 8, 9, 100)))
                if rng.random() < 0.3:
                    payload = call(b"/orch.v1.RunService/ListRuns")[:rng.randrange(200)]
                length = rng.choice((None, None, None, 0, len(payload) + 1, 16385, (1 << 24) - 1))
                stream = rng.choice((0, 1, 2, 3, 5, (1 << 31) - 1, 1 << 31))
                data += frame(rng.choice((*range(10), 77, 255)), rng.randrange(256), stream, payload, length)
            throw(address, data[:rng.randrange(1, len(data) + 1)], 0.02)

    @on_each("grpc", "settings")
    def test_settings(self, address: Address) -> None:
        for pairs in ([(4, 1 << 31)], [(5, 1)], [(5, 1 << 24)], [(1, 0xFFFFFFFF)], [(6, 0)], [(3, 0)], [(2, 7)],
                      [(1, 0), (1, 1 << 30)] * 1000, [(9999, 1)] * 2700):
            throw(address, PREFACE + settings(*pairs) + frame(HEADERS, 5, 1, call(b"/x")), 0.05)
        throw(address, PREFACE + frame(SETTINGS, payload=b"12345"), 0.05)
        with connect(address) as sock:  # each wants an answer, and none is read
            send(sock, PREFACE)
            for _ in range(200):
                if not send(sock, settings((4, 65535)) * 100):
                    break

    @on_each("grpc", "header bomb")
    def test_header_bomb(self, address: Address) -> None:
        """One remembered header of 4 kB, named again 16,000 times: 64 MB for 16 kB."""
        for _ in range(4):
            with connect(address) as sock:
                send(sock, PREFACE + settings())
                block = call(b"/orch.v1.RunService/ListRuns") + literal(b"x", b"y" * 4000, remember=True)
                send(sock, frame(HEADERS, 0, 1, block) + frame(CONTINUATION, END_HEADERS, 1, b"\xbe" * 12000))
                for stream in range(3, 43, 2):
                    if not send(sock, frame(HEADERS, 5, stream, b"\xbe" * 16000)):
                        break
                read(sock, 0.1)

    @on_each("grpc", "endless headers")
    def test_continuation_flood(self, address: Address) -> None:
        for piece in (literal(b"x", b"y" * 16000), b"", b"\x82" * 100):
            with connect(address) as sock:
                send(sock, PREFACE + settings() + frame(HEADERS, 0, 1, call(b"/x")))
                for _ in range(1000 if piece else 3000):
                    if not send(sock, frame(CONTINUATION, 0, 1, piece)):
                        break
                read(sock, 0.1)

    @on_each("grpc", "pings and rapid resets")
    def test_pings_and_resets(self, address: Address) -> None:
        with connect(address, 1.0) as sock:
            send(sock, PREFACE + settings())
            for _ in range(200):
                if not send(sock, frame(PING, 0, 0, b"12345678") * 100):
                    break
        with connect(address, 1.0) as sock:
            send(sock, PREFACE + settings())
            for n in range(4000):
                stream = 2 * n + 1
                block = call(b"/orch.v1.RunService/ListRuns", self.daemon.token)
                if not send(sock, frame(HEADERS, END_HEADERS, stream, block) +
                            frame(RST_STREAM, 0, stream, struct.pack(">I", 8))):
                    break
            read(sock, 0.1)

    @on_each("grpc", "windows")
    def test_windows(self, address: Address) -> None:
        for update in (0, (1 << 31) - 1, 1 << 31):
            throw(address, PREFACE + settings() + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", update)) * 3, 0.05)
        with connect(address) as sock:  # answers for which there is never room
            send(sock, PREFACE + settings((4, 0)))
            for n in range(1000):
                stream = 2 * n + 1
                block = call(b"/orch.v1.OrchestratorService/ListFlavors", self.daemon.token)
                if not send(sock, frame(HEADERS, END_HEADERS, stream, block) +
                            frame(DATA, END_STREAM, stream, b"\0\0\0\0\0")):
                    break
            read(sock, 0.3)

    @on_each("grpc", "lengths and compression")
    def test_messages_that_lie(self, address: Address) -> None:
        for body in (b"\0\xff\xff\xff\xff", b"\0\x7f\xff\xff\xff" + b"x" * 1000, b"\x01\0\0\0\x05abcde", b"\xff" * 5,
                     b"\0\0\0\0\x05\x0a\xff\xff\xff\xff", b"\0\0\0\0\0" * 1000, b"\0\0"):
            for path in (b"/orch.v1.RunService/SubmitRun", b"/orch.v1.RunService/WatchRuns", b"/x", b"", b"\0", b"/" * 9000):
                data = PREFACE + settings() + frame(HEADERS, END_HEADERS, 1, call(path, self.daemon.token))
                throw(address, data + frame(DATA, END_STREAM, 1, body), 0.02)

    @on_each("grpc", "connections that say nothing")
    def test_many_connections(self, address: Address) -> None:
        socks: list[socket.socket] = []
        try:
            for n in range(300):
                sock = connect(address)
                socks.append(sock)
                send(sock, PREFACE[:n % (len(PREFACE) + 1)])
            self.daemon.ctl("list-runs")
        finally:
            for sock in socks:
                sock.close()


if __name__ == "__main__":
    unittest.main()
