"""A throw-away daemon for tests: its own folder and ports, gone afterwards with all that it started.

    with orchd.testing.Daemon() as daemon:
        run = my_pipeline.options(client=daemon.client, progress=False)(n=3)

For pytest there are fixtures, see `orchd.pytest_plugin`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from . import _processes
from ._discover import discover
from ._start import find_program
from .errors import OrchdError, Unreachable

if TYPE_CHECKING:
    from .client import Client

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0


class Daemon:
    """Starts when it is made; `close` (or the end of `with`) ends its runs, itself and its folder.

    `config`: the text of its configuration file; `flags`: of its command line, as `{"log-level": "debug"}`."""

    def __init__(self, config: str = "", flags: Mapping[str, str] | None = None) -> None:
        # Short, since a socket's path is.
        self.folder = tempfile.mkdtemp(prefix="orchd-", dir="/tmp" if os.path.isdir("/tmp") else None)  # noqa: S108
        self.data_dir = os.path.join(self.folder, "data")
        self._config = config
        self._flags = dict(flags or {})
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Daemon:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @functools.cached_property
    def client(self) -> Client:
        from .client import Client

        return Client(data_dir=self.data_dir, start=False)

    @property
    def log(self) -> str:
        """What the daemon wrote."""
        with open(os.path.join(self.folder, "orchd.log"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def start(self) -> None:
        """Raises Unreachable with the end of its log, NotFound if there is no program `orchd`."""
        given = {"data-dir": self.data_dir, "listen": "127.0.0.1:0", "http-listen": "127.0.0.1:0", **self._flags}
        if self._config:
            path = os.path.join(self.folder, "orchd.yaml")
            with open(path, "w", encoding="utf-8") as file:
                file.write(self._config)
            given["config"] = path
        command = [find_program(), *(word for name, value in given.items() for word in (f"--{name}", value))]
        with open(os.path.join(self.folder, "orchd.log"), "ab") as log:
            self._process = _processes.start(command, self.folder, output=log)
        deadline = time.monotonic() + _START_SECONDS
        while not self._serves():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Unreachable("DAEMON_START_FAILED", f"{command[0]} does not serve: {self.log[-2000:]}")
            time.sleep(0.01)

    def _serves(self) -> bool:
        assert self._process is not None
        with contextlib.suppress(Unreachable):
            # The file of the process before it may still be there.
            return discover(None, None, self.data_dir).pid == self._process.pid
        return False

    def stop(self) -> None:
        """As a service is stopped: steps go on."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As by a crash of the machine's software: nothing is said or written."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(OrchdError):
                self._end_runs()
        if "client" in self.__dict__:
            self.client.close()
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end_runs(self) -> None:
        live = [run for run in self.client.list_runs() if not run.is_done]
        for run in live:
            self.client.cancel_run(run, force=True)
        for run in live:
            self.client.wait(run, timeout=_STOP_SECONDS)
