"""Runs as objects, and what goes wrong: the user's own traceback, ends that Python cannot tell, a daemon that is away."""
import os
import re
import signal
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path
from unittest import mock

from tests.e2e.sdk import SOURCES, SdkCase, orchd
from tests.lib.daemon import BIN, wait_for


class Runs(SdkCase):
    def test_results_come_as_files_in_pieces(self) -> None:
        flow = self.module("""
            @step
            def large() -> bytes:
                return bytes(range(256)) * 40_000  # 10 MB: three pieces

            @step
            def tree() -> Folder:
                where = current_step().scratch / "tree"
                (where / "in").mkdir(parents=True)
                (where / "in" / "a").write_text("A")
                (where / "b").symlink_to("in/a")
                return where

            @pipeline
            def files():
                large(), tree()
            """)
        run = flow.files.options(progress=False)()
        self.assertEqual(run.steps["large"].output.load(), bytes(range(256)) * 40_000)
        self.assertEqual(run.steps["large"].output.download(self.folder / "l").stat().st_size, 10_240_000)
        with self.assertRaises(FileExistsError):
            run.steps["large"].output.download(self.folder / "l")
        self.assertEqual((run.steps["tree"].output.download(self.folder / "t") / "b").read_text(), "A")
        self.assertEqual((run.steps["tree"].output.load() / "in/a").read_text(), "A")

    def fails(self, body: str, **more: object) -> "orchd.RunFailed":
        """Of a run whose only step has this body."""
        flow = self.module(f"import os\n@step\ndef go():\n    {body}\n@pipeline\ndef failing():\n    return go()\n")
        with self.assertRaises(orchd.RunFailed) as caught:
            flow.failing.options(progress=False)()
        self.assertEqual(caught.exception.step, "go")
        return caught.exception

    def test_a_failure_brings_the_traceback_from_there(self) -> None:
        flow = self.module("""
            @step
            def deeper(n: int) -> int:
                return check(n)

            def check(n):
                if n > 1:
                    raise ValueError(f"{n} is too much")
                return n

            @step
            def late(n: int) -> int:
                return n

            @pipeline
            def failing(n: int = 2):
                return late(deeper(n))
            """)
        with self.assertRaises(orchd.RunFailed) as caught:
            flow.failing.options(progress=False)()
        error = caught.exception
        self.assertEqual((error.step, error.exit_code), ("deeper", 1))
        self.assertRegex(str(error), r"\Athe run failing-\S+ is FAILED: the step `deeper`: ValueError: 2 is too much\n\nTraceback")
        self.assertTrue(error.traceback.endswith("ValueError: 2 is too much"))
        self.assertIn("in check\n    raise ValueError", error.traceback)
        self.assertNotIn("run_step.py", error.traceback)
        run = error.run
        self.assertEqual((run.state, run.steps["late"].state), ("FAILED", "SKIPPED"))
        self.assertEqual(run.steps["deeper"].traceback, error.traceback)
        self.assertIn("exit code 1", run.why("deeper").summary)
        with self.assertRaises(orchd.NotFound):
            run.steps["late"].output
        # It goes on as its next generation.
        self.assertEqual(run.retry(n=1).wait().result(), 1)
        self.assertEqual(run.info.generation, 2)

    def test_an_import_that_fails_in_the_step(self) -> None:
        helper = self.folder / "helper.py"
        helper.write_text("")
        flow = self.module("import helper\n@step\ndef go() -> int:\n    return 1\n@pipeline\ndef importing():\n    go()\n"
                           .replace("import helper", f"import sys; sys.path.insert(0, {str(self.folder)!r}); import helper"))
        helper.write_text("import no_such_module\n")
        with self.assertRaises(orchd.RunFailed) as caught:
            flow.importing.options(progress=False)()
        self.assertIn("ModuleNotFoundError: No module named 'no_such_module'", str(caught.exception))
        self.assertIn("helper.py\", line 1", caught.exception.traceback)
        self.assertNotIn("importlib", caught.exception.traceback)

    def test_an_end_without_an_exception(self) -> None:
        error = self.fails("print('before', flush=True); os.write(2, b'last words'); os._exit(3)")
        self.assertEqual((error.exit_code, error.traceback), (3, ""))
        self.assertRegex(str(error), r"`go`: .*exit code 3.*\n\nThe last of its stderr:\nlast words")

    def test_a_crash_of_native_code_shows_where_python_was(self) -> None:
        error = self.fails("import ctypes; ctypes.string_at(0)")
        self.assertIn("SIGSEGV", str(error).replace("signal 11", "SIGSEGV"))
        self.assertIn("Fatal Python error: Segmentation fault", error.traceback)
        self.assertIn(f"flow_{self._testMethodName}.py", error.traceback)

    def test_a_step_that_is_killed_after_megabytes(self) -> None:
        error = self.fails("print('x' * 3_000_000, flush=True); import signal; os.kill(os.getpid(), signal.SIGKILL)")
        self.assertRegex(str(error), "signal 9|SIGKILL")
        self.assertEqual(len(error.run.logs("go")), 3_000_001)
        self.assertLess(len(str(error)), 10_000)

    def test_a_step_that_prints_megabytes(self) -> None:
        flow = self.module("""
            import sys

            @step
            def talks(n: int) -> int:
                for number in range(n):
                    print(f"{number:09d}", file=sys.stderr if number % 2 else sys.stdout)
                return n

            @pipeline
            def loud():
                return talks(400_000)
            """)
        run = flow.loud.options(progress=False)()
        self.assertEqual(run.result(), 400_000)
        for stream, first in (("stdout", 0), ("stderr", 1)):
            self.assertEqual(run.logs("talks", stream=stream), "".join(f"{n:09d}\n" for n in range(first, 400_000, 2)))

    def test_a_step_that_forks(self) -> None:
        flow = self.module("""
            import os, signal

            @step
            def forks() -> str:
                child = os.fork()
                if child == 0:
                    return "the child's"
                os.waitpid(child, 0)
                return "the step's"

            @step
            def leaves(of: str) -> int:
                if os.fork() == 0:
                    os.setsid()
                    signal.pause()
                return 1

            @pipeline
            def forking():
                one = forks()
                return one, leaves(one)
            """)
        run = flow.forking.options(progress=False)()
        self.assertEqual(run.result(), ("the step's", 1))

    def test_values_keep_their_types_where_only_the_name_is_known(self) -> None:
        flow = self.module("""
            @step(outputs=("huge", "never", "sure", "text"))
            def odd() -> tuple[int, float, bool, str]:
                return 10**30, float("inf"), True, "1e3"

            @pipeline
            def kept():
                odd()
            """)
        run = flow.kept.options(progress=False)()
        for one in (run, orchd.get_run(run.name)):
            self.assertEqual({name: output.load() for name, output in one.steps["odd"].outputs.items()},
                             {"huge": 10**30, "never": float("inf"), "sure": True, "text": "1e3"})

    def test_what_the_step_returned_cannot_be_kept(self) -> None:
        error = self.fails("return (n for n in range(3))")
        self.assertRegex(str(error), r"`go`: `go` returned a generator, of which nothing could be kept: return a list")

    def test_faults_of_the_pipeline_have_the_lines_of_their_calls(self) -> None:
        flow = self.module("""
            @step
            def one(n: int = 0) -> int:
                return n

            @pipeline
            def cyclic():
                a = one()
                b = one(a)
                a.after(b)

            @pipeline
            def wrong():
                one()
                one.options(memory="lots", orchestrator="nowhere")()

            @pipeline
            def takes(options: dict, tags: list = ("a",)):
                return show(options, tags)

            @step
            def show(options: dict, tags: list) -> list:
                return [options, tags]
            """)
        with self.assertRaises(orchd.PipelineInvalid) as caught:
            flow.cyclic.submit()
        lines = (self.folder / f"flow_{self._testMethodName}.py").read_text().splitlines()
        self.assertIn("these steps wait for each other: one -> one-2 -> one", str(caught.exception))
        place = caught.exception.violations[0]
        self.assertIn("one(", lines[place.line - 1])
        with self.assertRaisesRegex(orchd.PipelineInvalid, "step `one-2`, resources, ?memory|step `one-2`, resources.memory") as caught:
            flow.wrong.submit()
        self.assertIn('memory="lots"', lines[caught.exception.violations[0].line - 1])
        # What no set could hold is a parameter like any other.
        run = flow.takes.options(progress=False)({"a": [1, {"b": None}]})
        self.assertEqual(run.result(), [{"a": [1, {"b": None}]}, ["a"]])
        with self.assertRaisesRegex(orchd.Refused, "`options` of the pipeline `takes`.* is a set"):
            flow.takes.submit({"a": {1}})

    def test_a_file_that_runs_its_pipeline_at_import_is_told(self) -> None:
        file = self.write("@step\ndef go() -> int:\n    return 1\n@pipeline\ndef bare():\n    go()\nbare()\n")
        done = self.run_file(file, code=1)
        self.assertIn('call it under `if __name__ == "__main__":`', done.stderr)

    def test_watching_logs_cancelling(self) -> None:
        flow = self.module("""
            import time

            @step
            def quick() -> int:
                print("was quick")
                return 1

            @step
            def slow(n: int) -> None:
                print("waits", flush=True)
                time.sleep(600)

            @pipeline
            def long():
                slow(quick())
            """)
        run = flow.long.submit()
        chunks = []
        wait_for("the step to run", lambda: run.steps["slow"].state == "RUNNING", 60)
        for chunk in run.logs("slow", follow=True):
            chunks.append(chunk.data)
            if b"waits" in b"".join(chunks):
                break
        with self.assertRaises(orchd.WaitTimedOut):
            run.wait(timeout=0.05)
        events = []
        watcher = threading.Thread(target=lambda: events.extend(run.watch()))
        watcher.start()
        run.cancel()
        run.wait(check=False)
        watcher.join(60)
        self.assertEqual(run.state, "CANCELLED")
        self.assertTrue(events[-1].ends_run or any(e.ends_run for e in events))
        with self.assertRaisesRegex(orchd.RunFailed, "is CANCELLED"):
            run.raise_for_state()
        self.assertIn("quick | was quick\n", run.logs())
        self.assertIn("slow", {step.step for step in events})

    def test_a_daemon_that_is_away_comes_back(self) -> None:
        flow = self.module("""
            import os, time

            @step
            def until(path: str) -> str:
                while not os.path.exists(path):
                    time.sleep(0.02)
                return "there"

            @pipeline
            def patient(path: str):
                return until(path)
            """)
        run = flow.patient.submit(str(self.folder / "go"))
        seen: list[object] = []

        def follow() -> None:
            try:
                seen.append(run.wait(progress=True).result())
            except BaseException as error:
                seen.append(error)

        with mock.patch("sys.stderr"):
            waiter = threading.Thread(target=follow)
            waiter.start()
            wait_for("the step to run", lambda: run.steps["until"].state == "RUNNING", 60)
            self.daemon.kill(signal.SIGKILL)
            self.daemon.start()
            (self.folder / "go").write_text("")
            waiter.join(120)
        self.assertEqual(seen, ["there"])

    def test_an_interrupt_leaves_the_run_going_and_says_so(self) -> None:
        file = self.write("""
            import time

            @step
            def slow() -> None:
                time.sleep(600)

            @pipeline
            def long():
                slow()

            if __name__ == "__main__":
                long.options(run_name="interrupted")()
            """)
        child = subprocess.Popen(["/usr/bin/python3", str(file)], text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                 env=self.daemon.environment(PYTHONPATH=SOURCES))
        self.addCleanup(child.kill)

        def runs() -> bool:
            try:
                return orchd.get_run("interrupted").steps["slow"].state == "RUNNING"
            except orchd.NotFound:
                return False

        wait_for("the step to run", runs, 60)
        child.send_signal(signal.SIGINT)
        said = child.communicate(timeout=60)[1]
        self.assertIn("the run interrupted goes on; `orchctl cancel-run interrupted` ends it", said)
        run = orchd.get_run("interrupted")
        self.assertEqual(run.state, "RUNNING")
        run.cancel(force=True).wait(check=False)

    def test_no_daemon_is_told(self) -> None:
        with tempfile.TemporaryDirectory() as place, mock.patch.dict(os.environ, {"ORCH_DATA_DIR": place}):
            flow = self.module("@step\ndef go() -> int:\n    return 1\n@pipeline\ndef alone():\n    go()\n")
            with self.assertRaisesRegex(orchd.Unreachable, "start one with `orchd --data-dir"):
                flow.alone.options(client=orchd.Client(start=False)).submit()

    def test_a_run_in_a_notebook_is_a_graph_with_states(self) -> None:
        flow = self.module("""
            @step
            def one(x: int) -> int:
                return x

            @step
            def bad(xs: list[int]) -> int:
                raise ValueError("<b>no</b>")

            @pipeline
            def drawn():
                bad(one.map([1, 2]))
            """)
        run = flow.drawn.submit().wait(check=False)
        page = orchd.get_run(run.id)._repr_html_()
        self.assertEqual(len(re.findall("<rect ", page)), 2)
        self.assertEqual(len(re.findall("<path ", page)), 1)
        self.assertIn("one: SUCCEEDED (2 SUCCEEDED)", page)
        self.assertIn("bad: FAILED", page)
        self.assertNotIn("<script", page)
        self.assertNotIn("<b>no", page)

    def test_a_throw_away_daemon(self) -> None:
        from orchd.testing import Daemon

        with mock.patch.dict(os.environ, {"ORCHD_BIN": str(BIN / "orchd")}), Daemon() as daemon:
            pid = daemon._process.pid if daemon._process else 0
            self.assertEqual(daemon.client.server_info().pid, pid)
            run = daemon.client.submit({"name": "p", "steps": [{"name": "a", "command": ["sleep", "600"]}]})
            wait_for("it to run", lambda: daemon.client.get_step(run, "a").state == "RUNNING")
            daemon.kill()
            daemon.start()
            self.assertEqual(daemon.client.get_run(run).state, "RUNNING")
        self.assertFalse(Path(daemon.folder).exists())


if __name__ == "__main__":
    unittest.main()
