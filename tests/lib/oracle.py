"""What must be true of a daemon that is being killed, whatever the instant.

The traffic keeps a history: a request that was sent and not answered is pending, it may or may not have happened, and is
sent again with its request id until it is answered; then it must have happened, once. `check` compares the history, the
marks that the steps themselves left, the event log and what the API says.
"""
from __future__ import annotations

import hashlib
import os
import random
import re
import threading
import time
import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from tests.lib import dags
from tests.lib.api import Api, enum_name, message, pipeline
from tests.lib.daemon import Daemon, wait_for

TERMINAL_RUN = {"SUCCEEDED", "FAILED", "CANCELLED"}
TERMINAL_STEP = {"SUCCEEDED", "CACHED", "FAILED", "CANCELLED", "SKIPPED"}
AWAY = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNKNOWN}
POOLS = "pools:\n  - {name: gate, slots: 2}\n"


class Violation(AssertionError):
    pass


@dataclass
class Submission:
    name: str
    dag: dags.Dag
    request: Any
    run_id: str = ""  # empty: pending
    cancel: Any = None
    cancel_done: bool = False
    state_at_cancel: str = ""


@dataclass
class Seen:
    """One event, as far as two streams can be compared by it."""
    sequence: int
    words: tuple[Any, ...]

    @staticmethod
    def of(event: Any) -> "Seen":
        return Seen(event.sequence, (enum_name(event, "type"), event.run, event.step, enum_name(event, "run_state"),
                                     enum_name(event, "step_state"), event.attempt, event.artifact))


@dataclass
class Totals:
    runs: int = 0
    steps: int = 0
    attempts: int = 0
    lost: int = 0
    repeats: int = 0
    events: int = 0


class Watch(threading.Thread):
    """All events since the start, over any number of daemons by the resume token alone."""

    def __init__(self, oracle: "Oracle") -> None:
        super().__init__(daemon=True)
        self.oracle = oracle
        self.token = ""
        self.events: list[Seen] = []
        self.wrong = ""
        self.resumed = 0

    def run(self) -> None:
        while not self.oracle.ended:
            if not self.oracle.serving.wait(0.2):
                continue
            try:
                with Api(self.oracle.daemon) as api:
                    for answer in api.stream("RunService.WatchRuns", message("WatchRunsRequest", resume_token=self.token)):
                        if answer.resume_token:
                            self.token = answer.resume_token
                        if answer.WhichOneof("message") == "event":
                            self.take(answer.event)
            except grpc.RpcError as failure:
                if failure.code() not in AWAY:
                    self.wrong = f"WatchRuns: {failure.code()} {failure.details()}"
                    return
            except (KeyError, OSError, ValueError):
                pass  # the daemon is being replaced
            self.resumed += 1

    def take(self, event: Any) -> None:
        if self.events and event.sequence != self.events[-1].sequence + 1:
            self.wrong = f"WatchRuns: event {event.sequence} after {self.events[-1].sequence}"
        self.events.append(Seen.of(event))
        if enum_name(event, "type") == "RUN_STATE_CHANGED" and enum_name(event, "run_state") in TERMINAL_RUN:
            self.oracle.over.add(event.run)


class Traffic(threading.Thread):
    """Keeps a few runs open while it is on; sends what is pending again when the daemon is back."""

    def __init__(self, oracle: "Oracle", kinds: list[Any], open_runs: int) -> None:
        super().__init__(daemon=True)
        self.oracle = oracle
        self.kinds = kinds
        self.open_runs = open_runs
        self.on = threading.Event()
        self.limit = 1 << 30  # runs to make
        self.wrong: BaseException | None = None

    def run(self) -> None:
        oracle = self.oracle
        try:
            while not oracle.ended:
                if not oracle.serving.wait(0.2):
                    continue
                try:
                    with Api(oracle.daemon) as api:
                        self.talk(api)
                except grpc.RpcError as failure:
                    if failure.code() not in AWAY:
                        raise
                    wait_for("the daemon to be away or back", lambda: True)
                except (KeyError, ValueError):
                    pass
        except BaseException as error:  # told by the main thread
            self.wrong = error

    def talk(self, api: Api) -> None:
        oracle = self.oracle
        while not oracle.ended and oracle.serving.is_set():
            for one in oracle.open():
                oracle.advance(api, one)
            if self.on.is_set() and self.limit > 0 and len(oracle.open()) < self.open_runs:
                self.limit -= 1
                oracle.make(oracle.rng.choice(self.kinds))
            else:
                time.sleep(0.01)  # between two looks


@dataclass
class Oracle:
    daemon: Daemon
    rng: random.Random
    history: list[Submission] = field(default_factory=list)  # since the last check
    over: set[str] = field(default_factory=set)  # runs whose end the watch has seen
    checked_to: int = 0  # sequence
    supervisors_killed: int = 0  # since the last check
    totals: Totals = field(default_factory=Totals)
    ended: bool = False
    number: int = 0

    def __post_init__(self) -> None:
        self.serving = threading.Event()
        self.marks = self.daemon.home / "marks"
        self.marks.touch()
        self.daemon.ctl("apply", "-f", self.daemon.file(POOLS, "pools.yaml"), "--yes")
        with Api(self.daemon) as api:
            for event in api.pages("RunService.ListEvents", message("ListEventsRequest"), "events"):
                self.checked_to = event.sequence
        self.serving.set()
        self.watch = Watch(self)
        self.watch.start()
        wait_for("the watch to stand", lambda: self.watch.token)

    # --- the traffic's ---

    def open(self) -> list[Submission]:
        """Not ended, or not answered: it may have run to its end before it was."""
        return [one for one in self.history if one.name not in self.over or not one.run_id]

    def make(self, kind: Any) -> Submission:
        self.number += 1
        dag = kind(str(self.marks), self.rng)
        name = f"{dag.kind}-{self.number}"
        request = message("SubmitRunRequest", pipeline=pipeline(dag.described), name=name, request_id=uuid.uuid4().hex)
        request.submitter.environment["PATH"] = "/usr/bin:/bin"
        one = Submission(name, dag, request)
        self.history.append(one)
        return one

    def advance(self, api: Api, one: Submission) -> None:
        if not one.run_id:
            one.run_id = api.call("RunService.SubmitRun", one.request).id
            if self.rng.random() < 0.3:  # an answer may have been lost on its way for all the server knows
                self.totals.repeats += 1
                again = api.call("RunService.SubmitRun", one.request)
                if again.id != one.run_id:
                    raise Violation(f"{one.name}: the same request id made another run")
        if one.dag.cancel and not one.cancel_done:
            if one.cancel is None and f"B {one.name} " in self.marks.read_text():
                one.cancel = message("CancelRunRequest", name=one.name, request_id=uuid.uuid4().hex)
            if one.cancel is not None:
                answer = api.call("RunService.CancelRun", one.cancel)
                one.state_at_cancel = enum_name(answer, "state")
                one.cancel_done = True

    # --- the checks ---

    def look(self) -> None:
        """After a restart: what was acknowledged is there, and what had ended is as it was."""
        with Api(self.daemon) as api:
            for one in self.rng.sample(self.history, min(4, len(self.history))):
                if one.run_id:
                    run = api.call("RunService.GetRun", message("GetRunRequest", name=one.name))
                    self.expect(run.id == one.run_id, f"{one.name} has another id")
                    if one.name in self.over:
                        self.expect(enum_name(run, "state") in TERMINAL_RUN, f"{one.name} had ended and is open again")

    def expect(self, good: bool, what: str) -> None:
        if not good:
            raise Violation(what)

    def settle(self, traffic: Traffic, seconds: float = 90) -> None:
        """Nothing is killed now: all that was asked for comes to its end."""
        traffic.on.clear()

        def done() -> bool:
            if traffic.wrong:
                raise traffic.wrong
            self.expect(not self.watch.wrong, self.watch.wrong)
            return not self.open()

        try:
            wait_for("all runs to end", done, seconds)
        except AssertionError as late:
            raise Violation(f"{late}: {self.explain()}") from None
        self.check()

    def explain(self) -> str:
        said = []
        with Api(self.daemon) as api:
            for one in self.open()[:5]:
                if not one.run_id:
                    said.append(f"{one.name} is not answered")
                    continue
                run = api.call("RunService.GetRun", message("GetRunRequest", name=one.name))
                steps = api.pages("RunService.ListSteps", message("ListStepsRequest", run=one.name), "steps")
                said.append(f"{one.name} {enum_name(run, 'state')}: " + ", ".join(
                    f"{s.name} {enum_name(s, 'state')} {s.attempt} {s.message}" for s in steps
                    if enum_name(s, "state") not in TERMINAL_STEP))
        return "; ".join(said) + "\n" + self.daemon.log()[-3000:]

    def check(self) -> None:
        marks = self.read_marks()
        with Api(self.daemon) as api:
            for one in self.history:
                self.check_run(api, one, marks)
            self.check_events(api)
            self.check_rest(api)
        self.totals.runs += len(self.history)
        self.history.clear()
        self.over.clear()
        self.marks.write_text("")
        self.supervisors_killed = 0

    def read_marks(self) -> dict[str, list[tuple[int, str, str, int]]]:
        """By run: (line, B or E, step, attempt)."""
        out: dict[str, list[tuple[int, str, str, int]]] = defaultdict(list)
        for number, line in enumerate(self.marks.read_text().splitlines()):
            what, run, step, attempt = line.split(" ")
            self.expect(what in ("B", "E"), f"a step says: {line}")
            out[run].append((number, what, step, int(attempt)))
        return out

    def check_run(self, api: Api, one: Submission, all_marks: dict[str, Any]) -> None:
        run = api.call("RunService.GetRun", message("GetRunRequest", name=one.name))
        self.expect(run.id == one.run_id, f"{one.name} has another id")
        steps = {}
        for listed in api.pages("RunService.ListSteps", message("ListStepsRequest", run=one.name), "steps"):
            steps[listed.name] = api.call("RunService.GetStep", message("GetStepRequest", run=one.name, step=listed.name))
        where = f"{one.name} ({', '.join(n + ' ' + enum_name(s, 'state') for n, s in steps.items())})"
        state = enum_name(run, "state")
        allowed = {one.dag.run_state}
        if "once" in one.dag.behaviour.values() and self.supervisors_killed:
            allowed.add("FAILED")
        if one.dag.cancel and one.state_at_cancel in TERMINAL_RUN:
            allowed = {one.state_at_cancel}
        marks = all_marks.get(one.name, [])
        began = Counter((s, a) for _, what, s, a in marks if what == "B")
        ended = Counter((s, a) for _, what, s, a in marks if what == "E")
        twice = [k for k, n in (began + Counter()).items() if n > 1]
        self.expect(not twice, f"{where}: began more than once: {twice}")
        for step in steps.values():
            self.totals.steps += 1
            self.check_step(one, step, began, ended, where)
        self.expect(state in allowed, f"{where}: the run is {state}, not {allowed}")
        first = {s: min(n for n, what, t, _ in marks if t == s and what == "B") for _, w, s, _ in marks if w == "B"}
        last = {s: max(n for n, what, t, _ in marks if t == s and what == "E") for _, w, s, _ in marks if w == "E"}
        for producer, consumer in one.dag.edges:
            for up in (s for s in steps if producer in (s, re.sub(r"\[.*", "", s)) and s in last):
                for down in (s for s in steps if consumer in (s, re.sub(r"\[.*", "", s)) and s in first):
                    self.expect(last[up] < first[down], f"{where}: {down} began before {up} had ended")
        self.check_outputs(api, one, steps, where)

    def check_step(self, one: Submission, step: Any, began: Counter[Any], ended: Counter[Any], where: str) -> None:
        states = [enum_name(a, "state") for a in step.attempts]
        state = enum_name(step, "state")
        how = one.dag.behaviour.get(step.name) or one.dag.behaviour.get(step.template_name, "well")
        if how == "grows" and step.name != step.template_name:
            how = "well"
        told = f"{where}: {step.name} is {state} after {states}: {step.message}"
        self.totals.attempts += len(states)
        self.totals.lost += states.count("LOST")
        self.expect(self.supervisors_killed > 0 or "LOST" not in states, told + " (no supervisor was killed)")
        self.expect([a.number for a in step.attempts] == list(range(1, len(states) + 1)), told)
        final = states[-1] if states else ""
        before = set(states[:-1])
        ends = {"well": {("SUCCEEDED", "SUCCEEDED")}, "flaky": {("SUCCEEDED", "SUCCEEDED")},
                "once": {("SUCCEEDED", "SUCCEEDED"), ("FAILED", "LOST")},
                "cached": {("SUCCEEDED", "SUCCEEDED"), ("CACHED", "")},
                "stopped": {("CANCELLED", "CANCELLED"), ("CANCELLED", ""), ("CANCELLED", "LOST")},
                "halted": {("CANCELLED", "CANCELLED"), ("FAILED", "LOST"), ("SKIPPED", "LOST"), ("SKIPPED", "")},
                "never": {("CANCELLED", ""), ("SKIPPED", "")}, "grows": {("SUCCEEDED", "")},
                "timed_out": {("FAILED", "TIMED_OUT")}, "fails": {("FAILED", "FAILED")}}[how]
        self.expect((state, final) in ends, told)
        self.expect(before <= ({"LOST", "FAILED"} if how == "flaky" else {"LOST"}), told)
        if how == "flaky":
            self.expect("FAILED" not in states[2:], told)
        self.expect(states.count("SUCCEEDED") == (1 if state == "SUCCEEDED" and how != "grows" else 0), told)
        if state == "SUCCEEDED" and how != "grows":
            key = (step.name, len(states))
            self.expect(began[key] == 1 and ended[key] == 1, told + f": marks {began[key]} {ended[key]}")
        for name, number in began:
            self.expect(name != step.name or 1 <= number <= len(states), told + f": attempt {number} is on no record")

    def check_outputs(self, api: Api, one: Submission, steps: dict[str, Any], where: str) -> None:
        found = {}
        for artifact in api.pages("ArtifactService.ListArtifacts", message("ListArtifactsRequest", run=one.name), "artifacts"):
            found.setdefault((artifact.step, artifact.output), artifact)  # newest first
        for (name, output), expected in one.dag.files.items():
            if enum_name(steps[name], "state") not in ("SUCCEEDED", "CACHED"):
                continue
            artifact = found.get((name, output))
            self.expect(artifact is not None, f"{where}: {name} has no {output}")
            digest = "sha256:" + hashlib.sha256(expected).hexdigest()
            self.expect(artifact.digest == digest and artifact.size == len(expected), f"{where}: {name}.{output} differs")
            if self.rng.random() < 0.2:
                read = api.call("ArtifactService.ReadArtifact", message("ReadArtifactRequest", name=artifact.id,
                                                                        max_bytes=4 << 20))
                self.expect(read.data == expected, f"{where}: the bytes of {name}.{output} differ")
        for (name, output), value in one.dag.values.items():
            artifact = found.get((name, output))
            got = [v.number_value for v in artifact.value.list_value.values] if artifact is not None else None
            self.expect(got == value, f"{where}: {name}.{output} is {got}, not {value}")
        for name, expected in one.dag.logs.items():
            if enum_name(steps[name], "state") != "SUCCEEDED":
                continue
            read = api.call("LogService.ReadLogs", message("ReadLogsRequest", run=one.name, step=name, max_bytes=4 << 20))
            self.expect(read.data == expected and read.end, f"{where}: the log of {name} has {len(read.data)} bytes, "
                        f"not {len(expected)}")

    def check_events(self, api: Api) -> None:
        listed = []
        runs: dict[str, str] = {}
        steps: dict[tuple[str, str], str] = {}
        for event in api.pages("RunService.ListEvents", message("ListEventsRequest", after_sequence=self.checked_to), "events"):
            seen = Seen.of(event)
            kind, run, step, run_state, step_state = seen.words[:5]
            self.expect(seen.sequence == self.checked_to + len(listed) + 1, f"ListEvents: a gap before {seen.sequence}")
            listed.append(seen)
            self.expect(runs.get(run) not in TERMINAL_RUN, f"event {seen.sequence}: {run} had ended: {seen.words}")
            if kind == "RUN_STATE_CHANGED":
                runs[run] = run_state
            elif kind == "STEP_STATE_CHANGED":
                self.expect(steps.get((run, step)) not in TERMINAL_STEP,
                            f"event {seen.sequence}: {run} {step} had ended: {seen.words}")
                steps[run, step] = step_state
        if listed:
            last = listed[-1].sequence
            wait_for("the watch to come to the end", lambda: self.watch.wrong or (
                self.watch.events and self.watch.events[-1].sequence >= last))
        self.expect(not self.watch.wrong, self.watch.wrong)
        watched = self.watch.events[:len(listed)]
        del self.watch.events[:len(listed)]
        self.expect(watched == listed, "WatchRuns and ListEvents differ: " + str(next(
            ((w, e) for w, e in zip(watched, listed) if w != e), (len(watched), len(listed)))))
        self.checked_to += len(listed)
        self.totals.events += len(listed)

    def check_rest(self, api: Api) -> None:
        """Nothing is left, and every slot has come back: one step that needs them all starts."""
        wait_for("no attempt to be live", lambda: api.call(
            "AdminService.GetServerInfo", message("GetServerInfoRequest")).live_attempts == 0)
        cpus = len(os.sched_getaffinity(0))
        self.number += 1
        request = message("SubmitRunRequest", request_id=uuid.uuid4().hex, name=f"all-{self.number}", pipeline=pipeline(
            {"name": "all", "steps": [{"name": "a", "command": ["/bin/true"], "resources": {"cpu": cpus}, "pools": {"gate": 2}}]}))
        api.call("RunService.SubmitRun", request)
        wait = message("WaitRunRequest", name=request.name)
        wait.timeout.seconds = 20
        run = api.call("RunService.WaitRun", wait, timeout=30)
        self.expect(enum_name(run, "state") == "SUCCEEDED", f"a step that needs all slots: {run}")
        wait_for("no process to be left", lambda: not self.processes(), 10)

    def processes(self) -> list[str]:
        """What has a folder of this data directory in its environment."""
        mark = f"\0ORCH_SCRATCH={self.daemon.data}/".encode()
        left = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if mark in b"\0" + (entry / "environ").read_bytes():
                        left.append((entry / "cmdline").read_bytes().decode(errors="replace"))
                except OSError:
                    pass
        return left
