"""What makes a process a warm worker: it forks for each step that `_warm` hands over, right into the step's control
group, where the daemon's supervisor finds and ends it as any other process of the step. Where there are none the step's
ORCH_FENCE is written over the room that was left for it in what /proc shows of the environment.

The process that imported is not the one that serves: that is a fork of it, which has no threads, so that it can be
copied by clone3.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
from typing import Callable

from ._marks import ROOM, ROOM_BYTES

IDLE_SECONDS = 60.0
_MOST_REQUEST = 16 << 20
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

    @staticmethod
    def _group(pid: str) -> str:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
            for line in file:
                if line.startswith("0::"):
                    return line[3:].rstrip("\n")
        return ""

    def fork(self, beside: int) -> int:
        """A fork in the control group of process `beside`. Raises OSError; then there is none."""
        group = self._group(str(beside))
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


class _Step:
    def __init__(self, peer: socket.socket, pid: int, gate: int, note: int) -> None:
        """Raises OSError."""
        self.pidfd = os.pidfd_open(pid)
        self.peer = peer
        self.pid = pid
        self.note = note  # what it has written for those after it; -1: nothing can be
        self.gate = gate  # what is written there lets it begin; -1: it has begun

    def close(self) -> None:
        self.peer.close()
        os.close(self.pidfd)
        for fd in (self.gate, self.note):
            if fd >= 0:
                os.close(fd)
        self.gate = self.note = -1


class Request:
    def __init__(self, data: bytes) -> None:
        self.stale = False  # set by `fits`: the worker is out of date
        parts = data.split(b"\0")
        self.folder = parts[0]
        self.mask = int(parts[1])
        count = int(parts[2])
        self.words = [os.fsdecode(word) for word in parts[3 : 3 + count]]
        self.environ = dict(part.split(b"=", 1) for part in parts[3 + count :])


def _receive(peer: socket.socket, fds: list[int]) -> Request:
    data, ancillary, _, _ = peer.recvmsg(1 << 16, socket.CMSG_SPACE(12))
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.extend(struct.unpack(f"{len(content) // 4}i", content[: len(content) // 4 * 4]))
    size = int.from_bytes(data[:8], "little")
    if size > _MOST_REQUEST:
        raise ValueError(size)
    while len(data) < size + 8:
        more = peer.recv(1 << 16)
        if not more:
            raise ValueError("cut off")
        data += more
    return Request(data[8:])


class Server:
    """Serves at `listener`, which is bound to `path`. `fits` says of each step whether this worker's fork is as good as
    a fresh process; one that does not fit is left to its first process, and `stale` is called once no step runs.
    `before` may get ready, for this and later forks, what a step needs; `after` is given what a step that ended with 0
    has written to `note`, a file that it shares with the worker alone."""

    def __init__(
        self,
        cloner: Cloner,
        listener: socket.socket,
        path: str,
        fits: Callable[[Request], bool],
        stale: Callable[[], None] = lambda: None,
        idle_seconds: float = IDLE_SECONDS,
        before: Callable[[Request], None] = lambda request: None,
        after: Callable[[bytes], None] | None = None,
    ) -> None:
        self._listener, self._path, self._fits, self._stale = listener, path, fits, stale
        self._idle_seconds = idle_seconds
        self._before = before
        self._after = after
        self.note = -1  # in a fork, if there is an `after`
        self._cloner = cloner
        self._steps: list[_Step] = []
        self._pid = os.getpid()
        self._is_full = False  # nobody else can be taken right now
        self._inode = os.stat(path).st_ino

    def serve(self) -> list[str]:
        """Returns in a fork, which is a step now, with its words; the server itself never comes back."""
        idle_since = time.monotonic()
        while True:
            poll = select.poll()
            if not self._is_full:
                poll.register(self._listener, select.POLLIN)
            self._is_full = False  # until a step has ended, or for a second
            for step in self._steps:
                poll.register(step.peer, select.POLLIN)
                poll.register(step.pidfd, select.POLLIN)
            ready = {fd for fd, _ in poll.poll(1000)}
            for step in [one for one in self._steps if one.pidfd in ready]:
                self._ended(step)
            for step in [one for one in self._steps if one.peer.fileno() in ready]:
                self._heard(step)
            if self._listener.fileno() in ready:
                words = self._take()
                if words is not None:
                    return words
            if ready or self._steps:
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > self._idle_seconds or not self._is_reachable():
                self._end()

    def _is_reachable(self) -> bool:
        try:
            return os.stat(self._path).st_ino == self._inode
        except OSError:
            return False

    def _end(self) -> None:
        if self._is_reachable():
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        os._exit(0)

    def _ended(self, step: _Step) -> None:
        _, status = os.waitpid(step.pid, 0)
        word = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
        with contextlib.suppress(OSError):
            step.peer.sendall(f"{word}\n".encode())
        said = _read(step.note) if step.note >= 0 and status == 0 else b""
        if self._after is not None and said:
            self._after(said)
        self._forget(step)

    def _heard(self, step: _Step) -> None:
        """Its first process knows of it, and it begins; or that is gone, and so it goes."""
        word = b""
        with contextlib.suppress(OSError):
            word = step.peer.recv(3)
        if word == b"go\n" and step.gate >= 0:
            with contextlib.suppress(OSError):  # it is gone, and its end is heard of
                os.write(step.gate, b"g")
            os.close(step.gate)
            step.gate = -1
            return
        _end(step.pid)
        self._forget(step)

    def _forget(self, step: _Step) -> None:
        step.close()
        self._steps.remove(step)

    def _take(self) -> list[str] | None:
        """What the system refuses is refused to this step alone, which is left to its first process."""
        try:
            peer, _ = self._listener.accept()
        except OSError:  # no descriptor is free: it waits in the queue
            self._is_full = True
            return None
        fds: list[int] = []
        kept = False
        try:
            peer.settimeout(5)
            request = _receive(peer, fds)
            pid, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if uid != os.geteuid() or len(fds) != 3 or not self._good(request):
                return None
            self._before(request)
            gate, opened = os.pipe()
            fds.append(gate)
            note = _new_note() if self._after is not None else -1
            try:
                child = self._cloner.fork(pid)
            except OSError:
                os.close(opened)
                if note >= 0:
                    os.close(note)
                raise
            if child == 0:
                try:
                    os.close(opened)
                    self.note = note
                    return self._become(request, fds, peer, pid)
                except BaseException as fault:
                    _say(fds, f"orchd: the worker's fork cannot become the step: {fault!r}\n")
                    os._exit(127)
            try:
                self._steps.append(_Step(peer, child, opened, note))
            except OSError:
                _end(child)
                os.close(opened)
                if note >= 0:
                    os.close(note)
                raise
            kept = True  # from here on it is the loop that hears that nobody is there
            with contextlib.suppress(OSError):
                peer.sendall(f"pid {child}\n".encode())
        except (OSError, ValueError, LookupError, struct.error):
            return None
        finally:
            for fd in fds:
                os.close(fd)
            if not kept and peer.fileno() >= 0:
                peer.close()
        return None

    def _good(self, request: Request) -> bool:
        """If not, this step gets a fresh process, and those after it another worker."""
        if self._fits(request):
            return True
        if request.stale:
            if self._is_reachable():
                os.unlink(self._path)
            if not self._steps:
                self._stale()
                os._exit(0)
        return False

    def _become(self, request: Request, fds: list[int], peer: socket.socket, first: int) -> list[str]:
        """In the fork: all that a process of its own would have been started with."""
        self._cloner.end_with_parent()
        if os.getppid() != self._pid:
            os._exit(127)
        os.setsid()
        self._listener.close()
        peer.close()
        for step in self._steps:
            step.close()
        limits = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
        for limit in limits:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(limit, resource.prlimit(first, limit))
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, os.sched_getaffinity(first))
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, first))
        self._cloner.mark(request.environ)
        for name in list(os.environb):
            del os.environb[name]
        for name, value in request.environ.items():
            os.environb[name] = value
        os.umask(request.mask)
        numpy = sys.modules.get("numpy")
        if numpy is not None and "numpy.random" in sys.modules:
            numpy.random.seed()
        for number in range(3):
            os.dup2(fds[number], number)
        # Nothing of the step happens before its first process knows of it.
        if os.read(fds[3], 1) != b"g":
            os._exit(127)
        for fd in fds:
            os.close(fd)
        fds.clear()
        return request.words


def _end(pid: int) -> None:
    """A child, with those beside it."""
    for end in (os.killpg, os.kill):
        with contextlib.suppress(OSError):
            end(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _new_note() -> int:
    """A file in memory; -1 if the system has none to give."""
    try:
        return os.memfd_create("note")
    except OSError:
        return -1


def _read(fd: int) -> bytes:
    """All of it."""
    size = os.fstat(fd).st_size
    return os.pread(fd, size, 0) if size else b""


def _say(fds: list[int], text: str) -> None:
    """On the stderr of a step."""
    with contextlib.suppress(OSError):
        os.write(fds[2] if len(fds) > 2 else 2, text.encode("utf-8", "replace"))


def listen(path: str) -> socket.socket:
    """A socket at `path`, which is there from the moment on that it can be connected to."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    beside = f"{path}.{os.getpid()}"
    listener.bind(beside)
    listener.listen(128)
    os.rename(beside, path)
    return listener


def finish(code: int) -> None:
    """As at the end of a process, but without taking apart all that was imported, which would be copied for it."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
