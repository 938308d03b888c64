"""Size cliffs: what is too large is refused before any work, what is allowed is done in bounded memory."""
from __future__ import annotations

import unittest
from typing import Any

import grpc

from tests.bench.machine import memory_mib
from tests.hostile.attack import SANITIZED, survives
from tests.hostile.messages import calls
from tests.lib.daemon import Daemon, wait_for

MB = 1 << 20
TIMES = 4 if SANITIZED else 1
SECONDS = 5.0  # for /healthz: this process is busy too


class Sizes(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = Daemon("flavors: {fake: true}\n")
        cls.daemon.start()
        cls.addClassCleanup(cls.daemon.close)
        cls.daemon.ctl("register-orchestrator", "fake", "--flavor", "fake")
        cls.calls = {call.name.rsplit("/", 1)[1]: call for call in calls()}
        cls.channel = grpc.insecure_channel("unix:" + cls.daemon.server["grpc_unix"],
                                            [("grpc.max_receive_message_length", -1)])
        cls.addClassCleanup(cls.channel.close)

    def message(self, call: str) -> Any:
        return self.calls[call].request()

    def send(self, call: str, data: bytes) -> Any:
        method = self.calls[call]
        return self.channel.unary_unary(method.name, lambda x: x, method.response.FromString)(data, timeout=120)

    def refused(self, data: bytes, words: str) -> None:
        with self.assertRaises(grpc.RpcError) as caught:
            self.send("SubmitRun", data)
        error: Any = caught.exception
        self.assertEqual(error.code(), grpc.StatusCode.INVALID_ARGUMENT, error.details())
        self.assertIn(words, error.details())

    def pipeline(self) -> Any:
        message = self.message("SubmitRun")
        message.orchestrator = "fake"
        message.pipeline.name = "sizes"
        return message

    def step(self, message: Any, name: str) -> Any:
        step = message.pipeline.steps.add()
        step.name = name
        step.command.append("x")
        return step

    def ended(self, run: Any) -> str:
        self.daemon.ctl("wait-run", run.name, code=None, timeout=180)
        return self.daemon.state(run.name)

    def test_a_million_labels(self) -> None:
        message = self.pipeline()
        self.step(message, "a")
        for n in range(1_000_000):
            message.pipeline.labels[f"k{n}"] = "v"
        data = message.SerializeToString()
        with survives(self.daemon, "1,000,000 labels", 500 * MB * TIMES, SECONDS):
            self.refused(data, "labels: there are 1000000; at most 64")

    def test_a_parameter_of_100_mb(self) -> None:
        message = self.pipeline()
        self.step(message, "a")
        message.pipeline.parameters["x"].SetInParent()
        message.parameters["x"].string_value = "y" * (100 * MB)
        data = message.SerializeToString()
        with survives(self.daemon, "a parameter of 100 MB", 700 * MB * TIMES, SECONDS):
            self.refused(data, "at most 65536")

    def test_outputs_by_the_hundred_million(self) -> None:
        message = self.pipeline()
        step = self.step(message, "a")
        for n in range(1000):
            step.outputs[f"o{n}"].SetInParent()
        for key, width in (("k", 1000), ("l", 100)):
            item = step.foreach.add()
            item.key = key
            for n in range(width):
                item.values.values.add().number_value = n
        data = message.SerializeToString()
        with survives(self.daemon, "100,000,000 outputs", 50 * MB * TIMES, SECONDS):
            self.refused(data, "limit outputs_per_run")

    def test_a_chain_of_100000(self) -> None:
        message = self.pipeline()
        self.step(message, "s0")
        for n in range(1, 100_000):
            self.step(message, f"s{n}").after.append(f"s{n - 1}")
        data = message.SerializeToString()
        with survives(self.daemon, "a chain of 100,000 steps", 450 * MB * TIMES, SECONDS):
            run = self.send("SubmitRun", data)
            cancel = self.message("CancelRun")
            cancel.name = run.name
            self.send("CancelRun", cancel.SerializeToString())
            self.assertEqual(self.ended(run), "CANCELLED")
        message.pipeline.steps[0].after.append("s99999")
        data = message.SerializeToString()
        with survives(self.daemon, "a ring of 100,000 steps", 450 * MB * TIMES, SECONDS):
            self.refused(data, "wait for each other")

    @unittest.skipIf(SANITIZED, "a sanitizer keeps what is freed")
    def test_what_a_large_call_took_is_given_back(self) -> None:
        message = self.pipeline()
        message.validate_only = True
        for n in range(100_000):
            self.step(message, f"s{n}").env["N"] = f"{n:040}"
        data = message.SerializeToString()
        with Daemon("flavors: {fake: true}\n") as daemon:
            daemon.ctl("register-orchestrator", "fake", "--flavor", "fake")
            assert daemon.process is not None
            pid = daemon.process.pid
            before = memory_mib(pid)[0]
            with grpc.insecure_channel("unix:" + daemon.server["grpc_unix"], [("grpc.max_receive_message_length", -1)]) as channel:
                method = self.calls["SubmitRun"]
                channel.unary_unary(method.name, lambda x: x, method.response.FromString)(data, timeout=120)
            self.assertGreater(memory_mib(pid)[0], before + 150)
            wait_for("most of it to be given back", lambda: memory_mib(pid)[0] < before + 60, 60)

    def test_a_fan_in_of_10000(self) -> None:
        message = self.pipeline()
        wide = self.step(message, "wide")
        wide.outputs["v"].value = True
        wide.settings["fake"].update({"output": 1})
        item = wide.foreach.add()
        item.key = "k"
        for n in range(10_000):
            item.values.values.add().number_value = n
        self.step(message, "last").inputs["all"].__setattr__("from", "wide[*].v")
        data = message.SerializeToString()
        with survives(self.daemon, "a fan-in of 10,000", 200 * MB * TIMES, SECONDS):
            self.assertEqual(self.ended(self.send("SubmitRun", data)), "SUCCEEDED")

    def test_a_log_line_of_64_mb(self) -> None:
        text = """
name: log
steps:
  - {name: a, command: [/usr/bin/python3, -c, 'import sys; [sys.stdout.write("y" * (1 << 20)) for _ in range(64)]']}
"""
        with survives(self.daemon, "a log line of 64 MB", 100 * MB * TIMES, SECONDS):
            run = self.daemon.submit(text)
            self.daemon.ctl("wait-run", run)
            self.assertEqual(len(self.daemon.ctl("logs", run, "a").stdout.rstrip("\n")), 64 * MB)


if __name__ == "__main__":
    unittest.main()
