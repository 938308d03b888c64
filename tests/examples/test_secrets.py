"""examples/secrets: used as a variable and as a file, and in no log."""
import hashlib
import unittest

from tests.lib.daemon import ROOT, Daemon


class Secrets(unittest.TestCase):
    def test_a_password_and_a_key(self) -> None:
        # covers: StepSpec.secrets SecretRef.name SecretRef.file
        with Daemon() as daemon:
            pipeline = ROOT / "examples/secrets/pipeline.yaml"
            refused = daemon.ctl("submit", pipeline, code=8).stderr
            self.assertIn("orchctl set-secret example-password", refused)
            self.assertIn("orchctl set-secret example-key", refused)
            password, key = "correct horse battery staple", "-----BEGIN\nkey\n-----END\n"
            daemon.ctl("set-secret", "example-password", stdin=password)
            daemon.ctl("set-secret", "example-key", stdin=key)
            run = daemon.ctl("submit", pipeline).stdout.split()[0]
            daemon.ctl("wait-run", run)
            self.assertEqual(daemon.ctl("logs", run, "login").stdout, "password: ***\n")
            self.assertEqual(daemon.ctl("logs", run, "report").stdout, "a password of 28 bytes, a key that begins with "
                             + hashlib.sha256(key.encode()).hexdigest()[:8] + "\n")


if __name__ == "__main__":
    unittest.main()
