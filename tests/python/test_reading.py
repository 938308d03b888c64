"""What the client asks and makes of the answers: events, explanations, plans, lineage, searches, secrets."""
import datetime
import unittest

import grpc
from double import Failure, run_message
from test_client import PIPELINE, ClientCase

import orchd
from orchd._messages import message_class

Code = grpc.StatusCode


class ReadingTest(ClientCase):
    def test_filters_and_orders_reach_the_server_on_every_page(self):
        steps = [message_class("ListStepsResponse")(next_page_token="t"), message_class("ListStepsResponse")()]
        steps[1].steps.add(name="b")
        double = self.serve({
            "RunService.ListRuns": [message_class("ListRunsResponse")(runs=[run_message()])],
            "RunService.ListSteps": steps,
        })  # fmt: skip
        client = self.client(project="team")
        self.assertEqual([run.name for run in client.list_runs("label.team=vision", order_by="name desc")], ["r1"])
        asked, = double.of("RunService.ListRuns")
        self.assertEqual((asked.project, asked.filter, asked.order_by), ("team", "label.team=vision", "name desc"))
        # An empty page is no end.
        self.assertEqual([s.name for s in client.list_steps("r1", "state=FAILED", order_by="index desc")], ["b"])
        self.assertEqual([(r.run, r.filter, r.order_by, r.page_token) for r in double.of("RunService.ListSteps")],
                         [("r1", "state=FAILED", "index desc", token) for token in ("", "t")])

    def test_events(self):
        def page(request):
            answer = message_class("ListEventsResponse")(next_page_token="" if request.page_token else "more")
            event = answer.events.add(sequence=8 if request.page_token else 7, run="r1", step="train[2]", exit_code=0)
            event.type, event.step_state, event.reason = 3, 8, 0
            return answer

        double = self.serve({"RunService.ListEvents": [page]})
        events = self.client().list_events("r1", "type=STEP_STATE_CHANGED AND step=train[2]", after_sequence=6)
        self.assertEqual([(e.sequence, e.type, e.state, e.exit_code) for e in events],
                         [(7, "STEP_STATE_CHANGED", "SUCCEEDED", 0), (8, "STEP_STATE_CHANGED", "SUCCEEDED", 0)])
        self.assertEqual({(r.run, r.filter, r.after_sequence) for r in double.of("RunService.ListEvents")},
                         {("r1", "type=STEP_STATE_CHANGED AND step=train[2]", 6)})
        self.assertEqual([e.sequence for e in self.client().list_events(limit=1)], [7])
        double.script["RunService.ListEvents"] = [Failure(Code.OUT_OF_RANGE, "gone", "EVENTS_COMPACTED")]
        with self.assertRaises(orchd.Refused) as caught:
            self.client().list_events(after_sequence=1)
        self.assertEqual(caught.exception.reason, "EVENTS_COMPACTED")

    def test_why(self):
        answer = message_class("Explanation")(run="r1", step="train[2]", run_state=2, step_state=2, attempt=1, summary="it waits")
        cause = answer.causes.add(text="`o/cpu` is full", pool="o/cpu", wanted=1000, used=4000, capacity=4000, more=2)
        cause.reason = cause.DESCRIPTOR.fields_by_name["reason"].enum_type.values_by_name["WAITING_FOR_SLOT"].number
        cause.holders.add(run="r0", step="big", attempt=1, slots=4000)
        cause.until.seconds = 1_600_000_000
        answer.failures.add(attempt=1, text="exit code 3", exit_code=3, last_lines=["a", "b"], then="tried again")
        answer.cache.outcome, answer.cache.key = 7, "ab"
        answer.cache.changes.add(part="params.n", before="1", after="2")
        answer.item.fields["i"].number_value = 2
        double = self.serve({"RunService.ExplainRun": [answer, message_class("Explanation")(run="r1")]})
        why = self.client().why("r1", "train[2]")
        self.assertEqual((why.run_state, why.step_state, why.summary, why.item), ("RUNNING", "READY", "it waits", {"i": 2}))
        got, = why.causes
        self.assertEqual((got.reason, got.pool, got.wanted, got.used, got.capacity, got.more, got.step_state),
                         ("WAITING_FOR_SLOT", "o/cpu", 1000, 4000, 4000, 2, ""))
        self.assertEqual(got.holders, (orchd.Holder("r0", "big", 1, 4000),))
        self.assertEqual(got.until, datetime.datetime(2020, 9, 13, 12, 26, 40, tzinfo=datetime.timezone.utc))
        failure, = why.failures
        self.assertEqual((failure.exit_code, failure.signal, failure.last_lines, failure.then), (3, None, ("a", "b"), "tried again"))
        self.assertEqual((why.cache.outcome, why.cache.changes), ("CHANGED", (orchd.PartChange("params.n", "1", "2"),)))
        self.assertIsNone(self.client().why("r1").cache)
        self.assertEqual([(r.name, r.step) for r in double.of("RunService.ExplainRun")], [("r1", "train[2]"), ("r1", "")])

    def test_plan_sends_a_submission_that_starts_nothing(self):
        answer = message_class("PlanRunResponse")(step_count=2, run_steps=1, cached_steps=1, critical_path=["a"], history_runs=3)
        answer.expected.seconds, answer.expected.nanos = 90, 500_000_000
        answer.unit, answer.why_step_by_step[:] = "step", ["it has hooks"]
        step = answer.steps.add(name="a", action=1, text="would run", samples=3, critical=True, native=['{"kind": "Job"}'])
        step.expected.seconds = 60
        answer.steps.add(name="b", index=1, action=2, cached_from="r0")
        answer.warnings.add(field="steps[0]", description="never cached")
        double = self.serve({"PipelineService.PlanRun": [answer]})
        client = self.client(project="team")
        plan = client.plan(PIPELINE, {"n": 2}, "gpu", max_parallel=4, use_cache=False, max_steps=7, native=True)
        request, = double.of("PipelineService.PlanRun")
        asked = request.submission
        self.assertEqual((request.max_steps, request.native, asked.project, asked.pipeline.name, asked.parameters["n"].number_value,
                          asked.orchestrator), (7, True, "team", "p", 2, "gpu"))
        self.assertEqual((asked.max_parallel, asked.HasField("use_cache"), asked.use_cache), (4, True, False))
        self.assertTrue(asked.submitter.source_dir and asked.submitter.host)
        self.assertEqual(plan.expected, datetime.timedelta(seconds=90.5))
        self.assertEqual([(s.name, s.action, s.cached_from, s.expected, s.critical) for s in plan.steps],
                         [("a", "RUN", "", datetime.timedelta(minutes=1), True), ("b", "CACHED", "r0", None, False)])
        self.assertEqual([s.native for s in plan.steps], [({"kind": "Job"},), ()])
        self.assertEqual((plan.unit, plan.why_step_by_step), ("step", ("it has hooks",)))
        self.assertEqual(str(plan.warnings[0]), "steps[0]: never cached")
        faulty = message_class("PlanRunResponse")()
        faulty.violations.add(field="steps[0].after[0]", description="no step `z`", reason="UNKNOWN_REFERENCE")
        double.script["PipelineService.PlanRun"] = [faulty]
        with self.assertRaises(orchd.PipelineInvalid) as caught:
            client.plan(PIPELINE)
        self.assertEqual([v.reason for v in caught.exception.violations], ["UNKNOWN_REFERENCE"])
        self.assertEqual({method for method, _ in double.requests}, {"PipelineService.PlanRun"})

    def test_diff_runs(self):
        answer = message_class("RunDiff")(before=run_message("a"), after=run_message("b"), same_steps=4, more_steps=True)
        answer.parameters.add(name="n", before="1", after="2")
        added = answer.steps.add(name="new")
        added.after.state, added.after.attempts, added.after.exit_code = 10, 2, 4
        added.after.duration.seconds = 3
        double = self.serve({"RunService.CompareRuns": [answer]})
        diff = self.client().diff_runs("a", "b", max_steps=9)
        asked, = double.of("RunService.CompareRuns")
        self.assertEqual((asked.before, asked.after, asked.max_steps), ("a", "b", 9))
        self.assertEqual((diff.before.name, diff.after.name, diff.same_steps, diff.more_steps), ("a", "b", 4, True))
        self.assertEqual(diff.parameters, (orchd.ValueChange("n", "1", "2"),))
        change, = diff.steps
        self.assertIsNone(change.before)
        self.assertEqual((change.after.state, change.after.attempts, change.after.exit_code, change.after.duration),
                         ("FAILED", 2, 4, datetime.timedelta(seconds=3)))

    def test_lineage_goes_over_pages_and_says_if_there_is_more(self):
        def page(request):
            answer = message_class("GetLineageResponse")(next_page_token="" if request.page_token else "more")
            if not request.page_token:
                answer.artifact.name = "p.b.y"
                link = answer.links.add(direction=1, distance=1, run="r1", step="b", attempt=1, input="x", outputs={"y": "art-2"})
                link.artifact.name = "p.a.x"
            else:
                answer.links.add(direction=1, distance=1, run="r1", step="b", attempt=1, input="u", uri="s3://b/k")
            return answer

        double = self.serve({"ArtifactService.GetLineage": [page]})
        lineage = self.client().lineage("p.b.y", direction="upstream", depth=3)
        self.assertEqual(lineage.artifact.name, "p.b.y")
        self.assertEqual([(k.direction, k.input, k.uri, k.artifact.name if k.artifact else None) for k in lineage.links],
                         [("UPSTREAM", "x", "", "p.a.x"), ("UPSTREAM", "u", "s3://b/k", None)])
        self.assertEqual(lineage.links[0].outputs, {"y": "art-2"})
        self.assertFalse(lineage.truncated)
        self.assertEqual([(r.name, r.direction, r.depth, r.page_token) for r in double.of("ArtifactService.GetLineage")],
                         [("p.b.y", 1, 3, ""), ("p.b.y", 1, 3, "more")])
        few = self.client().lineage(run="r1", step="b", attempt=1, limit=1)
        self.assertEqual((len(few.links), few.truncated), (1, True))
        asked = double.of("ArtifactService.GetLineage")[-1]
        self.assertEqual((asked.name, asked.run, asked.step, asked.attempt, asked.page_size), ("", "r1", "b", 1, 1))
        self.assertFalse(self.client().lineage("p.b.y", limit=2).truncated)
        with self.assertRaisesRegex(orchd.Refused, "`sideways` is no direction; there are: downstream, upstream"):
            self.client().lineage("p.b.y", direction="sideways")

    def test_a_search_goes_on_where_nothing_was_found(self):
        def page(request):
            answer = message_class("SearchLogsResponse")(attempt=2, next_page_token={"": "1", "1": "2", "2": ""}[request.page_token])
            if request.page_token != "1":
                answer.matches.add(stream=2, offset=30, line_number=4, line="loss: 0.5", before=["b"], after=["a"])
            return answer

        double = self.serve({"LogService.SearchLogs": [page]})
        since = datetime.datetime(2020, 9, 13, 14, 26, 40, 250_000, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
        found = list(self.client().search_logs("r1", "train", "loss: [0-9.]+", ignore_case=True, before=1, after=1, stream="stderr", since=since))
        self.assertEqual(len(found), 2)
        self.assertEqual((found[0].stream, found[0].offset, found[0].line_number, found[0].line, found[0].before, found[0].after, found[0].attempt),
                         ("STDERR", 30, 4, "loss: 0.5", ("b",), ("a",), 2))
        asked = double.of("LogService.SearchLogs")
        self.assertEqual([r.page_token for r in asked], ["", "1", "2"])
        # A token belongs to its request: nothing else changes.
        self.assertEqual({(r.pattern, r.ignore_case, r.before, r.after, r.stream, r.attempt, r.since.seconds, r.since.nanos, r.max_matches) for r in asked},
                         {("loss: [0-9.]+", True, 1, 1, 2, 0, 1_600_000_000, 250_000_000, 1000)})
        self.assertEqual(len(list(self.client().search_logs("r1", "train", first_error=True, limit=1))), 1)
        self.assertEqual((len(double.of("LogService.SearchLogs")), double.of("LogService.SearchLogs")[-1].max_matches), (4, 1))
        with self.assertRaisesRegex(orchd.Refused, "has no zone"):
            list(self.client().search_logs("r1", "train", "x", since=datetime.datetime(2020, 1, 1)))  # noqa: DTZ001
        with self.assertRaisesRegex(orchd.Refused, "is no stream; there are: stderr, stdout"):
            list(self.client().logs("r1", "train", stream="both"))

    def test_a_retried_run_has_its_earlier_generations(self):
        run = run_message("r1", "SUCCEEDED", generation=2)
        earlier = run.earlier_generations.add(number=1, state=7, message="1 step failed", pipeline_version=3)
        earlier.start_time.seconds, earlier.end_time.seconds = 10, 12
        earlier.parameters["n"].number_value = 1
        run.earlier_generations.add(number=2, state=8)
        self.serve({"RunService.GetRun": [run]})
        first, second = self.client().get_run("r1").earlier_generations
        self.assertEqual((first.number, first.state, first.message, first.parameters, first.pipeline_version),
                         (1, "FAILED", "1 step failed", {"n": 1}, 3))
        self.assertEqual(first.end_time - first.start_time, datetime.timedelta(seconds=2))
        self.assertEqual((second.state, second.start_time), ("CANCELLED", None))


class SecretsTest(ClientCase):
    def test_secrets_go_in_and_only_their_names_come_out(self):
        secret = message_class("Secret")(name="db", version=2)
        page = message_class("ListSecretsResponse")(secrets=[secret])
        double = self.serve({
            "SecretService.SetSecret": [Failure(Code.UNAVAILABLE, "starting", "STARTING", retry_after=0), secret],
            "SecretService.ListSecrets": [page],
            "SecretService.DeleteSecret": [message_class("DeleteSecretResponse")()],
        })  # fmt: skip
        client = self.client(project="team")
        self.assertEqual(client.set_secret("db", "hunter2\n").version, 2)
        asked = double.of("SecretService.SetSecret")
        self.assertEqual([(r.project, r.name, r.text, r.data) for r in asked], [("team", "db", "hunter2\n", b"")] * 2)
        self.assertEqual(len({r.request_id for r in asked}), 1, "tried again under the same id")
        client.set_secret("db", b"\xff\x00")
        last = double.of("SecretService.SetSecret")[-1]
        self.assertEqual((last.text, last.data), ("", b"\xff\x00"))
        self.assertEqual([(s.name, s.version, s.binary) for s in client.list_secrets()], [("db", 2, False)])
        client.delete_secret("db", force=True)
        gone, = double.of("SecretService.DeleteSecret")
        self.assertTrue(gone.force and gone.request_id)

    def test_a_value_that_cannot_be_sent_is_in_no_error(self):
        double = self.serve()
        for value in ("hunter2\ud800", 1234567, None):
            with self.subTest(value), self.assertRaises(orchd.Refused) as caught:
                self.client().set_secret("db", value)
            self.assertEqual(caught.exception.reason, "SECRET_INVALID")
            self.assertNotIn("hunter2", repr(caught.exception))
            self.assertIsNone(caught.exception.__context__, "that error has the value")
        self.assertEqual(double.requests, [])


if __name__ == "__main__":
    unittest.main()
