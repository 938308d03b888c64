"""Who starts when there is not room for all: resources, pools, order, reservation, GPUs, by the real binaries."""
import signal
import unittest

from tests.lib.daemon import Daemon, wait_for

SITE = """
orchestrators:
  - {name: one, flavor: local, config: {cpus: 1, custom: {licence: 1}}}
  - {name: two, flavor: local, config: {cpus: 2}}
  - {name: gpus, flavor: local, config: {cpus: 8, memory: 1Gi, gpus: {devices: [3, 5], kind: a100}}}
"""


class Admission(unittest.TestCase):
    daemon: Daemon

    def setUp(self) -> None:
        self.daemon = Daemon("reserve_after: 300ms\n")
        self.addCleanup(self.daemon.close)
        self.daemon.start()
        self.daemon.ctl("apply", "-f", self.daemon.file(SITE, "site.yaml"), "--yes")
        self.gate = self.daemon.home / "gate"
        self.until_gate = f"while [ ! -e {self.gate} ]; do sleep 0.02; done"

    def wait_state(self, run: str, step: str, state: str) -> None:
        wait_for(f"{step} of {run} to be {state}", lambda: self.daemon.steps(run)[step]["state"] == state)

    def refused(self, more: str, *words: str, orchestrator: str = "one") -> None:
        text = f"name: p\nsteps:\n  - name: a\n    command: ['true']\n    {more}\n"
        error = self.daemon.ctl("submit", self.daemon.file(text), "--orchestrator", orchestrator, code=8).stderr
        for word in words:
            self.assertIn(word, error)

    def test_more_than_there_is_is_refused_with_both_numbers(self) -> None:
        self.refused("resources: {cpu: 1.5}", "cpu 1.5: one offers 1")
        self.refused("resources: {memory: 2Gi}", "memory 2147483648: gpus offers 1073741824", orchestrator="gpus")
        self.refused("resources: {gpu: 3}", "gpu 3: gpus offers 2", orchestrator="gpus")
        self.refused("resources: {gpu: 1}", "gpu 1: one offers 0")
        self.refused("resources: {gpu: {count: 1, kind: t4}}", "gpu t4: gpus offers a100", ":5:", orchestrator="gpus")
        self.refused("resources: {custom: {licence: 2}}", "licence 2: one offers 1")
        self.refused("resources: {custom: {seat: 1}}", "seat 1: one offers 0")
        self.refused("pools: [db]", "there is no pool `db`", "orchctl create-pool db --slots N")
        self.daemon.ctl("create-pool", "db", "--slots", 1)
        self.refused("pools: {db: 2}", "pool `db` has 1 slots, the step takes 2")

    def test_shares_of_a_cpu_and_custom_things_add_up(self) -> None:
        # covers: Resources.cpu Resources.custom
        marks = self.daemon.home / "marks"
        run = self.daemon.submit(f"""
name: shares
steps:
  - name: quarter
    foreach: {{i: [1, 2, 3, 4]}}
    command: [sh, -c, 'echo in >> {marks}; {self.until_gate}']
    resources: {{cpu: 0.25}}
  - name: half
    command: ['true']
    resources: {{cpu: 0.5}}
    priority: -1
""", "--orchestrator", "one")
        wait_for("four quarters at once", lambda: marks.exists() and marks.read_text().count("in") == 4)
        self.wait_state(run, "half", "READY")
        self.gate.touch()
        self.daemon.ctl("wait-run", run)
        self.gate.unlink()
        run = self.daemon.submit(f"""
name: licences
steps:
  - name: use
    foreach: {{i: [1, 2]}}
    command: [sh, -c, '{self.until_gate}']
    resources: {{cpu: 0.1, custom: {{licence: 1}}}}
""", "--orchestrator", "one")
        self.wait_state(run, "use[0]", "RUNNING")
        self.wait_state(run, "use[1]", "READY")
        self.gate.touch()
        self.daemon.ctl("wait-run", run)

    def test_priority_then_the_longest_way_then_age(self) -> None:
        # covers: StepSpec.priority
        order = self.daemon.home / "order"
        self.daemon.ctl("create-pool", "single", "--slots", 1)
        run = self.daemon.submit(f"""
name: order
defaults: {{pools: [single], resources: {{cpu: 0}}}}
steps:
  - {{name: first, command: [sh, -c, '{self.until_gate}'], priority: 9}}
  - {{name: lone, command: [sh, -c, 'echo lone >> {order}']}}
  - {{name: head, command: [sh, -c, 'echo head >> {order}']}}
  - {{name: mid, command: [sh, -c, 'echo mid >> {order}'], after: [head]}}
  - {{name: urgent, command: [sh, -c, 'echo urgent >> {order}'], priority: 1}}
  - {{name: young, command: [sh, -c, 'echo young >> {order}']}}
""")
        self.wait_state(run, "young", "READY")
        self.daemon.restart(signal.SIGKILL)
        self.gate.touch()
        self.daemon.ctl("wait-run", run)
        self.assertEqual(order.read_text().split(), ["urgent", "head", "lone", "young", "mid"])

    def test_a_step_that_has_waited_reserves_what_it_needs(self) -> None:
        text = "name: {0}\nsteps:\n  - name: a\n    command: [sh, -c, '{1}']\n    resources: {{cpu: {2}}}\n"
        there = ("--orchestrator", "two")
        holder = self.daemon.submit(text.format("holder", self.until_gate, 1), *there)
        self.wait_state(holder, "a", "RUNNING")
        big = self.daemon.submit(text.format("big", "true", 2), *there)
        self.wait_state(big, "a", "READY")
        wait_for("a later one not to pass any more", lambda: self.daemon.ctl(
            "wait-run", self.daemon.submit(text.format("late", "true", 1), *there), "--timeout", "300ms", code=None
        ).returncode == 6)
        late = self.daemon.json("list-runs", "--filter", "pipeline=late")["runs"][0]["name"]
        self.assertEqual(self.daemon.steps(late)["a"]["state"], "READY")
        self.gate.touch()
        for run in (holder, big, late):
            self.daemon.ctl("wait-run", run)
        self.assertLess(self.daemon.steps(big)["a"]["start_time"], self.daemon.steps(late)["a"]["start_time"])

    def test_max_parallel_of_a_run(self) -> None:
        # covers: Pipeline.max_parallel
        run = self.daemon.submit(f"""
name: narrow
max_parallel: 2
steps:
  - name: s
    foreach: {{i: [1, 2, 3]}}
    command: [sh, -c, '{self.until_gate}']
    resources: {{cpu: 0}}
""")
        self.wait_state(run, "s[1]", "RUNNING")
        self.wait_state(run, "s[2]", "READY")
        self.gate.touch()
        self.daemon.ctl("wait-run", run)

    def test_gpus_are_given_out_one_by_one_also_over_a_kill(self) -> None:
        # covers: Resources.gpu Resources.Gpu.count Resources.Gpu.kind
        run = self.daemon.submit(f"""
name: gpus
defaults: {{resources: {{cpu: 1, gpu: {{count: 1, kind: a100}}}}}}
steps:
  - {{name: a, command: [sh, -c, 'echo $CUDA_VISIBLE_DEVICES; {self.until_gate}']}}
  - {{name: b, command: [sh, -c, 'echo $CUDA_VISIBLE_DEVICES; {self.until_gate}.b']}}
  - {{name: c, command: [sh, -c, 'echo $CUDA_VISIBLE_DEVICES']}}
  - name: none
    command: [sh, -c, 'echo "[$CUDA_VISIBLE_DEVICES]"']
    resources: {{gpu: {{count: 0}}}}
  - name: own
    command: [sh, -c, 'echo "[$CUDA_VISIBLE_DEVICES]"']
    env: {{CUDA_VISIBLE_DEVICES: '7'}}
    resources: {{gpu: {{count: 0}}}}
""".replace(f"{self.gate} ]; do sleep 0.02; done.b", f"{self.gate}.b ]; do sleep 0.02; done"), "--orchestrator", "gpus")

        def said(step: str) -> str:
            return self.daemon.ctl("logs", run, step, code=None).stdout.strip()

        wait_for("both GPUs to be in use", lambda: sorted((said("a"), said("b"))) == ["3", "5"])
        self.assertEqual(wait_for("a step without", lambda: said("none")), "[]")
        self.assertEqual(wait_for("a step with its own", lambda: said("own")), "[7]")
        self.wait_state(run, "c", "READY")
        self.daemon.restart(signal.SIGKILL)
        self.gate.touch()  # a ends, b goes on
        self.assertEqual(wait_for("the third step", lambda: said("c")), said("a"))
        (self.daemon.home / "gate.b").touch()
        self.daemon.ctl("wait-run", run)

    def test_pools_by_their_verbs(self) -> None:
        # covers: StepSpec.pools
        ctl = self.daemon.ctl
        self.assertIn("pool db has 2 slots", ctl("create-pool", "db", "--slots", 2, "--description", "the warehouse").stdout)
        ctl("create-pool", "db", "--slots", 3)
        run = self.daemon.submit(f"name: p\nsteps:\n  - name: a\n    command: [sh, -c, '{self.until_gate}']\n    pools: {{db: 2}}\n")
        self.wait_state(run, "a", "RUNNING")
        self.daemon.restart(signal.SIGKILL)
        self.assertEqual([(p["name"], p["slots"], p["used"]) for p in self.daemon.json("list-pools")["pools"]], [("db", 3, 2)])
        self.assertRegex(ctl("list-pools").stdout, r"db +3 +2")
        self.assertIn("cancel them or wait", ctl("delete-pool", "db", code=8).stderr)
        self.gate.touch()
        ctl("wait-run", run)
        ctl("delete-pool", "db")
        ctl("delete-pool", "db", code=3)
        self.assertEqual(self.daemon.json("list-pools")["pools"], [])
        ctl("create-pool", "p", code=2)
        ctl("create-pool", "p", "--slots", 1_000_001, code=2)
        ctl("create-pool", "not a name", "--slots", 1, code=8)


if __name__ == "__main__":
    unittest.main()
