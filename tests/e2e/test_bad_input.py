"""What people get wrong: each gets a clear answer that names the thing, and the daemon's memory stays flat."""
import os
import subprocess
import unittest

from tests.lib.live import BIN, LiveTest, rss_kib

STEP = "name: bad\nsteps:\n  - name: a\n    command: [/bin/true]\n"


class Refused(LiveTest):
    def test_cycle(self):
        self.refused("name: c\nsteps:\n  - {name: a, command: [x], after: [b]}\n  - {name: b, command: [x], after: [a]}\n",
                     "cycle", "a", "b")

    def test_unknown_step_and_output(self):
        result = self.refused(STEP + "    inputs: {x: nosuch.out}\n  - {name: b, command: [x], inputs: {y: a.gone}}\n",
                              "nosuch", "gone")
        self.assertRegex(result.stderr, r"yaml:\d+:\d+: ")

    def test_duplicate_step(self):
        self.refused(STEP + "  - {name: a, command: [x]}\n", "a")

    def test_duplicate_key(self):
        self.refused(STEP + "    command: [y]\n", "command", "yaml:5:5")

    def test_template_to_a_missing_output(self):
        self.refused('name: t\nsteps:\n  - {name: a, command: ["${outputs.gone}"]}\n', "gone")

    def test_wrong_types_all_at_once(self):
        result = self.refused("name: [1]\nsteps:\n  - {name: a, command: text}\n  - {name: b, command: [x], cache: 7}\n",
                              "yaml:1:", "yaml:3:", "yaml:4:")
        self.assertGreaterEqual(len(result.stderr.splitlines()), 3)

    def test_more_cpu_and_memory_than_there_is(self):
        self.refused(STEP + "    resources: {cpu: 4000}\n", "4000", "local", str(len(os.sched_getaffinity(0))))
        self.refused(STEP + "    resources: {memory: 900T}\n", "memory", "local")

    def test_unknown_orchestrator(self):
        self.refused(STEP, "nowhere", code=3, arguments=("--orchestrator", "nowhere"))

    def test_flavor_that_is_not_in_this_build(self):
        result = self.daemon.ctl("register-orchestrator", "k", "--flavor", "kubernetes", check=False)
        self.assertEqual(result.returncode, 8, result.stderr)
        self.assertIn("not in this build", result.stderr)
        result = self.daemon.ctl("register-orchestrator", "k", "--flavor", "nosuch", check=False)
        self.assertIn(result.returncode, (3, 8), result.stderr)
        self.assertIn("nosuch", result.stderr)

    def test_name_taken(self):
        self.daemon.run(STEP, self.name)
        self.refused(STEP, self.name)

    def test_64_mib_of_yaml(self):
        before = rss_kib(self.daemon.pid)
        self.refused(b"name: big\nsteps:\n" + b"  - {name: a, command: [x]}\n" * (64 * 1024 * 1024 // 27), "33554432")
        self.assertLess(rss_kib(self.daemon.pid) - before, 4096)

    def test_anchor_bomb(self):
        lines = ["name: bomb", "a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
        self.refused("\n".join(lines) + "\nsteps:\n  - {name: a, command: *a11}\n")

    def test_deep_nesting(self):
        self.refused("name: deep\nsteps: " + "[" * 100_000 + "]" * 100_000 + "\n")

    def test_binary_garbage(self):
        self.refused(bytes(range(256)) * 40)

    def test_message_that_is_no_pipeline(self):
        for body in ({"pipeline": {"name": "../x", "steps": []}}, {}, {"pipeline": {"steps": [{"name": "a"}]}}):
            status, text = self.daemon.request("/orch.v1.RunService/SubmitRun", body)
            self.assertEqual(status, 400, text)
        status, text = self.daemon.request("/orch.v1.RunService/SubmitRun", {"no_such_field": 1})
        self.assertEqual(status, 400, text)
        status, text = self.daemon.request("/orch.v1.RunService/NoSuchCall", {})
        self.assertIn(status, (404, 501), text)


class Fails(LiveTest):
    def fails(self, step, reason, *words):
        self.assertEqual(self.daemon.run(f"name: f\nsteps:\n  - name: a\n{step}", self.name)["state"], "FAILED")
        found = self.daemon.steps(self.name)["a"]
        self.assertEqual(found["reason"], reason, found)
        for word in words:
            self.assertIn(word, found["message"])
        return found

    def test_missing_command(self):
        self.fails("    command: [no-such-program-here]\n", "COMMAND_NOT_FOUND", "no-such-program-here")

    def test_missing_working_directory(self):
        self.fails("    command: [/bin/true]\n    working_dir: /no/such/folder\n", "WORKING_DIR_INVALID", "/no/such/folder")

    def test_output_that_was_not_written(self):
        self.fails("    command: [/bin/true]\n    outputs: {x: {}}\n", "OUTPUT_MISSING", "x")

    def test_output_that_is_a_link_out(self):
        found = self.fails('    command: [/bin/ln, -s, /etc/passwd, "${outputs.x}"]\n    outputs: {x: {}}\n',
                           "OUTPUT_INVALID", "x")
        self.assertNotIn("root:", found["message"])

    def test_exit_code_and_signal(self):
        self.assertEqual(self.fails('    command: [/bin/sh, -c, "exit 7"]\n', "EXIT_CODE")["exit_code"], 7)

    def test_signal(self):
        self.assertEqual(self.fails('    command: [/bin/sh, -c, "kill -9 $$$$"]\n', "SIGNALED")["signal"], 9)

    def test_1_gb_of_log_leaves_the_memory_flat(self):
        before = rss_kib(self.daemon.pid) + sum(map(rss_kib, self.daemon.supervisors()))
        run = self.daemon.run('name: log\nsteps:\n  - {name: a, command: [/bin/sh, -c, "head -c 1000000000 /dev/zero"]}\n',
                              self.name)
        self.assertEqual(run["state"], "SUCCEEDED")
        process = subprocess.Popen([str(BIN / "orchctl"), "--data-dir", str(self.daemon.data), "logs", self.name, "a"],
                                   stdout=subprocess.PIPE)
        total = 0
        while chunk := process.stdout.read(1 << 20):
            total += len(chunk)
        process.stdout.close()
        self.assertEqual((process.wait(), total), (0, 1_000_000_000))
        after = rss_kib(self.daemon.pid) + sum(map(rss_kib, self.daemon.supervisors()))
        self.assertLess(after - before, 20 * 1024)


class OneLiners(LiveTest):
    def test_unknown_flag(self):
        result = self.daemon.ctl("list-runs", "--no-such-flag", check=False)
        self.assertEqual(result.returncode, 2)
        self.assertOneLine(result.stderr)
        self.assertIn("--no-such-flag", result.stderr)

    def test_unknown_verb(self):
        result = self.daemon.ctl("get-runs", "x", check=False)
        self.assertEqual(result.returncode, 2)
        self.assertOneLine(result.stderr)

    def test_unreachable(self):
        result = self.daemon.ctl("--server", "127.0.0.1:1", "list-runs", "--timeout", "2s", check=False)
        self.assertEqual(result.returncode, 7, result.stderr)
        self.assertOneLine(result.stderr)
        self.assertIn("127.0.0.1:1", result.stderr)

    def test_wrong_token(self):
        result = self.daemon.ctl("--server", self.daemon.server["grpc"], "list-runs", check=False,
                                 env={"ORCH_TOKEN": "wrong"})
        self.assertEqual(result.returncode, 4, result.stderr)
        self.assertOneLine(result.stderr)
        self.assertIn("token", result.stderr.lower())

    def test_unknown_run(self):
        result = self.daemon.ctl("get-run", "no-such-run", check=False)
        self.assertEqual(result.returncode, 3)
        self.assertOneLine(result.stderr)
        self.assertIn("no-such-run", result.stderr)

    def test_no_daemon(self):
        result = self.daemon.ctl("list-runs", check=False, env={"ORCH_DATA_DIR": str(self.daemon.folder / "none")})
        self.assertEqual(result.returncode, 7, result.stderr)
        self.assertOneLine(result.stderr)


if __name__ == "__main__":
    unittest.main()
