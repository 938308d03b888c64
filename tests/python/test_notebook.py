"""Real notebooks in a real kernel, on a throw-away daemon: the example, and what of cells travels."""
import importlib.util
import os
import pathlib
import sys
import tempfile
import textwrap
import unittest

from real import RealCase

import orchd

MISSING = [name for name in ("nbclient", "ipykernel", "sklearn", "pandas") if importlib.util.find_spec(name) is None]
EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples/python/wines.ipynb"


@unittest.skipIf(MISSING, f"without {', '.join(MISSING)}")
class Notebooks(RealCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory(prefix="orchd-notebook-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        os.environ.update(
            PYTHONPATH=str(pathlib.Path(orchd.__file__).parent.parent), IPYTHONDIR=str(self.folder / "ipython"),
            JUPYTER_RUNTIME_DIR=str(self.folder / "runtime"), JUPYTER_PATH=os.path.join(sys.prefix, "share/jupyter"),
            PATH=os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"],
        )  # fmt: skip
        (self.folder / "work").mkdir()

    def execute(self, notebook, **options):
        from nbclient import NotebookClient

        NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(self.folder / "work")}}, **options).execute()
        return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]

    def run_cells(self, *cells):
        """What each cell printed or showed, as text."""
        import nbformat

        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(textwrap.dedent(cell)) for cell in cells])
        return [self.text(outputs) for outputs in self.execute(notebook)]

    @staticmethod
    def text(outputs):
        return "".join(out.get("text") or out.get("data", {}).get("text/plain", "") for out in outputs if out.get("name") != "stderr")

    def test_the_example(self):
        import nbformat

        notebook = nbformat.read(EXAMPLE, as_version=4)
        self.assertEqual([c for c in notebook.cells if c.get("outputs")], [], "it is kept without outputs")
        outputs = self.execute(notebook)
        text = "\n".join(map(self.text, outputs))
        # The graph that was renewed until the end, with a state for each step.
        shown, = [out.data["text/html"] for out in outputs[4] if "text/html" in out.get("data", {})]
        self.assertIn("<svg", shown)
        for state in ("load: SUCCEEDED", "score: SUCCEEDED (2 SUCCEEDED)", "choose: SUCCEEDED"):
            self.assertIn(state, shown)
        self.assertRegex(text, r"\{'model': '(forest|logistic)', 'score': 0\.9\d+\}")
        self.assertIn("{'load': 'CACHED', 'score': 'CACHED', 'choose': 'CACHED'}", text)
        self.assertRegex(text, r"forest: 0\.9\d+ \+- ")
        self.assertIn("spoil KeyError: 'price'", text)

    def test_warm_workers_take_steps_of_cells(self):
        (self.folder / "work" / "beside.py").write_text("import os\nAT_IMPORT = os.getpid()\n")
        said = self.run_cells(
            """
            import beside, os, time
            from orchd import *

            class Told:
                def __init__(self, fork): self.fork = fork

            @step(cache=False)
            def told(n: int) -> Told:
                return Told(os.getpid() != beside.AT_IMPORT)

            @step(cache=False)
            def bad(of: list) -> int:
                return len(of) / zero

            @pipeline
            def many():
                told.map([1, 2, 3])

            @pipeline
            def failing():
                bad(told.map([1]))
            """,
            """
            for _ in range(200):  # until a worker takes them
                run = many.options(progress=False)()
                found = run.steps["told"].output.load()
                if all(one.fork for one in found):
                    break
            print([type(one) is Told and one.fork for one in found])
            """,
            """
            try:
                failing.options(progress=False)()
            except RunFailed as failed:
                print(failed.traceback)
            """,
        )
        self.assertEqual(said[1], "[True, True, True]\n")
        self.assertRegex(said[2], r'File "<cell of bad>", line \d+, in bad\n    return len\(of\) / zero\n')
        self.assertTrue(said[2].endswith("NameError: name 'zero' is not defined\n"), said[2])
        self.assertNotIn("orchd/", said[2])

    def test_cells_go_with_their_steps(self):
        (self.folder / "work" / "beside.py").write_text("FACTOR = 10\n")
        said = self.run_cells(
            """
            import beside, dataclasses, os.path
            from orchd import *
            run_of = lambda flow, *a: flow.options(progress=False)(*a)
            """,
            """
            @dataclasses.dataclass
            class Point:
                x: int

            class Far(Point):
                def scaled(self):
                    return self.x * beside.FACTOR
            """,
            "BONUS = {'a': 1}\nORIGIN = Far(3)\ntwice = lambda n: 2 * n\n",
            """
            @step(cache=True)
            def far(n: int) -> Far:
                return Far(twice(n) + ORIGIN.x)

            @step
            def scaled(of: Far, steps: int = 0) -> int:
                assert os.path.exists("beside.py")
                return of.scaled() + BONUS["a"]

            @pipeline
            def flow(n: int):
                one = far(n)
                return one, scaled(one)
            """,
            "run = run_of(flow, 2); one, many = run.result(); print(isinstance(one, Far), one, many)",
            "BONUS['a'] = 5\nrun = run_of(flow, 2); print(run.result()[1], run.steps['far'].state)",  # `far` does not use it
            "twice = lambda n: 3 * n\nrun = run_of(flow, 2); print(run.result()[1], run.steps['far'].state)",
            """
            import threading
            LOCK = threading.Lock()
            @step
            def locked() -> int:
                with LOCK:
                    return 1
            @pipeline
            def cannot():
                locked()
            try:
                cannot.submit()
            except Refused as refused:
                print(refused)
            """,
            """
            @step
            def bad(n: int) -> float:
                # here
                return 1 / n
            @pipeline
            def failing():
                bad(0)
            try:
                run_of(failing)
            except RunFailed as failed:
                print(failed.traceback)
            """,
        )
        self.assertEqual(said[4], "True Far(x=7) 71\n")
        self.assertEqual(said[5], "75 CACHED\n")
        self.assertEqual(said[6], "95 SUCCEEDED\n")
        self.assertRegex(said[7], "the step `locked` uses `LOCK` of the notebook, a .*lock, which cannot be pickled .*: make it inside the step")
        self.assertIn('<cell of bad>", line 4, in bad\n    return 1 / n', said[8])
        self.assertNotIn("run_step.py", said[8])


if __name__ == "__main__":
    unittest.main()
