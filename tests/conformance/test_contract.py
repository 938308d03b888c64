"""What every backend has to do, on its real platform, through the real binaries."""
from __future__ import annotations

import hashlib
import re
import signal
import time

from tests.conformance.cases import Cases, generate
from tests.conformance.flavor import YES, Does
from tests.crash.test_secrets import everywhere
from tests.lib.daemon import wait_for

PASSWORD = "tiger-Umlaut-ä-41c7d09b"
BIG = 3_000_000


class Contract(Cases):
    table = "contract"
    usual = {"": YES}

    @classmethod
    def setUpClass(cls) -> None:
        cls.flavor.up()
        cls.addClassCleanup(cls.flavor.down)

    def setUp(self) -> None:
        self.begin()
        self.addCleanup(self.daemon.close)

    def fault(self, point: str) -> None:
        """The daemon is started anew, and dies at that point once."""
        self.once = self.daemon.home / "once"
        self.once.touch()
        self.daemon.stop()
        self.daemon.faults = f"{point}=kill@{self.once}"
        self.daemon.start()

    def died(self) -> None:
        wait_for("the fault", lambda: not self.once.exists(), self.flavor.seconds)
        assert self.daemon.process is not None
        self.daemon.process.wait(30)
        self.daemon.faults = ""
        self.daemon.start()

    def wait_clean(self) -> None:
        try:
            wait_for("the platform to be clean", lambda: not self.flavor.jobs(self.daemon), self.flavor.seconds, every=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}; left are {self.flavor.jobs(self.daemon)}") from None

    # --- submit ---

    def test_submitted_once_though_asked_twice(self) -> None:
        """submitted once, though a daemon that is killed again and again asks twice"""
        run = self.submit(*[self.step(f"s{i}", Does(outputs={"x": str(i)}), outputs={"x": {}}) for i in range(8)])
        for ended in (0, 2, 5):
            wait_for(f"{ended} ends", lambda: sum(s["state"] == "SUCCEEDED" for s in self.now(run).values()) >= ended,
                     self.flavor.seconds * 2, every=0.02)
            self.daemon.restart(signal.SIGKILL)
        steps = self.wait(run)
        self.assertEqual({name: (s["state"], s["attempt"]) for name, s in steps.items()}, {f"s{i}": ("SUCCEEDED", 1) for i in range(8)})
        self.assertEqual({name: self.executions(name) for name in steps}, {name: [1] for name in steps})

    def test_found_after_a_lost_answer(self) -> None:
        """found again when the answer to its submission was lost"""
        for point in dict.fromkeys((self.flavor.lost_answer_point, "outbox.submitted")):
            with self.subTest(point):
                self.fault(point)
                name = point.replace(".", "-")
                file = self.file(self.step(name))
                self.daemon.ctl("submit", file, "--name", name, "--orchestrator", self.orchestrator, code=None)
                self.died()
                steps = self.wait(name)
                self.assertEqual((steps[name]["state"], steps[name]["attempt"]), ("SUCCEEDED", 1))
                self.assertEqual(self.executions(name), [1])

    def test_a_refusal_for_now_is_tried_again(self) -> None:
        """refused for now: the same attempt is submitted again, and no budget is touched"""
        self.flavor.refuse_for_now(self.daemon)
        step = self.step("a")
        if self.flavor.name == "fake":
            step["settings"] = {"fake": {"refuse": "transient", "refuse_attempts": 2}}
        run = self.submit(step)
        self.flavor.refuse_no_more(self.daemon, lambda: self.state(run, "a"))
        steps = self.wait(run)
        self.assertEqual((steps["a"]["state"], steps["a"]["attempt"]), ("SUCCEEDED", 1))

    def test_a_refusal_for_good_fails_the_step(self) -> None:
        """refused for good: the step fails at once and says why in the platform's words"""
        step, words = self.flavor.refused_for_good(self.shared)
        run = self.submit(step)
        failed = self.wait(run, code=1)[step["name"]]
        self.assertEqual(failed["state"], "FAILED")
        self.assertIn(words, failed["message"])
        self.assertEqual(self.executions(step["name"]), [])

    def test_more_than_is_offered_is_refused_at_submit(self) -> None:
        """more cpu, memory or gpus than the orchestrator offers in all: refused at submit with both numbers"""
        for resources in ({"cpu": 100000}, {"memory": "500T"}, {"gpu": 900}, {"custom": {"unheard-of": 1}}):
            file = self.file(self.step("a", resources=resources))
            said = self.daemon.ctl("submit", file, "--orchestrator", self.orchestrator, code=8).stderr
            self.assertTrue(re.search(rf"resources\.{list(resources)[0]}.*offers", said), (resources, said))

    def test_settings_that_are_unknown_are_refused_at_submit(self) -> None:
        """settings it does not know are refused at submit"""
        step = self.step("a")
        step["settings"] = {self.flavor.name: {"no-such-setting": 1}}
        file = self.file(step)
        self.assertIn("no-such-setting", self.daemon.ctl("submit", file, "--orchestrator", self.orchestrator, code=8).stderr)

    def test_how_it_is(self) -> None:
        """asked how it is, it says what it looked at, and starts nothing"""
        said = self.daemon.json("check-orchestrator", self.orchestrator)
        self.assertTrue(said["good"] and said["checks"] and all(check["text"] for check in said["checks"]), said)
        self.assertEqual(self.daemon.json("list-runs").get("runs", []), [], "it starts nothing")

    def test_the_platform_is_away(self) -> None:
        """a platform that is away: what is wrong and what to do about it, and that it is back"""
        words = self.flavor.take_away(self.daemon)
        try:
            said = self.daemon.json("check-orchestrator", self.orchestrator, code=8)
        finally:
            self.flavor.bring_back(self.daemon)
        bad = [check for check in said["checks"] if not check.get("good")]
        self.assertTrue(len(bad) == 1 and words in bad[0]["text"].lower() and bad[0]["fix"], said)
        wait_for("it to be well again", lambda: self.daemon.json("check-orchestrator", self.orchestrator, code=None)["good"], self.flavor.seconds, every=0.2)
        self.wait(self.submit(self.step("a")))

    # --- observe ---

    def test_every_phase_is_seen(self) -> None:
        """every phase is seen, in order and with its time: submitted, running, ended"""
        run = self.submit(self.step("a", Does(gate="go")))
        self.wait_begun(run, "a")
        self.open("go")
        self.wait(run)
        events = self.daemon.json("list-events", run, "--step", "a", "--all")["events"]
        states = [event["step_state"] for event in events if event.get("step_state")]
        expected = [s for s in ("READY", "SUBMITTING", "QUEUED", "RUNNING", "SUCCEEDED") if s in states]
        self.assertEqual(states, expected, "in order, and none twice")
        self.assertEqual(states[-2:], ["RUNNING", "SUCCEEDED"])
        attempt = self.daemon.json("get-step", run, "a")["attempts"][0]
        self.assertTrue(attempt["external_id"], "what the platform calls it")
        self.assertLess(attempt["start_time"], attempt["end_time"])

    def test_exit_codes_are_told(self) -> None:
        """exit codes as they were"""
        steps = self.wait(self.submit(*[self.step(f"c{code}", Does(exit=code)) for code in (1, 3, 77, 255)], self.step("good")), code=1)
        self.assertEqual({name: (s["reason"], s.get("exit_code")) for name, s in steps.items()},
                         {**{f"c{code}": ("EXIT_CODE", code) for code in (1, 3, 77, 255)}, "good": ("REASON_UNSPECIFIED", 0)})

    def test_signals_are_told(self) -> None:
        """an end by a signal, and which"""
        steps = self.wait(self.submit(*[self.step(name, Does(signal=name)) for name in ("SEGV", "KILL", "TERM")]), code=1)
        self.assertEqual({name: (s["reason"], s.get("signal")) for name, s in steps.items()},
                         {"SEGV": ("SIGNALED", 11), "KILL": ("SIGNALED", 9), "TERM": ("SIGNALED", 15)})

    def test_out_of_memory_is_told(self) -> None:
        """an end for want of memory, told from a kill"""
        steps = self.wait(self.submit(self.step("a", Does(memory=True), resources={"memory": "32Mi"})), code=1)
        self.assertEqual((steps["a"]["state"], steps["a"]["reason"]), ("FAILED", "OUT_OF_MEMORY"), steps["a"])

    def test_the_orchestrator_s_page_is_known(self) -> None:
        """a URL of the run from its submission on"""
        run = self.submit(self.step("a", Does(gate="go")))
        url = self.daemon.json("get-run", run)["run_metadata"]["orchestrator_url"]
        self.assertRegex(url, r"^https?://[^/]+/.")
        self.open("go")
        self.wait(run)
        self.assertEqual(self.daemon.json("get-run", run)["run_metadata"]["orchestrator_url"], url)

    # --- what a step finds, and what it leaves ---

    def test_outputs_reach_inputs(self) -> None:
        """what one step writes the next one reads; values and folders too"""
        run = self.submit(self.step("a", Does(outputs={"x": "7"}), outputs={"x": {}, "v": {"value": True}} if self.flavor.name == "fake" else {"x": {}}),
                          self.step("b", Does(script="cat $ORCH_INPUT_X"), inputs={"x": "a.x"}))
        steps = self.wait(run)
        self.assertEqual({s["state"] for s in steps.values()}, {"SUCCEEDED"})
        out = self.daemon.home / "out"
        self.daemon.ctl("get-artifact", "p.a.x", "--output", out)
        self.assertEqual(out.read_text(), "7")
        if "logs_are_live" not in self.flavor.lacks:
            self.assertEqual(self.stdout(run, "b"), "7")

    def test_what_a_step_finds(self) -> None:
        """the contract of a step: its variables, its parameters, an empty scratch folder, files with secrets"""
        self.daemon.ctl("set-secret", "key", stdin="secret-in-a-file")
        script = ('for v in RUN_ID RUN_NAME STEP ATTEMPT FENCE PARAMS SCRATCH; do eval "[ -n \\"\\$ORCH_$v\\" ]" || echo no $v; done; '
                  '[ -z "$(ls -A $ORCH_SCRATCH)" ] || echo not empty; echo x > $ORCH_SCRATCH/x || echo no room; '
                  'cat $ORCH_PARAMS; echo " $ORCH_STEP $ORCH_ATTEMPT $WORD"; [ "$(wc -c < $KEY)" -eq 16 ] || echo no key; '
                  'orch-launch --version > /dev/null || echo no orch-launch')
        run = self.submit(self.step("a", Does(script=script), params=["n"], env={"WORD": "w ${params.n}"},
                                    secrets={"KEY": {"name": "key", "file": True}}), parameters={"n": 5})
        self.wait(run)
        self.assertEqual(self.stdout(run, "a"), '{"n":5} a 1 w 5\n')

    def test_secrets_are_seen_by_nobody_else(self) -> None:
        """secrets reach the step, and nothing else: no disk, no log, no answer, nothing that the platform shows"""
        self.daemon.ctl("set-secret", "pw", stdin=PASSWORD)
        step = self.step("a", Does(script=f'[ "$PW" = "{PASSWORD[:9]}$(printf %s "$PW" | tail -c +10)" ] || exit 9\n'
                                          'printf "<%s>\\n" "$PW"; printf %s "$PW" >&2; printf %s "$PW" | wc -c > $ORCH_OUTPUT_N'
                                          f'\nwhile [ ! -e {self.shared}/gate-go ]; do sleep 0.05; done'),
                         secrets={"PW": "pw"}, outputs={"n": {"value": True}})
        file = self.file(step)
        self.daemon.ctl("submit", file, "--name", "secret", "--orchestrator", self.orchestrator)
        self.wait_begun("secret", "a")
        wait_for("its words", lambda: "***" in self.stdout("secret", "a"), self.flavor.seconds, every=0.1)
        for when in ("while it runs", "over a restart", "after its end"):
            if when == "over a restart":
                self.daemon.restart(signal.SIGKILL)
            if when == "after its end":
                self.open("go")
                self.wait("secret")
            shown = {**everywhere(self.daemon), **self.flavor.shown(self.daemon)}
            self.assertEqual([where for where, text in shown.items() if PASSWORD.encode() in text], [], when)
        self.assertEqual(self.stdout("secret", "a"), "<***>\n")
        self.assertEqual(self.daemon.ctl("logs", "secret", "a", "--stream", "stderr").stdout, "***")
        self.assertEqual(self.executions("a"), [1])

    # --- logs ---

    def test_logs_are_live(self) -> None:
        """logs are there while the step runs, also over a restart of the daemon"""
        run = self.submit(self.step("a", Does(out="begun\n", gate="go", script="echo gone on")))
        wait_for("its word", lambda: self.stdout(run, "a") == "begun\n", self.flavor.seconds, every=0.1)
        self.daemon.restart(signal.SIGKILL)
        self.assertEqual(self.stdout(run, "a"), "begun\n")
        self.open("go")
        self.wait(run)
        self.assertEqual(self.stdout(run, "a"), "begun\ngone on\n", "neither lost nor twice")

    def test_logs_are_whole_and_streams_apart(self) -> None:
        """logs are whole and exact after the end, stdout and stderr apart"""
        run = self.submit(self.step("a", Does(out="out", err="err", script="printf 'x\\000y\\r\\n\\377'")),
                          self.step("big", Does(script=f"head -c {BIG} /dev/zero | tr '\\000' 'z'; echo end >&2")))
        self.wait(run)
        self.assertEqual(self.daemon.ctl("logs", run, "a", "--stream", "stderr").stdout, "err")
        got = self.daemon.ctl("logs", run, "a", "--stream", "stdout").stdout
        self.assertEqual(got, "outx\0y\r\n\ufffd".replace("\r\n", "\n") if "\r" not in got else "outx\0y\r\n\ufffd")
        big = self.stdout(run, "big")
        self.assertEqual((len(big), hashlib.sha256(big.encode()).hexdigest()), (BIG, hashlib.sha256(b"z" * BIG).hexdigest()))
        self.assertEqual(self.daemon.ctl("logs", run, "big", "--stream", "stderr").stdout, "end\n")

    def test_a_log_has_a_limit(self) -> None:
        """a log that passes its limit ends the attempt"""
        (self.daemon.home / "orchd.yaml").unlink(missing_ok=True)
        self.daemon.stop()
        self.daemon.config += "limits: {log_bytes: 100000}\n"
        self.daemon.start()
        steps = self.wait(self.submit(self.step("a", Does(script="while true; do echo a line of words that are not few; done"))), code=1)
        self.assertEqual((steps["a"]["state"], steps["a"]["reason"]), ("FAILED", "LOG_LIMIT"), steps["a"])

    # --- cancel ---

    def test_cancel_reaches_the_process(self) -> None:
        """a cancel is SIGTERM, and what the step does then is its own"""
        run = self.submit(self.step("a", Does(on_term="say", out="ready\n", hold=True)))
        wait_for("its word", lambda: self.stdout(run, "a") == "ready\n", self.flavor.seconds, every=0.1)
        self.daemon.ctl("cancel-run", run)
        self.assertEqual(self.wait(run, code=5)["a"]["state"], "CANCELLED")
        self.assertEqual((self.shared / "terminated").read_text(), "terminated\n", "once")
        self.assertEqual(self.stdout(run, "a"), "ready\nstopping\n")

    def test_cancel_ends_what_does_not_listen(self) -> None:
        """a step that ignores SIGTERM is killed after `grace`; with --force at once"""
        run = self.submit(self.step("a", Does(on_term="ignore", hold=True)))
        self.wait_begun(run, "a")
        if self.flavor.name != "fake":  # it has no grace of its own
            self.daemon.ctl("cancel-run", run)
            self.assertEqual(self.wait(run, code=5)["a"]["state"], "CANCELLED")
            run = self.submit(self.step("b", Does(on_term="ignore", hold=True)))
            self.wait_begun(run, "b")
        began = time.monotonic()
        self.daemon.ctl("cancel-run", run, "--force")
        self.wait(run, code=5)
        self.assertLess(time.monotonic() - began, self.flavor.seconds)

    def test_cancel_is_idempotent(self) -> None:
        """cancelled twice, after its end, and of a run that is unknown"""
        run = self.submit(self.step("a", Does(hold=True)), self.step("b", after=["a"]))
        self.wait_begun(run, "a")
        for _ in range(3):
            self.daemon.ctl("cancel-run", run)
        steps = self.wait(run, code=5)
        self.assertEqual({s["state"] for s in steps.values()}, {"CANCELLED"})
        self.daemon.ctl("cancel-run", run)
        self.daemon.ctl("cancel-run", run, "--force")
        ended = self.submit(self.step("c"), name="q")
        self.wait(ended)
        self.daemon.ctl("cancel-run", ended)
        self.assertEqual(self.state(ended, "c"), "SUCCEEDED")
        self.daemon.ctl("cancel-run", "no-such-run", code=3)
        self.assertEqual(self.executions("b"), [])

    def test_cancel_survives_a_kill(self) -> None:
        """a cancel that the daemon has acknowledged happens though the daemon is killed at once"""
        run = self.submit(self.step("a", Does(hold=True)))
        self.wait_begun(run, "a")
        self.daemon.ctl("cancel-run", run)
        self.daemon.restart(signal.SIGKILL)
        self.assertEqual(self.wait(run, code=5)["a"]["state"], "CANCELLED")

    # --- adopt, release ---

    def test_steps_outlive_the_daemon(self) -> None:
        """adopted after kill -9: those that run on, and those that ended while nobody looked"""
        run = self.submit(self.step("a", Does(gate="go", outputs={"x": "1"}), outputs={"x": {}}), self.step("b", Does(gate="other", exit=4)))
        for step in "ab":
            self.wait_begun(run, step)
        self.daemon.restart(signal.SIGKILL)
        self.open("go")
        self.wait_state(run, "a", "SUCCEEDED")
        self.daemon.kill()
        self.open("other")
        self.flavor.wait_ended(self.daemon, "b")
        self.daemon.start()
        steps = self.wait(run, code=1)
        self.assertEqual((steps["a"]["attempt"], steps["b"]["attempt"], steps["b"].get("exit_code")), (1, 1, 4))
        self.assertEqual([self.executions(step) for step in "ab"], [[1], [1]])

    def test_release_leaves_nothing_behind(self) -> None:
        """nothing is left of a run on the platform: ended well, failed, cancelled"""
        run = self.submit(self.step("a", Does(outputs={"x": "1"}), outputs={"x": {}}), self.step("b", Does(exit=1)))
        self.wait(run, code=1)
        run = self.submit(self.step("c", Does(hold=True)))
        self.wait_begun(run, "c")
        self.assertTrue(self.flavor.jobs(self.daemon), "the test can see it")
        self.daemon.ctl("cancel-run", run)
        self.wait(run, code=5)
        self.wait_clean()

    def test_the_platform_dies_and_comes_back(self) -> None:
        """the platform dies under a running step: it is LOST or goes on, is never run twice at a time, and is tried again"""
        retry = {"max_attempts": 2, "backoff": {"initial": "10ms"}}
        run = self.submit(self.step("a", Does(script=f"if [ $ORCH_ATTEMPT = 1 ]; then while [ ! -e {self.shared}/gate-go ]; do sleep 0.05; done; fi"),
                                    retry=retry), execution_mode="stop_on_failure")
        self.wait_begun(run, "a")
        self.flavor.restart(self.daemon)
        if self.flavor.jobs_survive:
            self.open("go")
        step = self.wait(run)["a"]
        self.assertEqual(step["state"], "SUCCEEDED")
        attempts = [a["state"] for a in self.daemon.json("get-step", run, "a")["attempts"]]
        self.assertEqual(attempts, ["SUCCEEDED"] if self.flavor.jobs_survive else ["LOST", "SUCCEEDED"])
        self.assertEqual(self.executions("a"), list(range(1, len(attempts) + 1)))
        self.wait(self.submit(self.step("after")))

    def test_jobs_of_others_are_left_alone(self) -> None:
        """what belongs to somebody else on the platform is left alone"""
        foreign = self.flavor.make_foreign(self.daemon)
        try:
            self.wait(self.submit(self.step("a")))
            self.daemon.restart(signal.SIGKILL)
            self.wait(self.submit(self.step("b")))
            self.wait_clean()
        finally:
            there = self.flavor.has_foreign(foreign)
        self.assertTrue(there)


generate(Contract, globals())
del Contract
