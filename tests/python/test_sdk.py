"""What of the SDK needs no daemon: serialisers, hints, the graph that a pipeline's function makes, and what it refuses."""
import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import typing
import unittest

import orchd
from orchd import CannotSerialise, Folder, Refused, fixed, pipeline, shell, step
from orchd import _places
from orchd._plain import from_plain
from orchd.serializers import Kind, kind_of, load, load_item, save


def has(*names):
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    return unittest.skipIf(missing, f"without {', '.join(missing)}")


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5


@step
def numbers(n: int) -> list[int]:
    return list(range(n))


@step
def table() -> typing.Dict[str, typing.List[int]]:
    return {}


@step
def train(data, model: str = "knn", depth: int = 1) -> float:
    return 0.5


@step(outputs=("left", "right"))
def split(data: list) -> tuple[list, list]:
    return data, data


@step
def anything(of: typing.Any = None):
    return of


class Kinds(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def there_and_back(self, value, hint, word, back=None):
        kind = kind_of(hint)
        self.assertEqual(kind.word, word, hint)
        path = self.folder / f"{len(os.listdir(self.folder))}"
        save(Kind(kind.word, kind.value, kind.folder, kind.item, hint), value, path, "it")
        # Once as the next step reads it, once as somebody who knows only the artifact's type.
        read = load(kind.type if kind.folder else kind.word, path, hint)
        self.assertIs(type(read), type(value))
        return read, load("value" if kind.value else kind.type, path, back or typing.Any)

    def test_builtin_types(self):
        for hint, value, word in (
            (int, 2**60, "int"), (int, -(10**30), "int"), (float, 0.1, "float"), (float, float("inf"), "float"), (bool, True, "bool"),
            (str, "é\r\n\0", "text"), (bytes, b"\0\xff", "bytes"), (list, [1, {"a": None}], "json"), (dict, {}, "json"),
            (typing.List[typing.Dict[str, int]], [{"a": 1}], "json"), (typing.Optional[int], None, "json"),
            (typing.Dict[int, str], {1: "a"}, "pickle"), (typing.Tuple[int, ...], (1, 2), "pickle"), (Point, Point(1, 2.0), "pickle"),
            (dict[int, str], {1: "a"}, "pickle"), (tuple[int, str], (1, "a"), "pickle"), (dict[str, typing.Any], {"a": {1}}, "pickle"),
            (list[dict[str, int]], [{"a": 1}], "json"), (set[int], {1}, "pickle"), (typing.Any, {1: (2,)}, "object"), (typing.Any, "text", "object"), (typing.Any, [1, "a"], "object"),
        ):  # fmt: skip
            with self.subTest(hint=hint):
                read, _ = self.there_and_back(value, hint, word)
                self.assertEqual(read, value)
        self.assertIsNone(kind_of(None))
        self.assertIsNone(kind_of(type(None)))

    def test_values_that_their_type_alone_says(self):
        for hint, value in ((int, 2**62), (float, 33.0), (bool, False), (list, [1]), (str, "a")):
            with self.subTest(hint=hint):
                self.assertEqual(self.there_and_back(value, hint, kind_of(hint).word)[1], value)

    @has("numpy")
    def test_numpy(self):
        import numpy as np

        for value in (np.arange(6).reshape(2, 3), np.array(["a", "b"]), np.array([{1: 2}], dtype=object), np.array(3.5)):
            for read in self.there_and_back(value, np.ndarray, "npy"):
                self.assertEqual(read.dtype, value.dtype)
                self.assertEqual(read.tolist(), value.tolist())
        read, _ = self.there_and_back([np.zeros(2), np.ones(3)], typing.List[np.ndarray], "list")
        self.assertEqual([one.tolist() for one in read], [[0, 0], [1, 1, 1]])
        self.assertEqual(load_item("dir", self.folder / "4", 1).tolist(), [1, 1, 1])
        self.assertEqual(kind_of(np.float32).word, "pickle")
        save(kind_of(float), np.float32(0.5), self.folder / "f", "it")
        self.assertEqual((self.folder / "f").read_text(), "0.5")

    @has("pandas", "pyarrow")
    def test_pandas_and_arrow(self):
        import pandas as pd
        import pyarrow as pa

        frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=["r", "s"])
        for read in self.there_and_back(frame, pd.DataFrame, "dataframe"):
            pd.testing.assert_frame_equal(read, frame)
        self.assertEqual((self.folder / "0").read_bytes()[:4], b"PAR1")
        self.assertIsInstance(load("dataframe", self.folder / "0", pa.Table), pa.Table)
        odd = pd.DataFrame({"a": [{1, 2}, object]})  # Parquet has no such type
        pd.testing.assert_frame_equal(self.there_and_back(odd, pd.DataFrame, "dataframe")[0], odd)
        series = pd.Series([1, 2], name="s")
        pd.testing.assert_series_equal(self.there_and_back(series, pd.Series, "series")[0], series)
        table = pa.table({"a": [1, 2]})
        self.assertTrue(self.there_and_back(table, pa.Table, "table")[0].equals(table))
        self.assertEqual(load("table", self.folder / "3", pd.DataFrame)["a"].tolist(), [1, 2])
        (self.folder / "by-a-command").write_text("a,b\n1,2\n")
        self.assertEqual(load("csv", self.folder / "by-a-command", pd.DataFrame)["b"].tolist(), [2])
        self.assertEqual(self.there_and_back({"f": frame}, typing.Any, "object")[0]["f"]["a"].tolist(), [1, 2])

    @has("sklearn")
    def test_scikit_learn(self):
        from sklearn.base import ClassifierMixin
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression().fit([[0], [1]], [0, 1])
        for read in self.there_and_back(model, LogisticRegression, "model"):
            self.assertEqual(read.predict([[0], [1]]).tolist(), [0, 1])
        self.assertEqual(kind_of(ClassifierMixin).word, "pickle")  # no model by itself; still kept

    def test_files_and_folders(self):
        (self.folder / "tree").mkdir()
        (self.folder / "tree" / "a").write_text("A")
        kind = kind_of(Folder)
        save(kind, self.folder / "tree", self.folder / "out", "it")
        self.assertEqual((load("dir", self.folder / "out") / "a").read_text(), "A")
        save(kind_of(pathlib.Path), self.folder / "tree" / "a", self.folder / "file", "it")
        self.assertEqual(load("file", self.folder / "file", pathlib.Path).read_text(), "A")
        for hint, path, why in (
            (pathlib.Path, "tree", "annotate it as `orchd.Folder`"), (Folder, "file", "is no folder"), (pathlib.Path, "none", "nothing is"),
        ):  # fmt: skip
            with self.assertRaisesRegex(CannotSerialise, why):
                save(kind_of(hint), self.folder / path, self.folder / "x", "it")

    def test_what_cannot_be_kept_is_named_with_its_type(self):
        for hint, value, why in (
            (int, "a", "the output `it` is declared as int, but is a str"),
            (dict, {"a": [1, {2}]}, r"the output `it`: \['a'\]\[1\] is a set, which is no JSON"),
            (dict, {1: 2}, "the key 1"),
            (typing.Any, lambda: 1, "is a function, which cannot be written as `pickle`"),
            (Point, 3, "is declared as test_sdk.Point, but is a int"),
        ):
            with self.subTest(hint=hint), self.assertRaisesRegex(CannotSerialise, why):
                save(kind_of(hint), value, self.folder / "x", "the output `it`")

    def test_hints_make_of_json_what_was_meant(self):
        self.assertEqual(from_plain({"x": 1, "y": 2}, Point), Point(1, 2.0))
        self.assertEqual(from_plain([[1, 2]], typing.List[typing.Tuple[int, float]]), [(1, 2.0)])
        self.assertEqual(from_plain({"1": [1]}, typing.Dict[int, set]), {1: {1}})
        self.assertEqual(from_plain({"1": [[1, 2]]}, dict[int, list[tuple[int, float]]]), {1: [(1, 2.0)]})
        self.assertEqual(from_plain("x", int), "x")


class Graphs(unittest.TestCase):
    def spec(self, function, **options):
        return pipeline(**options)(function).spec()

    def steps(self, function, **options):
        return {one["name"]: one for one in self.spec(function, **options)["steps"]}

    def test_calls_become_steps(self):
        def flow(n: int = 3, tags: list = ("a",), *, name: str):
            """What it is for."""
            left, right = split(numbers(n))
            score = train(left, model="$x")
            second = train.options(retries=2, cpu=2, timeout=1.5, cache=True, publish="best")({"a": [right, n]})
            anything.options(when=(score > 0.5) | ~(n == 3))(second).after(left)

        spec = self.spec(flow, max_parallel=2, cache=True, labels={"team": "a"})
        self.assertEqual(
            spec["parameters"], {"n": {"type": "int", "default": 3}, "tags": {"type": "json", "default": ["a"]}, "name": {"type": "string"}}
        )
        self.assertEqual((spec["description"], spec["max_parallel"], spec["defaults"]["cache"]), ("What it is for.", 2, {"enabled": True}))
        steps = {one["name"]: one for one in spec["steps"]}
        self.assertEqual(list(steps), ["numbers", "split", "train", "train-2", "anything"])
        self.assertEqual(steps["numbers"]["params"], ["n"])
        self.assertEqual(steps["train"]["inputs"], {"data": "split.left"})
        self.assertEqual(steps["train"]["outputs"], {"output": {"type": "float", "value": True}})
        self.assertIn('"$$x"', steps["train"]["command"][4])
        second = steps["train-2"]
        self.assertEqual((second["retry"], second["resources"], second["timeout"]), ({"max_attempts": 3}, {"cpu": 2}, "1500ms"))
        self.assertEqual((second["inputs"], second["outputs"]["output"]["as"]), ({"data-0-0": "split.right"}, "best"))
        last = steps["anything"]
        self.assertEqual(last["when"], "(.train.output > 0.5) or ((.params.n == 3) | not)")
        self.assertEqual(last["after"], ["train", "split"])
        self.assertEqual(spec["defaults"]["source"]["path"], os.path.dirname(os.path.abspath(__file__)))

    def test_options_add_to_those_of_the_step(self):
        once = step(cpu=2, memory="1Gi", env={"A": "a"}, retry={"backoff": "x"}, labels={"l": "1"})(train.function)
        more = once.options(memory="2Gi", env={"B": "b"}, retries=1, labels={"l": "2"}, timeout="1m").options(cache=False)
        found = more._options
        self.assertEqual((found["resources"], found["env"]), ({"cpu": 2, "memory": "2Gi"}, {"A": "a", "B": "b"}))
        self.assertEqual((found["retry"], found["labels"]), ({"backoff": "x", "max_attempts": 2}, {"l": "2"}))
        self.assertEqual((found["timeout"], found["cache"]), ("1m", {"enabled": False}))

    def test_maps_become_fan_outs(self):
        def flow():
            data = numbers(3)
            trained = train.map(fixed(data), model=["a", "b"], depth=range(2))
            anything(trained)
            anything.options(name="each").map(trained)
            anything.options(name="late").map(data)
            shell("show", ["cat", "${inputs.all}"], inputs={"all": trained})

        steps = self.steps(flow)
        self.assertEqual(steps["train"]["foreach"], {"model": ["a", "b"], "depth": [0, 1]})
        self.assertEqual(steps["train"]["command"][5:], ["model=${item.model}", "depth=${item.depth}"])
        self.assertEqual(steps["anything"]["inputs"], {"of": "train[*].output"})
        self.assertEqual(steps["each"]["inputs"], {"of": "train[item].output"})
        self.assertEqual(steps["each"]["foreach"], steps["train"]["foreach"])
        self.assertEqual(steps["late"]["foreach"], {"of": {"from": "numbers.output"}})
        self.assertEqual(steps["numbers"]["outputs"], {"output": {"type": "json", "value": True}})
        self.assertEqual(steps["show"]["inputs"], {"all": "train[*].output"})

    def test_a_result_that_is_no_list_is_the_same_for_all(self):
        def flow():
            train.map(table(), model=["a", "b"])
            with self.assertRaisesRegex(TypeError, "`train.map` has no list to go over"):
                train.map(table())

        steps = self.steps(flow)
        self.assertEqual(steps["train"]["foreach"], {"model": ["a", "b"]})
        self.assertEqual(steps["train"]["inputs"], {"data": "table.output"})

    def test_what_is_not_known_yet_cannot_be_used(self):
        def flow(n: int):
            data = numbers(n)
            for use in (
                lambda: n + 1 if n > 3 else 0, lambda: range(n), lambda: f"{n}", lambda: list(data), lambda: f"{data}", lambda: len(n),
                lambda: bool(data), lambda: (n > 1) and (n < 3),
            ):  # fmt: skip
                with self.assertRaisesRegex(TypeError, "while the pipeline is built|condition is decided while the run goes on"):
                    use()

        self.spec(flow)

    def test_arguments_that_cannot_be_written_are_named(self):
        def bad_argument():
            train(data={"a": [1, object()]})

        def generator():
            train(data=(n for n in (1, 2)))

        def huge():
            train(data="x" * 200_000)

        for flow, why in (
            (bad_argument, r"the argument `data\['a'\]\[1\]` of the step `train` is a object, which is no JSON; .* make it in a step"),
            (generator, "the argument `data` of the step `train` is a generator: give a list"),
            (huge, "the arguments of the step `train` take 2"),
        ):
            with self.subTest(flow.__name__), self.assertRaisesRegex(orchd.OrchdError, why):
                self.spec(flow)
        with self.assertRaisesRegex(TypeError, "step `train`: missing a required argument: 'data'"):
            self.spec(lambda: train())
        with self.assertRaisesRegex(Refused, "the parameter `n` of the pipeline `flow` is a frozenset"):
            pipeline(name="flow")(lambda n=frozenset(): numbers(1)).spec()

    def test_steps_and_pipelines_that_cannot_be(self):
        def yields():
            yield 1

        def inner():
            return 1

        with self.assertRaisesRegex(Refused, "is a generator: return a list"):
            step(yields)
        with self.assertRaisesRegex(Refused, "no option `retrys`; there are: .*retries"):
            step(retrys=1)(inner)
        with self.assertRaisesRegex(Refused, "is made inside another function"):
            self.spec(lambda: step(inner)())
        with self.assertRaisesRegex(Refused, "calls no step"):
            self.spec(inner)
        with self.assertRaisesRegex(Refused, "which a condition cannot look at"):
            self.spec(lambda: anything.options(when=split_bytes() == "a")())
        with self.assertRaisesRegex(Refused, "made for another pipeline"):
            kept = []
            self.spec(lambda: kept.append(numbers(1)))
            self.spec(lambda: anything(kept[0]))
        with self.assertRaisesRegex(Refused, "only inside a pipeline"):
            shell("a", "true")

    def test_a_daemons_data_directory_is_no_code(self):
        with tempfile.TemporaryDirectory() as folder:
            data = pathlib.Path(folder, "data")
            data.mkdir()
            for name in ("orchd.db", "token"):
                (data / name).touch()
            pathlib.Path(folder, "flow.py").touch()
            self.assertEqual(_places.survey(folder).files, 1)

    def test_a_folder_that_is_too_much_is_not_shipped(self):
        with tempfile.TemporaryDirectory() as folder:
            for name, size in (("flow.py", 10), (".venv/x", 1 << 20), ("data/big", (512 << 20) + 1)):
                path = pathlib.Path(folder, name)
                path.parent.mkdir(exist_ok=True)
                with path.open("wb") as file:
                    file.truncate(size)
            from orchd._places import survey

            with self.assertRaisesRegex(Refused, "SOURCE_TOO_LARGE|more than 20000 files or 512 MiB.*orchignore"):
                survey(folder)
            pathlib.Path(folder, ".orchignore").write_text("# mine\ndata/\n")
            self.assertEqual((survey(folder).files, survey(folder).size), (2, 10 + len("# mine\ndata/\n")))

    def test_importing_the_package_is_light(self):
        code = "import sys, orchd, orchd.run_step; print([m for m in ('grpc', 'google.protobuf', 'numpy', 'asyncio') if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout, "[]\n")
        for name in orchd.__all__:
            self.assertTrue(hasattr(orchd, name), name)


class Tables(unittest.TestCase):
    @has("pandas")
    def test_lists_become_tables(self):
        import datetime

        from double import run_message
        from orchd import types

        runs = []
        for number in range(3):
            message = run_message(f"r{number}", "SUCCEEDED")
            message.parameters["folds"].number_value = number
            message.start_time.seconds, message.end_time.seconds = 100, 107
            runs.append(types.Run.from_message(message))
        table = orchd.table(runs)
        self.assertEqual((list(table.index), table.index.name), (["r0", "r1", "r2"], "name"))
        self.assertEqual(table["parameters.folds"].tolist(), [0, 1, 2])
        self.assertEqual(table["seconds"].tolist(), [7.0] * 3)
        self.assertEqual(table["start_time"].iloc[0], datetime.datetime(1970, 1, 1, 0, 1, 40, tzinfo=datetime.timezone.utc))
        self.assertEqual(len(orchd.table([])), 0)
        with self.assertRaisesRegex(TypeError, "a int is none of the things"):
            orchd.table([1])

    @has("pytest")
    def test_the_pytest_plug_in(self):
        from real import BINARY as binary

        if not binary.exists():
            self.skipTest("orchd is not built")
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "test_flow.py").write_text(
                'pytest_plugins = ["orchd.pytest_plugin"]\n'
                "import os, sys\n"
                "from orchd import pipeline, step\n"
                "@step\ndef one() -> int:\n    return 1\n"
                "@pipeline\ndef flow():\n    return one()\n"
                "def test_nothing_is_started_for_others():\n    assert 'grpc' not in sys.modules\n"
                "def test_it_runs(orchd_daemon, orchd_client):\n"
                "    run = flow()\n    assert run.result() == 1\n"
                "    assert orchd_client.get_run(run.name).succeeded\n"
                "    assert os.environ['ORCH_DATA_DIR'] == orchd_daemon.data_dir\n"
                "def test_the_function_alone():\n    assert one() == 1 and 'ORCH_DATA_DIR' not in os.environ\n"
            )
            env = {key: value for key, value in os.environ.items() if not key.startswith("ORCH")}
            env.update(PYTHONPATH=str(pathlib.Path(orchd.__file__).parent.parent), ORCHD_BIN=str(binary))
            done = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder], env=env, capture_output=True, text=True
            )
        self.assertIn("3 passed", done.stdout, done.stdout + done.stderr)


@step
def split_bytes() -> bytes:
    return b""


class InAStep(unittest.TestCase):
    """The step's process, without a daemon around it."""

    def run_step(self, text, name, payload=None, **variables):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        pathlib.Path(folder.name, "flow.py").write_text("from orchd import step\n" + text)
        out = pathlib.Path(folder.name, "out")
        words = [f"flow.py:{name}", json.dumps(payload or {"args": {}, "outputs": {"output": "object"}})]
        env = {**os.environ, "PYTHONPATH": str(pathlib.Path(orchd.__file__).parent.parent), "ORCH_OUTPUT_OUTPUT": str(out), "ORCH_SCRATCH": folder.name, **variables}
        done = subprocess.run(
            [sys.executable, "-m", "orchd.run_step", *words], cwd=folder.name, env=env, capture_output=True, text=True
        )
        return done, out

    def test_a_failure_shows_the_user_s_frames_alone(self):
        text = "def deeper():\n    raise ValueError('bad')\n@step\ndef go():\n    try:\n        deeper()\n    except ValueError:\n        1 / 0\n"
        done, _ = self.run_step(text, "go")
        self.assertEqual(done.returncode, 1)
        self.assertTrue(done.stderr.startswith("orchd: the step failed: ZeroDivisionError\nTraceback"), done.stderr)
        self.assertIn("ValueError: bad\n\nDuring handling of the above exception", done.stderr)
        self.assertNotIn("run_step", done.stderr)

    def test_an_import_that_fails_too(self):
        done, _ = self.run_step("import no_such_module\n@step\ndef go(): pass\n", "go")
        self.assertRegex(done.stderr, r'Traceback.*:\n  File ".*flow.py", line 2, in <module>\n.*\n(.*\n)?ModuleNotFoundError: No module')
        self.assertNotIn("importlib", done.stderr)
        done, _ = self.run_step("def go(:\n", "go")
        self.assertIn('flow.py", line 2', done.stderr)
        self.assertIn("SyntaxError", done.stderr)

    def test_what_is_wrong_with_the_step_is_said_in_one_line(self):
        for body, why in (
            ("return (n for n in ())", "`go` returned a generator, of which nothing could be kept: return a list of what it yields"),
            ("return lambda: 1", "the output `output` is a function, which cannot be written as `pickle`"),
        ):
            done, _ = self.run_step(f"@step\ndef go():\n    {body}\n", "go")
            self.assertEqual(done.returncode, 1)
            self.assertIn(why, done.stderr)
        done, _ = self.run_step("", "gone")
        self.assertIn("flow.py has no function `gone`", done.stderr)

    def test_a_fork_that_returns_stores_nothing(self):
        done, out = self.run_step("import os\n@step\ndef go():\n    if os.fork():\n        os.wait()\n        assert not os.path.exists(os.environ['ORCH_OUTPUT_OUTPUT'])\n        return 'parent'\n    return 'child'\n", "go")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(out.read_bytes().endswith(b"parent"))

    def test_a_coroutine_is_run(self):
        done, out = self.run_step("@step\nasync def go():\n    return 7\n", "go")
        self.assertEqual((done.returncode, out.read_bytes()), (0, b"orchd-object json\n7"))


if __name__ == "__main__":
    unittest.main()
