"""How clients reach the daemon: gRPC by reflection, JSON over HTTP, pages, the command line's formats."""
import json
import socket
import subprocess
import time
import unittest
import urllib.error
import urllib.request

from tests.lib.daemon import Daemon, wait_for

try:
    import grpc
    from google.protobuf import descriptor_pb2, descriptor_pool, json_format

    try:
        from google.protobuf.message_factory import GetMessageClass
    except ImportError:
        from google.protobuf.message_factory import MessageFactory

        def GetMessageClass(descriptor):  # noqa: N802
            return MessageFactory().GetPrototype(descriptor)
except ImportError:
    grpc = None

TRUE = "name: p\nsteps:\n  - {name: a, command: ['true']}\n"


class Clients(unittest.TestCase):
    daemon: Daemon

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = Daemon("flavors: {fake: true}\n")
        cls.daemon.start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.daemon.close()

    def call(self, method: str, body: object, **more: object) -> tuple[int, dict]:
        status, text = self.daemon.http(f"/orch.v1.{method}", body, **more)
        return status, json.loads(text)

    # --- orchestrator_url ---

    def test_orchestrator_url_in_every_state(self) -> None:
        gate = self.daemon.home / "url-gate"
        runs = {}
        self.daemon.ctl("apply", "-f", self.daemon.file("pools: [{name: gate, slots: 1}]\n"), "--yes")
        hold = f"[sh, -c, 'while [ ! -e {gate} ]; do sleep 0.02; done']"
        runs["running"] = self.daemon.submit(f"name: p\nsteps:\n  - {{name: holds, command: {hold}, pools: [gate]}}\n")
        wait_for("it to run", lambda: self.daemon.steps(runs["running"])["holds"]["state"] == "RUNNING")
        runs["waiting"] = self.daemon.submit("name: p\nsteps:\n  - {name: waits, command: ['true'], pools: [gate]}\n")
        runs["done"] = self.daemon.submit(TRUE)
        self.daemon.ctl("wait-run", runs["done"])
        runs["failed"] = self.daemon.submit("name: p\nsteps:\n  - {name: fails, command: ['false']}\n")
        self.daemon.ctl("wait-run", runs["failed"], code=1)
        for what, run in runs.items():
            with self.subTest(what):
                url = self.daemon.ctl("get-run", run, "-o", "json", "--jq", ".run_metadata.orchestrator_url").stdout.strip()
                self.assertTrue(url.startswith(self.daemon.server["http"] + "/"))
                path = url[len(self.daemon.server["http"]):]
                status, page = self.daemon.http(path)
                self.assertEqual(status, 200)
                for step in self.daemon.steps(run):
                    self.assertIn(step, page.decode())
                status, page = self.daemon.http(path, token=None)
                self.assertEqual(status, 401)
                self.assertIn("orchctl open-run", page.decode())
                self.assertEqual(self.daemon.http(path, token="wrong")[0], 401)
        self.assertEqual(self.daemon.http("/runs/nobody")[0], 404)
        gate.touch()
        self.daemon.ctl("wait-run", runs["waiting"])

    def test_sign_in_link_works_once(self) -> None:
        run = self.daemon.submit(TRUE)
        link = self.daemon.ctl("open-run", run).stdout.strip().splitlines()[-1]
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with opener.open(link, timeout=10) as answer:
            self.assertEqual(answer.status, 200)
            self.assertIn(run, answer.read().decode())
        with opener.open(self.daemon.server["http"] + "/runs", timeout=10) as answer:  # by the cookie
            self.assertEqual(answer.status, 200)
        with self.assertRaises(urllib.error.HTTPError) as second:
            urllib.request.build_opener(urllib.request.HTTPCookieProcessor()).open(link, timeout=10)
        self.assertEqual(second.exception.code, 401)

    # --- JSON over HTTP ---

    def test_json_over_http(self) -> None:
        status, run = self.call("RunService/SubmitRun", {
            "pipeline": {"name": "by-http", "steps": [{"name": "a", "command": ["true"]}]}, "name": "http-1"})
        self.assertEqual((status, run["name"]), (200, "http-1"))
        status, run = self.call("RunService/WaitRun", {"name": "http-1"})
        self.assertEqual((status, run["state"]), (200, "SUCCEEDED"))
        self.assertIn("orchestrator_url", run["run_metadata"])
        self.assertEqual(self.call("RunService/ListRuns", {"filter": "pipeline=none"}), (200, {"runs": [], "next_page_token": ""}))
        status, answer = self.call("RunService/GetRun", {"name": "nobody"})
        self.assertEqual((status, answer["code"]), (404, "not_found"))
        self.assertEqual(self.call("RunService/GetRun", {"nmae": "x"})[0], 400)
        self.assertEqual(self.daemon.http("/orch.v1.RunService/GetRun", {"name": "http-1"}, token=None)[0], 401)

    def test_violations_over_http(self) -> None:
        status, answer = self.call("PipelineService/ValidatePipeline",
                                   {"pipeline": {"name": "x", "steps": [{"name": "a", "command": ["t"], "after": ["b"]}]}})
        self.assertEqual(status, 200)
        self.assertEqual(answer["violations"][0]["field"], "steps[0].after[0]")

    def test_health_and_metrics(self) -> None:
        self.assertEqual(self.daemon.http("/healthz", token=None)[0], 200)
        self.assertEqual(self.daemon.http("/metrics", token=None)[0], 401)
        status, text = self.daemon.http("/metrics")
        self.assertEqual(status, 200)
        self.assertIn(b"# TYPE ", text)

    def test_slow_connections_do_not_delay_health(self) -> None:
        host, port = self.daemon.server["http"].removeprefix("http://").split(":")
        slow = []
        try:
            for _ in range(1000):
                connection = socket.create_connection((host, int(port)), timeout=10)
                connection.sendall(b"POST /orch.v1.RunService/GetRun HTTP/1.1\r\nHost: x\r\nContent-Le")
                slow.append(connection)
            started = time.monotonic()
            self.assertEqual(self.daemon.http("/healthz", token=None, timeout=5)[0], 200)
            self.assertLess(time.monotonic() - started, 1)
        finally:
            for connection in slow:
                connection.close()

    # --- gRPC by reflection ---

    @unittest.skipIf(grpc is None, "python3-grpcio is not installed for this python3")
    def test_grpc_by_reflection(self) -> None:
        channel = grpc.insecure_channel(self.daemon.server["grpc"])
        token = (("authorization", f"Bearer {self.daemon.token}"),)
        # The reflection protocol, spelled out: field 4 asks for the file that has a symbol, field 4.1 answers it.
        stream = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        pool = descriptor_pool.DescriptorPool()
        seen: set[str] = set()

        def ask(field: int, text: str) -> list[bytes]:
            request = bytes([field << 3 | 2, len(text)]) + text.encode()
            answer = next(iter(stream(iter([request]), metadata=token, timeout=10)))
            return re_files(answer)

        def re_files(answer: bytes) -> list[bytes]:
            files = []
            for number, value in fields(answer):
                if number == 4:
                    files += [v for n, v in fields(value) if n == 1]
            return files

        def fields(data: bytes) -> list[tuple[int, bytes]]:
            out, at = [], 0

            def varint() -> int:
                nonlocal at
                result = shift = 0
                while True:
                    byte = data[at]
                    at += 1
                    result |= (byte & 127) << shift
                    shift += 7
                    if byte < 128:
                        return result

            while at < len(data):
                key = varint()
                if key & 7 == 2:
                    size = varint()
                    out.append((key >> 3, data[at:at + size]))
                    at += size
                else:
                    varint()
            return out

        def learn(files: list[bytes]) -> None:
            for raw in files:
                file = descriptor_pb2.FileDescriptorProto.FromString(raw)
                if file.name in seen:
                    continue
                seen.add(file.name)
                for name in file.dependency:
                    learn(ask(3, name))
                pool.Add(file)

        learn(ask(4, "orch.v1.RunService"))

        def message(kind_name: str, **values: object):
            kind = GetMessageClass(pool.FindMessageTypeByName(f"orch.v1.{kind_name}"))
            return json_format.ParseDict(values, kind(), descriptor_pool=pool)

        def unary(method: str, request, answer: str):
            kind = GetMessageClass(pool.FindMessageTypeByName(f"orch.v1.{answer}"))
            return channel.unary_unary(f"/orch.v1.RunService/{method}", type(request).SerializeToString, kind.FromString)

        submit = message("SubmitRunRequest", pipeline={"name": "g", "steps": [{"name": "a", "command": ["true"]}]})
        run = unary("SubmitRun", submit, "Run")(submit, metadata=token, timeout=10)
        get = message("GetRunRequest", name=run.name)
        self.assertEqual(unary("GetRun", get, "Run")(get, metadata=token, timeout=10).id, run.id)
        with self.assertRaises(grpc.RpcError) as refused:
            unary("GetRun", get, "Run")(get, timeout=10)
        self.assertEqual(refused.exception.code(), grpc.StatusCode.UNAUTHENTICATED)
        watch = message("WatchRunsRequest", run=run.name, snapshot=True, until_done=True)
        kind = GetMessageClass(pool.FindMessageTypeByName("orch.v1.WatchRunsResponse"))
        stream_call = channel.unary_stream("/orch.v1.RunService/WatchRuns", type(watch).SerializeToString, kind.FromString)
        messages = list(stream_call(watch, metadata=token, timeout=20))
        self.assertEqual(messages[0].WhichOneof("message"), "snapshot")
        self.assertTrue(all(m.resume_token for m in messages))
        channel.close()

    # --- the command line ---

    def test_formats(self) -> None:
        run = self.daemon.submit(TRUE)
        self.daemon.ctl("wait-run", run)
        got = self.daemon.json("get-run", run)
        self.assertEqual((got["name"], got["state"]), (run, "SUCCEEDED"))
        step = self.daemon.json("list-steps", run)["steps"][0]
        for key in ("name", "state", "attempt", "reason", "message", "exit_code"):
            self.assertIn(key, step)
        self.assertIn("next_page_token", self.daemon.json("list-runs"))
        self.assertIn(run, self.daemon.ctl("list-runs").stdout)
        self.assertIn(f"name: {run}", self.daemon.ctl("get-run", run, "-o", "yaml").stdout)
        self.assertEqual(self.daemon.ctl("get-run", run, "--jq", ".state").stdout.strip(), "SUCCEEDED")
        self.assertNotIn("\x1b", self.daemon.ctl("list-runs").stdout)

    def test_list_pages_and_filters(self) -> None:
        names = [self.daemon.submit(f"name: paged\nsteps:\n  - {{name: a, command: ['true']}}\nlabels: {{n: '{i}'}}\n")
                 for i in range(5)]
        seen, token = [], ""
        for _ in range(3):
            page = self.daemon.json("list-runs", "--filter", "pipeline=paged", "--page-size", "2",
                                    *(["--page-token", token] if token else []))
            seen += [r["name"] for r in page["runs"]]
            token = page["next_page_token"]
        self.assertEqual(seen, names[::-1])
        self.assertEqual(token, "")
        only = self.daemon.json("list-runs", "--filter", "label.n=3")["runs"]
        self.assertEqual([r["name"] for r in only], [names[3]])

    def test_completion(self) -> None:
        for shell in ("bash", "zsh", "fish"):
            self.assertIn("submit", self.daemon.ctl("completion", shell).stdout)

    def test_apply_is_idempotent(self) -> None:
        text = "orchestrators:\n  - {name: pretend, flavor: fake}\npools:\n  - {name: apply, slots: 2}\n"
        path = self.daemon.file(text, "setup.yaml")
        first = self.daemon.ctl("apply", "-f", path, "--yes")
        self.assertIn("pretend", first.stdout + first.stderr)
        self.assertIn("pretend", [o["name"] for o in self.daemon.json("list-orchestrators")["orchestrators"]])
        again = self.daemon.ctl("apply", "-f", path)
        self.assertTrue(all(line.startswith("= ") for line in again.stdout.splitlines()), again.stdout)

    def test_apply_brings_stores_and_stacks(self) -> None:
        def apply(text: str, *more: str, code: int = 0) -> subprocess.CompletedProcess[str]:
            return self.daemon.ctl("apply", "-f", self.daemon.file(text, "stores.yaml"), *more, code=code)
        self.addCleanup(self.daemon.ctl, "set-stack", "default")
        text = (f"artifact_stores:\n  - {{name: disk, flavor: local, config: {{path: {self.daemon.home}/disk}}}}\n"
                "stacks: {work: {orchestrator: local, artifact_store: disk, is_default: true}}\n")
        self.assertIn("+ artifact store disk: flavor local", apply(text, "--dry-run").stdout)
        self.daemon.ctl("get-artifact-store", "disk", code=3)
        apply(text, "--yes")
        self.assertEqual(apply(text).stdout, "= artifact store disk\n= stack work\n")
        self.assertTrue(self.daemon.json("get-stack", "work")["is_default"])
        run = self.daemon.submit("name: p\nsteps:\n  - {name: a, command: [sh, -c, 'echo 1 > $ORCH_OUTPUT_O'], outputs: {o: {}}}\n")
        self.daemon.ctl("wait-run", run)
        self.assertEqual(self.daemon.json("get-run", run)["artifact_store"], "disk")
        self.assertEqual(len([p for p in (self.daemon.home / "disk/blobs").rglob("*") if p.is_file()]), 1)
        # Changed, by its difference; of a stack what is not said stays.
        moved = text.replace("/disk}", "/other}").replace(", artifact_store: disk, is_default: true", "")
        self.assertIn("~ artifact store disk: config", apply(moved, "--yes").stdout)
        self.assertEqual(self.daemon.json("get-artifact-store", "disk")["config"]["path"], f"{self.daemon.home}/other")
        self.assertEqual(self.daemon.json("get-stack", "work")["artifact_store"], "disk")
        # What cannot be used is refused by the store itself, in its words, and nothing is registered.
        bad = "artifact_stores: {bad: {flavor: s3, config: {bucket: b, endpoint: 'http://127.0.0.1:9', tries: 1}}}\n"
        self.assertIn("3 to 63", apply(bad, "--yes", code=8).stderr)
        self.assertIn("credentials", apply(bad.replace("bucket: b", "bucket: bbb"), "--yes", code=8).stderr)
        self.daemon.ctl("get-artifact-store", "bad", code=3)

    # --- size ---

    def test_a_hundred_thousand_steps(self) -> None:
        self.daemon.ctl("register-orchestrator", "fake", "--flavor", "fake")
        wide = 50_000
        lines = ["name: big", "steps:", "  - {name: root, command: [x]}"]
        lines += [f"  - {{name: a{i}, command: [x], after: [root]}}" for i in range(wide)]
        lines += [f"  - {{name: b{i}, command: [x], after: [a{i}]}}" for i in range(wide)]
        run = self.daemon.submit("\n".join(lines), "--orchestrator", "fake")
        self.daemon.ctl("wait-run", run, timeout=120)
        got = self.daemon.json("get-run", run)
        self.assertEqual((got["state"], got["step_counts"]), ("SUCCEEDED", {"SUCCEEDED": 2 * wide + 1}))
        page = self.daemon.json("list-steps", run, "--limit", "1000")
        self.assertEqual(len(page["steps"]), 1000)
        self.assertEqual(page["steps"][1]["name"], "a0")


if __name__ == "__main__":
    unittest.main()
