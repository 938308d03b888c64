"""Random messages at every call, over gRPC and over HTTP: refused or answered, never INTERNAL, and with a wrong token
never anything but UNAUTHENTICATED."""
from __future__ import annotations

import json
import os
import random
import time
import unittest
from collections import Counter
from typing import Any

import grpc
from google.protobuf import json_format

from tests.hostile.attack import SANITIZED, SEED, survives
from tests.hostile.messages import Call, Generator, calls
from tests.lib.daemon import Daemon

ROUNDS = int(os.environ.get("ORCH_TEST_ROUNDS", "60" if SANITIZED else "150"))
NEVER = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}
CONFIG = "flavors: {fake: true}\nlimits: {steps_per_run: 2000, fanout_width: 500}\n"
PIPELINE = """
name: after
steps:
  - {name: a, command: [sh, -c, 'echo hello > "$0"', "${outputs.o}"], outputs: {o: {}}}
  - {name: b, command: [cat, "${inputs.x}"], inputs: {x: a.o}}
"""


class Messages(unittest.TestCase):
    def setUp(self) -> None:
        print(f"\nseed {SEED} (ORCH_TEST_SEED), {ROUNDS} messages for each call (ORCH_TEST_ROUNDS)", flush=True)
        self.daemon = Daemon(CONFIG)
        self.daemon.start()
        self.addCleanup(self.daemon.close)
        self.daemon.ctl("register-orchestrator", "fake", "--flavor", "fake")
        self.generator = Generator(random.Random(SEED))

    def channel(self, kind: str) -> grpc.Channel:
        target = self.daemon.server["grpc"] if kind == "tcp" else "unix:" + self.daemon.server["grpc_unix"]
        channel = grpc.insecure_channel(target)
        self.addCleanup(channel.close)
        return channel

    def send(self, channel: grpc.Channel, call: Call, data: bytes, token: str, seconds: float,
             decodable: bool = True) -> grpc.StatusCode:
        metadata = [("authorization", f"Bearer {token}")] if token else []
        try:
            if call.streams:
                stream = channel.unary_stream(call.name, lambda x: x, call.response.FromString)(
                    data, metadata=metadata, timeout=seconds)
                for number, _ in enumerate(stream):
                    if number > 50:
                        stream.cancel()
                        break
            else:
                channel.unary_unary(call.name, lambda x: x, call.response.FromString)(
                    data, metadata=metadata, timeout=seconds)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()  # type: ignore[attr-defined]
            if not decodable and not error.details():  # type: ignore[attr-defined]
                return code  # gRPC's own INTERNAL: no handler has seen it
            self.assertNotIn(code, NEVER, f"{call.name}: {error.details()}\n{data!r}")  # type: ignore[attr-defined]
            return code
        return grpc.StatusCode.OK

    def still_works(self) -> None:
        self.daemon.ctl("register-orchestrator", "afterwards", "--flavor", "local", "--config", "cpus=2")
        steps = self.daemon.run(PIPELINE, "--orchestrator", "afterwards")
        self.assertEqual({name: step["state"] for name, step in steps.items()}, {"a": "SUCCEEDED", "b": "SUCCEEDED"})
        self.daemon.restart()  # whatever was stored can be read again
        self.assertEqual(self.daemon.run(PIPELINE, "--orchestrator", "afterwards")["b"]["state"], "SUCCEEDED")

    def test_grpc(self) -> None:
        channel = self.channel("unix")
        seen: dict[str, Counter[str]] = {}
        with survives(self.daemon, "random messages", growth=(2048 if SANITIZED else 256) << 20):
            for turn in range(ROUNDS):
                for call in calls():
                    data = self.generator.message(call).SerializeToString()
                    waits = call.streams or call.name.endswith("/WaitRun")
                    if waits and turn >= 20:
                        continue
                    code = self.send(channel, call, data, "", 0.05 if waits else 10)
                    seen.setdefault(call.name, Counter())[code.name] += 1
        for name, codes in sorted(seen.items()):
            print(f"  {name}: {dict(codes)}", flush=True)
            self.assertNotIn("DEADLINE_EXCEEDED", codes if not name.endswith(("WaitRun", "WatchRuns", "TailLogs")) else {})
        for must in ("ListRuns", "SubmitRun", "GetServerInfo", "RegisterPipeline", "SetPool"):
            codes = next(codes for name, codes in seen.items() if name.endswith("/" + must))
            self.assertGreater(codes["OK"], 0, f"{must} was never answered: the messages are too bad to test anything")
        self.still_works()

    def test_wrong_tokens(self) -> None:
        channel = self.channel("tcp")
        for call in calls():
            for token in ("", "x", self.daemon.token[:-1], self.daemon.token + "A", "é".encode().hex(), "A" * 4000):
                data = self.generator.message(call).SerializeToString()
                self.assertEqual(self.send(channel, call, data, token, 10), grpc.StatusCode.UNAUTHENTICATED,
                                 f"{call.name} with token {token[:20]!r}")
                path = call.name
                status, _ = self.daemon.http(path, {}, token=token or None)
                self.assertEqual(status, 401, path)

    def test_bytes_that_are_no_message(self) -> None:
        channel = self.channel("unix")
        with survives(self.daemon, "bytes that are no message"):
            for call in calls():
                whole = self.generator.message(call).SerializeToString()
                for data in self.generator.mutations(whole, 20):
                    self.send(channel, call, data, "", 0.05, decodable=False)
        self.still_works()

    def test_json(self) -> None:
        until = time.monotonic() + (60 if SANITIZED else 20)
        statuses: Counter[int] = Counter()
        with survives(self.daemon, "random JSON", growth=(1024 if SANITIZED else 256) << 20):
            for turn in range(ROUNDS):
                for call in calls():
                    if call.name.endswith("/WaitRun") and turn >= 5:
                        continue
                    status, body = self.daemon.http(call.name, self.body(call), headers={"Connect-Timeout-Ms": "100"})
                    statuses[status] += 1
                    self.assertNotIn(status, (500, 502), f"{call.name}: {body!r}")
                    self.assertIn(status, (200, 400, 401, 403, 404, 409, 429, 499, 501, 503, 504))
                    answer: Any = json.loads(body)
                    if status != 200:
                        self.assertNotIn(answer["code"], ("internal", "unknown", "data_loss"))
                if time.monotonic() > until:
                    break
        print(f"  {dict(statuses)}", flush=True)
        self.still_works()

    def body(self, call: Call) -> Any:
        """The message as JSON, with one thing about it changed."""
        body = json.loads(json_format.MessageToJson(self.clean(self.generator.message(call)),
                                                    preserving_proto_field_name=True))
        if self.generator.rng.random() < 0.3 and body:
            key = self.generator.rng.choice(sorted(body))
            body[key] = self.generator.rng.choice((None, [], {}, 1e300, "x", [[]], {"a": 1}, -1, True))
        return body

    def clean(self, message: Any) -> Any:
        """Without what JSON cannot say: numbers that are none, durations out of range."""
        try:
            json_format.MessageToJson(message)
            return message
        except (json_format.Error, ValueError, OverflowError):
            return type(message)()


if __name__ == "__main__":
    unittest.main()
