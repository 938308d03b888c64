"""Servers that speak S3 for a test, and a wire between them and the daemon that breaks."""
from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path

from tests.lib.daemon import ROOT


class Server:
    """`versitygw` or `moto`, started by tests/platforms; `up` skips the test where it cannot be had, and says why."""

    def __init__(self, kind: str) -> None:
        self.scripts = ROOT / "tests/platforms" / kind
        self.kind = kind
        self.folder = Path(tempfile.mkdtemp(prefix=f"orchd-{kind}-"))
        self.address = ""

    def up(self) -> None:
        done = subprocess.run([self.scripts / "up", self.folder], capture_output=True, text=True, timeout=1800)
        if done.returncode != 0:
            self.down()
            raise unittest.SkipTest(f"no {self.kind}: " + done.stderr.strip()[-300:])
        self.address = done.stdout.strip().splitlines()[-1]

    def down(self) -> None:
        subprocess.run([self.scripts / "down", self.folder], capture_output=True, timeout=60)
        shutil.rmtree(self.folder, ignore_errors=True)

    def keys(self, user: str) -> tuple[str, str]:
        if self.kind == "versitygw":
            return "ORCHTEST", "orchtestsecretkey"
        access, secret = json.loads((self.folder / "keys").read_text())[user]
        return access, secret

    # Of VersityGW, which keeps objects as files.
    def bucket(self, name: str) -> Path:
        path = self.folder / "root" / name
        path.mkdir(exist_ok=True)
        return path


class Wire:
    """Forwards to a server; the first `cuts` connections that send more than `after` bytes are cut there."""

    def __init__(self, address: str, cuts: int = 0, after: int = 0, back: bool = False, port: int = 0, here: str = "127.0.0.1") -> None:
        host, at = address.removeprefix("http://").split(":")
        self.to = (host, int(at))
        self.cuts, self.after, self.back = cuts, after, back
        self.connections = 0
        self.open: list[socket.socket] = []
        self.lock = threading.Lock()
        self.listener = socket.create_server((here, port))
        self.port = self.listener.getsockname()[1]
        self.address = f"http://{here}:{self.port}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                one, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                two = socket.create_connection(self.to)
            except OSError:
                one.close()
                continue
            with self.lock:
                self.open.append(one)
            threading.Thread(target=self.pump, args=(one, two, not self.back), daemon=True).start()
            threading.Thread(target=self.pump, args=(two, one, self.back), daemon=True).start()

    def pump(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        seen = 0
        try:
            while data := source.recv(65536):
                seen += len(data)
                if counted and seen > self.after:
                    with self.lock:
                        cut, self.cuts = self.cuts > 0, max(0, self.cuts - 1)
                    if cut:
                        break
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    def cut(self) -> int:
        """All connections that there are now. How many."""
        with self.lock:
            cut, self.open = [one for one in self.open if one.fileno() >= 0], []
        for one in cut:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        return len(cut)

    def close(self) -> None:
        try:
            self.listener.shutdown(socket.SHUT_RDWR)  # who waits there would go on otherwise
        except OSError:
            pass
        self.listener.close()
