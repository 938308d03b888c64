"""The documentation says what is: links, commands as pasted, every field and verb, the tables of states."""
import re
import shlex
import subprocess
import unittest
from pathlib import Path

from tests.conformance import table as conformance
from tests.docs import pipeline_fields
from tests.lib.daemon import BIN, ROOT, Daemon

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md"), *ROOT.glob("backends/**/*.md")])


def blocks(page: Path, mark: str) -> list[str]:
    return re.findall(rf"^```{mark}\n(.*?)^```", page.read_text(), re.M | re.S)


class Docs(unittest.TestCase):
    def test_links_resolve(self) -> None:
        for page in PAGES:
            text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
            for link in re.findall(r"\]\(([^)\s]+)\)", text):
                if re.match(r"https?:|mailto:|#", link):
                    continue
                with self.subTest(page=page.name, link=link):
                    self.assertTrue((page.parent / link.split("#")[0]).exists())

    def test_state_tables_are_the_code_s(self) -> None:
        made = subprocess.run([BIN / "orch-state-tables"], capture_output=True, text=True, check=True).stdout.strip()
        page = (ROOT / "docs/architecture.md").read_text()
        self.assertIn("<!-- states:begin -->\n" + made + "\n<!-- states:end -->", page)

    def test_every_field_of_a_pipeline_is_described(self) -> None:
        proto = (ROOT / "proto/orch/v1/pipeline.proto").read_text()
        page = (ROOT / "docs/pipelines.md").read_text()
        for message in ("Pipeline", "StepSpec"):
            body = re.search(rf"^message {message} {{(.*?)^}}", proto, re.M | re.S)
            assert body
            for field in re.findall(r"^  (?:repeated |optional )?[\w.<>, ]+ ([a-z_]+) = \d+;", body[1], re.M):
                with self.subTest(message=message, field=field):
                    self.assertTrue(f"`{field}`" in page, f"{field} is not described")

    def test_every_field_of_a_pipeline_has_a_test(self) -> None:
        _, faults = pipeline_fields.collect()
        self.assertEqual(faults, [])

    def test_a_field_without_a_test_is_found(self) -> None:
        file = ROOT / "tests/docs/test_docs.py"
        entries, faults = pipeline_fields.collect([
            pipeline_fields.Test(file, "good", "cache: {ttl: 1h}", ["Cache.ttl"]),
            pipeline_fields.Test(file, "silent", "cache: {ttl: 1h}", ["Cache.key"]),
            pipeline_fields.Test(file, "unknown", "cache: {size: 3}", ["Cache.size"])])
        self.assertEqual([test.name for entry in entries if entry.key == "Cache.ttl" for test in entry.tests], ["good"])
        self.assertNotIn("Cache.ttl: no test says that it covers it", faults)
        for fault in ("tests/docs/test_docs.py, silent: covers Cache.key, but does not mention it", "Cache.key: no test says that it covers it",
                      "tests/docs/test_docs.py, unknown: covers Cache.size, which is no field of a pipeline"):
            self.assertIn(fault, faults)

    def test_the_table_of_fields_is_what_is(self) -> None:
        entries, _ = pipeline_fields.collect()
        self.assertIn(pipeline_fields.BEGIN + pipeline_fields.table(entries) + pipeline_fields.END,
                      (ROOT / "docs/pipelines.md").read_text(), "run tests/docs/pipeline_fields.py --write")

    def test_the_tables_of_flavors_name_only_what_tests_fill(self) -> None:
        page = (ROOT / "docs/flavors.md").read_text()
        self.assertEqual(conformance.faults(page), [])
        row = next(line for line in page.splitlines() if line.startswith("| exit codes as they were"))
        wrong = page.replace(row, "| exit codes as they were | native | | |\n| a row without a test | yes | | |")
        found = conformance.faults(wrong)
        self.assertTrue(any("the page says `native`, its test `yes`" in fault for fault in found), found)
        self.assertTrue(any("a row without a test / fake: there is no such test" in fault for fault in found), found)
        self.assertTrue(any("exit codes as they were / local: the page says nothing, its test `yes`" in fault for fault in found), found)

    def test_every_verb_is_described(self) -> None:
        page = (ROOT / "docs/cli.md").read_text()
        help_text = subprocess.run([BIN / "orchctl", "--help"], capture_output=True, text=True).stdout
        verbs = re.findall(r"^  ([a-z]+(?:-[a-z]+)*)  +\S", help_text.split("Verbs:")[1], re.M)
        self.assertGreater(len(verbs), 15)
        for verb in verbs:
            with self.subTest(verb):
                self.assertTrue(re.search(rf"`{verb}\b", page), f"{verb} is not described")

    def test_the_orchestrators_in_the_help_can_be_registered(self) -> None:
        with Daemon() as daemon:
            examples = re.findall(r"^ *orchctl (register-orchestrator .*--flavor local.*)$",
                                  daemon.ctl("register-orchestrator", "--help").stdout, re.M)
            self.assertTrue(examples)
            for example in examples:
                with self.subTest(example):
                    self.assertIn("good: ", daemon.ctl(*shlex.split(example), "--dry-run").stdout)

    def test_every_field_of_the_configuration_is_described(self) -> None:
        page = (ROOT / "docs/operations.md").read_text()
        printed = subprocess.run([BIN / "orchd", "--print-config"], capture_output=True, text=True, check=True).stdout
        for field in re.findall(r"^\s*(\w+):", printed, re.M):
            with self.subTest(field):
                self.assertTrue(re.search(rf"\b{field}\b", page), f"{field} is not described")

    def test_commands_work_as_pasted(self) -> None:
        with Daemon() as daemon:
            for page in PAGES:
                for block in blocks(page, "bash test"):
                    with self.subTest(page=page.name, block=block.splitlines()[0]):
                        done = subprocess.run(["bash", "-euo", "pipefail", "-c", block], cwd=daemon.home, text=True,
                                              env=daemon.environment(), capture_output=True, timeout=120)
                        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_every_call_of_the_python_client_is_described(self) -> None:
        page = (ROOT / "docs/python.md").read_text()
        source = "".join((ROOT / "client/python/src/orchd" / name).read_text() for name in ("client.py", "_reading.py", "_changing.py"))
        calls = set(re.findall(r"^    (?:async )?def ([a-z]\w*)\(", source, re.M))
        self.assertGreater(len(calls), 25)
        for call in sorted(calls):
            with self.subTest(call):
                self.assertIn(f"`{call}`", page, f"{call} is not described")

    def test_every_call_of_the_api_is_described(self) -> None:
        page = (ROOT / "docs/api.md").read_text()
        for service in ROOT.glob("proto/orch/v1/*_service.proto"):
            if service.name != "orchestrator_service.proto":  # its calls are described together
                for call in re.findall(r"^  rpc (\w+)\(", service.read_text(), re.M):
                    with self.subTest(call):
                        self.assertTrue(re.search(rf"\b{call}\b", page), f"{call} is not described")

    def test_the_clients_work_as_pasted(self) -> None:
        with Daemon() as daemon:
            found = blocks(ROOT / "README.md", "python") + blocks(ROOT / "docs/python.md", "python")
            self.assertGreaterEqual(len(found), 5)
            for code in found:
                with self.subTest(code.splitlines()[0]):
                    environment = daemon.environment(PYTHONPATH=str(ROOT / "client/python/src"))
                    file = re.match(r"# (\w+)\.py\n", code)
                    command = ["-c", code]
                    if file:  # steps are found by their file
                        folder = daemon.home / file[1]
                        folder.mkdir()
                        (folder / f"{file[1]}.py").write_text(code)
                        command = [str(folder / f"{file[1]}.py")]
                    done = subprocess.run(["/usr/bin/python3", *command], env=environment, text=True, capture_output=True,
                                          timeout=120)
                    self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                    self.assertIn("SUCCEEDED", done.stdout)


if __name__ == "__main__":
    unittest.main()
