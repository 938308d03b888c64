"""A warm worker lives on when the system refuses it something, and a step does not wait for one that hangs. The processes
are real; how they are cloned is not."""
import contextlib
import errno
import os
import pathlib
import signal
import socket
import sys
import tempfile
import threading
import time
import unittest
from unittest import mock

from orchd import _forking, _warm


class Cloner:
    def __init__(self, in_fork):
        self._in_fork = in_fork

    def fork(self, beside):
        return os.fork()

    def mark(self, environ):
        self._in_fork()

    def group_of(self, pid):
        return ""

    def join(self, group):
        pass

    def end_with_parent(self):
        pass


def closes_its_gate():
    os.closerange(3, 256)
    signal.alarm(60)  # one that no test ends does not stay for ever
    signal.pause()


def has_no_room():
    raise OSError("no room")


def refused_once(real, number):
    """Of the function `real`: whose first call the system refuses."""
    answers = iter([OSError(number, os.strerror(number))])

    def asked(*args):
        for fault in answers:
            raise fault
        return real(*args)

    return asked


class Full(socket.socket):
    """Has no descriptor for the first who comes."""

    full = True

    def accept(self):
        if self.full:
            self.full = False
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


@unittest.skipUnless(sys.platform == "linux", "workers are Linux's")
class Forking(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="orchd-forking-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.path = str(self.folder / "worker.sock")
        private = mock.patch.object(_warm, "FOLDER", f"{folder.name}/%d")
        private.start()
        self.addCleanup(private.stop)
        os.mkdir(_warm.FOLDER % os.geteuid(), 0o700)
        for number in (signal.SIGTERM, signal.SIGINT):  # which the step's first process hears for itself
            self.addCleanup(signal.signal, number, signal.getsignal(number))

    @contextlib.contextmanager
    def worker(self, in_fork=lambda: None, listening=lambda listener: listener, after=None, files=(), more=None, **patches):
        """A process that serves; a step is `exit N`, or with a second word leaves that as its note. With `stays` among
        `more` a second word is what to do, and `files` are those that a step has imported."""
        listener = _forking.listen(self.path)
        pid = os.fork()
        if pid == 0:
            try:
                for name, effect in patches.items():
                    setattr(os, name, mock.Mock(side_effect=effect))
                fits = lambda request: True  # noqa: E731
                server = _forking.Server(Cloner(in_fork), listening(listener), self.path, fits, after=after, **more or {})
                words = server.serve()
                if not more:
                    code, *said = words
                    for word in said:
                        os.write(server.note, word.encode())
                    os._exit(int(code))
                while words is not None:
                    code = int(words[0])
                    _act(words[1])
                    words = server.stay([str(file) for file in files]) if code == 0 else None
                os._exit(code)
            finally:
                os._exit(99)
        listener.close()
        try:
            yield pid
            self.assertEqual(os.waitpid(pid, os.WNOHANG), (0, 0), "the worker has ended")
        finally:
            os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)

    def step(self, *words):
        """How a step that is handed over has ended; None: the worker did not take it."""
        return _warm._hand_over(words, self.path)

    def test_a_step_ends_as_it_says(self):
        with self.worker():
            self.assertEqual([self.step("7"), self.step("0")], [(True, 7), (True, 0)])

    def test_a_fork_that_is_gone_before_it_may_begin(self):
        with self.worker(in_fork=closes_its_gate) as pid:
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(self.path)
                data = b"\0".join([os.fsencode(os.getcwd()), b"18", b"1", b"7"])
                fds = [file.fileno() for file in (sys.__stdin__, sys.__stdout__, sys.__stderr__)]
                socket.send_fds(peer, [len(data).to_bytes(8, "little") + data], fds)
                word, _, fork = peer.recv(100).partition(b" ")
                self.assertEqual(word, b"pid")
                # Its end of the gate is closed once it waits for a signal.
                while len(os.listdir(f"/proc/{int(fork)}/fd")) > 3:
                    pass
                peer.sendall(b"go\n")
                # Whoever is answered next: the worker has written to the gate before.
                self.assertEqual(_line_of(self.path), b"pid")
                os.kill(int(fork), signal.SIGKILL)
                self.assertEqual(peer.recv(100), b"signal 9\n")
            self.assertEqual(os.waitpid(pid, os.WNOHANG), (0, 0))

    def test_no_process_and_no_pipe(self):
        for name, number in (("fork", errno.EAGAIN), ("pipe", errno.EMFILE)):
            with self.subTest(name), self.worker(**{name: refused_once(getattr(os, name), number)}):
                self.assertEqual([self.step("7"), self.step("8")], [None, (True, 8)])

    def test_a_fork_that_cannot_become_the_step_says_why(self):
        with self.worker(in_fork=has_no_room), tempfile.TemporaryFile() as said:
            kept = os.dup(2)
            os.dup2(said.fileno(), 2)
            try:
                ended = self.step("7")
            finally:
                os.dup2(kept, 2)
                os.close(kept)
            said.seek(0)
            self.assertEqual((ended, said.read()),
                             ((True, 127), b"orchd: the worker's fork cannot become the step: OSError('no room')\n"))  # fmt: skip

    def test_no_descriptor_for_whoever_comes(self):
        with self.worker(listening=lambda listener: Full(fileno=os.dup(listener.fileno()))):
            self.assertEqual([self.step("7"), self.step("8")], [(True, 7), (True, 8)])

    def test_no_descriptor_for_the_fork(self):
        with self.worker(pidfd_open=refused_once(os.pidfd_open, errno.EMFILE)) as pid:
            self.assertEqual([self.step("7"), self.step("8")], [None, (True, 8)])
            # The fork that was refused is no process any more, not even a zombie.
            self.assertEqual(pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(), "")

    def test_what_a_step_leaves_for_those_after_it(self):
        told = self.folder / "told"

        def after(note):
            with told.open("ab") as file:
                file.write(note + b"\n")

        with self.worker(after=after) as pid:
            before = len(os.listdir(f"/proc/{pid}/fd"))
            long = "x" * 100_000  # more than a pipe holds
            ended = [self.step("0", "first"), self.step("7", "failed"), self.step("0"), self.step("0", long), self.step("0")]
            self.assertEqual([number for _, number in ended], [0, 7, 0, 0, 0])
            self.assertEqual(told.read_text(), f"first\n{long}\n")
            self.assertEqual(_line_of(self.path), b"pid")
            until = time.monotonic() + 60
            while len(os.listdir(f"/proc/{pid}/fd")) > before and time.monotonic() < until:
                pass
            self.assertEqual(len(os.listdir(f"/proc/{pid}/fd")), before)
        with self.worker(after=after, memfd_create=refused_once(os.memfd_create, errno.ENFILE)):
            self.assertEqual(self.step("0"), (True, 0))

    def staying(self, server=None, **more):
        """Steps with the same KEY may take turns."""
        kind = lambda request: request.environ.get(b"KEY", b"").decode()  # noqa: E731
        return self.worker(more={"stays": kind, **(server or {})}, **more)

    def said(self, act="pid", code="0", key="one"):
        """How a step has ended that does so, and what it printed."""
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(write, 1)
            os.close(read)
            os.environ["KEY"] = key
            ended = self.step(code, act) or (False, -1)
            os._exit(ended[1] if ended[0] else 200 + ended[1])  # 199: it was not taken
        os.close(write)
        with open(read, "rb") as file:
            printed = file.read()  # to the end: nobody holds it open
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status), printed.decode()

    def test_a_fork_that_stays_takes_the_next_step_of_its_kind(self):
        with self.staying():
            first, second, other, alone, again, third = (self.said(key=key) for key in ("one", "one", "two", "", "", "one"))
            self.assertEqual({code for code, _ in (first, second, other, alone, again, third)}, {0})
            self.assertEqual((first[1], first[1]), (second[1], third[1]))
            self.assertEqual(len({first[1], other[1], alone[1], again[1]}), 4)

    def test_a_step_that_stays_has_its_own_folder_environment_and_signals(self):
        with self.staying():
            self.said("ignores")
            self.assertEqual(self.said("asks"), (0, "SIG_DFL one"))

    def test_what_a_fork_does_not_survive(self):
        file = self.folder / "module.py"
        file.write_text("1")
        with self.staying(files=[file]):
            _, first = self.said()
            self.assertEqual(self.said(code="3")[0], 3)
            _, after_a_failure = self.said()
            self.assertNotEqual(first, after_a_failure)
            self.assertEqual(self.said("dies"), (209, ""))
            _, after_a_death = self.said()
            self.assertNotEqual(after_a_failure, after_a_death)
            file.write_text("22")
            _, after_an_edit = self.said()
            self.assertNotEqual(after_a_death, after_an_edit)
            os.kill(int(after_an_edit), signal.SIGKILL)  # while it waits
            # It was given to who was just being killed, and is left to its first process; or to a fork that lives.
            code, after_a_kill = self.said()
            self.assertIn((code, bool(after_a_kill)), [(0, True), (199, False)])
            self.assertNotEqual(after_a_kill, after_an_edit)
            _, with_a_thread = self.said("thread")
            self.assertNotEqual(with_a_thread, self.said()[1])

    def test_a_fork_that_nobody_has_another_step_for_ends(self):
        with self.staying(server={"stay_seconds": 0.2}):
            _, first = self.said()
            until = time.monotonic() + 60
            while os.path.exists(f"/proc/{first}") and time.monotonic() < until:
                pass
            self.assertFalse(os.path.exists(f"/proc/{first}"))
            self.assertEqual(self.said()[0], 0)

    def test_a_step_whose_first_process_is_gone_is_ended_in_a_fork_that_stays(self):
        with self.staying():
            _, first = self.said()
            asked = os.fork()
            if asked == 0:
                os.environ["KEY"] = "one"
                self.step("0", "waits")
                os._exit(0)
            children = pathlib.Path(f"/proc/{first}/task/{first}/children")
            until = time.monotonic() + 60
            while not children.read_text() and time.monotonic() < until:  # it has begun
                pass
            self.assertTrue(children.read_text())
            os.kill(asked, signal.SIGKILL)
            os.waitpid(asked, 0)
            while os.path.exists(f"/proc/{first}") and time.monotonic() < until:
                pass
            self.assertFalse(os.path.exists(f"/proc/{first}"))

    def test_a_worker_that_hangs_is_not_waited_for(self):
        listener = _forking.listen(self.path)
        self.addCleanup(listener.close)
        with mock.patch.object(_warm, "ANSWER_SECONDS", 0.2):
            self.assertIsNone(self.step("7"))
        peer, _ = listener.accept()  # as late as it likes: nobody is there
        with peer:
            while peer.recv(1 << 16):
                pass


def _act(what):
    if what == "pid":
        print(os.getpid(), end="", flush=True)
    elif what == "ignores":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.environ["KEY"] = "changed"
        os.chdir("/")
    elif what == "asks":
        print(signal.getsignal(signal.SIGTERM).name, os.environ["KEY"], end="", flush=True)
    elif what == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "thread":
        print(os.getpid(), end="", flush=True)
        threading.Thread(target=time.sleep, args=(0.2,)).start()
    elif what == "waits":
        os.waitpid(os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "100"), 0)


def _line_of(path):
    """The first word that a worker says to one more step, which then goes away."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)
        data = b"\0".join([os.fsencode(os.getcwd()), b"18", b"1", b"7"])
        socket.send_fds(peer, [len(data).to_bytes(8, "little") + data], [0, 1, 2])
        return peer.recv(100).partition(b" ")[0]


if __name__ == "__main__":
    unittest.main()
