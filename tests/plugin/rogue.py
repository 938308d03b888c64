"""A plug-in that misbehaves as its name says; a double, to see what the daemon makes of it.

Its jobs end at once and well; what it "ran" is one line in its state folder for each execution.
"""
from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, Iterator

import grpc
import orch_plugin
from orch.backend.v1 import job_pb2 as jp
from orch.backend.v1 import plugin_pb2 as pb
from orch.backend.v1 import plugin_pb2_grpc

SCHEMA = '{"type": "object", "additionalProperties": false, "properties": {"n": {"type": "integer", "maximum": 5}}}'


class Rogue(plugin_pb2_grpc.BackendPluginServicer):
    def __init__(self, vice: str, state: Path) -> None:
        self.vice = vice
        self.state = state
        self.lock = threading.Lock()
        self.calls = 0

    def once(self) -> bool:
        """True the first time in the life of the orchestrator."""
        try:
            (self.state / "once").touch(exist_ok=False)
            return True
        except FileExistsError:
            return False

    def hang(self, context: Any) -> None:
        while context.is_active():
            time.sleep(0.05)

    def Describe(self, request: Any, context: Any) -> pb.DescribeResponse:
        protocols = {"other-protocol": [7], "liar": [7]}.get(self.vice, [1])
        schema = '{"type": "object", "oneOf": []}' if self.vice == "bad-schema" else SCHEMA
        name = "no good name" if self.vice == "bad-schema" else "rogue"
        return pb.DescribeResponse(protocols=protocols, flavor=name, config_schema_json=schema, settings_schema_json=SCHEMA,
                                   capabilities=pb.Capabilities(watches=self.vice.startswith("flood"), poll_micros=100_000,
                                                                validates=self.vice == "validates",
                                                                log_streams=1 if self.vice == "slow-logs" else 0))

    def Configure(self, request: Any, context: Any) -> pb.ConfigureResponse:
        if self.vice == "hang-configure":
            self.hang(context)
        if self.vice == "refuse-configure":
            return pb.ConfigureResponse(faults=[pb.FieldFault(field="n", message="is not to my taste")])
        if self.vice in ("bad-workspace", "apart"):
            root = "here" if self.vice == "bad-workspace" else "/tmp"
            return pb.ConfigureResponse(remote_workspace=pb.RemoteWorkspace(root=root, launcher="/no/launcher"))
        return pb.ConfigureResponse()

    def Validate(self, request: Any, context: Any) -> pb.ValidateResponse:
        return pb.ValidateResponse(faults=[pb.FieldFault(field="n", message="1 is taken")] if '"n":1' in request.settings_json else [])

    def run(self, key: str) -> None:
        with self.lock:
            known = self.state / "known"
            if key in (known.read_text().split() if known.exists() else []):
                return
            with known.open("a") as out:
                out.write(key + "\n")
            with (self.state / "ran").open("a") as out:
                out.write(key + "\n")

    def seen(self, key: str) -> jp.Observation:
        out = jp.Observation(key=key, phase=jp.ENDED, end=jp.End(exit_code=0), started_micros=1)
        if self.vice == "unknown-phase":
            out.phase = 17  # type: ignore[assignment]
        if self.vice == "no-end":
            out.ClearField("end")
        return out

    def known(self) -> list[str]:
        path = self.state / "known"
        return path.read_text().split() if path.exists() else []

    def Submit(self, request: Any, context: Any) -> pb.SubmitResponse:
        if self.vice == "unknown-outcome":
            return pb.SubmitResponse(results=[pb.SubmitResult(key=j.name.key, outcome=99) for j in request.jobs])
        if self.vice == "refuse-once" and self.once():
            return pb.SubmitResponse(results=[pb.SubmitResult(key=j.name.key, outcome=pb.SubmitResult.REFUSED_FOR_NOW,
                                                              message="come back later") for j in request.jobs])
        if self.vice == "fail-once" and self.once():
            context.abort(grpc.StatusCode.INTERNAL, "I broke")
        if self.vice == "hang-before" and self.once():
            self.hang(context)
        for job in request.jobs:
            self.run(job.name.key)
        if self.vice == "hang-after" and self.once():
            self.hang(context)
        if self.vice == "die-after" and self.once():
            os.kill(os.getpid(), 9)
        if self.vice == "forget":
            return pb.SubmitResponse()
        if self.vice == "others":
            return pb.SubmitResponse(results=[pb.SubmitResult(key="somebody-elses", outcome=pb.SubmitResult.ACCEPTED)])
        return pb.SubmitResponse(results=[pb.SubmitResult(key=j.name.key, outcome=pb.SubmitResult.ACCEPTED,
                                                          observation=self.seen(j.name.key)) for j in request.jobs])

    def Find(self, request: Any, context: Any) -> pb.FindResponse:
        known = self.known()
        results = []
        for job in request.jobs:
            if job.key in known:
                results.append(pb.FindResult(key=job.key, answer=pb.FindResult.FOUND, observation=self.seen(job.key)))
            else:
                results.append(pb.FindResult(key=job.key, answer=pb.FindResult.NOT_FOUND))
        return pb.FindResponse(results=results)

    def Observe(self, request: Any, context: Any) -> pb.ObserveResponse:
        if self.vice == "huge" and self.once():
            return pb.ObserveResponse(observations=[jp.Observation(key="x", phase=jp.QUEUED, message="m" * (1 << 20))])
        return pb.ObserveResponse(observations=[self.seen(key) for key in self.known()])

    def Watch(self, request: Any, context: Any) -> Iterator[pb.WatchResponse]:
        yield pb.WatchResponse(observations=[self.seen(key) for key in self.known()])
        sent = 0
        while context.is_active():
            yield pb.WatchResponse(observations=[jp.Observation(key=f"k{i}", phase=jp.QUEUED) for i in range(20)])
            sent += 1
            (self.state / "sent").write_text(str(sent))

    def Cancel(self, request: Any, context: Any) -> pb.CancelResponse:
        return pb.CancelResponse()

    def Release(self, request: Any, context: Any) -> pb.ReleaseResponse:
        with self.lock:
            gone = {job.key for job in request.jobs}
            left = [key for key in self.known() if key not in gone]
            (self.state / "known").write_text("".join(key + "\n" for key in left))
        return pb.ReleaseResponse()

    def Logs(self, request: Any, context: Any) -> Iterator[pb.LogsResponse]:
        if self.vice == "gap" and request.stdout_offset == 0:
            yield pb.LogsResponse(stream=pb.LogsResponse.STDOUT, offset=5, data=b"later")
        if self.vice == "slow-logs":
            time.sleep(0.15)  # as long as a file system takes that has much to do
            if request.stdout_offset == 0:
                yield pb.LogsResponse(stream=pb.LogsResponse.STDOUT, offset=0, data=b"its word\n")
        yield pb.LogsResponse(stream=pb.LogsResponse.STDOUT, offset=request.stdout_offset, data=b"")
        yield pb.LogsResponse(complete=True)

    def Probe(self, request: Any, context: Any) -> pb.ProbeResponse:
        if self.vice == "hang-probe":
            self.hang(context)
        if self.vice == "away" and not (self.state / "back").exists():
            return pb.ProbeResponse(healthy=False, message="the platform is on holiday")
        return pb.ProbeResponse(healthy=True)

    def Shutdown(self, request: Any, context: Any) -> pb.ShutdownResponse:
        return pb.ShutdownResponse()


def main(vice: str) -> None:
    if vice == "crash":
        print("I cannot find my platform", file=sys.stderr)
        sys.exit(3)
    if vice == "silent":
        sys.stdin.buffer.read()
        return
    if vice == "chatty":
        print("Hello, I am a plug-in!", flush=True)
    if vice == "scribbler":
        def scribble() -> None:
            for _ in range(2000):
                sys.stderr.write("x" * 1023 + "\n")
            sys.stderr.flush()
        threading.Thread(target=scribble, daemon=True).start()
    orch_plugin.serve(Rogue(vice, orch_plugin.state_dir()))
