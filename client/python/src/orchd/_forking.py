"""What makes a process a warm worker: it forks for each step that `_warm` hands over, into the step's control group;
see `_cloner`.

A fork may stay when its step has ended, and take a later step of the same run: it leaves the step's control group and
gives up its output before it tells the end, and becomes the next step as it became the first.

The process that imported is not the one that serves: that is a fork of it, which has no threads, so that it can be
copied by clone3.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
from typing import Any, Callable

from ._cloner import Cloner

IDLE_SECONDS = 60.0
STAY_SECONDS = 5.0  # that a fork waits for another step
_MOST_REQUEST = 16 << 20


class _Fork:
    """A step, while there is a `peer`; without one it waits for another."""

    def __init__(self, pid: int, channel: socket.socket | None, stays: str) -> None:
        """Raises OSError."""
        self.pidfd = os.pidfd_open(pid)
        self.pid = pid
        self.channel = channel  # if it can be given another step
        self.stays = stays  # for steps of which the same is said
        self.files: _Files = []  # that it has imported
        self.since = 0.0  # that it waits
        self.peer: socket.socket | None = None
        self.gate = -1  # what is written there lets the step begin; -1: it has begun
        self.note = -1  # what it has written for those after it; -1: nothing can be
        self.is_told = False  # its first process knows of it

    def begin(self, peer: socket.socket, gate: int, note: int) -> None:
        self.peer, self.gate, self.note, self.is_told = peer, gate, note, False

    def tell_first(self) -> None:
        """That the step has this process."""
        self.is_told = True
        if self.peer is not None:
            with contextlib.suppress(OSError):
                self.peer.sendall(f"pid {self.pid}\n".encode())

    def done(self) -> None:
        """Its step."""
        if self.peer is not None:
            self.peer.close()
        for fd in (self.gate, self.note):
            if fd >= 0:
                os.close(fd)
        self.peer = None
        self.gate = self.note = -1

    def close(self) -> None:
        """It ends by itself then, if it waits."""
        self.done()
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


_Files = list[list[Any]]


def _stat(paths: list[str]) -> _Files:
    found: _Files = []
    for path in paths:
        with contextlib.suppress(OSError):
            stat = os.stat(path)
            found.append([path, stat.st_mtime_ns, stat.st_size, stat.st_ino])
    return found


class Request:
    def __init__(self, data: bytes) -> None:
        self.stale = False  # set by `fits`: the worker is out of date
        self.data = data
        parts = data.split(b"\0")
        self.folder = parts[0]
        self.mask = int(parts[1])
        count = int(parts[2])
        self.words = [os.fsdecode(word) for word in parts[3 : 3 + count]]
        self.environ = dict(part.split(b"=", 1) for part in parts[3 + count :])


_TAKEN = b"taken"


def _framed(data: bytes) -> bytes:
    return len(data).to_bytes(8, "little") + data


def _receive(peer: socket.socket, fds: list[int]) -> bytes:
    """One frame. Raises OSError, ValueError."""
    data, ancillary, _, _ = peer.recvmsg(1 << 16, socket.CMSG_SPACE(20))
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
    return data[8:]


class Server:
    """Serves at `listener`, which is bound to `path`. `fits` says of each step whether this worker's fork is as good as
    a fresh process; one that does not fit is left to its first process, and `stale` is called once no step runs.
    `before` may get ready, for this and later forks, what a step needs; `after` is given what a step that ended with 0
    has written to `note`, a file that it shares with the worker alone. A fork whose step has ended may take another one
    for which `stays` says the same; where it says nothing there is a fork for that step alone."""

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
        stays: Callable[[Request], str] = lambda request: "",
        stay_seconds: float = STAY_SECONDS,
    ) -> None:
        self._listener, self._path, self._fits, self._stale = listener, path, fits, stale
        self._idle_seconds, self._stay_seconds = idle_seconds, stay_seconds
        self._before = before
        self._after = after
        self._stays = stays
        self.note = -1  # in a fork, if there is an `after`
        self._channel: socket.socket | None = None  # in a fork that can stay
        self._group = ""  # there, its step's control group
        self._leaving: threading.Thread | None = None
        self._cloner = cloner
        self._forks: list[_Fork] = []
        self._pid = os.getpid()
        self._is_full = False  # nobody else can be taken right now
        self._inode = os.stat(path).st_ino

    def serve(self) -> list[str]:
        """Returns in a fork, which is a step now, with its words; the server itself never comes back."""
        idle_since = time.monotonic()
        while True:
            ready = self._wait()
            now = time.monotonic()
            for fork in list(self._forks):
                if fork.channel is not None and fork.channel.fileno() in ready:
                    self._said(fork)
                if fork.peer is not None and fork.peer.fileno() in ready:
                    self._heard(fork)
                if fork.pidfd in ready:
                    self._ended(fork)
                elif fork.peer is None and fork.channel is not None and now - fork.since > self._stay_seconds:
                    fork.channel.close()
                    fork.channel = None
            if self._listener.fileno() in ready:
                words = self._take()
                if words is not None:
                    return words
            if ready or self._forks:
                idle_since = now
            elif now - idle_since > self._idle_seconds or not self._is_reachable():
                self._end()

    def _wait(self) -> set[int]:
        """What can be read, after a second at most."""
        poll = select.poll()
        if not self._is_full:
            poll.register(self._listener, select.POLLIN)
        self._is_full = False  # until a step has ended, or for a second
        for fork in self._forks:
            poll.register(fork.pidfd, select.POLLIN)
            for socket_ in (fork.peer, fork.channel):
                if socket_ is not None:
                    poll.register(socket_, select.POLLIN)
        return {fd for fd, _ in poll.poll(1000)}

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

    def _said(self, fork: _Fork) -> None:
        """It has become another step; or that has ended with 0, and it waits for the next; or it is at its end."""
        assert fork.channel is not None
        try:
            word = _receive(fork.channel, [])
            if word == _TAKEN:
                fork.tell_first()
                return
            files: _Files = json.loads(word)
        except (OSError, ValueError):
            fork.channel.close()
            fork.channel = None
            return
        self._tell(fork, "exit 0")
        fork.files, fork.since = files, time.monotonic()

    def _ended(self, fork: _Fork) -> None:
        _, status = os.waitpid(fork.pid, 0)
        word = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
        self._tell(fork, word)
        self._forget(fork)

    def _tell(self, fork: _Fork, word: str) -> None:
        """How its step has ended."""
        if fork.peer is None:
            return
        if fork.is_told:  # else it never began, and is left to its first process
            with contextlib.suppress(OSError):
                fork.peer.sendall(f"{word}\n".encode())
        said = _read(fork.note) if fork.note >= 0 and word == "exit 0" else b""
        if self._after is not None and said:
            self._after(said)
        fork.done()

    def _heard(self, fork: _Fork) -> None:
        """Its first process knows of it, and it begins; or that is gone, and so it goes."""
        assert fork.peer is not None
        word = b""
        with contextlib.suppress(OSError):
            word = fork.peer.recv(3)
        if word == b"go\n" and fork.gate >= 0:
            with contextlib.suppress(OSError):  # it is gone, and its end is heard of
                os.write(fork.gate, b"g")
            os.close(fork.gate)
            fork.gate = -1
            return
        _end(fork.pid)
        self._forget(fork)

    def _forget(self, fork: _Fork) -> None:
        fork.close()
        self._forks.remove(fork)

    def _take(self) -> list[str] | None:
        """What the system refuses is refused to this step alone, which is left to its first process."""
        try:
            peer, _ = self._listener.accept()
        except OSError:  # no descriptor is free: it waits in the queue
            self._is_full = True
            return None
        with contextlib.ExitStack() as kept, contextlib.ExitStack() as sent:
            kept.callback(peer.close)
            fds: list[int] = []
            sent.callback(_close, fds)
            try:
                peer.settimeout(5)
                request = Request(_receive(peer, fds))
                first, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                if uid != os.geteuid() or len(fds) != 3 or not self._good(request):
                    return None
                gate, opened = os.pipe()
                fds.append(gate)
                kept.callback(os.close, opened)
                note = _new_note() if self._after is not None else -1
                if note >= 0:
                    kept.callback(os.close, note)
                stays = self._stays(request)
                fork = self._again(request, stays, first, [*fds, note] if note >= 0 else fds) if stays else None
                is_new = fork is None
                if fork is None:
                    self._before(request)
                    mine, theirs = socket.socketpair() if stays else (None, None)
                    if mine is not None and theirs is not None:
                        kept.callback(mine.close)
                        sent.callback(theirs.close)
                    child = self._cloner.fork(first)
                    if child == 0:
                        kept.pop_all()
                        sent.pop_all()
                        os.close(opened)
                        for other in (self._listener, peer, mine, *self._forks):
                            if other is not None:
                                other.close()
                        self.note, self._channel = note, theirs
                        return self._first(request, fds, first)
                    fork = self._started(child, mine, stays)
                fork.begin(peer, opened, note)
                kept.pop_all()  # from here on it is the loop that hears that nobody is there
                if is_new:  # one that has waited may be gone before it hears
                    fork.tell_first()
            except (OSError, ValueError, LookupError, struct.error):
                return None
        return None

    def _started(self, child: int, channel: socket.socket | None, stays: str) -> _Fork:
        try:
            fork = _Fork(child, channel, stays)
        except OSError:
            _end(child)
            raise
        self._forks.append(fork)
        return fork

    def _again(self, request: Request, stays: str, first: int, fds: list[int]) -> _Fork | None:
        """A fork that waits and has been given this step; None: there is none."""
        for fork in reversed(self._forks):
            if fork.peer is not None or fork.channel is None or fork.stays != stays:
                continue
            try:
                if _stat([str(file[0]) for file in fork.files]) != fork.files:  # edited since
                    raise OSError
                fork.channel.settimeout(5)
                data = _framed(b"%d\0" % first + request.data)
                fork.channel.sendall(data[socket.send_fds(fork.channel, [data], fds) :])
            except OSError:
                _end(fork.pid)
                self._forget(fork)
                continue
            return fork
        return None

    def _good(self, request: Request) -> bool:
        """If not, this step gets a fresh process, and those after it another worker."""
        if self._fits(request):
            return True
        if request.stale:
            if self._is_reachable():
                os.unlink(self._path)
            if all(fork.peer is None for fork in self._forks):
                for fork in self._forks:
                    _end(fork.pid)
                self._stale()
                os._exit(0)
        return False

    def _first(self, request: Request, fds: list[int], first: int) -> list[str]:
        """In a new fork: its step's words."""
        try:
            self._cloner.end_with_parent()
            if os.getppid() != self._pid:
                os._exit(127)
            os.setsid()
            self._become(request, fds, first)
            self._begin(fds)
            return request.words
        except BaseException as fault:
            _say(fds, f"orchd: the worker's fork cannot become the step: {fault!r}\n")
            os._exit(127)

    def leave(self) -> None:
        """In a fork that can stay, for a step whose own code has ended: out of its control group, which takes a while,
        beside what there is still to do. Whoever ends the step until then still ends this process."""
        if self._channel is not None and self._leaving is None:
            self._leaving = threading.Thread(target=self._leave)
            self._leaving.start()

    def _leave(self) -> None:
        with contextlib.suppress(OSError):  # then it does not stay
            self._cloner.join(None)

    def come_back(self) -> None:
        """For a step whose own code begins, maybe once more. Raises OSError."""
        if self._leaving is not None:
            self._leaving.join()
            self._leaving = None
            self._cloner.join(self._group)

    def stay(self, files: list[str]) -> list[str] | None:
        """In a fork whose step has ended well, and which has imported `files`: tells so, and waits for the words of
        the next. None: there is none, or what the step has left here does not permit it; then it has to end."""
        channel = self._channel
        if self._leaving is not None:
            self._leaving.join()
            self._leaving = None
        others = (thread for thread in threading.enumerate() if thread is not threading.main_thread())
        if channel is None or not all(thread.daemon for thread in others):
            return None
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        fds: list[int] = []
        try:
            loaded = json.dumps(_stat(files)).encode()
            let_signals_end_it()
            os.chdir("/")
            if self.note >= 0:
                os.close(self.note)
                self.note = -1
            self._cloner.mark({})
            self._cloner.join(None)
            # What it held of the step is closed before anybody hears of the end.
            with open(os.devnull, "r+b") as nothing:
                for number in range(3):
                    os.dup2(nothing.fileno(), number)
            channel.sendall(_framed(loaded))
            first, _, data = _receive(channel, fds).partition(b"\0")
            request = Request(data)
        except (OSError, ValueError):
            return None
        try:
            if len(fds) == 5:
                self.note = fds.pop()
            self._cloner.join(self._cloner.group_of(int(first)))
            self._become(request, fds, int(first))
            channel.sendall(_framed(_TAKEN))
            self._before(request)
            self._begin(fds)
            return request.words
        except BaseException as fault:
            _say(fds, f"orchd: the worker's fork cannot become the step: {fault!r}\n")
            os._exit(127)

    def _become(self, request: Request, fds: list[int], first: int) -> None:
        """In the fork: all that a process of its own would have been started with."""
        limits = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
        for limit in limits:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(limit, resource.prlimit(first, limit))
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, os.sched_getaffinity(first))
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, first))
        self._group = self._cloner.group_of(first)
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

    @staticmethod
    def _begin(fds: list[int]) -> None:
        """Nothing of the step happens before its first process knows of it."""
        if os.read(fds[3], 1) != b"g":
            os._exit(127)
        _close(fds)


def _close(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())


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


def let_signals_end_it() -> None:
    """As the daemon starts steps, whatever was done about them before."""
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def finish(code: int) -> None:
    """As at the end of a process, but without taking apart all that was imported, which would be copied for it."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
