"""A real orchd for a test: own data directory, free ports on loopback, ended by its pid."""
from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator

ROOT = Path(__file__).resolve().parent.parent.parent
BIN = Path(os.environ.get("ORCH_TEST_BIN", ROOT / "build/release/bin"))


def files_below(folder: Path, pattern: str = "*") -> list[Path]:
    """Also where files and folders go while it looks, which rglob would raise."""
    return [path for at, _, names in os.walk(folder) for path in (Path(at, name) for name in names) if path.match(pattern)]


def wait_for(what: str, predicate: Callable[[], Any], seconds: float = 60, every: float = 0.01) -> Any:
    """The first true answer of `predicate`; fails after `seconds`."""
    until = time.monotonic() + seconds
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() > until:
            raise AssertionError(f"waited {seconds} s for {what}")
        time.sleep(every)  # between two looks at a state; never instead of one


def alive(pid: int) -> bool:
    """False for a zombie too: it does nothing any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class Daemon:
    """`with Daemon() as daemon:` — a running daemon; `restart` and `kill` as a test needs."""

    def __init__(self, config: str = "", data_dir: str | None = None, flags: Iterable[str] = (), ca: Path | None = None) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="orchd-test-"))
        self.data = Path(data_dir) if data_dir else self.home / "data"
        self.config = config
        self.flags = list(flags)
        self.ca = ca  # who signs the certificate that `flags` name
        self.process: subprocess.Popen[bytes] | None = None
        self.server: dict[str, Any] = {}
        self.faults = ""  # what the next process is ordered: see server/base/fault.h

    def __enter__(self) -> "Daemon":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def command(self) -> list[str]:
        command = [str(BIN / "orchd"), "--data-dir", str(self.data)]
        for flag in ("--listen", "--http-listen"):
            command += [] if flag in self.flags else [flag, "127.0.0.1:0"]
        if self.config:
            (self.home / "orchd.yaml").write_text(self.config)
            command += ["--config", str(self.home / "orchd.yaml")]
        return command + self.flags + (["--fault-points"] if self.faults else [])

    def start(self) -> None:
        self.launch()
        self.wait_serving()

    def launch(self, **more: str) -> None:
        """Only makes the process."""
        environment = {**os.environ, **({"ORCH_FAULTS": self.faults} if self.faults else {}), **more}
        with (self.home / "orchd.log").open("ab") as log:
            # Without close_fds Python spawns and does not fork: after a fork gRPC, in a test that has used it, starts threads
            # that may end the child before it is the daemon. What is open here closes by itself.
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment,
                                            close_fds=False)

    def wait_serving(self, seconds: float = 30) -> None:
        assert self.process is not None
        pid = self.process.pid

        def serving() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError("orchd ended: " + self.log()[-2000:])
            with contextlib.suppress(OSError, ValueError):
                self.server = json.loads((self.data / "server.json").read_text())
                return self.server["pid"] == pid
            return False

        wait_for("orchd to serve", serving, seconds, every=0.001)

    def log(self) -> str:
        return (self.home / "orchd.log").read_text(errors="replace")

    def kill(self, sig: int = signal.SIGKILL) -> None:
        assert self.process is not None
        self.process.send_signal(sig)
        self.process.wait(30)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill(signal.SIGTERM)

    def restart(self, sig: int = signal.SIGTERM) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill(sig)
        self.start()

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        supervisor = self.supervisor_pid()
        if supervisor:
            with contextlib.suppress(ProcessLookupError):
                os.kill(supervisor, signal.SIGKILL)
        shutil.rmtree(self.home, ignore_errors=True)

    def supervisor_pid(self) -> int:
        """Of this data directory's supervisor, by its command line; 0: none."""
        mark = b"\0" + str(self.data).encode() + b"\0"
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    line = (entry / "cmdline").read_bytes()
                    if b"orch-supervisor" in line and mark in line:
                        parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        # A step between its birth and its program looks like its parent.
        return next((pid for pid, parent in parents.items() if parent not in parents), 0)

    def memory(self) -> int:
        """What the daemon has allocated and holds, in bytes: pages of code that come and go do not count."""
        assert self.process is not None
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) * 1024
        return 0

    # --- clients ---

    @property
    def token(self) -> str:
        return (self.data / "token").read_text().strip()

    def environment(self, **more: str) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("ORCH_")}
        return dict(clean, ORCH_DATA_DIR=str(self.data), PATH=f"{BIN}:{clean['PATH']}", NO_COLOR="1", **more)

    def ctl(self, *args: object, code: int | None = 0, stdin: str | None = None, timeout: float = 120,
            **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([str(BIN / "orchctl"), *map(str, args)], env=self.environment(**env), input=stdin,
                              text=True, capture_output=True, timeout=timeout, errors="replace")
        if code is not None and done.returncode != code:
            raise AssertionError(f"orchctl {' '.join(map(str, args))}: exit code {done.returncode}, not {code}\n"
                                 f"stdout: {done.stdout[-3000:]}\nstderr: {done.stderr[-3000:]}")
        return done

    def json(self, *args: object, code: int | None = 0) -> Any:
        return json.loads(self.ctl(*args, "-o", "json", code=code).stdout)

    def file(self, text: str, name: str = "pipeline.yaml") -> Path:
        path = self.home / name
        path.write_text(text)
        return path

    def submit(self, text: str, *args: object, name: str = "pipeline.yaml", code: int = 0) -> str:
        """Submits the pipeline; the run's name."""
        return self.ctl("submit", self.file(text, name), *args, code=code).stdout.strip().splitlines()[0] if code == 0 \
            else self.ctl("submit", self.file(text, name), *args, code=code).stderr

    def run(self, text: str, *args: object, code: int | None = 0) -> dict[str, Any]:
        """Submits, waits for the end, gives the steps by name."""
        name = self.submit(text, *args)
        self.ctl("wait-run", name, code=code)
        return self.steps(name)

    def steps(self, run: str) -> dict[str, Any]:
        return {step["name"]: step for step in self.json("list-steps", run)["steps"]}

    def state(self, run: str) -> str:
        return str(self.json("get-run", run)["state"])

    def http(self, path: str, body: Any = None, token: str | None = "own", headers: dict[str, str] | None = None,
             timeout: float = 30) -> tuple[int, bytes]:
        request = urllib.request.Request(self.server["http"] + path, headers=headers or {})
        if token == "own":
            token = self.token
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            context = ssl.create_default_context(cafile=str(self.ca)) if self.ca else None
            with urllib.request.urlopen(request, timeout=timeout, context=context) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


@contextlib.contextmanager
def temporary_file(text: str) -> Iterator[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as out:
        out.write(text)
        out.flush()
        yield out.name
