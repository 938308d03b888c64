"""The client against a server double: finding, calling, retrying, resuming, and the errors people see."""
import contextlib
import io
import json
import os
import pathlib
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import unittest
from unittest import mock

import grpc
from double import Failure, ServerDouble, event_message, run_message

import orchd
from orchd import Client
from orchd._messages import message_class

Code = grpc.StatusCode
PIPELINE = {"name": "p", "steps": [{"name": "a", "command": ["true"]}]}


def clean_environment():
    return {key: value for key, value in os.environ.items() if not key.startswith(("ORCH", "XDG_DATA"))}


class ClientCase(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="orchd-client-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        patch = mock.patch.dict(os.environ, clean_environment(), clear=True)
        patch.start()
        self.addCleanup(patch.stop)
        os.environ["ORCH_DATA_DIR"] = str(self.folder / "data")

    def serve(self, script=None, **options):
        double = ServerDouble(self.folder / "data", script=script, **options)
        self.addCleanup(double.stop)
        return double

    def client(self, **options):
        client = Client(**options)
        self.addCleanup(client.close)
        return client


class FindingTest(ClientCase):
    def test_the_socket_and_token_of_the_data_directory(self):
        self.serve({"RunService.GetRun": [run_message("out-1")]})
        url = self.client().get_pipeline_run("out-1").run_metadata["orchestrator_url"]
        self.assertEqual(url, "http://127.0.0.1:7118/runs/out-1")
        self.assertIsInstance(url, str)
        self.assertEqual(url.value, url)
        self.assertIs(type(url.value), str)

    def test_tcp_where_there_is_no_socket(self):
        double = self.serve({"RunService.GetRun": [run_message()]}, tcp=True)
        self.assertEqual(self.client().get_run("r1").id, "id-of-r1")
        self.assertEqual(double.of("RunService.GetRun")[0].name, "r1")

    def test_arguments_go_before_the_environment(self):
        double = self.serve({"RunService.GetRun": [run_message()]})
        os.environ["ORCH_SERVER"] = "127.0.0.1:1"
        os.environ["ORCH_TOKEN"] = "wrong"
        self.assertEqual(self.client(server=double.tcp, token="secret").get_run("r1").name, "r1")
        os.environ["ORCH_SERVER"], os.environ["ORCH_TOKEN"] = f"unix:{double.unix}", "secret"
        self.assertEqual(self.client().get_run("r1").name, "r1")

    def test_a_web_proxy_is_not_asked(self):
        double = self.serve({"RunService.GetRun": [run_message()]}, tcp=True)
        for name in ("http_proxy", "grpc_proxy", "https_proxy"):
            os.environ[name] = "http://127.0.0.1:1"
        self.assertEqual(self.client(server=double.tcp).get_run("r1").name, "r1")

    def test_no_daemon_is_told_at_once_and_says_what_to_do(self):
        with self.assertRaises(orchd.Unreachable) as caught:
            self.client().get_run("r1")
        self.assertEqual(caught.exception.reason, "DAEMON_NOT_RUNNING")
        self.assertIn("start one with `orchd --data-dir", str(caught.exception))

    def test_a_dead_daemon_leaves_nothing_that_is_taken_for_it(self):
        double = self.serve()
        double.stop()
        with self.assertRaises(orchd.Unreachable) as caught:
            self.client().get_run("r1")
        self.assertIn("socket", caught.exception.message)

    def test_an_address_that_cannot_be_meant_is_refused(self):
        for address, why in (
            ("http://127.0.0.1:7118", "web address"),
            ("127.0.0.1", "no port"),
            ("127.0.0.1:0", "bad port"),
            ("192.0.2.1:7117", "TLS"),
            ("unix:" + "x" * 200, "longer"),
        ):
            with self.subTest(address), self.assertRaisesRegex(orchd.Refused, why):
                self.client(server=address).get_run("r1")

    def test_a_wrong_token_is_told_and_not_shown(self):
        double = self.serve({"RunService.GetRun": [run_message()]})
        with self.assertRaises(orchd.PermissionDenied) as caught:
            self.client(token="not-the-token").get_run("r1")
        self.assertEqual(caught.exception.reason, "TOKEN_INVALID")
        self.assertNotIn("not-the-token", repr(caught.exception))
        self.assertEqual(double.requests, [])
        with self.assertRaisesRegex(orchd.Refused, "control characters"):
            self.client(token="two\nlines").get_run("r1")


class SlowDoor:
    """Stands before a Unix socket like a busy machine: no connection gets an answer before it
    has lasted SECONDS."""

    SECONDS = 0.5

    def __init__(self, path, to):
        self.path, self.to, self.came = str(path), to, 0
        self._closed = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(64)
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self._closed.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                self.came += 1
                threading.Thread(target=self._pass, args=(peer,), daemon=True).start()

    def _pass(self, peer):
        self._closed.wait(self.SECONDS)
        server = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError), peer, server:
            server.connect(self.to)
            back = threading.Thread(target=self._copy, args=(server, peer), daemon=True)
            back.start()
            self._copy(peer, server)
            back.join()

    @staticmethod
    def _copy(source, to):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)


class CallTest(ClientCase):
    def test_submit_sends_all_and_the_submitter(self):
        double = self.serve({"RunService.SubmitRun": [run_message("mine", "PENDING")]})
        run = self.client(project="team").submit(
            PIPELINE, parameters={"folds": 5, "deep": {"a": [1.5, None, True, "x"]}}, name="mine",
            orchestrator="gpu", labels={"team": "vision"}, timeout="90s", use_cache=False,
            execution_mode="fail_fast", priority=3, max_parallel=2,
        )
        self.assertEqual((run.name, run.state, run.is_done), ("mine", "PENDING", False))
        request, = double.of("RunService.SubmitRun")
        self.assertEqual(request.project, "team")
        self.assertEqual(request.pipeline.steps[0].command, ["true"])
        self.assertEqual(request.parameters["folds"].number_value, 5)
        deep = request.parameters["deep"].struct_value.fields["a"].list_value.values
        self.assertEqual([v.WhichOneof("kind") for v in deep], ["number_value", "null_value", "bool_value", "string_value"])
        self.assertEqual((request.orchestrator, dict(request.labels)), ("gpu", {"team": "vision"}))
        self.assertEqual((request.timeout.seconds, request.use_cache, request.HasField("use_cache")), (90, False, True))
        self.assertEqual((request.execution_mode, request.priority, request.max_parallel), (2, 3, 2))
        self.assertEqual(len(request.request_id), 32)
        self.assertEqual(request.submitter.source_dir, os.getcwd())
        self.assertEqual(request.submitter.environment["PATH"], os.environ["PATH"])
        self.assertNotIn("ORCH_DATA_DIR", request.submitter.environment)

    def test_a_message_of_anybody_s_class_is_a_pipeline(self):
        double = self.serve({"RunService.SubmitRun": [run_message()]})
        pipeline = message_class("Pipeline")(name="p")
        pipeline.steps.add(name="a", command=["x"])
        self.client().submit(pipeline)
        self.assertEqual(double.of("RunService.SubmitRun")[0].pipeline, pipeline)

    def test_a_mutation_is_tried_again_under_the_same_id(self):
        away = Failure(Code.UNAVAILABLE, "starting", "STARTING", retry_after=0.05)
        double = self.serve({"RunService.SubmitRun": [away, away, run_message("mine")]})
        self.assertEqual(self.client().submit(PIPELINE).name, "mine")
        ids = {request.request_id for request in double.of("RunService.SubmitRun")}
        self.assertEqual((len(double.of("RunService.SubmitRun")), len(ids)), (3, 1))

    def test_patience_ends(self):
        self.serve({"RunService.GetRun": [Failure(Code.UNAVAILABLE, "draining", "DRAINING", retry_after=0.1)]})
        with self.assertRaises(orchd.Unreachable) as caught:
            self.client(patience=0.5).get_run("r1")
        self.assertEqual((caught.exception.reason, caught.exception.message), ("DRAINING", "draining"))

    def test_busy_is_tried_again_only_if_the_server_says_when(self):
        full = Failure(Code.RESOURCE_EXHAUSTED, "the disk is full", "DISK_FULL")
        double = self.serve({"RunService.GetRun": [full]})
        with self.assertRaises(orchd.Busy):
            self.client().get_run("r1")
        self.assertEqual(len(double.requests), 1)

    def test_the_client_follows_a_daemon_that_restarts_elsewhere(self):
        first = self.serve({"RunService.GetRun": [run_message("one")]}, tcp=True)
        client = self.client()
        self.assertEqual(client.get_run("r").name, "one")
        first.stop()
        self.serve({"RunService.GetRun": [run_message("two")]}, tcp=True, token="another")
        self.assertEqual(client.get_run("r").name, "two")

    def test_a_server_that_is_slow_to_take_connections_is_waited_for(self):
        double = self.serve({"RunService.GetRun": [run_message("slow")]})
        door = SlowDoor(self.folder / "door.sock", double.unix)
        self.addCleanup(door.close)
        client = self.client(server=f"unix:{door.path}", token="secret")
        self.assertEqual(client.get_run("r1").name, "slow")
        self.assertEqual(door.came, 1, "it gave the first connection up")

    def test_errors_have_kinds_reasons_and_words(self):
        for code, kind in (
            (Code.NOT_FOUND, orchd.NotFound), (Code.ALREADY_EXISTS, orchd.AlreadyExists),
            (Code.FAILED_PRECONDITION, orchd.Refused), (Code.PERMISSION_DENIED, orchd.PermissionDenied),
            (Code.INTERNAL, orchd.OrchdError),
        ):
            double = self.serve({"RunService.GetRun": [Failure(code, "there is none; look again", "SOME_REASON")]})
            with self.subTest(code), self.assertRaises(kind) as caught:
                self.client().get_run("x")
            self.assertEqual((caught.exception.reason, str(caught.exception)), ("SOME_REASON", "there is none; look again"))
            self.assertEqual(caught.exception.code, code.name)
            double.stop()

    def test_the_server_s_violations_get_places_in_the_file(self):
        try:
            import yaml  # noqa: F401
        except ImportError:
            self.skipTest("PyYAML is missing")
        faults = [("steps[1].inputs.x.from", "no step `nobody`", "UNKNOWN_REFERENCE"), ("steps[0].command", "c", "")]
        self.serve({"RunService.SubmitRun": [Failure(Code.INVALID_ARGUMENT, "2 faults", "PIPELINE_INVALID", faults)]})
        file = self.folder / "p.yaml"
        file.write_text("name: p\ndefaults:\n  command: [c]\nsteps:\n- name: a\n- name: b\n  inputs: {x: nobody.y}\n")
        with self.assertRaises(orchd.PipelineInvalid) as caught:
            self.client().submit(str(file))
        self.assertEqual(
            [str(fault) for fault in caught.exception.violations],
            [f"{file}:7:15: steps[1].inputs.x.from: no step `nobody`", f"{file}:3:12: steps[0].command: c"],
        )

    def test_lists_go_over_pages_and_stop_at_the_limit(self):
        def page(request):
            begin = int(request.page_token or 0)
            answer = message_class("ListRunsResponse")(next_page_token=str(begin + 2) if begin < 4 else "")
            answer.runs.extend([run_message(f"r{begin}"), run_message(f"r{begin + 1}")])
            return answer

        double = self.serve({"RunService.ListRuns": [page]})
        self.assertEqual([run.name for run in self.client().list_runs("state=RUNNING")], [f"r{n}" for n in range(6)])
        self.assertEqual([run.name for run in self.client().list_runs(limit=3)], ["r0", "r1", "r2"])
        self.assertEqual({request.filter for request in double.of("RunService.ListRuns")}, {"state=RUNNING", ""})

    def test_steps_runs_and_artifacts_are_plain_data(self):
        step = message_class("Step")(name="train[0]", run="r1", attempt=2, template_name="train", exit_code=0)
        step.state, step.reason = 8, 0
        step.item.fields["model"].string_value = "knn"
        step.start_time.seconds, step.start_time.nanos = 1_600_000_000, 250_000_000
        steps = message_class("ListStepsResponse")(steps=[step])
        artifact = message_class("Artifact")(id="art-1", name="p.a.v", version=3)
        artifact.value.struct_value.fields["n"].number_value = 3
        double = self.serve({
            "RunService.ListSteps": [steps],
            "ArtifactService.GetArtifact": [artifact],
            "ArtifactService.ReadArtifact": [
                lambda request: message_class("ReadArtifactResponse")(data=b"abcdef"[request.offset:][:4],
                                                                      end=request.offset >= 4, size=6)],
            "AdminService.GetServerInfo": [message_class("ServerInfo")(version="1.2", limits={"a": 1})],
            "RunService.CancelRun": [run_message(state="CANCELLING")],
        })  # fmt: skip
        client = self.client()
        got, = client.list_steps("r1")
        self.assertEqual((got.state, got.item, got.exit_code, got.signal), ("SUCCEEDED", {"model": "knn"}, 0, None))
        self.assertEqual((got.start_time.isoformat(), got.end_time), ("2020-09-13T12:26:40.250000+00:00", None))
        self.assertEqual((client.get_artifact("p.a.v").value, client.read_artifact("p.a.v")), ({"n": 3}, b"abcdef"))
        self.assertEqual({request.name for request in double.of("ArtifactService.ReadArtifact")}, {"art-1"})
        self.assertEqual((client.server_info().version, client.server_info().limits), ("1.2", {"a": 1}))
        self.assertEqual(client.cancel_run("r1", force=True).state, "CANCELLING")
        self.assertTrue(double.of("RunService.CancelRun")[0].request_id)

    def test_what_is_asked_of_runs(self):
        double = self.serve({
            "RunService.PauseRun": [run_message(state="PAUSED")],
            "RunService.ResumeRun": [run_message()],
            "RunService.SkipStep": [run_message()],
            "RunService.RetryRun": [run_message()],
            "RunService.DeleteRun": [message_class("DeleteRunResponse")()],
        })  # fmt: skip
        client = self.client()
        self.assertEqual(client.pause_run("r1").state, "PAUSED")
        self.assertEqual(client.resume_run("r1").state, "RUNNING")
        self.assertEqual(client.skip_step("r1", "a", "b[*]").state, "RUNNING")
        self.assertEqual(list(double.of("RunService.SkipStep")[0].steps), ["a", "b[*]"])
        client.retry_run("r1", steps=["a"], parameters={"n": 3, "s": "x"}, use_cache=False)
        asked = double.of("RunService.RetryRun")[0]
        self.assertEqual((list(asked.steps), asked.parameters["n"].number_value, asked.parameters["s"].string_value),
                         (["a"], 3.0, "x"))
        self.assertTrue(asked.HasField("use_cache") and not asked.use_cache)
        client.delete_run("r1")
        for call in ("PauseRun", "ResumeRun", "SkipStep", "RetryRun", "DeleteRun"):
            self.assertTrue(double.of(f"RunService.{call}")[0].request_id, call)

    def test_wait_asks_until_the_end_and_times_out_in_words(self):
        running = run_message()
        double = self.serve({"RunService.WaitRun": [running, running, run_message(state="FAILED")]})
        self.assertEqual(self.client().wait("r1").state, "FAILED")
        self.assertEqual(len(double.of("RunService.WaitRun")), 3)
        double.script["RunService.WaitRun"] = [running]
        with self.assertRaises(TimeoutError) as caught:
            self.client().wait("r1", timeout=0.01)
        self.assertIsInstance(caught.exception, orchd.WaitTimedOut)
        self.assertIn("still RUNNING", str(caught.exception))

    def test_a_bad_pipeline_is_refused_before_any_call(self):
        double = self.serve()
        with self.assertRaises(orchd.PipelineInvalid) as caught:
            self.client().submit({"name": "p", "steps": [{"name": "a b", "comand": ["x"]}]})
        self.assertEqual({fault.field for fault in caught.exception.violations},
                         {"steps[0].name", "steps[0].comand", "steps[0].command"})
        self.assertEqual(double.requests, [])


class StreamTest(ClientCase):
    def test_watch_resumes_after_the_last_message(self):
        bookmark = message_class("WatchRunsResponse")(resume_token="token-3")
        bookmark.bookmark.SetInParent()
        double = self.serve({"RunService.WatchRuns": [
            [event_message(1, step="a"), event_message(2, "SUCCEEDED", step="a"), bookmark,
             Failure(Code.UNAVAILABLE, "stopping", "DRAINING", retry_after=0)],
            [event_message(4, "SUCCEEDED")],
        ]})  # fmt: skip
        events = list(self.client().watch("r1"))
        self.assertEqual([event.sequence for event in events], [1, 2, 4])
        self.assertEqual([event.state for event in events], ["RUNNING", "SUCCEEDED", "SUCCEEDED"])
        self.assertTrue(events[-1].ends_run)
        self.assertEqual([request.resume_token for request in double.of("RunService.WatchRuns")], ["", "token-3"])

    def test_missed_events_are_made_good_by_a_snapshot(self):
        snapshot = message_class("WatchRunsResponse")(resume_token="token-9")
        snapshot.snapshot.runs.append(run_message(state="RUNNING"))
        snapshot.snapshot.steps.add(name="a", run="r1").state = 5
        snapshot.snapshot.last = True
        double = self.serve({"RunService.WatchRuns": [
            [event_message(1), Failure(Code.UNAVAILABLE, "x", "DRAINING", retry_after=0)],
            [Failure(Code.OUT_OF_RANGE, "compacted", "RESUME_TOKEN_COMPACTED")],
            [snapshot, event_message(10, "CANCELLED")],
        ]})  # fmt: skip
        events = list(self.client().watch("r1"))
        self.assertEqual([(event.step, event.state, event.is_snapshot) for event in events],
                         [("", "RUNNING", False), ("", "RUNNING", True), ("a", "RUNNING", True), ("", "CANCELLED", False)])
        self.assertEqual([(r.resume_token, r.snapshot) for r in double.of("RunService.WatchRuns")],
                         [("", False), ("token-1", False), ("", True)])

    def test_watch_of_an_unknown_run_ends_with_its_error(self):
        self.serve({"RunService.WatchRuns": [[Failure(Code.NOT_FOUND, "no run `x`", "RUN_NOT_FOUND")]]})
        with self.assertRaises(orchd.NotFound):
            list(self.client().watch("x"))

    def test_logs_resume_at_their_offsets_in_the_same_attempt(self):
        def chunk(stream, data, offset):
            return message_class("TailLogsResponse")(stream=stream, data=data, next_offset=offset, attempt=2)

        double = self.serve({"LogService.TailLogs": [
            [chunk(1, b"out\xc3", 4), chunk(2, b"err", 3), Failure(Code.UNAVAILABLE, "x", "DRAINING", retry_after=0)],
            [chunk(1, b"\xa9", 5)],
        ]})  # fmt: skip
        chunks = list(self.client().logs("r1", "a", follow=True, tail_lines=10))
        self.assertEqual(b"".join(c.data for c in chunks if c.stream == "STDOUT").decode(), "outé")
        self.assertEqual([c.stream for c in chunks], ["STDOUT", "STDERR", "STDOUT"])
        again = double.of("LogService.TailLogs")[1]
        self.assertEqual((again.stdout_offset, again.stderr_offset, again.attempt, again.tail_lines), (4, 3, 2, 0))


PROGRAM = """#!{python}
# A double of the orchd program: says how it was called and serves one scripted answer until SIGTERM.
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # of the threads to come, too: one is waited for, and none is missed
sys.path[:0] = {path!r}
if {refuse!r} and "--listen" not in sys.argv:
    sys.exit("the port is taken")
from double import ServerDouble, run_message
folder = sys.argv[sys.argv.index("--data-dir") + 1]
print(sys.argv[1:], os.getcwd(), os.getsid(0) == os.getpid(), flush=True)
double = ServerDouble(folder, script={{"RunService.SubmitRun": [run_message("started")]}})
signal.sigwait([signal.SIGTERM])
double.stop()
"""


class StartTest(ClientCase):
    def program(self, refuse=False):
        path = self.folder / "bin" / "orchd"
        path.parent.mkdir(exist_ok=True)
        # A #! line has room for neither spaces nor virtual environments: a shell-free wrapper is not needed here.
        path.write_text(PROGRAM.format(python=sys.executable, path=[p for p in sys.path if p], refuse=refuse))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    def stop(self):
        known = json.loads((self.folder / "data" / "server.json").read_text())
        os.kill(known["pid"], signal.SIGTERM)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(known["pid"], 0)
        return known["pid"]

    def submit(self, **options):
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            run = self.client(**options).submit(PIPELINE)
        return run, said.getvalue()

    def test_submit_starts_a_daemon_and_says_so_in_one_line(self):
        os.environ["ORCHD_BIN"] = self.program()
        run, said = self.submit()
        again, nothing = self.submit()
        pid = self.stop()
        self.assertEqual((run.name, again.name, nothing), ("started", "started", ""))
        self.assertRegex(said, rf"\Aorchd: started a daemon on .* \(pid {pid}\); stop it with `kill {pid}`\n\Z")
        folder = self.folder / "data"
        self.assertEqual(stat.S_IMODE(folder.stat().st_mode), 0o700)
        self.assertEqual((folder / "orchd.log").read_text(), f"{['--data-dir', str(folder)]} / True\n")

    def test_taken_ports_are_no_obstacle(self):
        os.environ["PATH"] = os.path.dirname(self.program(refuse=True)) + os.pathsep + os.environ["PATH"]
        run, _ = self.submit()
        self.stop()
        self.assertEqual(run.name, "started")
        self.assertIn("--http-listen", (self.folder / "data" / "orchd.log").read_text())

    def test_a_daemon_that_ends_is_told_with_its_last_words(self):
        program = self.folder / "orchd"
        program.write_text(f"#!{sys.executable}\nimport sys; sys.exit('the disk is on fire')\n")
        program.chmod(0o755)
        os.environ["ORCHD_BIN"] = str(program)
        with mock.patch("orchd._start._RIVAL_SECONDS", 0.1), self.assertRaises(orchd.Unreachable) as caught:
            self.client().submit(PIPELINE)
        self.assertEqual(caught.exception.reason, "DAEMON_START_FAILED")
        self.assertIn("the disk is on fire; see ", str(caught.exception))

    def test_nothing_is_started_where_that_is_turned_off_or_a_server_was_named(self):
        os.environ["ORCHD_BIN"] = self.program()
        with self.assertRaises(orchd.Unreachable):
            self.client(start=False).submit(PIPELINE)
        with self.assertRaises(orchd.Unreachable):
            self.client(server="127.0.0.1:1").submit(PIPELINE)
        self.assertFalse((self.folder / "data").exists())

    def test_no_program_is_told(self):
        os.environ["ORCHD_BIN"] = str(self.folder / "nowhere")
        with self.assertRaisesRegex(orchd.NotFound, "ORCHD_BIN names"):
            self.client().submit(PIPELINE)


class PackageTest(unittest.TestCase):
    def test_import_is_quick_and_needs_no_yaml(self):
        code = (
            "import time, grpc; begin = time.process_time(); import orchd; orchd.Client, orchd.step, orchd.pipeline; "
            "import sys; print(time.process_time() - begin, 'yaml' in sys.modules)"
        )
        runs = [
            subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                           env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}).stdout.split()
            for _ in range(3)
        ]  # fmt: skip
        self.assertLess(min(float(seconds) for seconds, _ in runs), 0.150, runs)
        self.assertEqual({yaml for _, yaml in runs}, {"False"})

    def test_a_client_serves_many_threads(self):
        with tempfile.TemporaryDirectory() as folder:
            double = ServerDouble(folder, script={"RunService.GetRun": [lambda request: run_message(request.name)]})
            self.addCleanup(double.stop)
            with Client(data_dir=folder) as client:
                names = [f"r{number}" for number in range(50)]
                got = {}
                threads = [threading.Thread(target=lambda n=n: got.update({n: client.get_run(n).name})) for n in names]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            self.assertEqual(got, {name: name for name in names})
            with self.assertRaisesRegex(orchd.OrchdError, "closed"):
                client.get_run("r1")


if __name__ == "__main__":
    unittest.main()
