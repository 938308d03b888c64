"""Artifact stores of flavor s3 on a real server and on an emulator that checks signatures and permissions."""
from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import unittest
import urllib.request

from tests.lib.daemon import BIN, Daemon, files_below, wait_for
from tests.lib.s3 import Server, Wire
from tests.support.metadata_double import MetadataDouble

PIPELINE = """
name: p
steps:
  - name: a
    command: [sh, -c, "seq 100000 > ${outputs.f}; echo small > ${outputs.s}; mkdir -p ${outputs.d}/in; echo x > ${outputs.d}/in/x; seq 90000 > ${outputs.d}/big; ln -s in/x ${outputs.d}/l; echo 5 > ${outputs.v}"]
    outputs: {f: {}, s: {}, d: {type: dir}, v: {value: true}}
  - name: b
    foreach: {i: [1, 2]}
    inputs: {f: a.f, s: a.s, d: a.d, v: a.v}
    command: [sh, -c, "wc -l < ${inputs.f}; cat ${inputs.s} ${inputs.d}/l; wc -l < ${inputs.d}/big; cat ${inputs.v}; env | grep -i -e aws -e secretkey; seq 80000 > ${outputs.o}"]
    outputs: {o: {}}
  - name: c
    inputs: {all: "b[*].o"}
    command: [sh, -c, "cat ${inputs.all}/0* | wc -l"]
"""


class Stores(unittest.TestCase):
    kind = "versitygw"
    server: Server

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = Server(cls.kind)
        cls.addClassCleanup(cls.server.down)
        cls.server.up()

    def setUp(self) -> None:
        self.daemon = Daemon("grace: 1s\n")
        self.addCleanup(self.daemon.close)
        self.daemon.start()
        self.key("writer")

    def key(self, user: str, secret: str = "") -> None:
        access, right = self.server.keys(user)
        self.daemon.ctl("set-secret", "access", stdin=access)
        self.daemon.ctl("set-secret", "secret", stdin=secret or right)

    def register(self, name: str, bucket: str, *more: str, code: int = 0, endpoint: str = "", update: bool = False) -> str:
        flags = [word for item in (f"bucket={bucket}", f"endpoint={endpoint or self.server.address}", "access_key_secret=access",
                                   "secret_key_secret=secret", *more) for word in ("--config", item)]
        return self.daemon.ctl("register-artifact-store", name, "--flavor", "s3", *flags, *(["--update"] if update else []), code=code).stderr

    def stack(self, name: str, orchestrator: str, store: str) -> None:
        self.daemon.ctl("register-stack", name, "--orchestrator", orchestrator, "--artifact-store", store)


class OnARealServer(Stores):
    def run_on(self, stack: str, name: str) -> None:
        self.daemon.ctl("submit", self.daemon.file(PIPELINE), "--stack", stack, "--name", name, "--wait")
        self.assertEqual(self.daemon.ctl("logs", name, "b[0]").stdout, "100000\nsmall\nx\n90000\n5")
        self.assertEqual(self.daemon.ctl("logs", name, "c").stdout.strip(), "160000")

    def test_outputs_are_in_the_bucket_and_come_back_from_it(self) -> None:
        bucket = self.server.bucket("first")
        self.register("team", "first", "prefix=ml/run s+é")
        self.stack("prod", "local", "team")
        self.run_on("prod", "one")
        whole = "".join(f"{n}\n" for n in range(1, 100001)).encode()
        digest = hashlib.sha256(whole).hexdigest()
        self.assertEqual((bucket / "ml/run s+é/blobs" / digest[:2] / digest).read_bytes(), whole)
        shown = self.daemon.json("get-run", "one")
        self.assertEqual((shown["stack"], shown["artifact_store"], shown["orchestrator"]), ("prod", "team", "local"))
        # Another disk, or the same after a loss: the daemon has no bytes of its own any more.
        self.daemon.stop()
        shutil.rmtree(self.daemon.data / "blobs")
        self.daemon.start()
        self.daemon.ctl("get-artifact", "p.a.f", "--output", self.daemon.home / "f")
        self.assertEqual((self.daemon.home / "f").read_bytes(), whole)
        self.run_on("prod", "two")
        self.daemon.ctl("get-artifact", "p.a.d", "--output", self.daemon.home / "d.tar")
        listed = subprocess.run(["tar", "tf", self.daemon.home / "d.tar"], capture_output=True, text=True, check=True).stdout.split()
        self.assertIn("in/x", [name.removeprefix("./") for name in listed])

    def test_bytes_that_were_changed_in_the_bucket_are_refused(self) -> None:
        bucket = self.server.bucket("changed")
        self.register("team", "changed")
        self.stack("prod", "local", "team")
        self.run_on("prod", "one")
        self.daemon.stop()
        shutil.rmtree(self.daemon.data / "blobs")
        whole = "".join(f"{n}\n" for n in range(1, 100001)).encode()
        digest = hashlib.sha256(whole).hexdigest()
        (bucket / "blobs" / digest[:2] / digest).write_bytes(b"y" + whole[1:])
        self.daemon.start()
        self.daemon.ctl("get-artifact", "p.a.f", "--output", self.daemon.home / "f", code=None)
        self.assertFalse((self.daemon.home / "f").exists() and (self.daemon.home / "f").read_bytes())
        self.assertIn("DIGEST_MISMATCH", self.daemon.log())

    def test_steps_elsewhere_use_the_bucket_and_no_key(self) -> None:
        self.server.bucket("far")
        wire = Wire(self.server.address)
        self.addCleanup(wire.close)
        self.register("team", "far", endpoint=wire.address)
        self.daemon.ctl("register-orchestrator", "far", "--flavor", "local", "--config", "artifacts=daemon")
        self.stack("prod", "far", "team")
        self.run_on("prod", "one")
        self.daemon.ctl("submit", self.daemon.file(PIPELINE), "--orchestrator", "local", "--name", "near", "--wait")
        self.assertIn("4 steps are the same", self.daemon.ctl("diff-runs", "near", "one").stdout)
        for step in ("a", "b[0]"):
            self.assertNotIn("secretkey", self.daemon.ctl("logs", "one", step).stdout)

    def test_a_launcher_is_sent_to_the_bucket(self) -> None:
        """The calls of docs/artifacts.md, by hand, for a step that waits."""
        bucket = self.server.bucket("direct")
        self.register("team", "direct")
        self.daemon.ctl("register-orchestrator", "far", "--flavor", "local", "--config", "artifacts=daemon")
        self.stack("prod", "far", "team")
        seen, go = self.daemon.home / "seen", self.daemon.home / "go"
        path = self.daemon.file(f"""name: p
steps:
  - {{name: a, command: [sh, -c, 'seq 90000 > $ORCH_OUTPUT_F; mkdir $ORCH_OUTPUT_D; seq 80000 > $ORCH_OUTPUT_D/n'], outputs: {{f: {{}}, d: {{type: dir}}}}}}
  - name: b
    inputs: {{f: a.f, d: a.d}}
    command: [sh, -c, 'echo $ORCH_TOKEN > {seen}; until test -e {go}; do sleep 0.05; done']
    outputs: {{o: {{}}}}
""")
        run = self.daemon.ctl("submit", path, "--stack", "prod").stdout.split()[0]
        wait_for("the step", lambda: seen.exists() and seen.read_text())
        base = self.daemon.server["http"] + "/attempt/v1/"

        def curl(*args: str) -> str:
            return subprocess.run(["curl", "-s", *args], capture_output=True, text=True, timeout=60).stdout
        own = ["-H", f"Authorization: Bearer {seen.read_text().strip()}"]
        for name, lines in (("f", 90000), ("d/n", 80000)):
            elsewhere = curl("-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", *own, "-H", "Orch-Redirects: 1", base + "inputs/" + name).split()
            self.assertEqual(elsewhere[0], "307")
            self.assertTrue(elsewhere[1].startswith(self.server.address + "/direct/blobs/"), elsewhere)
            self.assertNotIn(self.server.keys("writer")[1], elsewhere[1])
            self.assertEqual(curl(elsewhere[1]), "".join(f"{n}\n" for n in range(1, lines + 1)))
            self.assertEqual(curl("-o", "/dev/null", "-w", "%{http_code}", *own, base + "inputs/" + name), "200")
        data = self.daemon.home / "sent.bin"
        data.write_bytes(os.urandom(300_000))
        digest = hashlib.sha256(data.read_bytes()).hexdigest()
        address = json.loads(curl(*own, "-d", '{"size": 300000}', f"{base}blobs/sha256:{digest}"))
        for size, has in ((5 << 30, True), ((5 << 30) + 1, False)):  # what S3 takes in one request
            self.assertEqual("url" in json.loads(curl(*own, "-d", json.dumps({"size": size}), f"{base}blobs/sha256:{digest}")), has)
        headers = [word for name, value in address["headers"].items() for word in ("-H", f"{name}: {value}")]
        self.assertEqual(curl("-o", "/dev/null", "-w", "%{http_code}", *own, "-d", '{"sent": true}', f"{base}blobs/sha256:{digest}"), "404")
        self.assertEqual(curl("-o", "/dev/null", "-w", "%{http_code}", "-T", str(data), *headers, address["url"]), "200")
        self.assertEqual((bucket / "blobs" / digest[:2] / digest).read_bytes(), data.read_bytes())
        self.assertEqual(curl("-o", "/dev/null", "-w", "%{http_code}", *own, "-d", '{"sent": true}', f"{base}blobs/sha256:{digest}"), "204")
        self.assertEqual(curl("-o", "/dev/null", "-w", "%{http_code}", *own, "-d", f'{{"digest": "sha256:{digest}", "kind": "file"}}', base + "outputs/o"), "200")
        go.touch()
        self.daemon.ctl("wait-run", run, code=None)

    def test_what_a_step_made_is_left_in_the_bucket_while_the_daemon_is_away(self) -> None:
        bucket = self.server.bucket("left")
        self.daemon.config = "grace: 1s\nlimits: {launcher_patience_seconds: 1}\n"
        self.daemon.restart()
        self.register("team", "left")
        self.daemon.ctl("register-orchestrator", "far", "--flavor", "local", "--config", "artifacts=daemon")
        self.stack("prod", "far", "team")
        for number, last in enumerate(("", "; exit 4")):
            gate = self.daemon.home / f"gate-{number}"
            run = self.daemon.ctl("submit", self.daemon.file(f"""name: p
steps:
  - name: a
    command: [sh, -c, 'echo ready; until test -e {gate}; do sleep 0.05; done; seq 9000{number} > $ORCH_OUTPUT_F; mkdir -p $ORCH_OUTPUT_D/s $ORCH_OUTPUT_D/none;
      seq 80000 > $ORCH_OUTPUT_D/s/n; echo x > $ORCH_OUTPUT_D/x; chmod +x $ORCH_OUTPUT_D/x; ln -s s/n $ORCH_OUTPUT_D/l{last}']
    outputs: {{f: {{}}, d: {{type: dir}}}}
  - {{name: b, inputs: {{f: a.f, d: a.d}}, command: [sh, -c, 'wc -l < $ORCH_INPUT_F; wc -l < $ORCH_INPUT_D/l; test -x $ORCH_INPUT_D/x && ls $ORCH_INPUT_D']}}
"""), "--stack", "prod").stdout.split()[0]
            wait_for("the step", lambda: "ready" in self.daemon.ctl("logs", run, "a").stdout)
            self.daemon.kill(signal.SIGKILL)
            gate.touch()
            kept = bucket / "blobs/left"
            wait_for("the manifest", lambda: files_below(kept, "manifest.json"))
            self.assertEqual(list(self.daemon.data.rglob("manifest.json")), [], "only there")
            fence = next(kept.rglob("manifest.json")).parent.name
            manifest = next(kept.rglob("manifest.json")).read_bytes()
            self.daemon.start()
            self.daemon.ctl("wait-run", run, code=1 if last else 0)
            step = self.daemon.steps(run)["a"]
            self.assertEqual((step["attempt"], step["exit_code"]), (1, 4 if last else 0))
            wait_for("nothing to be left", lambda: not [p for p in kept.rglob("*") if p.is_file()])
            if not last:
                self.assertEqual(self.daemon.ctl("logs", run, "b").stdout, "90000\n80000\nl\nnone\ns\nx\n")
            # A launcher that comes later still is of an attempt that is over: nobody asks.
            (kept / fence).mkdir(parents=True, exist_ok=True)
            (kept / fence / "manifest.json").write_bytes(manifest.replace(b'"exit_code":4', b'"exit_code":0'))
            self.daemon.restart(signal.SIGKILL)
            self.assertEqual(self.daemon.state(run), "FAILED" if last else "SUCCEEDED")
            shutil.rmtree(kept / fence)

    def left_through(self, wire: Wire, bucket: str, config: str = "") -> str:
        """A step has left what it made in the bucket, and the daemon comes back while that is away."""
        kept = self.server.bucket(bucket) / "blobs/left"
        self.daemon.config = f"grace: 1s\nlimits: {{launcher_patience_seconds: 1{config}}}\n"
        self.daemon.restart()
        self.register("team", bucket, "tries=1", endpoint=wire.address)
        self.daemon.ctl("register-orchestrator", "far", "--flavor", "local", "--config", "artifacts=daemon")
        self.stack("prod", "far", "team")
        gate = self.daemon.home / "gate"
        run = self.daemon.ctl("submit", self.daemon.file(f"""name: p
steps:
  - {{name: a, command: [sh, -c, 'echo ready; until test -e {gate}; do sleep 0.05; done; seq 90000 > $ORCH_OUTPUT_F'], outputs: {{f: {{}}}}}}
"""), "--stack", "prod").stdout.split()[0]
        wait_for("the step", lambda: "ready" in self.daemon.ctl("logs", run, "a").stdout)
        self.daemon.kill(signal.SIGKILL)
        gate.touch()
        wait_for("the manifest", lambda: files_below(kept, "manifest.json"))
        wire.close()
        self.daemon.start()
        wait_for("the daemon to ask for it", lambda: "what a launcher may have left is asked for again later" in self.daemon.log())
        return run

    def test_what_was_left_is_taken_once_the_store_is_back(self) -> None:
        wire = Wire(self.server.address)
        run = self.left_through(wire, "left-away")
        self.assertEqual(self.daemon.steps(run)["a"]["state"], "RUNNING")
        # The daemon's end in the middle of it changes nothing.
        self.daemon.restart(signal.SIGKILL)
        self.daemon.restart()
        back = Wire(self.server.address, port=wire.port)
        self.addCleanup(back.close)
        self.daemon.ctl("wait-run", run)
        step = self.daemon.steps(run)["a"]
        self.assertEqual((step["state"], step["attempt"], step["exit_code"]), ("SUCCEEDED", 1, 0))

    def test_what_was_left_is_asked_for_within_a_limit(self) -> None:
        run = self.left_through(Wire(self.server.address), "left-gone", ", left_patience_seconds: 2")
        self.daemon.ctl("wait-run", run, code=1)
        step = self.daemon.steps(run)["a"]
        self.assertEqual((step["reason"], step["attempt"]), ("STORE_FAILED", 1))
        self.assertIn("what it left behind cannot be taken: the store at", step["message"])

    def test_what_a_task_has_in_its_file_and_what_by_address(self) -> None:
        self.server.bucket("handed")
        self.daemon.config = "grace: 1s\nlimits: {handed_inline_bytes: 9, handed_bytes: 3000}\n"
        self.daemon.restart()
        self.register("team", "handed")
        self.daemon.ctl("register-orchestrator", "cut-off", "--flavor", "local", "--config", "artifacts=store")
        self.stack("prod", "cut-off", "team")
        folder, gate = self.daemon.home / "handed", self.daemon.home / "gate"
        folder.mkdir()
        path = folder / "p.yaml"
        path.write_text(f"""name: p
steps:
  - {{name: a, command: [sh, -c, 'printf 123456789 > $ORCH_OUTPUT_F; printf 1234567890 > $ORCH_OUTPUT_G'], outputs: {{f: {{}}, g: {{}}}}}}
  - {{name: b, inputs: {{f: a.f, g: a.g}}, command: [sh, -c, 'cat $ORCH_INPUT_F $ORCH_INPUT_G; echo; until test -e {gate}; do sleep 0.05; done']}}
""")
        run = self.daemon.ctl("submit", path, "--stack", "prod").stdout.split()[0]
        wait_for("the step", lambda: "1234567891234567890" in self.daemon.ctl("logs", run, "b").stdout)
        tasks = [json.loads(task.read_text()) for task in self.daemon.data.glob("deliveries/*/handed.json")]
        self.assertEqual([[sorted(i["bytes"]) for i in t["inputs"]] for t in tasks if t["inputs"]], [[["base64"], ["url"]]])
        gate.touch()
        self.daemon.ctl("wait-run", run)
        (folder / "large.bin").write_bytes(b"x" * 3000)
        run = self.daemon.ctl("submit", path, "--stack", "prod", "--no-cache").stdout.split()[0]
        self.daemon.ctl("wait-run", run, code=1)
        step = self.daemon.steps(run)["a"]
        self.assertEqual(step["reason"], "STORE_FAILED")
        self.assertIn("limit handed_bytes", step["message"])

    def test_steps_that_reach_nothing_but_the_bucket(self) -> None:
        """Their task is a file; they have no way to the daemon, which is not even there while the first one ends."""
        bucket = self.server.bucket("alone-with-it")
        self.register("team", "alone-with-it")
        self.daemon.ctl("register-orchestrator", "cut-off", "--flavor", "local", "--config", "artifacts=store")
        self.stack("prod", "cut-off", "team")
        folder = self.daemon.home / "code"
        folder.mkdir()
        (folder / "tool.sh").write_text("#!/bin/sh\necho the tool of $1\n")
        (folder / "tool.sh").chmod(0o755)
        text = PIPELINE.replace("seq 100000", "env | grep -c -e ORCH_TOKEN -e ORCH_ENDPOINT -e orchtestsecret; ./tool.sh a; seq 100000").replace(
            "foreach: {i: [1, 2]}", "foreach: {i: [1, 2]}\n    params: [p]") + "parameters: {p: {type: int, default: 3}}\n"
        path = folder / "p.yaml"
        path.write_text(text)
        self.daemon.ctl("submit", path, "--stack", "prod", "--name", "cut", "--wait")
        self.assertEqual(self.daemon.ctl("logs", "cut", "a").stdout, "0\nthe tool of a\n")
        self.assertEqual(self.daemon.ctl("logs", "cut", "b[0]").stdout, "100000\nsmall\nx\n90000\n5")
        self.assertEqual(self.daemon.ctl("logs", "cut", "c").stdout.strip(), "160000")
        self.daemon.ctl("submit", path, "--orchestrator", "local", "--name", "near", "--wait")
        self.assertIn("4 steps are the same", self.daemon.ctl("diff-runs", "near", "cut").stdout)
        self.assertEqual([p for p in (bucket / "blobs/left").rglob("*") if p.is_file()], [])
        self.assertEqual(subprocess.run(["grep", "-rl", "orchtestsecretkey", self.daemon.data], capture_output=True, text=True).stdout, "")
        # The daemon is killed while the step runs, and comes back after its end.
        gate = self.daemon.home / "gate"
        path.write_text(f"name: q\nexecution_mode: continue_on_failure\nsteps:\n  - {{name: a, command: [sh, -c, 'echo ready; until test -e {gate}; do sleep 0.05; done; seq 70000 > $ORCH_OUTPUT_O'], outputs: {{o: {{}}}}}}\n"
                        "  - {name: bad, command: [sh, -c, 'exit 3']}\n  - {name: missing, command: [no-such-program]}\n")
        run = self.daemon.ctl("submit", path, "--stack", "prod").stdout.split()[0]
        wait_for("the step", lambda: "ready" in self.daemon.ctl("logs", run, "a").stdout)
        self.daemon.kill(signal.SIGKILL)
        gate.touch()
        wait_for("its manifest", lambda: list((bucket / "blobs/left").rglob("outputs/o")))
        self.daemon.start()
        self.daemon.ctl("wait-run", run, code=1)
        steps = self.daemon.steps(run)
        self.assertEqual([(steps[n]["state"], steps[n]["attempt"], steps[n]["reason"]) for n in ("a", "bad", "missing")],
                         [("SUCCEEDED", 1, "REASON_UNSPECIFIED"), ("FAILED", 1, "EXIT_CODE"), ("FAILED", 1, "COMMAND_NOT_FOUND")])
        # What it cannot have is refused before any work.
        path.write_text("name: q\nsteps:\n  - {name: a, command: ['true'], secrets: {S: access}, heartbeat: 10s}\n")
        refused = self.daemon.ctl("submit", path, "--stack", "prod", code=8).stderr
        for words in ("no secret is written into a file", "cannot give a sign of life"):
            self.assertIn(words, refused)
        path.write_text("name: q\nsteps:\n  - {name: a, command: ['true']}\n")
        self.assertIn("reach nothing but the run's artifact store", self.daemon.ctl("submit", path, "--orchestrator", "cut-off", code=8).stderr)

    def test_large_objects_go_in_parts(self) -> None:
        bucket = self.server.bucket("parts")
        self.register("team", "parts", "part_bytes=5242880", "whole_bytes=5242880")
        self.stack("prod", "local", "team")
        self.daemon.ctl("submit", self.daemon.file("name: big\nsteps:\n  - {name: a, command: [sh, -c, 'seq 3000000 > $ORCH_OUTPUT_F'], outputs: {f: {}}}\n"),
                        "--stack", "prod", "--name", "big", "--wait")
        whole = "".join(f"{n}\n" for n in range(1, 3000001)).encode()
        self.assertGreater(len(whole), 20_000_000)
        digest = hashlib.sha256(whole).hexdigest()
        self.assertEqual((bucket / "blobs" / digest[:2] / digest).read_bytes(), whole)

    def test_a_large_object_that_breaks_on_the_way_goes_on_in_parts(self) -> None:
        bucket = self.server.bucket("resumed")
        wire = Wire(self.server.address, cuts=1, after=1_000_000)
        self.addCleanup(wire.close)
        self.register("team", "resumed", "part_bytes=5242880", "tries=2", endpoint=wire.address)
        self.stack("prod", "local", "team")
        before = wire.connections
        self.daemon.ctl("submit", self.daemon.file("name: big\nsteps:\n  - {name: a, command: [sh, -c, 'seq 3000000 > $ORCH_OUTPUT_F'], outputs: {f: {}}}\n"),
                        "--stack", "prod", "--name", "big", "--wait")
        whole = "".join(f"{n}\n" for n in range(1, 3000001)).encode()
        digest = hashlib.sha256(whole).hexdigest()
        self.assertEqual((bucket / "blobs" / digest[:2] / digest).read_bytes(), whole)
        self.assertEqual(wire.cuts, 0, "the wire broke")
        self.assertGreaterEqual(wire.connections - before, 2 + 5 + 2, "a look, what broke, a beginning, five parts, an end")

    def test_a_bucket_that_goes_away_fails_the_step_in_the_stores_words(self) -> None:
        bucket = self.server.bucket("vanishes")
        self.register("team", "vanishes")
        self.stack("prod", "local", "team")
        shutil.rmtree(bucket)
        run = self.daemon.ctl("submit", self.daemon.file(PIPELINE), "--stack", "prod").stdout.split()[0]
        self.daemon.ctl("wait-run", run, code=1)
        step = self.daemon.steps(run)["a"]
        self.assertEqual(step["reason"], "STORE_FAILED")
        self.assertIn("NoSuchBucket", step["message"])

    def test_deleted_runs_leave_nothing_in_the_bucket(self) -> None:
        bucket = self.server.bucket("gone")
        self.register("team", "gone")
        self.stack("prod", "local", "team")
        self.run_on("prod", "one")
        self.assertIn("stack `prod` names", self.daemon.ctl("delete-artifact-store", "team", code=8).stderr)
        self.daemon.ctl("register-stack", "prod", "--orchestrator", "local")
        self.assertIn("blobs of artifacts that are kept", self.daemon.ctl("delete-artifact-store", "team", code=8).stderr)
        self.daemon.ctl("delete-run", "one")
        wait_for("the objects to go", lambda: not [p for p in bucket.rglob("*") if p.is_file()])
        wait_for("the daemon to know", lambda: self.daemon.json("get-artifact-store", "team").get("blobs", 0) in (0, "0"))
        self.daemon.ctl("delete-artifact-store", "team")
        self.assertEqual(self.daemon.json("list-artifact-stores")["artifact_stores"], [])

    def test_a_wire_that_breaks_costs_tries_and_nothing_else(self) -> None:
        bucket = self.server.bucket("broken")
        wire = Wire(self.server.address, cuts=3, after=100_000)
        self.addCleanup(wire.close)
        self.register("team", "broken", endpoint=wire.address)
        self.stack("prod", "local", "team")
        self.run_on("prod", "one")
        self.assertEqual(wire.cuts, 0, "the wire broke")
        self.assertEqual(len([p for p in bucket.rglob("*") if p.is_file()]), 6)
        # The way back, too.
        self.daemon.stop()
        shutil.rmtree(self.daemon.data / "blobs")
        self.daemon.start()
        back = Wire(self.server.address, cuts=2, after=200_000, back=True)
        self.addCleanup(back.close)
        self.register("team", "broken", endpoint=back.address, update=True)
        self.daemon.ctl("get-artifact", "p.a.f", "--output", self.daemon.home / "f")
        self.assertEqual((self.daemon.home / "f").stat().st_size, 588895)

    def test_what_is_wrong_is_said_at_registration(self) -> None:
        self.server.bucket("good")
        self.assertIn("NoSuchBucket", self.register("x", "no-such-bucket", code=8))
        self.key("writer", "wrong-secret")
        self.assertIn("SignatureDoesNotMatch", self.register("x", "good", code=8))
        self.assertIn("tries", self.register("x", "good", "tries=2", endpoint="http://127.0.0.1:9", code=8))
        self.assertIn("3 to 63", self.register("x", "B", code=8))
        said = self.register("x", "good", "access_key=AKIA", "colour=red", "sse=rot13", code=8)
        for words in ("never written here: name a secret", "colour", "AES256"):
            self.assertIn(words, said)
        self.daemon.ctl("delete-secret", "secret")
        self.assertIn("set-secret secret", self.register("x", "good", code=8))

    def test_the_daemon_is_killed_while_it_brings_outputs(self) -> None:
        self.server.bucket("killed")
        self.register("team", "killed")
        self.stack("prod", "local", "team")
        for point in ("home.keep", "home.kept"):
            once = self.daemon.home / "once"
            once.touch()
            self.daemon.faults = f"{point}=kill@{once}"
            self.daemon.restart()
            run = self.daemon.ctl("submit", self.daemon.file(PIPELINE), "--stack", "prod", "--name", point).stdout.split()[0]
            assert self.daemon.process is not None
            self.assertEqual(self.daemon.process.wait(60), -signal.SIGKILL)
            self.daemon.faults = ""
            self.daemon.start()
            self.daemon.ctl("wait-run", run)
            self.assertEqual(self.daemon.steps(run)["a"]["attempt"], 1)

    def test_the_client_alone(self) -> None:
        """Addresses that expire, and what a server says to them."""
        self.server.bucket("alone")
        access, secret = self.server.keys("writer")
        done = subprocess.run([BIN / "s3_test", "--gtest_filter=Live.*"], capture_output=True, text=True, timeout=300,
                              env={**os.environ, "ORCH_TEST_S3": f"{self.server.address} alone {access} {secret}"})
        self.assertEqual(done.returncode, 0, done.stdout[-3000:])
        self.assertNotIn("SKIPPED", done.stdout)


class OnMoto(Stores):
    """An independent judge of signatures, with permissions."""

    kind = "moto"

    def test_a_writer_may_and_a_reader_may_not(self) -> None:
        self.register("team", "orchd-test", "prefix=a b+é", "sse=AES256")
        self.stack("prod", "local", "team")
        self.daemon.ctl("submit", self.daemon.file(PIPELINE), "--stack", "prod", "--name", "one", "--wait")
        self.daemon.stop()
        shutil.rmtree(self.daemon.data / "blobs")
        self.daemon.start()
        self.daemon.ctl("get-artifact", "p.a.f", "--output", self.daemon.home / "f")
        self.assertEqual((self.daemon.home / "f").stat().st_size, 588895)
        self.key("writer", "wrong")
        self.assertIn("SignatureDoesNotMatch", self.register("other", "orchd-test", code=8))
        self.key("reader")
        self.assertIn("AccessDenied", self.register("other", "orchd-test", code=8))
        # A store that refuses when a step has ended fails the step with the store's own words.
        run = self.daemon.ctl("submit", self.daemon.file(PIPELINE.replace("100000", "100001")), "--stack", "prod", "--no-cache").stdout.split()[0]
        self.daemon.ctl("wait-run", run, code=1)
        step = self.daemon.steps(run)["a"]
        self.assertEqual(step["reason"], "STORE_FAILED")
        self.assertIn("AccessDenied", step["message"])

    def test_the_chain_of_the_platform(self) -> None:
        access, secret = self.server.keys("writer")
        folder = self.daemon.home / "aws"
        folder.mkdir()
        (folder / "credentials").write_text(f"[default]\naws_access_key_id = x\n[ml]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n")
        def register(code: int) -> str:
            return self.daemon.ctl("register-artifact-store", "chain", "--flavor", "s3", "--config", "bucket=orchd-test",
                                   "--config", f"endpoint={self.server.address}", code=code).stderr
        self.daemon.stop()
        self.daemon.launch(AWS_SHARED_CREDENTIALS_FILE=str(folder / "credentials"), AWS_PROFILE="none")
        self.daemon.wait_serving()
        self.assertIn("there are no credentials for the store", register(8))
        self.daemon.stop()
        self.daemon.launch(AWS_SHARED_CREDENTIALS_FILE=str(folder / "credentials"), AWS_PROFILE="ml")
        self.daemon.wait_serving()
        register(0)

    def launch(self, **variables: str) -> None:
        """As on a platform that gives these and nothing else."""
        self.daemon.stop()
        self.daemon.launch(HOME=str(self.daemon.home / "nobody"), **{"AWS_EC2_METADATA_DISABLED": "true", **variables})
        self.daemon.wait_serving()

    def chained(self, code: int = 0) -> str:
        return self.daemon.ctl("register-artifact-store", "chain", "--flavor", "s3", "--config", "bucket=orchd-test", "--config",
                               f"endpoint={self.server.address}", code=code).stderr

    def run_on_chain(self) -> None:
        self.stack("chained", "local", "chain")
        self.daemon.ctl("submit", self.daemon.file(PIPELINE), "--stack", "chained", "--name", "chained", "--wait")

    def test_a_container_role_by_a_double(self) -> None:
        double = MetadataDouble(*self.server.keys("writer"))
        self.addCleanup(double.close)
        token = self.daemon.home / "token-of-the-container"
        token.write_text("not-the-token")
        where = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": double.address + "/container", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token)}
        self.launch(**where)
        self.assertIn("HTTP status 401", self.chained(8))
        token.write_text(double.token + "\n")
        self.launch(**where)
        self.chained()
        self.run_on_chain()
        self.assertEqual(double.calls.count("GET /container 200"), 1, "granted once, for an hour")
        double.until = "in an hour"
        self.launch(**where)
        self.assertIn("ends at `in an hour`, which is no time",
                      self.daemon.ctl("register-artifact-store", "other", "--flavor", "s3", "--config", "bucket=orchd-test", "--config",
                                      f"endpoint={self.server.address}", code=8).stderr)
        double.until = ""
        self.launch(AWS_CONTAINER_CREDENTIALS_FULL_URI="http://elsewhere.example/container")
        self.daemon.ctl("delete-stack", "chained")
        said = self.daemon.ctl("register-artifact-store", "other", "--flavor", "s3", "--config", "bucket=orchd-test", "--config",
                               f"endpoint={self.server.address}", code=8).stderr
        self.assertIn("must be https://", said)

    def test_a_machine_role_by_a_double(self) -> None:
        double = MetadataDouble(*self.server.keys("writer"))
        self.addCleanup(double.close)
        machine = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": double.address + "/", "AWS_EC2_METADATA_DISABLED": "false"}
        double.role = ""
        self.launch(**machine)
        self.assertIn("has no role", self.chained(8))
        double.role = "orchd"
        self.launch(**machine)
        self.chained()
        self.run_on_chain()
        self.assertEqual(double.calls[-3:], ["PUT /latest/api/token 200", "GET /latest/meta-data/iam/security-credentials/ 200",
                                             "GET /latest/meta-data/iam/security-credentials/orchd 200"])
        # Nobody there: said soon, and in which words.
        double.close()
        self.launch(**machine)
        self.assertIn("no metadata service at", self.daemon.ctl("register-artifact-store", "other", "--flavor", "s3", "--config",
                                                                  "bucket=orchd-test", "--config", f"endpoint={self.server.address}", code=8).stderr)

    def test_a_web_identity_for_a_role_of_motos_sts(self) -> None:
        token = self.daemon.home / "identity"
        token.write_text("a-token-of-the-cluster\n")
        role = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(token), "AWS_ENDPOINT_URL_STS": self.server.address}
        self.launch(**role)
        self.assertIn("AWS_ROLE_ARN is not", self.chained(8))
        self.launch(**role, AWS_ROLE_ARN="arn:aws:iam::123456789012:role/orchd")
        # moto breaks at calls without a signature, as this one is, while its checks are on: the next one is let through.
        urllib.request.urlopen(urllib.request.Request(self.server.address + "/moto-api/reset-auth", data=b"1", method="POST",
                                                      headers={"Content-Type": "text/plain"}), timeout=30).close()
        self.chained()
        self.run_on_chain()
        self.assertNotIn("a-token-of-the-cluster", self.daemon.log())


if __name__ == "__main__":
    unittest.main()
