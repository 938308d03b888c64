"""The real daemon, for tests that need one; they are left out where it is not built."""
import os
import pathlib
import unittest
from unittest import mock

from test_client import clean_environment

from orchd.testing import Daemon

BINARY = pathlib.Path(os.environ.get("ORCH_TEST_BIN", pathlib.Path(__file__).resolve().parents[2] / "build/release/bin")) / "orchd"


@unittest.skipUnless(BINARY.exists(), "orchd is not built")
class RealCase(unittest.TestCase):
    def setUp(self):
        patch = mock.patch.dict(os.environ, {**clean_environment(), "ORCHD_BIN": str(BINARY)}, clear=True)
        patch.start()
        self.addCleanup(patch.stop)
        self.daemon = Daemon()
        self.addCleanup(self.daemon.close)
        os.environ["ORCH_DATA_DIR"] = self.daemon.data_dir
