"""The sample plug-in alone, asked by many at once: a job that is released while others look at all of them is gone."""
from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

import grpc

from tests.lib.daemon import BIN

sys.path.insert(0, str(BIN.parent / "plugins/python"))
from orch.backend.v1 import job_pb2, plugin_pb2, plugin_pb2_grpc  # noqa: E402

SAMPLE = BIN.parent / "plugins/sample/orch-sample"
JOBS = 60
ME = (("orch-token", "secret"),)


class Released(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory(prefix="orchd-sample-")
        self.addCleanup(scratch.cleanup)
        self.folder = Path(scratch.name)
        (self.folder / "state").mkdir()
        self.plugin = subprocess.Popen([SAMPLE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={
            **os.environ, "ORCH_PLUGIN_STATE": str(self.folder / "state"), "ORCH_PLUGIN_SOCKET": str(self.folder / "socket"), "ORCH_PLUGIN_TOKEN": "secret"})
        self.addCleanup(self.end)
        assert self.plugin.stdout is not None
        self.plugin.stdout.readline()

    def end(self) -> None:
        assert self.plugin.stdin is not None and self.plugin.stdout is not None
        self.plugin.stdin.close()
        self.plugin.wait(60)
        self.plugin.stdout.close()

    def connect(self) -> plugin_pb2_grpc.BackendPluginStub:
        channel = grpc.insecure_channel(f"unix:{self.folder}/socket", options=[("grpc.use_local_subchannel_pool", 1)])
        self.addCleanup(channel.close)
        return plugin_pb2_grpc.BackendPluginStub(channel)

    def test_it_does_not_run_again(self) -> None:
        over = threading.Event()

        def look(stub: plugin_pb2_grpc.BackendPluginStub) -> None:
            while not over.is_set():
                stub.Observe(plugin_pb2.ObserveRequest(), metadata=ME)

        lookers = [threading.Thread(target=look, args=(self.connect(),)) for _ in range(3)]
        self.addCleanup(lambda: [thread.join(60) for thread in lookers])
        self.addCleanup(over.set)
        for thread in lookers:
            thread.start()
        stub = self.connect()
        for number in range(JOBS):
            key = f"job-{number}"
            job = job_pb2.Job(command=["/bin/sh", "-c", f"echo x >> {self.folder}/{key}"], working_dir="/", scratch_dir=str(self.folder / "work"),
                              output_dir=str(self.folder / "work"))
            job.name.key = key
            stub.Submit(plugin_pb2.SubmitRequest(jobs=[job]), metadata=ME)
            known = plugin_pb2.KnownJob(key=key)
            until = time.monotonic() + 60
            while stub.Find(plugin_pb2.FindRequest(jobs=[known]), metadata=ME).results[0].observation.phase != job_pb2.ENDED:
                self.assertLess(time.monotonic(), until)
            for more in range(30):  # what takes a while to be removed
                (self.folder / f"state/jobs/{key}/{more}").touch()
            stub.Release(plugin_pb2.ReleaseRequest(jobs=[known]), metadata=ME)
        self.assertEqual(os.listdir(self.folder / "state/jobs"), [])
        self.assertEqual({(self.folder / f"job-{number}").read_text() for number in range(JOBS)}, {"x\n"})


if __name__ == "__main__":
    unittest.main()
