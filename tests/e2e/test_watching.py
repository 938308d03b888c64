"""WatchRuns with filters, tokens and slow readers; ListEvents; through the real daemon."""
import contextlib
import json
import re
import subprocess
import threading
import time
import unittest
from typing import Any, Iterator

import grpc

from tests.lib.api import Api, message
from tests.lib.daemon import BIN, Daemon, wait_for

TRUE = "name: {name}\nsteps:\n  - {{name: a, command: ['true']}}\n"
# One event for each instance, in one commit: a failure skips them all.
MANY = "name: many\nsteps:\n  - {{name: a, command: ['false']}}\n  - {{name: f, foreach: {{n: {items}}}, command: ['true'], after: [a]}}\n"
EVENTS = 100_000


def events_of(answer: Any) -> list[Any]:
    return list(answer.events.events) or ([answer.event] if answer.HasField("event") else [])


class Watching(unittest.TestCase):
    daemon: Daemon

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = Daemon("limits: {watch_patience_seconds: 5}\n")
        cls.addClassCleanup(cls.daemon.close)
        cls.daemon.start()
        cls.api = Api(cls.daemon)
        cls.addClassCleanup(cls.api.close)

    def now(self, **fields: Any) -> str:
        """A token of this moment."""
        stream = self.api.stream("RunService.WatchRuns", message("WatchRunsRequest", **fields))
        token = next(stream).resume_token
        stream.cancel()
        return str(token)

    def read(self, token: str, until: int, **fields: Any) -> Iterator[Any]:
        """Events behind the token up to sequence number `until`, which a bookmark or an event tells."""
        stream = self.api.stream("RunService.WatchRuns", message("WatchRunsRequest", resume_token=token, **fields))
        with contextlib.closing(stream) if hasattr(stream, "close") else contextlib.nullcontext():
            for answer in stream:
                yield from events_of(answer)
                if events_of(answer) and events_of(answer)[-1].sequence >= until:
                    break
        stream.cancel()

    def last_sequence(self) -> int:
        run = self.daemon.submit(TRUE.format(name="end-mark"), "--wait")
        return int(self.daemon.json("get-run", run)["last_sequence"])

    def test_only_what_passes_the_filter_comes(self) -> None:
        fields = {"filter": "pipeline=seen"}
        token, all_token = self.now(**fields), self.now()
        for name in ("seen", "unseen", "seen"):
            self.daemon.submit(TRUE.format(name=name), "--wait", "--label", "team=x")
        last = int(self.daemon.json("list-runs", "--limit", "1")["runs"][0]["last_sequence"])
        seen = list(self.read(token, last, **fields))
        every = list(self.read(all_token, last))
        self.assertEqual([e.sequence for e in seen], [e.sequence for e in every if e.run.startswith("seen-")])
        self.assertEqual(len({e.run for e in seen}), 2)
        ends = list(self.read(self.now_at(token, fields, "label.team=x AND state=SUCCEEDED"), last,
                              filter="label.team=x AND state=SUCCEEDED"))
        self.assertTrue(all(e.run_state == 6 for e in ends), ends)

    def now_at(self, token: str, fields: dict[str, Any], other: str) -> str:
        """A token for another filter at the beginning of the log: the old one is refused with it."""
        with self.assertRaises(grpc.RpcError) as refused:
            next(self.api.stream("RunService.WatchRuns", message("WatchRunsRequest", resume_token=token, filter=other)))
        self.assertEqual(refused.exception.code(), grpc.StatusCode.FAILED_PRECONDITION)
        self.assertEqual(fields, {"filter": "pipeline=seen"})
        fresh = self.now(filter=other)
        self.daemon.submit(TRUE.format(name="seen"), "--wait", "--label", "team=x")
        return fresh

    def test_a_snapshot_has_what_passes(self) -> None:
        for name in ("snap-a", "snap-b"):
            self.daemon.submit(TRUE.format(name=name), "--wait")
        for terms, expected in (("pipeline=snap-a", {"snap-a"}), ("name:snap- AND state=SUCCEEDED", {"snap-a", "snap-b"}),
                                ("pipeline=snap-a AND state=FAILED", set())):
            runs: set[str] = set()
            stream = self.api.stream("RunService.WatchRuns", message("WatchRunsRequest", snapshot=True, filter=terms))
            for answer in stream:
                runs |= {run.pipeline for run in answer.snapshot.runs}
                if answer.snapshot.last:
                    break
            stream.cancel()
            self.assertEqual(runs, expected, terms)

    def test_a_filter_without_an_index_is_refused(self) -> None:
        with self.assertRaises(grpc.RpcError) as refused:
            next(self.api.stream("RunService.WatchRuns", message("WatchRunsRequest", filter="priority=1")))
        self.assertEqual(refused.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertIn("pipeline=", refused.exception.details())

    def test_many_events_later_and_a_reader_that_does_not_read(self) -> None:
        token = self.now()
        run = self.daemon.submit(MANY.format(items=list(range(EVENTS))))
        self.daemon.ctl("wait-run", run, code=1)
        last = self.last_sequence()
        first = int(self.daemon.json("list-events", run, "--limit", "1")["events"][0]["sequence"])
        self.assertGreater(last - first, EVENTS)

        begin = time.monotonic()
        got = [event.sequence for event in self.read(token, last, batched=True)]
        took = time.monotonic() - begin
        self.assertEqual(got, list(range(got[0], got[-1] + 1)))
        self.assertGreater(len(got), EVENTS)
        print(f"{len(got)} events caught up with in {took:.2f} s")
        self.assertLess(took, 10)  # the bar is 1 s on a machine that does nothing else

        def open_streams() -> float:
            text = self.daemon.http("/metrics")[1].decode()
            return float(re.search(r"^orchd_watch_streams(?:\{\})? (\d+)", text, re.M)[1])  # type: ignore[index]

        held = self.daemon.memory()
        stream = self.api.stream("RunService.WatchRuns", message("WatchRunsRequest", resume_token=token))
        read = [event.sequence for _ in range(2) for event in events_of(next(stream))]
        wait_for("the reader to be ended", lambda: open_streams() == 0, 60)
        self.assertLess(self.daemon.memory() - held, 16 << 20)
        place = ""
        with self.assertRaises(grpc.RpcError) as ended:
            for answer in stream:
                read += [event.sequence for event in events_of(answer)]
                place = answer.resume_token
        self.assertEqual(ended.exception.code(), grpc.StatusCode.RESOURCE_EXHAUSTED, ended.exception.details())
        details = dict(ended.exception.trailing_metadata())["grpc-status-details-bin"]
        self.assertIn(b"READER_TOO_SLOW", details)
        token_in_status = re.search(rb"resume_token\x12.([A-Za-z0-9_=-]+)", details)
        self.assertIsNotNone(token_in_status)
        self.assertLess(len(read), EVENTS)
        for again in (place, token_in_status[1].decode()):  # type: ignore[index]
            rest = [event.sequence for event in self.read(again, last, batched=True)]
            self.assertLessEqual(rest[0], read[-1] + 1)
            whole = sorted(set(read) | set(rest))
            self.assertEqual(whole, list(range(whole[0], last + 1)))

    def test_orchctl_watches_and_lists(self) -> None:
        watcher = subprocess.Popen([str(BIN / "orchctl"), "watch-runs", "--filter", "pipeline=looked-at", "--count", "1",
                                    "-o", "json"], env=self.daemon.environment(), stdout=subprocess.PIPE, text=True)
        assert watcher.stdout is not None
        self.assertIn("bookmark", json.loads(watcher.stdout.readline()))
        run = self.daemon.submit(TRUE.format(name="looked-at"), "--wait")
        lines = [json.loads(line) for line in watcher.stdout.read().splitlines()]
        self.assertEqual(watcher.wait(20), 0)
        watcher.stdout.close()
        self.assertEqual([line["event"]["run"] for line in lines if "event" in line], [run])
        events = self.daemon.json("list-events", run, "--all")["events"]
        self.assertEqual([e["type"] for e in events][0], "RUN_SUBMITTED")
        types = self.daemon.json("list-events", run, "--type", "RUN_SUBMITTED", "--type", "RUN_STATE_CHANGED")["events"]
        self.assertEqual({e["type"] for e in types}, {"RUN_SUBMITTED", "RUN_STATE_CHANGED"})
        step = self.daemon.json("list-events", run, "--step", "a")["events"]
        self.assertEqual([e["sequence"] for e in step], [e["sequence"] for e in events if e["step"] == "a"])
        after = self.daemon.json("list-events", run, "--after", step[0]["sequence"], "--all")["events"]
        self.assertEqual([e["sequence"] for e in after],
                         [e["sequence"] for e in events if e["sequence"] > step[0]["sequence"]])
        self.assertIn("SUCCEEDED", self.daemon.ctl("list-events", run).stdout)
        for wrong in (("--type", "NO_SUCH"), ("--step", "a")):
            self.daemon.ctl("list-events", *wrong, code=8 if wrong[0] == "--type" else 8)
        self.daemon.ctl("list-events", run, "--step", "zz", code=3)

    def test_pages_of_events_belong_to_their_filter(self) -> None:
        run = self.daemon.submit(TRUE.format(name="paged"), "--wait")
        body = {"run": run, "filter": "type=STEP_STATE_CHANGED", "page_size": 1}
        seen, token = [], ""
        while True:
            status, text = self.daemon.http("/orch.v1.RunService/ListEvents", {**body, "page_token": token})
            self.assertEqual(status, 200, text)
            page = json.loads(text)
            self.assertLessEqual(len(page["events"]), 1)
            seen += [e["step_state"] for e in page["events"]]
            if not page.get("next_page_token"):
                break
            token = page["next_page_token"]
        self.assertEqual(seen[-1], "SUCCEEDED")
        status, text = self.daemon.http("/orch.v1.RunService/ListEvents", {"run": run, "page_size": 1, "page_token": token})
        self.assertEqual(status, 400, text)

    def test_waiters_hear_of_the_end_and_of_their_time(self) -> None:
        held = self.daemon.home / "held-wait"
        run = self.daemon.submit(f"name: w\nsteps:\n  - {{name: a, command: [sh, -c, 'until test -e {held}; do sleep 0.02; done']}}\n")
        status, text = self.daemon.http("/orch.v1.RunService/WaitRun", {"name": run, "timeout": "0.05s"})
        self.assertEqual((status, json.loads(text)["state"]), (200, "RUNNING"))
        answers: list[str] = []
        waiter = threading.Thread(target=lambda: answers.append(
            json.loads(self.daemon.http("/orch.v1.RunService/WaitRun", {"name": run, "timeout": "30s"})[1])["state"]))
        waiter.start()
        held.touch()
        waiter.join(30)
        self.assertEqual(answers, ["SUCCEEDED"])


if __name__ == "__main__":
    unittest.main()
