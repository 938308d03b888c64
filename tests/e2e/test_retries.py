"""What is tried again and when: the words of `on`, exit codes, both budgets, back-off and time-outs, also over a kill -9."""
import datetime
import signal
import unittest

from tests.lib.daemon import Daemon, wait_for


def when(text: str) -> float:
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


class Retries(unittest.TestCase):
    daemon: Daemon

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = Daemon("grace: 300ms\nflavors: {fake: true}\n")
        cls.daemon.start()
        cls.daemon.ctl("apply", "-f", cls.daemon.file("orchestrators:\n  - {name: fake, flavor: fake, config: {survive: true}}\n",
                                                      "f.yaml"), "--yes")

    @classmethod
    def tearDownClass(cls) -> None:
        cls.daemon.close()

    def attempts(self, run: str, step: str) -> list[str]:
        return [a["state"] for a in self.daemon.json("get-step", run, step)["attempts"]]

    def test_each_word_of_on(self) -> None:
        # covers: StepSpec.retry Retry.on Retry.Condition.FAILED Retry.Condition.LOST Retry.Condition.OOM
        outcomes = {"failed": "fail", "lost": "lost", "oom": "oom"}
        steps, expected = [], {}
        for word in ("failed", "lost", "oom", "timeout"):
            for what, outcome in outcomes.items():
                name = f"{word}-{what}"
                expected[name] = 2 if word == what else 1
                steps.append(f"  - {{name: {name}, command: ['-'], retry: {{max_attempts: 2, backoff: {{initial: 1ms}}, on: [{word}]}},"
                             f" settings: {{fake: {{outcome: {outcome}}}}}}}")
        run = self.daemon.submit("name: p\nsteps:\n" + "\n".join(steps) + "\n", "--orchestrator", "fake")
        self.daemon.ctl("wait-run", run, code=1)
        self.assertEqual({n: s["attempt"] for n, s in self.daemon.steps(run).items()}, expected)

    def test_time_outs_are_tried_again_if_asked_for(self) -> None:
        # covers: Retry.max_attempts Retry.Condition.TIMEOUT
        run = self.daemon.submit(
            "name: p\nsteps:\n"
            "  - {name: again, command: [sleep, '1000'], timeout: 200ms, retry: {max_attempts: 2, backoff: {initial: 1ms}, on: [timeout]}}\n"
            "  - {name: once, command: [sleep, '1000'], timeout: 200ms, retry: {max_attempts: 2, backoff: {initial: 1ms}, on: [failed]}}\n")
        self.daemon.ctl("wait-run", run, code=1)
        self.assertEqual(self.attempts(run, "again"), ["TIMED_OUT"] * 2)
        self.assertEqual(self.attempts(run, "once"), ["TIMED_OUT"])
        self.assertEqual(self.daemon.steps(run)["once"]["reason"], "RUN_TIMEOUT")

    def test_queue_time_out(self) -> None:
        # covers: Timeout.queue
        run = self.daemon.submit("name: p\nsteps:\n  - {name: a, command: ['-'], timeout: {queue: 300ms}, "
                                 "settings: {fake: {start_delay: 1h}}}\n", "--orchestrator", "fake")
        self.daemon.ctl("wait-run", run, code=1)
        self.assertEqual(self.daemon.steps(run)["a"]["reason"], "QUEUE_TIMEOUT")

    def test_exit_codes(self) -> None:
        # covers: Retry.exit_codes
        run = self.daemon.submit("name: p\nsteps:\n" + "".join(
            f"  - {{name: c{code}, command: [sh, -c, 'exit {code}'], retry: {{max_attempts: 3, backoff: {{initial: 1ms}}, exit_codes: [75, 111]}}}}\n"
            for code in (1, 75, 111)))
        self.daemon.ctl("wait-run", run, code=1)
        self.assertEqual({n: s["attempt"] for n, s in self.daemon.steps(run).items()}, {"c1": 1, "c75": 3, "c111": 3})

    def test_a_command_that_never_began_is_final_and_a_refusal_for_now_is_no_attempt(self) -> None:
        run = self.daemon.submit("name: p\nsteps:\n  - {name: a, command: ['-'], settings: {fake: {refuse: transient, refuse_attempts: 2}}}\n",
                                 "--orchestrator", "fake")
        self.daemon.ctl("wait-run", run)
        self.assertEqual(self.attempts(run, "a"), ["SUCCEEDED"])

    def test_back_off_grows_and_survives_a_kill(self) -> None:
        # covers: Retry.backoff Retry.Backoff.initial Retry.Backoff.multiplier Retry.Backoff.max Retry.Backoff.jitter
        run = self.daemon.submit(
            "name: p\nsteps:\n  - {name: a, command: [sh, -c, 'exit 1'], retry: {max_attempts: 4, "
            "backoff: {initial: 400ms, multiplier: 2, max: 1s, jitter: 0.2}}}\n")
        wait_for("the second wait", lambda: self.daemon.steps(run)["a"]["state"] == "BACKOFF" and self.daemon.steps(run)["a"]["attempt"] == 2)
        due = self.daemon.steps(run)["a"]["retry_time"]
        self.daemon.restart(signal.SIGKILL)
        step = self.daemon.steps(run)["a"]
        if step["attempt"] == 2:
            self.assertEqual(step["retry_time"], due)
        self.daemon.ctl("wait-run", run, code=1)
        attempts = self.daemon.json("get-step", run, "a")["attempts"]
        self.assertEqual(len(attempts), 4)
        waits = [when(b["create_time"]) - when(a["end_time"]) for a, b in zip(attempts, attempts[1:])]
        self.assertGreaterEqual(when(attempts[2]["create_time"]), when(due) - 0.001)
        for wait, least in zip(waits, (0.32, 0.64, 0.8)):  # 400 ms, 800 ms, 1 s at most, each less a fifth at most
            self.assertGreaterEqual(wait, least - 0.001)

    def test_the_whole_run(self) -> None:
        # covers: Pipeline.timeout
        run = self.daemon.submit("name: p\ntimeout: 2s\nsteps:\n  - {name: a, command: [sleep, '1000']}\n  - {name: b, command: ['true'], after: [a]}\n")
        wait_for("a to run", lambda: self.daemon.steps(run)["a"]["state"] == "RUNNING")
        self.daemon.restart(signal.SIGKILL)
        self.daemon.ctl("wait-run", run, code=1)
        found = self.daemon.json("get-run", run)
        self.assertEqual(found["reason"], "RUN_DEADLINE")
        took = when(found["end_time"]) - when(found["create_time"])
        self.assertGreaterEqual(took, 2)
        self.assertEqual({n: s["state"] for n, s in self.daemon.steps(run).items()}, {"a": "CANCELLED", "b": "SKIPPED"})


if __name__ == "__main__":
    unittest.main()
