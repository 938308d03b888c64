"""A run that has ended can be deleted: it is gone at once, what it leaves behind goes soon, what others need stays."""
import json
import signal
import unittest
from pathlib import Path

from tests.lib.daemon import Daemon, wait_for

MAKES = """name: makes
steps:
  - name: plain
    command: [sh, -c, 'echo plain; seq 30000 > "$ORCH_OUTPUT_O"; echo small > "$ORCH_OUTPUT_S"']
    outputs: {o: {type: csv}, s: {type: csv}}
  - name: cached
    command: [sh, -c, 'seq 40000 > "$ORCH_OUTPUT_O"']
    outputs: {o: {type: csv}}
    cache: {enabled: true}
  - name: named
    command: [sh, -c, 'seq 50000 > "$ORCH_OUTPUT_O"']
    outputs: {o: {type: csv, as: best}}
  - name: folder
    command: [sh, -c, 'mkdir "$ORCH_OUTPUT_O"; echo x > "$ORCH_OUTPUT_O/x"']
    outputs: {o: {type: dir}}
"""


def blobs(daemon: Daemon) -> set[str]:
    return {path.name for path in (daemon.data / "blobs").glob("*/*")}


class Deletion(unittest.TestCase):
    daemon: Daemon

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = Daemon()
        cls.daemon.start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.daemon.close()

    def digest(self, artifact: str) -> str:
        return str(self.daemon.json("get-artifact", artifact)["digest"]).removeprefix("sha256:")

    def logs_of(self, run_id: str) -> Path:
        return self.daemon.data / "logs" / run_id

    def test_what_nobody_needs_goes_and_what_somebody_needs_stays(self) -> None:
        first = self.daemon.submit(MAKES)
        self.daemon.ctl("wait-run", first)
        digests = {step: self.digest(f"makes.{step}.o") for step in ("plain", "cached", "folder")}
        digests["named"] = self.digest("best")
        small = self.digest("makes.plain.s")
        run_id = self.daemon.json("get-run", first)["id"]
        self.assertTrue(self.logs_of(run_id).is_dir())
        self.daemon.ctl("delete-run", first)
        self.assertIn("there is no run", self.daemon.ctl("get-run", first, code=3).stderr)
        self.assertNotIn(first, self.daemon.ctl("list-runs", "--all").stdout)
        wait_for("the bytes to go", lambda: not {digests["plain"], digests["folder"], small} & blobs(self.daemon))
        wait_for("the logs to go", lambda: not self.logs_of(run_id).exists())
        self.assertLessEqual({digests["cached"], digests["named"]}, blobs(self.daemon))
        self.assertTrue(self.daemon.ctl("get-artifact", "best", "--output", "-").stdout.endswith("50000\n"))
        self.assertIn("there is no artifact", self.daemon.ctl("get-artifact", "makes.plain.o", code=3).stderr)
        # The same work again: what the cache kept is taken from it, the rest is made again.
        second = self.daemon.submit(MAKES)
        self.daemon.ctl("wait-run", second)
        steps = self.daemon.steps(second)
        self.assertEqual(steps["cached"]["state"], "CACHED")
        self.assertEqual(steps["cached"]["cached_from"], first)  # named still
        self.assertEqual(steps["plain"]["state"], "SUCCEEDED")
        self.assertIn(digests["plain"], blobs(self.daemon))
        self.assertTrue(self.daemon.ctl("get-artifact", "makes.plain.o", "--output", "-").stdout.endswith("30000\n"))
        self.assertEqual(self.daemon.json("get-artifact", "makes.plain.o")["version"], 2, "versions are not given twice")
        self.daemon.ctl("delete-run", second)
        self.daemon.ctl("invalidate-cache", "makes")
        wait_for("what only the cache kept to go", lambda: digests["cached"] not in blobs(self.daemon))
        self.assertIn(digests["named"], blobs(self.daemon))

    def test_bytes_that_another_run_has_stay(self) -> None:
        text = "name: twin\nsteps:\n  - {name: a, command: [sh, -c, 'seq 60000 > \"$ORCH_OUTPUT_O\"'], outputs: {o: {}}}\n"
        one, two = self.daemon.submit(text), self.daemon.submit(text)
        for run in (one, two):
            self.daemon.ctl("wait-run", run)
        digest = self.digest("twin.a.o")
        self.daemon.ctl("delete-run", one)
        other = self.daemon.submit(text)  # its own commits come behind the deletion's
        self.daemon.ctl("wait-run", other)
        self.daemon.ctl("delete-run", other)
        wait_for("both to be cleaned up", lambda: self.daemon.log().count("deleted run cleaned up") >= 2)
        self.assertIn(digest, blobs(self.daemon))
        self.daemon.ctl("delete-run", two)
        wait_for("the bytes to go", lambda: digest not in blobs(self.daemon))

    def test_bytes_that_a_step_of_another_run_reads_stay_until_it_ends(self) -> None:
        self.read_while_deleted("one", cleaned=False)

    def test_they_stay_when_only_the_bytes_were_left_at_the_kill(self) -> None:
        self.read_while_deleted("two", cleaned=True)

    def read_while_deleted(self, which: str, cleaned: bool) -> None:
        gate = self.daemon.home / f"reader-may-go-{which}"
        made = {}
        for name in ("lends", "control"):
            text = (f"name: {name}\nsteps:\n  - {{name: a, command: [sh, -c, 'seq 70000 > \"$ORCH_OUTPUT_O\"; "
                    f"echo {name} {which} >> \"$ORCH_OUTPUT_O\"'], outputs: {{o: {{}}}}}}\n")
            made[name] = self.daemon.submit(text)
            self.daemon.ctl("wait-run", made[name])
        lent, control = self.digest("lends.a.o"), self.digest("control.a.o")
        reader = self.daemon.submit(
            "name: reader\nsteps:\n  - name: r\n    inputs: {x: {artifact: lends.a.o}}\n    command: [sh, -c, 'while [ ! -e "
            f"{gate} ]; do sleep 0.02; done; tail -n 1 \"$ORCH_INPUT_X\"']\n")
        wait_for("it to run", lambda: self.daemon.steps(reader)["r"]["state"] == "RUNNING")
        self.daemon.ctl("delete-run", made["lends"])
        if cleaned:
            wait_for("it to be cleaned up", lambda: f'"deleted run cleaned up","run":"{made["lends"]}"' in self.daemon.log())
        self.daemon.restart(signal.SIGKILL)
        self.daemon.ctl("delete-run", made["control"])
        wait_for("others' bytes to go", lambda: control not in blobs(self.daemon))
        self.assertIn(lent, blobs(self.daemon))
        gate.touch()
        self.daemon.ctl("wait-run", reader)
        self.assertEqual(self.daemon.ctl("logs", reader, "r").stdout, f"lends {which}\n")
        wait_for("the bytes to go", lambda: lent not in blobs(self.daemon))

    def test_only_a_run_that_has_ended(self) -> None:
        gate = self.daemon.home / "delete-gate"
        run = self.daemon.submit(f"name: p\nsteps:\n  - {{name: a, command: [sh, -c, 'while [ ! -e {gate} ]; do sleep 0.02; done']}}\n")
        refused = self.daemon.ctl("delete-run", run, code=8).stderr
        self.assertIn("has not ended", refused)
        self.assertIn("cancel-run", refused)
        gate.touch()
        self.daemon.ctl("wait-run", run)
        self.daemon.ctl("delete-run", run)
        self.daemon.ctl("delete-run", run, code=3)
        self.daemon.ctl("delete-run", "nobody", code=3)

    def test_the_name_is_free_again_and_a_repeat_answers_ok(self) -> None:
        text = "name: p\nsteps:\n  - {name: a, command: ['true']}\n"
        self.daemon.submit(text, "--name", "again")
        self.daemon.ctl("wait-run", "again")
        call = {"name": "again", "request_id": "delete-1"}
        for _ in range(2):
            status, answer = self.daemon.http("/orch.v1.RunService/DeleteRun", call)
            self.assertEqual((status, json.loads(answer)), (200, {}))
        self.daemon.submit(text, "--name", "again")
        self.daemon.ctl("wait-run", "again")
        status, answer = self.daemon.http("/orch.v1.RunService/DeleteRun", call)
        self.assertEqual(status, 200)  # the answer of the first
        self.assertEqual(self.daemon.state("again"), "SUCCEEDED")
        status, answer = self.daemon.http("/orch.v1.RunService/DeleteRun", {"name": "p", "request_id": "delete-1"})
        self.assertEqual(json.loads(answer)["details"][0]["debug"]["reason"], "REQUEST_ID_REUSED")

    def test_watchers_see_it(self) -> None:
        run = self.daemon.submit("name: p\nsteps:\n  - {name: a, command: ['true']}\n")
        self.daemon.ctl("wait-run", run)
        run_id = self.daemon.json("get-run", run)["id"]
        before = self.daemon.json("server-info")["last_sequence"]
        self.daemon.ctl("delete-run", run)
        status, answer = self.daemon.http("/orch.v1.RunService/ListEvents", {"after_sequence": before})
        told = [e for e in json.loads(answer)["events"] if e["type"] == "RUN_DELETED"]
        self.assertEqual([(e["run"], e["run_id"]) for e in told], [(run, run_id)])

    def test_killed_in_the_middle(self) -> None:
        """At each point of the deletion: the next daemon goes on with it."""
        points = ["delete.committed", "clean.begin", "clean.logs_removed", "clean.artifacts_removed", "clean.steps_removed",
                  "clean.bytes_removed", "clean.blobs_removed"]
        daemon = Daemon()
        self.addCleanup(daemon.close)
        daemon.start()
        text = ("name: p\nsteps:\n  - {name: a, command: [sh, -c, 'echo log; seq 70000 > \"$ORCH_OUTPUT_O\"'], outputs: {o: {}},"
                " env: {N: '%s'}}\n")
        for point in points:
            with self.subTest(point):
                daemon.stop()
                once = daemon.home / "once"
                once.touch()
                daemon.faults = f"{point}=kill@{once}"
                daemon.start()
                run = daemon.submit(text % point)
                daemon.ctl("wait-run", run)
                run_id = daemon.json("get-run", run)["id"]
                daemon.ctl("delete-run", run, code=None)
                wait_for(f"{point} to fire", lambda: not once.exists())
                wait_for("the daemon to die", lambda: daemon.process.poll() is not None)
                daemon.faults = ""
                daemon.start()
                daemon.ctl("get-run", run, code=3)
                wait_for("the bytes to go", lambda: not blobs(daemon))
                wait_for("the logs to go", lambda: not (daemon.data / "logs" / run_id).exists())
                self.assertEqual(daemon.json("list-artifacts")["artifacts"], [])


if __name__ == "__main__":
    unittest.main()
