"""The daemon as a process: one a directory, shutdown and restart, permissions, full disk, slow clients."""
import os
import pathlib
import socket
import stat
import subprocess
import tempfile
import time
import unittest

from tests.e2e.test_flow import sh
from tests.lib.live import BIN, Daemon, LiveTest, rss_kib, wait_for

TRUE = "name: ok\nsteps:\n  - {name: a, command: [/bin/true]}\n"


class Process(LiveTest):
    def test_a_second_daemon_is_refused_with_the_first_ones_pid(self):
        result = subprocess.run([BIN / "orchd", "--data-dir", self.daemon.data, "--listen", "127.0.0.1:0", "--http-listen",
                                 "127.0.0.1:0"], capture_output=True, text=True, timeout=20)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn(str(self.daemon.pid), result.stderr)

    def test_a_non_loopback_address_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            result = subprocess.run([BIN / "orchd", "--data-dir", folder + "/d", "--listen", "0.0.0.0:0"],
                                    capture_output=True, text=True, timeout=20)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("0.0.0.0", result.stderr)

    def test_modes_of_files(self):
        def mode(path):
            return stat.S_IMODE(os.stat(path).st_mode)
        self.assertEqual(mode(self.daemon.data), 0o700)
        self.assertEqual(mode(self.daemon.data / "token"), 0o600)
        for name in ("grpc_unix", "http_unix"):
            self.assertEqual(mode(self.daemon.server[name]), 0o600)

    def test_idle_connections_do_not_delay_healthz(self):
        host, port = self.daemon.server["http"].removeprefix("http://").split(":")
        idle = [socket.create_connection((host, int(port))) for _ in range(900)]
        try:
            for connection in idle[::2]:
                connection.send(b"GET /healthz HT")
            started = time.monotonic()
            self.assertEqual(self.daemon.request("/healthz", token="")[0], 200)
            self.assertLess(time.monotonic() - started, 1)
        finally:
            for connection in idle:
                connection.close()

    def test_idle_memory(self):
        daemon = Daemon().start()
        self.addCleanup(daemon.close)
        daemon.run(TRUE, "warm")
        total = rss_kib(daemon.pid) + sum(map(rss_kib, daemon.supervisors()))
        self.assertLessEqual(total, 30 * 1024, f"daemon {rss_kib(daemon.pid)} KiB and its supervisor")


class Restart(LiveTest):
    def test_sigterm_leaves_steps_running_and_the_next_start_goes_on(self):
        mark, gate = self.daemon.folder / "mark", self.daemon.folder / "gate"
        text = f"""
name: survive
steps:
  - {{name: a, command: {sh(f'echo $$ >> {mark}; echo before; while [ ! -e {gate} ]; do sleep 0.02; done; echo after; echo 1 > "$ORCH_OUTPUT_X"')}, outputs: {{x: {{}}}}}}
  - {{name: b, command: {sh('cat "$ORCH_INPUT_X"')}, inputs: {{x: a.x}}}}
"""
        self.daemon.submit(text, self.name)
        wait_for(mark.exists, "the step runs")
        self.assertEqual(self.daemon.stop(), 0)
        gate.touch()
        self.daemon.start()
        self.assertEqual(self.daemon.ended(self.name)["state"], "SUCCEEDED")
        self.assertEqual(len(mark.read_text().split()), 1)
        self.assertEqual(self.daemon.ctl("logs", self.name, "a").stdout, "before\nafter\n")


def can_mount():
    return os.geteuid() == 0 and subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


class FullDisk(unittest.TestCase):
    @unittest.skipUnless(can_mount(), "a small tmpfs needs root")
    def test_what_was_acknowledged_is_kept(self):
        folder = tempfile.mkdtemp(prefix="orchd-full-")
        self.addCleanup(os.rmdir, folder)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "none", folder], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", folder], check=True)
        daemon = Daemon(folder=folder)
        self.addCleanup(daemon.close)
        daemon.start()
        daemon.run(TRUE, "before")
        ballast = pathlib.Path(folder) / "ballast"
        file = os.open(ballast, os.O_CREAT | os.O_WRONLY)
        try:
            while True:
                os.write(file, b"\0" * 65536)
        except OSError:
            pass
        finally:
            os.close(file)
        accepted, refused = [], None
        for i in range(5000):
            status, text = daemon.request("/orch.v1.RunService/SubmitRun", {"name": f"r{i}", "pipeline": {
                "name": "p", "steps": [{"name": "a", "command": ["/bin/true", f"{i}" * 1000]}]}})
            if status != 200:
                refused = text
                break
            accepted.append(f"r{i}")
        self.assertIsNotNone(refused, "a full disk refused nothing")
        self.assertIn("resource_exhausted", refused)
        os.unlink(ballast)
        wait_for(lambda: daemon.submit(TRUE, f"again{time.monotonic_ns()}", check=False).returncode == 0, "it goes on")
        for name in ["before", *accepted]:
            self.assertEqual(daemon.ended(name)["name"], name)


if __name__ == "__main__":
    unittest.main()
