"""Backups of a daemon that works, and the way back: by `--restore` from one, and from what a damaged database still has."""
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import tempfile
import unittest
from pathlib import Path

from tests.crash.test_fault_points import points
from tests.lib.daemon import BIN, Daemon, wait_for

TRUE = "name: p\nsteps:\n  - {name: a, command: ['true']}\n"
OUTPUT = "name: o\nsteps:\n  - {name: a, command: [sh, -c, 'seq 70000 > \"$ORCH_OUTPUT_O\"'], outputs: {o: {}}}\n"
PAGE = 4096


def folders(where: Path) -> list[Path]:
    """Whole backups, the oldest first."""
    return sorted(p for p in where.iterdir() if not p.name.startswith("."))


class Case(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="orchd-backups-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def daemon(self, config: str = "") -> Daemon:
        daemon = Daemon(config)
        self.addCleanup(daemon.close)
        return daemon

    def restore(self, daemon: Daemon, backup: Path, how: str = "--restore", code: int | None = 0) -> str:
        done = subprocess.run([str(BIN / "orchd"), "--data-dir", str(daemon.data), how, str(backup)],
                              capture_output=True, text=True, timeout=120)
        if code is not None:
            self.assertEqual(done.returncode, code, done.stderr + done.stdout)
        return done.stdout if done.returncode == 0 else done.stderr


class ThereAndBack(Case):
    def test_a_damaged_database_is_replaced_and_what_runs_goes_on(self) -> None:
        daemon = self.daemon()
        daemon.start()
        go = daemon.home / "go"
        daemon.run(OUTPUT)
        daemon.submit(f"name: w\nsteps:\n  - {{name: a, command: [sh, -c, 'while ! test -e {go}; do sleep 0.05; done']}}\n"
                      "  - {name: b, after: [a], command: [echo, behind]}\n", "--name", "waits")
        wait_for("the step to run", lambda: daemon.json("get-step", "waits", "a")["state"] == "RUNNING")
        path = Path(daemon.ctl("backup", str(self.folder)).stdout.strip())
        self.assertEqual(folders(self.folder), [path])
        daemon.submit(TRUE, "--name", "later")
        daemon.ctl("wait-run", "later")
        seen = daemon.json("server-info")["last_sequence"]
        daemon.kill(signal.SIGKILL)
        database = daemon.data / "orchd.db"
        for file in (database, daemon.data / "orchd.db-wal"):
            file.write_bytes(b"\xa5" * (50 * PAGE))
        self.assertEqual(subprocess.run(daemon.command(), capture_output=True, timeout=60).returncode, 1)

        told = self.restore(daemon, path)
        self.assertIn("holds 2 runs", told)
        self.assertRegex(told, r"\d+ later events were acknowledged")
        aside = next(daemon.data.glob("replaced-*"))
        self.assertEqual((aside / "orchd.db").read_bytes()[:PAGE], b"\xa5" * PAGE)
        daemon.start()
        self.assertEqual({r["name"] for r in daemon.json("list-runs")["runs"]} - {"waits"},
                         {r["name"] for r in daemon.json("list-runs")["runs"]} - {"waits", "later"})
        go.touch()
        daemon.ctl("wait-run", "waits")
        self.assertEqual(daemon.ctl("logs", "waits", "b").stdout, "behind\n")
        self.assertEqual(len(daemon.json("get-step", "waits", "a")["attempts"]), 1)
        # Who saw more than the backup has is told to begin again, and no number means two events.
        status, answer = daemon.http("/orch.v1.RunService/ListEvents", {"after_sequence": int(seen) - 1})
        self.assertEqual(json.loads(answer)["details"][0]["debug"]["reason"], "EVENTS_COMPACTED", answer)
        newest = daemon.json("list-events", "waits")["events"][-1]["sequence"]
        self.assertGreater(int(newest), int(seen))
        daemon.stop()
        self.assertEqual(subprocess.run([*daemon.command(), "--check-data"], capture_output=True, timeout=60).returncode, 0)

    def test_in_an_empty_directory_secrets_can_be_read(self) -> None:
        daemon = self.daemon()
        daemon.start()
        daemon.ctl("set-secret", "s", stdin="a value")
        daemon.run(OUTPUT)
        backup = Path(daemon.ctl("backup", str(self.folder)).stdout.strip())
        for file in backup.iterdir():
            self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600, file)
        self.assertEqual(stat.S_IMODE(backup.stat().st_mode), 0o700)
        self.assertEqual(subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=backup).returncode, 0)
        daemon.stop()
        other = self.daemon()
        self.restore(other, backup)
        checked = subprocess.run([*other.command(), "--check-data"], capture_output=True, text=True, timeout=60)
        self.assertEqual(checked.returncode, 1)  # outputs are files of their own, and were not copied
        self.assertIn("1 faults", checked.stdout)
        other.start()
        step = "{name: a, command: [sh, -c, 'test \"$S\" = \"a value\"'], secrets: {S: s}}"
        self.assertEqual(other.run(f"name: ok\nsteps:\n  - {step}\n")["a"]["state"], "SUCCEEDED")

    def test_what_can_be_read_of_a_damaged_database_is_saved(self) -> None:
        daemon = self.daemon()
        daemon.start()
        wide = "name: w\nsteps:\n  - {name: a, command: ['true'], foreach: {i: " + json.dumps(list(range(300))) + "}}\n"
        names = [daemon.submit(text, "--name", name) for text, name in ((wide, "wide"), (TRUE, "one"), (TRUE, "two"))]
        for name in names:
            daemon.ctl("wait-run", name)
        daemon.stop()
        database = daemon.data / "orchd.db"
        subprocess.run(["sqlite3", str(database), "PRAGMA wal_checkpoint(TRUNCATE)"], check=True, capture_output=True)
        # Leaves of the table of events, which are most of it.
        found = subprocess.run(["sqlite3", "-readonly", str(database), "SELECT pageno FROM dbstat WHERE name = 'event' AND "
                                "pagetype = 'leaf' ORDER BY pageno"], capture_output=True, text=True, check=True)
        leaves = [int(page) for page in found.stdout.split()]
        self.assertGreater(len(leaves), 2)
        with database.open("r+b") as file:
            for page in leaves[1:-1]:
                file.seek((page - 1) * PAGE)
                file.write(os.urandom(PAGE))
        self.assertEqual(subprocess.run([*daemon.command(), "--check-data"], capture_output=True, timeout=60).returncode, 1)
        told = self.restore(daemon, database, "--salvage")
        self.assertIn("event: 1 places cannot be read", told)
        daemon.start()
        self.assertEqual(sorted(r["name"] for r in daemon.json("list-runs", "--limit", "100")["runs"]), sorted(names))
        self.assertEqual(len(daemon.json("list-runs", "--filter", "name:wid")["runs"]), 1)  # the index of names is made anew
        self.assertEqual(daemon.json("get-step", "one", "a")["state"], "SUCCEEDED")
        self.assertEqual(daemon.run(TRUE)["a"]["state"], "SUCCEEDED")

    def test_any_damage_is_refused_or_what_is_left_is_right(self) -> None:
        daemon = self.daemon()
        daemon.start()
        wide = "name: w\nsteps:\n  - {name: a, command: [sh, -c, 'echo $ORCH_ITEM > $ORCH_OUTPUT_O'], outputs: {o: {}}, foreach: {i: "
        wide += json.dumps(list(range(150))) + "}}\n"
        for name in ("one", "two", "three"):
            daemon.ctl("wait-run", daemon.submit(wide, "--name", name))
        waits = "name: p\nsteps:\n  - {name: a, command: [sleep, '600'], resources: {cpu: 0.1}}\n  - {name: b, command: ['true']}\n"
        daemon.submit(waits, "--name", "open")
        wait_for("its quick step to end", lambda: daemon.json("get-step", "open", "b")["state"] == "SUCCEEDED")
        daemon.stop()
        database = daemon.data / "orchd.db"
        # Half of it is in the log.
        subprocess.run(["sqlite3", str(database), "PRAGMA wal_checkpoint(TRUNCATE)"], check=True, capture_output=True)
        daemon.start()
        daemon.ctl("wait-run", daemon.submit(wide, "--name", "four"))
        daemon.kill(signal.SIGKILL)
        whole, log = database.read_bytes(), (daemon.data / "orchd.db-wal").read_bytes()
        seed = int(os.environ.get("ORCH_TEST_SEED", str(random.randrange(1 << 30))))
        print(f"\nseed {seed}", flush=True)
        draw = random.Random(seed)
        outcomes: dict[str, int] = {}
        for _ in range(int(os.environ.get("ORCH_TEST_ROUNDS", "15"))):
            bad = bytearray(whole)
            pages = draw.sample(range(len(whole) // PAGE), draw.choice((0, 1, 1, 2, 5, 20)))
            for page in pages:
                kind = draw.choice(("random", "zero", "bit", "other"))
                at = page * PAGE
                if kind == "random":
                    bad[at:at + PAGE] = draw.randbytes(PAGE)
                elif kind == "zero":
                    bad[at:at + PAGE] = bytes(PAGE)
                elif kind == "bit":
                    bad[at + draw.randrange(100)] ^= 1 << draw.randrange(8)
                else:
                    other = draw.randrange(len(whole) // PAGE) * PAGE
                    bad[at:at + PAGE] = whole[other:other + PAGE]
            with self.subTest(seed=seed, pages=pages):  # and where the log is cut
                fresh = self.daemon()
                fresh.data.mkdir(mode=0o700)
                shutil.copy(daemon.data / "high-water", fresh.data)
                damaged = fresh.home / "damaged.db"
                damaged.write_bytes(bad)
                cut = draw.choice((0, draw.randrange(len(log)), len(log), len(log), len(log)))
                (fresh.home / "damaged.db-wal").write_bytes(log[:cut])
                done = subprocess.run([str(BIN / "orchd"), "--data-dir", str(fresh.data), "--salvage", str(damaged)],
                                      capture_output=True, text=True, timeout=120)
                self.assertIn(done.returncode, (0, 1), done.stderr)
                if done.returncode == 1:
                    self.assertTrue(done.stderr.startswith("orchd: ") or '"level":"info"' in done.stderr, done.stderr)
                    outcomes["refused"] = outcomes.get("refused", 0) + 1
                    continue
                fresh.start()
                runs = {r["name"]: r["state"] for r in fresh.json("list-runs")["runs"]}
                for name, state in runs.items():
                    if name == "open":  # it may only go on if what its steps have done is known
                        self.assertEqual(fresh.json("get-step", "open", "b")["state"], "SUCCEEDED", done.stdout)
                        self.assertEqual(len(fresh.json("get-step", "open", "b")["attempts"]), 1)
                    else:
                        self.assertEqual(state, "SUCCEEDED")
                if "local" not in [o["name"] for o in fresh.json("list-orchestrators")["orchestrators"]]:
                    fresh.ctl("register-orchestrator", "local", "--flavor", "local")  # its row is gone
                self.assertEqual(fresh.run(TRUE)["a"]["state"], "SUCCEEDED")
                outcomes[f"{len(runs)} runs"] = outcomes.get(f"{len(runs)} runs", 0) + 1
                fresh.close()
        print(outcomes, flush=True)

    def test_a_log_that_was_cut_is_no_reason_to_do_again_what_was_done(self) -> None:
        daemon = self.daemon()
        daemon.start()
        daemon.run(TRUE)
        daemon.stop()
        daemon.start()
        go = daemon.home / "go"
        daemon.submit(f"name: w\nsteps:\n  - {{name: a, command: [sh, -c, 'echo x >> {go}.marks']}}\n"
                      f"  - {{name: b, after: [a], command: [sh, -c, 'while ! test -e {go}; do sleep 0.05; done']}}\n", "--name", "open")
        wait_for("its second step", lambda: daemon.json("get-step", "open", "b")["state"] == "RUNNING")
        daemon.kill(signal.SIGKILL)
        log = daemon.data / "orchd.db-wal"
        frames = int((daemon.data / "high-water").read_text().split()[4])
        with log.open("r+b") as file:  # the last commit is gone
            file.seek(32 + (24 + PAGE) * (frames - 1) + 8)
            file.write(bytes(8))
        self.assertIn("--salvage", subprocess.run(daemon.command(), capture_output=True, text=True, timeout=60).stderr)
        self.assertIn("run open had not ended", self.restore(daemon, daemon.data / "orchd.db", "--salvage"))
        daemon.start()
        self.assertNotIn("open", [r["name"] for r in daemon.json("list-runs")["runs"]])
        go.touch()
        self.assertEqual(Path(f"{go}.marks").read_text(), "x\n")

    def test_what_was_left_out_is_not_mixed_with_what_comes(self) -> None:
        daemon = self.daemon()
        daemon.start()
        mark = daemon.home / "hooked"
        daemon.submit("name: h\nsteps:\n  - {name: a, command: [sh, -c, 'echo 1 > $ORCH_OUTPUT_O'], outputs: {o: {}},"
                      f" hooks: {{on_success: {{command: [sh, -c, 'sleep 600; touch {mark}']}}}}}}\n  - {{name: b, command: [sleep, '600'], resources: {{cpu: 0.1}}}}\n",
                      "--name", "open")
        wait_for("the step to end", lambda: daemon.json("get-step", "open", "a")["state"] == "SUCCEEDED")
        daemon.stop()
        database = daemon.data / "orchd.db"
        subprocess.run(["sqlite3", str(database), "PRAGMA wal_checkpoint(TRUNCATE)"], check=True, capture_output=True)
        root = subprocess.run(["sqlite3", "-readonly", str(database), "SELECT rootpage FROM sqlite_schema WHERE name = 'pool'"],
                              capture_output=True, text=True, check=True)
        with database.open("r+b") as file:
            file.seek((int(root.stdout) - 1) * PAGE)
            file.write(os.urandom(PAGE))
        self.assertIn("run open had not ended", self.restore(daemon, database, "--salvage"))
        daemon.start()
        run = daemon.submit(TRUE, "--name", "next")
        daemon.ctl("wait-run", run)
        self.assertEqual(list(daemon.json("list-steps", "next")["steps"][0]["name"]), ["a"])
        self.assertEqual([a["name"] for a in daemon.json("list-artifacts")["artifacts"] if a.get("run") == "next"], [])
        hooks = subprocess.run(["sqlite3", "-readonly", str(database), "SELECT count(*) FROM hook"], capture_output=True, text=True)
        self.assertEqual(hooks.stdout.strip(), "0", hooks.stderr)


class BrokenOff(Case):
    """A kill at each point of the way back: nothing is lost, nothing half is served, and the same call finishes it."""

    def test_at_every_point(self) -> None:
        for how in ("--restore", "--salvage"):
            for point in (p for p in points("orchd") if p.startswith("restore.")):
                with self.subTest(f"{how} at {point}"):
                    daemon = self.daemon()
                    daemon.start()
                    daemon.ctl("set-secret", "s", stdin="a value")
                    daemon.ctl("wait-run", daemon.submit(TRUE, "--name", "kept"))
                    backup = Path(daemon.ctl("backup", str(self.folder)).stdout.strip())
                    if how == "--restore":
                        (daemon.data / "secret-key").unlink()
                    daemon.kill(signal.SIGKILL)
                    source = backup if how == "--restore" else daemon.data / "orchd.db"
                    passes = 0
                    while True:  # until it comes through with so many passes of the point
                        passes += 1
                        once = daemon.home / "once"
                        once.touch()
                        done = subprocess.run([str(BIN / "orchd"), "--data-dir", str(daemon.data), how, str(source), "--fault-points"],
                                              capture_output=True, text=True, timeout=60,
                                              env={**os.environ, "ORCH_FAULTS": f"{point}:{passes}=kill@{once}"})
                        if done.returncode == 0:
                            break
                        self.assertEqual(done.returncode, -signal.SIGKILL, done.stderr)
                        if point != "restore.copied":
                            refused = subprocess.run(daemon.command(), capture_output=True, text=True, timeout=60)
                            self.assertIn("broken off", refused.stderr)
                            passes = 0  # the next call goes on from here
                            if how == "--restore":
                                shutil.rmtree(backup, ignore_errors=True)  # which is not needed any more
                                source = backup
                    self.assertFalse(list(daemon.data.glob("*.restored")) + list(daemon.data.glob("*.ready")))
                    daemon.start()
                    self.assertEqual([r["name"] for r in daemon.json("list-runs")["runs"]], ["kept"])
                    step = "{name: a, command: [sh, -c, 'test \"$S\" = \"a value\"'], secrets: {S: s}}"
                    self.assertEqual(daemon.run(f"name: ok\nsteps:\n  - {step}\n")["a"]["state"], "SUCCEEDED")
                    daemon.close()


class ByItself(Case):
    def test_every_so_often_while_something_happens_and_the_newest_stay(self) -> None:
        where = self.folder / "made"
        daemon = self.daemon(f"backup: {{folder: {where}, every: 1s, keep: 2}}\n")
        daemon.start()
        seen: set[Path] = set()

        def another() -> bool:
            before = len(seen)
            if where.exists():
                seen.update(folders(where))
            return len(seen) > before

        for _ in range(4):
            daemon.run(TRUE)
            wait_for("a backup", another)
        daemon.ctl("set-secret", "s", stdin="a value")  # which is no event
        wait_for("a backup with it", another)
        wait_for("the old ones to go", lambda: len(folders(where)) <= 2)
        self.assertEqual(folders(where)[-1], max(seen))
        info = daemon.json("server-info")
        self.assertEqual(info["latest_backup"]["path"], str(max(seen)))
        self.assertEqual(info["latest_backup"]["last_sequence"], info["last_sequence"])
        elsewhere = self.folder / "elsewhere"
        self.assertNotEqual(daemon.ctl("backup", str(elsewhere / "no/such"), code=None).returncode, 0)
        daemon.ctl("backup", str(elsewhere))
        self.assertEqual(Path(daemon.json("server-info")["latest_backup"]["path"]).parent, where)
        self.assertIn(b"orchd_backup_failing 0", daemon.http("/metrics")[1])

    def test_a_damaged_database_pushes_no_good_one_out(self) -> None:
        daemon = self.daemon(f"backup: {{folder: {self.folder}, every: 1h, keep: 1}}\n")
        daemon.start()
        daemon.run("name: p\nsteps:\n  - {name: a, command: ['true'], foreach: {i: " + json.dumps(list(range(500))) + "}}\n")
        daemon.stop()  # the log is written back
        daemon.start()
        good = Path(daemon.ctl("backup").stdout.strip())
        wait_for("the first by itself", lambda: daemon.json("server-info").get("latest_backup"))
        good = folders(self.folder)[-1]
        with (daemon.data / "orchd.db").open("r+b") as file:
            for page in range(20, 60):
                file.seek((page - 1) * PAGE)
                file.write(b"\xa5" * PAGE)
        refused = daemon.ctl("backup", code=None)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("damaged", refused.stderr)
        self.assertEqual(folders(self.folder), [good])
        self.assertIn("damaged", daemon.json("server-info")["backup_failure"])
        self.assertIn(b"orchd_backup_failing 1", daemon.http("/metrics")[1])

    def test_killed_in_the_middle(self) -> None:
        for point in (p for p in points("orchd") if p.startswith("backup.")):
            with self.subTest(point):
                daemon = self.daemon()
                once = daemon.home / "once"
                once.touch()
                daemon.faults = f"{point}=kill@{once}"
                daemon.start()
                # Outputs that are in the database: some MiB.
                daemon.run("name: p\nsteps:\n  - {name: a, command: [sh, -c, 'head -c 40000 /dev/urandom > $ORCH_OUTPUT_O'], "
                           "outputs: {o: {}}, foreach: {i: " + json.dumps(list(range(60))) + "}}\n")
                before = len(folders(self.folder))
                daemon.ctl("backup", str(self.folder), code=None)
                wait_for(f"{point} to fire", lambda: not once.exists())
                wait_for("the daemon to die", lambda: daemon.process is not None and daemon.process.poll() is not None)
                daemon.faults = ""
                self.assertEqual(len(folders(self.folder)) - before, 1 if point == "backup.named" else 0)
                daemon.start()
                daemon.ctl("backup", str(self.folder))
                mine = daemon.json("server-info")["instance"][:13]
                self.assertEqual([p for p in self.folder.iterdir() if p.name.startswith(f".orchd-{mine}")], [])


class Refusals(Case):
    def test_where_no_backup_can_be(self) -> None:
        daemon = self.daemon()
        daemon.start()
        self.assertIn("name a folder", daemon.ctl("backup", code=None).stderr)
        self.assertIn("absolute path", daemon.ctl("backup", "here", code=None).stderr)
        self.assertIn("No such file", daemon.ctl("backup", str(self.folder / "no/such"), code=None).stderr)
        (self.folder / "file").touch()
        self.assertIn("Not a directory", daemon.ctl("backup", str(self.folder / "file"), code=None).stderr)

    def test_a_full_disk(self) -> None:
        small = self.folder / "small"
        small.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(small)], capture_output=True).returncode != 0:
            self.skipTest("a file system cannot be mounted here")
        self.addCleanup(subprocess.run, ["umount", str(small)])
        daemon = self.daemon()
        daemon.start()
        refused = daemon.ctl("backup", str(small), code=None).stderr
        self.assertIn("No space left", refused)
        self.assertEqual(list(small.iterdir()), [])
        self.assertEqual(daemon.run(TRUE)["a"]["state"], "SUCCEEDED")

    def test_what_is_not_put_back(self) -> None:
        daemon = self.daemon()
        daemon.start()
        daemon.run(TRUE)
        backup = Path(daemon.ctl("backup", str(self.folder)).stdout.strip())
        self.assertIn("in use", self.restore(daemon, backup, code=1))
        daemon.stop()
        before = (daemon.data / "orchd.db").read_bytes()
        self.assertIn("there is no", self.restore(daemon, self.folder / "nothing", code=1))
        text = self.folder / "text"
        text.write_text("nothing of ours " * 1000)
        self.assertIn("cannot be used", self.restore(daemon, text, code=1))
        shutil.copy(daemon.data / "orchd.db", self.folder / "alone.db")
        (self.folder / "alone.db-wal").write_bytes(b"x")
        self.assertIn("--salvage", self.restore(daemon, self.folder / "alone.db", code=1))
        self.assertIn("is no backup", self.restore(daemon, daemon.data, code=1))
        other = self.daemon()
        other.start()
        foreign = Path(other.ctl("backup", str(self.folder)).stdout.strip())
        self.assertIn("give another --data-dir", self.restore(daemon, foreign, code=1))
        flipped = bytearray((backup / "orchd.db").read_bytes())
        flipped[20 * PAGE] ^= 1
        (backup / "orchd.db").write_bytes(flipped)
        self.assertIn("is not what was written", self.restore(daemon, backup, code=1))
        self.assertEqual((daemon.data / "orchd.db").read_bytes(), before)
        self.assertEqual([*daemon.data.glob("replaced-*"), *daemon.data.glob("*.restored")], [])
        daemon.start()
        self.assertEqual(len(daemon.json("list-runs")["runs"]), 1)


if __name__ == "__main__":
    unittest.main()
