"""Damaged files under the real daemon: refused with the file and what to do, and found by the whole check."""
import subprocess
import unittest

from tests.lib.daemon import Daemon

TRUE = "name: p\nsteps:\n  - {name: a, command: ['true']}\n"
LARGE = ("name: p\nsteps:\n  - name: a\n    command: [sh, -c, 'head -c 300000 /dev/zero > ${outputs.o}']\n"
         "    outputs: {o: {}}\n")


class Damage(unittest.TestCase):
    def refused(self, daemon: Daemon) -> str:
        done = subprocess.run(daemon.command(), capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1, done.stderr)
        return done.stderr

    def check(self, daemon: Daemon) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*daemon.command(), "--check-data"], capture_output=True, text=True, timeout=60)

    def test_a_log_that_was_cut_or_removed(self) -> None:
        with Daemon() as daemon:
            for _ in range(3):
                daemon.ctl("wait-run", daemon.submit(TRUE))
            daemon.kill()
            log = daemon.data / "orchd.db-wal"
            whole = log.read_bytes()
            log.write_bytes(whole[:40_000])
            message = self.refused(daemon)
            self.assertIn(str(log), message)
            self.assertIn("put back", message)
            log.unlink()
            message = self.refused(daemon)
            self.assertIn("orchd.db", message)
            log.write_bytes(whole)
            daemon.start()
            self.assertEqual(len(daemon.json("list-runs")["runs"]), 3)

    def test_a_database_that_is_garbage(self) -> None:
        with Daemon() as daemon:
            daemon.ctl("wait-run", daemon.submit(TRUE))
            daemon.stop()
            database = daemon.data / "orchd.db"
            whole = database.read_bytes()
            (daemon.data / "orchd.db-wal").write_bytes(b"")
            database.write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))
            message = self.refused(daemon)
            self.assertIn("damaged", message)
            self.assertIn("--salvage", message)
            self.assertEqual(self.check(daemon).returncode, 1)
            database.write_bytes(whole)
            daemon.start()

    def test_the_whole_check(self) -> None:
        with Daemon() as daemon:
            daemon.run(LARGE)
            self.assertIn("stop it first", self.check(daemon).stderr)
            daemon.stop()
            done = self.check(daemon)
            self.assertEqual((done.returncode, done.stdout.split(";")[0]), (0, "0 faults"), done.stderr)
            blob = next(p for p in (daemon.data / "blobs").rglob("*") if p.is_file() and p.stat().st_size == 300_000)
            blob.chmod(0o600)
            with blob.open("r+b") as out:
                out.seek(1000)
                out.write(b"x")
            done = self.check(daemon)
            self.assertEqual(done.returncode, 1)
            self.assertIn(str(blob), done.stderr)
            blob.unlink()
            self.assertIn(str(blob), self.check(daemon).stderr)


if __name__ == "__main__":
    unittest.main()
