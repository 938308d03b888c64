"""examples/caching: computed once, and what its first lines promise."""
import shutil
import unittest

from tests.lib.daemon import ROOT, Daemon


class Caching(unittest.TestCase):
    def test_what_the_file_says(self) -> None:
        with Daemon() as daemon:
            folder = daemon.home / "caching"
            shutil.copytree(ROOT / "examples/caching", folder)
            file = folder / "pipeline.yaml"
            first = daemon.ctl("submit", file, "--name", "first", "--wait").stdout.split()[0]
            states = {name: step["state"] for name, step in daemon.steps(first).items()}
            computed = [name for name in ("words", "twin[0]", "twin[1]") if states[name] == "SUCCEEDED"]
            self.assertEqual(len(computed), 1, states)  # three equal steps at once: one computes
            self.assertEqual({states[name] for name in ("words", "twin[0]", "twin[1]") if name not in computed}, {"CACHED"})

            plan = daemon.json("plan", file)
            self.assertEqual((plan["cached_steps"], plan["run_steps"]), (5, 0))
            plan = daemon.json("plan", file, "-p", "minimum=2")
            by_name = {step["name"]: step for step in plan["steps"]}
            self.assertEqual(by_name["words"]["action"], "CACHED")
            self.assertEqual(by_name["clean"]["action"], "RUN")
            self.assertEqual(by_name["report"]["action"], "DEPENDS")

            daemon.ctl("submit", file, "-p", "minimum=2", "--name", "second", "--wait")
            why = daemon.json("why", "second", "clean")
            self.assertEqual(why["cache"]["outcome"], "CHANGED")
            self.assertEqual(why["cache"]["run"], "first")
            self.assertIn("params.minimum", {change["part"] for change in why["cache"]["changes"]})

            (folder / "count.sh").write_text((folder / "count.sh").read_text() + "# changed\n")
            daemon.ctl("submit", file, "--name", "third", "--wait")
            why = daemon.json("why", "third", "words")
            states = {name: step["state"] for name, step in daemon.steps("third").items()}
            self.assertEqual({change["part"] for change in why["cache"]["changes"]} or {"source"}, {"source"})
            self.assertEqual(list(states.values()).count("CACHED") >= 2, True, states)
            self.assertIn("would be taken out", daemon.ctl("invalidate-cache", "caching", "clean", "--dry-run").stdout)


if __name__ == "__main__":
    unittest.main()
