"""What of a notebook's cells goes with a step; without a notebook, as its kernel leaves cells behind."""
import linecache
import os
import pathlib
import subprocess
import sys
import tempfile
import types
import unittest

import orchd
from orchd import _cells


class Cells(unittest.TestCase):
    def setUp(self):
        self.main = types.ModuleType("__main__")
        self.addCleanup(sys.modules.__setitem__, "__main__", sys.modules["__main__"])
        sys.modules["__main__"] = self.main
        self.count = 0
        self.cell("from orchd import *\nimport os\n")

    def cell(self, text):
        self.count += 1
        name = f"<{self._testMethodName}-{self.count}>"
        linecache.cache[name] = (len(text), None, text.splitlines(True), name)
        self.addCleanup(linecache.cache.pop, name)
        exec(compile(text, name, "exec", dont_inherit=True), self.main.__dict__)

    def step(self, name="go"):
        return self.main.__dict__[name].function

    def run_step(self, name="go", code=0):
        """What its process says."""
        step = self.main.__dict__[name]
        spec = orchd.pipeline(name="p")(lambda: step()).spec()["steps"][0]
        words = [word.replace("$$", "$") for word in spec["command"]]
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder, "out")
            done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env={
                **os.environ, "PYTHONPATH": str(pathlib.Path(orchd.__file__).parent.parent),
                "ORCH_OUTPUT_OUTPUT": str(out), "ORCH_SCRATCH": folder})  # fmt: skip
            self.assertEqual(done.returncode, code, done.stderr)
            return out.read_text() if code == 0 else done.stderr

    def test_what_is_used_and_what_that_uses(self):
        self.cell("import os.path as ospath, json as j\nfrom math import sqrt as root\nimport xml.dom\nimport dataclasses\n")
        self.cell("@dataclasses.dataclass\nclass Base:\n    x: int\n\n\nclass Derived(Base):\n    LIST = [twice(n) for n in range(2)] if 'twice' in globals() else []\n"
                  "    @property\n    def much(self): return root(self.x) + STEPS[self.x]\n")
        self.cell("STEPS = {4: 5}\nONE = Derived(4)\nUNUSED = iter(())\nquadruple = lambda v: 4 * v\n")
        self.cell("def wrap(f):\n    import functools\n    @functools.wraps(f)\n    def inner(*a):\n        return f(*a) + 1\n    return inner\n")
        self.cell("@wrap\ndef helper(n):\n    return quadruple(n) if n else deeper(n)\n\ndef deeper(n):\n    return helper(n + 1)\n")
        self.cell("@step\ndef go() -> dict:\n    xml.dom.minidom if False else ospath.join('a')\n    return {'a': helper(0), 'b': ONE.much, 'c': j.loads('1'), 'd': (lambda: Derived.__module__)()}\n")
        self.assertEqual(self.run_step(), '{"a": 6, "b": 7.0, "c": 1, "d": "__main__"}')

    def test_the_newest_definition_counts_and_the_rest_is_not_there(self):
        self.cell("class K:\n    a = 1\n")
        self.cell("class K:\n    a = 2\n")
        self.cell("def f():\n    return K.a\n@step\ndef go() -> int:\n    return f()\n")
        before = _cells.gather(self.step()).text
        self.assertEqual(self.run_step(), "2")
        self.cell("other = 3\n")
        self.assertEqual(_cells.gather(self.step()).text, before, "a cell that it does not use changes nothing")
        self.cell("def f():\n    return 7\n")
        self.assertNotEqual(_cells.gather(self.step()).text, before)
        self.assertEqual(self.run_step(), "7")

    def test_annotations_as_text(self):
        self.cell("from __future__ import annotations\nfrom pathlib import Path\nclass T: pass\n@step\ndef go(a: T = None) -> Path:\n    import os\n"
                  "    from orchd import current_step\n    p = current_step().scratch / 'f'\n    p.write_text('é')\n    return p\n")
        self.assertEqual(self.run_step(), "é")

    def test_what_cannot_travel_is_named(self):
        self.cell("import threading\nLOCK = threading.Lock()\nBIG = bytes(100_000)\nexec(compile('def hidden(): pass', 'nowhere', 'exec'))\nHELD = [LOCK]\nCALLS = {'f': lambda: 1}\n")
        for name, why in (("LOCK", "which cannot be pickled"), ("HELD", "which cannot be pickled"), ("BIG", "takes 1000.. bytes, at most 65536"),
                          ("hidden", "cannot be pickled|source is in no cell"), ("CALLS", "cannot be pickled")):  # fmt: skip
            self.cell(f"@step\ndef go():\n    return {name}\n")
            with self.subTest(name), self.assertRaisesRegex(orchd.Refused, f"the step `go` uses `{name}` of the notebook, a .*{why}"):
                _cells.gather(self.step()).text
        self.cell("def outer():\n    @step\n    def inner(): pass\n    return inner\ninner = outer()\n")
        with self.assertRaisesRegex(orchd.Refused, "made inside another function"):
            orchd.pipeline(name="p")(lambda: self.main.inner()).spec()
        exec("from orchd import step\n@step\ndef typed(): pass\n", self.main.__dict__)
        with self.assertRaisesRegex(orchd.Refused, "its file or in a cell of a notebook"):
            orchd.pipeline(name="p")(lambda: self.main.typed()).spec()

    def test_a_failure_shows_the_cell_s_lines(self):
        self.cell("\n\ndef deeper(n):\n    return 1 / n  # here\n")
        self.cell("@step\ndef go() -> float:\n    return deeper(0)\n")
        said = self.run_step(code=1)
        self.assertIn('File "<cell of go>", line 3, in go\n    return deeper(0)', said)
        self.assertIn('File "<cell of deeper>", line 4, in deeper\n    return 1 / n  # here', said)
        self.assertNotIn("run_step.py", said)


if __name__ == "__main__":
    unittest.main()
