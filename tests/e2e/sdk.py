"""What tests of `@step` and `@pipeline` have in common: files of users, run as they run them, on one real daemon."""
import importlib.util
import os
import subprocess
import sys
import textwrap
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from tests.lib.daemon import ROOT, Daemon

try:
    import tests.lib.api  # noqa: F401  finds the package
    import orchd
    from orchd.runs import default_client
except ImportError:
    orchd = None

SOURCES = str(ROOT / "client/python/src")


@unittest.skipIf(orchd is None, "python3-grpcio is missing")
class SdkCase(unittest.TestCase):
    daemon: Daemon

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = Daemon()
        cls.addClassCleanup(cls.daemon.close)
        cls.daemon.start()

    def setUp(self) -> None:
        self.folder = self.daemon.home / self._testMethodName
        self.folder.mkdir()
        patch = mock.patch.dict(os.environ, {"ORCH_DATA_DIR": str(self.daemon.data), "PYTHONPATH": SOURCES})
        patch.start()
        self.addCleanup(patch.stop)
        default_client.cache_clear()
        self.addCleanup(lambda: default_client().close())

    def write(self, text: str, name: str = "flow.py") -> Path:
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("from __future__ import annotations\nfrom orchd import *\n" + textwrap.dedent(text))
        return file

    def module(self, text: str) -> Any:
        """The file as a module of this process."""
        name = f"flow_{self._testMethodName}"
        file = self.write(text, f"{name}.py")
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        self.addCleanup(sys.modules.pop, name, None)
        spec.loader.exec_module(module)
        return module

    def run_file(self, file: Path, *args: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(["/usr/bin/python3", str(file), *args], cwd="/", text=True, capture_output=True, timeout=300,
                              env=self.daemon.environment(PYTHONPATH=SOURCES))
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done
