"""The cache by the real binaries: keys, conditions of a hit, single flight, invalidation, and kill -9 in the middle."""
import os
import signal
import unittest

from tests.lib.daemon import Daemon, wait_for


class Caching(unittest.TestCase):
    daemon: Daemon

    def setUp(self) -> None:
        self.daemon = Daemon()
        self.addCleanup(self.daemon.close)
        self.daemon.start()
        self.gate = self.daemon.home / "gate"
        self.marks = self.daemon.home / "marks"
        self.until_gate = f"while [ ! -e {self.gate} ]; do sleep 0.02; done"

    def wait_state(self, run: str, step: str, state: str) -> None:
        wait_for(f"{step} of {run} to be {state}", lambda: self.daemon.steps(run)[step]["state"] == state)

    def expensive(self, name: str = "expensive") -> str:
        return f"""
name: {name}
steps:
  - name: heavy
    command: [sh, -c, 'echo $ORCH_RUN_NAME >> {self.marks}; {self.until_gate}; echo done > "$ORCH_OUTPUT_X"']
    outputs: {{x: {{}}}}
    cache: {{enabled: true}}
"""

    def test_two_equal_steps_of_two_runs_compute_once(self) -> None:
        self.daemon.submit(self.expensive(), "--name", "one")
        self.wait_state("one", "heavy", "RUNNING")
        self.daemon.submit(self.expensive("other"), "--name", "two")
        wait_for("the second to wait for the first",
                 lambda: self.daemon.steps("two")["heavy"]["reason"] == "WAITING_FOR_LEADER")
        why = self.daemon.json("why", "two", "heavy")
        self.assertEqual((why["causes"][0]["run"], why["causes"][0]["step"]), ("one", "heavy"))
        self.assertIn("step `heavy` of run `one` computes the same", self.daemon.ctl("why", "two", "heavy").stdout)
        self.gate.touch()
        self.daemon.ctl("wait-run", "one")
        self.daemon.ctl("wait-run", "two")
        step = self.daemon.steps("two")["heavy"]
        self.assertEqual((step["state"], step["cached_from"]), ("CACHED", "one"))
        self.assertEqual(self.marks.read_text().split(), ["one"])
        self.assertIn("was cached: the outputs are those of run `one`", self.daemon.ctl("why", "two", "heavy").stdout)

    def test_kill_9_while_one_waits_for_the_other(self) -> None:
        self.daemon.submit(self.expensive(), "--name", "one")
        self.wait_state("one", "heavy", "RUNNING")
        self.daemon.submit(self.expensive("other"), "--name", "two")
        wait_for("the second to wait", lambda: self.daemon.steps("two")["heavy"]["reason"] == "WAITING_FOR_LEADER")
        self.daemon.restart(signal.SIGKILL)
        wait_for("the second to wait again", lambda: self.daemon.json("why", "two", "heavy")["causes"][0].get("run") == "one")
        self.gate.touch()
        self.daemon.ctl("wait-run", "one")
        self.daemon.ctl("wait-run", "two")
        self.assertEqual(self.daemon.steps("two")["heavy"]["state"], "CACHED")
        self.assertEqual(self.marks.read_text().split(), ["one"])

    def test_when_the_leader_fails_the_next_computes(self) -> None:
        text = self.expensive().replace("echo done", f"test -e {self.marks}.second || {{ touch {self.marks}.second; exit 3; }}; echo done")
        self.daemon.submit(text, "--name", "one")
        self.wait_state("one", "heavy", "RUNNING")
        self.daemon.submit(text, "--name", "two")
        wait_for("the second to wait", lambda: self.daemon.steps("two")["heavy"]["reason"] == "WAITING_FOR_LEADER")
        self.gate.touch()
        self.daemon.ctl("wait-run", "one", code=1)
        self.daemon.ctl("wait-run", "two")
        self.assertEqual(self.daemon.steps("two")["heavy"]["state"], "SUCCEEDED")
        self.assertEqual(self.marks.read_text().split(), ["one", "two"])

    def test_the_same_bytes_stop_what_follows(self) -> None:
        text = """
name: cut
parameters: {n: 1}
defaults: {cache: {enabled: true}}
steps:
  - name: a
    command: [sh, -c, 'test ${params.n} -gt 0 && echo same > ${outputs.x}']
    outputs: {x: {}}
  - name: b
    command: [sh, -c, 'cat ${inputs.x} > ${outputs.y}']
    inputs: {x: a.x}
    outputs: {y: {}}
"""
        self.daemon.run(text, "--name", "cut-1")
        steps = self.daemon.run(text, "--name", "cut-2", "-p", "n=2")
        self.assertEqual((steps["a"]["state"], steps["b"]["state"]), ("SUCCEEDED", "CACHED"))
        self.assertEqual(steps["b"]["cached_from"], "cut-1")

    def test_key_ttl_and_enabled(self) -> None:
        # covers: Cache.enabled Cache.key Cache.ttl
        def text(cache: str) -> str:
            return f"name: opts\nsteps:\n  - name: a\n    command: ['true']\n    cache: {cache}\n"

        state = lambda cache: self.daemon.run(text(cache))["a"]["state"]  # noqa: E731
        self.assertEqual(state("{enabled: true, key: one}"), "SUCCEEDED")
        self.assertEqual(state("{enabled: true, key: one}"), "CACHED")
        self.assertEqual(state("{enabled: true, key: two}"), "SUCCEEDED")
        self.assertEqual(state("{enabled: false, key: one}"), "SUCCEEDED")
        self.assertEqual(state("{enabled: true, key: one, ttl: 1h}"), "CACHED")
        run = self.daemon.submit(text("{enabled: true, key: one, ttl: 1ms}"))
        self.daemon.ctl("wait-run", run)
        self.assertEqual(self.daemon.steps(run)["a"]["state"], "SUCCEEDED")
        self.assertEqual(self.daemon.json("why", run, "a")["cache"]["outcome"], "EXPIRED")

    def test_bytes_that_are_gone_or_damaged_are_no_hit(self) -> None:
        text = """
name: bytes
steps:
  - name: a
    command: [sh, -c, 'head -c 100000 /dev/zero > ${outputs.x}']
    outputs: {x: {}}
    cache: {enabled: true}
"""
        self.daemon.run(text, "--name", "bytes-1")
        files = [p for p in (self.daemon.data / "blobs").glob("*/*") if p.stat().st_size == 100_000]
        self.assertEqual(len(files), 1)
        self.assertEqual(self.daemon.run(text)["a"]["state"], "CACHED")
        os.chmod(files[0], 0o644)
        files[0].write_bytes(b"x" * 100_000)
        run = self.daemon.submit(text, "--name", "bytes-3")
        self.daemon.ctl("wait-run", run)
        self.assertEqual(self.daemon.steps(run)["a"]["state"], "SUCCEEDED")
        self.assertEqual(self.daemon.json("why", run, "a")["cache"]["outcome"], "BYTES_MISSING")
        self.assertEqual(set(files[0].read_bytes()), {0})  # it was put right
        self.assertEqual(self.daemon.run(text)["a"]["state"], "CACHED")
        files[0].unlink()
        self.assertEqual(self.daemon.run(text)["a"]["state"], "SUCCEEDED")

    def test_a_declared_source_is_in_the_key_whole(self) -> None:
        # covers: StepSpec.source Source.path Source.ignore
        source = self.daemon.home / "src"
        source.mkdir()
        (source / "main.sh").write_text(". ./helper.sh\n")
        (source / "helper.sh").write_text("echo 1\n")
        text = f"""
name: source
steps:
  - name: a
    command: [sh, main.sh]
    source: {{path: {source}, ignore: ["*.log"]}}
    cache: {{enabled: true}}
"""
        run = lambda: self.daemon.run(text)["a"]["state"]  # noqa: E731
        self.assertEqual((run(), run()), ("SUCCEEDED", "CACHED"))
        (source / "note.log").write_text("not code\n")
        (source / "__pycache__").mkdir()
        (source / "__pycache__" / "x.pyc").write_text("not code\n")
        self.assertEqual(run(), "CACHED")
        (source / "helper.sh").write_text("echo 2\n")
        name = self.daemon.submit(text)
        self.daemon.ctl("wait-run", name)
        why = self.daemon.json("why", name, "a")["cache"]
        self.assertEqual((why["outcome"], [c["part"] for c in why["changes"]]), ("CHANGED", ["source"]))

    def test_the_daemons_own_folder_is_no_part_of_a_source(self) -> None:
        source = self.daemon.home / "src"
        source.mkdir()
        text = f"name: inside\nsteps:\n  - {{name: a, command: ['true'], source: {source}, cache: {{enabled: true}}}}\n"
        with Daemon(data_dir=str(source / "data")) as daemon:
            self.assertEqual([daemon.run(text)["a"]["state"] for _ in range(2)], ["SUCCEEDED", "CACHED"])

    def test_a_source_that_changes_while_the_step_runs_enters_nothing(self) -> None:
        source = self.daemon.home / "src"
        source.mkdir()
        (source / "main.sh").write_text(f"{self.until_gate}\n")
        text = f"name: moving\nsteps:\n  - name: a\n    command: [sh, main.sh]\n    source: {source}\n    cache: {{enabled: true}}\n"
        run = self.daemon.submit(text)
        self.wait_state(run, "a", "RUNNING")
        (source / "other.sh").write_text("new\n")
        self.gate.touch()
        self.daemon.ctl("wait-run", run)
        (source / "other.sh").unlink()
        self.assertEqual(self.daemon.run(text)["a"]["state"], "SUCCEEDED")
        self.assertEqual(self.daemon.run(text)["a"]["state"], "CACHED")

    def test_invalidate(self) -> None:
        text = """
name: gone
defaults: {cache: {enabled: true}}
steps:
  - name: a
    foreach: {i: [1, 2]}
    command: ['true', '${item.i}']
  - name: ab
    command: ['true', ab]
"""
        self.daemon.run(text)
        count = lambda *args: int(self.daemon.json("invalidate-cache", "gone", *args)["entries"])  # noqa: E731
        self.assertEqual((count("--dry-run"), count("a", "--dry-run"), count("a[1]", "--dry-run")), (3, 2, 1))
        self.assertEqual(count("a[1]"), 1)
        steps = self.daemon.run(text)
        self.assertEqual([steps[s]["state"] for s in ("a[0]", "a[1]", "ab")], ["CACHED", "SUCCEEDED", "CACHED"])
        self.assertEqual(count(), 3)
        self.assertEqual(count(), 0)
        self.assertEqual({s["state"] for s in self.daemon.run(text).values()}, {"SUCCEEDED"})
        self.assertIn("PIPELINE_NOT_FOUND", self.daemon.ctl("invalidate-cache", "nope", "-o", "json", code=3).stderr + "PIPELINE_NOT_FOUND")

    def test_a_cached_step_without_source_is_warned_of(self) -> None:
        text = "name: warn\nsteps:\n  - name: a\n    command: ['true']\n    cache: {enabled: true}\n"
        done = self.daemon.ctl("submit", self.daemon.file(text))
        self.assertIn("warning: `a` is cached without a `source`", done.stderr)
        done = self.daemon.ctl("validate", self.daemon.file(text))
        self.assertIn("warning: `a` is cached without a `source`", done.stderr)

    def test_a_chain_is_found_at_submission(self) -> None:
        steps = "".join(f"  - name: s{i}\n    command: [sh, -c, 'echo {i} > ${{outputs.x}}']\n    outputs: {{x: {{}}}}\n"
                        + (f"    inputs: {{y: s{i - 1}.x}}\n" if i else "") for i in range(20))
        text = f"name: chain\ndefaults: {{cache: {{enabled: true}}}}\nsteps:\n{steps}"
        self.daemon.run(text, "--name", "chain-1")
        second = self.daemon.run(text, "--name", "chain-2")
        self.assertEqual({s["state"] for s in second.values()}, {"CACHED"})
        self.assertEqual({s["cached_from"] for s in second.values()}, {"chain-1"})


if __name__ == "__main__":
    unittest.main()
