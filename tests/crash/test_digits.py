"""kill -9 of the daemon while digits runs: every run ends SUCCEEDED, every attempt ran once, no output differs."""
import os
import random
import shutil
import signal
import time
import unittest
from pathlib import Path

from tests.lib.daemon import ROOT, Daemon, wait_for

KILLS = int(os.environ.get("ORCH_TEST_DIGITS_KILLS", "20"))
SEED = int(os.environ.get("ORCH_TEST_SEED", str(random.randrange(1 << 30))))

# A step's program as digits has it, with a mark before it: one line for each attempt that really began.
MARKED = """import os, runpy, sys
with open({marks!r}, "a") as out:
    out.write(os.environ["ORCH_RUN_NAME"] + " " + os.environ["ORCH_STEP"] + " " + os.environ["ORCH_ATTEMPT"] + "\\n")
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def digests(daemon: Daemon, run: str) -> dict[tuple[str, str], str]:
    found = daemon.json("list-artifacts", "--run", run, "--all")["artifacts"]
    return {(a["step"], a["output"]): a["digest"] for a in found}


class CrashInDigits(unittest.TestCase):
    def test_kills_at_random_instants(self) -> None:
        print(f"\nseed {SEED}, {KILLS} kills", flush=True)
        rng = random.Random(SEED)
        with Daemon() as daemon:
            folder = daemon.home / "digits"
            shutil.copytree(ROOT / "examples/digits", folder)
            marks = daemon.home / "marks"
            (folder / "marked.py").write_text(MARKED.format(marks=str(marks)))
            text = (folder / "pipeline.yaml").read_text().replace("[/usr/bin/python3, ", "[/usr/bin/python3, marked.py, ")
            (folder / "pipeline.yaml").write_text(text)

            def start(name: str) -> None:
                daemon.ctl("submit", folder / "pipeline.yaml", "--name", name, "--no-cache")

            start("calm")
            daemon.ctl("wait-run", "calm")
            began = time.monotonic()
            expected = digests(daemon, "calm")
            self.assertGreaterEqual(len(expected), 15)
            kills, runs = 0, 0
            while kills < KILLS:
                runs += 1
                name = f"crash-{runs}"
                start(name)
                while kills < KILLS and daemon.state(name) == "RUNNING":
                    time.sleep(rng.uniform(0.001, 1.0))  # the random instant is the test
                    daemon.kill(signal.SIGKILL)
                    kills += 1
                    daemon.start()
                daemon.ctl("wait-run", name, timeout=120)
                self.assertEqual(daemon.state(name), "SUCCEEDED")
                self.assertEqual(digests(daemon, name), expected)
            print(f"{kills} kills over {runs} runs in {time.monotonic() - began:.0f} s", flush=True)
            seen = marks.read_text().splitlines()
            twice = {line for line in seen if seen.count(line) > 1}
            self.assertEqual(twice, set(), "attempts that began twice")
            self.assertTrue(all(line.endswith(" 1") for line in seen), "an attempt was lost and repeated")


class CrashInManySteps(unittest.TestCase):
    def test_kills_among_short_steps(self) -> None:
        print(f"\nseed {SEED}", flush=True)
        rng = random.Random(SEED)
        with Daemon() as daemon:
            marks = daemon.home / "marks"
            marks.mkdir()
            width, depth = 8, 60
            lines = ["name: mesh", "steps:"]
            for d in range(depth):
                for w in range(width):
                    command = (f"[sh, -c, 'echo $ORCH_ATTEMPT >> {marks}/$ORCH_RUN_NAME.$ORCH_STEP; "
                               f"cat /dev/null $ORCH_INPUT_A > ${{outputs.o}}; echo {d}.{w} >> ${{outputs.o}}']")
                    inputs = "" if d == 0 else f", inputs: {{a: s{d - 1}x{w}.o, b: s{d - 1}x{(w + 1) % width}.o}}"
                    lines.append(f"  - {{name: s{d}x{w}, command: {command}, outputs: {{o: {{}}}}, resources: {{cpu: 0.25}}{inputs}}}")
            kills, runs = 0, 0
            while kills < KILLS:
                runs += 1
                run = daemon.submit("\n".join(lines), "--name", f"mesh-{runs}")
                while kills < KILLS and daemon.state(run) == "RUNNING":
                    time.sleep(10 ** rng.uniform(-3, -0.7))  # the random instant is the test
                    daemon.kill(signal.SIGKILL)
                    kills += 1
                    daemon.start()
                daemon.ctl("wait-run", run, timeout=120, code=None)
                bad = {n: s for n, s in daemon.steps(run).items() if s["state"] not in ("SUCCEEDED", "SKIPPED")}
                self.assertEqual({n: (s["state"], s["reason"], s["message"]) for n, s in bad.items()}, {})
                self.assertEqual(daemon.state(run), "SUCCEEDED")
            print(f"{kills} kills over {runs} runs", flush=True)
            began = {p.name: p.read_text() for p in Path(marks).iterdir()}
            self.assertEqual(len(began), width * depth * runs)
            self.assertEqual({n: t for n, t in began.items() if t != "1\n"}, {})
            wait_for("no attempt to be left", lambda: daemon.json("server-info").get("live_attempts", 0) == 0)


if __name__ == "__main__":
    unittest.main()
