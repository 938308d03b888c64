#!/usr/bin/python3
"""Runs unittest suites whose tests mostly wait, several classes at a time, each in a process (and on a platform) of its own.

    tests/lib/side_by_side.py [--processes N] FOLDER    what each process prints comes in one piece, when it has ended

A class may say in `shares` into how many processes its tests are dealt, in `slow` how long one of them takes beside others', and in
`alone` a word: of those that say the same one runs at a time.
"""
from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Iterator

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Part:
    name: str
    tests: list[str]
    cost: float
    alone: str


@dataclass
class Running:
    part: Part
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    began: float


def tests_of(suite: unittest.TestSuite | unittest.TestCase) -> Iterator[unittest.TestCase]:
    if isinstance(suite, unittest.TestCase):
        yield suite
        return
    for one in suite:
        yield from tests_of(one)


def parts_of(suite: unittest.TestSuite) -> list[Part]:
    """The most work first, so that none is left for the end alone."""
    classes: dict[type[unittest.TestCase], list[str]] = {}
    for test in tests_of(suite):
        classes.setdefault(type(test), []).append(test.id())
    parts = []
    for made, ids in classes.items():
        shares = max(1, min(int(getattr(made, "shares", 1)), len(ids)))
        for share in range(shares):
            mine = ids[share::shares]
            name = f"{made.__module__}.{made.__qualname__}" + (f" ({share + 1} of {shares})" if shares > 1 else "")
            parts.append(Part(name, mine, len(mine) * float(getattr(made, "slow", 1)), str(getattr(made, "alone", ""))))
    return sorted(parts, key=lambda part: -part.cost)


class Timed(unittest.TextTestResult):
    """Says at the end which tests took longest."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.times: list[tuple[float, str]] = []

    def startTest(self, test: unittest.TestCase) -> None:
        self.began = time.monotonic()
        super().startTest(test)

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        self.times.append((time.monotonic() - self.began, test.id().rsplit(".", 1)[1]))

    def printErrors(self) -> None:
        super().printErrors()
        self.stream.writeln("longest: " + ", ".join(f"{name} {seconds:.1f} s" for seconds, name in sorted(self.times, reverse=True)[:5]))


def run_here(tests: list[str]) -> int:
    suite = unittest.defaultTestLoader.loadTestsFromNames(tests)
    return 0 if unittest.TextTestRunner(verbosity=2, resultclass=Timed).run(suite).wasSuccessful() else 1


def next_of(waiting: list[Part], running: list[Running]) -> Part | None:
    taken = {one.part.alone for one in running if one.part.alone}
    part = next((part for part in waiting if part.alone not in taken), None)
    if part is not None:
        waiting.remove(part)
    return part


def show(one: Running, word: str) -> None:
    one.output.seek(0)
    print(f"-- {one.part.name}: {word} after {time.monotonic() - one.began:.0f} s", flush=True)
    sys.stdout.buffer.write(one.output.read())
    sys.stdout.flush()
    one.output.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--top", default=str(ROOT), help="the folder that names of modules begin at")
    parser.add_argument("--only", nargs="+", metavar="TEST", help="these, in this process")
    parser.add_argument("--processes", type=int, default=3 * (os.cpu_count() or 1))
    args = parser.parse_args()
    sys.path.insert(0, args.top)
    if args.only:
        return run_here(args.only)
    if not args.folder:
        parser.error("FOLDER is missing")
    suite = unittest.defaultTestLoader.discover(args.folder, top_level_dir=args.top)
    if unittest.defaultTestLoader.errors:  # each is a test by now, which fails and says what cannot be loaded
        broken = [test for test in tests_of(suite) if type(test).__module__ == "unittest.loader"]
        unittest.TextTestRunner(verbosity=2).run(unittest.TestSuite(broken))
        return 1
    waiting = parts_of(suite)
    running: list[Running] = []

    def stop(number: int, frame: object) -> None:
        # Of the whole group: those that run print where they are, and end.
        for one in running:
            one.process.wait()
            show(one, "not ended")
        os._exit(1)
    signal.signal(signal.SIGABRT, stop)

    failed = False
    while waiting or running:
        while len(running) < args.processes and (part := next_of(waiting, running)):
            output = tempfile.TemporaryFile()
            process = subprocess.Popen([sys.executable, __file__, "--top", args.top, "--only", *part.tests], stdout=output, stderr=output)
            running.append(Running(part, process, output, time.monotonic()))
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)  # some child has ended
        for one in [one for one in running if one.process.poll() is not None]:
            running.remove(one)
            failed = failed or one.process.returncode != 0
            show(one, "done" if one.process.returncode == 0 else f"exit code {one.process.returncode}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
