"""What the plug-in knows: a folder for each job and for each batch, which every node sees, and what Slurm says of them.

    jobs/KEY/     run (the command), batch (its batch and its place there), stop (a Cancel came; its grace),
                  root (the folder of one that a launcher runs), again (how often it was lost by the controller);
                  from the node: began/node, out, err, exit
    batches/B/    keys (one a line), options (of sbatch), script, job (Slurm's id, once known), void (it may not begin any more)

A job is in a batch before the batch is submitted, so whoever comes later can find out what became of it. Only the batch that
its file names can begin it, and once.
"""
from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from commands import Queue, Refused, Row, Slurm, SlurmError, Unsure
from ends import BY_ITSELF, FINAL, how
from files import sync_all, text_of, time_of, write
from orch.backend.v1 import job_pb2 as jp
from orch.backend.v1 import plugin_pb2 as pb
from script import batch_script, job_script

AGAIN = 3  # times that a job which the controller forgets before it begins is submitted again
FEW = 8  # jobs of a submission whose files are synced one by one; what else is on their file system may be much


@dataclass
class Place:
    batch: str
    index: int


class Jobs:
    def __init__(self, slurm: Slurm, folder: Path, settle: float, fresh: float) -> None:
        self.slurm = slurm
        self.jobs = folder / "jobs"
        self.batches = folder / "batches"
        self.settle = settle
        self.fresh = fresh  # seconds that one look at the queue counts
        for path in (self.jobs, self.batches):
            path.mkdir(parents=True, exist_ok=True)
        self.kept_keys: dict[str, list[str]] = {}  # batch → what its files say, which stays as it is
        self.kept_numbers: dict[str, int] = {}
        self._sweep()
        self.lock = threading.Lock()
        self.submitting: set[str] = set()  # keys
        self.ended: dict[str, jp.Observation] = {}  # what was said of an end is said again
        self.look = threading.Lock()
        self.seen = Queue()
        self.seen_at = 0.0
        self.trouble = ""
        self.missing: dict[str, float] = {}  # key → since when the controller does not show it
        self.silent: dict[str, float] = {}  # key → since when it has ended by itself and its exit code is not seen
        self.nodes: set[str] = set()  # that answer
        self.nodes_at = 0.0
        self.forgotten: dict[str, set[str]] = {}  # batch → keys: they never began, and the controller does not know them

    def _sweep(self) -> None:
        """What a plug-in that was killed had half made, and never submitted, or half cleaned up."""
        for folder in self.jobs.iterdir():
            if self.place(folder.name) is None:
                shutil.rmtree(folder, ignore_errors=True)
        for batch in self.batches.iterdir():
            if not any((self.jobs / key).exists() for key in self.keys(batch.name)):
                shutil.rmtree(batch, ignore_errors=True)

    # --- submitting ---

    def submit(self, group: list[jp.Job], options: list[str], seconds: float) -> list[pb.SubmitResult]:
        """One submission for all of them, which want the same of Slurm."""
        answers = []
        fresh = []
        known = []
        with self.lock:
            for job in group:
                key = job.name.key
                if key in self.submitting:
                    answers.append(pb.SubmitResult(key=key, outcome=pb.SubmitResult.UNKNOWN, message="it is being submitted"))
                elif self.place(key):
                    known.append(key)
                else:
                    self.submitting.add(key)
                    fresh.append(job)
        answers += [self._known(key) for key in known]
        try:
            if fresh:
                answers += self._submit(fresh, options, seconds)
        finally:
            with self.lock:
                self.submitting.difference_update(job.name.key for job in fresh)
        return answers

    def _known(self, key: str) -> pb.SubmitResult:
        found = self.find_all([key])[0]
        if found.answer == pb.FindResult.FOUND:
            return pb.SubmitResult(key=key, outcome=pb.SubmitResult.ACCEPTED, observation=found.observation)
        return pb.SubmitResult(key=key, outcome=pb.SubmitResult.UNKNOWN, message="it was submitted before, and Slurm does not show it yet")

    def _submit(self, group: list[jp.Job], options: list[str], seconds: float) -> list[pb.SubmitResult]:
        keys = [job.name.key for job in group]
        for job in group:
            folder = self.jobs / job.name.key
            folder.mkdir(exist_ok=True)
            write(folder / "run", job_script(job), sync=len(group) <= FEW)
            if job.root_dir:
                write(folder / "root", job.root_dir, sync=len(group) <= FEW)
        first = group[0].name
        name = secrets.token_hex(8)
        try:
            number = self._sbatch(name, keys, options, f"run={first.run_name} step={first.step}", seconds)
        except Refused as error:
            self._undo(self.batches / name, keys)
            outcome = pb.SubmitResult.REFUSED if error.permanent else pb.SubmitResult.REFUSED_FOR_NOW
            return [pb.SubmitResult(key=key, outcome=outcome, reason=jp.UNSCHEDULABLE, message=str(error)) for key in keys]
        except Unsure as error:
            return [pb.SubmitResult(key=key, outcome=pb.SubmitResult.UNKNOWN, message=str(error)) for key in keys]
        array = len(group) > 1
        return [pb.SubmitResult(key=key, outcome=pb.SubmitResult.ACCEPTED, observation=jp.Observation(
            key=key, phase=jp.QUEUED, handle=f"{name} {index}".encode(),
            external_id=f"{number}_{index}" if array else str(number))) for index, key in enumerate(keys)]

    def _sbatch(self, name: str, keys: list[str], options: list[str], about: str, seconds: float) -> int:
        """Submits a new batch of jobs whose folders are there; Slurm's id. Refused, or Unsure."""
        batch = self.batches / name
        batch.mkdir()
        write(batch / "keys", "".join(key + "\n" for key in keys))
        write(batch / "options", json.dumps([options, about]))
        write(batch / "script", batch_script(batch, self.jobs))
        for index, key in enumerate(keys):
            write(self.jobs / key / "batch", f"{name} {index}", sync=len(keys) <= FEW)
        if len(keys) > FEW:
            sync_all(self.jobs)
        if len(keys) > 1:
            options = [*options, f"--array=0-{len(keys) - 1}"]
        number = self.slurm.submit(options, f"orch:{name} {about}"[:200], batch / "script", seconds)
        write(batch / "job", str(number))
        return number

    def submit_forgotten(self, seconds: float) -> None:
        """A controller that is killed forgets what it has not saved. What had not begun is submitted again, under the same key:
        its old batch can begin it no more, should it come up after all.
        """
        forgotten, self.forgotten = self.forgotten, {}
        for old, lost in forgotten.items():
            with self.lock:
                keys = [key for key in self.keys(old) if key in lost and key not in self.submitting and key not in self.ended
                        and self.place(key) is not None and not any((self.jobs / key / made).exists() for made in ("began", "stop"))]
                self.submitting.update(keys)
            try:
                if keys:
                    self._submit_again(old, keys, seconds)
            finally:
                with self.lock:
                    self.submitting.difference_update(keys)

    def _submit_again(self, old: str, keys: list[str], seconds: float) -> None:
        places = {key: text_of(self.jobs / key / "batch") for key in keys}
        try:
            options, about = json.loads(text_of(self.batches / old / "options"))
        except ValueError:
            return
        name = secrets.token_hex(8)
        losses = {key: self.lost_before(key) for key in keys}
        for key in keys:
            write(self.jobs / key / "again", str(losses[key] + 1), sync=len(keys) <= FEW)
        try:
            self._sbatch(name, keys, options, about, seconds)
        except Refused as error:
            for key in keys:
                write(self.jobs / key / "batch", places[key], sync=len(keys) <= FEW)
                write(self.jobs / key / "again", str(losses[key]), sync=len(keys) <= FEW)  # a refusal is none
                self.missing[key] = time.monotonic()  # it is tried again after a while
                if error.permanent:
                    end = jp.End(never_started=True, reason=jp.UNSCHEDULABLE, message=f"slurmctld had forgotten it, and takes it no more: {error}")
                    self.ended[key] = jp.Observation(key=key, phase=jp.ENDED, end=end, handle=places[key].encode())
            self._drop(name)
            return
        except Unsure:
            pass  # it comes up, or is missed in its turn
        for key in keys:
            self.missing.pop(key, None)
        print(f"slurmctld had forgotten {len(keys)} jobs of batch {old} that had not begun; they are submitted again as {name}", file=sys.stderr)

    def lost_before(self, key: str) -> int:
        return int(text_of(self.jobs / key / "again") or 0)

    def _undo(self, batch: Path, keys: list[str]) -> None:
        write(batch / "void", "")
        for key in keys:
            shutil.rmtree(self.jobs / key, ignore_errors=True)
        self._drop(batch.name)

    def _drop(self, batch: str) -> None:
        shutil.rmtree(self.batches / batch, ignore_errors=True)
        self.kept_keys.pop(batch, None)
        self.kept_numbers.pop(batch, None)

    # --- where they are ---

    def place(self, key: str) -> Place | None:
        name, _, index = text_of(self.jobs / key / "batch").partition(" ")
        return Place(name, int(index)) if name and index.isdigit() else None

    def refresh(self) -> None:
        """Looks at the queue, unless somebody just did."""
        with self.look:
            if time.monotonic() - self.seen_at < self.fresh:
                return
            try:
                self.seen = self.slurm.queue()
                self.trouble = ""
            except SlurmError as error:
                self.trouble = str(error)
            self.seen_at = time.monotonic()

    def job_of(self, place: Place) -> tuple[int, int] | None:
        """Slurm's id and the task, or -1 where there is no array."""
        number = self.number(place.batch)
        if number == 0:
            number = self.seen.batches.get(place.batch, 0)
            if number == 0:
                return None
            write(self.batches / place.batch / "job", str(number))  # its answer was lost
        return number, place.index if len(self.keys(place.batch)) > 1 else -1

    def number(self, batch: str) -> int:
        """Slurm's id of that batch; 0: it is not known."""
        number = self.kept_numbers.get(batch, 0)
        if number == 0:
            text = text_of(self.batches / batch / "job")
            number = int(text) if text.isdigit() else 0
            if number:
                self.kept_numbers[batch] = number
        return number

    def keys(self, batch: str) -> list[str]:
        keys = self.kept_keys.get(batch)
        if not keys:
            keys = text_of(self.batches / batch / "keys").split()
            if keys:
                self.kept_keys[batch] = keys
        return keys

    def row_of(self, place: Place, job: tuple[int, int] | None) -> Row | None:
        """What the queue shows of it; what has only the same id is another."""
        row = self.seen.rows.get(job) if job is not None else None
        return row if row is not None and row.batch == place.batch else None

    def find_all(self, keys: list[str]) -> list[pb.FindResult]:
        self.refresh()
        past = self.look_back(keys)
        return [self._find(key, past) for key in keys]

    def _find(self, key: str, past: dict[tuple[int, int], Row]) -> pb.FindResult:
        sure = pb.FindResult(key=key, answer=pb.FindResult.NOT_FOUND)
        unsure = pb.FindResult(key=key, answer=pb.FindResult.NOT_SURE)
        with self.lock:
            if key in self.submitting:
                return unsure
        place = self.place(key)
        if place is None:
            return sure
        if self.job_of(place) is None and not (self.jobs / key / "began").exists():
            if self.lost_before(key):  # it has been accepted
                return pb.FindResult(key=key, answer=pb.FindResult.FOUND, observation=self.observe(key, place, past))
            if self.trouble or time.time() - time_of(self.batches / place.batch / "script") < self.settle:
                return unsure
            # Should it come up all the same, it begins nothing.
            write(self.batches / place.batch / "void", "")
            if any((self.jobs / one / "began").exists() for one in self.keys(place.batch)):
                return unsure
            shutil.rmtree(self.jobs / key, ignore_errors=True)
            return sure
        return pb.FindResult(key=key, answer=pb.FindResult.FOUND, observation=self.observe(key, place, past))

    def observe_all(self) -> list[jp.Observation]:
        self.refresh()
        self.force_stops()
        with self.lock:
            keys = [key for key in os.listdir(self.jobs) if key not in self.submitting]
        past = self.look_back(keys)
        out = []
        for key in keys:
            place = self.place(key)
            if place is not None and (self.job_of(place) is not None or (self.jobs / key / "began").exists() or self.lost_before(key)):
                out.append(self.observe(key, place, past))
        return out

    def look_back(self, keys: list[str]) -> dict[tuple[int, int], Row]:
        """What accounting says, asked once, of all those that the controller shows no more."""
        numbers: set[int] = set()
        for key in keys:
            place = self.place(key) if key not in self.ended and not self.trouble else None
            job = self.job_of(place) if place is not None else None
            if place is None or job is None or self.row_of(place, job) is not None:
                continue
            since = self.missing.setdefault(key, time.monotonic())
            if time.monotonic() - since >= self.settle or text_of(self.jobs / key / "exit") not in ("", "0"):
                numbers.add(job[0])
        if not numbers:
            return {}
        # An id that came again is known to accounting as one of the two.
        times = Counter(self.number(batch) for batch in os.listdir(self.batches))
        return self.slurm.history(sorted(number for number in numbers if times[number] < 2))

    def observe(self, key: str, place: Place, past: dict[tuple[int, int], Row]) -> jp.Observation:
        if key in self.ended:
            return self.ended[key]
        folder = self.jobs / key
        out = jp.Observation(key=key, phase=jp.QUEUED, handle=f"{place.batch} {place.index}".encode())
        job = self.job_of(place)
        row = None
        if job is not None:
            out.external_id = f"{job[0]}_{job[1]}" if job[1] >= 0 else str(job[0])
            row = self.row_of(place, job)
        # In this order: an exit code that is not there yet may come before Slurm's word of the end.
        code = text_of(folder / "exit")
        began = time_of(folder / "began")
        if began:
            out.started_micros = int(began * 1e6)
            out.node = text_of(folder / "began" / "node") or (row.node if row else "")
            if out.node or code:  # who hears that it runs hears where
                out.phase = jp.RUNNING
        elif row is not None:
            out.message = row.reason
        if code == "0":
            return self._end(key, out, jp.End(exit_code=0))
        if row is None and (job is not None or self.lost_before(key)) and not self.trouble:
            row = self._forgotten(key, place, past.get(job) if job is not None else None, bool(code))
            if key in self.ended:
                return self.ended[key]
        elif row is not None:
            self.missing.pop(key, None)
        if row is None or row.state not in FINAL:
            return out
        if not code and row.state in BY_ITSELF and time.monotonic() - self.silent.setdefault(key, time.monotonic()) < self.settle:
            return out  # what a node has written may be seen here later
        end = how(folder, row, code, bool(began))
        if end is not None:
            return self._end(key, out, end)
        if began and not self._its_node_answers(folder):
            return out
        return self._lost(key, f"Slurm says {row.state}, and it left no exit code")

    def _forgotten(self, key: str, place: Place, row: Row | None, has_code: bool) -> Row | None:
        """Of a job that the controller shows no more: what accounting says, or after a while what its files say."""
        since = self.missing.setdefault(key, time.monotonic())
        if not has_code and time.monotonic() - since < self.settle:
            return None
        if row is not None and row.state in FINAL:
            return row
        if time.monotonic() - since < self.settle:
            return None
        if has_code:
            return Row("FAILED", "", "", 0)
        folder = self.jobs / key
        if not (folder / "began").exists():
            if (folder / "stop").exists():
                try:
                    (folder / "began").mkdir()  # so that nobody else can begin it
                except FileExistsError:
                    return None
                return Row("CANCELLED", "", "", 0)
            if self.lost_before(key) < AGAIN:
                self.forgotten.setdefault(place.batch, set()).add(key)
                return None
        elif not self._its_node_answers(folder):
            return None
        self._lost(key, "Slurm does not know it any more, and it left no exit code")
        return None

    def _its_node_answers(self, folder: Path) -> bool:
        """Else it may run on, where nobody hears of it."""
        node = text_of(folder / "began" / "slurmd")
        with self.look:
            if node and time.monotonic() - self.nodes_at >= self.fresh:
                self.nodes, self.nodes_at = self.slurm.nodes_that_answer(), time.monotonic()
            return not node or node in self.nodes

    def _lost(self, key: str, why: str) -> jp.Observation:
        self.ended[key] = jp.Observation(key=key, phase=jp.LOST, message=why)
        return self.ended[key]

    def _end(self, key: str, out: jp.Observation, end: jp.End) -> jp.Observation:
        folder = self.jobs / key
        stop = time_of(folder / "stop")
        if stop and end.exit_code == 0 and not end.reason and stop <= time_of(folder / "exit"):
            end.stopped = True
        end.started_micros = out.started_micros
        end.ended_micros = int((time_of(folder / "exit") or time.time()) * 1e6)
        out.phase = jp.ENDED
        out.end.CopyFrom(end)
        self.ended[key] = out
        return out

    # --- stopping and cleaning up ---

    def cancel(self, key: str, force: bool, grace: float) -> None:
        place = self.place(key)
        if place is None or key in self.ended:
            return
        self.refresh()
        job = self.job_of(place)
        folder = self.jobs / key
        again = (folder / "stop").exists()
        if not again:
            write(folder / "stop", str(grace))
        if job is None:
            raise SlurmError("Slurm does not show it yet")
        if self.row_of(place, job) is None and job in self.seen.rows:
            return  # the id is another's now
        if force or not (folder / "began").exists():
            # What has not begun has nothing to say; should it begin meanwhile, the end of its grace ends it.
            self.slurm.cancel([job], *([] if force else ["--state=PENDING"]))
        if not force and not again and (folder / "began").exists():
            self.slurm.cancel([job], "--signal=TERM", "--full")

    def force_stops(self) -> None:
        """Those whose grace is over, also of a plug-in that was killed meanwhile."""
        waiting: list[tuple[int, int]] = []
        late: list[tuple[int, int]] = []
        for path in self.jobs.glob("*/stop"):
            key = path.parent.name
            if key in self.ended:
                continue
            place = self.place(key)
            job = self.job_of(place) if place else None
            row = self.row_of(place, job) if place else None
            if job is None or row is None or row.state in FINAL:
                continue
            with contextlib.suppress(ValueError):
                if not (path.parent / "began").exists():
                    waiting.append(job)
                elif time.time() - time_of(path) >= float(text_of(path) or 10):
                    late.append(job)
        with contextlib.suppress(SlurmError):  # looked at again in a moment
            self.slurm.cancel(waiting, "--state=PENDING")
            self.slurm.cancel(late)

    def release(self, key: str) -> None:
        place = self.place(key)
        if place is not None and key not in self.ended:
            self.refresh()
            job = self.job_of(place)
            row = self.row_of(place, job)
            if job is not None and row is not None and row.state not in FINAL:
                self.slurm.cancel([job])
        shutil.rmtree(self.jobs / key, ignore_errors=True)
        for known in (self.ended, self.missing, self.silent):
            known.pop(key, None)
        if place is not None and not any((self.jobs / one).exists() for one in self.keys(place.batch)):
            self._drop(place.batch)
