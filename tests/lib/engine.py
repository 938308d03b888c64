"""A real Docker engine for a test, started and stopped by tests/platforms/docker."""
from __future__ import annotations

import atexit
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.lib.daemon import ROOT, wait_for

SCRIPTS = ROOT / "tests/platforms/docker"


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("docker", timeout=60)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self.path))


class Engine:
    """`up` skips the test where no engine can be had, and says why."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="orchd-docker-"))
        self.socket = self.folder / "docker.sock"
        self.address = f"unix://{self.socket}"

    def up(self, *flags: object) -> None:
        """`flags`: more for dockerd."""
        done = subprocess.run([SCRIPTS / "up", self.folder, *map(str, flags)], capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            self.down()
            raise unittest.SkipTest("no Docker engine: " + done.stderr.strip()[-300:])

    def down(self) -> None:
        subprocess.run([SCRIPTS / "down", self.folder], capture_output=True, timeout=60)
        shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self, sig: int = signal.SIGKILL) -> None:
        """The engine dies; `up` starts it again with what it had."""
        pid = int((self.folder / "pid").read_text())
        os.kill(pid, sig)
        if sig == signal.SIGKILL:  # its containerd would live on, and be in the way of the next
            with contextlib.suppress(OSError, ValueError):
                os.kill(int((self.folder / "exec/containerd/containerd.pid").read_text()), sig)
        wait_for("the engine to end", lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split(")")[1][:3])
        (self.folder / "pid").unlink(missing_ok=True)
        self.socket.unlink(missing_ok=True)

    def answers(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.call("GET", "/version")[0] == 200
        return False

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """`body`: JSON, or the bytes of a tar archive."""
        connection = _Connection(self.socket)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body)
            kind = {"Content-Type": "application/x-tar" if isinstance(body, bytes) else "application/json"} if data else {}
            connection.request(method, f"/v1.41{path}", data, {**kind, **(headers or {})})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    def containers(self, **labels: str) -> list[dict[str, Any]]:
        filters = {"label": [f"{k}={v}" for k, v in labels.items()]}
        return list(self.call("GET", f"/containers/json?all=1&filters={quote(json.dumps(filters))}")[1])


_shared: Engine | None = None
_reason = ""


def shared_engine() -> Engine:
    """One engine for all tests of this process, which leave no containers behind; up again if one of them left it dead."""
    global _shared, _reason
    if _reason:
        raise unittest.SkipTest(_reason)
    if _shared is None:
        _shared = Engine()
        atexit.register(_shared.down)
    if not _shared.answers():
        try:
            _shared.up()
        except unittest.SkipTest as reason:
            _reason = str(reason)
            raise
    return _shared
