"""A real daemon for a test: loopback, free ports, its own folder, ended by its own pids; and orchctl to talk to it."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("ORCH_BIN", ROOT / "build" / "release" / "bin"))
DEADLINE = float(os.environ.get("ORCH_TEST_DEADLINE", "60"))  # seconds; sanitizer builds want more
ENDED = {"SUCCEEDED", "FAILED", "CANCELLED"}


def wait_for(condition, what, deadline=DEADLINE):
    """Polls until `condition` gives something true and returns that; fails after `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {deadline:.0f} s in vain: {what}")
        time.sleep(0.01)


def alive(pid):
    """True for a process that runs; a zombie has ended."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def rss_kib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    return 0


class Daemon:
    """orchd over one data directory; start and stop as often as a test wants."""

    def __init__(self, config="", folder=None, under=None):
        self.own = folder is None
        self.folder = pathlib.Path(folder or tempfile.mkdtemp(prefix="orchd-test-", dir=under))
        self.data = self.folder / "data"
        self.log_path = self.folder / "orchd.log"
        self.config = self.folder / "orchd.yaml"
        self.config.write_text(config)
        self.process = None

    def start(self, prefix=(), wait=True):
        """Starts orchd; `prefix` is a command to run it under (prlimit, say). Returns once it serves."""
        command = [*prefix, str(BIN / "orchd"), "--data-dir", str(self.data), "--listen", "127.0.0.1:0",
                   "--http-listen", "127.0.0.1:0"]
        if self.config.read_text():
            command += ["--config", str(self.config)]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ORCH_")}
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True, env=environment)
        if wait:
            wait_for(self._serves, f"orchd serves (see {self.log_path})")
        return self

    def _serves(self):
        if self.process.poll() is not None:
            raise AssertionError(f"orchd ended with {self.process.returncode}: {self.log()[-2000:]}")
        try:
            self.server = json.loads((self.data / "server.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return False
        return self.server["pid"] == self.process.pid

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def pid(self):
        return self.process.pid

    @property
    def token(self):
        return (self.data / "token").read_text().strip()

    def kill(self):
        """kill -9, as a crash is."""
        self.process.kill()
        self.process.wait()

    def stop(self, deadline=DEADLINE):
        """SIGTERM; returns the exit code."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(deadline)
        return self.process.returncode if self.process else None

    def supervisors(self):
        """Pids of the supervisors that serve this data directory, by their command line."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                argv = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if os.path.basename(argv[0]) == b"orch-supervisor" and str(self.data).encode() in b" ".join(argv):
                found.append(int(entry.name))
        return found

    def close(self):
        """Ends the daemon, its steps and its supervisor, then removes the folder."""
        try:
            if self.process is not None:
                if self.process.poll() is None:
                    for name in self.names("PENDING", "RUNNING", "PAUSED", "HALTING"):
                        self.ctl("cancel-run", name, check=False)
                        self.ctl("wait-run", name, "--timeout", "20s", check=False)
                    self.stop()
        finally:
            if self.process is not None and self.process.poll() is None:
                self.kill()
            for pid in self.supervisors():
                os.kill(pid, signal.SIGTERM)
            if self.own:
                shutil.rmtree(self.folder, ignore_errors=True)

    def names(self, *states):
        result = self.ctl("list-runs", "-o", "json", check=False)
        if result.returncode != 0:
            return []
        return [run["name"] for run in json.loads(result.stdout)["runs"] if run["state"] in states]

    # --- orchctl

    def ctl(self, *arguments, check=True, data=None, timeout=DEADLINE * 3, env=None, cwd=None):
        """Runs orchctl against this daemon; text in and out."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ORCH_")}
        environment.update({"ORCH_DATA_DIR": str(self.data), "NO_COLOR": "1"}, **(env or {}))
        result = subprocess.run([str(BIN / "orchctl"), *map(str, arguments)], input=data, capture_output=True, text=True,
                                timeout=timeout, env=environment, cwd=cwd, errors="replace")
        if check and result.returncode != 0:
            raise AssertionError(f"orchctl {' '.join(map(str, arguments))}: exit {result.returncode}\n{result.stderr}"
                                 f"{result.stdout[-2000:]}")
        return result

    def json(self, *arguments, **options):
        return json.loads(self.ctl(*arguments, "-o", "json", **options).stdout)

    def write(self, text, name="pipeline.yaml"):
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def submit(self, text, name, *arguments, **options):
        """Submits pipeline text as run `name`; returns orchctl's result."""
        return self.ctl("submit", self.write(text, f"{name}.yaml"), "--name", name, "--no-start", *arguments, **options)

    def run(self, text, name, *arguments):
        """Submits and waits for the end; returns the run. A failed run is an answer, not an error."""
        self.submit(text, name, *arguments)
        return self.ended(name)

    def ended(self, name, deadline=DEADLINE):
        self.ctl("wait-run", name, "--timeout", f"{int(deadline)}s", check=False)
        run = self.json("get-run", name)
        if run["state"] not in ENDED:
            raise AssertionError(f"{name} is {run['state']} after {deadline:.0f} s")
        return run

    def steps(self, name):
        """The run's steps by name."""
        found, token = {}, ""
        while True:
            page = self.http("RunService/ListSteps", {"run": name, "page_size": 1000, "page_token": token})
            found.update({step["name"]: step for step in page.get("steps", [])})
            token = page.get("next_page_token", "")
            if not token:
                return found

    def step(self, run, name):
        return self.json("get-step", run, name)

    def state(self, run, step):
        found = self.steps(run).get(step, {})
        return found.get("state", "")

    # --- HTTP

    def request(self, path, body=None, token=None, headers=None):
        """(status, text) of one HTTP request; `token` None: ours, "": none."""
        url = path if path.startswith("http") else self.server["http"] + path
        token = self.token if token is None else token
        head = dict(headers or {})
        if token:
            head["Authorization"] = f"Bearer {token}"
        if body is not None:
            head["Content-Type"] = "application/json"
        request = urllib.request.Request(url, data=None if body is None else json.dumps(body).encode(), headers=head)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
                return answer.status, answer.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")

    def http(self, call, body):
        status, text = self.request(f"/orch.v1.{call}", body)
        if status != 200:
            raise AssertionError(f"{call}: HTTP {status}: {text}")
        return json.loads(text)


class LiveTest(unittest.TestCase):
    """One daemon for a class of tests; each test names its runs by itself."""
    CONFIG = ""

    @classmethod
    def setUpClass(cls):
        if not (BIN / "orchd").exists():
            raise AssertionError(f"{BIN}/orchd is not built; `cmake --preset release && cmake --build --preset release`")
        cls.daemon = Daemon(cls.CONFIG)
        cls.addClassCleanup(cls.daemon.close)
        cls.daemon.start()

    def setUp(self):
        self.name = re.sub(r"[^a-z0-9]+", "-", self.id().split(".")[-1])

    def assertOneLine(self, text):
        self.assertEqual(len(text.strip().splitlines()), 1, text)

    def refused(self, text, *words, code=8, name=None, arguments=()):
        """The pipeline is refused with this exit code, and the message holds all the words."""
        result = self.daemon.submit(text, name or self.name, *arguments, check=False)
        self.assertEqual(result.returncode, code, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)
        return result
