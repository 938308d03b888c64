"""kill -9 at random instants: every attempt runs once, the run succeeds, no output differs; a dead supervisor is told."""
import json
import os
import pathlib
import random
import signal
import time
import unittest

from tests.lib.live import ROOT, Daemon, alive, wait_for

ROUNDS = int(os.environ.get("ORCH_CRASH_ROUNDS", "5"))
DIGITS = int(os.environ.get("ORCH_CRASH_DIGITS", "1"))  # kills in digits; 0: not at all
SEED = int(os.environ.get("ORCH_CRASH_SEED", random.randrange(1 << 31)))


def sh(script):
    return json.dumps(["/bin/sh", "-ec", script])


def digests(daemon, run):
    """Digest of every output of a run, by step and output."""
    found, token = {}, ""
    while True:
        page = daemon.http("ArtifactService/ListArtifacts", {"run": run, "page_size": 1000, "page_token": token})
        for artifact in page.get("artifacts", []):
            found[artifact["step"], artifact["output"]] = artifact["digest"]
        token = page.get("next_page_token", "")
        if not token:
            return found


class Crash(unittest.TestCase):
    def setUp(self):
        self.random = random.Random(SEED)
        self.daemon = Daemon().start()
        self.addCleanup(self.daemon.close)

    def crash(self, seconds):
        """Lets the daemon live for so long, then kills it and starts it again."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.daemon.process.poll() is None:
            time.sleep(min(0.005, max(0.0, end - time.monotonic())))
        self.assertIsNone(self.daemon.process.poll(), "the daemon ended by itself: " + self.daemon.log()[-2000:])
        self.daemon.kill()
        self.daemon.start()

    def synthetic(self):
        """30 steps in layers of 6; each writes a marker a start and an output made from its inputs."""
        marks = self.daemon.folder / "marks"
        lines = ["steps:"]
        for layer in range(5):
            for i in range(6):
                name = f"s{layer}-{i}"
                inputs = {f"i{j}": f"s{layer - 1}-{j}.x" for j in range(6)} if layer else {}
                script = f'echo "$ORCH_RUN_NAME $ORCH_STEP $ORCH_ATTEMPT" >> {marks}; sleep 0.0{i + 3}; ' \
                         f'{{ echo {name}; cat /dev/null {" ".join(f"$ORCH_INPUT_I{j}" for j in range(6)) if layer else ""}; }}' \
                         ' | sha256sum > "$ORCH_OUTPUT_X"; echo out; echo err >&2'
                lines.append(f"  - {{name: {name}, command: {sh(script)}, inputs: {json.dumps(inputs)}, outputs: {{x: {{}}}}}}")
        return marks, "name: crash\n" + "\n".join(lines) + "\n"

    def test_marker_files(self):
        marks, text = self.synthetic()
        self.assertEqual(self.daemon.run(text, "calm")["state"], "SUCCEEDED")
        calm = digests(self.daemon, "calm")
        self.assertEqual(len(calm), 30)
        kills = 0
        for number in range(ROUNDS):
            name = f"r{number}"
            with self.subTest(seed=SEED, round=number):
                self.daemon.submit(text, name)
                for _ in range(4):
                    self.crash(self.random.uniform(0, 0.4))
                    kills += 1
                self.assertEqual(self.daemon.ended(name)["state"], "SUCCEEDED", self.daemon.steps(name))
                starts = [line for line in marks.read_text().splitlines() if line.startswith(name + " ")]
                self.assertEqual(len(starts), 30, "an attempt ran twice, or never")
                self.assertEqual(len(set(starts)), 30)
                self.assertEqual({line.split()[2] for line in starts}, {"1"})
                self.assertEqual(digests(self.daemon, name), calm)
                for step in ("s0-0", "s4-5"):
                    self.assertEqual(self.daemon.ctl("logs", name, step, "--stream", "stdout").stdout, "out\n")
        print(f"{kills} kills, seed {SEED}")

    @unittest.skipIf(DIGITS == 0, "ORCH_CRASH_DIGITS=0")
    def test_digits(self):
        example = ROOT / "examples" / "digits" / "pipeline.yaml"
        started = time.monotonic()
        self.daemon.ctl("submit", example, "--name", "calm", "--wait", "--no-start", "--no-cache", timeout=300)
        seconds = time.monotonic() - started
        calm = digests(self.daemon, "calm")
        for number in range(DIGITS):
            with self.subTest(seed=SEED, round=number):
                name = f"d{number}"
                self.daemon.ctl("submit", example, "--name", name, "--no-start", "--no-cache")
                self.crash(self.random.uniform(0, seconds))
                self.assertEqual(self.daemon.ended(name, 180)["state"], "SUCCEEDED", self.daemon.steps(name))
                self.assertEqual({step["attempt"] for step in self.daemon.steps(name).values()}, {1})
                self.assertEqual(digests(self.daemon, name), calm)

    def test_a_dead_supervisor_is_told_truthfully(self):
        pids = self.daemon.folder / "pids"
        text = f"name: lost\nsteps:\n  - {{name: a, command: {sh(f'echo $PPID >> {pids}; exec sleep 600')}}}\n"
        self.daemon.submit(text, "lost")
        wait_for(pids.exists, "the step runs")
        wait_for(lambda: self.daemon.state("lost", "a") == "RUNNING", "it is known to run")
        for pid in self.daemon.supervisors():
            os.kill(pid, signal.SIGKILL)
        self.assertEqual(self.daemon.ended("lost")["state"], "FAILED")
        step = self.daemon.step("lost", "a")
        self.assertEqual(step["attempts"][0]["state"], "LOST", step)
        left = [p for p in pathlib.Path("/proc").glob("[0-9]*/environ") if self._of(p)]
        self.assertEqual(left, [], "processes of the lost attempt are still there")
        self.assertEqual(self.daemon.run("name: ok\nsteps:\n  - {name: a, command: [/bin/true]}\n", "next")["state"],
                         "SUCCEEDED")

    def _of(self, path):
        try:
            return str(self.daemon.data).encode() in path.read_bytes() and b"ORCH_FENCE=" in path.read_bytes() \
                and alive(int(path.parent.name))
        except OSError:
            return False

    def test_both_die(self):
        mark = self.daemon.folder / "mark"
        text = f"name: both\nsteps:\n  - {{name: a, command: {sh(f'echo x >> {mark}; test $ORCH_ATTEMPT = 2 || exec sleep 600')}, retry: {{max_attempts: 2, backoff: {{initial: 10ms}}}}}}\n"
        self.daemon.submit(text, "both")
        wait_for(mark.exists, "the step runs")
        supervisors = self.daemon.supervisors()
        self.daemon.kill()
        for pid in supervisors:
            os.kill(pid, signal.SIGKILL)
        self.daemon.start()
        self.assertEqual(self.daemon.ended("both")["state"], "SUCCEEDED", self.daemon.step("both", "a"))
        self.assertEqual([a["state"] for a in self.daemon.step("both", "a")["attempts"]], ["LOST", "SUCCEEDED"])


if __name__ == "__main__":
    unittest.main()
