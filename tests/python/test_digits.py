"""The steps of examples/digits under the step contract, without a daemon: environment variables, one path for each
input and output, fan-in folders with an index. Run twice from nothing, every output must have the same bytes."""
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import unittest

import yaml

DIGITS = pathlib.Path(__file__).resolve().parents[2] / "examples" / "digits"


def sha256(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


class StepsRunner:
    """Runs the pipeline file's steps in their order; knows just what digits uses of the pipeline language."""

    def __init__(self, folder, hash_seed):
        self.folder = pathlib.Path(folder)
        self.hash_seed = hash_seed
        self.spec = yaml.safe_load((DIGITS / "pipeline.yaml").read_text())
        self.outputs = {}  # (step, item, output) -> path
        self.items = {}  # step -> its items
        self.seconds = {}

    def run(self):
        for step in self.spec["steps"]:
            foreach = step.get("foreach")
            (key, values), = foreach.items() if foreach else [(None, [None])]
            self.items[step["name"]] = [None if key is None else {key: value} for value in values]
            for index, item in enumerate(self.items[step["name"]]):
                self.run_instance(step, index, item)

    def run_instance(self, step, index, item):
        place = self.folder / f"{step['name']}-{index}"
        place.mkdir()
        params = place / "params.json"
        wanted = {name: self.spec["parameters"][name]["default"] for name in step.get("params", [])}
        params.write_text(json.dumps(wanted))
        environment = {
            "PATH": "/nonexistent",
            "HOME": str(self.folder),
            "PYTHONHASHSEED": self.hash_seed,
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.spec["defaults"]["env"],
            "ORCH_PARAMS": str(params),
            "ORCH_SCRATCH": str(place),
        }
        for name, source in step.get("inputs", {}).items():
            environment[f"ORCH_INPUT_{name.upper()}"] = str(self.input(place / f"in-{name}", source, item))
        for name in step["outputs"]:
            path = place / f"out-{name}"
            environment[f"ORCH_OUTPUT_{name.upper()}"] = str(path)
            self.outputs[step["name"], index, name] = path
        command = [word.replace("${item.model}", item["model"] if item else "") for word in step["command"]]
        begin = time.monotonic()
        done = subprocess.run(command, cwd=DIGITS, env=environment, capture_output=True, text=True)
        self.seconds[f"{step['name']}[{index}]"] = time.monotonic() - begin
        if done.returncode != 0:
            raise AssertionError(f"{command} ended with {done.returncode}: {done.stderr}")
        for name, output in step["outputs"].items():
            path = self.outputs[step["name"], index, name]
            if output.get("value"):
                json.loads(path.read_text())
                assert path.stat().st_size <= 65536
            assert path.is_file(), path

    def input(self, path, source, item):
        step, output = source.split(".")
        if step.endswith("[item]"):
            step = step[: -len("[item]")]
            return self.outputs[step, self.items[step].index(item), output]
        if not step.endswith("[*]"):
            return self.outputs[step, 0, output]
        step = step[: -len("[*]")]
        files = [self.outputs[step, index, output] for index in range(len(self.items[step]))]
        declared = next(entry for entry in self.spec["steps"] if entry["name"] == step)
        if declared["outputs"][output].get("value"):
            path.write_text(json.dumps([json.loads(file.read_text()) for file in files]))
            return path
        path.mkdir()
        index = []
        for number, file in enumerate(files):
            shutil.copyfile(file, path / str(number))
            index.append({"item": self.items[step][number], "path": str(number), "digest": "sha256:" + sha256(file)})
        (path / "index.json").write_text(json.dumps(index))
        return path

    def digests(self):
        return {key: sha256(path) for key, path in self.outputs.items()}

    def value(self, step, output):
        return json.loads(self.outputs[step, 0, output].read_text())


class DigitsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="digits-")
        cls.addClassCleanup(cls.folder.cleanup)
        cls.runs = []
        for hash_seed in ("1", "2"):
            place = pathlib.Path(cls.folder.name) / hash_seed
            place.mkdir()
            cls.runs.append(StepsRunner(place, hash_seed))
            cls.runs[-1].run()

    def test_every_output_has_the_same_bytes_again(self):
        first, second = (run.digests() for run in self.runs)
        self.assertEqual(first, second)
        self.assertEqual(len(first), 2 + 1 + 2 + 5 * 2 + 5 * 2 + 2 + 1)

    def test_the_winner_is_good_and_is_the_model_that_select_kept(self):
        run = self.runs[0]
        winner = run.value("select", "winner")
        self.assertEqual(sorted(winner), ["accuracy", "model"])
        self.assertGreater(winner["accuracy"], 0.97)
        index = [item["model"] for item in run.items["train"]].index(winner["model"])
        self.assertEqual(
            sha256(run.outputs["select", 0, "model"]), sha256(run.outputs["train", index, "model"])
        )

    def test_the_report_is_one_file_that_needs_nothing_else(self):
        page = self.runs[0].outputs["report", 0, "report"].read_text()
        self.assertIn("data:image/png;base64,", page)
        self.assertNotIn("http:", page)
        self.assertNotIn("https:", page)
        self.assertNotIn("<script", page)
        for title in ("Nearest neighbours", "Logistic regression", "Support vector machine", "Decision tree"):
            self.assertIn(title, page)

    def test_no_step_takes_long(self):
        self.assertLess(max(self.runs[1].seconds.values()), 30, self.runs[1].seconds)

    def test_a_broken_table_is_refused_with_its_faults(self):
        with tempfile.TemporaryDirectory() as place:
            table = pathlib.Path(place) / "table.csv"
            good = self.runs[0].outputs["ingest", 0, "table"].read_text().splitlines(keepends=True)
            table.write_text("".join(good[:5]) + "3,17" + ",0" * 63 + "\n" + "x" + good[5][1:])
            done = subprocess.run(
                ["/usr/bin/python3", "check.py"], cwd=DIGITS, capture_output=True, text=True,
                env={**os.environ, "ORCH_INPUT_TABLE": str(table), "ORCH_OUTPUT_FACTS": str(pathlib.Path(place) / "f")},
            )
            self.assertEqual(done.returncode, 1)
            self.assertIn("line 6: a grey value above 16", done.stderr)
            self.assertIn("line 7: a cell is no whole number", done.stderr)
            self.assertFalse((pathlib.Path(place) / "f").exists())

    def test_a_missing_package_is_named_in_one_line(self):
        for program in ("ingest.py", "split.py", "train.py", "evaluate.py", "report.py"):
            # -I -S: an interpreter without any of Debian's packages.
            done = subprocess.run(["/usr/bin/python3", "-I", "-S", program], cwd=DIGITS, capture_output=True, text=True)
            self.assertEqual(done.returncode, 1, program)
            self.assertRegex(done.stderr, r"\Apython3-\w+ is missing \(.*\): apt-get install python3-\w+\n\Z")


if __name__ == "__main__":
    unittest.main()
