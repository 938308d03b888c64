"""Parts of the flavor for themselves: names, what makes a worker stale, what a rehearsal leaves."""
import itertools
import os
import pathlib
import subprocess
import tempfile
import unittest
from unittest import mock

import world  # noqa: F401  before ZenML

from orchd._discover import data_dir_around
from orchd.zenml import OrchdOrchestratorSettings, _names, _rehearsal, _translate, _worker, run_step


class Parts(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="orchd-parts-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def test_a_steps_name_follows_from_it_alone(self):
        names = ["train", "train_2", "train 2", "train.2", "_train", "params", "été", "x" * 300, "x" * 299 + "y"]
        found = {name: _names.of_step(name) for name in names}
        self.assertEqual((found["train"], found["train_2"], found["train 2"]), ("train", "train_2", "train_2-24e5179b"))
        self.assertEqual(len(set(found.values())), len(names))
        for name in found.values():
            self.assertRegex(name, r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,199}\Z")
        self.assertNotIn("params", found.values())

    def test_outputs_are_told_apart(self):
        for names in itertools.permutations(["a b", "a-b", "A_B"]):
            self.assertEqual(len({n.upper().replace("-", "_") for n in _names.distinct(names).values()}), 3)

    def test_settings_of_a_step(self):
        settings = {"orchestrator": "o", "timeout": 90, "priority": 7, "pools": {"licenses": 2}, "platform": {"local": {"a": 1}}}
        self.assertEqual(_translate.settings_of(OrchdOrchestratorSettings(**settings)), {
            "orchestrator": "o", "timeout": {"run": "90s"}, "priority": 7, "pools": {"licenses": 2}, "settings": {"local": {"a": 1}},
        })  # fmt: skip
        self.assertEqual(_translate.settings_of(OrchdOrchestratorSettings(timeout="10m")), {"timeout": {"run": "10m"}})
        self.assertEqual(_translate.settings_of(OrchdOrchestratorSettings()), {})

    def test_a_file_that_is_edited_makes_a_worker_stale(self):
        (self.folder / "zenml").mkdir()
        for file in (self.folder / "a.py", self.folder / "zenml" / "b.py"):
            file.write_text("x = 1\n")
            with mock.patch.object(_worker, "_PACKAGE", str(self.folder)):
                before = _worker._state()
                self.assertEqual(_worker._state(), before)
                folder = os.stat(file.parent).st_mtime_ns
                file.write_text("x = 22\n")
                self.assertEqual(os.stat(file.parent).st_mtime_ns, folder)
                self.assertNotEqual(_worker._state(), before)

    def test_what_is_installed_makes_a_worker_stale(self):
        with mock.patch("sysconfig.get_path", return_value=str(self.folder)):
            before = _worker._state()
            (self.folder / "more-1.0.dist-info").mkdir()
            os.utime(self.folder, ns=(before[0][1],) * 2)  # within one tick of the file system's clock
            self.assertNotEqual(_worker._state(), before)

    def test_a_rehearsal_leaves_nothing(self):
        store = mock.Mock()
        store.engine.url.database = str(self.folder / "store")
        (self.folder / "store").write_bytes(b"")
        gone = subprocess.Popen(["true"])
        gone.wait()
        (self.folder / f"rehearsal-{gone.pid}-a").mkdir()
        (self.folder / f"rehearsal-{os.getpid()}-b").mkdir()
        with mock.patch.object(_rehearsal._workers, "folder", return_value=str(self.folder)), \
                mock.patch.object(_rehearsal, "Client") as client, \
                mock.patch.object(_rehearsal, "_copy", side_effect=OSError), \
                mock.patch.object(_rehearsal, "_end_logging", side_effect=RuntimeError), \
                self.assertRaises(RuntimeError):  # fmt: skip
            client.return_value.active_stack_model.components = {}
            _rehearsal.rehearse(store)
        self.assertEqual(sorted(os.listdir(self.folder)), [f"rehearsal-{os.getpid()}-b", "store"])

    def test_a_step_finds_its_own_daemon(self):
        own = self.folder / "scratch" / "7"
        own.mkdir(parents=True)
        self.assertEqual(data_dir_around(str(own)), "")
        self.assertEqual(data_dir_around(""), "")
        (self.folder / "server.json").write_text("{}")
        payload = {"cwd": os.getcwd(), "root": os.getcwd(), "path": [], "socket": "-", "data_dir": ""}
        with mock.patch.dict(os.environ, {"ORCH_SCRATCH": str(own), "ORCH_TOKEN": "of the step"}):
            os.environ.pop("ORCH_DATA_DIR", None)
            run_step.prepare(payload)
            self.assertEqual((os.environ["ORCH_DATA_DIR"], os.environ.get("ORCH_TOKEN")), (str(self.folder), None))
            run_step.prepare({**payload, "data_dir": "/elsewhere"})
            self.assertEqual(os.environ["ORCH_DATA_DIR"], "/elsewhere")


if __name__ == "__main__":
    unittest.main()
