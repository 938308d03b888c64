"""The daemon is killed again and again in a run whose steps hand data on, and together with its supervisor."""
import json
import os
import random
import signal
import time
import unittest

from tests.lib.daemon import Daemon, alive, wait_for

SEED = int(os.environ.get("ORCH_TEST_SEED", str(random.randrange(1 << 30))))
ROUNDS = max(1, int(os.environ.get("ORCH_TEST_DIGITS_KILLS", "20")) // 5)


def sh(script: str) -> str:
    return json.dumps(["/bin/sh", "-ec", script.replace("$$", "$$$$")])  # `$$` is one dollar in a template


class Storm(unittest.TestCase):
    def test_kills_while_data_is_handed_on(self) -> None:
        """Five layers of six steps; each output is made of all outputs of the layer before."""
        print(f"\nseed {SEED}, {4 * ROUNDS} kills", flush=True)
        rng = random.Random(SEED)
        with Daemon() as daemon:
            marks = daemon.home / "marks"
            lines = ["name: storm", "steps:"]
            for layer in range(5):
                for i in range(6):
                    inputs = {f"i{k}": f"s{layer - 1}-{k}.x" for k in range(6)} if layer else {}
                    files = " ".join(f'"$ORCH_INPUT_I{k}"' for k in range(len(inputs)))
                    script = (f'echo "$ORCH_RUN_NAME $ORCH_STEP $ORCH_ATTEMPT" >> {marks}; sleep 0.0{i + 3}; '
                              f'{{ echo "$ORCH_STEP"; cat /dev/null {files}; }} | sha256sum > "$ORCH_OUTPUT_X"; '
                              "echo out; echo err >&2")
                    lines.append(f"  - {{name: s{layer}-{i}, command: {sh(script)}, inputs: {json.dumps(inputs)}, "
                                 "outputs: {x: {}}}")
            text = "\n".join(lines) + "\n"

            def digests(run: str) -> dict[str, str]:
                found = daemon.json("list-artifacts", "--run", run, "--all")["artifacts"]
                return {a["step"]: a["digest"] for a in found}

            daemon.run(text, "--name", "calm")
            calm = digests("calm")
            self.assertEqual(len(calm), 30)
            for number in range(ROUNDS):
                name = f"storm-{number}"
                daemon.submit(text, "--name", name)
                for _ in range(4):
                    time.sleep(rng.uniform(0, 0.4))  # the random instant is the test
                    daemon.restart(signal.SIGKILL)
                daemon.ctl("wait-run", name)
                begun = [line for line in marks.read_text().splitlines() if line.startswith(name + " ")]
                self.assertEqual(sorted(begun), sorted(f"{name} {step} 1" for step in calm))
                self.assertEqual(digests(name), calm)
                for step in ("s0-0", "s4-5"):
                    self.assertEqual(daemon.ctl("logs", name, step, "--stream", "stdout").stdout, "out\n")
                    self.assertEqual(daemon.ctl("logs", name, step, "--stream", "stderr").stdout, "err\n")


class Together(unittest.TestCase):
    def test_the_attempt_is_lost_its_process_ended_and_the_next_one_succeeds(self) -> None:
        with Daemon() as daemon:
            mark = daemon.home / "mark"
            script = f'echo $$ >> {mark}; test "$ORCH_ATTEMPT" = 2 || exec sleep 600'
            name = daemon.submit(f"name: both\nsteps:\n  - name: a\n    command: {sh(script)}\n"
                                 "    retry: {max_attempts: 2, backoff: {initial: 10ms}}\n")
            wait_for("the step to begin", lambda: mark.exists() and mark.read_text().endswith("\n"))
            first = int(mark.read_text())
            supervisor = daemon.supervisor_pid()
            self.assertTrue(supervisor)
            daemon.kill(signal.SIGKILL)
            os.kill(supervisor, signal.SIGKILL)
            daemon.start()
            daemon.ctl("wait-run", name)
            step = daemon.json("get-step", name, "a")
            self.assertEqual([a["state"] for a in step["attempts"]], ["LOST", "SUCCEEDED"])
            self.assertFalse(alive(first))
            self.assertEqual(len(mark.read_text().split()), 2)


if __name__ == "__main__":
    unittest.main()
