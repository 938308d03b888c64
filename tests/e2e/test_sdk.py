"""`@step` and `@pipeline`: files of users, run as they run them, on the real daemon."""
import contextlib
import importlib.util
import os
import pty
import re
import subprocess
import sys
import types
import unittest
from unittest import mock

from tests.e2e.sdk import SOURCES, SdkCase, orchd


class Sdk(SdkCase):
    # --- whole files ---

    def test_running_the_file_runs_it_and_shows_how(self) -> None:
        file = self.write("""
            @step
            def numbers(n: int) -> list[int]:
                return list(range(n))

            @step(retries=1, cpu=0.5, memory="16Mi")
            def total(values: list[int], scale: float = 1.0) -> float:
                print("adding", values)
                return sum(values) * scale

            @pipeline
            def sums(n: int = 3):
                return total(numbers(n), scale=2)

            if __name__ == "__main__":
                run = sums.main()
                print(run.steps["total"].output.load(), run.result(), run.logs("total").strip(), run.url)
            """)
        done = self.run_file(file, "--n", "4")
        self.assertRegex(done.stdout, r"^12\.0 12\.0 adding \[0, 1, 2, 3\] http://")
        self.assertIn(f"code {self.folder}: 1 file, ", done.stderr)
        self.assertRegex(done.stderr, r"✓ total  succeeded")
        self.assertIn("invalid int value: 'x'", self.run_file(file, "--n", "x", code=2).stderr)

    @unittest.skipIf(importlib.util.find_spec("numpy") is None, "python3-numpy is missing")
    def test_data_of_many_kinds_passes(self) -> None:
        flow = self.module("""
            import dataclasses, enum
            from pathlib import Path
            from typing import Annotated, Any, NamedTuple, Optional
            import numpy as np

            class Color(enum.Enum):
                RED = "red"

            @dataclasses.dataclass
            class Point:
                x: int
                y: float = 0.5

            class Halves(NamedTuple):
                left: np.ndarray
                right: np.ndarray

            class Tally:
                def __init__(self, n): self.n = n

            @serializer("tally", Tally)
            class Tallies:
                def save(value, path): path.write_text("I" * value.n)
                def load(path): return Tally(len(path.read_text()))

            @step
            def make() -> tuple[Annotated[dict[int, tuple], "odd"], Annotated[Point, "point"], Annotated[Optional[int], "maybe"],
                                Annotated[Tally, "tally"], Annotated[float, "nan"], Annotated[int, "huge"], Annotated[Any, "any"],
                                Annotated[bytes, "raw"], Annotated[str, "text"], Annotated[Color, "color"], Annotated[list, "plain"]]:
                return ({1: (2, 3)}, Point(1), None, Tally(4), float("nan"), 2**60 + 1, {"a": {1, 2}}, b"\\x00\\xff", "é\\r\\n",
                        Color.RED, [np.float32(0.5), np.int64(3), (1, 2)])

            @step
            def check(odd, point, maybe, tally: Tally, nan: float, huge: int, any, raw, text, color, plain, given: Point,
                      where: Path, kind: Color) -> str:
                assert odd == {1: (2, 3)} and point == Point(1) and maybe is None and tally.n == 4 and nan != nan, (odd, point, nan)
                assert huge == 2**60 + 1 and any == {"a": {1, 2}} and raw == b"\\x00\\xff" and text == "é\\r\\n", (huge, any, raw, text)
                assert color is Color.RED and plain == [0.5, 3, [1, 2]], (color, plain)
                assert given == Point(3, 4.0) and where == Path("/x") and kind is Color.RED, (given, where, kind)
                return "checked"

            @step
            def halves(n: int) -> Halves:
                a = np.arange(n)
                return Halves(a[: n // 2], a[n // 2 :])

            @step
            def folder(part: np.ndarray) -> Folder:
                where = current_step().scratch / "made"
                where.mkdir()
                (where / "sum.txt").write_text(str(part.sum()))
                return where

            @step
            def file(where: Path) -> Path:
                out = current_step().scratch / "copy"
                out.write_text((where / "sum.txt").read_text() + "!")
                return out

            @pipeline
            def many(n: int = 6):
                out = make()
                checked = check(out.odd, out.point, out.maybe, out.tally, out.nan, out.huge, out.any, out.raw, out.text,
                                out.color, out.plain, Point(3, 4), Path("/x"), Color.RED)
                left, right = halves(n)
                made = folder(right)
                shell("list", "ls ${inputs.made} > ${outputs.names}", inputs={"made": made}, outputs={"names": str})
                return checked, left, file(made)
            """)
        run = flow.many.options(progress=False)()
        checked, left, file = run.result()
        self.assertEqual((checked, left.tolist(), file.read_text()), ("checked", [0, 1, 2], "12!"))
        self.assertEqual((run.steps["folder"].output.load() / "sum.txt").read_text(), "12")
        self.assertEqual(run.steps["list"].output.load(), "sum.txt\n")
        again = orchd.get_run(run.name)  # from its name alone
        self.assertEqual(again.steps["make"].outputs["huge"].load(), 2**60 + 1)
        self.assertEqual(again.steps["halves"].outputs["left"].load().tolist(), [0, 1, 2])
        self.assertEqual({a.type for a in again.artifacts if a.step == "halves"}, {"npy"})
        links = again.lineage("file", direction="upstream").links
        self.assertIn("halves", {link.artifact.step for link in links if link.artifact})

    @unittest.skipIf(importlib.util.find_spec("numpy") is None, "python3-numpy is missing")
    def test_fan_outs_of_every_kind(self) -> None:
        flow = self.module("""
            from typing import Any
            import numpy as np

            @step
            def parts(n: int) -> list[np.ndarray]:
                return list(np.array_split(np.arange(n), 2))

            @step
            def words() -> list[str]:
                return ["1", "two", "${params.n} $x"]

            @step
            def size(part: np.ndarray, word: str, which: Any) -> list:
                return [int(part.size), word, which]

            @step
            def shout(word: str) -> str:
                return word.upper()

            @step
            def square(x: int) -> int:
                return x * x

            @step
            def kinds(x) -> str:
                return f"{x!r}"

            @step
            def unknown():
                return [{"a": 1}, "b"]

            @step
            def collect(sizes: list, texts: list[str], squares: list[int], mixed: list[str], more: dict, none: list) -> dict:
                return {"sizes": sizes, "texts": texts, "squares": squares, "mixed": mixed, "more": more, "none": none}

            @pipeline
            def given(words: list[str] = ("a", "1"), mixed: list = (1, "1"), numbers: list[int] = ()):
                return shout.map(words), kinds.map(mixed), kinds.options(name="again").map(words), square.map(numbers)

            @pipeline(max_parallel=3)
            def fan(n: int = 5):
                sizes = size.map(parts(n), word=["$b"], which=fixed([1, 2]))
                squares = square.options(name="again").map(square.map([1, 2, 3]))
                mixed = kinds.map([1, "1", None])
                unsure = kinds.options(name="unsure").map(unknown())
                return collect(sizes, shout.map(words()), squares, mixed, {"unsure": unsure, "n": n}, square.options(name="none").map([]))
            """)
        run = flow.fan.options(progress=False)()
        self.assertEqual(run.result(), {
            "sizes": [[3, "$b", [1, 2]], [2, "$b", [1, 2]]], "texts": ["1", "TWO", "${PARAMS.N} $X"], "squares": [1, 16, 81],
            "mixed": ["1", "'1'", "None"], "more": {"unsure": ["{'a': 1}", "'b'"], "n": 5}, "none": []})
        self.assertEqual(run.steps["square"].output.load(), [1, 4, 9])
        self.assertEqual(run.steps["square[2]"].output.load(), 9)
        self.assertEqual(run.steps["shout"][1].info.item, {"word-2": "two"})
        given = flow.given.options(progress=False)(words=["b", "2"])
        self.assertEqual(given.result(), (["B", "2"], ["1", "'1'"], ["'b'", "'2'"], []))
        self.assertIn("items-of-words", given.steps)
        # Outside a pipeline they are functions.
        self.assertEqual((flow.square(3), flow.square.map([1, 2])), (9, [1, 4]))

    def test_conditions_order_and_options(self) -> None:
        flow = self.module("""
            @step
            def measure(n: int) -> dict:
                return {"score": n / 10, "name": "a-b"}

            @step(labels={"kind": "check"})
            def good(of: dict) -> str:
                return "good"

            @step
            def poor() -> str:
                return "poor"

            @step(trigger_rule="none_failed", env={"COLOR": "blue"})
            def last(a: str = "absent", b: str = "absent") -> list:
                import os
                return [a, b, os.environ["COLOR"]]

            @pipeline
            def choose(n: int):
                score = measure.options(name="measure-it")(n)
                a = good.options(when=(score["score"] > 0.5) & (n < 10))(score)
                b = poor.options(when=~(score["score"] > 0.5))()
                text = poor.options(name="by-text", when='."measure-it".output.name == "a-b"')()
                return last(a, b).after(text), b, good.options(name="none").map([])
            """)
        silent = flow.choose.options(progress=False)
        first, second = silent.submit(7), silent.submit(n=2)
        self.assertEqual(first.wait().result(), (["good", "absent", "blue"], None, []))
        self.assertEqual(second.wait().result(), (["absent", "poor", "blue"], "poor", []))
        self.assertEqual((first.steps["poor"].state, first.steps["by-text"].state), ("SKIPPED", "SUCCEEDED"))
        self.assertEqual(first.parameters, {"n": 7})

    def test_the_code_is_in_the_cache_key(self) -> None:
        helper = self.write("FACTOR = 2\n", "helper.py")
        text = """
            import helper

            @step(cache=True)
            def scaled(n: int) -> int:
                return n * helper.FACTOR

            @pipeline
            def cached(n: int):
                return scaled(n)

            if __name__ == "__main__":
                run = cached.options(progress=False)(21)
                print(run.steps["scaled"].state, run.result())
            """
        file = self.write(text)
        self.assertEqual([self.run_file(file).stdout for _ in range(2)], ["SUCCEEDED 42\n", "CACHED 42\n"])
        helper.write_text("FACTOR = 3\n")
        self.assertEqual(self.run_file(file).stdout, "SUCCEEDED 63\n")
        (self.folder / ".orchignore").write_text("notes\n")
        self.run_file(file)
        (self.folder / "notes").write_text("left out")
        self.assertEqual(self.run_file(file).stdout, "CACHED 63\n")

    def test_classes_of_the_file_are_the_same_when_they_come_back(self) -> None:
        file = self.write("""
            class Thing:
                def __init__(self, n): self.n = n

            def pair(thing: Thing):
                return thing, thing.n

            both = step(outputs=("thing", "n"), name="both")(pair)

            @step
            def make(n: int) -> Thing:
                return Thing(n)

            @pipeline
            def things():
                thing, n = both(make(3))
                return thing, n

            if __name__ == "__main__":
                thing, n = things.options(progress=False)().result()
                print(isinstance(thing, Thing), thing.n, n)
            """)
        self.assertEqual(self.run_file(file).stdout, "True 3 3\n")

    def test_on_a_terminal_it_is_drawn_again(self) -> None:
        file = self.write("""
            import time

            @step
            def wait(n: int) -> int:
                time.sleep(0.3)
                return n

            @pipeline
            def drawn():
                wait.map([1, 2])

            if __name__ == "__main__":
                drawn()
            """)
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        child = subprocess.Popen(["/usr/bin/python3", str(file)], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
                                 env={**self.daemon.environment(PYTHONPATH=SOURCES, TERM="xterm"), "NO_COLOR": ""})
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # how Linux says that the other side is closed
            while piece := os.read(ours, 65536):
                shown += piece
        self.assertEqual(child.wait(60), 0, shown.decode())
        text = shown.decode()
        self.assertIn("\x1b[", text)
        self.assertIn("▶ wait[", text)
        after = re.split(r"\x1b\[\d+A\x1b\[J", text)[-1]
        self.assertNotIn("▶", after, "what ran is wiped away at the end")
        self.assertEqual(len(re.findall(r"✓ wait\[\d\]  succeeded  \d", text)), 2)

    def test_in_a_notebook_its_graph_is_renewed(self) -> None:
        flow = self.module("@step\ndef one() -> int:\n    return 1\n@pipeline\ndef noted():\n    one()\n")
        handle = mock.Mock()
        display = mock.Mock(return_value=handle)
        double = types.SimpleNamespace(display=display)
        with mock.patch.dict(sys.modules, {"ipykernel": types.ModuleType("ipykernel"), "IPython": mock.Mock(), "IPython.display": double}):
            run = flow.noted()
        self.assertEqual(display.call_args.args[0].id, run.id)
        self.assertIn("SUCCEEDED", handle.update.call_args.args[0]._repr_html_())

    def test_parameters_have_types(self) -> None:
        flow = self.module("""
            @step
            def show(a, b, c, d, e) -> list:
                return [a, b, c, d, e]

            @pipeline
            def typed(a: int, b: float = 1, c: str = "x", d: bool = False, e: dict = {"k": [1]}):
                return show(a, b, c, d, e)
            """)
        self.assertEqual(flow.typed.options(progress=False)(2, c="${run.name}").result(), [2, 1, "${run.name}", False, {"k": [1]}])
        for given, field in (({"a": "two"}, "a"), ({"a": 1.5}, "a"), ({"a": 1, "d": 1}, "d"), ({"a": 1, "c": 3}, "c")):
            with self.subTest(given), self.assertRaisesRegex(orchd.Refused, field):
                flow.typed.submit(**given)
        with self.assertRaisesRegex(TypeError, "pipeline `typed`: missing a required argument: 'a'"):
            flow.typed.submit()

    def test_a_package_run_by_its_name(self) -> None:
        self.write("""
            from . import tools

            @step
            def one() -> tools.Thing:
                return tools.Thing(3)

            @pipeline
            def packed():
                return tools.twice(one())

            if __name__ == "__main__":
                print(packed.options(progress=False)().result())
            """, "pack/flow.py")
        self.write("""
            class Thing:
                def __init__(self, n): self.n = n

            @step
            def twice(thing: Thing) -> int:
                return thing.n * 2
            """, "pack/tools.py")
        (self.folder / "pack/__init__.py").write_text("")
        done = subprocess.run(["/usr/bin/python3", "-m", "pack.flow"], cwd=self.folder, text=True, capture_output=True,
                              timeout=120, env=self.daemon.environment(PYTHONPATH=SOURCES))
        self.assertEqual(done.stdout, "6\n", done.stderr)


if __name__ == "__main__":
    unittest.main()
