"""A fork right into the control group of another process, where the daemon's supervisor finds and ends it as any other
process of the step; it may move to another step's later. Where there are none the step's ORCH_FENCE is written over the
room that was left for it in what /proc shows of the environment.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
import threading

from ._marks import ROOM, ROOM_BYTES

_CLONE3 = 435
_INTO_CGROUP, _SET_TID, _CLEAR_TID = 0x2_0000_0000, 0x0100_0000, 0x0020_0000
_GET_TID_ADDRESS, _SET_PDEATHSIG = 40, 1


class NotWarm(Exception):
    """A fresh process is what these steps need."""


class Cloner:
    def __init__(self) -> None:
        """Raises NotWarm where it cannot be done."""
        self._libc = ctypes.PyDLL(None, use_errno=True)
        self._libc.syscall.restype = ctypes.c_long
        address = ctypes.c_void_p()
        own = threading.get_native_id()
        # As in fork: the C library keeps the thread's number there.
        if self._libc.prctl(_GET_TID_ADDRESS, ctypes.byref(address), 0, 0, 0) != 0 or not address.value:
            raise NotWarm("no address of the thread's number")
        if ctypes.c_int.from_address(address.value).value != own:
            raise NotWarm("not where the C library keeps it")
        self._tid = address.value
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            mounts = [line.split() for line in file if " - cgroup2 " in line]
        self._mount = mounts[0][4] if mounts else ""
        self._own_group = self._group("self")
        with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
            self._environment = int(file.read().rpartition(")")[2].split()[47])  # env_start
        room = ctypes.string_at(self._environment, len(ROOM))
        if room != ROOM.encode():
            raise NotWarm("no room")

    def group_of(self, pid: int) -> str:
        return self._group(str(pid))

    def join(self, group: str | None = None) -> None:
        """Moves this process, and those that it forks, into that control group; without one, out of a step's and back
        to the worker's. Raises OSError."""
        wanted = self._own_group if group is None else group
        if wanted != self._group("self"):
            with open(f"{self._mount}{wanted}/cgroup.procs", "wb", buffering=0) as file:
                file.write(b"0")

    @staticmethod
    def _group(pid: str) -> str:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
            for line in file:
                if line.startswith("0::"):
                    return line[3:].rstrip("\n")
        return ""

    def fork(self, beside: int) -> int:
        """A fork in the control group of process `beside`. Raises OSError; then there is none."""
        group = self.group_of(beside)
        fd = -1
        if group != self._own_group:
            fd = os.open(self._mount + group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        flags = _SET_TID | _CLEAR_TID | (_INTO_CGROUP if fd >= 0 else 0)
        arguments = struct.pack("11Q", flags, 0, self._tid, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, max(fd, 0))
        python = ctypes.pythonapi
        python.PyOS_BeforeFork()
        pid = self._libc.syscall(ctypes.c_long(_CLONE3), arguments, ctypes.c_size_t(88))
        if pid == 0:
            python.PyOS_AfterFork_Child()
            return 0
        error = ctypes.get_errno()
        python.PyOS_AfterFork_Parent()
        if fd >= 0:
            os.close(fd)
        if pid < 0:
            raise OSError(error, os.strerror(error))
        return int(pid)

    def mark(self, environ: dict[bytes, bytes]) -> None:
        """What the supervisor looks for, where /proc shows the environment. Raises OSError if it has no room."""
        names = (b"ORCH_FENCE", b"ORCH_SCRATCH")
        text = b"".join(name + b"=" + environ[name] + b"\0" for name in names if name in environ)
        if len(text) > ROOM_BYTES:
            raise OSError("no room for ORCH_FENCE")
        ctypes.memmove(self._environment, text.ljust(ROOM_BYTES, b"\0"), ROOM_BYTES)

    def end_with_parent(self) -> None:
        self._libc.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
