"""The Python client asks the real daemon: lists, events, why, plan, diff, lineage, searches, secrets."""
import signal
import unittest

from tests.lib.daemon import ROOT, Daemon

try:
    import tests.lib.api  # noqa: F401  finds the package
    import orchd
except ImportError:
    orchd = None


@unittest.skipIf(orchd is None, "python3-grpcio is missing")
class Python(unittest.TestCase):
    def setUp(self) -> None:
        self.daemon = Daemon()
        self.addCleanup(self.daemon.close)
        self.daemon.start()
        self.client = orchd.Client(data_dir=self.daemon.data, start=False)
        self.addCleanup(self.client.close)

    def test_a_run_is_looked_into(self) -> None:
        there = self.daemon.home / "there"
        there.write_text("text")
        pipeline = {
            "name": "look",
            "parameters": {"n": 1},
            "steps": [
                {"name": "a", "foreach": {"i": [1, 2, 3]}, "command": ["sh", "-c", "echo ${item.i} > ${outputs.x}; echo seen ${item.i}; echo loss >&2"],
                 "inputs": {"u": {"uri": f"file://{there}"}}, "outputs": {"x": {}}},
                {"name": "sum", "command": ["sh", "-c", "cat ${inputs.xs}/* > ${outputs.y}; echo ${params.n} >> ${outputs.y}"],
                 "inputs": {"xs": "a[*].x"}, "outputs": {"y": {}}},
                {"name": "bad", "command": ["sh", "-c", "echo 'ValueError: no' >&2; exit 3"]},
                {"name": "after", "command": ["true"], "after": ["bad"]},
            ],
        }
        client = self.client
        self.assertIsNone(client.plan(pipeline).expected)
        self.assertEqual(client.list_runs(), [], "a plan starts nothing")
        first = client.wait(client.submit(pipeline, name="look-1"), timeout=60)
        self.assertEqual(first.state, "FAILED")
        second = client.wait(client.submit(pipeline, {"n": 2}, name="look-2"), timeout=60)

        self.assertEqual([r.name for r in client.list_runs("state=FAILED AND name=look-*", order_by="name")], ["look-1", "look-2"])
        self.assertEqual([s.name for s in client.list_steps("look-1", "template_name=a", order_by="index desc")], ["a[2]", "a[1]", "a[0]"])
        with self.assertRaises(orchd.Refused) as caught:
            client.list_runs("color=red")
        self.assertEqual(caught.exception.reason, "FILTER_INVALID")

        landed = client.list_events(first, "type=ARTIFACT_LANDED")
        self.assertEqual(sorted(e.step for e in landed), ["a[0]", "a[1]", "a[2]", "sum"])
        self.assertEqual(client.list_events(first, "type=ARTIFACT_LANDED", after_sequence=landed[1].sequence), landed[2:])

        bad = client.why(first, "bad")
        self.assertIn("exit code 3", bad.summary)
        self.assertEqual((bad.failures[0].exit_code, bad.failures[0].last_lines), (3, ("ValueError: no",)))
        after = client.why(first, "after")
        self.assertEqual((after.step_state, after.causes[0].step, after.causes[0].step_state), ("SKIPPED", "bad", "FAILED"))
        self.assertEqual([s.step for s in client.why(first).steps], ["bad"])
        with self.assertRaises(orchd.NotFound):
            client.why(first, "nobody")

        plan = client.plan(pipeline)
        self.assertEqual((plan.step_count, plan.run_steps), (6, 6))
        self.assertGreater(plan.expected.total_seconds(), 0)
        self.assertEqual({s.action for s in plan.steps}, {"RUN"})
        with self.assertRaises(orchd.PipelineInvalid) as invalid:
            client.plan({"name": "p", "steps": [{"name": "a", "command": ["true"], "after": ["z"]}]})
        self.assertIn("`z`", str(invalid.exception))

        diff = client.diff_runs(first, second)
        self.assertEqual(diff.parameters, (orchd.ValueChange("n", "1", "2"),))
        self.assertEqual([change.outputs[0].name for change in diff.steps if change.outputs], ["y"])
        self.assertEqual(diff.before.id, first.id)

        lineage = client.lineage(client.get_artifact("look.sum.y@1"), direction="upstream")
        self.assertEqual([(k.distance, k.step, k.input, k.artifact.step) for k in lineage.links if k.artifact],
                         [(1, "sum", "xs", f"a[{n}]") for n in range(3)])
        self.assertEqual([(k.distance, k.step, k.input) for k in lineage.links if k.uri == f"file://{there}"],
                         [(2, f"a[{n}]", "u") for n in range(3)])
        down = client.lineage(run=first, step="a[1]", direction="downstream")
        self.assertEqual([(k.direction, k.step) for k in down.links], [("DOWNSTREAM", "sum")])
        self.assertIsNone(down.artifact)

        found, = client.search_logs(first, "a[1]", "^SEEN [0-9]$", ignore_case=True)
        self.assertEqual((found.stream, found.line, found.line_number, found.attempt), ("STDOUT", "seen 2", 1, 1))
        self.assertEqual([m.line for m in client.search_logs(first, "bad", first_error=True)], ["ValueError: no"])
        self.assertEqual(list(client.search_logs(first, "a[1]", "seen", stream="stderr")), [])
        with self.assertRaises(orchd.Refused) as pattern:
            list(client.search_logs(first, "a[1]", "("))
        self.assertEqual(pattern.exception.reason, "PATTERN_INVALID")

        # The same after kill -9, by the same client, which follows.
        before = client.why(first, "bad").failures
        self.daemon.restart(signal.SIGKILL)
        self.assertEqual(client.why(first, "bad").failures, before)
        self.assertEqual(client.list_events(first, "type=ARTIFACT_LANDED"), landed)

    def test_all_matches_of_a_long_log_come(self) -> None:
        run = self.daemon.submit("name: long\nsteps:\n  - {name: a, command: [seq, '2500']}\n", "--wait")
        lines = [m.line for m in self.client.search_logs(run, "a", "^[0-9]+$")]
        self.assertEqual(lines, [str(n) for n in range(1, 2501)])
        self.assertEqual(len(list(self.client.search_logs(run, "a", "5", limit=7))), 7)

    def test_secrets(self) -> None:
        client = self.client
        self.assertEqual(client.set_secret("pw", "hunter2").version, 1)
        self.assertTrue(client.set_secret("key", b"\x00\xff").binary)
        self.assertEqual([s.name for s in client.list_secrets()], ["key", "pw"])
        pipeline = {"name": "s", "steps": [{"name": "a", "secrets": {"PW": "pw"}, "command": ["sh", "-c", "test \"$PW\" = hunter2"]}]}
        run = client.wait(client.submit(pipeline), timeout=60)
        self.assertEqual(run.state, "SUCCEEDED")
        client.delete_secret("pw")
        with self.assertRaises(orchd.NotFound) as caught:
            client.delete_secret("pw")
        self.assertEqual(caught.exception.reason, "SECRET_NOT_FOUND")
        with self.assertRaises(orchd.Refused):
            client.set_secret("empty", "")


if __name__ == "__main__":
    unittest.main()
