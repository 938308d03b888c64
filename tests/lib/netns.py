"""A network of its own for a test: another namespace, and two ends of a wire between it and this one."""
from __future__ import annotations

import contextlib
import os
import subprocess
import unittest
from typing import Iterator


def _ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True, capture_output=True, text=True, timeout=60)


class Wire:
    """From here (`here`) to the namespace of process `pid` (`there`)."""

    def __init__(self, pid: int, number: int) -> None:
        self.pid = pid
        # Of addresses that are for links alone nobody else uses these.
        self.here, self.there = f"10.231.{number % 250}.1", f"10.231.{number % 250}.2"
        self.near, self.far = f"orchn{os.getpid() % 100000}", f"orchf{os.getpid() % 100000}"
        try:
            _ip("link", "add", self.near, "type", "veth", "peer", "name", self.far, "netns", str(pid))
            _ip("addr", "add", f"{self.here}/30", "dev", self.near)
            _ip("link", "set", self.near, "up")
            for command in (["addr", "add", f"{self.there}/30", "dev", self.far], ["link", "set", self.far, "up"],
                            ["link", "set", "lo", "up"], ["route", "add", "default", "via", self.here]):
                subprocess.run([*self.enter(), "ip", *command], check=True, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.CalledProcessError) as error:
            self.cut()
            raise unittest.SkipTest(f"no network namespaces here: {getattr(error, 'stderr', error)}") from None

    def enter(self) -> list[str]:
        """What a command begins with to run there."""
        return ["nsenter", "--target", str(self.pid), "--net"]

    def cut(self) -> None:
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            _ip("link", "del", self.near)  # its other end goes with it


@contextlib.contextmanager
def namespace(number: int) -> Iterator[Wire]:
    """An empty network namespace, kept by a process that only waits, and a wire to it."""
    if os.geteuid() != 0:
        raise unittest.SkipTest("network namespaces need root")
    keeper = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
    wire = None
    try:
        # `cat` lives in it once its namespace is not ours.
        own = os.readlink("/proc/self/ns/net")
        for _ in range(10_000):
            if os.readlink(f"/proc/{keeper.pid}/ns/net") != own:
                break
            if keeper.poll() is not None:
                raise unittest.SkipTest("no network namespaces here")
        wire = Wire(keeper.pid, number)
        yield wire
    finally:
        if wire is not None:
            wire.cut()
        assert keeper.stdin
        keeper.stdin.close()
        keeper.wait(30)
