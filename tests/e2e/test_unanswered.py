"""What `orch-launch run` does where something answers for the daemon that is not the daemon, by a double of it."""
from __future__ import annotations

import http.server
import json
import os
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path
from typing import Any

from tests.lib.daemon import BIN


def reason(status: int, word: str) -> tuple[int, str]:
    """As the daemon says it."""
    return status, json.dumps({"code": "unavailable", "message": f"words of {word}", "details": [{"type": "t", "value": "", "debug": {"reason": word}}]})


class Double:
    """Gives a task, and `answer` to every other call of the attempt; keeps what is put elsewhere."""

    def __init__(self, task: dict[str, Any], answer: tuple[int, str]) -> None:
        self.calls: list[tuple[str, str, bytes]] = []
        self.ended: list[dict[str, Any]] = []
        double = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                double.calls.append((self.command, self.path, body))
                if self.path == "/attempt/v1/begin":
                    status, text = 200, json.dumps(task)
                elif self.path == "/attempt/v1/end" and answer[1].find("STORE_UNAVAILABLE") >= 0:
                    double.ended.append(json.loads(body))
                    status, text = 200, "{}"
                elif self.command == "PUT":
                    status, text = 200, ""
                else:
                    status, text = answer
                data = text.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do

            def log_message(self, *_: object) -> None:
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Unanswered(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="orch-unanswered-")
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name) / "root"
        self.task: dict[str, Any] = {
            "version": 1, "fence": "f" * 20, "root": str(self.root), "scratch": str(self.root / "scratch"), "output": str(self.root / "output"),
            "command": ["sh", "-c", f"printf ten-bytes. > {self.root}/output/o"], "env": [], "working_dir": "/",
            "params": {"path": str(self.root / "params.json"), "text": "{}"}, "inputs": [],
            "outputs": [{"name": "o", "path": str(self.root / "output/o"), "kind": "file"}], "grace_millis": 1000, "patience_seconds": 1}

    def launch(self, answer: tuple[int, str]) -> tuple[Double, subprocess.CompletedProcess[str]]:
        double = Double(self.task, answer)
        self.addCleanup(double.close)
        env = {**os.environ, "ORCH_ENDPOINT": double.address, "ORCH_TOKEN": "t", "ORCH_FENCE": "f" * 20}
        return double, subprocess.run([BIN / "orch-launch", "run"], env=env, capture_output=True, text=True, timeout=120)

    def manifest(self) -> dict[str, Any]:
        return dict(json.loads((self.root / "manifest.json").read_text()))

    def test_a_proxy_that_does_not_reach_the_daemon_is_no_answer(self) -> None:
        for answer in ((502, "<html>Bad Gateway</html>"), (503, ""), (504, "{}"), reason(503, "DRAINING")):
            with self.subTest(answer):
                (self.root / "manifest.json").unlink(missing_ok=True)
                double, done = self.launch(answer)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn("does not answer; what the step made is left for it", done.stderr)
                manifest = self.manifest()
                self.assertEqual((manifest["end"]["exit_code"], manifest["outputs"][0]["name"]), (0, "o"))
                self.assertGreater(len([c for c in double.calls if c[0] == "PATCH"]), 1, "it is asked again before that")

    def test_the_end_alone_is_left_too(self) -> None:
        self.task["command"], self.task["outputs"] = ["sh", "-c", "exit 3"], []
        _, done = self.launch((502, ""))
        self.assertEqual((done.returncode, self.manifest()["end"]["exit_code"]), (3, 3), done.stderr)

    def test_other_words_are_the_daemons_own(self) -> None:
        _, done = self.launch((500, ""))
        self.assertEqual(done.returncode, 125, done.stderr)
        self.assertIn("the daemon does not take the end", done.stderr)
        self.assertFalse((self.root / "manifest.json").exists())

    def test_a_daemon_whose_store_is_away_is_told(self) -> None:
        self.task["inputs"] = [{"name": "i", "path": str(self.root / "inputs/i"), "kind": "file"}]
        double, done = self.launch(reason(503, "STORE_UNAVAILABLE"))
        self.assertEqual(done.returncode, 125, done.stderr)
        self.assertEqual([(end["reason"], end["message"]) for end in double.ended], [("INPUT_MISSING", "input `i`: words of STORE_UNAVAILABLE")])

    def test_what_a_store_takes_in_no_single_request_is_left_here(self) -> None:
        for most, puts in ((10, ["/o", "/manifest"]), (9, [])):
            with self.subTest(most):
                double = Double({}, (404, ""))
                self.addCleanup(double.close)
                place = {name: {"url": f"{double.address}/{name}", "headers": {}} for name in ("o", "manifest")}
                self.task["away"] = {"manifest": place["manifest"], "outputs": {"o": place["o"]}, "most_bytes": most}
                self.assertEqual(self.launch((502, ""))[1].returncode, 0)
                self.assertEqual([path for method, path, _ in double.calls if method == "PUT"], puts)
                self.assertEqual((self.root / "manifest.json").exists(), not puts)


if __name__ == "__main__":
    unittest.main()
