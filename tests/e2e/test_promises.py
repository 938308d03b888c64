"""Small promises that are easily broken: memory at rest, words of errors, a watch without gaps, messages that are no pipeline."""
import json
import os
import unittest
from pathlib import Path

from tests.lib.daemon import Daemon

TRUE = "name: ok\nsteps:\n  - {name: a, command: ['true']}\n"


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Promises(unittest.TestCase):
    daemon: Daemon

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = Daemon()
        cls.addClassCleanup(cls.daemon.close)
        cls.daemon.start()

    def test_memory_at_rest(self) -> None:
        with Daemon() as daemon:
            daemon.run(TRUE)
            assert daemon.process is not None
            own, other = resident(daemon.process.pid), resident(daemon.supervisor_pid() or daemon.process.pid)
            self.assertLessEqual(own + other, 30 << 20, f"daemon {own}, supervisor {other} bytes")

    def failed(self, more: str) -> str:
        return str(self.daemon.run(f"name: p\nsteps:\n  - name: a\n{more}", code=1)["a"]["message"])

    def test_a_missing_command_is_named(self) -> None:
        self.assertIn("no-such-program-here", self.failed("    command: [no-such-program-here]\n"))

    def test_a_missing_folder_is_named(self) -> None:
        self.assertIn("/no/such/folder", self.failed("    command: ['true']\n    working_dir: /no/such/folder\n"))

    def test_a_file_too_large_is_told_its_size(self) -> None:
        text = "name: big\nsteps:\n" + "  - {name: a, command: [x]}\n" * 2_400_000
        said = self.daemon.ctl("submit", self.daemon.file(text, "big.yaml"), code=8).stderr
        self.assertIn(str(len(text)), said)

    def test_messages_that_are_no_pipeline(self) -> None:
        for body in ({}, {"pipeline": {"name": "../x", "steps": []}}, {"pipeline": {"steps": [{"name": "a"}]}},
                     {"no_such_field": 1}, {"pipeline": 7}, []):
            status, text = self.daemon.http("/orch.v1.RunService/SubmitRun", body)
            self.assertEqual(status, 400, (body, text))
            self.assertEqual(json.loads(text)["code"], "invalid_argument", body)

    def test_events_have_no_gap(self) -> None:
        for _ in range(3):
            self.daemon.run(TRUE)
        seen, token = [], ""
        while True:
            status, text = self.daemon.http("/orch.v1.RunService/ListEvents", {"page_size": 7, "page_token": token})
            self.assertEqual(status, 200, text)
            page = json.loads(text)
            seen += [int(event["sequence"]) for event in page["events"]]
            token = page.get("next_page_token", "")
            if not token:
                break
        self.assertEqual(seen, list(range(1, len(seen) + 1)))


if __name__ == "__main__":
    unittest.main()
