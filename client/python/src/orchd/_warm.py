"""A step's first process: hands the step to a warm worker, and stands for it: the same output, end and signals.

Run by `python -I -S` (`_warm_start`), so that it costs little: only modules that are built in. Without a worker that
fits it becomes `python -m orchd.run_step`, with the same words; see `_worker`.

A step of ZenML (`--zenml SOCKET…`) has a worker of another kind, which is named, and may still be on its way: it is
waited for. Since ZenML learns of a step's end from the step alone, this process stays, and tells it if the step could
not; see `orchd.zenml`.
"""

import sys

FOLDER = "/tmp/orchd-workers-%d"  # noqa: S108  made with mode 0700, and refused if it is not one's own
COLD = ".cold"  # beside a socket: its files cannot be served
ENDED = b".zenml-ended"  # in ORCH_SCRATCH: ZenML knows how the step ended
AGAIN = 113  # exit code: it was lost, and may be started again
ANSWER_SECONDS = 300.0  # until a worker is taken to hang; one of ZenML's may first have to import it
OWN_PREFIX = b"ORCH_"  # variables that differ from step to step


def _checksum(data):
    """CRC-32, without a module: it only finds the worker, which compares all."""
    import binascii

    return binascii.crc32(data)


def shared_environment(environ: object) -> list[tuple[bytes, bytes]]:
    """What a worker and its steps must have in common, of bytes by bytes; to PATH the daemon adds its programs."""
    return sorted(pair for pair in environ.items() if not pair[0].startswith(OWN_PREFIX) and pair[0] != b"PATH")


def socket_path(uid: int, executable: bytes, folder: bytes, environ: object) -> str:
    words = [executable, folder, *(name + b"=" + value for name, value in shared_environment(environ))]
    return f"{FOLDER % uid}/{_checksum(b'/'.join(words)):08x}.sock"


def is_private(folder: str, uid: int) -> bool:
    import posix

    try:
        found = posix.lstat(folder)
    except OSError:
        return False
    return found.st_mode & 0o170077 == 0o040000 and found.st_uid == uid


def _connect(path, uid):
    import _socket

    peer = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        peer.settimeout(0)  # a queue that is full is no place to wait
        peer.connect(path)
        peer.settimeout(None)
        credentials = peer.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    except OSError:
        return None
    return peer if int.from_bytes(credentials[4:8], sys.byteorder) == uid else None


def _line(peer, rest):
    while b"\n" not in rest:
        more = peer.recv(256)
        if not more:
            return b"", b""
        rest += more
    line, _, rest = rest.partition(b"\n")
    return line, rest


def _hand_over(words, socket=None):
    """How the step ended; None if no worker took it."""
    import _signal
    import _socket
    import posix

    uid = posix.geteuid()
    if not is_private(FOLDER % uid, uid):
        return None
    folder = posix.getcwd().encode(*_CODING)
    if socket is None:
        socket = socket_path(uid, sys.executable.encode(*_CODING), folder, posix.environ)
    peer = _connect(socket, uid)
    if peer is None:
        return None
    pid = 0
    early = []

    def on_signal(number, frame):
        if pid == 0:  # the daemon's own go to all of the step's processes
            early.append(number)

    for number in (_signal.SIGTERM, _signal.SIGINT):
        _signal.signal(number, on_signal)
    mask = posix.umask(0o077)
    posix.umask(mask)
    variables = [name + b"=" + value for name, value in posix.environ.items()]
    parts = [folder, b"%d" % mask, b"%d" % len(words), *(word.encode(*_CODING) for word in words), *variables]
    data = b"\0".join(parts)
    data = len(data).to_bytes(8, "little") + data
    fds = b"".join(fd.to_bytes(4, sys.byteorder) for fd in (0, 1, 2))
    try:
        peer.settimeout(ANSWER_SECONDS)
        sent = peer.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fds)])
        peer.sendall(data[sent:])
        line, rest = _line(peer, b"")
    except OSError:
        line, rest = b"", b""
    if not line.startswith(b"pid "):  # it did not start: the worker answers before the step does anything
        peer.close()
        for number in (_signal.SIGTERM, _signal.SIGINT):
            _signal.signal(number, _signal.SIG_DFL if number == _signal.SIGTERM else _signal.default_int_handler)
        for number in early:
            posix.kill(posix.getpid(), number)
        return None
    pid = int(line[4:])
    for number in early:
        posix.kill(pid, number)
    try:
        peer.settimeout(None)
        try:  # noqa: SIM105
            peer.sendall(b"go\n")
        except OSError:  # it has ended already, and its end was told before
            pass
        line, rest = _line(peer, rest)
    except OSError:
        line = b""
    peer.close()
    kind, _, number = line.partition(b" ")
    if kind == b"exit":
        return True, int(number)
    return False, int(number) if kind == b"signal" else int(_signal.SIGKILL)


def _fresh(module, words):
    """How the step, as a process of its own beside this one, ended."""
    import _signal
    import posix

    for number in (_signal.SIGTERM, _signal.SIGINT):
        _signal.signal(number, lambda number, frame: None)  # the daemon's own go to all of the step's processes
    try:
        pid = posix.fork()
    except OSError as fault:
        sys.stderr.write(f"orchd: no process for the step: {fault}\n")
        return True, 1
    if pid == 0:
        for number in (_signal.SIGTERM, _signal.SIGINT):
            _signal.signal(number, _signal.SIG_DFL if number == _signal.SIGTERM else _signal.default_int_handler)
        posix.execv(sys.executable, [sys.executable, "-m", module, *words])
    _, status = posix.waitpid(pid, 0)
    if posix.WIFSIGNALED(status):
        return False, posix.WTERMSIG(status)
    return True, posix.WEXITSTATUS(status)


def _end_as(exited, number):
    import posix

    if exited:
        posix._exit(number)
    _die_of(number)


def _zenml(socket, words):
    import posix

    ended = (_hand_over(words, socket) if socket != "-" else None) or _fresh("orchd.zenml.run_step", words)
    try:
        posix.stat(posix.environ[b"ORCH_SCRATCH"] + b"/" + ENDED)
    except OSError:  # it had no chance to say how it ended
        exited, number = ended
        if _fresh("orchd.zenml.lost", [f"{'exit' if exited else 'signal'} {number}", *words]) == (True, AGAIN):
            ended = True, AGAIN
        elif ended == (True, 0):
            ended = True, 1
    _end_as(*ended)


def _die_of(number):
    import _signal
    import posix

    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    except (ImportError, OSError, ValueError):
        pass
    if number not in (_signal.SIGKILL, _signal.SIGSTOP):
        _signal.signal(number, _signal.SIG_DFL)
    posix.kill(posix.getpid(), number)
    posix._exit(128 + number)


_CODING = (sys.getfilesystemencoding(), "surrogateescape")


def main(words: list[str]) -> None:
    import posix

    if words[:1] == ["--zenml"]:
        _zenml(words[1], words[2:])
    found = _hand_over(words)
    if found is not None:
        _end_as(*found)
    posix.execv(sys.executable, [sys.executable, "-m", "orchd.run_step", *words])


if __name__ == "__main__":
    main(sys.argv[1:])
