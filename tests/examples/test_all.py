"""No folder of examples/ without a test, a line in its README, and only valid pipelines."""
import re
import unittest

from tests.lib.daemon import ROOT, Daemon

FOLDERS = sorted(path.name for path in (ROOT / "examples").iterdir() if path.is_dir() and path.name != "__pycache__")
# A site's file is no pipeline.
PIPELINES = sorted(path for path in (ROOT / "examples").rglob("*.yaml") if path.name != "site.yaml")


class All(unittest.TestCase):
    def test_each_folder_has_a_test(self) -> None:
        # What needs ZenML is run where it is there.
        tests = {path.name: path.read_text() for folder in ("examples", "zenml")
                 for path in (ROOT / "tests" / folder).glob("test_*.py")}
        self.assertGreater(len(FOLDERS), 10)
        for folder in FOLDERS:
            with self.subTest(folder):
                named = [name for name, text in tests.items() if re.search(rf"\bexamples/{folder}\b", text)]
                self.assertTrue(named, f"no test under tests/examples or tests/zenml runs examples/{folder}")

    def test_each_folder_is_in_the_readme(self) -> None:
        readme = (ROOT / "examples/README.md").read_text()
        self.assertEqual(sorted(set(re.findall(r"^\| \[([\w-]+)[\],]", readme, re.M))), FOLDERS)

    def test_each_pipeline_is_valid(self) -> None:
        with Daemon() as daemon:
            for file in PIPELINES:
                with self.subTest(str(file.relative_to(ROOT))):
                    text = file.read_text()
                    needed = [word for name in re.findall(r"^  ([\w-]+): \{type: string(?!.*default)", text, re.M)
                              for word in ("-p", f"{name}=x")]
                    for pool in re.findall(r"create-pool ([\w-]+) --slots (\d+)", text):
                        daemon.ctl("create-pool", pool[0], "--slots", pool[1])
                    site = file.parent / "site.yaml"
                    more = []
                    if site.exists():
                        daemon.ctl("apply", "-f", site, "--yes")
                        more = ["--orchestrator", re.findall(r"name: (\w+)", site.read_text())[0]]
                    for secret in set(re.findall(r"example-(?:password|key)", text)):
                        daemon.ctl("set-secret", secret, stdin="x" * 10)
                    done = daemon.ctl("validate", file, *needed, *more)
                    self.assertNotIn("warning", done.stderr)


if __name__ == "__main__":
    unittest.main()
