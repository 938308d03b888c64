"""Artifact stores and stacks: what is registered, what a submission means by them, what is refused."""
from __future__ import annotations

import os
import shutil
import unittest
from pathlib import Path

from tests.lib.daemon import Daemon

STEPS = "name: p\nsteps:\n  - {name: a, command: [sh, -c, 'seq 50000 > $ORCH_OUTPUT_F'], outputs: {f: {}}}\n"


class Stacks(unittest.TestCase):
    def setUp(self) -> None:
        self.daemon = Daemon()
        self.addCleanup(self.daemon.close)
        self.daemon.start()
        self.folder = self.daemon.home / "elsewhere"

    def test_the_first_start_has_a_default(self) -> None:
        stacks = self.daemon.json("list-stacks")["stacks"]
        self.assertEqual([(s["name"], s["orchestrator"], s["artifact_store"], s["is_default"]) for s in stacks], [("default", "local", "default", True)])
        self.assertEqual(self.daemon.json("list-artifact-stores")["artifact_stores"], [])

    def test_a_folder_as_a_store(self) -> None:
        self.daemon.ctl("register-artifact-store", "disk", "--flavor", "local", "--config", f"path={self.folder}")
        self.daemon.ctl("register-stack", "two", "--orchestrator", "local", "--artifact-store", "disk")
        self.daemon.ctl("submit", self.daemon.file(STEPS), "--stack", "two", "--name", "one", "--wait")
        kept = [p for p in self.folder.rglob("*") if p.is_file()]
        self.assertEqual([p.stat().st_size for p in kept], [288894])
        shown = self.daemon.json("get-run", "one")
        self.assertEqual((shown["stack"], shown["artifact_store"]), ("two", "disk"))
        self.daemon.stop()
        shutil.rmtree(self.daemon.data / "blobs")
        self.daemon.start()
        self.daemon.ctl("get-artifact", "p.a.f", "--output", self.daemon.home / "f")
        self.assertEqual((self.daemon.home / "f").stat().st_size, 288894)

    def test_set_stack_changes_what_a_submission_means(self) -> None:
        self.daemon.ctl("register-orchestrator", "small", "--flavor", "local", "--config", "cpus=1")
        self.daemon.ctl("register-stack", "tiny", "--orchestrator", "small")
        self.daemon.ctl("submit", self.daemon.file(STEPS), "--name", "before", "--wait")
        self.assertIn("the default", self.daemon.ctl("set-stack", "tiny").stdout)
        self.daemon.ctl("submit", self.daemon.file(STEPS), "--name", "after", "--wait")
        self.daemon.ctl("submit", self.daemon.file(STEPS), "--stack", "default", "--name", "named", "--wait")
        where = {name: self.daemon.json("get-run", name)["orchestrator"] for name in ("before", "after", "named")}
        self.assertEqual(where, {"before": "local", "after": "small", "named": "local"})
        self.assertEqual([s["name"] for s in self.daemon.json("list-stacks")["stacks"] if s.get("is_default")], ["tiny"])
        self.daemon.restart()
        self.assertEqual(self.daemon.json("get-stack", "tiny")["orchestrator"], "small")
        self.daemon.ctl("delete-stack", "default")
        self.assertIn("set-stack", self.daemon.ctl("delete-stack", "tiny", code=8).stderr)

    def test_what_is_refused(self) -> None:
        path = self.daemon.file(STEPS)
        self.assertIn("there is no stack `no`", self.daemon.ctl("submit", path, "--stack", "no", code=3).stderr)
        self.assertIn("there is no stack `no`", self.daemon.ctl("validate", path, "--stack", "no", code=8).stderr)
        self.assertIn("no artifact store `no`", self.daemon.ctl("register-stack", "x", "--orchestrator", "local", "--artifact-store", "no", code=3).stderr)
        self.assertIn("no orchestrator `no`", self.daemon.ctl("register-stack", "x", "--orchestrator", "no", code=3).stderr)
        self.daemon.ctl("get-stack", "no", code=3)
        self.daemon.ctl("delete-stack", "no", code=3)
        self.daemon.ctl("get-artifact-store", "no", code=3)
        self.daemon.ctl("delete-artifact-store", "no", code=3)
        def refused(*config: str, name: str = "x", code: int = 8) -> str:
            return self.daemon.ctl("register-artifact-store", name, "--flavor", "local", *[w for c in config for w in ("--config", c)], code=code).stderr
        self.assertIn("an absolute path", refused())
        self.assertIn("an absolute path", refused("path=here"))
        self.assertIn("in the data directory", refused(f"path={self.daemon.data}/x"))
        self.assertIn("there are path", refused(f"path={self.folder}", "colour=red"))
        self.assertIn("choose another name", refused(f"path={self.folder}", name="default"))
        (self.daemon.home / "file").write_text("")
        self.assertIn("the store's folder", refused(f"path={self.daemon.home}/file/x"))
        self.daemon.ctl("register-artifact-store", "x", "--flavor", "local", "--config", f"path={self.folder}")
        self.daemon.ctl("register-artifact-store", "x", "--flavor", "local", "--config", f"path={self.folder}")
        self.assertIn("--update", refused(f"path={self.folder}2"))
        self.daemon.ctl("register-artifact-store", "x", "--flavor", "local", "--config", f"path={self.folder}2", "--update")
        self.assertEqual(int(self.daemon.json("get-artifact-store", "x")["version"]), 2)
        self.daemon.ctl("register-stack", "s", "--orchestrator", "local", "--artifact-store", "x")
        self.assertIn("stack `s` names", self.daemon.ctl("delete-artifact-store", "x", code=8).stderr)
        held = self.daemon.home / "held"
        held.touch()
        run = self.daemon.submit(f"name: holds\nsteps: [{{name: a, command: [sh, -c, 'while test -e {held}; do sleep 0.05; done']}}]\n", "--stack", "s")
        self.daemon.ctl("delete-stack", "s")
        self.assertIn(f"run `{run}` keeps its artifacts", self.daemon.ctl("delete-artifact-store", "x", code=8).stderr)
        held.unlink()
        self.daemon.ctl("wait-run", run)
        self.daemon.ctl("delete-artifact-store", "x")

    def test_a_store_that_is_away_fails_the_step_in_its_own_words(self) -> None:
        self.daemon.ctl("register-artifact-store", "disk", "--flavor", "local", "--config", f"path={self.folder}")
        self.daemon.ctl("register-stack", "two", "--orchestrator", "local", "--artifact-store", "disk")
        shutil.rmtree(self.folder)
        self.folder.write_text("no folder")
        run = self.daemon.ctl("submit", self.daemon.file(STEPS), "--stack", "two").stdout.split()[0]
        self.daemon.ctl("wait-run", run, code=1)
        step = self.daemon.steps(run)["a"]
        self.assertEqual(step["reason"], "STORE_FAILED")
        self.assertIn("the store's folder", step["message"])
        self.assertEqual(self.daemon.json("list-artifacts")["artifacts"], [])


if __name__ == "__main__":
    unittest.main()
