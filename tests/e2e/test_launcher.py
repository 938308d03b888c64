"""Steps that share no files with the daemon: what `orch-launch run` does, and the calls that it does it with."""
from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import unittest
from pathlib import Path
from typing import Any

from tests.lib.daemon import BIN, ROOT, Daemon, files_below, wait_for

LIMITS = "grace: 2s\nlimits: {artifact_bytes: 4Mi, folder_entries: 20, source_bytes: 1Mi}\n"


class Far(unittest.TestCase):
    """A daemon with an orchestrator `far`, whose steps work on copies."""

    config = LIMITS

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = Daemon(cls.config)
        cls.daemon.start()
        cls.addClassCleanup(cls.daemon.close)
        cls.daemon.ctl("register-orchestrator", "far", "--flavor", "local", "--config", "artifacts=daemon")
        (cls.daemon.home / "work").mkdir()

    def submit(self, steps: str, *args: object, name: str = "p") -> str:
        path = self.daemon.home / "work" / f"{name}.yaml"
        path.write_text(f"name: {name}\nsteps:\n{steps}")
        return self.daemon.ctl("submit", path, "--orchestrator", "far", *args).stdout.strip().splitlines()[0]

    def end(self, steps: str, *args: object, code: int = 0, name: str = "p") -> dict[str, Any]:
        run = self.submit(steps, *args, name=name)
        self.daemon.ctl("wait-run", run, code=code)
        return {"run": run, **self.daemon.steps(run)}

    def logs(self, run: str, step: str) -> str:
        return self.daemon.ctl("logs", run, step).stdout


class Launcher(Far):
    def test_all_kinds_of_inputs_and_outputs_as_on_local(self) -> None:
        steps = """
  - name: a
    command: [sh, -c, "echo hello > ${outputs.f}; : > ${outputs.none}; mkdir -p ${outputs.d}/s; echo x > ${outputs.d}/x; ln -s ../x ${outputs.d}/s/l; printf '#!/bin/sh\\necho ran' > ${outputs.d}/run; chmod +x ${outputs.d}/run; echo '[1,2,3]' > ${outputs.v}"]
    outputs: {f: {type: text}, none: {}, d: {type: dir}, v: {value: true}}
  - name: b
    foreach: {n: {from: a.v}}
    inputs: {f: a.f, d: a.d, none: a.none}
    command: [sh, -c, "cat ${inputs.f} ${inputs.d}/s/l ${inputs.none} && ${inputs.d}/run && mkdir ${outputs.o} && echo ${item.n} > ${outputs.o}/n"]
    outputs: {o: {type: dir}}
  - name: c
    inputs: {all: "b[*].o", v: a.v}
    command: [sh, -c, "cat ${inputs.all}/0*/n; echo ${values.v} $(cat ${inputs.v}); cp ${inputs.all}/index.json ${outputs.i}"]
    outputs: {i: {type: json}}
"""
        far = self.end(steps, "--name", "as-far")
        near = self.daemon.home / "work" / "p.yaml"
        self.daemon.ctl("submit", near, "--orchestrator", "local", "--name", "as-local", "--wait")
        self.assertIn("6 steps are the same", self.daemon.ctl("diff-runs", "as-local", "as-far").stdout)
        self.assertEqual(self.logs("as-far", "b[0]"), "hello\nx\nran\n")
        self.assertEqual(self.logs("as-far", "c"), "1\n2\n3\n[1,2,3] [1,2,3]\n")
        self.assertEqual(far["a"]["attempt"], 1)
        self.assertEqual(os.listdir(self.daemon.data / "deliveries"), [])

    def test_the_step_sees_nothing_of_the_daemons_files(self) -> None:
        (self.daemon.home / "work" / "beside.txt").write_text("beside\n")
        done = self.end("  - name: a\n    command: [sh, -c, 'cat beside.txt; pwd; echo $ORCH_INPUT_X; cat $ORCH_PARAMS; env']\n    inputs: {x: z.o}\n    params: [p]\n"
                        "  - {name: z, command: [sh, -c, 'echo 1 > $ORCH_OUTPUT_O'], outputs: {o: {}}}\nparameters: {p: {type: int, default: 3}}\n")
        log = self.logs(done["run"], "a")
        self.assertTrue(log.startswith("beside\n"), log)
        self.assertIn('{"p":3}', log)
        self.assertNotIn("/blobs/", log)
        self.assertNotIn("/made/", log)

    def test_ends_are_told_apart(self) -> None:
        for command, reason, words in (
                ("[sh, -c, 'exit 3']", "EXIT_CODE", "exit code 3"), ("[sh, -c, 'kill -9 $$$$']", "SIGNALED", "signal 9"),
                ("[no-such-program]", "COMMAND_NOT_FOUND", "no-such-program"),
                ("[sh, -c, 'true']", "OUTPUT_MISSING", "left nothing"), ("[sh, -c, 'mkdir $ORCH_OUTPUT_O']", "OUTPUT_INVALID", "is a folder"),
                ("[sh, -c, 'ln -s /etc/passwd $ORCH_OUTPUT_O']", "OUTPUT_INVALID", "symbolic link"),
                ("[sh, -c, 'head -c 5M /dev/zero > $ORCH_OUTPUT_O']", "STORE_FAILED", "limit artifact_bytes")):
            done = self.end(f"  - {{name: a, command: {command}, outputs: {{o: {{}}}}}}\n", code=1)
            self.assertEqual(done["a"]["reason"], reason, done["a"])
            self.assertIn(words, done["a"]["message"])

    def test_limits_of_folders_and_sources_at_and_past(self) -> None:
        for count, code in ((20, 0), (21, 1)):
            done = self.end(f"  - {{name: a, command: [sh, -c, 'mkdir $ORCH_OUTPUT_O; cd $ORCH_OUTPUT_O; touch $(seq {count})'], outputs: {{o: {{type: dir}}}}}}\n", code=code)
            if code:
                self.assertIn("limit folder_entries", done["a"]["message"])
        big = self.daemon.home / "work" / "big.bin"
        self.addCleanup(big.unlink)
        big.write_bytes(b"x" * (1 << 20))
        done = self.end("  - {name: a, command: ['true']}\n", code=1)
        self.assertIn("limit source_bytes", done["a"]["message"])
        self.assertEqual(done["a"]["reason"], "INPUT_MISSING")

    def test_what_a_step_leaves_behind_is_ended(self) -> None:
        done = self.end("  - {name: a, command: [sh, -c, 'setsid sleep 1000 & echo $!']}\n")
        pid = int(self.logs(done["run"], "a"))
        self.assertFalse(Path(f"/proc/{pid}").exists())

    def test_a_stop_reaches_the_command_and_a_repetition_does_not(self) -> None:
        run = self.submit("  - {name: a, command: [sh, -c, 'trap \"echo term\" TERM; echo ready; n=0; while test $n -lt 400; do sleep 0.05; test -e gone && n=$((n+40)); done']}\n")
        wait_for("the step", lambda: "ready" in self.logs(run, "a"))
        self.daemon.ctl("cancel-run", run)
        self.daemon.ctl("wait-run", run, code=5)
        self.assertEqual(self.logs(run, "a").count("term"), 1)
        self.assertEqual(self.daemon.steps(run)["a"]["state"], "CANCELLED")

    def test_a_time_out_and_a_retry(self) -> None:
        done = self.end("  - {name: a, command: [sh, -c, 'test $ORCH_ATTEMPT = 2 || sleep 1000'], timeout: {run: 300ms}, retry: {max_attempts: 2, backoff: {initial: 1ms}}}\n")
        attempts = self.daemon.json("get-step", done["run"], "a")["attempts"]
        self.assertEqual([a["state"] for a in attempts], ["TIMED_OUT", "SUCCEEDED"])

    def test_secrets_are_variables_and_files_and_in_no_log(self) -> None:
        self.daemon.ctl("set-secret", "pw", stdin="very-secret-value")
        done = self.end("  - {name: a, command: [sh, -c, 'test $PW = very-\"secret\"-value && echo it is $PW; cat $KEY >&2; ls -l $KEY'], secrets: {PW: pw, KEY: {name: pw, file: true}}}\n")
        log = self.logs(done["run"], "a")
        self.assertIn("it is ***", log)
        found = subprocess.run(["grep", "-ral", "very-secret-value", self.daemon.data], capture_output=True, text=True)
        self.assertEqual(found.stdout, "")

    def test_early_publication(self) -> None:
        steps = """
  - name: a
    command: [sh, -c, "echo early > ${outputs.f}; orch-launch publish f --metadata n=1 && echo changed > ${outputs.f}; until test -e GO; do sleep 0.05; done; echo late > ${outputs.g}"]
    outputs: {f: {}, g: {}}
  - {name: b, inputs: {f: {from: a.f, early: true}}, command: [sh, -c, "cat ${inputs.f}; touch GO"]}
""".replace("GO", str(self.daemon.home / "go"))
        done = self.end(steps)
        self.assertEqual(self.logs(done["run"], "b"), "early\n")
        self.assertEqual(done["a"]["state"], "SUCCEEDED")

    def test_the_daemon_is_killed_while_the_step_runs(self) -> None:
        go = self.daemon.home / "go-on"
        run = self.submit(f"  - {{name: a, command: [sh, -c, 'echo ready; until test -e {go}; do sleep 0.05; done; seq 100000 > $ORCH_OUTPUT_O'], outputs: {{o: {{}}}}}}\n")
        wait_for("the step", lambda: "ready" in self.logs(run, "a"))
        self.daemon.kill(signal.SIGKILL)
        go.touch()  # it delivers while nobody is there, and waits
        self.daemon.start()
        self.daemon.ctl("wait-run", run)
        self.assertEqual(self.daemon.steps(run)["a"]["attempt"], 1)

    def test_two_launchers_of_one_attempt(self) -> None:
        """As of a platform that starts again what it has lost sight of."""
        again = self.daemon.home / "again"
        run = self.submit(f"  - {{name: a, command: [sh, -c, 'env > {again}; until test -e {again}.done; do sleep 0.05; done']}}\n")
        wait_for("the step", lambda: again.exists() and "ORCH_TOKEN" in again.read_text())
        env = dict(line.split("=", 1) for line in again.read_text().splitlines() if "=" in line)
        second = subprocess.run([BIN / "orch-launch", "run"], env=env, capture_output=True, text=True, timeout=60)
        self.assertEqual(second.returncode, 125)
        self.assertIn("another launcher has begun this attempt", second.stderr)
        Path(f"{again}.done").touch()
        self.daemon.ctl("wait-run", run)
        # Its token died with it.
        late = subprocess.run([BIN / "orch-launch", "run"], env=env, capture_output=True, text=True, timeout=60)
        self.assertEqual(late.returncode, 125)
        self.assertIn("token", late.stderr)

    def test_digits_gives_the_same_bytes_as_on_local(self) -> None:
        if subprocess.run(["/usr/bin/python3", "-c", "import sklearn, matplotlib"], capture_output=True).returncode != 0:
            self.skipTest("Debian's python3-sklearn and python3-matplotlib are not here")
        with Daemon() as daemon:
            daemon.ctl("register-orchestrator", "far", "--flavor", "local", "--config", "artifacts=daemon")
            for orchestrator in ("local", "far"):
                daemon.ctl("submit", ROOT / "examples/digits/pipeline.yaml", "--name", f"on-{orchestrator}",
                           "--orchestrator", orchestrator, "--no-cache", "--wait")
            self.assertIn("15 steps are the same", daemon.ctl("diff-runs", "on-local", "on-far", code=None).stdout)


class Left(Far):
    """The daemon does not answer when a step has ended: the launcher leaves what it made, the next daemon takes it."""

    config = LIMITS.replace("limits: {", "limits: {launcher_patience_seconds: 1, ")

    def manifests(self) -> list[Path]:
        return files_below(self.daemon.data, "manifest.json")

    def left_by(self, command: str, outputs: str, name: str) -> str:
        gate = self.daemon.home / f"gate-{name}"
        run = self.submit(f"  - {{name: a, command: [sh, -c, 'echo ready; until test -e {gate}; do sleep 0.05; done; {command}'], outputs: {outputs}}}\n"
                          "  - {name: b, after: [a], command: [sh, -c, 'echo after']}\n", name=name)
        wait_for("the step", lambda: "ready" in self.logs(run, "a"))
        self.daemon.kill(signal.SIGKILL)
        gate.touch()
        wait_for("the launcher to leave what it made", self.manifests)
        return run

    def test_outputs_and_the_end_are_taken_when_it_is_back(self) -> None:
        run = self.left_by("seq 90000 > $ORCH_OUTPUT_F; mkdir -p $ORCH_OUTPUT_D/s; echo x > $ORCH_OUTPUT_D/s/x; cp $ORCH_OUTPUT_D/s/x $ORCH_OUTPUT_D/y; "
                           "chmod +x $ORCH_OUTPUT_D/y; ln -s s/x $ORCH_OUTPUT_D/l; echo 7 > $ORCH_OUTPUT_V", "{f: {}, d: {type: dir}, v: {value: true}}", "left")
        manifest = json.loads(self.manifests()[0].read_text())
        self.assertEqual([(o["name"], o["kind"]) for o in manifest["outputs"]], [("d", "folder"), ("f", "file"), ("v", "file")])
        self.daemon.start()
        self.daemon.ctl("wait-run", run)
        step = self.daemon.json("get-step", run, "a")
        self.assertEqual([(a["state"], a["exit_code"]) for a in step["attempts"]], [("SUCCEEDED", 0)])
        self.assertIn("does not answer; what the step made is left for it", self.logs(run, "a"))
        self.daemon.ctl("get-artifact", "left.a.f", "--output", self.daemon.home / "f")
        self.assertEqual((self.daemon.home / "f").read_text(), "".join(f"{n}\n" for n in range(1, 90001)))
        # The same bytes and modes as those of a step that delivers.
        digest = self.daemon.json("get-artifact", "left.a.d")["digest"]
        again = self.end("  - {name: a, command: [sh, -c, 'mkdir -p $ORCH_OUTPUT_D/s; echo x > $ORCH_OUTPUT_D/s/x; cp $ORCH_OUTPUT_D/s/x $ORCH_OUTPUT_D/y; "
                         "chmod +x $ORCH_OUTPUT_D/y; ln -s s/x $ORCH_OUTPUT_D/l'], outputs: {d: {type: dir}}}\n", name="again")
        self.assertEqual(self.daemon.json("get-artifact", "again.a.d")["digest"], digest, again)
        self.assertEqual((self.manifests(), os.listdir(self.daemon.data / "deliveries")), ([], []))

    def test_a_failure_is_told_the_same_way(self) -> None:
        run = self.left_by("echo half > $ORCH_OUTPUT_F; exit 3", "{f: {}}", "fails")
        self.daemon.start()
        self.daemon.ctl("wait-run", run, code=1)
        step = self.daemon.steps(run)["a"]
        self.assertEqual((step["reason"], step["exit_code"], step["attempt"]), ("EXIT_CODE", 3, 1))

    def test_what_can_be_no_output_and_what_is_missing(self) -> None:
        for command, reason in (("ln -s /etc/passwd $ORCH_OUTPUT_F", "OUTPUT_INVALID"), ("true", "OUTPUT_MISSING"),
                                ("head -c 5M /dev/zero > $ORCH_OUTPUT_F", "STORE_FAILED")):
            run = self.left_by(command, "{f: {}}", "bad-" + reason.lower())
            self.daemon.start()
            self.daemon.ctl("wait-run", run, code=1)
            self.assertEqual(self.daemon.steps(run)["a"]["reason"], reason)

    def test_bytes_that_changed_since_are_not_taken(self) -> None:
        run = self.left_by("seq 90000 > $ORCH_OUTPUT_F", "{f: {}}", "changed")
        output = self.manifests()[0].parent / "output/f"
        output.write_bytes(b"x" + output.read_bytes()[1:])
        self.daemon.start()
        self.daemon.ctl("wait-run", run, code=1)
        self.assertEqual(self.daemon.steps(run)["a"]["reason"], "STORE_FAILED")
        self.assertIn("not what its manifest says", self.daemon.steps(run)["a"]["message"])

    def test_a_manifest_of_another_launcher_or_attempt_is_refused(self) -> None:
        for fence in ("$ORCH_FENCE", "a" * 20):
            path = self.daemon.file("#!/bin/sh\ncd $ORCH_SCRATCH/..\necho made > output/f\n"
                                    "printf '{\"version\":1,\"fence\":\"%s\",\"launcher\":\"another\",\"end\":{\"exit_code\":0},\"outputs\":[]}' "
                                    f"{fence} > manifest.json\nkill -9 $PPID\n", "forge.sh")
            path.chmod(0o755)
            done = self.end(f"  - {{name: a, command: [{path}]}}\n", code=1, name="forged")
            self.assertEqual(done["a"]["reason"], "SIGNALED", done["a"])
        self.assertIn("what was left behind is not taken", self.daemon.log())


class Calls(Far):
    """The contract of docs/artifacts.md, spoken by hand for a step that waits."""

    def setUp(self) -> None:
        self.go = self.daemon.home / f"go-{self.id().rsplit('.', 1)[1]}"
        self.seen = Path(f"{self.go}.env")
        self.run_name = self.submit(
            "  - name: a\n    command: [sh, -c, 'mkdir -p $ORCH_OUTPUT_D/s; seq 1000 > $ORCH_OUTPUT_D/s/n; seq 5000 > $ORCH_OUTPUT_F']\n"
            "    outputs: {f: {}, d: {type: dir}}\n"
            f"  - name: b\n    command: [sh, -c, 'env > {self.seen}.part; mv {self.seen}.part {self.seen}; until test -e {self.go}; do sleep 0.05; done']\n"
            "    inputs: {f: a.f, d: a.d}\n    outputs: {o: {}, e: {type: dir}}\n", name=f"calls-{self.id().rsplit('.', 1)[1]}")
        wait_for("the step", self.seen.exists)
        self.env = dict(line.split("=", 1) for line in self.seen.read_text().splitlines() if "=" in line)
        self.token = self.env["ORCH_TOKEN"]

    def tearDown(self) -> None:
        self.go.touch()
        self.daemon.ctl("wait-run", self.run_name, code=None)

    def call(self, method: str, path: str, body: bytes | Any = b"", token: str | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.daemon.server["http"].removeprefix("http://"), timeout=60)
        try:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, "/attempt/v1/" + path, data, {"Authorization": f"Bearer {token or self.token}",
                                                                       **{k.replace("_", "-"): v for k, v in headers.items()}})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def upload(self, data: bytes, offset: int = 0, hex_digest: str = "", length: int = -1) -> tuple[int, dict[str, str], bytes]:
        digest = hex_digest or hashlib.sha256(data).hexdigest()
        return self.call("PATCH", f"blobs/sha256:{digest}", data[offset:], Upload_Offset=str(offset),
                         Upload_Length=str(length if length >= 0 else len(data)))

    def reason(self, body: bytes) -> str:
        return str(json.loads(body)["details"][0]["debug"]["reason"])

    def test_ranges_and_tags_of_an_input(self) -> None:
        whole = "".join(f"{n}\n" for n in range(1, 5001)).encode()
        tag = f'"sha256:{hashlib.sha256(whole).hexdigest()}"'
        status, headers, body = self.call("GET", "inputs/f")
        self.assertEqual((status, headers["etag"], headers["accept-ranges"], body), (200, tag, "bytes", whole))
        status, headers, body = self.call("HEAD", "inputs/f")
        self.assertEqual((status, int(headers["content-length"]), body), (200, len(whole), b""))
        for text, part, words in (("bytes=5-9", whole[5:10], "5-9"), ("bytes=20000-", whole[20000:], f"20000-{len(whole) - 1}"),
                                  ("bytes=-7", whole[-7:], f"{len(whole) - 7}-{len(whole) - 1}"), ("bytes=0-999999", whole, f"0-{len(whole) - 1}")):
            status, headers, body = self.call("GET", "inputs/f", Range=text)
            self.assertEqual((status, headers["content-range"], body), (206, f"bytes {words}/{len(whole)}", part))
        status, headers, body = self.call("GET", "inputs/f", Range=f"bytes={len(whole)}-")
        self.assertEqual((status, headers["content-range"]), (416, f"bytes */{len(whole)}"))
        for text in ("bytes=9-5", "bytes=a-b", "lines=1-2", "bytes=1-2,4-5"):  # not understood: all of it
            self.assertEqual(self.call("GET", "inputs/f", Range=text)[0], 200)
        self.assertEqual(self.call("GET", "inputs/f", Range="bytes=5-9", If_Range=tag)[0], 206)
        self.assertEqual(self.call("GET", "inputs/f", Range="bytes=5-9", If_Range='"sha256:other"')[0], 200)

    def test_a_folder_is_a_listing_and_its_files(self) -> None:
        status, headers, listing = self.call("GET", "inputs/d")
        self.assertEqual((status, headers["content-type"]), (200, "application/vnd.orchd.folder"))
        self.assertEqual(headers["etag"], f'"sha256:{hashlib.sha256(listing).hexdigest()}"')
        self.assertTrue(listing.startswith(b"folder\nd-1:s0:f-3:s/n32:"), listing)
        self.assertEqual(self.call("GET", "inputs/d/s/n")[2], "".join(f"{n}\n" for n in range(1, 1001)).encode())
        for path in ("inputs/d/../../../orchd.db", "inputs/d/s/%2e%2e/%2e%2e/x", "inputs/d/s", "inputs/d//s/n", "inputs/f/x", "inputs/zzz", "inputs/d/%2Fetc%2Fpasswd",
                     "source/../data/token", "source/data/token", "source/%2e%2e/token"):
            self.assertIn(self.call("GET", path)[0], (400, 404), path)

    def test_an_upload_goes_on_where_it_broke(self) -> None:
        data = os.urandom(300_000)
        digest = hashlib.sha256(data).hexdigest()
        self.assertEqual(self.call("HEAD", f"blobs/sha256:{digest}")[1]["upload-offset"], "0")
        # A connection that breaks in the middle of a body.
        address = self.daemon.server["http"].removeprefix("http://").split(":")
        with socket.create_connection((address[0], int(address[1]))) as broken:
            broken.sendall(f"PATCH /attempt/v1/blobs/sha256:{digest} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.token}\r\nUpload-Offset: 0\r\n"
                           f"Upload-Length: {len(data)}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data[:100_000])
        status, headers, body = self.upload(data[:150_000], 0, digest, len(data))  # takes over from it
        self.assertIn(status, (204, 409))
        at = int(self.call("HEAD", f"blobs/sha256:{digest}")[1]["upload-offset"])
        self.assertGreater(at, 0)
        status, headers, body = self.upload(data, at + 1, digest)
        self.assertEqual((status, headers["upload-offset"], self.reason(body)), (409, str(at), "UPLOAD_OFFSET"))
        self.daemon.kill(signal.SIGKILL)
        self.daemon.start()
        self.assertEqual(self.call("HEAD", f"blobs/sha256:{digest}")[1]["upload-offset"], str(at))
        status, headers, body = self.upload(data, at, digest)
        self.assertEqual((status, headers["upload-offset"], headers["upload-complete"]), (204, str(len(data)), "?1"))
        self.assertEqual(self.call("HEAD", f"blobs/sha256:{digest}")[1]["upload-complete"], "?1")
        self.assertEqual(self.call("POST", "outputs/o", {"digest": f"sha256:{digest}", "kind": "file"})[0], 200)

    def test_wrong_bytes_are_dropped(self) -> None:
        right = hashlib.sha256(b"right").hexdigest()
        status, _, body = self.upload(b"wrong", 0, right)
        self.assertEqual((status, self.reason(body)), (422, "DIGEST_MISMATCH"))
        self.assertEqual(self.call("HEAD", f"blobs/sha256:{right}")[1]["upload-offset"], "0")
        self.assertEqual(self.upload(b"right")[0], 204)

    def test_sizes_at_and_past_the_limit(self) -> None:
        most = b"x" * (4 << 20)
        self.assertEqual(self.upload(most)[0], 204)
        status, _, body = self.upload(most + b"x")
        self.assertEqual((status, self.reason(body)), (413, "ARTIFACT_TOO_LARGE"))
        status, _, body = self.upload(b"longer", 0, "", 3)
        self.assertEqual((status, self.reason(body)), (400, "UPLOAD_TOO_LONG"))
        self.assertEqual(self.call("POST", "end", Content_Length=str((1 << 20) + 1))[0], 413)

    def test_what_is_refused(self) -> None:
        good = hashlib.sha256(b"here").hexdigest()
        self.assertEqual(self.upload(b"here")[0], 204)
        for method, path, body, status in (
                ("POST", "outputs/nothing", {"digest": f"sha256:{good}", "kind": "file"}, 404), ("POST", "outputs/o", {"digest": "sha256:12", "kind": "file"}, 400),
                ("POST", "outputs/o", {"digest": f"sha256:{good}", "kind": "pipe"}, 400), ("POST", "outputs/o", b"{", 400),
                ("POST", "outputs/o", {"digest": "sha256:" + "0" * 64, "kind": "file"}, 400), ("POST", "end", b"[]", 400), ("POST", "begin", {}, 400),
                ("POST", "begin", {"launcher": "x" * 301}, 400), ("DELETE", "inputs/f", b"", 405), ("GET", "nowhere", b"", 404),
                ("PATCH", f"blobs/sha256:{good}", b"x", 400), ("PATCH", "blobs/abc", b"x", 400)):
            self.assertEqual(self.call(method, path, body)[0], status, (method, path, body))
        # Nobody but the attempt itself.
        self.assertEqual(self.call("GET", "inputs/f", token=self.daemon.token)[0], 403)
        self.assertEqual(self.call("GET", "inputs/f", token="nonsense")[0], 401)

    def test_listings_that_lead_out_are_refused(self) -> None:
        file = hashlib.sha256(b"here").digest()
        self.assertEqual(self.upload(b"here")[0], 204)
        def entry(kind: str, path: str, content: bytes = b"") -> bytes:
            return f"{kind}-{len(path)}:{path}{len(content)}:".encode() + content
        for listing in (entry("f", "../x", file), entry("f", "/etc/x", file), entry("l", "a", b"/etc") + entry("f", "a/passwd", file),
                        entry("l", "a", b"../.."), entry("d", "b") + entry("f", "a", file), entry("f", "a", file) * 2, entry("f", "a/b", file),
                        entry("f", "a", file)[:-1], b"f-1:a999999:", entry("p", "a"), entry("f", "a\0b", file), entry("l", "a", b"x") + entry("d", "a/b")):
            data = b"folder\n" + listing
            self.assertEqual(self.upload(data)[0], 204)
            status, _, body = self.call("POST", "outputs/e", {"digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "kind": "folder"})
            self.assertEqual((status, self.reason(body)), (400, "LISTING_INVALID"), listing)
        missing = b"folder\n" + entry("f", "a", b"\1" * 32)
        self.assertEqual(self.upload(missing)[0], 204)
        status, _, body = self.call("POST", "outputs/e", {"digest": f"sha256:{hashlib.sha256(missing).hexdigest()}", "kind": "folder"})
        self.assertEqual((status, self.reason(body)), (400, "BLOB_NOT_DELIVERED"))

    def test_a_stale_attempt_delivers_nothing(self) -> None:
        self.assertEqual(self.upload(b"before")[0], 204)
        self.daemon.ctl("cancel-run", self.run_name, "--force")
        self.daemon.ctl("wait-run", self.run_name, code=5)
        for status in (self.upload(b"after")[0], self.call("GET", "inputs/f")[0], self.call("POST", "end", {"exit_code": 0})[0], self.call("POST", "alive")[0]):
            self.assertEqual(status, 401)

    def test_an_attempt_that_shares_files_has_no_task(self) -> None:
        seen = self.daemon.home / "near.env"
        path = self.daemon.file(f"name: near\nsteps:\n  - {{name: a, command: [sh, -c, 'echo $ORCH_TOKEN > {seen}; until test -e {seen}.go; do sleep 0.05; done']}}\n")
        run = self.daemon.ctl("submit", path).stdout.split()[0]
        wait_for("the step", lambda: seen.exists() and seen.read_text())
        for status, _, body in (self.call("POST", "begin", {"launcher": "x"}, token=seen.read_text().strip()),
                                self.call("PATCH", "blobs/sha256:" + "0" * 64, b"x", token=seen.read_text().strip(), Upload_Offset="0", Upload_Length="1")):
            self.assertEqual((status, self.reason(body)), (404, "TASK_NOT_FOUND"))
        Path(f"{seen}.go").touch()
        self.daemon.ctl("wait-run", run)


if __name__ == "__main__":
    unittest.main()
