"""What each resource becomes on each flavor: counted by the daemon, kept to by the platform, or refused at submit."""
from __future__ import annotations

import json
from typing import Any

from tests.conformance.cases import Cases, generate
from tests.conformance.flavor import ASKED, COUNTED, KEPT, REFUSED, Does
from tests.lib.daemon import wait_for

MIB = 1 << 20


class Resources(Cases):
    table = "resources"
    usual = {"": COUNTED, "disk": REFUSED, "gpu_kind_that_is_not_offered": REFUSED, "more_than_all": REFUSED, "custom_that_is_not_offered": REFUSED}

    @classmethod
    def setUpClass(cls) -> None:
        cls.flavor.up()
        cls.addClassCleanup(cls.flavor.down)

    def setUp(self) -> None:
        self.begin()
        self.addCleanup(self.daemon.close)
        self.orchestrator = self.flavor.register_small(self.daemon)

    def counted(self, what: str, resources: dict[str, Any]) -> None:
        """Of two steps that ask for more than half of what there is, one waits, and says for what."""
        run = self.submit(*[self.step(name, Does(gate="go"), resources=resources) for name in "ab"])
        states = lambda: sorted(s["state"] for s in self.now(run).values())  # noqa: E731
        wait_for("one to run, the other to wait", lambda: states() == ["READY", "RUNNING"], self.flavor.seconds, every=0.02)
        waiting = next(name for name, step in self.daemon.steps(run).items() if step["state"] == "READY")
        self.assertEqual(self.daemon.json("why", run, waiting)["causes"][0]["pool"], f"{self.orchestrator}/{what}")
        self.open("go")
        self.wait(run)

    def kept(self, **resources: Any) -> dict[str, Any]:
        """What the platform says that a running step may have."""
        name = "limited-" + ("-".join(resources) or "not")
        run = self.submit(self.step(name, Does(gate=name), **({"resources": resources} if resources else {})))
        self.wait_begun(run, name)
        limits = self.flavor.limits(self.daemon, name)
        self.open(name)
        self.wait(run)
        return limits

    def test_cpu(self) -> None:
        """`cpu`, also a part of one"""
        self.counted("cpu", {"cpu": 1.5})
        if self.word == KEPT:
            self.assertEqual(self.kept(cpu=0.5)["cpu"], 0.5)
            self.assertEqual(self.kept()["cpu"], 1, "of a step that says nothing")

    def test_memory(self) -> None:
        """`memory`"""
        self.counted("memory", {"cpu": 0.1, "memory": "600Mi"})
        if self.word == KEPT:
            self.assertEqual(self.kept(memory="48Mi")["memory"], 48 * MIB)
            steps = self.wait(self.submit(self.step("a", Does(memory=True), resources={"memory": "32Mi"})), code=1)
            self.assertEqual(steps["a"]["reason"], "OUT_OF_MEMORY")
            self.assertEqual(self.kept()["memory"], 0, "none for a step that says nothing")

    def test_gpu(self) -> None:
        """`gpu: 1`"""
        if self.word == ASKED:  # the word of the platform is all that can be had without one
            failed = self.wait(self.submit(self.step("a", resources={"gpu": 1}, retry={"platform_attempts": 1})), code=1)["a"]
            self.assertEqual((failed["state"], self.executions("a")), ("FAILED", []))
            self.assertIn("gpu", failed["message"])
        else:
            self.counted("gpu", {"cpu": 0.1, "gpu": 2})

    def test_gpu_kind_that_is_not_offered(self) -> None:
        """`gpu: {kind: …}` of a kind that is not offered"""
        self.submit(self.step("a", resources={"gpu": {"count": 1, "kind": "no-such-kind"}}))

    def test_disk(self) -> None:
        """`disk`"""
        self.submit(self.step("a", resources={"disk": "1G"}))

    def test_custom(self) -> None:
        """`custom: {name: n}`"""
        self.counted("custom/seat", {"cpu": 0.1, "custom": {"seat": 1}})

    def test_custom_that_is_not_offered(self) -> None:
        """`custom` that is not offered"""
        self.submit(self.step("a", resources={"custom": {"no-such-thing": 1}}))

    def test_more_than_all(self) -> None:
        """more than is offered in all"""
        for resources in ({"cpu": 5000}, {"memory": "500T"}, {"gpu": 900}):
            file = self.file(self.step("a", resources=resources))
            said = self.daemon.ctl("submit", file, "--orchestrator", self.orchestrator, code=8).stderr
            self.assertIn("offers", said, json.dumps(resources))
        self.submit(self.step("a", resources={"cpu": 5000}))


generate(Resources, globals())
del Resources
