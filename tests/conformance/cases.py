"""What both suites share: a class of tests for each flavor, and which cell of which table a test has filled."""
from __future__ import annotations

import fcntl
import functools
import inspect
import json
import os
import re
import unittest
from pathlib import Path
from typing import Any, Callable

from tests.conformance.flavor import REFUSED, STEPWISE, Does, Flavor
from tests.conformance.flavors import flavors
from tests.lib.daemon import ROOT, Daemon, wait_for

RESULTS = ROOT / "build/conformance"


class RefusedAtSubmit(Exception):
    """The flavor refuses what the test is about, and has said so: the test is over, and good."""


class Cases(unittest.TestCase):
    """Base of a suite; its methods `test_…` are the rows of its table, their docstrings what the rows are called."""

    flavor: Flavor
    daemon: Daemon
    shared: Path
    word = ""  # of the test that runs, in this flavor's column
    orchestrator = ""
    units: "set[str]"  # what the plans of its runs have said, of a flavor of whole runs

    def begin(self) -> None:
        """A daemon of its own, with the flavor's orchestrator."""
        self.daemon = Daemon(self.flavor.daemon_config, flags=self.flavor.daemon_flags, ca=self.flavor.daemon_ca)
        self.daemon.start()
        self.shared = self.daemon.home / "shared"
        (self.shared / "marks").mkdir(parents=True)
        (self.daemon.home / "source").mkdir()  # what steps get of this machine: not the folder that the daemon's own is in
        for folder in (self.daemon.home, self.shared, self.shared / "marks"):
            folder.chmod(0o777)
        self.orchestrator = self.flavor.register(self.daemon)

    def step(self, name: str, does: Does | None = None, **more: Any) -> dict[str, Any]:
        return self.flavor.step(name, does or Does(), self.shared, **more)

    def file(self, *steps: dict[str, Any], **more: Any) -> Path:
        return self.daemon.file(json.dumps({"name": "p", "steps": list(steps), **more}), "source/pipeline.json")

    def submit(self, *steps: dict[str, Any], args: tuple[object, ...] = (), **more: Any) -> str:
        """The run's name. Where the flavor's word is that it is refused, so it must be, and the test ends here."""
        file = self.file(*steps, **more)
        command = ("submit", file, "--orchestrator", self.orchestrator, *args)
        if self.word == REFUSED:
            said = self.daemon.ctl(*command, code=8).stderr
            self.assertTrue(said.strip(), "a refusal says why")
            raise RefusedAtSubmit(said)
        if self.flavor.granularity == "run":
            self.units.add(self.daemon.json("plan", file, "--orchestrator", self.orchestrator)["unit"])
        return self.daemon.ctl(*command).stdout.strip().splitlines()[0]

    def wait(self, run: str, code: int | None = 0) -> dict[str, Any]:
        """The steps, once the run has ended."""
        self.daemon.ctl("wait-run", run, "--timeout", f"{self.flavor.seconds * 3}s", code=code, timeout=self.flavor.seconds * 3 + 60)
        return self.daemon.steps(run)

    def open(self, gate: str) -> None:
        (self.shared / f"gate-{gate}").touch()

    def now(self, run: str) -> dict[str, dict[str, Any]]:
        """The steps as they are, for those who look again and again: a call of orchctl for each look would leave the platform no time."""
        status, answer = self.daemon.http("/orch.v1.RunService/ListSteps", {"run": run, "page_size": 1000})
        self.assertEqual(status, 200, answer)
        return {step["name"]: step for step in json.loads(answer)["steps"]}

    def state(self, run: str, step: str) -> str:
        return str(self.now(run).get(step, {}).get("state", "WAITING"))

    def wait_state(self, run: str, step: str, *states: str) -> None:
        wait_for(f"{step} to be {' or '.join(states)}", lambda: self.state(run, step) in states, self.flavor.seconds, every=0.02)

    def wait_begun(self, run: str, step: str) -> None:
        self.wait_state(run, step, "RUNNING")
        wait_for(f"{step} to have begun", lambda: self.executions(step), self.flavor.seconds, every=0.02)

    def executions(self, step: str) -> list[int]:
        return self.flavor.executions(self.daemon, step, self.shared)

    def stdout(self, run: str, step: str) -> str:
        return self.daemon.ctl("logs", run, step, "--stream", "stdout").stdout


def fills(row: str, test: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(test)
    def run(self: Cases) -> None:
        if row in self.flavor.lacks:
            self.skipTest(f"{self.flavor.name}: {self.flavor.lacks[row]}")
        self.word = word_of(type(self), self.flavor, row)
        self.units = set()
        fill(type(self), self.flavor, row, "")  # what an earlier run has proved does not hold any more
        try:
            test(self)
        except RefusedAtSubmit:
            pass
        else:
            self.assertNotEqual(self.word, REFUSED, "it should have been refused at submit")
        self.assertEqual("step" in self.units, self.word.endswith(STEPWISE), "whole runs are whole unless the word says that they are not")
        fill(type(self), self.flavor, row, self.word)
    return run


def rows(suite: type[Cases]) -> dict[str, str]:
    """Its tests in the order of the file: what each row is called."""
    found = [(name[5:], inspect.getdoc(method) or "") for name, method in vars(suite).items() if name.startswith("test_")]
    return dict(found)


def word_of(suite: type[Cases], flavor: Flavor, row: str) -> str:
    return flavor.words.get(row, getattr(suite, "usual").get(row, getattr(suite, "usual")[""]))


def column(flavor: Flavor) -> str:
    words = [flavor.name, flavor.variant, "" if flavor.granularity == "step" else f"unit {flavor.granularity}"]
    return ", ".join(word for word in words if word)


def takes_part(suite: type[Cases], flavor: Flavor) -> bool:
    return not flavor.variant or getattr(suite, "table") == "contract"


def fill(suite: type[Cases], flavor: Flavor, row: str, word: str) -> None:
    """Where table.py finds it; a flavor whose platform is not here keeps what the page has."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{getattr(suite, 'table')}.{column(flavor)}.json"
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # one class's tests may be dealt to several processes
        file.seek(0)
        cells = json.loads(file.read() or "{}")
        cells[row] = word
        file.truncate(0)
        file.write(json.dumps(cells, indent=1))


def generate(base: type[Cases], into: dict[str, Any]) -> None:
    """One class for each flavor, named `BASE_FLAVOR`; ORCH_TEST_FLAVORS (names with commas, or `NAME/GRANULARITY`) takes some of them."""
    chosen = [name for name in os.environ.get("ORCH_TEST_FLAVORS", "").split(",") if name]
    for flavor in flavors():
        if (chosen and not {flavor.name, f"{flavor.name}/{flavor.granularity}"} & set(chosen)) or not takes_part(base, flavor):
            continue
        members = {"flavor": flavor, "__module__": into["__name__"], "slow": flavor.slow, "shares": flavor.shares, "alone": flavor.alone}
        for row in rows(base):
            members[f"test_{row}"] = fills(row, getattr(base, f"test_{row}"))
        name = "_".join([base.__name__, *re.findall(r"\w+", f"{flavor.name} {flavor.variant} {flavor.granularity if flavor.granularity != 'step' else ''}")])
        into[name] = type(name, (base, unittest.TestCase), members)
    into["load_tests"] = lambda loader, tests, pattern: unittest.TestSuite(
        loader.loadTestsFromTestCase(into[name]) for name in list(into) if name.startswith(base.__name__ + "_"))
