"""What `_processes` starts: `python -IS _spawned.py FOLDER WORD…`. It costs little: only modules that are built in."""

import sys

NOT_STARTED = 127


def _close_all_but_three():
    import posix

    try:
        left = [int(name) for name in posix.listdir("/dev/fd")]
    except OSError:
        left = range(3, 4096)
    for fd in left:
        if fd > 2:
            try:  # noqa: SIM105
                posix.close(fd)
            except OSError:  # that of the list itself
                pass


def main(folder: str, words: "list[str]") -> None:
    import _signal
    import posix

    posix.setsid()
    _close_all_but_three()
    for name in ("SIGPIPE", "SIGXFSZ"):  # Python ignores them, and a program starts with what it is left
        number = getattr(_signal, name, None)
        if number is not None:
            _signal.signal(number, _signal.SIG_DFL)
    try:
        posix.chdir(folder)
        posix.execv(words[0], words)
    except OSError as fault:
        sys.stderr.write(f"orchd: cannot start {words[0]} in {folder}: {fault.strerror}\n")
        sys.stderr.flush()
    posix._exit(NOT_STARTED)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
