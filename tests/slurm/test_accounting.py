"""A cluster with slurmdbd: accounts count, and sacct remembers what the controller has forgotten. GPUs, time limits and memory go to Slurm."""
import unittest

from tests.lib.daemon import wait_for
from tests.lib.slurm import Cluster
from tests.slurm.test_slurm import Base


class Accounting(Base):
    shares, slow = 2, 60

    @classmethod
    def setUpClass(cls) -> None:
        cls.cluster = Cluster(cpus=16, accounting=True)
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()

    def shown(self, run: str, step: str) -> str:
        job = self.daemon.json("get-step", run, step)["attempts"][0]["external_id"]
        return self.cluster.run("scontrol", "show", "job", "-o", job)

    def test_account_partition_time_limit_memory_and_gpus(self) -> None:
        self.register("shop", "account=physics", "partition=short", "time_limit=1", "gpus=4")
        gate = self.daemon.home / "gate"
        hold = f"while [ ! -e {gate} ]; do sleep 0.1; done"
        run = self.daemon.submit(
            "name: p\nsteps:\n"
            f"  - {{name: usual, command: [sh, -c, '{hold}']}}\n"
            f"  - {{name: other, command: [sh, -c, '{hold}'], settings: {{slurm: {{partition: main, time_limit: '2:00:00'}}}}, resources: {{cpu: 2.5, memory: 300Mi}}}}\n"
            f"  - {{name: gpus, command: [sh, -c, 'echo gpus $CUDA_VISIBLE_DEVICES; {hold}'], resources: {{gpu: 2}}}}\n"
            f"  - {{name: more, command: [sh, -c, 'echo gpus $CUDA_VISIBLE_DEVICES; {hold}'], resources: {{gpu: 2}}}}\n"
            f"  - {{name: wait, command: [sh, -c, 'echo gpus $CUDA_VISIBLE_DEVICES'], resources: {{gpu: 1}}}}\n", "--orchestrator", "shop")
        for step in ("usual", "other", "gpus", "more"):
            self.running(run, step)
        usual, other = self.shown(run, "usual"), self.shown(run, "other")
        for words in ("Account=physics", "Partition=short", "TimeLimit=00:01:00", "NumCPUs=1 "):
            self.assertIn(words, usual)
        for words in ("Account=physics", "Partition=main", "TimeLimit=02:00:00", "NumCPUs=3 ", "MinMemoryNode=300M"):
            self.assertIn(words, other)
        self.assertIn("gres:gpu:2", self.shown(run, "gpus"))
        self.assertNotIn(self.state(run, "wait"), ("RUNNING", "SUCCEEDED"), "all four are taken")
        gate.touch()
        self.wait(run)
        mine = [set(self.daemon.ctl("logs", run, step).stdout.split()[1].split(",")) for step in ("gpus", "more")]
        self.assertEqual((len(mine[0] | mine[1]), len(mine[0])), (4, 2), f"each has its own: {mine}")
        self.assertEqual(len(self.daemon.ctl("logs", run, "wait").stdout.split()), 2)

    def test_an_account_that_one_may_not_use(self) -> None:
        self.register("stranger", "account=nobody")
        said = self.daemon.json("check-orchestrator", "stranger", code=8)
        bad = next(c for c in said["checks"] if not c.get("good"))
        self.assertEqual(bad["name"], "submission")
        self.assertIn("Invalid account", bad["text"])
        self.assertIn("sacctmgr", bad["fix"])
        run = self.daemon.submit("name: p\nsteps:\n  - {name: a, command: ['true']}\n", "--orchestrator", "stranger")
        self.wait(run, code=1)
        step = self.daemon.steps(run)["a"]
        self.assertEqual(step["reason"], "UNSCHEDULABLE")
        self.assertIn("Invalid account", step["message"])

    def test_sacct_knows_what_the_controller_has_forgotten(self) -> None:
        self.register("shop", "account=physics")
        run = self.daemon.submit("name: p\nsteps:\n  - {name: a, command: [sleep, '1000']}\n  - {name: b, command: [sleep, '1000'], settings: {slurm: {time_limit: 1}}}\n",
                                 "--orchestrator", "shop")
        for step in "ab":
            self.running(run, step)
        jobs = [self.daemon.json("get-step", run, step)["attempts"][0]["external_id"] for step in "ab"]
        self.daemon.kill()  # nobody looks; without accounting both would be LOST
        self.cluster.run("scancel", jobs[0])
        text = self.cluster.conf.read_text()
        self.cluster.conf.write_text(text.replace("MinJobAge=300", "MinJobAge=2"))
        self.addCleanup(lambda: (self.cluster.conf.write_text(text), self.cluster.run("scontrol", "reconfigure")))
        self.cluster.run("scontrol", "reconfigure")
        wait_for("Slurm to forget them", lambda: not {row[4] for row in self.cluster.jobs()} & set(jobs), 240, every=1)
        wait_for("sacct to know it", lambda: "TIMEOUT" in self.cluster.run("sacct", "-n", "-X", "-o", "State", "-j", jobs[1]), 60, every=0.5)
        self.daemon.start()
        self.wait(run, code=1)
        steps = self.daemon.steps(run)
        self.assertEqual({n: s["reason"] for n, s in steps.items()}, {"a": "EVICTED", "b": "RUN_TIMEOUT"})
        self.assertIn("CANCELLED", steps["a"]["message"])


if __name__ == "__main__":
    unittest.main()
