"""Slurm's own programs, without a shell: what they print, and what their refusals mean."""
from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

# What sbatch says when the same submission can never work.
PERMANENT = (
    "invalid account", "invalid partition", "invalid qos", "invalid generic resource", "invalid feature",
    "requested node configuration is not available", "more processors requested than permitted",
    "requested partition configuration not available", "requested time limit is invalid", "invalid --time",
    "unrecognized option", "invalid option", "memory specification can not be satisfied", "invalid user id",
    "pathname of a file, directory or other parameter too long", "user's group not permitted",
    "access/permission denied", "invalid job array specification", "invalid time", "time limit specification required",
    "requested gres option unsupported", "invalid constraint", "invalid numeric value", "script",
)
# What it says when nobody can know whether the controller took it.
UNKNOWN = ("socket timed out", "zero bytes were transmitted", "connection reset", "timeout", "header lengths are longer")

CANCELLED_TOGETHER = 25  # by one scancel, so that what it says of each is heard


class SlurmError(Exception):
    """A program of Slurm's failed; the text is its own."""


class Unsure(SlurmError):
    """... and what it was to do may have been done."""


class Refused(SlurmError):
    """... because the controller said no. `permanent`: it will say so again."""

    def __init__(self, words: str, permanent: bool) -> None:
        super().__init__(words)
        self.permanent = permanent


@dataclass
class Row:
    """One job, or one task of an array, as squeue shows it."""

    state: str
    reason: str
    node: str
    status: int  # as wait(2) gives it
    batch: str = ""  # of ours; ids come again when a controller has lost its last seconds


@dataclass
class Queue:
    """What squeue shows of our jobs: of (job id, task or -1), and the job ids of each batch."""

    rows: dict[tuple[int, int], Row] = field(default_factory=dict)
    batches: dict[str, int] = field(default_factory=dict)


def words_of(text: str) -> str:
    lines = [line.split(": error: ", 1)[-1].strip() for line in text.splitlines() if line.strip()]
    return "; ".join(dict.fromkeys(lines))[:2000] or "it said nothing"


class Slurm:
    """`name` is what all our jobs are called."""

    def __init__(self, name: str, conf: str, folder: str) -> None:
        self.name = name
        self.folder = folder
        # Little: sbatch sends it all to the node.
        self.environment = {k: os.environ[k] for k in ("PATH", "HOME", "USER", "LANG", "TZ") if k in os.environ}
        if conf:
            self.environment["SLURM_CONF"] = conf
        elif "SLURM_CONF" in os.environ:
            self.environment["SLURM_CONF"] = os.environ["SLURM_CONF"]

    def run(self, program: str, *words: str, seconds: float = 20) -> str:
        path = str(Path(self.folder) / program) if self.folder else program
        try:
            done = subprocess.run([path, *words], env=self.environment, text=True, errors="replace", timeout=seconds,
                                  capture_output=True, stdin=subprocess.DEVNULL)
        except FileNotFoundError:
            raise SlurmError(f"{program} is not here: install Slurm's client programs, or name their folder with `bin_dir`")
        except subprocess.TimeoutExpired:
            raise Unsure(f"{program} did not end within {seconds:.0f} s")
        if done.returncode != 0:
            raise SlurmError(words_of(done.stderr))
        return done.stdout

    def submit(self, options: list[str], comment: str, script: Path, seconds: float) -> int:
        """The job's id. Refused, or Unsure when it may be there all the same."""
        out = self._sbatch("--parsable", f"--job-name={self.name}", f"--comment={comment}", "--output=/dev/null",
                           "--error=/dev/null", "--no-requeue", "--export=ALL", *options, str(script), seconds=seconds)
        try:
            return int(out.strip().split(";")[0])
        except ValueError:
            raise Unsure(f"sbatch answered {out.strip()[:200]!r}, which is no job id")

    def test(self, options: list[str], seconds: float) -> None:
        """Whether such a job would be taken; none is made. Refused, or Unsure."""
        self._sbatch("--test-only", f"--job-name={self.name}", "--output=/dev/null", *options, "--wrap=true", seconds=seconds)

    def _sbatch(self, *words: str, seconds: float) -> str:
        try:
            return self.run("sbatch", *words, seconds=seconds)
        except Unsure:
            raise
        except SlurmError as error:
            said = str(error).lower()
            if any(word in said for word in UNKNOWN):
                raise Unsure(str(error)) from error
            raise Refused(str(error), any(word in said for word in PERMANENT)) from error

    def queue(self) -> Queue:
        """Everything of ours that the controller remembers, ended or not."""
        out = self.run("squeue", "--noheader", "--array", "--states=all", f"--name={self.name}",
                        "--Format=JobID:|,ArrayJobID:|,ArrayTaskID:|,State:|,Reason:|,exit_code:|,Comment:|,NodeList:")
        queue = Queue()
        for line in out.splitlines():
            parts = [part.strip() for part in line.split("|")]
            if len(parts) < 8 or not parts[0].isdigit():
                continue
            job, array, task, state, reason, status, comment, node = parts[:8]
            is_task = task.isdigit()
            key = (int(array), int(task)) if is_task else (int(job), -1)
            batch = comment.split(" ")[0]
            batch = batch[5:] if batch.startswith("orch:") else ""
            queue.rows[key] = Row(state.split(" ")[0].rstrip("+"), "" if reason == "None" else reason, node,
                                  int(status) if status.isdigit() else 0, batch)
            if batch:
                queue.batches[batch] = key[0]
        return queue

    def history(self, jobs: list[int]) -> dict[tuple[int, int], Row]:
        """What accounting remembers of jobs that the controller has forgotten; nothing where there is none."""
        if not jobs:
            return {}
        try:
            out = self.run("sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,JobName,State,ExitCode,NodeList",
                           f"--name={self.name}", "--jobs=" + ",".join(map(str, jobs)))
        except SlurmError:
            return {}
        rows = {}
        for line in out.splitlines():
            parts = line.split("|")
            if len(parts) != 5 or parts[1] != self.name:  # ids come again, for jobs of others too
                continue
            number, _, task = parts[0].partition("_")
            if not number.isdigit() or (task and not task.isdigit()):
                continue
            code, _, signal = parts[3].partition(":")
            status = (int(code) << 8 if code.isdigit() else 0) | (int(signal) if signal.isdigit() else 0)
            rows[(int(number), int(task) if task else -1)] = Row(parts[2].split(" ")[0], "", parts[4], status)
        return rows

    def cancel(self, jobs: list[tuple[int, int]], *options: str) -> None:
        """Of jobs that are called as ours are: by now an id may be somebody else's."""
        for first in range(0, len(jobs), CANCELLED_TOGETHER):
            words = [f"{job}_{task}" if task >= 0 else str(job) for job, task in jobs[first:first + CANCELLED_TOGETHER]]
            try:
                self.run("scancel", f"--name={self.name}", *options, *words)
            except SlurmError as error:
                # One that is over is as good as cancelled.
                if not all("invalid job id" in part or "already completing" in part for part in str(error).lower().split("; ")):
                    raise

    def nodes_that_answer(self) -> set[str]:
        """Those that the controller hears of: what they run of jobs that it does not know they have been told to end."""
        try:
            rows = [line.split() for line in self.run("sinfo", "--noheader", "--Node", "--format=%N %T", seconds=8).splitlines()]
        except SlurmError:
            return set()
        return {row[0] for row in rows if len(row) == 2 and not row[1].endswith("*") and not row[1].startswith("unknown")}

    def ping(self) -> None:
        """Whether the controller takes our word: this needs the network, munge, and it."""
        self.run("squeue", "--noheader", "--states=running", f"--name={self.name}", "--Format=JobID", seconds=8)
