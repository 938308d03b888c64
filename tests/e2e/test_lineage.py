"""What was made of what: through retries, early publications, fan-outs and the cache."""
import json
import signal
import unittest
from typing import Any

from tests.lib.daemon import Daemon, wait_for

DIAMOND = """
name: diamond
steps:
  - {name: raw, command: [sh, -c, 'echo data > "$ORCH_OUTPUT_T"'], outputs: {t: {type: csv}}}
  - name: part
    foreach: {n: [1, 2, 3]}
    command: [sh, -c, 'cat "$ORCH_INPUT_T" > "$ORCH_OUTPUT_M"; echo ${item.n} >> "$ORCH_OUTPUT_M"']
    inputs: {t: raw.t}
    outputs: {m: {type: model}}
  - name: best
    command: [sh, -c, 'ls "$ORCH_INPUT_MODELS" > "$ORCH_OUTPUT_B"']
    inputs: {models: "part[*].m", one: "part[1].m"}
    outputs: {b: {type: text}}
"""
EARLY = """
name: early
steps:
  - name: maker
    command: [sh, -c, 'echo ${attempt} > "$ORCH_OUTPUT_X"; orch-launch publish x; until test -e HELD-${attempt}; do sleep 0.02; done; test ${attempt} -eq 2']
    outputs: {x: {type: text}}
    retry: {max_attempts: 2, backoff: {initial: 10ms}}
  - name: taster
    command: [sh, -c, 'cat "$ORCH_INPUT_X"; touch TASTED; until test -e HELD-2; do sleep 0.02; done; cat "$ORCH_INPUT_X" > "$ORCH_OUTPUT_Y"']
    inputs: {x: {from: maker.x, early: true}}
    outputs: {y: {type: text}}
  - name: patient
    command: [sh, -c, 'cat "$ORCH_INPUT_X" > "$ORCH_OUTPUT_Z"']
    inputs: {x: maker.x}
    outputs: {z: {type: text}}
"""


class Lineage(unittest.TestCase):
    daemon: Daemon

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = Daemon()
        cls.addClassCleanup(cls.daemon.close)
        cls.daemon.start()

    def links(self, *args: Any) -> list[tuple[str, int, str, int, str, str]]:
        """(direction, distance, reader, its attempt, input, artifact)"""
        answer = self.daemon.json("lineage", *args)
        return [(link["direction"], link["distance"], link["step"], link["attempt"], link["input"],
                 f"{link['artifact']['step']}.{link['artifact']['output']}#{link['artifact']['attempt']}")
                for link in answer["links"]]

    def test_both_ways_through_a_fan_out(self) -> None:
        run = self.daemon.submit(DIAMOND, "--wait")
        up = [("UPSTREAM", 1, "best", 1, "models", f"part[{i}].m#1") for i in range(3)]
        up.append(("UPSTREAM", 1, "best", 1, "one", "part[1].m#1"))
        up += [("UPSTREAM", 2, f"part[{i}]", 1, "t", "raw.t#1") for i in range(3)]
        self.assertEqual(self.links("diamond.best.b"), up)
        down = [("DOWNSTREAM", 1, f"part[{i}]", 1, "t", "raw.t#1") for i in range(3)]
        down += [("DOWNSTREAM", 2, "best", 1, "models", "part[0].m#1"), ("DOWNSTREAM", 2, "best", 1, "models", "part[1].m#1"),
                 ("DOWNSTREAM", 2, "best", 1, "one", "part[1].m#1"), ("DOWNSTREAM", 2, "best", 1, "models", "part[2].m#1")]
        self.assertEqual(self.links("diamond.raw.t"), down)
        self.assertEqual(self.links("diamond.raw.t", "--depth", "1"), down[:3])
        self.assertEqual(self.links("diamond.best.b", "--downstream"), [])
        self.assertEqual(self.links("--run", run, "--step", "part[2]", "--upstream"),
                         [("UPSTREAM", 1, "part[2]", 1, "t", "raw.t#1")])
        self.assertEqual(self.links("--run", run, "--step", "part[2]", "--downstream"),
                         [("DOWNSTREAM", 1, "best", 1, "models", "part[2].m#1")])
        text = self.daemon.ctl("lineage", "diamond.best.b").stdout
        self.assertIn(f"\n  3 links: m of {run} part[0…2] read as `models` by {run} best\n", text)
        self.assertIn(f"\n    3 links: diamond.raw.t@1 read as `t` by {run} part[0…2], made by {run} raw attempt 1\n", text)
        self.assertEqual(len(self.daemon.ctl("lineage", "diamond.best.b", "--all").stdout.splitlines()), 2 + len(up))
        self.assertIn(f"  3 links: {run} part[0…2] read diamond.raw.t@1 as `t`", self.daemon.ctl("lineage", "diamond.raw.t").stdout)
        text = self.daemon.ctl("lineage", "diamond.part[1].m").stdout
        self.assertIn("made of:", text)
        self.assertIn("read by:", text)

        self.daemon.restart(signal.SIGKILL)
        self.assertEqual(self.links("diamond.raw.t"), down)
        seen, token = [], ""
        while True:  # a page at a time
            status, body = self.daemon.http("/orch.v1.ArtifactService/GetLineage",
                                            {"name": "diamond.raw.t", "page_size": 2, "page_token": token})
            self.assertEqual(status, 200, body)
            page = json.loads(body)
            seen += [(link["step"], link["input"]) for link in page["links"]]
            if not page.get("next_page_token"):
                break
            token = page["next_page_token"]
        self.assertEqual(seen, [(link[2], link[4]) for link in down])
        status, body = self.daemon.http("/orch.v1.ArtifactService/GetLineage", {"name": "diamond.best.b", "page_token": token})
        self.assertEqual(status, 400, body)

    def test_what_comes_from_outside_the_run(self) -> None:
        maker = self.daemon.submit("name: made\nsteps:\n  - {name: m, command: [sh, -c, 'echo 1 > ${outputs.x}'], outputs: {x: {}}}\n", "--wait")
        (self.daemon.home / "there").write_text("text")
        reader = self.daemon.submit(f"""
name: reads
steps:
  - name: r
    command: [sh, -c, 'cat ${{inputs.a}} ${{inputs.u}} > ${{outputs.y}}']
    inputs: {{a: {{artifact: made.m.x}}, u: {{uri: 'file://{self.daemon.home}/there'}}}}
    outputs: {{y: {{}}}}
""", "--wait")
        links = self.daemon.json("lineage", "reads.r.y")["links"]
        self.assertEqual([(link["input"], link["uri"], link.get("artifact", {}).get("run", "")) for link in links],
                         [("a", "", maker), ("u", f"file://{self.daemon.home}/there", "")])
        text = self.daemon.ctl("lineage", "reads.r.y").stdout
        self.assertIn(f"  made.m.x@1 read as `a` by {reader} r attempt 1, made by {maker} m attempt 1\n", text)
        self.assertIn(f"  file://{self.daemon.home}/there read as `u` by {reader} r attempt 1\n", text)
        down = self.daemon.json("lineage", "made.m.x")["links"]
        self.assertEqual([(link["direction"], link["run"], link["step"], link["input"]) for link in down],
                         [("DOWNSTREAM", reader, "r", "a")])
        self.daemon.submit(f"""
name: reads-many
steps:
  - {{name: r, foreach: {{k: [1, 2, 3]}}, command: ['true'], inputs: {{u: {{uri: 'file://{self.daemon.home}/there'}}}}, after: [first]}}
  - {{name: first, command: [sh, -c, 'echo 1 > ${{outputs.y}}'], outputs: {{y: {{}}}}}}
  - {{name: all, command: [sh, -c, 'echo 1 > ${{outputs.z}}'], inputs: {{u: {{uri: 'file://{self.daemon.home}/there'}}}}, outputs: {{z: {{}}}}, after: [r]}}
""", "--name", "many", "--wait")
        links = self.daemon.json("lineage", "reads-many.all.z")["links"]
        self.assertEqual([(link["uri"], sorted(link["outputs"])) for link in links], [(f"file://{self.daemon.home}/there", ["z"])])
        # Whoever read it is told even when its maker is gone, and nobody who is gone himself.
        self.daemon.ctl("delete-run", reader)
        wait_for("the reader to be cleaned up", lambda: not self.daemon.json("lineage", "made.m.x")["links"])

    def test_an_early_consumer_is_shown_with_what_it_read(self) -> None:
        folder = self.daemon.home / "early"
        folder.mkdir()
        text = EARLY.replace("HELD", str(folder / "held")).replace("TASTED", str(folder / "tasted"))
        run = self.daemon.submit(text)
        wait_for("the early consumer to have its input", lambda: (folder / "tasted").exists())
        (folder / "held-1").touch()
        wait_for("the second attempt to publish", lambda: len([
            a for a in self.daemon.json("list-artifacts", "--run", run)["artifacts"] if a["output"] == "x"]) == 2)
        (folder / "held-2").touch()
        self.daemon.ctl("wait-run", run)
        self.assertEqual(self.daemon.ctl("logs", run, "taster").stdout, "1\n")
        self.assertEqual(self.links("early.taster.y", "--upstream"), [("UPSTREAM", 1, "taster", 1, "x", "maker.x#1")])
        self.assertEqual(self.links("early.patient.z", "--upstream"), [("UPSTREAM", 1, "patient", 1, "x", "maker.x#2")])
        self.assertEqual(self.links("early.maker.x@1", "--downstream"), [("DOWNSTREAM", 1, "taster", 1, "x", "maker.x#1")])
        self.assertEqual(self.links("early.maker.x@2", "--downstream"), [("DOWNSTREAM", 1, "patient", 1, "x", "maker.x#2")])

    def test_of_a_cached_step(self) -> None:
        text = DIAMOND.replace("name: diamond", "name: kept\ndefaults: {cache: {enabled: true}}")
        self.daemon.submit(text, "--wait")
        again = self.daemon.submit(text, "--wait")
        self.assertEqual(self.daemon.steps(again)["best"]["state"], "CACHED")
        links = self.links("kept.best.b", "--upstream", "--depth", "1")
        self.assertEqual([(link[2], link[3], link[5]) for link in links],
                         [("best", 0, f"part[{i}].m#0") for i in range(3)] + [("best", 0, "part[1].m#0")])

    def test_what_is_refused(self) -> None:
        run = self.daemon.submit(DIAMOND, "--wait")
        self.daemon.ctl("lineage", "no.such.thing", code=3)
        self.daemon.ctl("lineage", code=2)
        self.daemon.ctl("lineage", "diamond.raw.t", "--run", run, code=2)
        self.daemon.ctl("lineage", "--run", run, "--step", "raw", "--attempt", "2", code=3)
        for body in ({"name": "diamond.raw.t", "depth": 33}, {}, {"name": "diamond.raw.t", "run": run, "step": "raw"}):
            status, text = self.daemon.http("/orch.v1.ArtifactService/GetLineage", body)
            self.assertEqual(status, 400, text)


if __name__ == "__main__":
    unittest.main()
