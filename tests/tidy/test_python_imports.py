"""The Python package has no circles of imports, and starts processes in one way."""
import unittest

from tests.tidy import python_imports


class PythonImports(unittest.TestCase):
    def test_there_are_no_circles(self):
        faults = python_imports.check_circles()
        self.assertFalse(faults, "\n".join(faults))

    def test_processes_are_spawned(self):
        faults = python_imports.check_processes()
        self.assertFalse(faults, "\n".join(faults))

    def test_it_looks_at_the_package(self):
        self.assertLess({"orchd", "orchd.steps", "orchd.zenml", "orchd.zenml.orchestrator"}, set(python_imports.modules()))

    def test_a_circle_is_found_wherever_the_import_stands(self):
        known = {"orchd": "", "orchd.a": "", "orchd.b": "", "orchd.zenml": "", "orchd.zenml.c": ""}
        for text in ("from .b import x", "from . import b", "import orchd.b", "def f():\n    from .b import x",
                     "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .b import x"):  # fmt: skip
            with self.subTest(text):
                self.assertEqual(set(python_imports.imported("orchd.a", "orchd/a.py", text, known)), {"orchd.b"})
        above = python_imports.imported("orchd.zenml.c", "orchd/zenml/c.py", "from .. import a\nfrom ..b import x\nfrom . import y", known)
        self.assertEqual(above, {"orchd.a": 1, "orchd.b": 2})
        self.assertEqual(python_imports.circles({"a": ["b"], "b": ["c"], "c": ["a", "d"], "d": []}), ["a -> b -> c -> a"])
        self.assertEqual(python_imports.circles({"a": ["b", "c"], "b": ["c"], "c": []}), [])


if __name__ == "__main__":
    unittest.main()
