"""The daemon as programs see it: plain gRPC through reflection, JSON over HTTP, pages, formats, watch, request ids."""
import json
import sys
import unittest

from tests.e2e.test_flow import sh
from tests.lib.live import BIN, LiveTest, wait_for

try:
    import grpc
    from google.protobuf import descriptor_pb2, descriptor_pool
except ImportError:
    grpc = None

TRUE = "name: ok\nsteps:\n  - {name: a, command: [/bin/true]}\n"


class Plain:
    """A gRPC client that knows nothing but the address and the token: it asks the server for its descriptors."""

    def __init__(self, target, token):
        self.channel = grpc.insecure_channel(target)
        self.metadata = [("authorization", f"Bearer {token}")]
        self.pool = descriptor_pool.DescriptorPool()
        self.known = set()

    def fetch(self, symbol):
        """Field numbers of grpc.reflection.v1alpha: request 4 file_containing_symbol, 3 by filename; response 4."""
        self._ask(4, symbol)

    def _ask(self, field, text):
        raw = text.encode()
        call = self.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        message = bytes([field << 3 | 2]) + _varint(len(raw)) + raw
        answer = next(iter(call(iter([message]), metadata=self.metadata, timeout=10)))
        files = []
        for number, value in _fields(answer):
            if number == 4:
                files += [descriptor_pb2.FileDescriptorProto.FromString(v) for n, v in _fields(value) if n == 1]
        if not files:
            raise AssertionError(f"reflection knows no {text}")
        for file in files:
            self._add(file)

    def _add(self, file):
        if file.name in self.known:
            return
        self.known.add(file.name)
        for name in file.dependency:
            if name not in self.known:
                self._ask(3, name)
        self.pool.Add(file)

    def message(self, name):
        descriptor = self.pool.FindMessageTypeByName(name)
        try:
            from google.protobuf import message_factory
            return message_factory.GetMessageClass(descriptor)
        except AttributeError:
            return message_factory.MessageFactory(self.pool).GetPrototype(descriptor)

    def call(self, method, request, answer, stream=False):
        kind = self.channel.unary_stream if stream else self.channel.unary_unary
        return kind(f"/orch.v1.RunService/{method}", request_serializer=lambda m: m.SerializeToString(),
                    response_deserializer=self.message(f"orch.v1.{answer}").FromString)(
                        request, metadata=self.metadata, timeout=30)


def _varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _fields(raw):
    """(number, value) of the fields of a protobuf message; only varints and bytes, which is what reflection sends."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = raw[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while at < len(raw):
        tag = varint()
        size = varint()
        if tag & 7 == 2:
            yield tag >> 3, raw[at:at + size]
            at += size


@unittest.skipIf(grpc is None, "python3-grpcio is not installed")
class Grpc(LiveTest):
    def test_submit_get_and_watch_through_reflection(self):
        plain = Plain(self.daemon.server["grpc"], self.daemon.token)
        self.addCleanup(plain.channel.close)
        plain.fetch("orch.v1.RunService")
        request = plain.message("orch.v1.SubmitRunRequest")(name="plain")
        request.pipeline.name = "plain"
        request.pipeline.steps.add(name="a", command=["/bin/true"])
        run = plain.call("SubmitRun", request, "Run")
        self.assertEqual(run.name, "plain")
        watch = plain.message("orch.v1.WatchRunsRequest")(run="plain", snapshot=True, until_done=True)
        messages = list(plain.call("WatchRuns", watch, "WatchRunsResponse", stream=True))
        self.assertEqual(messages[0].WhichOneof("message"), "snapshot")
        got = plain.call("GetRun", plain.message("orch.v1.GetRunRequest")(name="plain"), "Run")
        self.assertEqual(got.State.Name(got.state), "SUCCEEDED")
        self.assertTrue(got.run_metadata["orchestrator_url"].startswith("http"))

    def test_watch_resumes_without_a_gap(self):
        plain = Plain(self.daemon.server["grpc"], self.daemon.token)
        self.addCleanup(plain.channel.close)
        plain.fetch("orch.v1.RunService")
        request = plain.message("orch.v1.WatchRunsRequest")
        first = next(iter(plain.call("WatchRuns", request(), "WatchRunsResponse", stream=True))).resume_token
        self.daemon.run(TRUE, self.name)
        sequences, token = [], first
        while True:  # one event a stream: each goes on where the one before ended
            stream = plain.call("WatchRuns", request(resume_token=token), "WatchRunsResponse", stream=True)
            event = next((m for m in stream if m.WhichOneof("message") == "event"))
            stream.cancel()
            token = event.resume_token
            sequences.append(event.event.sequence)
            if sequences[-1] >= self.daemon.json("get-run", self.name)["last_sequence"]:
                break
        self.assertEqual(sequences, list(range(sequences[0], sequences[0] + len(sequences))))

    def test_wrong_token(self):
        plain = Plain(self.daemon.server["grpc"], "wrong")
        self.addCleanup(plain.channel.close)
        with self.assertRaises(grpc.RpcError) as caught:
            plain.fetch("orch.v1.RunService")
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAUTHENTICATED)

    def test_our_python_client(self):
        package = BIN.parent / "python"
        if not package.is_dir():
            self.skipTest("the build made no Python package")
        self.daemon.run(TRUE, self.name)
        sys.path.insert(0, str(package))
        self.addCleanup(sys.path.remove, str(package))
        from orchd import Client
        run = Client(data_dir=str(self.daemon.data)).get_pipeline_run(self.name)
        self.assertEqual(run.run_metadata["orchestrator_url"].value, run.run_metadata["orchestrator_url"])


class Http(LiveTest):
    def test_json_calls(self):
        run = self.daemon.http("RunService/SubmitRun", {
            "name": self.name, "pipeline": {"name": "h", "steps": [{"name": "a", "command": ["/bin/true"]}]}})
        self.assertIn("orchestrator_url", run["run_metadata"])
        self.assertEqual(self.daemon.ended(self.name)["state"], "SUCCEEDED")
        self.assertEqual(self.daemon.http("RunService/GetRun", {"name": self.name})["state"], "SUCCEEDED")
        status, text = self.daemon.request("/orch.v1.RunService/GetRun", {"name": "nobody"})
        self.assertEqual((status, json.loads(text)["code"]), (404, "not_found"))
        self.assertEqual(self.daemon.request("/orch.v1.RunService/GetRun", {"name": self.name}, token="")[0], 401)

    def test_health_and_metrics(self):
        self.assertEqual(self.daemon.request("/healthz", token="")[0], 200)
        self.assertEqual(self.daemon.request("/metrics", token="")[0], 401)
        status, text = self.daemon.request("/metrics")
        self.assertEqual(status, 200)
        self.assertIn("# TYPE", text)

    def page(self, name, state, step):
        url = self.daemon.ctl("get-run", name, "-o", "json", "--jq", ".run_metadata.orchestrator_url").stdout.strip()
        status, text = self.daemon.request(url)
        self.assertEqual(status, 200)
        self.assertIn(step, text)
        self.assertIn(state.lower(), text.lower())
        status, text = self.daemon.request(url, token="")
        self.assertEqual(status, 401)
        self.assertIn("orchctl open-run", text)

    def test_the_url_in_every_state(self):
        gate = self.daemon.folder / "gate"
        text = f"name: url\nsteps:\n  - {{name: stepname, command: {sh(f'while [ ! -e {gate} ]; do sleep 0.02; done')}}}\n" \
               "  - {name: waiter, command: [/bin/true], after: [stepname]}\n"
        self.daemon.submit(text, "running")
        wait_for(lambda: self.daemon.state("running", "stepname") == "RUNNING", "it runs")
        self.page("running", "RUNNING", "stepname")
        self.page("running", "WAITING", "waiter")
        gate.touch()
        self.daemon.ended("running")
        self.page("running", "SUCCEEDED", "stepname")
        self.daemon.run("name: f\nsteps:\n  - {name: failer, command: [/bin/false]}\n", "fails")
        self.page("fails", "FAILED", "failer")

    def test_the_link_signs_in_once(self):
        self.daemon.run(TRUE, self.name)
        link = self.daemon.ctl("open-run", self.name).stdout.strip().splitlines()[-1]
        self.assertRegex(link, r"^http://127\.0\.0\.1:\d+/")
        import http.cookiejar
        import urllib.request
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
        with opener.open(link, timeout=10) as answer:
            self.assertIn(self.name, answer.read().decode())
        self.assertIn(self.daemon.request(link, token="")[0], (401, 403, 410))


class Cli(LiveTest):
    def test_formats_and_jq(self):
        self.daemon.run(TRUE, self.name)
        self.assertEqual(self.daemon.json("get-run", self.name)["name"], self.name)
        self.assertIn("state: SUCCEEDED", self.daemon.ctl("get-run", self.name, "-o", "yaml").stdout)
        for form in ("table", "wide"):
            self.assertIn(self.name, self.daemon.ctl("list-runs", "-o", form).stdout)
        self.assertEqual(self.daemon.ctl("list-steps", self.name, "--jq", ".steps[0].state").stdout, "SUCCEEDED\n")
        result = self.daemon.ctl("list-runs", "--jq", ".[", check=False)
        self.assertEqual(result.returncode, 2, result.stderr)

    def test_list_runs_filters_and_pages(self):
        for i in range(3):
            self.daemon.run(TRUE.replace("name: ok", "name: paged"), f"{self.name}-{i}")
        first = self.daemon.json("list-runs", "--filter", "pipeline=paged", "--page-size", "2")
        second = self.daemon.json("list-runs", "--filter", "pipeline=paged", "--page-size", "2", "--page-token",
                                  first["next_page_token"])
        self.assertEqual([r["name"] for r in first["runs"] + second["runs"]], [f"{self.name}-{i}" for i in (2, 1, 0)])
        self.assertEqual(second["next_page_token"], "")

    def test_request_id(self):
        mark = self.daemon.folder / "marks"
        text = f"name: once\nsteps:\n  - {{name: a, command: {sh(f'echo x >> {mark}')}}}\n"
        for _ in range(2):
            self.daemon.submit(text, self.name, "--request-id", "the-same", "--wait")
        self.assertEqual(mark.read_text(), "x\n")

    def test_flavors(self):
        rows = self.daemon.json("list-flavors")["flavors"]
        self.assertEqual([row["name"] for row in rows],
                         "local local_docker kubernetes kubeflow vertex sagemaker azureml tekton airflow vm_aws vm_gcp "
                         "vm_azure hyperai custom".split())

    def test_exit_codes(self):
        self.assertEqual(self.daemon.submit(TRUE, "e0", "--wait").returncode, 0)
        bad = "name: b\nsteps:\n  - {name: a, command: [/bin/false]}\n"
        self.assertEqual(self.daemon.submit(bad, "e1", "--wait", check=False).returncode, 1)
        self.daemon.submit("name: s\nsteps:\n  - {name: a, command: [/bin/sleep, 600]}\n", "e6")
        self.assertEqual(self.daemon.ctl("wait-run", "e6", "--timeout", "100ms", check=False).returncode, 6)
        self.daemon.ctl("cancel-run", "e6")
        self.assertEqual(self.daemon.ctl("wait-run", "e6", check=False).returncode, 5)


class Scale(LiveTest):
    CONFIG = "flavors: {fake: true}\n"

    def test_100_000_steps(self):
        self.daemon.ctl("register-orchestrator", "fake", "--flavor", "fake")
        steps = [f"  - {{name: s{i}, command: [x], after: [{f's{i // 10 - 1}' if i >= 10 else ''}]}}"
                 for i in range(100_000)]
        self.daemon.submit("name: big\nsteps:\n" + "\n".join(steps) + "\n", "big", "--orchestrator", "fake",
                           timeout=300)
        result = self.daemon.ctl("watch-run", "big", check=False, timeout=600)
        self.assertEqual(result.returncode, 0, result.stderr[-1000:])
        run = self.daemon.json("get-run", "big")
        self.assertEqual((run["state"], run["step_counts"]), ("SUCCEEDED", {"SUCCEEDED": 100_000}))
        self.assertEqual(len(self.daemon.steps("big")), 100_000)


if __name__ == "__main__":
    unittest.main()
