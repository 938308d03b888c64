"""What Slurm says is not the whole truth: its ids come again, exit codes are seen late, nodes do not see the folder, jobs are forgotten."""
import sys
import unittest
from pathlib import Path

from tests.lib.daemon import wait_for
from tests.lib.slurm import PLUGIN, Cluster
from tests.slurm.test_slurm import Base

sys.path.insert(0, str(PLUGIN.parent))


class Doubt(Base):
    shares, slow = 3, 15

    def folder(self, orchestrator: str = "hpc") -> Path:
        """Of the one job that there is."""
        return next((self.daemon.data / f"plugins/{orchestrator}/state/jobs").iterdir())

    def held(self, sbatch: str = "") -> tuple[Path, Path]:
        """Slurm's programs, whose sbatch holds jobs as long as the second file is there, and then does what `sbatch` says."""
        held = self.daemon.home / "held"
        held.touch()
        return self.wrapped(f'if [ -e {held} ]; then exec /usr/bin/sbatch --hold "$@"; fi\n{sbatch}exec /usr/bin/sbatch "$@"\n'), held

    def counted(self, folder: Path, *programs: str) -> Path:
        """What notes each call of those."""
        calls = self.daemon.home / "calls"
        for program in programs:
            (folder / program).unlink()
            (folder / program).write_text(f'#!/bin/sh\necho {program} >> {calls}\nexec /usr/bin/{program} "$@"\n')
            (folder / program).chmod(0o755)
        return calls

    def test_a_stop_spares_a_job_of_somebody_else_that_got_the_same_id(self) -> None:
        folder, _ = self.held()
        self.register("waits", f"bin_dir={folder}", "settle_seconds=30")
        keep = self.saved()
        run = self.daemon.submit("name: p\nsteps:\n  - {name: a, command: ['true']}\n", "--orchestrator", "waits")
        wait_for("it to wait", lambda: self.state(run, "a") == "QUEUED", 60, every=0.1)
        ours = self.daemon.json("get-step", run, "a")["attempts"][0]["external_id"]
        self.cluster.kill_and_forget(keep)
        theirs = self.cluster.run("sbatch", "--parsable", "--job-name=theirs", "--output=/dev/null", "--wrap=sleep 1000").strip()
        self.addCleanup(self.cluster.run, "scancel", theirs)
        self.assertEqual(theirs, ours)
        self.daemon.ctl("cancel-run", run, "--force")
        self.wait(run, code=5)
        self.assertIn(theirs, [row[4] for row in self.cluster.jobs("running,pending")])

    def test_an_exit_code_that_is_seen_late(self) -> None:
        """As on a node whose file system tells of it later."""
        folder, held = self.held()
        held.unlink()
        calls = self.counted(folder, "squeue")
        self.register("late", f"bin_dir={folder}", "settle_seconds=120")
        gate = self.daemon.home / "gate"
        for status in (0, 3):
            run = self.daemon.submit(f"name: p\nsteps:\n  - {{name: a, command: [sh, -c, 'while [ ! -e {gate} ]; do sleep 0.1; done; exit {status}']}}\n",
                                     "--orchestrator", "late")
            self.running(run)
            job = self.daemon.json("get-step", run, "a")["attempts"][0]["external_id"]
            state = self.folder("late")
            (state / "exit.new").mkdir()  # so that it cannot write it
            gate.touch()
            wait_for("Slurm's word of the end", lambda: job in [r[4] for r in self.cluster.jobs("completed,failed")], 60, every=0.2)
            before = calls.read_text().count("squeue")
            wait_for("it to be seen", lambda: calls.read_text().count("squeue") > before + 2, 60)
            self.assertEqual(self.state(run, "a"), "RUNNING")
            (state / "late").write_text(f"{status}\n")
            (state / "late").rename(state / "exit")
            self.wait(run, code=1 if status else 0)
            self.assertEqual(self.daemon.steps(run)["a"]["exit_code"], status)
            gate.unlink()
            wait_for("nothing to be left", lambda: not state.exists(), 60)

    def test_an_exit_code_that_is_never_seen(self) -> None:
        gate = self.daemon.home / "gate"
        run = self.submit(f"  - {{name: a, command: [sh, -c, 'while [ ! -e {gate} ]; do sleep 0.1; done']}}\n")
        self.running(run)
        (self.folder() / "exit.new").mkdir()
        gate.touch()
        self.wait(run, code=1)
        attempt = self.daemon.json("get-step", run, "a")["attempts"][0]
        self.assertEqual((attempt["state"], attempt["message"]), ("LOST", "Slurm says COMPLETED, and it left no exit code"))

    def test_refusals_are_no_losses(self) -> None:
        """More of them than there may be losses."""
        refusals = self.daemon.home / "refusals"
        refusals.write_text("12345")
        folder, held = self.held(f'if [ -s {refusals} ]; then\n  truncate --size=-1 {refusals}\n'
                                 '  echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy" >&2\n  exit 1\nfi\n')
        self.register("strict", f"bin_dir={folder}", "settle_seconds=1")
        keep = self.saved()
        run = self.daemon.submit("name: p\nsteps:\n  - {name: a, command: ['true']}\n", "--orchestrator", "strict")
        wait_for("it to wait", lambda: self.state(run, "a") == "QUEUED", 60, every=0.1)
        held.unlink()
        self.cluster.kill_and_forget(keep)
        self.wait(run)
        self.assertEqual(refusals.read_text(), "")
        self.assertEqual(self.daemon.steps(run)["a"]["attempt"], 1)

    def test_one_that_is_stopped_while_it_is_submitted_again_never_begins(self) -> None:
        called, gate, mark = (self.daemon.home / name for name in ("called", "gate", "mark"))
        folder, held = self.held(f"touch {called}\nwhile [ ! -e {gate} ]; do sleep 0.1; done\n")
        self.register("slow", f"bin_dir={folder}", "settle_seconds=1")
        keep = self.saved()
        run = self.daemon.submit(f"name: p\nsteps:\n  - {{name: a, command: [touch, {mark}]}}\n", "--orchestrator", "slow")
        wait_for("it to wait", lambda: self.state(run, "a") == "QUEUED", 60, every=0.1)
        held.unlink()
        self.cluster.kill_and_forget(keep)
        wait_for("it to be submitted again", called.exists, 60)
        self.daemon.ctl("cancel-run", run)
        wait_for("the stop", (self.folder("slow") / "stop").exists, 20, every=0.05)
        gate.touch()
        self.wait(run, code=5)
        self.assertFalse(mark.exists())

    def test_what_is_forgotten_is_asked_for_all_at_once(self) -> None:
        folder, held = self.held()
        held.unlink()
        calls = self.counted(folder, "squeue", "sacct", "sinfo")
        self.register("many", f"bin_dir={folder}")
        keep = self.saved()
        run = self.daemon.submit("name: p\nsteps:\n  - name: a\n    foreach: {i: " + str(list(range(20))) + "}\n    command: [sleep, '1000']\n",
                                 "--orchestrator", "many")
        wait_for("them to run", lambda: sum(s["state"] == "RUNNING" for s in self.daemon.steps(run).values()) == 20, 120, every=0.1)
        calls.write_text("")
        self.cluster.kill_and_forget(keep)
        self.wait(run, code=1)
        for i in range(20):
            self.assertEqual(self.daemon.json("get-step", run, f"a[{i}]")["attempts"][0]["state"], "LOST")
        said = calls.read_text().split()
        for program in ("sacct", "sinfo"):
            self.assertGreater(said.count(program), 0)
            self.assertLessEqual(said.count(program), said.count("squeue") + 1, said)


class Unseen(Base):
    @classmethod
    def setUpClass(cls) -> None:
        cls.cluster = Cluster(cpus=16)
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()

    def test_an_array_on_a_node_that_does_not_see_the_folder(self) -> None:
        self.cluster.hide(self.daemon.data)
        run = self.submit("  - name: a\n    foreach: {i: [1, 2, 3]}\n    command: ['true']\n")
        self.wait(run, code=1)
        steps = {n: s for n, s in self.daemon.steps(run).items() if n != "a"}
        self.assertEqual({n: s["reason"] for n, s in steps.items()}, {f"a[{i}]": "UNSCHEDULABLE" for i in range(3)})
        for step in steps.values():
            self.assertIn(f"the node {self.cluster.node} does not see {self.daemon.data}/plugins/hpc/state/jobs", step["message"])


class Accounted(Base):
    @classmethod
    def setUpClass(cls) -> None:
        cls.cluster = Cluster(cpus=16, accounting=True)
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()

    def test_what_accounting_says_of_a_job_that_is_called_otherwise_is_nothing(self) -> None:
        from commands import Slurm
        job = int(self.cluster.run("sbatch", "--parsable", "--account=physics", "--job-name=theirs", "--output=/dev/null", "--wrap=exit 7"))
        theirs = Slurm("theirs", str(self.cluster.conf), "")
        wait_for("sacct to know its end", lambda: theirs.history([job]).get((job, -1)) is not None and theirs.history([job])[(job, -1)].state == "FAILED", 120, every=0.5)
        self.assertEqual(theirs.history([job])[(job, -1)].status, 7 << 8)
        self.assertEqual(Slurm("ours", str(self.cluster.conf), "").history([job]), {})


if __name__ == "__main__":
    unittest.main()
