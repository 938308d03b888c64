"""Logs: search, first error, since, tail, and large ones that are compressed behind the readers' backs."""
import base64
import json
import os
import signal
import unittest
from pathlib import Path
from typing import Any

from tests.lib.daemon import Daemon, wait_for

CONFIG = "limits: {log_compress_bytes: 4096}\n"
WRITES = """
name: writes
steps:
  - name: big
    command: [sh, -c, 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo "line $i of many"; done; echo "ValueError: at the end" >&2']
  - name: small
    command: [sh, -c, 'echo one; echo "Traceback (most recent call last):" >&2; echo "  File x" >&2; echo "KeyError: 1" >&2; echo two']
  - name: quiet
    command: ['true']
"""


class Logs(unittest.TestCase):
    daemon: Daemon
    run_name: str

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = Daemon(CONFIG)
        cls.addClassCleanup(cls.daemon.close)
        cls.daemon.start()
        cls.run_name = cls.daemon.submit(WRITES, "--wait")
        cls.whole = "".join(f"line {i} of many\n" for i in range(1, 20001))

    def files(self, run: str | None = None) -> set[str]:
        run_id = self.daemon.json("get-run", run or self.run_name)["id"]
        folder = self.daemon.data / "logs" / run_id
        return {path.name for path in folder.iterdir()} if folder.is_dir() else set()

    def compressed(self, run: str | None = None) -> None:
        wait_for("the large log to be compressed",
                 lambda: "0.1.out.zst" in self.files(run) and "0.1.out" not in self.files(run))

    def logs(self, *args: Any, code: int = 0) -> str:
        return self.daemon.ctl("logs", self.run_name, *args, code=code).stdout

    def test_readers_do_not_notice(self) -> None:
        self.compressed()
        self.assertNotIn("1.1.out.zst", self.files())  # a small one stays as it is
        self.assertEqual(self.logs("big", "--stream", "stdout"), self.whole)
        self.assertEqual(self.logs("big", "--stream", "stdout", "--tail", "3"), "".join(self.whole.splitlines(True)[-3:]))
        for offset in (0, 1, 100_000, len(self.whole) - 5, -7):
            status, text = self.daemon.http("/orch.v1.LogService/ReadLogs", {
                "run": self.run_name, "step": "big", "stream": "STDOUT", "offset": offset, "max_bytes": 300})
            self.assertEqual(status, 200, text)
            expected = self.whole[offset:][:300]
            self.assertEqual(base64.b64decode(json.loads(text).get("data", "")).decode(), expected)

    def test_a_kill_at_any_time_leaves_what_can_be_read(self) -> None:
        text = WRITES.replace("name: writes", "name: killed")
        for point in ("logs.compressed", ""):
            with Daemon(CONFIG) as daemon:
                once = daemon.home / "once"
                once.touch()
                daemon.faults = f"{point}=kill@{once}" if point else ""
                daemon.restart(signal.SIGKILL)
                name = "killed-1"
                daemon.ctl("submit", daemon.file(text), "--name", name, code=None)
                if point:
                    wait_for("the fault to fire", lambda: not once.exists())
                    assert daemon.process is not None
                    daemon.process.wait(30)
                else:
                    wait_for("the log to grow", lambda: any(daemon.data.glob("logs/*/0.1.out*")))
                    daemon.kill()
                daemon.faults = ""
                daemon.start()
                daemon.ctl("wait-run", name)
                self.assertEqual(daemon.ctl("logs", name, "big", "--stream", "stdout").stdout, self.whole)
                wait_for("the log to be compressed all the same", lambda: list(daemon.data.glob("logs/*/0.1.out.zst"))
                         and not list(daemon.data.glob("logs/*/0.1.out")))
                self.assertEqual(daemon.ctl("logs", name, "big", "--stream", "stdout").stdout, self.whole)

    def test_a_follower_sees_all_of_a_log_that_is_compressed_meanwhile(self) -> None:
        run = self.daemon.submit(WRITES)
        self.assertEqual(self.daemon.ctl("logs", run, "big", "--stream", "stdout", "--follow").stdout, self.whole)

    def test_search(self) -> None:
        for _ in range(2):  # as it is written, and compressed
            out = self.logs("big", "--grep", "^line 1999[89] ")
            self.assertEqual(out, "stdout:19998:line 19998 of many\nstdout:19999:line 19999 of many\n")
            self.compressed()
        out = self.logs("big", "--grep", "LINE 777 ", "-i", "-B", "1", "-A", "2")
        self.assertEqual(out.splitlines(), ["stdout-776-line 776 of many", "stdout:777:line 777 of many",
                                            "stdout-778-line 778 of many", "stdout-779-line 779 of many"])
        self.assertEqual(len(self.logs("big", "--grep", "00 of").splitlines()), 200)
        self.assertEqual(len(self.logs("big", "--grep", "of many", "--max-count", "1500").splitlines()), 1500)
        found = self.daemon.json("logs", self.run_name, "big", "--grep", "^line 20000 ")["matches"]
        self.assertEqual(found[0]["offset"], self.whole.index("line 20000 "))
        self.logs("big", "--grep", "nowhere to be found", code=3)
        self.logs("quiet", "--grep", "x", code=3)

    def test_search_is_paged_and_its_token_bound(self) -> None:
        body = {"run": self.run_name, "step": "big", "pattern": "00 of many", "max_matches": 7}
        seen, token, pages = [], "", 0
        while True:
            status, text = self.daemon.http("/orch.v1.LogService/SearchLogs", {**body, "page_token": token})
            self.assertEqual(status, 200, text)
            page = json.loads(text)
            seen += [match["line"] for match in page["matches"]]
            pages += 1
            last = token
            token = page.get("next_page_token", "")
            if not token:
                break
        self.assertEqual(seen, [f"line {i}00 of many" for i in range(1, 201)])
        self.assertGreater(pages, 28)
        status, text = self.daemon.http("/orch.v1.LogService/SearchLogs", {**body, "pattern": "other", "page_token": last})
        self.assertEqual(status, 400, text)
        for wrong in ({"pattern": "("}, {"pattern": ""}, {"pattern": "x", "before": 101}, {"pattern": "x", "max_matches": 1001},
                      {"pattern": "x" * 1001}, {"pattern": "x", "first_error": True}):
            status, text = self.daemon.http("/orch.v1.LogService/SearchLogs", {"run": self.run_name, "step": "big", **wrong})
            self.assertEqual(status, 400, (wrong, text))

    def test_first_error(self) -> None:
        out = self.logs("small", "--first-error")
        self.assertEqual(out.splitlines(), ["stderr:1:Traceback (most recent call last):", "stderr-2-  File x",
                                            "stderr-3-KeyError: 1"])
        self.assertIn("stderr:1:ValueError: at the end", self.logs("big", "--first-error"))
        self.logs("quiet", "--first-error", code=3)
        self.daemon.ctl("logs", self.run_name, "small", "--first-error", "--follow", code=2)

    def test_the_page_shows_what_is_found(self) -> None:
        run_id = self.daemon.json("get-run", self.run_name)["id"]
        status, page = self.daemon.http(f"/runs/{run_id}/steps/small/log?first_error=1")
        self.assertEqual(status, 200)
        self.assertIn("<strong>Traceback (most recent call last):</strong>", page.decode())
        status, page = self.daemon.http(f"/runs/{run_id}/steps/big/log?grep=line%20123%20")
        self.assertIn("<strong>line 123 of many</strong>", page.decode())

    def test_since(self) -> None:
        self.assertEqual(self.logs("small", "--since", "1h", "--stream", "stdout"), "one\ntwo\n")
        self.assertEqual(self.logs("small", "--since", "2999-01-01T00:00:00Z"), "")
        self.assertEqual(self.logs("big", "--since", "2999-01-01T00:00:00Z", "--grep", "line", code=3), "")
        self.assertEqual(len(self.logs("big", "--since", "1h", "--grep", "line 5 ").splitlines()), 1)
        self.assertIn("neither", self.daemon.ctl("logs", self.run_name, "big", "--since", "teatime", code=2).stderr)


if __name__ == "__main__":
    unittest.main()
