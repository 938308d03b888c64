"""Steps that are forks of a warm worker: what they are, how they end, and when there is none."""
import os
import unittest
from pathlib import Path
from typing import Any

from tests.e2e.sdk import SdkCase, orchd
from tests.lib.daemon import wait_for

# `warm` is a fan-out: that is worth a worker.
FILE = """
    import ctypes, os, signal, subprocess, sys, time
    AT_IMPORT = os.getpid()

    @step(cache=False)
    def warm(n: int) -> dict:
        return {"fork": os.getpid() != AT_IMPORT, "parent": os.getppid(), "value": VALUE, "folder": os.getcwd(),
                "group": open("/proc/self/cgroup").read(), "fence": os.environ["ORCH_FENCE"],
                "seen": open("/proc/self/environ").read(), "names": sorted(n for n in os.environ if not n.startswith("ORCH"))}

    @step(cache=False)
    def ends(how: str) -> None:
        print("x" * 3_000_000)
        if how == "exit":
            os._exit(7)
        if how == "crash":
            ctypes.string_at(0)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "sys.exit":
            sys.exit(3)
        raise ValueError(how)

    @step(cache=False)
    def leaves(path: str) -> None:
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        with open(path + ".new", "w") as file:
            file.write(f"{os.getpid()} {child.pid} {os.getpid() != AT_IMPORT}")
        os.rename(path + ".new", path)
        time.sleep(600)

    @pipeline
    def many(isolation: str = "worker"):
        warm.map([1, 2, 3])

    @pipeline
    def ending(how: str):
        ends(how)

    @pipeline
    def leaving(path: str):
        leaves(path)
    """


def is_alive(pid: str) -> bool:
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Workers(SdkCase):
    def flow(self, value: str = "1", more: str = "") -> Any:
        return self.module(FILE.replace("AT_IMPORT =", f"VALUE = {value}; {more}; AT_IMPORT =" if more else f"VALUE = {value}; AT_IMPORT =", 1))

    def results(self, flow: Any, **options: object) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = flow.many.options(progress=False, **options)().steps["warm"].output.load()
        return found

    def warmed(self, flow: Any) -> list[dict[str, Any]]:
        """Of a run whose steps are all forks."""
        last: list[dict[str, Any]] = []

        def are_forks() -> bool:
            last[:] = self.results(flow)
            return all(one["fork"] for one in last)

        wait_for("a worker to take the steps", are_forks, 120)
        return last

    def test_a_fork_is_as_good_as_a_process_of_its_own(self) -> None:
        flow = self.flow()
        forks = self.warmed(flow)
        self.assertEqual(len({one["parent"] for one in forks}), 1)
        fresh = self.results(flow, isolation="process")
        self.assertFalse(any(one["fork"] for one in fresh))
        for one in forks:
            # Where the supervisor looks for the processes of a step.
            self.assertIn(f"ORCH_FENCE={one['fence']}", one["seen"].split("\0"))
            self.assertEqual(one["names"], fresh[0]["names"])
            self.assertEqual(one["folder"], os.path.realpath(self.folder))
        groups = [{line for one in some for line in one["group"].splitlines() if line.startswith("0::")} for some in (forks, fresh)]
        self.assertEqual("orchd-" in str(groups[0]), "orchd-" in str(groups[1]), groups)

    def test_code_that_changed_is_read_again(self) -> None:
        flow = self.flow("1")
        self.assertEqual({one["value"] for one in self.warmed(flow)}, {1})
        flow = self.flow("12")
        self.assertEqual({one["value"] for one in self.results(flow)}, {12})
        self.assertEqual({one["value"] for one in self.warmed(flow)}, {12})

    def test_ends_are_those_of_the_step(self) -> None:
        flow = self.flow()
        self.warmed(flow)
        for how, code, text in (
            ("exit", 7, "exit code 7"), ("sys.exit", 3, "exit code 3"), ("crash", None, "ended by signal 11 "),
            ("kill", None, "ended by signal 9 "), ("raise", 1, "ValueError: raise"),
        ):
            with self.subTest(how):
                with self.assertRaises(orchd.RunFailed) as caught:
                    flow.ending.options(progress=False)(how)
                self.assertIn(text, str(caught.exception))
                if code is not None:
                    self.assertEqual(caught.exception.exit_code, code)
                if how != "crash":
                    self.assertNotIn("_worker.py", caught.exception.traceback)

    def test_a_cancel_ends_the_fork_and_what_it_left(self) -> None:
        flow = self.flow()
        self.warmed(flow)
        self.daemon.ctl("register-orchestrator", "marked", "--flavor", "local", "--config", "cgroup=off")
        for orchestrator in ("local", "marked"):  # found by control group, and by the mark in /proc
            with self.subTest(orchestrator):
                path = self.folder / ".venv" / orchestrator  # not of the code
                path.parent.mkdir(exist_ok=True)
                run = flow.leaving.options(orchestrator=orchestrator).submit(str(path))
                wait_for("the step to have a child", path.exists, 60)
                fork, child, is_fork = path.read_text().split()
                self.assertEqual(is_fork, "True")
                run.cancel()
                run.wait(check=False)
                self.assertEqual(run.state, "CANCELLED")
                for pid in (fork, child):
                    self.assertFalse(is_alive(pid), pid)

    def test_files_that_a_fork_cannot_serve_get_fresh_processes(self) -> None:
        for more in ("import random; random.seed(1)", "print('imported')"):
            with self.subTest(more):
                flow = self.flow("1", more)
                for _ in range(2):
                    self.assertFalse(any(one["fork"] for one in self.results(flow)))

    def test_an_isolation_that_is_none(self) -> None:
        with self.assertRaisesRegex(orchd.Refused, "has the isolation 'warm'; there are: worker .* and process"):
            orchd.step(isolation="warm")(lambda: 1)


if __name__ == "__main__":
    unittest.main()
