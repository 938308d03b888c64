"""examples/artifacts: a file from outside, a name that counts up, a folder."""
import json
import unittest

from tests.lib.daemon import ROOT, Daemon, wait_for


class Artifacts(unittest.TestCase):
    def test_a_name_that_outlives_its_run(self) -> None:
        # covers: Input.uri Output.as Output.type
        with Daemon() as daemon:
            file = ROOT / "examples/artifacts/pipeline.yaml"
            first = daemon.ctl("submit", file, "--wait").stdout.strip()
            second = daemon.ctl("submit", file, "--wait").stdout.strip()
            self.assertEqual(daemon.steps(second)["read"]["state"], "CACHED")  # the file is as it was
            newest = daemon.json("get-artifact", "system-facts")
            self.assertEqual((newest["version"], newest["type"]), (2, "json"))
            daemon.ctl("get-artifact", "system-facts", "--output", daemon.home / "facts.json")
            facts = json.loads((daemon.home / "facts.json").read_text())
            with open("/etc/os-release") as release:
                self.assertIn(f'NAME="{facts["system"]}"\n', release.read().replace("'", '"'))
            self.assertEqual(daemon.json("get-artifact", "artifacts.describe.parts@1")["type"], "dir")
            daemon.ctl("delete-run", first)
            self.assertEqual(daemon.json("get-artifact", "system-facts@1")["version"], 1)
            self.assertIn(f"{second} read", daemon.ctl("lineage", "system-facts").stdout)


    def test_a_reader_waits_for_what_it_reads(self) -> None:
        # covers: Input.artifact
        with Daemon() as daemon:
            daemon.ctl("submit", ROOT / "examples/artifacts/reader.yaml", "--name", "reader")
            wait_for("it to wait", lambda: "system-facts" in daemon.ctl("why", "reader", "use").stdout)
            self.assertEqual(daemon.ctl("why", "reader", "use").stdout, "`use` waits for artifact `system-facts`\n")
            self.assertIn("`reader` is RUNNING: `use` waits for artifact `system-facts`\n", daemon.ctl("why", "reader").stdout)
            self.assertRegex(daemon.ctl("why", "reader").stdout, r"use +WAITING +it waits for artifact `system-facts`")
            self.assertEqual(daemon.steps("reader")["use"]["reason"], "WAITING_FOR_INPUTS")
            daemon.ctl("submit", ROOT / "examples/artifacts/pipeline.yaml", "--wait")
            daemon.ctl("wait-run", "reader")
            self.assertIn("system", json.loads(daemon.ctl("logs", "reader", "use").stdout))


if __name__ == "__main__":
    unittest.main()
